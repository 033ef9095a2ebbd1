"""What the maps under test are compared with: a plain dict of arrays, NumPy's own arithmetic, and the kinds of map.

Nothing here knows how the package works inside; it restates the promise in the slowest and plainest words.
"""

from __future__ import annotations

import gc
import os
import random
import re
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from intarraymap import IntArrayMap

KEY_MIN, KEY_MAX = -(2**63), 2**63 - 1
FAR_KEY = 2**40
FAR_AWAY = -(2**50) - 1  # a key that no test uses, and those below it
#: What §7 allows a call to raise, whatever the input (plus whatever the caller's own objects raise).
DOCUMENTED_ERRORS = (TypeError, ValueError, OverflowError, KeyError, MemoryError, RuntimeError, BufferError)

DTYPES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 "
    "datetime64[ns] timedelta64[s]"
).split()
OPS = "set add sub mul min max and or xor".split()
UFUNCS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def blocks_alive() -> int:
    """Blocks of Python's allocator that are in use, with nothing left in caches that fill at their leisure.

    The cache of attributes keeps each name that was looked up, and has room for 4,096: names that were made at run
    time (NumPy's "float64") fill it, at random, over hundreds of calls.
    """
    gc.collect()
    # The first is the name since 3.13, where the second is deprecated.
    getattr(sys, "_clear_internal_caches", getattr(sys, "_clear_type_cache", int))()
    return sys.getallocatedblocks()


@dataclass(frozen=True)
class Kind:
    """One way to bring a map about; every rule of the promise holds for all of them."""

    name: str
    index: str
    options: dict[str, Any] = field(default_factory=dict)
    one_by_one: bool = False
    dense_only: bool = False  # refuses keys that lie far apart
    few_chains: bool = False  # a lookup reads a great part of all keys: thousands of them are enough
    borrows: bool = False  # its first rows are a file's pages: not in nbytes, and without creation options


KINDS = {
    kind.name: kind
    for kind in (
        Kind("hash", "hash"),
        Kind("direct", "direct", dense_only=True),
        Kind("auto", "auto"),
        Kind("growing", "hash", one_by_one=True),
        Kind("segments", "hash", {"reserve": False}, one_by_one=True),
        Kind("direct-segments", "direct", {"reserve": False}, one_by_one=True, dense_only=True),
        Kind("mapped", "hash", borrows=True),
        Kind("colliding", "hash", {"hash_and": 3}, one_by_one=True, few_chains=True),
        # Zeros but for a bit that neither bucket nor tophash looks at: with no bit at all the hash is left alone.
        Kind("all-zero", "hash", {"hash_and": 1 << 45}, one_by_one=True, few_chains=True),
        Kind("all-ones", "hash", {"hash_or": 2**64 - 1}, one_by_one=True, few_chains=True),
        Kind("leaving", "auto"),
        Kind("left", "auto", one_by_one=True),
    )
}
#: Kinds that can hold exactly the rows asked for ("leaving" always comes with thousands of its own). All ones differ
#: from all zeros in the bucket they begin in: make_case and the state machine see both.
EXACT_KINDS = [name for name in KINDS if name not in ("leaving", "all-ones")]
ANY_KEY_KINDS = [name for name in EXACT_KINDS if not KINDS[name].dense_only]
#: Keys that a map of the kind "leaving" has beside, so that it is still leaving when the test gets it.
LEAVING_KEYS = range(-20_000, -14_000)
LEFT_FIRST = -(2**16)  # begins a page, however large that is
#: Keys of a case whose test asks for no number of them.
CASE_COUNT = {"growing": 300, "segments": 300}
#: Where files are soon written and soon gone.
MEMORY_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None


