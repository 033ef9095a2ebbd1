"""Promise §3: what may be written into a row, and that the numbers come out as they went in."""

from __future__ import annotations

import collections
import copy
import decimal
import fractions
import pickle

import numpy as np
import pytest
from model import DTYPES, bits, build_map, plain, rows_for


class Unregistered:
    """A sequence by its methods alone."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, place):
        return self.numbers[place]


#: Each of these puts one row at a key that is there.
PUTS = {
    "setitem": lambda m, row: m.__setitem__(1, row),
    "update": lambda m, row: m.update({1: row}),
    "update pairs": lambda m, row: m.update([(1, row)]),
    "set_many": lambda m, row: m.set_many([1], row),
    "update_many": lambda m, row: m.update_many([1], row, "set"),
    "setdefault": lambda m, row: (m.pop(1), m.setdefault(1, row)),
    "ensure_many": lambda m, row: (m.pop(1), m.ensure_many([1], row)),
}


@pytest.fixture(params=PUTS)
def put(request):
    return PUTS[request.param]


@pytest.fixture
def make_one():
    """The numbers let in do not depend on where the row lies: the long tables below are read out on one kind."""
    return lambda row_shape, dtype, keys: build_map("auto", row_shape, dtype, keys)


def fits(m, put, row, expected):
    m.setdefault(1)
    put(m, row)
    expected = np.asarray(expected, m.dtype)
    assert bits(m[1]) == bits(np.broadcast_to(expected, m.row_shape))


def refused(m, put, row, *errors, match=None):
    m.setdefault(1)
    before = bits(m[1])
    with pytest.raises(errors, match=match):
        put(m, row)
    if 1 in m:  # setdefault and ensure_many popped it first
        assert bits(m[1]) == before
    assert m._check() is None


class TestShape:
    @pytest.mark.parametrize("kind", ["float64", "int16", "complex64"])
    def test_exactly_row_shape(self, make_case, put, kind):
        m = make_case((2, 3), kind, 3).map
        fits(m, put, rows_for(3, (2, 3), kind)[2], rows_for(3, (2, 3), kind)[2])
        fits(m, put, rows_for(3, (2, 3), kind)[1].tolist(), rows_for(3, (2, 3), kind)[1])

    def test_scalar_fills(self, make_case, put):
        m = make_case((2, 3), "float64", 3).map
        for scalar in (7, 7.0, np.float32(7), np.int8(7), np.array(7.0), np.array(7)):
            m[1] = 0.0
            fits(m, put, scalar, np.full((2, 3), 7.0))

    @pytest.mark.parametrize(
        "shape", [(3,), (1,), (2,), (1, 3), (2, 1), (3, 2), (6,), (2, 3, 1), (2, 4), (0,), (2, 0), (0, 3)]
    )
    def test_no_other_broadcasting(self, make_case, put, shape):
        m = make_case((2, 3), "float64", 3).map
        refused(m, put, np.ones(shape), ValueError)
        refused(m, put, np.ones(shape).tolist(), ValueError)

    def test_one_item_rows(self, make_case):
        m = make_case((1,), "float64", 2).map
        for row in (np.ones(1), [1.0], 1.0):
            m[1] = 0
            m[1] = row
            assert m[1].tolist() == [1.0]
        for row in (np.ones((1, 1)), np.ones(2), np.ones(0), [[1.0]], []):
            refused(m, PUTS["setitem"], row, ValueError)

    def test_message_says_what_came(self, make_map):
        m = make_map((2, 3), "float64")
        with pytest.raises(
            ValueError, match=r"77.*\(2, 3\).*\(4,\)|\(4,\).*\(2, 3\).*77|77.*\(4,\).*\(2, 3\)|\(2, 3\).*\(4,\).*77"
        ):
            m[77] = np.ones(4)
        assert 77 not in m

    @pytest.mark.parametrize("row", [[1.0, [2.0, 3.0]], [[1.0], [2.0, 3.0]], [[1, 2, 3], [4, 5]]])
    def test_ragged(self, make_case, put, row):
        refused(make_case((2, 3), "float64", 2).map, put, row, ValueError, TypeError)


INTEGERS = [name for name in DTYPES if np.dtype(name).kind in "iu"]
FLOATS = ["float16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]


class TestPythonNumbers:
    """By value: they fit, or OverflowError; floats into integers TypeError."""

    @pytest.mark.parametrize("dtype", INTEGERS)
    def test_integers_at_the_edge(self, make_one, put, dtype):
        m = make_one((2,), dtype, [1])
        info = np.iinfo(dtype)
        for number in (info.min, info.max, 0, True):
            fits(m, put, number, number)
            fits(m, put, [number, 1], [number, 1])
        for number in (info.min - 1, info.max + 1, 2**64, -(2**63) - 1, 10**30):
            refused(m, put, number, OverflowError)
            refused(m, put, [0, number], OverflowError)
            refused(m, put, (number, 0), OverflowError)

    @pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
    @pytest.mark.parametrize("number", [1.0, 0.5, float("nan"), float("inf"), 1j, [1, 1.0], [1.0, 1.0], [True, 0.0]])
    def test_floats_into_integers(self, make_one, put, dtype, number):
        refused(make_one((2,), dtype, [1]), put, number, TypeError)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_into_floats(self, make_one, put, dtype):
        m = make_one((2,), dtype, [1])
        for number in (0.1, -0.0, float("inf"), float("-inf"), 3, True, -(2**10)):
            fits(m, put, number, number)
            fits(m, put, [number, 0.5], [number, 0.5])
        put(m, float("nan"))
        assert np.isnan(m[1]).all()

    @pytest.mark.parametrize(
        ("dtype", "number"),
        [("float16", 70000.0), ("float16", 70000), ("float32", 1e39), ("float32", -1e300), ("float32", 10**39)]
        + [
            ("float64", 10**309),
            ("float64", -(10**400)),
            ("complex64", 1e39),
            ("complex128", 10**400),
            ("complex64", 1e39j),
        ],
    )
    def test_too_large_for_the_float(self, make_one, put, dtype, number):
        m = make_one((2,), dtype, [1])
        refused(m, put, number, OverflowError)
        refused(m, put, [0, number], OverflowError)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_complex_into_floats(self, make_one, put, dtype):
        refused(make_one((2,), dtype, [1]), put, 1j, TypeError)
        refused(make_one((2,), dtype, [1]), put, [1.0, 1 + 0j], TypeError)

    @pytest.mark.parametrize("dtype", COMPLEX)
    def test_into_complex(self, make_one, put, dtype):
        m = make_one((2,), dtype, [1])
        for number in (1, 0.5, 1 - 2j, True):
            fits(m, put, number, number)
            fits(m, put, [number, 0], [number, 0])

    def test_into_bool(self, make_one, put):
        m = make_one((2,), "bool", [1])
        fits(m, put, True, True)
        fits(m, put, [True, False], [True, False])

    def test_exact_integers_beyond_2_to_53(self, make_one, put):
        m = make_one((2,), "int64", [1])
        fits(m, put, [2**53 + 1, -(2**62) - 1], [2**53 + 1, -(2**62) - 1])
        m = make_one((2,), "uint64", [1])
        fits(m, put, [2**64 - 1, 1], [2**64 - 1, 1])

    @pytest.mark.parametrize("kind", [collections.deque, collections.UserList, Unregistered])
    def test_sequences_that_are_no_lists(self, make_one, put, kind):
        """They were cast as arrays are: what does not fit became infinite, and large integers were refused."""
        for dtype, row in [("uint64", [2**64 - 1, 0]), ("bool", [1, 0]), ("int8", [-128, 7]), ("float64", [2**70, 1])]:
            fits(make_one(2, dtype, [1]), put, kind(row), row)
        m = make_one(2, "float32", [1])
        refused(m, put, kind([1e39, 0]), OverflowError, match=r"item 0: 1e\+39 does not fit float32")
        refused(m, put, kind([np.ma.masked_array(np.int8(1), True), 1]), TypeError, match="masked")
        refused(m, put, kind([1.0, kind([1.0])]), ValueError, match="inhomogeneous")

    def test_something_like_a_mapping(self, make_one, put):
        """NumPy asks it for item 0; that there is none is no missing key of ours."""

        class Like(Unregistered):
            def __getitem__(self, key):
                return {"a": 1.0, "b": 2.0}[key]

        refused(make_one(2, "float64", [1]), put, Like([1, 2]), TypeError, match="must be numbers, not Like")


class TestArrays:
    """Same-kind casts; integer narrowing only where every value fits."""

    @pytest.mark.parametrize("source", [name for name in DTYPES if np.dtype(name).kind in "biufc"])
    @pytest.mark.parametrize("target", [name for name in DTYPES if np.dtype(name).kind in "biufc"])
    def test_table(self, make_one, put, source, target):
        m = make_one((2,), target, [1])
        row = np.array([1, 0], source)
        kinds = np.dtype(source).kind, np.dtype(target).kind
        order = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
        if order[kinds[0]] <= order[kinds[1]]:
            fits(m, put, row, row.astype(target))
            fits(m, put, row[0], row.astype(target)[0])
        else:
            refused(m, put, row, TypeError)
            refused(m, put, row[0], TypeError)

    @pytest.mark.parametrize("source", INTEGERS)
    @pytest.mark.parametrize("target", INTEGERS)
    def test_integer_narrowing(self, make_one, put, source, target):
        m = make_one((2,), target, [1])
        low = max(np.iinfo(source).min, np.iinfo(target).min)
        high = min(np.iinfo(source).max, np.iinfo(target).max)
        fits(m, put, np.array([low, high], source), [low, high])
        for number in (low - 1, high + 1):
            if np.iinfo(source).min <= number <= np.iinfo(source).max:
                refused(m, put, np.array([0, number], source), OverflowError)
                refused(m, put, np.array([number, 0], source), OverflowError)
                refused(m, put, np.array(number, source), OverflowError)

    def test_float_narrowing_is_same_kind(self, make_one, put):
        m = make_one((2,), "float32", [1])
        fits(m, put, np.array([0.1, -2.5]), np.array([0.1, -2.5], "f4"))
        m = make_one((2,), "complex64", [1])
        fits(m, put, np.array([0.1, -2.5 + 1j]), np.array([0.1, -2.5 + 1j], "c8"))

    @pytest.mark.parametrize(
        "row",
        [
            np.array(["1", "2"]),
            np.array([b"1", b"2"]),
            np.array([1, 2], dtype=object),
            np.array([None, None]),
            np.array([(1,), (2,)], [("a", "f8")]),
            np.zeros(2, "V8"),
            ["1", "2"],
            [None, None],
            [1, None],
            [1, "2"],
            "12",
            "1",
            b"1",
            None,
            [decimal.Decimal(1), 2],
            decimal.Decimal(1),
            [fractions.Fraction(1, 2), 2],
            object(),
            [object(), 1],
            {1: 2, 3: 4},
            {1, 2},
        ],
        ids=plain,
    )
    @pytest.mark.parametrize("dtype", ["float64", "int32", "bool", "complex64", "datetime64[ns]"])
    def test_never_parsed(self, make_one, put, row, dtype):
        m = make_one((2,), dtype, [1])
        if put is PUTS["setdefault"] and row is None:
            pytest.skip("setdefault's own default may be None")
        refused(m, put, row, TypeError)

    def test_datetime(self, make_one, put):
        m = make_one((2,), "datetime64[ns]", [1])
        row = np.array(["2020-01-01", "NaT"], "M8[ns]")
        fits(m, put, row, row)
        fits(m, put, row.astype("M8[s]"), row)
        fits(m, put, row[0], row[0])
        for wrong in (
            np.array([1.0, 2.0]),
            np.array([1, 2], "m8[ns]"),
            np.array([1j, 2]),
            1.0,
            np.array([True, False]),
        ):
            refused(m, put, wrong, TypeError)

    def test_timedelta(self, make_one, put):
        m = make_one((2,), "timedelta64[s]", [1])
        row = np.array([5, -7], "m8[s]")
        fits(m, put, row, row)
        fits(m, put, np.array([5, -7], "m8[m]"), row * 60)
        for wrong in (np.array([1.0, 2.0]), np.array([1, 2], "M8[s]"), 1.0):
            refused(m, put, wrong, TypeError)

    @pytest.mark.parametrize("dtype", ["float64", "int32", "complex128"])
    def test_times_into_numbers(self, make_one, put, dtype):
        m = make_one((2,), dtype, [1])
        for wrong in (
            np.array([1, 2], "M8[s]"),
            np.array([1, 2], "m8[s]"),
            np.datetime64(1, "s"),
            np.timedelta64(1, "s"),
        ):
            refused(m, put, wrong, TypeError)


def sources(row: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in every layout NumPy knows."""
    count = row.size
    wide = np.zeros(3 * count, row.dtype)
    wide[::3] = row
    frozen = row.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"x" + row.tobytes(), row.dtype, offset=1)
    record = np.zeros(count, [("pad", "u1"), ("x", row.dtype)])
    record["x"] = row
    broad = np.broadcast_to(row, (4, count))[2]
    return {
        "strided": wide[::3],
        "reversed": row[::-1].copy()[::-1],
        "read only": frozen,
        "unaligned": unaligned,
        "field": record["x"],
        "swapped": row.astype(row.dtype.newbyteorder("S")),
        "swapped and strided": wide.astype(row.dtype.newbyteorder("S"))[::3],
        "broadcast": broad,
        "subclass": row.view(type("Child", (np.ndarray,), {})),
    }


