"""Promise §1, §7: sizes whose arithmetic would wrap, and arrays that claim more than any memory holds.

In child processes with a limit on their address space, so that what should be refused is refused and not granted.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from model import copy_of

from intarraymap import IntArrayMap
from intarraymap._binding import Table

LIMITED = """
import resource
import numpy as np
from intarraymap import IntArrayMap
now = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (now + (600 << 20), resource.RLIM_INFINITY))

def refused(call, error):
    try:
        call()
    except error:
        return
    raise AssertionError(f"granted, instead of {error}")
"""

GREAT = [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, 2**64 + 3, 10**30]


@pytest.mark.parametrize("length", GREAT)
@pytest.mark.parametrize(
    "shape", [lambda n: n, lambda n: (n,), lambda n: (n, 2), lambda n: (2, n), lambda n: (n, n, n)]
)
def test_row_shape(length, shape):
    """More than 2^31 - 1 items: said before anything is allocated. So many of one byte are still too many bytes."""
    for dtype in ("int8", "float64", "complex128"):
        with pytest.raises(OverflowError, match="too large"):
            IntArrayMap(shape(length), dtype)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "float64", "complex128"])
def test_a_row_of_one_gibibyte_at_most(dtype):
    itemsize = np.dtype(dtype).itemsize
    most = 2**30 // itemsize
    assert IntArrayMap(most, dtype).row_shape == (most,)
    assert IntArrayMap((2, most // 2), dtype).nbytes < 2**28
    for shape in (most + 1, (most, 2), (2**15 + 1, 2**15)):
        with pytest.raises(OverflowError, match="too large"):
            IntArrayMap(shape, dtype)


def test_axes():
    assert IntArrayMap((1,) * 63).row_shape == (1,) * 63
    with pytest.raises(ValueError, match="63"):
        IntArrayMap((1,) * 64)
    with pytest.raises(ValueError, match="63"):
        IntArrayMap((1,) * 10_000)
    m = IntArrayMap((1, 2))
    m[5] = 1.0
    keys = np.full((1,) * 62, 5)
    assert m.get_many(keys).ndim == 64
    for axes in (63, 64):
        for call in (m.get_many, m.pop_many):
            with pytest.raises(ValueError, match="64"):
                call(np.full((1,) * axes, 5))
    assert len(m) == 1


@pytest.mark.parametrize("rows", ["1, 'int8'", "3", "2**17", "2**27", "2**30, 'int8'", "(1,) * 63, 'bool'"])
@pytest.mark.parametrize("index", ["hash", "direct", "auto"])
def test_capacity_and_reserve(run_child, rows, index):
    """Rows times their number beyond every address: MemoryError, the map as before, and small again works."""
    run_child(
        LIMITED
        + f"""
make = lambda **more: IntArrayMap({rows}, index={index!r}, **more)
for count in (2**32 - 2, 2**32 - 3, 2**31, 2**31 + 1, 10**9):
    refused(lambda: make(capacity=count), MemoryError)
for count in (2**32 - 1, 2**32, 2**33, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, 2**64 + 1, 10**40):
    refused(lambda: make(capacity=count), OverflowError)
m = make()
if m.dtype.itemsize * int(np.prod(m.row_shape)) <= 2**20:
    m[5] = 1
    before = m.to_arrays(), m.nbytes
    for count in (2**32 - 2, 2**31, 10**9):
        refused(lambda: m.reserve(count), MemoryError)
    for count in (2**32 - 1, 2**32, 2**63, 2**64 + 9):
        refused(lambda: m.reserve(count), OverflowError)
    assert m.nbytes <= before[1] * 2 + 2**20
    assert [part.tobytes() for part in m.to_arrays()] == [part.tobytes() for part in before[0]]
    m[6] = 1
    m.reserve(20)
    assert len(m) == 2 and m._check() is None
"""
    )


BATCHES = """
m = IntArrayMap(SHAPE, index=INDEX)
m.set_many(np.arange(10), 1.0)
before = m.to_arrays()
five = np.array(5)
for count in (2**36, 2**40, 2**59, 2**60 - 1):
    keys = np.broadcast_to(five, (count,))
    rows = np.broadcast_to(np.array(1.0), (count, *m.row_shape)) if count * 8 * 8 < 2**63 else 1.0
    for call in (
        lambda: m.get_many(keys), lambda: m.get_many(keys, 0.0, return_mask=True), lambda: m.contains_many(keys),
        lambda: m.index_many(keys), lambda: m.set_many(keys, 1.0), lambda: m.set_many(keys, rows),
        lambda: m.add_many(keys, 1.0), lambda: m.update_many(keys, rows, "max"), lambda: m.add_at(keys, 0),
        lambda: m.delete_many(keys), lambda: m.pop_many(keys, 0.0), lambda: m.ensure_many(keys),
        lambda: IntArrayMap.from_arrays(keys, rows), lambda: m.set_many(keys.astype("i1", copy=False), 1.0),
        lambda: m.get_many(keys.reshape(2, -1) if count % 2 == 0 else keys),
    ):
        refused(call, MemoryError)
    assert [part.tobytes() for part in m.to_arrays()] == [part.tobytes() for part in before]
for keys in (range(2**36), range(2**62), range(-2**63, 2**63), range(0, 2**63 - 1, 3), range(2**63 - 1, -2**63, -1)):
    for call in (m.get_many, m.contains_many, m.delete_many, lambda keys: m.set_many(keys, 1.0)):
        refused(lambda: call(keys), MemoryError)
