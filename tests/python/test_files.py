"""save, load, open: the same map comes back, from a file that is always whole."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import random
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from images import Image, find
from interrupts import interrupt_everywhere
from model import DTYPES, FAR_KEY, KEY_MAX, KEY_MIN, assert_same, rows_for

from intarraymap import IntArrayMap, files

WAYS = {
    "load": lambda cls, path: cls.load(path),
    "open": lambda cls, path: cls.open(path),
    "open full": lambda cls, path: cls.open(path, verify="full"),
    "open c": lambda cls, path: cls.open(path, mode="c"),
}


@pytest.fixture(params=list(WAYS))
def way(request):
    return WAYS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "map.iam"


def scattered(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).choice(2**62, count, replace=False) * 2 - 2**62


def small(count: int = 50) -> IntArrayMap:
    return IntArrayMap.from_arrays(scattered(count), rows_for(count), index="hash")


# ---- The same map comes back -----------------------------------------------------------------------------------------


def test_every_kind_of_map_comes_back(make_case, path, way):
    case = make_case(count=500)
    case.map.save(path)
    m = way(IntArrayMap, path)
    assert_same(m, case.model, exact=False)
    assert m == case.map and len(m) == len(case.map)
    if m.index == case.map.index:
        assert list(m) == list(case.map)
    m._check()


@pytest.mark.parametrize("dtype", DTYPES + ["datetime64[25us]", "datetime64[as]", "timedelta64[D]"])
@pytest.mark.parametrize("row_shape", [(1,), (3,), (2, 1, 3)])
def test_every_dtype_and_shape_comes_back(dtype, row_shape, path, way):
    m = IntArrayMap(row_shape, dtype)
    m.set_many([5, -7, FAR_KEY], rows_for(3, row_shape, dtype))
    m.save(path)
    back = way(IntArrayMap, path)
    assert back == m
    assert (back.dtype, back.row_shape) == (m.dtype, m.row_shape)


def test_extreme_keys_and_numbers(path, way):
    m = IntArrayMap(2)
    m[KEY_MIN], m[KEY_MAX], m[0], m[-1] = [np.nan, -0.0], [np.inf, 5e-324], [1, 2], [3, 4]
    payload = np.array([0x7FF8000000000123, 0xFFF0000000000001], np.uint64).view(np.float64)
    m[7] = payload
    m.save(path)
    back = way(IntArrayMap, path)
    for key in m:
        assert back[key].tobytes() == m[key].tobytes()


@pytest.mark.parametrize("index", ["auto", "hash", "direct"])
def test_empty_and_tiny_maps(index, path, way):
    for count in (0, 1, 2, 8, 9, 64, 65):
        m = IntArrayMap.from_arrays(range(count), rows_for(count), index=index)
        m.save(path)
        back = way(IntArrayMap, path)
        assert back == m and list(back) == list(range(count))
        assert KEY_MIN not in back and back.get(count) is None
        assert back.get_many([], default=0).shape == (0, 3)


def test_index_asked_comes_back(path):
    for index in ("auto", "hash", "direct"):
        IntArrayMap.from_arrays(range(100), rows_for(100), index=index).save(path)
        m = IntArrayMap.load(path)
        assert m._index_asked() == index and m.index == ("hash" if index == "hash" else "direct")


def test_dense_keys_get_the_direct_index_in_the_file(path):
    m = IntArrayMap(64)
    m.set_many(range(3000), 1)
    m[FAR_KEY] = 2
    while m.stats().leaving_direct:
        m[0] = 1
    del m[FAR_KEY]
    assert m.index == "hash"
    m.save(path)
    assert IntArrayMap.open(path).index == "direct"


def test_rows_of_every_size(path, way):
    for items in (1, 7, 8, 100, 5000, 100_000):
        m = IntArrayMap.from_arrays(scattered(5), rows_for(5, (items,), "uint8"), index="hash")
        del m[next(iter(m))]
        m.save(path)
        assert way(IntArrayMap, path) == m


def test_several_blocks(path, way):
    m = IntArrayMap.from_arrays(scattered(30_000), rows_for(30_000))
    m.delete_many(list(m)[::7])
    m.save(path)
    back = way(IntArrayMap, path)
    assert back == m
    keys = np.random.default_rng(2).permutation(np.concatenate([m.to_arrays()[0], scattered(1000, 3)]))
    for a, b in zip(back.get_many(keys, -1, return_mask=True), m.get_many(keys, -1, return_mask=True), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(back.contains_many(keys), m.contains_many(keys))
    firsts, block_keys, rows, present = zip(*back.blocks(), strict=True)
    assert list(firsts) == np.cumsum([0] + [len(each) for each in block_keys])[:-1].tolist()
    numbers = back.index_many(keys)
    assert np.array_equal(np.concatenate(rows)[numbers[numbers >= 0]], m.get_many(keys[numbers >= 0]))
    assert np.array_equal(np.concatenate(block_keys), list(m))
    assert sum(int(np.unpackbits(each, bitorder="little").sum()) for each in present) == len(m)


class Prices(IntArrayMap):
    pass


def test_subclasses(path, way):
    small().save(path)
    assert type(way(Prices, path)) is Prices


def test_copies_and_pickles_of_opened_maps_are_independent(path):
    m = small()
    m.save(path)
    for make in (IntArrayMap.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o, 5)), lambda o: o | {}):
        new = make(IntArrayMap.open(path))
        assert new == m and not new.read_only
        new[3] = 4
        new._check()
    m.update(IntArrayMap.open(path))
    assert m == IntArrayMap.open(path)


@pytest.mark.parametrize("count", [0, 1, 7, 100, 5000])
@pytest.mark.parametrize("index", ["hash", "direct", "auto"])
def test_a_reader_made_from_the_description_alone(index, count, path):
    """docs/format.md is enough to find any row, and its checksums are those in the file."""
    keys = scattered(count) if index != "direct" else np.arange(-50, count - 50)
    m = IntArrayMap.from_arrays(keys, rows_for(count), index=index)
    m.delete_many(keys[::9])
    m.save(path)
    image = Image(path)
    for key in [*keys[:300].tolist(), 3**37, -1, KEY_MIN, KEY_MAX]:
        assert find(image, key) == (m[key].tobytes() if key in m else None)
    before = bytes(image.data)
    assert image.seal().data == before


def test_the_seed_is_not_in_the_file(path):
    seed = 0x123456789ABCDEF1
    m = IntArrayMap(3, index="hash", seed=seed)
    m.set_many(scattered(100), 1)
    m.save(path)
    assert seed.to_bytes(8, "little") not in path.read_bytes()
    first = Image(path).get("seed")
    m.save(path)
    assert Image(path).get("seed") != first


def test_deleted_rows_are_not_in_the_file(path):
    for index in ("hash", "direct"):
        m = IntArrayMap(1, "uint64", index=index)
        secret = 0xDEADBEEF12345678
        m.set_many(range(200), secret)
        m.delete_many(range(1, 200))
        m[0] = 1
        m.save(path)
        assert secret.to_bytes(8, "little") not in path.read_bytes()


# ---- Read-only -------------------------------------------------------------------------------------------------------

WRITERS = {
    "setitem": lambda m: m.__setitem__(1, 0),
    "delitem": lambda m: m.__delitem__(1),
    "delitem missing": lambda m: m.__delitem__(99),
    "pop": lambda m: m.pop(1),
    "pop default": lambda m: m.pop(99, None),
    "popitem": lambda m: m.popitem(),
    "setdefault": lambda m: m.setdefault(1),
    "update": lambda m: m.update({1: 0}),
    "update nothing": lambda m: m.update({}),
    "ior": lambda m: m.__ior__({1: 0}),
    "clear": lambda m: m.clear(),
    "reserve": lambda m: m.reserve(1),
    "compact": lambda m: m.compact(),
    "set_many": lambda m: m.set_many([1], 0),
    "set_many nothing": lambda m: m.set_many([], 0),
    "add_many": lambda m: m.add_many([1], 0),
    "update_many": lambda m: m.update_many([1], 0, "max"),
    "add_at": lambda m: m.add_at([1], 0),
    "delete_many": lambda m: m.delete_many([1]),
    "pop_many": lambda m: m.pop_many([1]),
    "ensure_many": lambda m: m.ensure_many([1]),
    "merge": lambda m: m.merge(m),
}


@pytest.mark.parametrize("writer", list(WRITERS))
def test_writers_are_refused(writer, path):
    IntArrayMap.from_arrays(range(10), rows_for(10)).save(path)
    before = path.read_bytes()
    m = IntArrayMap.open(path)
    assert m.read_only
    with pytest.raises(ValueError, match="read-only"):
        WRITERS[writer](m)
    assert path.read_bytes() == before and len(m) == 10


def test_views_are_read_only(path):
    m = small()
    m.save(path)
    opened = IntArrayMap.open(path)
    key = next(iter(m))
    for array in (opened[key], opened.get(key), *opened.values(), *(row for _, row in opened.scan())):
        assert not array.flags.writeable
        with pytest.raises(ValueError):
            array[0] = 1
        with pytest.raises(ValueError):
            array.flags.writeable = True
    for _, keys, rows, present in opened.blocks():
        assert not (rows.flags.writeable or keys.flags.writeable or present.flags.writeable)


def test_views_outlive_close_and_the_file(path):
    m = small()
    m.save(path)
    opened = IntArrayMap.open(path)
    key = next(iter(m))
    view, blocks = opened[key], opened.blocks()
    opened.close()
    opened.close()
    path.unlink()
    del opened
    gc.collect()
    assert np.array_equal(view, m[key]) and np.array_equal(blocks[0][2], m.to_arrays()[1])


def test_closed(path):
    small().save(path)
    with IntArrayMap.open(path) as m:
        assert len(m) == 50
    for call in (lambda: len(m), lambda: m[1], lambda: m.get_many([1]), lambda: m.save(path)):
        with pytest.raises(ValueError, match="closed"):
            call()


def mappings_of(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="NEEDS /proc")
def test_nothing_is_left_open(path):
    before = len(os.listdir("/proc/self/fd"))
    small().save(path)
    opened = [IntArrayMap.open(path), IntArrayMap.open(path, mode="c"), IntArrayMap.open(path, verify="full")]
    IntArrayMap.load(path)
    assert mappings_of(path) == 3 and len(os.listdir("/proc/self/fd")) == before
    view = opened[0][next(iter(opened[0]))]
    opened.clear()
    gc.collect()
    assert mappings_of(path) == 1
    del view
    assert mappings_of(path) == 0
    path.write_bytes(path.read_bytes()[:-8])
    for way in WAYS.values():
        with pytest.raises(ValueError):
            way(IntArrayMap, path)
    assert mappings_of(path) == 0 and len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(path.parent) == [path.name]


# ---- Copy on write ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["hash", "direct", "auto"])
def test_mode_c_is_private_and_writable(index, path):
    keys = scattered(2000) if index == "hash" else np.arange(2000)
    m = IntArrayMap.from_arrays(keys, rows_for(2000), index=index)
    m.save(path)
    before = path.read_bytes()
    mine, other = IntArrayMap.open(path, mode="c"), IntArrayMap.open(path, mode="c")
    views = {key: mine[key] for key in keys[:1000:50].tolist()}
    places = {key: view.ctypes.data for key, view in views.items()}
    new_keys = scattered(3000, 9) if index != "direct" else np.arange(2000, 5000)
    for target in (m, mine):
        target.set_many(new_keys, rows_for(3000, start=5))
        target.add_many(keys[:100], 1)
        target.delete_many(keys[1000:1500])
        for key in keys[1000:1200].tolist():
            target[key] = key % 7
        target[keys[3].item()][1] = 99
    mine._check()
    assert mine == m
    for key, view in views.items():
        assert np.array_equal(view, m[key]) and mine[key].ctypes.data == places[key]
    assert path.read_bytes() == before and other == IntArrayMap.load(path) and other != mine
    del views, view
    mine.compact()
    assert mine == m and mine._check() is None
    mine.clear()
    mine[5] = 6
    assert len(mine) == 1


@pytest.mark.parametrize("index", ["hash", "direct"])
@pytest.mark.parametrize("count", [5, 8, 21])
def test_blocks_and_arrow_of_a_file_that_grew(index, count, path):
    """A file whose number of rows is no multiple of eight, and rows beyond it: their bits were taken for others'."""
    rows = np.arange(count * 300.0).reshape(count, 300)
    IntArrayMap.from_arrays(np.arange(count), rows, index=index).save(path)
    m = IntArrayMap.open(path, mode="c")
    m.set_many(np.arange(100) * 2, 7.0)
    for key in range(60, 120, 6):
        del m[key]
    found = []
    for first, keys, rows, present in m.blocks():
        there = np.unpackbits(present, bitorder="little")[: len(rows)].astype(bool)
        found += keys[there].tolist()
        assert first % 8 == 0
        assert all((m[key] == row).all() for key, row in zip(keys[there].tolist(), rows[there], strict=True))
    assert sorted(found) == sorted(m)
    again = IntArrayMap.from_arrow(m)
    assert again == m