class TestSources:
    @pytest.mark.parametrize("dtype", ["float64", "int16", "complex64", "float16", "datetime64[ns]"])
    def test_every_layout_is_read_correctly(self, make_case, put, dtype):
        m = make_case((5,), dtype, 2).map
        row = rows_for(2, (5,), dtype)[1]
        for name, source in sources(row).items():
            m[1] = rows_for(1, (5,), dtype)[0]
            put(m, source)
            assert bits(m[1]) == bits(row), name

    def test_fortran_order(self, make_case, put):
        m = make_case((3, 4), "float64", 2).map
        row = rows_for(1, (3, 4))[0]
        fits(m, put, np.asfortranarray(row), row)
        fits(m, put, row.T.copy().T, row)
        fits(m, put, row[::-1, ::-1].copy()[::-1, ::-1], row)

    def test_the_maps_own_views(self, make_case):
        case = make_case((5,), count=100)
        m, model = case.map, case.model
        m[2] = m[1]
        model[2] = model[1].copy()
        m[3] = m[3]
        m[4] = m[4][::-1]
        model[4] = model[4][::-1].copy()
        m[100_000] = m[5]
        model[100_000] = model[5].copy()
        m.set_many([6, 7], np.stack([m[7], m[6]]))
        model[6], model[7] = model[7], model[6]
        m[8] = m[9][2]
        model[8] = np.full(5, model[9][2])
        case.check()

    def test_the_maps_own_view_while_it_grows(self, make_case):
        """The row that is read lies in the storage that grows for the row that is written."""
        m = make_case((4,), count=1).map
        first = m[0].copy()
        for key in range(1, 3000):
            m[key] = m[key - 1]
        assert (m.get_many(np.arange(3000)) == first).all()

    def test_copies_the_numbers_in(self, make_case, put):
        m = make_case((3,), count=2).map
        row = np.array([1.0, 2.0, 3.0])
        put(m, row)
        row[:] = 0
        assert m[1].tolist() == [1.0, 2.0, 3.0]
        assert not np.shares_memory(m[1], row)


