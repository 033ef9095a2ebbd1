"""Array-likes of every kind as keys, rows, items, values, dtypes and shapes.

What is not an array of integers is refused by a documented error and changes nothing; what is taken is taken exactly:
the integers that NumPy or Python see in it are the keys of the map, and no others.
"""

from __future__ import annotations

import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from intarraymap import IntArrayMap
from tests.fuzz.stream import DOCUMENTED, Stream

NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "?", "M8[s]", "m8[D]", "O")
OTHERS = ("S3", "U2", "V4", "i4,f8", "M8", "g", "T")
ROWS = ("int64", "uint8", "int8", "float32", "float64", "bool", "complex64", "datetime64[s]", "uint64")


class Odd:
    """Has one of the protocols, and answers as the stream says."""

    def __init__(self, stream: Stream) -> None:
        self.answer: Any = None
        self.answer = something(stream, 3)
        self.raises = stream.choice((None, None, None, ValueError, TypeError, OverflowError, MemoryError))
        self.patience = 50  # a sequence by __getitem__ alone ends where it raises IndexError

    def respond(self, *_: Any, **__: Any) -> Any:
        if self.raises is not None:
            raise self.raises("it would rather not")
        self.patience -= 1
        if self.patience < 0:
            raise IndexError("that was all")
        return self.answer


PROTOCOLS = ("__index__", "__float__", "__array__", "__len__", "__iter__", "__int__", "__bool__", "__getitem__")
CLASSES = {name: type(f"Has{name}", (Odd,), {name: Odd.respond}) for name in PROTOCOLS}


def array(stream: Stream) -> Any:
    dtype = np.dtype(stream.choice(NUMBERS if stream.byte() < 230 else OTHERS))
    shape = tuple(stream.below(4) for _ in range(stream.below(4)))
    count = int(np.prod(shape))
    if dtype.hasobject or dtype.kind in "TSUV":
        made = np.empty(shape, dtype)
        if dtype.kind == "O":
            for place in np.ndindex(shape):
                made[place] = something(stream, 3)
    else:
        made = np.frombuffer(stream.bytes(count * dtype.itemsize), np.uint8).view(dtype).reshape(shape).copy()
        if stream.chance(2) and dtype.kind in "iu":
            made = (made % 50).astype(dtype)
    how = stream.below(8)
    if how == 0:
        made = made[..., ::-1] if made.ndim else made
    elif how == 1:
        made = made.T
    elif how == 2 and dtype.kind not in "OTV":
        made = made.astype(dtype.newbyteorder())
    elif how == 3:
        made = np.broadcast_to(made, (2, *made.shape))
    elif how == 4:
        made = np.ma.masked_array(made, mask=stream.chance(2)) if dtype.kind in "iuf" else made
    elif how == 5 and count and dtype.kind in "iuf":
        made = memoryview(made)
    return made


def something(stream: Stream, deep: int = 0) -> Any:
    kind = stream.below(16 if deep < 4 else 8)
    if kind < 3:
        return stream.integer()
    if kind == 3:
        return stream.choice((1.0, 0.5, float("nan"), float("inf"), -0.0, 1e300, 1 + 2j, True, False, None))
    if kind == 4:
        return stream.choice(("", "1", "ab", b"", b"1", bytearray(b"12"), Decimal(1), Fraction(1, 2), ..., np.nan))
    if kind == 5:
        return np.dtype(stream.choice(NUMBERS)).type
    if kind == 6:
        return stream.choice((range(5), range(2**62, 2**62 + 3), range(0, -9, -3), range(2**64, 2**64 + 1)))
    if kind == 7:
        return np.int64(stream.integer() % 2**62)
    if kind < 11:
        made = [something(stream, deep + 1) for _ in range(stream.below(5))]
        return made if kind < 10 else tuple(made)
    if kind == 11:
        return stream.choice(({}, {1: 2}, {1}, frozenset(), iter([1]), (n for n in (1, 2)), zip([1], [2], strict=True)))
    if kind == 12:
        return CLASSES[stream.choice(PROTOCOLS)](stream)
    return array(stream)


def integers_of(given: Any) -> list[int] | None:
    """The keys in it as plain Python has them, where that is beyond doubt; else None."""
    if isinstance(given, np.ma.MaskedArray | Odd):
        return None
    if isinstance(given, np.ndarray):
        return [int(number) for number in given.ravel()] if given.dtype.kind in "iu" else None
    if isinstance(given, range):
        return list(given)
    if isinstance(given, list):
        flat = [integers_of(one) for one in given]
        return None if None in flat else [number for part in flat for number in part]
    return [given] if type(given) is int else None


def content(m: IntArrayMap[Any]) -> tuple[bytes, bytes]:
    keys, rows = m.to_arrays()
    return keys.tobytes(), rows.tobytes()


def attempt(m: IntArrayMap[Any], stream: Stream) -> None:
    before = content(m)
    keys, other = something(stream), something(stream)
    reads = (
        lambda: m.get_many(keys, other),
        lambda: m.get_many(keys, out=other),
        lambda: m.contains_many(keys),
        lambda: m.index_many(keys),
        lambda: keys in m,
        lambda: m.get(keys, other),
        lambda: m == keys,
        lambda: keys in m.items(),
        lambda: keys in m.values(),
        lambda: IntArrayMap(keys, other),
        lambda: IntArrayMap(2, keys, capacity=stream.byte(), seed=other),
        lambda: IntArrayMap.from_arrays(keys, other, dtype=stream.choice((None, *ROWS))),
        lambda: IntArrayMap.fromkeys(keys, other),
    )
    writes = (
        lambda: m.set_many(keys, other),
        lambda: m.add_many(keys, other),
        lambda: m.update_many(keys, other, stream.choice(("max", "xor", "mul", "sub"))),
        lambda: m.add_at(keys, other, something(stream)),
        lambda: m.ensure_many(keys, other),
        lambda: m.delete_many(keys),
        lambda: m.pop_many(keys, other),
        lambda: m.update(keys),
        lambda: m.setdefault(keys, other),
        lambda: m.__setitem__(keys, other),
        lambda: m.__delitem__(keys),
        lambda: m.pop(keys, other),
        lambda: m.reserve(stream.byte()),
        lambda: m.__ior__(keys),
    )
    is_write = stream.chance(2)
    call = stream.below(len(writes if is_write else reads))
    expected = integers_of(keys)
    try:
        (writes if is_write else reads)[call]()
    except (*DOCUMENTED, IndexError):  # our own objects raise IndexError
        assert content(m) == before, "it raised and changed the map"
    else:
        assert is_write or content(m) == before, "a read changed the map"
        if is_write and call in (0, 1, 2, 4) and expected is not None:
            assert all(-(2**63) <= key < 2**63 for key in expected), "a key that is no int64 was taken"
            assert set(expected) <= set(m), "a key was taken for another"
            assert set(m) <= set(expected) | set(np.frombuffer(before[0], np.int64).tolist()), "a key too many"
    assert m._check() is None


def one_input(data: bytes) -> None:
    stream = Stream(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m: IntArrayMap[Any] = IntArrayMap(stream.choice((1, 2, (2, 2))), stream.choice(ROWS), seed=1)
        m.ensure_many(np.arange(stream.below(8)))
        for _ in range(12):
            if not stream:
                break
            attempt(m, stream)