assert m.contains_many(range(5, 2**80, 2**79)).tolist() == [True, False]
assert m.contains_many(range(-2**63, 2**63, 2**63)).tolist() == [False, True]
small = np.arange(10)
for wrong in (np.broadcast_to(np.array(1.0), (2**40,)), np.broadcast_to(np.array(1.0), (2**31, 2**28))):
    for call in (
        lambda: m.__setitem__(5, wrong), lambda: m.__setitem__(50, wrong), lambda: m.set_many(small, wrong),
        lambda: m.get_many(small, wrong), lambda: m.ensure_many(small, wrong), lambda: m.setdefault(50, wrong),
        lambda: m.update({5: wrong}), lambda: IntArrayMap.from_arrays(small, wrong),
        lambda: m.get_many(small, out=wrong),
    ):
        refused(call, ValueError)
    ones = np.broadcast_to(np.array(1), wrong.shape)
    for call, error in (
        (lambda: m.add_at(small, 0, wrong), ValueError),
        (lambda: m.add_at(small, ones), ValueError),
        (lambda: IntArrayMap.fromkeys(small, wrong), OverflowError),
    ):
        refused(call, error)
assert [part.tobytes() for part in m.to_arrays()] == [part.tobytes() for part in before]
assert m._check() is None and m.stats().views == 0
"""


@pytest.mark.parametrize("shape", ["1", "3", "(2, 2)"])
@pytest.mark.parametrize("index", ["hash", "direct"])
def test_batches_of_more_than_there_is(run_child, index, shape):
    """Arrays of stride 0, which cost nothing and claim everything."""
    run_child(LIMITED + BATCHES.replace("SHAPE", shape).replace("INDEX", repr(index)))


@pytest.mark.parametrize("shape", [(0, 2**31), (2**31, 0), (0, 2**62), (0, 2**31, 2**31), (2**20, 0, 2**20)])
def test_no_keys_of_enormous_shape(make_map, shape):
    """No key at all, in an array whose axes multiply to more than 64 bits: alone, or once the row's are there.

    NumPy has no array of int64 for the one sort, and the answer to the other is empty.
    """
    m = make_map((2**20, 3), "int8", keys=[1])
    before = copy_of(m)
    keys = np.broadcast_to(np.zeros((), "i1"), shape)
    for call in (
        lambda: m.get_many(keys),
        lambda: m.pop_many(keys),
        lambda: m.contains_many(keys),
        lambda: m.delete_many(keys),
        lambda: m.set_many(keys, 1),
        lambda: m.add_at(keys, 0),
        lambda: m.ensure_many(keys),
    ):
        if math.prod(length or 1 for length in shape) * 8 < 2**63:
            call()
        else:
            with pytest.raises(ValueError, match="too big"):
                call()
    assert copy_of(m).keys() == before.keys()
    assert m._check() is None


@pytest.mark.parametrize(
    "item", [3, 2**31, 2**32, 2**32 + 1, 2**61, 2**63 - 1, 2**63, 2**64, 2**64 + 1, -1, -(2**63), -(2**64)]
)
def test_items_that_would_wrap_into_the_row(make_map, item):
    m = make_map((3,), "float64", range(10))
    before = copy_of(m)
    for items in (item, [item], [0, item]):
        keys = [5, 6] if items == [0, item] else [5]
        with pytest.raises(ValueError, match="items") as raised:
            m.add_at(keys, items)
        assert str(item) in str(raised.value)
    assert all((m[key] == row).all() for key, row in before.items())


@pytest.mark.parametrize("rows", [(0, 2**31), (0, 2**40), (0, 2**62), (0, 2**20, 2**20)])
def test_from_arrays_without_rows_of_enormous_shape(rows):
    with pytest.raises(OverflowError, match="too large"):
        IntArrayMap.from_arrays(np.empty(0, "i8"), np.broadcast_to(np.zeros((), "i1"), rows))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (-1,), (2**62,), (2**40, 2**40), (2**16, 2**16), (2**32, 2**32)])
def test_a_table_made_by_hand_with_rows_of_no_size(shape):
    """The binding's own type, which coerce.row_shape is not asked for: a row of nothing was divided by."""
    with pytest.raises(ValueError, match="row_shape must be of ints >= 1"):
        Table(shape, np.dtype("f8"), 0, "auto", 0, None)
    m = IntArrayMap.__new__(IntArrayMap)
    with pytest.raises(ValueError, match="row_shape"):
        super(IntArrayMap, m).__init__(shape, np.dtype("f8"), 0, "auto", 0, None)
    with pytest.raises(RuntimeError, match="not initialised"):
        len(m)


def test_a_table_made_by_hand_with_lengths_that_lie():
    """They are made integers once, and those are looked at."""

    class Lies(int):
        def __le__(self, other):
            return True

        __ge__ = __lt__ = __gt__ = __le__

    class Grows:
        count = 0

        def __index__(self):
            self.count += 1
            return 1 if self.count == 1 else 4096

    for length in (0, -1, 2**33):
        with pytest.raises(ValueError, match="row_shape must be of ints >= 1"):
            Table((Lies(length),), np.dtype("f8"), 0, "auto", 0, None)
    with pytest.raises(TypeError):
        Table((1.5,), np.dtype("f8"), 0, "auto", 0, None)
    table = Table((Grows(),), np.dtype("f8"), 0, "auto", 0, None)
    table[1], table[2] = 1.0, 2.0
    assert table[1].tolist() == [1.0] and table[2].tolist() == [2.0]