class TestReadModifyWrite:
    """Promise §3's three examples, as with a dict of arrays."""

    def test_item(self, make_case):
        case = make_case((4,))
        case.map[3][3] += 1
        case.model[3][3] += 1
        case.check()

    def test_row(self, make_case):
        case = make_case((4,))
        row = rows_for(1, (4,))[0]
        case.map[3] += row
        case.model[3] += row
        case.check()

    def test_setdefault(self, make_case):
        case = make_case((4,))
        case.map.setdefault(50_000)[0] = 7
        case.model[50_000] = np.array([7.0, 0, 0, 0])
        case.check()

    def test_missing(self, make_map):
        m = make_map((4,))
        with pytest.raises(KeyError):
            m[3] += 1
        assert len(m) == 0

    def test_integer_wraps_in_the_view_as_numpy_does(self, make_case):
        m = make_case((2,), "uint8", 2).map
        m[1] = 255
        m[1] += np.uint8(1)
        assert m[1].tolist() == [0, 0]


#: Bit patterns no arithmetic may touch: quiet and signalling NaNs with payloads, −0.0, denormals, infinities.
PATTERNS = {
    "float16": np.array([0x7E01, 0x7D01, 0xFE55, 0x8000, 0x0001, 0x7C00], "u2"),
    "float32": np.array([0x7FC00001, 0x7FA00001, 0xFFC12345, 0x80000000, 0x00000001, 0xFF800000], "u4"),
    "float64": np.array(
        [0x7FF8000000000001, 0x7FF4000000000001, 0xFFF8123456789ABC, 0x8000000000000000, 0x1, 0xFFF0000000000000], "u8"
    ),
    "datetime64[ns]": np.array([2**63, 1, 0, 2**63 + 1, 2**64 - 1, 2**63 - 1], "u8"),
}
PATTERNS["complex64"] = np.repeat(PATTERNS["float32"], 2)
PATTERNS["complex128"] = np.repeat(PATTERNS["float64"], 2)