def test_mode_c_leaves_the_direct_index(path):
    m = IntArrayMap.from_arrays(range(20_000), rows_for(20_000))
    m.save(path)
    mine = IntArrayMap.open(path, mode="c")
    assert mine.index == "direct"
    for step in range(2000):
        mine[FAR_KEY * step] = step
        m[FAR_KEY * step] = step
    assert mine == m and mine._check() is None


def test_saved_over_the_file_it_was_opened_from(path):
    m = small()
    m.save(path)
    opened = IntArrayMap.open(path)
    opened.save(path)
    assert IntArrayMap.open(path) == m == opened
    mine = IntArrayMap.open(path, mode="c")
    mine[7] = 8
    mine.save(path)
    assert IntArrayMap.load(path) == mine and opened == m


# ---- Saving ----------------------------------------------------------------------------------------------------------


class Path2:
    def __init__(self, text):
        self.text = text

    def __fspath__(self):
        return self.text


def test_paths(path, monkeypatch):
    m = small()
    for target in (path, str(path), Path2(str(path))):
        m.save(target)
        for way in WAYS.values():
            assert way(IntArrayMap, target) == m
    for wrong in (5, None, b"bytes", Path2(b"bytes"), ["a"], object()):
        for call in (m.save, IntArrayMap.load, IntArrayMap.open):
            with pytest.raises(TypeError, match="path"):
                call(wrong)
    for call in (m.save, IntArrayMap.load, IntArrayMap.open):
        with pytest.raises(ValueError):
            call("a\0b")
        with pytest.raises(OSError):
            call(str(path) * 100)
    monkeypatch.chdir(path.parent)
    m.save("here.iam")
    assert IntArrayMap.load("here.iam") == m


