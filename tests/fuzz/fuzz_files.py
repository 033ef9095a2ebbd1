"""Bytes from outside: images, npz archives, the parts of pickles, Arrow data.

Whatever they say, a reader answers with a map that keeps its invariants or with a documented error. `open` with its
default trusts the numbers in a file: reading on in such a map may find nonsense, and must end, inside the file.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from intarraymap import IntArrayMap
from intarraymap.pickling import rebuild
from tests.fuzz.stream import DOCUMENTED, Stream

try:
    import pyarrow
except ImportError:
    pyarrow = None

FOLDER = Path("/dev/shm") if os.path.isdir("/dev/shm") else Path(tempfile.gettempdir())
KINDS = ("<i8", ">i8", "<f4", "|u1", "|b1", "<M8[s]", "|O", "<c16", "|S3", "<f2", "nonsense", "<i8,<f4", "")


@cache
def sound_images() -> tuple[bytes, ...]:
    """Hash, direct, empty and of times, as this package writes them."""
    maps = [
        IntArrayMap.from_arrays(np.arange(40) * 1000003, np.arange(80.0).reshape(40, 2), index="hash", seed=1),
        IntArrayMap.from_arrays(np.arange(50) - 20, np.arange(50, dtype="i4").reshape(50, 1), index="direct", seed=1),
        IntArrayMap((2, 2), "bool", seed=1),
        IntArrayMap.from_arrays([5, -5], np.array([[1], [2]], "M8[25us]"), seed=1),
    ]
    found = []
    for m in maps:
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            m.save(Path(folder) / "sound.iam")
            found.append((Path(folder) / "sound.iam").read_bytes())
    return tuple(found)


def changed(stream: Stream, sound: bytes) -> bytes:
    """A few bytes of it are others; it may be cut, or too long."""
    data = bytearray(sound)
    for _ in range(stream.below(5)):
        if data:
            place = int.from_bytes(stream.bytes(2), "little") % min(len(data), 400 if stream.chance(2) else len(data))
            piece = stream.bytes(stream.choice((1, 1, 2, 4, 8)))
            data[place : place + len(piece)] = piece
    how = stream.below(8)
    if how == 0:
        del data[int.from_bytes(stream.bytes(2), "little") :]
    elif how == 1:
        data += stream.bytes(stream.byte())
    return bytes(data)


def read_all(m: IntArrayMap[Any]) -> None:
    """Everything that can be read of a map that may be damaged."""
    calls = (
        lambda: [m[key].sum() for key, _ in zip(m, range(100), strict=False)],
        lambda: m.get_many(np.arange(-20, 20), 0),
        lambda: m.to_arrays(),
        lambda: [rows.sum() for _, _, rows, _ in m.blocks()],
        lambda: [row.sum() for _, row in m.scan()],
        lambda: m.copy()._check(),
        lambda: m._check(),
        lambda: (m == m, repr(m), m.stats(), len(m), list(reversed(m))[:5]),
        lambda: pickle.dumps(m),
        lambda: m.__setitem__(1, 0),
    )
    for call in calls:
        try:
            call()
        except DOCUMENTED:
            pass


def image(stream: Stream) -> None:
    data = stream.rest() if stream.chance(8) else changed(stream, stream.choice(sound_images()))
    with tempfile.NamedTemporaryFile(dir=FOLDER, suffix=".iam") as file:
        file.write(data)
        file.flush()
        for verify, mode in (("header", "r"), ("full", "r"), ("full", "c")):
            try:
                m = IntArrayMap.open(file.name, verify=verify, mode=mode)
            except DOCUMENTED:
                continue
            assert verify == "header" or m._check() is None
            read_all(m)
            m.close()
        try:
            loaded = IntArrayMap.load(file.name)
        except (OSError, ValueError):  # of files nothing else is promised
            return
        assert loaded._check() is None
        read_all(loaded)


@cache
def sound_archives() -> tuple[bytes, ...]:
    found = []
    for compress in (False, True):
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            m = IntArrayMap.from_arrays(np.arange(9), np.arange(18.0).reshape(9, 2), seed=1)
            m.to_npz(Path(folder) / "sound.npz", compress=compress)
            found.append((Path(folder) / "sound.npz").read_bytes())
    return tuple(found)


def archive(stream: Stream) -> None:
    if stream.chance(2):
        data = changed(stream, stream.choice(sound_archives()))
    else:
        written = io.BytesIO()
        arrays = {}
        for name in ("keys", "rows", "row_shape"):
            if stream.byte() < 220:
                shape = tuple(stream.below(5) for _ in range(stream.below(4)))
                arrays[name] = np.zeros(shape, stream.choice(("i8", "u8", "f8", "f2", "?", "U2", "c8", "M8[s]", "i1")))
        np.savez(written, **arrays)
        data = written.getvalue()
    with tempfile.NamedTemporaryFile(dir=FOLDER, suffix=".npz") as file:
        file.write(data)
        file.flush()
        try:
            m = IntArrayMap.from_npz(file.name)
        except DOCUMENTED:
            return
        assert m._check() is None
        read_all(m)


def pickled(stream: Stream) -> None:
    count, items = stream.below(6), stream.below(4) + 1
    keys = np.arange(count, dtype=np.int64)
    rows = np.ones((count, items))
    parts: list[Any] = [IntArrayMap, 1, (items,), "<f8", "<i8", "auto", keys.tobytes(), rows.tobytes()]
    for _ in range(stream.below(4)):
        wrong = (None, -1, 2**70, 1, (), (2, 2), (0,), ("a",), object, int, b"", b"abc", stream.bytes(stream.byte()))
        parts[stream.below(8)] = stream.choice((*wrong, *KINDS, 1.5, [], {}, "hash", "direct", (2**31, 2**31)))
    try:
        m = rebuild(*parts)
    except DOCUMENTED:
        return
    assert m._check() is None
    read_all(m)


def arrow(stream: Stream) -> None:
    if pyarrow is None:
        return
    types = ("i1", "i8", "u8", "f2", "f4", "?", "M8[s]", "m8[ns]", "U2", "i4")
    count = stream.below(6)

    def column(deep: int) -> Any:
        kind = stream.below(7)
        flat = np.frombuffer(stream.bytes(count * 8), "i8")
        if kind == 0 or deep == 0:
            made = (flat % 100).astype(stream.choice(types))
            mask = flat % 7 == 3 if stream.chance(3) else None
            return pyarrow.array(made, mask=mask)
        if kind == 1:
            return pyarrow.array([list(range(stream.below(3))) for _ in range(count)])
        if kind == 2:
            return pyarrow.array([None] * count)
        if kind == 3:
            width = stream.below(3) + 1
            return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.arange(width * count, dtype="f8")), width)
        if kind == 4:
            return column(0).dictionary_encode()
        if kind == 5:
            return pyarrow.array([{"a": int(one)} for one in flat])
        return pyarrow.array(flat)[stream.below(3) :]

    columns = [column(1) for _ in range(stream.below(4))]
    length = min(map(len, columns), default=0)
    names = [stream.choice(("key", "row", "a", "b", "")) for _ in columns]
    table = pyarrow.table([one[:length] for one in columns], names=names)
    if stream.chance(2):
        table = pyarrow.concat_tables([table, table.slice(stream.below(3))])
    source = stream.choice((table, table.to_batches()[0] if table.num_rows else table, table.slice(1)))
    try:
        m = IntArrayMap.from_arrow(source)
    except DOCUMENTED:
        return
    assert m._check() is None
    read_all(m)


def one_input(data: bytes) -> None:
    stream = Stream(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream.choice((image, image, archive, pickled, arrow))(stream)