class TestBitsSurvive:
    @pytest.mark.parametrize("dtype", PATTERNS)
    def test_everything(self, make_map, dtype):
        row = PATTERNS[dtype].view(dtype)
        m = make_map(row.shape, dtype)
        keys = np.arange(200)
        m[0] = row
        m.set_many(keys[1:100], np.broadcast_to(row, (99, *row.shape)))
        m.set_many(keys[100:150], row)
        m.update({150: row})
        m.update([(151, row)])
        m.setdefault(152, row)
        m.ensure_many(keys[153:190], row)
        m.update_many(keys[190:195], row, "set")
        m.update_many(keys[195:], row, "min" if not dtype.startswith("complex") else "add")
        copies = [m, m.copy(), copy.deepcopy(m), type(m).from_arrays(*m.to_arrays()), m | {}]
        copies += [pickle.loads(pickle.dumps(m, protocol)) for protocol in (2, 3, 4, 5)]
        merged = type(m)(row.shape, dtype)
        merged.merge(m)
        copies.append(merged)
        m.compact()
        m.reserve(5000)
        for other in copies:
            assert len(other) == 200
            assert bits(other.get_many(keys)) == bits(row) * 200
            assert bits(other.to_arrays()[1]) == bits(row) * 200
        assert bits(m[0]) == bits(row)
        assert all(bits(view) == bits(row) for view in m.values())
        assert bits(m.get_many(np.array([-1]), row)) == bits(row)
        out = np.empty((1, *row.shape), dtype)
        m.get_many([7], out=out)
        assert bits(out) == bits(row)
        assert bits(m.pop(0)) == bits(row)
        assert bits(m.popitem()[1]) == bits(row)
        assert bits(m.pop_many([5, 6])) == bits(row) * 2

    @pytest.mark.parametrize("source", ["strided", "reversed", "unaligned", "field", "swapped", "swapped and strided"])
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
    def test_sources(self, make_case, put, dtype, source):
        row = PATTERNS[dtype].view(dtype)
        m = make_case(row.shape, dtype, 2).map
        put(m, sources(row)[source])
        assert bits(m[1]) == bits(row)