def test_arguments(path):
    small().save(path)
    for arguments in ({"verify": "all"}, {"verify": None}, {"mode": "w"}, {"mode": 3}):
        with pytest.raises(ValueError, match="must be"):
            IntArrayMap.open(path, **arguments)
    with pytest.raises(TypeError, match="progress"):
        small().save(path, progress=5)


def test_permissions_are_kept_and_links_stay(tmp_path, path):
    m = small()
    m.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    m[5] = 6
    m.save(link)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert IntArrayMap.load(path) == m
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "new")
    m.save(dangling)
    assert IntArrayMap.load(tmp_path / "new") == m


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_refused_targets_are_as_before(tmp_path):
    m = small()
    with pytest.raises(IsADirectoryError):
        m.save(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular"):
        m.save(tmp_path / "fifo")
    with pytest.raises(OSError):
        m.save("/dev/null")
    with pytest.raises(FileNotFoundError):
        m.save(tmp_path / "no" / "folder")
    assert os.listdir(tmp_path) == ["fifo"]


def test_progress(path):
    m = IntArrayMap.from_arrays(scattered(200_000), rows_for(200_000, (8,)))
    told = []

    def progress(done, total):
        told.append((done, total))
        m[-5] = done  # uses the map: waits until it is written, and no longer

    m.save(path, progress=progress)
    assert told[-1] == (path.stat().st_size,) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(IntArrayMap.open(path)) in (200_000, 200_001)
    small().save(path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (path.stat().st_size,) * 2


class Stop(Exception):
    pass


def test_progress_that_raises_saves_nothing(path):
    m = IntArrayMap.from_arrays(scattered(100), rows_for(100))
    m.save(path)
    before = path.read_bytes()
    m[3] = 4

    def progress(done, total):
        raise Stop

    with pytest.raises(Stop):
        m.save(path, progress=progress)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    m.save(path)
    assert IntArrayMap.load(path) == m


def test_no_space(path, run_child):
    """The size of files is limited: the old file stays, no temporary one does."""
    small().save(path)
    run_child(f"""
        import os, resource, signal
        import numpy as np
        from intarraymap import IntArrayMap
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        m = IntArrayMap.fromkeys(range(100_000), [0.0, 1.0])
        before = open({str(path)!r}, "rb").read()
        for progress in (None, lambda done, total: None):
            try:
                m.save({str(path)!r}, progress=progress)
            except OSError as error:
                assert error.errno == 27, error
            else:
                raise AssertionError
        assert open({str(path)!r}, "rb").read() == before
        assert os.listdir({str(path.parent)!r}) == [{path.name!r}]
        assert m[5][1] == 1
    """)


def test_a_failed_write_goes_to_nobody_else(tmp_path):
    """Rename fails: the target is a folder that came meanwhile."""
    m = IntArrayMap.from_arrays(scattered(100), rows_for(100))
    target = tmp_path / "t"

    def progress(done, total):
        if not target.exists():
            target.mkdir()

    with pytest.raises(OSError):
        m.save(target, progress=progress)
    assert os.listdir(tmp_path) == ["t"] and target.is_dir()


def test_interrupted(path, run_child):
    """Ctrl-C in the middle of a save: soon over, nothing left."""
    run_child(f"""
        import os, signal, threading, time
        import numpy as np
        from intarraymap import IntArrayMap
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started us behind it
        m = IntArrayMap.from_arrays(np.arange(1_000_000) * 2**40, np.ones((1_000_000, 8)))
        for wait in (0.02, 0.1):
            threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                for i in range(100):
                    m.save({str(path)!r})
                raise AssertionError
            except KeyboardInterrupt:
                pass
            left = [name for name in os.listdir({str(path.parent)!r}) if name.endswith(".tmp")]
            assert left == [], left
            m[1] = 2
    """)


def test_saved_without_a_thread(path, monkeypatch):
    """Where no thread is to be had, the caller writes by itself."""

    def refuse(function, arguments):
        raise RuntimeError("can't start new thread")

    m = IntArrayMap.from_arrays(scattered(1000), rows_for(1000))
    told = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "start_new_thread", refuse)
        m.save(path, progress=lambda done, total: told.append((done, total)))
    assert told and told[-1][0] == told[-1][1]
    assert IntArrayMap.load(path) == m


INTERRUPTED_BY_ITS_THREAD = """
    import os, signal, threading, time
    from intarraymap import IntArrayMap, files

    def interrupt(number, frame):
        raise {error}("from a handler")

    def write_late(*arguments):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        time.sleep(0.2)
        is_whole.append(write_image(*arguments))
        return is_whole[-1]

    old, new = IntArrayMap.fromkeys([1], [1.0]), IntArrayMap.fromkeys([1, 2], [2.0])
    old.save({path!r})
    is_whole = []
    signal.signal(signal.SIGUSR1, interrupt)
    write_image, files.write_image = files.write_image, write_late
    for turn in range(1, 6):
        try:
            new.save({path!r}, progress=lambda done, total: None)
        except {error} as error:
            assert str(error) == "from a handler", error
        else:
            raise AssertionError("what the handler raised did not come out")
        assert len(is_whole) == turn, "the thread is not over"
    assert os.listdir({folder!r}) == [{name!r}]
    assert IntArrayMap.load({path!r}) == old
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
def test_an_interrupt_while_its_thread_began_left_it_writing(error, path, run_child):
    """To a descriptor that was another file's by then; and a RuntimeError was taken for "no more threads"."""
    run_child(INTERRUPTED_BY_ITS_THREAD.format(error=error, path=str(path), folder=str(path.parent), name=path.name))


CALLS = {
    "save": lambda m, path: m.save(path),
    "save in a thread": lambda m, path: m.save(path, progress=lambda done, total: None),
    "load": lambda m, path: IntArrayMap.load(path),
    "open": lambda m, path: IntArrayMap.open(path),
    "file_info": lambda m, path: files.file_info(path),
}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="NEEDS /proc")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("call", list(CALLS))
def test_interrupts_left_descriptors_and_temporary_files(call, error, path):
    old, new = small(), small(60)
    old.save(path)
    before = len(os.listdir("/proc/self/fd"))
    points = 0
    for points in interrupt_everywhere(lambda: CALLS[call](new, path), error):
        assert len(os.listdir("/proc/self/fd")) == before, f"point {points}"
        assert os.listdir(path.parent) == [path.name], f"point {points}"
        saved = IntArrayMap.load(path)
        assert saved in (old, new), f"point {points}"
        old.save(path)
    assert points > 5