def plain(value: Any) -> str:
    """A name for a test of this value, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:60]


def rows_for(count: int, row_shape: tuple[int, ...] = (3,), dtype: Any = "float64", start: int = 1) -> np.ndarray:
    """`count` rows that differ from each other, whose numbers fit every dtype."""
    dtype = np.dtype(dtype)
    items = int(np.prod(row_shape))
    numbers = (np.arange(count * items).reshape(count, items) * 7 + np.arange(count)[:, None] * 3 + start) % 113
    if dtype.kind == "b":
        numbers = (numbers * 37 >> 2) & 1
    if dtype.kind in "mM":
        return numbers.astype("int64").view(dtype).reshape((count, *row_shape))
    return numbers.astype(dtype).reshape((count, *row_shape))


def build_map(
    kind: str,
    row_shape: Any = (3,),
    dtype: Any = "float64",
    keys: Any = (),
    rows: Any = None,
    cls: type[IntArrayMap] = IntArrayMap,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> IntArrayMap:
    """A map of this kind with exactly these rows; a growing one is in the middle of a doubling."""
    how = KINDS[kind]
    assert not (how.borrows and options), "a mapped file has no creation options"
    arguments.setdefault("index", how.index)
    m = cls(row_shape, dtype, _options={**how.options, **(options or {})}, **arguments)
    keys = [int(key) for key in keys]
    if rows is None:
        rows = rows_for(len(keys), m.row_shape, m.dtype)
    if kind == "left":
        leave_direct(m)
    if how.one_by_one:
        for key, row in zip(keys, rows, strict=True):
            m[key] = row
    elif keys:
        m.set_many(np.array(keys, dtype=np.int64), rows)
    if kind == "growing":
        grow_into_the_middle(m)
    return mapped(m) if kind == "mapped" else m


def leave_direct(m: IntArrayMap) -> None:
    """Dense, then sparse, then empty: a hash index over rows that a direct one has placed, all of them free.

    Whole pages, and the last row goes first, so that new keys come in the order of their insertion.
    """
    row = rows_for(1, m.row_shape, m.dtype)[0]
    m[LEFT_FIRST] = row
    dense = np.arange(LEFT_FIRST, LEFT_FIRST + max(64, m.stats().page_rows))
    m.set_many(dense, row)
    m[FAR_KEY] = row
    while m.index == "direct":
        m.pop(FAR_AWAY, None)
    del m[FAR_KEY]
    m.delete_many(dense[::-1])
    stats = m.stats()
    assert (m.index, len(m), stats.rows_used, stats.rows_free) == ("hash", 0, len(dense) + 1, len(dense) + 1)


def grow_into_the_middle(m: IntArrayMap) -> None:
    """On into the middle of a doubling, by keys that are gone again: what was split stays split.

    The last of them goes first. So the first free row is the first to be filled, and new keys still come in the order
    of their insertion.
    """
    row = rows_for(1, m.row_shape, m.dtype)[0]
    brought = []
    while not 0 < m.stats().evacuated < 1:
        brought.append(FAR_AWAY - len(brought))
        m[brought[-1]] = row
        assert len(brought) < 100_000, "never in the middle of growth"
    for key in reversed(brought):
        del m[key]
    stats = m.stats()
    assert 0 < stats.evacuated < 1, "deleting takes no bucket back"
    assert (stats.views, stats.rows_free) == (0, len(brought))


def mapped(m: IntArrayMap) -> IntArrayMap:
    """The same map out of a file, private and writable: its arrays begin in pages that are not its own."""
    with tempfile.TemporaryDirectory(prefix="intarraymap-test-", dir=MEMORY_FOLDER) as folder:
        path = os.path.join(folder, "map.iam")
        m.save(path)
        return type(m).open(path, mode="c")


@dataclass
class Case:
    """A map in an interesting state, and the dict it has to be equal to."""

    map: IntArrayMap
    model: dict[int, np.ndarray]

    def check(self, exact: bool = True) -> None:
        assert_same(self.map, self.model, exact=exact)

    def rows(self, keys: Any) -> np.ndarray:
        """The model's rows of these keys, as get_many would return them."""
        keys = np.asarray(keys)
        rows = np.empty((keys.size, *self.map.row_shape), self.map.dtype)
        for place, key in enumerate(keys.ravel().tolist()):
            rows[place] = self.model[key]
        return rows.reshape(keys.shape + self.map.row_shape)

    def update(self, keys: Any, rows: Any, op: str) -> None:
        apply(self.model, keys, rows, op, self.map.row_shape, self.map.dtype)


def build_case(
    kind: str, row_shape: Any = (3,), dtype: Any = "float64", count: int | None = None, **arguments: Any
) -> Case:
    """A map with keys 0 … count − 1 (at least 100 unless the test says how many), and none else but a leaving one's."""
    count = CASE_COUNT.get(kind, 100) if count is None else count
    build = leaving if kind == "leaving" else partial(build_map, kind)
    m = build(row_shape, dtype, range(count), **arguments)
    return Case(m, copy_of(m))