class TestNewRowsAreZero:
    def test_reused_row(self, make_case):
        case = make_case((4,), count=100)
        m = case.map
        for key in range(100):
            m[key][:] = 77.0
        m.delete_many(np.arange(50))
        for key in range(50, 100):
            m[key][:] = 77.0
        for key in range(50):
            assert m.setdefault(key).tolist() == [0.0] * 4
        m.delete_many(np.arange(50))
        numbers, created = m.ensure_many(np.arange(50))
        assert created.all()
        assert not m.get_many(np.arange(50)).any()
        m.delete_many(np.arange(50))
        m.add_many(np.arange(50), 3.0)
        assert (m.get_many(np.arange(50)) == 3.0).all()
        m.delete_many(np.arange(50))
        m.add_at(np.arange(50), 1, 5.0)
        assert (m.get_many(np.arange(50)) == [0.0, 5.0, 0.0, 0.0]).all()


@pytest.mark.parametrize("source", ["M8[0s]", "M8[0Y]", "m8[0ns]"])
def test_times_of_no_steps_ended_the_process(make_one, put, source):
    row = np.array([5, 6], "i8").view(source)
    for unit in ("s", "7D", "Y"):
        m = make_one((2,), f"{source[:2]}[{unit}]", [1])
        refused(m, put, row, TypeError)
        refused(m, put, row[0], TypeError)


def years(days: int) -> int:
    """By the calendar's turn of 400 years, so that NumPy has small numbers only."""
    turns, rest = divmod(days, 400 * 365 + 97)
    return 400 * turns + np.datetime64(rest, "D").astype("M8[Y]").view("i8").item()


