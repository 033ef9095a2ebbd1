"""A child process of test_no_memory.py: every operation with the n-th request for memory refused, for every n.

    python no_memory.py INJECTOR COUNT KIND [OPERATION ...]

INJECTOR: testcapi (Python's own allocators) or malloc (the C library's, with failing_malloc.so preloaded).
COUNT: how many requests are refused, from the n-th on. (All that follow would be too many: CPython 3.11 goes round in
circles then, when it wants an int for an exception handler.)

After each call the map is exactly what it was before, if the call raised, or what it should be, if it did not; it is
sound, no view of it is alive, and the next call works. Prints what it counted as JSON, and where it is on stderr, so
that a crash has a name.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import sys
import traceback

import numpy as np
import operations
from model import blocks_alive, build_case
from operations import ENDS, OPERATIONS, WRITES

from intarraymap import IntArrayMap

#: Consecutive calls without a refusal that was noticed, after which an operation is through (testcapi does not count).
ENOUGH = 25
#: Blocks that may be alive after a sweep and were not before. CPython keeps sixteen MemoryErrors for the next, and 3.11
#: loses the arguments of a call that gets no frame: nine blocks for `m.update(pairs)`. Plain Python does so without us.
MOST_BLOCKS = 40
#: Operations with so many calls of Python in them that it comes to one block a refusal.
LOST_BY_PYTHON = {"from_arrow", "from_npz", "load", "open", "open c", "to_npz", "to_npz compressed", "update pairs"}
#: Operations whose answer depends on a seed, and so on chance: which buckets overflow.
BY_CHANCE = {"__sizeof__", "nbytes", "save"}
SWEEPS_MORE = 2  # of an operation that seems to leak
MOST = 5000


class TestCapi:
    """_testcapi.set_nomemory: requests to Python's own allocators. What was refused is not told."""

    sweeps = 3
    alive = staticmethod(blocks_alive)

    def __init__(self) -> None:
        import _testcapi

        self.set_nomemory = _testcapi.set_nomemory
        self.disarm = _testcapi.remove_mem_hooks

    def arm(self, n: int, count: int) -> None:
        self.set_nomemory(n, n + count)

    def through(self, quiet: int) -> bool:
        return quiet >= ENOUGH


class Malloc:
    """failing_malloc.c: requests to the C library, NumPy's and ours; with PYTHONMALLOC=malloc Python's too."""

    sweeps = 2

    def __init__(self) -> None:
        library = ctypes.PyDLL(os.environ["FAILING_MALLOC"])
        self._arm, self._disarm = library.fail_arm, library.fail_disarm
        self._arm.argtypes, self._arm.restype = (ctypes.c_long, ctypes.c_long), None
        self._disarm.argtypes, self._disarm.restype = (), ctypes.c_long
        self._alive = library.fail_alive
        self._alive.argtypes, self._alive.restype = (), ctypes.c_long
        self.refused = 0
        self._arm(0, 1)
        try:
            np.empty(100_000)
        except MemoryError:
            pass
        else:
            raise SystemExit("the interposer is not in front of malloc")
        self._disarm()

    def arm(self, n: int, count: int) -> None:
        self._arm(n, count)

    def disarm(self) -> None:
        self.refused = self._disarm()

    def through(self, quiet: int) -> bool:
        return self.refused == 0

    def alive(self) -> int:
        """Blocks of the C library: Python's, NumPy's and ours."""
        blocks_alive()
        return self._alive()


def content(m):
    try:
        keys, rows = m.to_arrays()
    except ValueError as error:
        return str(error)
    return keys.tobytes(), rows.tobytes()


def told(result):
    """What a call returned, as something to compare: that of a call that was refused memory and did without."""
    if isinstance(result, np.ndarray):
        return str(result.dtype), result.shape, result.tobytes()
    if isinstance(result, IntArrayMap):
        return sorted((key, row.tobytes()) for key, row in result.items())  # the order may be that of another index
    if isinstance(result, (list, tuple)):
        return tuple(map(told, result))
    if isinstance(result, dict):
        return tuple((told(key), told(value)) for key, value in result.items())
    return result if isinstance(result, (bool, int, float, str, bytes, type(None), np.generic)) else type(result)