INTERRUPTED_BY_THE_CLOCK = """
    import os, random, signal
    import numpy as np
    from intarraymap import IntArrayMap

    def interrupt(number, frame):
        raise KeyboardInterrupt

    chance = random.Random({seed})
    signal.signal(signal.SIGALRM, interrupt)
    old = IntArrayMap.fromkeys([1], [1.0])
    new = IntArrayMap.from_arrays(np.arange(50_000) * 2**40, np.ones((50_000, 40)))
    old.save({path!r})
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(50e-6, 800e-6))
            new.save({path!r})
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        other = os.open({path!r} + ".other", os.O_CREAT | os.O_RDWR)  # has the number that was closed last
        assert len(os.listdir("/proc/self/fd")) == before + 1
        assert os.fstat(other).st_size == 0, "a save wrote to another file"
        os.close(other)
    assert sorted(os.listdir({folder!r})) == [{name!r}, {name!r} + ".other"]
    assert IntArrayMap.load({path!r}) in (old, new)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="NEEDS /proc")
def test_interrupted_at_any_moment(path, run_child):
    """What the sweep above does not reach: inside calls, at the ends of loops."""
    code = INTERRUPTED_BY_THE_CLOCK.format(seed=7, path=str(path), folder=str(path.parent), name=path.name)
    run_child(code, timeout=120)


def test_a_thread_without_memory_left_the_file_written_twice(path, run_child):
    """It had not begun, nobody knew, and the caller wrote as well."""
    pytest.importorskip("_testcapi", reason="SKIPPED: THIS PYTHON HAS NO _testcapi")
    run_child(f"""
        import _testcapi, _thread, os, time
        from intarraymap import IntArrayMap
        tell = lambda done, total: None
        m = IntArrayMap.from_arrays([i * 2**40 for i in range(50)], [[1.0, 2.0]] * 50)
        m.save({str(path)!r}, progress=tell)
        quiet = n = 0
        while quiet < 10:
            raised = None
            _testcapi.set_nomemory(n, n + 1)
            try:
                m.save({str(path)!r}, progress=tell)
            except BaseException as error:
                raised = error
            waiting = True
            while waiting:  # hooks must not go under a thread that ends: that is a crash of their own
                try:
                    while _thread._count():
                        time.sleep(0.001)
                    time.sleep(0.001)
                    waiting = False
                except MemoryError:
                    pass
            _testcapi.remove_mem_hooks()
            assert raised is None or isinstance(raised, MemoryError), raised
            assert os.listdir({str(path.parent)!r}) == [{path.name!r}], n
            assert IntArrayMap.load({str(path)!r}) == m, n
            quiet = 0 if raised else quiet + 1
            n += 1
        assert n > 50
    """)


@pytest.mark.parametrize("letter", ["a", "é", "中", "🙂", "\udcff"])
def test_names_of_many_bytes_were_refused(letter, tmp_path):
    """The temporary file's name was cut to so many letters; now to so many bytes, and not within a letter."""
    m = small()
    longest = letter * (255 // len(os.fsencode(letter)))
    found = []
    for name in (longest, longest[:-1], longest[: len(longest) * 4 // 5], "b" + longest[1:]):
        try:
            (tmp_path / name).touch()
        except OSError:
            pytest.skip("THIS FILE SYSTEM HAS NO SUCH NAMES")
        (tmp_path / name).unlink()
        m.save(tmp_path / name, progress=lambda done, total: found.extend(os.listdir(os.fsencode(tmp_path))))
        assert os.listdir(tmp_path) == [name]
        assert IntArrayMap.load(tmp_path / name) == m
        (tmp_path / name).unlink()
    assert len(found) >= 4 and all(each.endswith(b".tmp") and each.decode() for each in found)


def test_a_folder_that_cannot_be_read_failed_a_save_that_was_done(run_child):
    """Files may be put into it, but it can't be opened to be synced."""
    run_child("""
        import os, shutil, tempfile
        from intarraymap import IntArrayMap
        folder = tempfile.mkdtemp()
        try:
            os.chmod(folder, 0o333)
            if os.geteuid() == 0:
                os.chown(folder, 65534, -1)
                os.seteuid(65534)
            path = os.path.join(folder, "map.iam")
            for keys in ([1], [1, 2, 3]):
                IntArrayMap.fromkeys(keys, [1.0]).save(path)
                assert list(IntArrayMap.load(path)) == keys
        finally:
            os.seteuid(os.getuid())
            os.chmod(folder, 0o700)
            left = os.listdir(folder)
            shutil.rmtree(folder)
        assert left == ["map.iam"], left
    """)


def test_a_folder_that_cannot_be_opened_is_found_before_the_rename(path, monkeypatch):
    """Out of descriptors, for one: the file had been replaced when the folder was opened."""
    m = small()
    m.save(path)
    before = path.read_bytes()
    open_any = os.open

    def refuse_folders(name, flags, *more):
        if flags & os.O_DIRECTORY:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)
        return open_any(name, flags, *more)

    m[3] = 4
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse_folders)
        with pytest.raises(OSError) as raised:
            m.save(path)
    assert raised.value.errno == errno.EMFILE
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_progress_that_raises(path):
    """What it raises comes out, and no file is left."""

    def give_up(done, total):
        raise LookupError("enough")

    m = IntArrayMap.from_arrays(scattered(300_000), rows_for(300_000))
    with pytest.raises(LookupError, match="enough"):
        m.save(path, progress=give_up)
    assert os.listdir(path.parent) == [] or path.exists()
    assert not [name for name in os.listdir(path.parent) if name.endswith(".tmp")]


def test_readers_go_on_while_a_save_runs(path):
    m = IntArrayMap.from_arrays(scattered(100_000), rows_for(100_000))
    keys = m.to_arrays()[0]
    over = threading.Event()
    wrong = []

    def read():
        while not over.is_set():
            if m.get_many(keys[:1000]).shape != (1000, 3):
                wrong.append("shape")

    def write():
        while not over.is_set():
            m.add_many(keys[:10], 1)

    threads = [threading.Thread(target=target) for target in (read, write)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        m.save(path)
        back = IntArrayMap.load(path)
        assert len(back) == 100_000 and len(np.unique(back.get_many(keys[:10]) - rows_for(10))) == 1
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong


KILLED = """
    import sys
    import numpy as np
    from intarraymap import IntArrayMap
    path, seed = sys.argv[1], int(sys.argv[2])
    maps = []
    for generation in (1, 2):
        keys = np.random.default_rng(seed).choice(2**60, 20_000 * generation, replace=False)
        maps.append(IntArrayMap.from_arrays(keys, np.full((len(keys), 4), generation)))
    print("ready", flush=True)
    count = 0
    while True:
        maps[count % 2].save(path)
        count += 1
        print(count, flush=True)
"""


def test_killed_at_any_moment_the_file_is_whole(tmp_path):
    """kill -9 after some 200 saves in all: the old file or the new one."""
    chance = random.Random(5)
    saves = rounds = 0
    path = tmp_path / "killed.iam"
    while saves < 200 or rounds < 6:
        rounds += 1
        assert rounds < 60
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(rounds)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"
        for _ in range(chance.randrange(20, 50)):
            assert child.stdout.readline()
        time.sleep(chance.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        said = child.communicate()[0].split()
        saves += int(said[-1]) if said else 20
        with IntArrayMap.open(path, verify="full") as m:
            generation = m[next(iter(m))][0]
            assert len(m) == 20_000 * generation and (m.to_arrays()[1] == generation).all()
        for left in tmp_path.glob(".*.tmp"):
            left.unlink()
    print(f"{saves} saves, {rounds} kills")


# ---- Opened files and the world --------------------------------------------------------------------------------------


def test_replaced_while_open(path):
    m = small()
    m.save(path)
    opened = IntArrayMap.open(path)
    small(60).save(path)
    assert opened == m and len(IntArrayMap.open(path)) == 60


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="NEEDS /proc")
def test_opening_does_not_read_the_rows(path):
    """Of a file of 33 MB a lookup brings four places into memory, each with a huge page around it at most."""
    IntArrayMap.from_arrays(scattered(500_000), np.ones((500_000, 4))).save(path)
    assert path.stat().st_size > 30 << 20
    m = IntArrayMap.open(path)
    assert m[scattered(500_000)[7].item()][0] == 1
    assert mapped_and_present_bytes(path) <= 4 * 2 << 20
    assert m.to_arrays()[1].sum() == 2_000_000
    assert mapped_and_present_bytes(path) > 15 << 20
    m.close()


def mapped_and_present_bytes(path):
    """Of the file's pages those that this process has in its page table."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    ours = [each for each in mappings if each.partition("\n")[0].endswith(f" {path}")]
    assert ours
    return sum(int(re.search(r"^Rss: +(\d+) kB$", each, re.MULTILINE)[1]) << 10 for each in ours)


def test_many_processes_read_one_file(path, run_child):
    m = small()
    m.save(path)
    total = float(m.to_arrays()[1].sum())
    run_child(f"""
        import os
        from intarraymap import IntArrayMap
        m = IntArrayMap.open({str(path)!r})
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                again = IntArrayMap.open({str(path)!r})
                os._exit(0 if m.to_arrays()[1].sum() == again.to_arrays()[1].sum() == {total!r} else 1)
            children.append(child)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
    """)


def test_many_maps_opened_by_many_threads(path):
    m = small()
    m.save(path)
    failures = []

    def work():
        try:
            for _ in range(100):
                opened = IntArrayMap.open(path)
                assert opened.get_many(list(m)).shape == (50, 3)
                view = opened[next(iter(opened))]
                opened.close()
                assert view.sum() >= 0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and mappings_of(path) == 0


def test_memory_is_not_the_maps_own(path):
    IntArrayMap.from_arrays(scattered(100_000), np.ones((100_000, 8))).save(path)
    m = IntArrayMap.open(path)
    stats = m.stats()
    assert m.nbytes < 100_000 and stats.bytes_rows == stats.bytes_keys == stats.bytes_buckets == 0
    assert stats.count == 100_000 and stats.load > 5


def test_no_addresses_left(path, run_child):
    IntArrayMap.fromkeys(range(100_000), np.zeros(100)).save(path)
    out = run_child(f"""
        import resource
        from intarraymap import IntArrayMap
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20),) * 2)
        for call in (IntArrayMap.load, IntArrayMap.open):
            try:
                call({str(path)!r})
            except MemoryError as error:
                print("refused")
    """)
    assert out.split() == ["refused"] * 2


def test_init_once(path):
    small().save(path)
    m = IntArrayMap.open(path)
    with pytest.raises(RuntimeError):
        m.__init__(3)


# ---- Golden files ----------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def golden_maps() -> dict[str, IntArrayMap]:
    """What the files in golden/ hold. Written by version 0.1.0, loaded for ever: never write them anew."""
    hash_map = IntArrayMap((2,), "float32", index="hash")
    for i in range(90):
        hash_map[(i * 0x9E3779B97F4A7C15 + 7) % 2**64 - 2**63] = [i, -i / 2]
    hash_map[KEY_MIN] = [np.nan, -0.0]
    hash_map[KEY_MAX] = np.inf
    direct = IntArrayMap((3, 2), "int16")
    for key in range(-20, 40):
        direct[key] = [[key, key * 2], [key * 3, 0], [1, -1]]
    del direct[5]
    times = IntArrayMap(1, "datetime64[25us]")
    times[2**40] = np.datetime64(25, "us")
    times[-1] = np.datetime64("NaT")
    return {"hash": hash_map, "direct": direct, "times": times, "empty": IntArrayMap(4, "bool")}


@pytest.mark.parametrize("name", ["hash", "direct", "times", "empty"])
def test_golden_files_load_for_ever(name, way):
    expected = golden_maps()[name]
    back = way(IntArrayMap, GOLDEN / "v1" / f"{name}.iam")
    assert list(back) == list(expected) and (back.dtype, back.row_shape) == (expected.dtype, expected.row_shape)
    assert back.to_arrays()[1].tobytes() == expected.to_arrays()[1].tobytes()
    assert back.index == expected.index


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["hash", "direct", "times", "empty"])
def test_golden_pickles_load_for_ever(name, protocol):
    expected = golden_maps()[name]
    back = pickle.loads((GOLDEN / "v1" / f"{name}.{protocol}.pickle").read_bytes())
    assert list(back) == list(expected) and (back.dtype, back.row_shape) == (expected.dtype, expected.row_shape)
    assert back.to_arrays()[1].tobytes() == expected.to_arrays()[1].tobytes()