#: Number, its unit, the map's unit, and the number that is right; None: none is.
UNITS = [
    (10**7, "m8[3h]", "m8[7ns]", None),
    (10**5, "m8[3h]", "m8[7ns]", 10**5 * 3 * 3600 * 10**9 // 7),
    (2**62, "m8[3s]", "m8[2s]", 2**62 * 3 // 2),
    (2**62 + 1, "m8[2s]", "m8[3s]", (2**62 + 1) * 2 // 3),
    (-(2**63) + 5, "M8[ns]", "M8[h]", (-(2**63) + 5) // (3600 * 10**9)),
    (-(2**63) + 5, "M8[D]", "M8[Y]", years(-(2**63) + 5)),
    (2**60, "M8[2W]", "M8[7D]", 2**61),
    (2**62, "M8[W]", "M8[M]", None),
    (1, "m8[W]", "m8[as]", None),
    (0, "m8[W]", "m8[as]", 0),
    (2**62, "m8[as]", "m8[W]", 0),
    (-1, "m8[as]", "m8[W]", -1),
    (330, "M8[Y]", "M8[7ns]", np.datetime64("2300-01-01", "us").view("i8").item() * 1000 // 7),
    (330, "M8[Y]", "M8[ns]", None),
    (2**62, "M8[Y]", "M8[M]", None),
]


@pytest.mark.parametrize(("number", "source", "target", "right"), UNITS)
def test_times_of_another_unit_wrapped(make_one, put, number, source, target, right):
    row = np.array([number, 0], "i8").view(source)
    m = make_one((2,), target, [1])
    if right is None:
        refused(m, put, row, OverflowError, match="does not fit")
    else:
        fits(m, put, row, np.array([right, 0], "i8").view(target))
    fits(m, put, np.array(["NaT", "NaT"], source), np.array(["NaT", "NaT"], target))


@pytest.mark.parametrize("dtype", FLOATS)
def test_by_value_within_objects_numbers_were_cut(make_one, put, dtype):
    """An integer beyond 64 bits makes objects of a list; each is judged for itself all the same."""
    m = make_one((2,), dtype, [1])
    far = 10**30 if dtype != "float16" else 2**15
    refused(m, put, [far, np.complex128(1 + 2j)], TypeError)
    refused(m, put, [10**30, np.complex64(1)], TypeError)
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        refused(m, put, [10**30, np.longdouble("1e4000")], OverflowError)
    if dtype != "float16":
        fits(m, put, [far, np.longdouble("inf")], [far, np.inf])
        fits(m, put, [far, np.True_], [far, 1])


def test_by_value_within_objects_complex_numbers_were_cut(make_one, put):
    m = make_one((2,), "complex128", [1])
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        refused(m, put, [10**30, np.clongdouble(np.longdouble("1e4000"))], OverflowError)
    fits(m, put, [10**30, np.complex64(1 + 2j)], [1e30, 1 + 2j])


def test_masked_numbers_within_a_list_were_stored(make_map, put):
    m = make_map((2,), "float64", [1])
    masked = np.ma.array([1.0, 2.0], mask=[0, 1])
    for row in ([np.ma.masked, 1.0], (1.0, masked[1]), [[masked]], [masked, masked]):
        refused(m, put, row, TypeError, match="masked")
    fits(m, put, [np.ma.array(1.0), 2.0], [1.0, 2.0])
    fits(m, put, [np.nan, 2.0], [np.nan, 2.0])
    long = make_map((100,), "float64", [1])
    refused(long, put, [np.ma.masked] * 100, TypeError, match="masked")
    refused(long, put, type("Child", (list,), {})([1.0] * 99 + [np.ma.masked]), TypeError, match="masked")
    fits(long, put, [np.nan] * 100, [np.nan] * 100)
    with pytest.raises(TypeError, match="masked"):
        m.set_many([1, 2], [[1.0, 2.0], masked])


@pytest.mark.parametrize("dtype", ["bool", "int8", "complex64", "datetime64[s]"])
def test_single_masked_numbers_within_a_list_were_stored(make_one, put, dtype):
    """Those that NumPy makes no NaN of."""
    m = make_one((2,), dtype, [1])
    one = np.ones((), dtype)
    hidden = np.ma.array(one, mask=True)
    for row in ([hidden, one[()]], [np.ma.masked, one[()]], [one[()], hidden]):
        refused(m, put, row, TypeError, match="masked")
    fits(m, put, [np.ma.array(one), one[()]], [one, one])


def test_a_list_that_holds_masked_numbers_and_itself(make_map):
    """Where they are looked for is not for ever."""
    m = make_map((2,), keys=[1])
    row = [np.ma.masked, 1.0]
    row.append(row)
    with pytest.raises(TypeError, match="masked"):
        m[1] = row


def test_numpys_masked_arrays_are_not_imported(run_child):
    run_child(
        """
        import sys
        import numpy as np
        before = "numpy.ma" in sys.modules
        from intarraymap import IntArrayMap
        m = IntArrayMap.from_arrays(np.array([1, 2], "i4"), [[1, 2], [3, 4]])
        m.set_many([3, 4], [[1, 2], [3, 4]])
        assert len(m) == 4 and ("numpy.ma" in sys.modules) == before
        """
    )