def held_now(injector) -> tuple[int, int, int]:
    """Blocks of memory, open descriptors, files left."""
    return injector.alive(), len(os.listdir("/proc/self/fd")), len(os.listdir(operations.FOLDER))


def sweep(injector, count: int, kind: str, name: str, call, writes: bool, ends: bool) -> tuple[int, list[str]]:
    """One operation, every n. How many calls were refused memory, and what was wrong, in whichever sweep.

    Again and again: what the first sweeps leave behind may be caches (of tracebacks, say). A leak is what each of the
    last sweeps leaves: the interpreter fills its caches when it likes.
    """
    refused = 0
    wrong: list[str] = []
    for turn in range(injector.sweeps + SWEEPS_MORE):
        held = held_now(injector)
        again, found = sweep_once(injector, count, kind, name, call, writes, ends)
        refused += again
        wrong += found
        more = [now - then for now, then in zip(held_now(injector), held, strict=True)]
        leaks = more[0] > (max(MOST_BLOCKS, again) if name in LOST_BY_PYTHON else MOST_BLOCKS) or more[1] or more[2]
        if turn + 1 >= injector.sweeps and not leaks:
            return refused, wrong
    wrong.append(f"{name}: leaked {more[0]} blocks, {more[1]} descriptors, {more[2]} files, again and again")
    return refused, wrong


def sweep_once(injector, count: int, kind: str, name: str, call, writes: bool, ends: bool) -> tuple[int, list[str]]:
    arm, disarm = injector.arm, injector.disarm
    base = build_case(kind).map
    before = content(base)
    done = base.copy()
    expected = told(call(done))
    call(base.copy())  # all that is made once has been made
    after = content(done)
    m = base.copy()
    wrong: list[str] = []
    refused = quiet = 0
    for n in range(MOST):
        raised = ""
        result = None
        arm(n, count)
        try:
            result = call(m)
        except MemoryError:
            disarm()
            raised = "MemoryError"
        except BaseException as error:
            disarm()
            place = traceback.extract_tb(error.__traceback__)[-1]
            raised = f"{type(error).__name__}: {error} (in {place.filename}, line {place.lineno})"
        else:
            disarm()
        if raised:
            refused += 1
            quiet = 0
        else:
            quiet += 1
        if raised not in ("", "MemoryError"):
            wrong.append(f"{name}, n = {n}: {raised}")
        try:
            now = content(m)
            if raised and now != before and not (ends and now == after):
                wrong.append(
                    f"{name}, n = {n}: raised {raised}, and the map has changed" + " (as if done)" * (now == after)
                )
            if not raised and now != after:
                wrong.append(f"{name}, n = {n}: did not raise, and did not do it")
            if not raised and name not in BY_CHANCE and (got := told(result)) != expected:
                wrong.append(f"{name}, n = {n}: returned {got} and not {expected}")
            result = None
            if now != "the map is closed":
                m._check()
                if m.stats().views or m.stats().scans:  # in cycles of frames and tracebacks, perhaps
                    gc.collect()
                if m.stats().views or m.stats().scans:
                    wrong.append(f"{name}, n = {n}: {m.stats().views} views, {m.stats().scans} scans leaked")
                if raised:
                    call(m)
                    if content(m) != after:
                        wrong.append(f"{name}, n = {n}: the next call does not work")
        except Exception as error:
            wrong.append(f"{name}, n = {n}: afterwards {type(error).__name__}: {error}")
        if writes:
            m = base.copy()
        if injector.through(quiet):
            return refused, wrong
    return refused, [*wrong, f"{name}: still refused after {MOST} requests"]


def main() -> None:
    injector_name, count, kind, *names = sys.argv[1:]
    faulthandler.enable()
    injector = {"testcapi": TestCapi, "malloc": Malloc}[injector_name]()
    gc.disable()
    counts: dict[str, int] = {}
    wrong: list[str] = []
    for name, call in OPERATIONS.items():
        if names and name not in names:
            continue
        print(name, file=sys.stderr, flush=True)
        counts[name], found = sweep(injector, int(count), kind, name, call, name in WRITES, name in ENDS)
        wrong += found
    print(json.dumps({"counts": counts, "wrong": wrong}))


if __name__ == "__main__":
    main()