def build_leaving(row_shape: Any = (3,), dtype: Any = "float64", count: int = 100, **arguments: Any) -> Case:
    return build_case("leaving", row_shape, dtype, count, **arguments)


def leaving(row_shape: Any, dtype: Any, keys: Any, **arguments: Any) -> IntArrayMap:
    """An auto map that was dense and has just met a key far away: it is on its way from direct to hash."""
    m = build_map("leaving", row_shape, dtype, [*keys, *LEAVING_KEYS], **arguments)
    assert m.index == "direct", "dense single inserts stay direct"
    m[FAR_KEY] = rows_for(1, m.row_shape, m.dtype)[0]
    assert m.stats().leaving_direct, "leaving direct takes several steps"
    return m


def copy_of(m: IntArrayMap) -> dict[int, np.ndarray]:
    """An independent dict of a map's rows, read through the batch interface."""
    keys, rows = m.to_arrays()
    return dict(zip(keys.tolist(), rows, strict=True))


def apply(
    model: dict[int, np.ndarray], keys: Any, rows: Any, op: str, row_shape: tuple[int, ...], dtype: Any
) -> dict[int, np.ndarray]:
    """update_many, key by key, in NumPy's words."""
    keys = [int(key) for key in np.asarray(keys).ravel()]
    rows = np.asarray(rows, dtype=dtype)
    if rows.size == len(keys) * int(np.prod(row_shape)) and rows.ndim > 0:
        rows = rows.reshape((len(keys), *row_shape))
    rows = np.broadcast_to(rows, (len(keys), *row_shape))
    with np.errstate(all="ignore"):
        for key, row in zip(keys, rows, strict=True):
            if op == "set":
                model[key] = row.copy()
            elif key in model:
                model[key] = UFUNCS[op](model[key], row).astype(dtype, copy=False)
            else:
                model[key] = np.negative(row) if op == "sub" else row.copy()
    return model


def op_defined(op: str, dtype: Any) -> bool | None:
    """Promise §6; None where it says nothing."""
    kind = np.dtype(dtype).kind
    if op == "set":
        return True
    if kind == "b":
        return op in ("add", "and", "or", "xor")
    if kind in "iu":
        return True
    if kind == "f":
        return op not in ("and", "or", "xor")
    if kind == "c":
        return op in ("add", "sub", "mul")
    if kind == "M":
        return op in ("min", "max")
    return True if op in ("min", "max") else None


def bits(rows: np.ndarray) -> bytes:
    """The bytes of an array: tells −0.0 from 0.0 and one NaN from another."""
    return np.ascontiguousarray(rows).tobytes()


def equal(a: Any, b: Any, exact: bool = True) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if exact:
        return bits(a) == bits(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM")


def assert_same(m: IntArrayMap, model: dict[int, np.ndarray], exact: bool = True) -> None:
    """The map holds exactly what the dict holds, says so by every way of asking, and its invariants hold."""
    assert m._check() is None
    assert len(m) == len(model)
    assert bool(m) is bool(model)
    keys, rows = m.to_arrays()
    assert keys.dtype == np.int64
    assert rows.dtype == m.dtype
    assert rows.shape == (len(model), *m.row_shape)
    order = np.argsort(keys, kind="stable")
    expected_keys = sorted(model)
    assert keys[order].tolist() == expected_keys
    if model:
        expected = np.array([model[key] for key in expected_keys], dtype=m.dtype)
        assert equal(rows[order], expected, exact)
        asked = np.array(expected_keys, dtype=np.int64)
        assert equal(m.get_many(asked), expected, exact)
        assert m.contains_many(asked).all()
        for key in expected_keys[:: max(1, len(expected_keys) // 50)]:
            assert key in m
            assert equal(m[key], model[key], exact)
    assert list(m) == keys.tolist()


def random_keys(count: int, seed: int = 0) -> np.ndarray:
    """Distinct keys from all of int64."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.unique(rng.integers(KEY_MIN, KEY_MAX, count + 64, dtype=np.int64, endpoint=True))[:count])


def shuffled(keys: Any, seed: int = 0) -> list[int]:
    keys = list(keys)
    random.Random(seed).shuffle(keys)
    return keys
