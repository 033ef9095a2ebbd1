"""Promise §7: any request for memory may be refused: MemoryError, the map as before, nothing leaked.

test_memory.py refuses what the core asks its own allocator for. Here everything else is refused as well, Python's and
NumPy's requests included, in child processes (no_memory.py): by CPython's own hooks, and by an interposer in front of
the C library's malloc and mmap. For every operation of operations.py and every n.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from intarraymap import IntArrayMap

HERE = Path(__file__).parent
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"

#: What CPython 3.11 and NumPy 2 make of a single refusal at some places: an error of their own, or one that they lose,
#: as where a Python function gets no frame. They are counted, never passed over in silence, and the map has to be as
#: before even so. An error that is lost in our own compiled code would show at a line of it, or at the line of
#: operations.py that asks for it: only those that call Python functions there may.
NOT_OURS = re.compile(
    r": SystemError: error return without exception set "
    r"\(in \S+/(numpy/\S+|intarraymap/\w+|python3\.\d+/\w+)\.py, line \d+\)$"
    r"|^(__getitem__ missing|get_many missing|__init__ again), n = \d+: SystemError: error return without exception "
    r"set \(in \S+/operations\.py, line \d+\)$"
    r"|: SystemError: <(class 'zip'|built-in function compile)> returned (NULL without setting an|a result with an) "
    r"exception( set)? \(in \S+/ast\.py, line \d+\)$"
    r"|: SystemError: <[^>]*numpy[^>]*> returned NULL without setting an exception \(in \S+, line \d+\)$"
    r"|: PicklingError: Can't pickle .*: import of module '\w+(\.\w+)*' failed \(in \S+, line \d+\)$"
)
COMBINATIONS = [
    ("malloc", 5, "hash"),
    ("malloc", 1, "direct"),
    ("testcapi", 1, "hash"),
    ("testcapi", 5, "growing"),
]
if DEEP:
    COMBINATIONS = [
        (injector, count, kind)
        for injector in ("malloc", "testcapi")
        for count in (1, 2, 5, 20)
        for kind in ("hash", "direct", "growing", "segments", "leaving", "colliding")
    ]


@pytest.fixture(scope="module")
def interposer(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("THE INTERPOSER OF MALLOC NEEDS LINUX AND A C COMPILER")
    library = tmp_path_factory.mktemp("malloc") / "failing_malloc.so"
    words = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "failing_malloc.c")]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"THE INTERPOSER OF MALLOC CAN'T BE BUILT: {built.stderr}")
    return library


def sweep(environ: dict[str, str], *arguments: str) -> dict:
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.run(
        [sys.executable, str(HERE / "no_memory.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environ},
        timeout=1200,
        check=False,
    )
    assert child.returncode == 0, f"{arguments}: ended with {child.returncode}\n{child.stderr[-3000:]}"
    return json.loads(child.stdout)


@pytest.mark.parametrize(("injector", "count", "kind"), COMBINATIONS)
def test_every_request_refused(request, record_property, injector, count, kind):
    if injector == "testcapi":
        pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
        environ = {}
    else:
        library = str(request.getfixturevalue("interposer"))
        environ = {"LD_PRELOAD": library, "FAILING_MALLOC": library}
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # such a Python has an allocator of its own and no other
            environ["PYTHONMALLOC"] = "malloc"
    found = sweep(environ, injector, str(count), kind)
    wrong = [each for each in found["wrong"] if not NOT_OURS.search(each)]
    assert not wrong, "\n".join(wrong[:30])
    refused = sum(found["counts"].values())
    record_property("calls_refused_memory", refused)
    record_property("errors_of_python_and_numpy", len(found["wrong"]) - len(wrong))
    print(f"{refused} calls refused memory, {len(found['wrong'])} errors that are Python's or NumPy's own")
    assert refused > 1000
    assert found["counts"]["popitem"] >= 1
    assert found["counts"]["from_arrays"] > 10


# ---- Regressions: what went wrong once ------------------------------------------------------------------------------


def filled(index: str = "hash") -> IntArrayMap:
    m = IntArrayMap(3, index=index)
    m.set_many(np.arange(50), np.arange(150.0).reshape(50, 3))
    return m


def test_popitem_lost_the_item_it_could_not_return():
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    refused = 0
    for n in range(15):
        m = filled()
        m[10**10] = 1.0
        testcapi.set_nomemory(n, n + 1)
        try:
            m.popitem()
        except MemoryError:
            testcapi.remove_mem_hooks()
            assert len(m) == 51
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
    assert refused


def test_setdefault_left_a_key_whose_view_it_could_not_make():
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    refused = 0
    for n in range(20):
        m = filled()
        testcapi.set_nomemory(n, n + 1)
        try:
            m.setdefault(-1)
        except MemoryError:
            testcapi.remove_mem_hooks()
            assert -1 not in m
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
    assert refused


def test_ensure_many_kept_keys_whose_numbers_it_could_not_return():
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    keys = np.arange(-20, 10)
    refused = 0
    for n in range(30):
        m = filled()
        testcapi.set_nomemory(n, n + 1)
        try:
            m.ensure_many(keys)
        except MemoryError:
            testcapi.remove_mem_hooks()
            assert len(m) == 50
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
    assert refused > 3


@pytest.mark.parametrize("what", ["keys", "values", "items", "scan"])
def test_iteration_lost_the_key_of_a_step_that_failed(what):
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    m = filled()
    for key in (10**10 + n for n in range(20)):  # ints that no cache has
        m[key] = float(key)
    steps = iter({"keys": m.keys, "values": m.values, "items": m.items, "scan": m.scan}[what]())
    came, refused, n = [], 0, 0
    while True:
        n += 1
        testcapi.set_nomemory(n % 30, n % 30 + 1)
        try:
            step = next(steps)
        except MemoryError:
            refused += 1
            continue
        except StopIteration:
            break
        finally:
            testcapi.remove_mem_hooks()
        came.append(step)
    assert refused
    if what == "keys":
        assert came == list(m)
    elif what == "values":
        assert [row.tolist() for row in came] == m.to_arrays()[1].tolist()
    else:
        assert [key for key, _ in came] == list(m)


@pytest.mark.parametrize("call", ["delete_many", "pop_many"])
def test_keys_outside_int64_and_no_memory_for_the_answer(call):
    """The keys were gone and the answer was put together only then."""
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    keys = np.array([3, 2**63, 5, 2**64 - 1], np.uint64)
    arguments = (keys, 0.0) if call == "pop_many" else (keys,)
    refused = 0
    for n in range(60):
        m = filled()
        testcapi.set_nomemory(n, n + 1)
        try:
            getattr(m, call)(*arguments)
        except (MemoryError, SystemError):
            testcapi.remove_mem_hooks()
            assert len(m) == 50
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
    assert refused > 10
    got = getattr(filled(), call)(*arguments)
    expected = [9.0, 0.0, 15.0, 0.0] if call == "pop_many" else [True, False, True, False]
    assert (got[:, 0] if call == "pop_many" else got).tolist() == expected


@pytest.mark.parametrize("empty", [False, True])
def test_keys_of_a_batch_after_one_that_failed_come_in_their_order(empty):
    """What was taken back was put on the free list the wrong way round."""
    keys = np.random.default_rng(1).permutation(2000)
    tried = 0
    for n in range(30):
        m = IntArrayMap(3, index="hash", _options={"fail_after": -1, "growth": "steps"})
        if not empty:
            m.set_many(np.arange(-100, 0), 1.0)
        before = list(m)
        m._fail_after(n)
        try:
            m.set_many(keys, 2.0)
        except MemoryError:
            tried += 1
            m._fail_after(-1)
            assert list(m) == before
            m.set_many(keys, 3.0)
        m._fail_after(-1)
        assert list(m) == before + keys.tolist()
    assert tried or empty  # there one refusal only costs the room that was to be made beforehand


def test_a_search_among_values_let_go_of_the_row():
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    m = filled()
    refused = 0
    for n in range(60):
        testcapi.set_nomemory(n, n + 1)
        try:
            m[2] in m.values()  # noqa: B015
        except (MemoryError, SystemError):
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
    assert refused > 10
    assert m.stats().views == 0


def test_save_left_its_temporary_file(tmp_path):
    testcapi = pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    m = filled()
    m.save(tmp_path / "old.iam")
    path = str(tmp_path / "old.iam")
    refused = 0
    for n in range(120):
        testcapi.set_nomemory(n, n + 5)
        try:
            m.save(path)
        except (MemoryError, SystemError, OSError):
            refused += 1
        finally:
            testcapi.remove_mem_hooks()
        assert os.listdir(tmp_path) == ["old.iam"]
    assert refused > 30
    assert IntArrayMap.load(path) == m
