"""Archives of NumPy: written whole or not at all, read without trust."""

from __future__ import annotations

import errno
import functools
import gc
import io
import os
import stat
import tracemalloc
import zipfile

import numpy as np
import pytest
from interrupts import interrupt_everywhere
from model import DTYPES, assert_same, build_map, copy_of

from intarraymap import IntArrayMap, archive


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compress", [False, True])
def test_there_and_back(tmp_path, dtype, compress):
    m = build_map("hash", (2, 3), dtype, [5, -(2**63), 2**63 - 1, 0])
    m.to_npz(tmp_path / "m.npz", compress=compress)
    other = IntArrayMap.from_npz(str(tmp_path / "m.npz"), index="hash", seed=1)
    assert (other.dtype, other.row_shape) == (m.dtype, m.row_shape)
    assert_same(other, copy_of(m))
    with np.load(tmp_path / "m.npz") as opened:
        assert opened["keys"].tolist() == m.to_arrays()[0].tolist()


def test_kinds_and_empty(tmp_path, make_case):
    case = make_case()
    case.map.to_npz(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"], "the name as it is, and nothing left beside it"
    assert_same(IntArrayMap.from_npz(tmp_path / "m"), case.model)
    IntArrayMap((2, 2), "int8").to_npz(tmp_path / "m")
    empty = IntArrayMap.from_npz(tmp_path / "m")
    assert (len(empty), empty.row_shape, empty.dtype) == (0, (2, 2), np.dtype("int8"))


def test_an_old_file_stays_whole(tmp_path):
    m = IntArrayMap.fromkeys([1], [1.0])
    m.to_npz(tmp_path / "m.npz")
    assert stat.S_IMODE((tmp_path / "m.npz").stat().st_mode) == 0o666 & ~os.umask(os.umask(0o022))
    before = (tmp_path / "m.npz").read_bytes()
    m.close()
    with pytest.raises(ValueError, match="closed"):
        m.to_npz(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").read_bytes() == before
    with pytest.raises(OSError):
        IntArrayMap(1).to_npz(tmp_path / "no" / "m.npz")
    os.mkdir(tmp_path / "folder")
    with pytest.raises(OSError):
        IntArrayMap(1).to_npz(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "m.npz"]
    with pytest.raises(OSError):
        IntArrayMap.from_npz(tmp_path / "none.npz")


def test_to_npz_changed_the_umask(tmp_path, monkeypatch):
    """For a moment, in which other threads made files that nobody else could read."""

    def refuse(mask):
        raise AssertionError("the umask is the whole process's")

    monkeypatch.setattr(os, "umask", refuse)
    IntArrayMap(2).to_npz(tmp_path / "m.npz")
    assert len(IntArrayMap.from_npz(tmp_path / "m.npz")) == 0


@pytest.mark.parametrize("compress", [False, True])
def test_to_npz_lost_permissions_and_links(tmp_path, compress):
    m = IntArrayMap.fromkeys([1, 2], [1.0])
    target, link = tmp_path / "m.npz", tmp_path / "link.npz"
    IntArrayMap(1).to_npz(target)
    target.chmod(0o640)
    link.symlink_to(target)
    m.to_npz(link, compress=compress)
    assert link.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert IntArrayMap.from_npz(target) == m
    target.chmod(0o440)
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            m.to_npz(target)


def test_to_npz_was_not_on_the_disk(tmp_path, monkeypatch):
    """Neither what was written nor its new name had been synced."""
    synced = []
    sync = os.fsync

    def note(descriptor):
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    IntArrayMap(2).to_npz(tmp_path / "m.npz")
    assert synced == [False, True]


def test_to_npz_refused_names_of_many_bytes(tmp_path):
    m = IntArrayMap.fromkeys([1, 2], [1.0])
    for name in ("a" * 255, "a" * 246, "中" * 85):
        m.to_npz(tmp_path / name)
        assert os.listdir(tmp_path) == [name]
        assert IntArrayMap.from_npz(tmp_path / name) == m
        (tmp_path / name).unlink()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="NEEDS /proc")
def test_an_interrupted_to_npz_left_its_temporary_file(tmp_path):
    old, new = IntArrayMap.fromkeys([1], [1.0]), IntArrayMap.fromkeys([1, 2], [1.0])
    old.to_npz(tmp_path / "m.npz")
    before = len(os.listdir("/proc/self/fd"))
    points = 0
    for points in interrupt_everywhere(lambda: new.to_npz(tmp_path / "m.npz"), KeyboardInterrupt):
        assert len(os.listdir("/proc/self/fd")) == before, f"point {points}"
        assert os.listdir(tmp_path) == ["m.npz"], f"point {points}"
        assert IntArrayMap.from_npz(tmp_path / "m.npz") in (old, new), f"point {points}"
        old.to_npz(tmp_path / "m.npz")
    assert points > 5


def test_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.savez(tmp_path / "m.npz", keys=np.arange(1), rows=np.array([[Bomb()]], object))
    with pytest.raises(ValueError):
        IntArrayMap.from_npz(tmp_path / "m.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "arrays, error",
    [
        ({}, ValueError),
        ({"keys": np.arange(2)}, ValueError),
        ({"rows": np.zeros((2, 2))}, ValueError),
        ({"keys": np.arange(3), "rows": np.zeros((2, 2))}, ValueError),
        ({"keys": np.arange(2), "rows": np.zeros(2)}, ValueError),
        ({"keys": np.zeros((2, 1), int), "rows": np.zeros((2, 1, 2))}, ValueError),
        ({"keys": np.zeros(2), "rows": np.zeros((2, 2))}, TypeError),
        ({"keys": np.array([2**63], np.uint64), "rows": np.zeros((1, 2))}, OverflowError),
        ({"keys": np.arange(1), "rows": np.array([["a"]])}, TypeError),
        ({"keys": np.arange(1), "rows": np.zeros((1, 0))}, ValueError),
    ],
)
def test_refused(tmp_path, arrays, error):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(error):
        IntArrayMap.from_npz(tmp_path / "m.npz")


def npy(descr: bytes, length: int = 0) -> bytes:
    """Two times in NumPy's format, whose dtype is said by a literal of Python; the header is so long at least."""
    header = b"{'descr': " + descr + b", 'fortran_order': False, 'shape': (2, 1), }"
    header = header.ljust(length - 1) + b"\n"
    return np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header + bytes(16)


@pytest.mark.parametrize(
    "members",
    [
        {"rows.npy": npy(b"'<M8[s/0]'")},
        {"rows.npy": npy(b"'<M8[Y/4294967296]'")},
        {"rows.npy": npy(b"'<m8[h/00]'")},
        {"rows.npy": npy(b"'<M8[s\\x2f0]'")},
        {"rows.npy": npy(b"\n'<M8[s'\n'/0]'")},
        {"rows.npy": npy(b"'<M8[s/0]'", 0x0A40)},  # whose length has the byte of a line's end
        {"rows.npy": npy(b"'<M8[s]'"), "rows": npy(b"'<M8[s/0]'")},  # NumPy takes the second
    ],
)
def test_times_of_divided_units_ended_the_process(tmp_path, run_child, members):
    path = tmp_path / "m.npz"
    np.savez(path, keys=np.arange(2))
    with zipfile.ZipFile(path, "a") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    assert "divided" in refused_in_a_child(run_child, path)


@pytest.mark.parametrize("is_archive_too", [False, True])
def test_an_array_of_times_of_divided_units_ended_the_process(tmp_path, run_child, is_archive_too):
    path = tmp_path / "m.npz"
    path.write_bytes(npy(b"'<M8[s/0]'"))
    if is_archive_too:  # NumPy looks at the first bytes, and whoever reads archives at the last
        with zipfile.ZipFile(path, "a") as opened:
            opened.writestr("rows.npy", npy(b"'<M8[s]'"))
    says = refused_in_a_child(run_child, path)
    assert ("it has no array" if is_archive_too else "it holds something else") in says


def test_other_arrays_are_none_of_ours(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, keys=np.arange(2), rows=np.ones((2, 1)), more=np.zeros(1, [("a/b", "i4")]))
    assert len(IntArrayMap.from_npz(path)) == 2


def refused_in_a_child(run_child, path) -> str:
    """What the ValueError says; the child must live to say it."""
    return run_child(
        f"""
        from intarraymap import IntArrayMap
        try:
            IntArrayMap.from_npz({str(path)!r})
        except ValueError as error:
            print(error)
        else:
            raise AssertionError("no error")
        """
    )


def test_an_array_is_no_archive(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros(3))
    with pytest.raises(ValueError, match="it holds something else"):
        IntArrayMap.from_npz(tmp_path / "m.npy")


def test_a_descriptor_is_no_path_and_was_closed(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for call in (IntArrayMap.from_npz, IntArrayMap(2).to_npz, IntArrayMap.load, IntArrayMap.open, IntArrayMap(2).save):
        with pytest.raises(TypeError, match="int"):
            call(descriptor)
        os.fstat(descriptor)
    os.close(descriptor)


def test_broken(tmp_path):
    path = tmp_path / "m.npz"
    m = IntArrayMap.from_arrays(np.arange(20), np.arange(40.0).reshape(20, 2))
    m.to_npz(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            IntArrayMap.from_npz(path)
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert IntArrayMap.from_npz(path) == m, "what is read is what was written"
        except (ValueError, TypeError, OverflowError, MemoryError):
            pass
    np.save(tmp_path / "one.npy", np.zeros(3))
    for other in (b"", b"PK\x05\x06" + bytes(18), (tmp_path / "one.npy").read_bytes(), b"\x80\x04N."):
        path.write_bytes(other)
        with pytest.raises(ValueError):
            IntArrayMap.from_npz(path)


# ---- What breaks it off in the middle -------------------------------------------------------------------------------


class Expired(Exception):
    """What somebody's signal handler raises."""


@pytest.fixture
def opening_raises(monkeypatch):
    """An exception between the opening of an archive's member and the first line that could close it."""

    def arm(make_error, writing):
        plain = zipfile.ZipFile.open

        def opened(self, *arguments, **words):
            member = plain(self, *arguments, **words)
            if ("w" in arguments) is writing:
                raise make_error()
            return member

        monkeypatch.setattr(zipfile.ZipFile, "open", opened)

    monkeypatch.delattr(zipfile.ZipFile, "__del__")  # which can't close it either, and says so on stderr
    yield arm
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the member that is left open
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, Expired, RecursionError])
def test_reading_raised_what_zipfile_made_of_it(tmp_path, opening_raises, error):
    IntArrayMap.fromkeys([1], [1.0]).to_npz(tmp_path / "m.npz")
    opening_raises(lambda: error("in the middle"), writing=False)
    with pytest.raises(error, match="in the middle") as raised:
        IntArrayMap.from_npz(tmp_path / "m.npz")
    assert raised.type is error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the member that is left open
@pytest.mark.thread_unsafe(reason="memory is counted for the whole process")
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_writing_raised_what_zipfile_made_of_it_and_kept_the_rows(tmp_path, opening_raises, error):
    m = IntArrayMap(100)
    m.set_many(np.arange(20_000), 1.0)
    m.to_npz(tmp_path / "m.npz")
    opening_raises(lambda: error("in the middle"), writing=True)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(error, match="in the middle") as raised:
            try:
                raise KeyError("of the caller")
            except KeyError:
                m.to_npz(tmp_path / "m.npz")
        chain, at = [], raised.value
        while at is not None:
            chain.append(type(at))
            at = at.__context__
        assert chain == [error, KeyError]
        del raised, at
        assert tracemalloc.get_traced_memory()[0] < before + 2_000_000  # of 16 MB
    finally:
        tracemalloc.stop()
        gc.enable()
    assert os.listdir(tmp_path) == ["m.npz"]
    assert len(IntArrayMap.from_npz(tmp_path / "m.npz")) == 20_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the member that is left open
def test_no_memory_for_a_lock(tmp_path, opening_raises):
    opening_raises(lambda: RuntimeError("can't allocate lock"), writing=True)
    with pytest.raises(MemoryError, match="can't allocate lock"):
        IntArrayMap.fromkeys([1], [1.0]).to_npz(tmp_path / "m.npz")


def test_contexts_in_a_circle_end(tmp_path, opening_raises):
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    IntArrayMap.fromkeys([1], [1.0]).to_npz(tmp_path / "m.npz")
    opening_raises(lambda: first, writing=False)
    with pytest.raises(ValueError, match=r"broken one: first"):
        IntArrayMap.from_npz(tmp_path / "m.npz")


class FailingDisk(io.RawIOBase):
    """A file of which the n-th reading fails."""

    def __init__(self, descriptor, n):
        self.descriptor, self.left = descriptor, n

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        return os.lseek(self.descriptor, offset, whence)

    def readinto(self, room):
        if self.left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.left -= 1
        data = os.read(self.descriptor, len(room))
        room[: len(data)] = data
        return len(data)


def test_a_disk_that_fails_was_called_a_broken_archive(tmp_path, monkeypatch):
    m = IntArrayMap.from_arrays(range(5000), np.ones((5000, 2)))
    m.to_npz(tmp_path / "m.npz")
    for n in range(40):
        disk = functools.partial(lambda n, descriptor, mode, closefd: io.BufferedReader(FailingDisk(descriptor, n)), n)
        monkeypatch.setattr(archive, "open", disk, raising=False)
        try:
            assert IntArrayMap.from_npz(tmp_path / "m.npz") == m
            break
        except OSError as error:
            assert error.errno == errno.EIO
    assert 5 < n < 39


@pytest.mark.parametrize("signs", [b"-" * 6000, b"~" * 6000, b"2**" * 4000])
def test_a_header_of_many_signs(tmp_path, signs):
    """The interpreter's parser has no room for such ones, which looked like memory at its end."""
    np.savez(tmp_path / "m.npz", keys=np.arange(2))
    with zipfile.ZipFile(tmp_path / "m.npz", "a") as opened:
        opened.writestr("rows.npy", npy(b"'<i8', 'more': " + signs + b"1"))
    with pytest.raises(ValueError, match=r"the header of rows.npy claims \d+ bytes"):
        IntArrayMap.from_npz(tmp_path / "m.npz")


def test_a_fifo_was_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.npz")
    with pytest.raises(OSError, match="not a regular file"):
        IntArrayMap.from_npz(tmp_path / "m.npz")


def test_a_path_of_bytes(tmp_path):
    m = IntArrayMap.fromkeys([1], [1.0])
    path = os.fsencode(tmp_path / "m.npz")
    for call in (m.to_npz, IntArrayMap.from_npz):
        with pytest.raises(TypeError, match="path must be a string or path-like, not bytes"):
            call(path)
