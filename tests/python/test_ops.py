"""Promise §6: which operations there are on which dtype, and that each gives NumPy's numbers."""

from __future__ import annotations

import enum
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from model import DTYPES, KINDS, OPS, apply, bits, build_case, build_map, copy_of, equal, op_defined, rows_for

from intarraymap import IntArrayMap

DEFINED = [(op, dtype) for dtype in DTYPES for op in OPS if op_defined(op, dtype)]
UNDEFINED = [(op, dtype) for dtype in DTYPES for op in OPS if op_defined(op, dtype) is False]
LETTERS = [f"{op}-{dtype}" for op, dtype in DEFINED]


def edges(dtype):
    """Numbers at which arithmetic goes wrong."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([True, False])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.min, info.max, 0, 1, info.max // 2, info.min // 2 - 1 if info.min else 3, 2, 7], dtype)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return np.array([0.0, -0.0, 1.5, -2.25, info.max, info.min, info.tiny, np.inf, -np.inf, np.nan, 0.1], dtype)
    if dtype.kind == "c":
        return np.array([0, 1, 1j, -1.5 + 2j, 0.1 - 0.3j, 1e10 + 1e-10j, -7], dtype)
    return np.array([0, 1, -1, 2**62, -(2**62), -(2**63), 2**63 - 1, 5], "i8").view(dtype)


def pairs(dtype):
    """Every edge beside every other."""
    numbers = edges(dtype)
    a, b = np.meshgrid(numbers, numbers)
    return a.ravel(), b.ravel()


def numpys(op, a, b):
    model = apply({0: a}, [0], b[None], op, a.shape, a.dtype)
    return model[0]


class TestTable:
    @pytest.mark.parametrize(("op", "dtype"), DEFINED, ids=LETTERS)
    def test_as_numpy(self, make_map, op, dtype):
        a, b = pairs(dtype)
        m = make_map(a.shape, dtype, [0, 1, 2], np.array([a, b, a]))
        m.update_many([0], b, op)
        expected = numpys(op, a, b)
        exact = np.dtype(dtype).kind not in "fc"
        if np.dtype(dtype).kind == "c" and op == "mul":
            assert np.allclose(m[0], expected, rtol=1e-6, atol=0)
        else:
            assert equal(m[0], expected, exact)
        assert equal(m[1], b)
        assert equal(m[2], a)

    @pytest.mark.parametrize(("op", "dtype"), DEFINED, ids=LETTERS)
    def test_missing_key_takes_the_row_itself(self, make_map, op, dtype):
        a, b = pairs(dtype)
        m = make_map(b.shape, dtype, [0], a[None])
        m.update_many([5], b, op)
        if op == "sub":
            with np.errstate(all="ignore"):
                assert equal(m[5], np.negative(b), exact=False)
        else:
            assert bits(m[5]) == bits(b)
        assert equal(m[0], a)

    @pytest.mark.parametrize(("op", "dtype"), DEFINED, ids=LETTERS)
    def test_duplicates_in_order(self, make_case, op, dtype):
        case = make_case((3,), dtype)
        rng = np.random.default_rng(11)
        keys = rng.integers(0, 120, 600)
        rows = rows_for(600, (3,), dtype)
        rows = rows[rng.permutation(600)]
        if op == "mul" and np.dtype(dtype).kind in "fc":
            rows = (rows % 3).astype(dtype) if np.dtype(dtype).kind == "f" else rows * 0 + 1
        case.map.update_many(keys, rows, op)
        case.update(keys, rows, op)
        case.check(exact=np.dtype(dtype).kind not in "fc")

    @pytest.mark.parametrize(("op", "dtype"), DEFINED, ids=LETTERS)
    def test_one_row_and_scalar(self, make_map, op, dtype):
        rows = rows_for(5, (4,), dtype)
        m = make_map((4,), dtype, range(4), rows[:4])
        model = copy_of(m)
        m.update_many([0, 1, 9, 0], rows[4], op)
        apply(model, [0, 1, 9, 0], rows[4], op, (4,), dtype)
        m.update_many([2, 3, 3], rows[4][0], op)
        apply(model, [2, 3, 3], np.full(4, rows[4][0]), op, (4,), dtype)
        assert all(equal(m[key], row, exact=False) for key, row in model.items())

    @pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100])
    @pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "uint8", "float16"])
    def test_every_width(self, width, dtype):
        """Vector loops have tails."""
        for op in ("add", "sub", "min", "max", "mul"):
            a, b = rows_for(2, (width,), dtype)
            m = build_map("hash", (width,), dtype, [0], a[None])
            m.update_many([0], b, op)
            assert equal(m[0], numpys(op, a, b), exact=False)

    @pytest.mark.parametrize("simd", ["scalar", "baseline", "avx2"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_simd_level_agrees(self, simd, dtype):
        a, b = pairs(dtype)
        for op in OPS:
            if not op_defined(op, dtype):
                continue
            one = build_map("hash", a.shape, dtype, [0], a[None])
            two = build_map("hash", a.shape, dtype, [0], a[None], options={"simd": simd})
            one.update_many([0, 1], b, op)
            two.update_many([0, 1], b, op)
            assert equal(one[0], two[0], exact=False)
            assert equal(one[1], two[1], exact=False)


class TestUndefined:
    @pytest.mark.parametrize(("op", "dtype"), UNDEFINED, ids=[f"{op}-{dtype}" for op, dtype in UNDEFINED])
    def test_type_error_before_anything_changes(self, make_case, op, dtype):
        case = make_case((2,), dtype)
        row = rows_for(1, (2,), dtype)
        with pytest.raises(TypeError, match=op):
            case.map.update_many([5, 300], row[0], op)
        with pytest.raises(TypeError):
            case.map.update_many([], np.empty((0, 2), dtype), op)
        with pytest.raises(TypeError):
            case.map.merge(build_map("hash", (2,), dtype, [5, 300]), op)
        with pytest.raises(TypeError):
            case.map.merge(IntArrayMap(2, dtype), op)
        case.check()

    @pytest.mark.parametrize("op", ["add_many", "add_at"])
    def test_adding_dates(self, make_case, op):
        case = make_case((2,), "datetime64[ns]")
        row = rows_for(1, (2,), "datetime64[ns]")[0]
        with pytest.raises(TypeError, match=r"^'add' is not defined on datetime64\[ns\]$"):
            if op == "add_many":
                case.map.add_many([5, 300], row)
            else:
                case.map.add_at([5, 300], [0, 1], row[0])
        case.check()

    @pytest.mark.parametrize("op", ["", "plus", "SET", "add ", "div", "+"])
    def test_unknown(self, make_case, op):
        case = make_case()
        with pytest.raises(ValueError, match="add"):
            case.map.update_many([5], 1.0, op)
        with pytest.raises(ValueError, match="add"):
            case.map.merge(case.map, op)
        case.check()

    @pytest.mark.parametrize("op", [None, 1, b"add", ["add"], np.add])
    def test_no_string(self, make_case, op):
        case = make_case()
        with pytest.raises(TypeError, match="op must be a string"):
            case.map.update_many([5], 1.0, op)
        case.check()

    def test_op_is_required(self, make_case):
        case = make_case()
        with pytest.raises(TypeError):
            case.map.update_many([5], 1.0)
        case.check()


class TestIntegersWrap:
    @pytest.mark.parametrize("dtype", [name for name in DTYPES if np.dtype(name).kind in "iu"])
    def test_at_both_ends(self, make_map, dtype):
        info = np.iinfo(dtype)
        m = make_map((1,), dtype, [0, 1, 2, 3], np.array([[info.max], [info.min], [info.max], [info.min]], dtype))
        one = np.ones(1, dtype)
        m.update_many([0], one, "add")
        m.update_many([1], one, "sub")
        m.update_many([2], one + one, "mul")
        m.update_many([5], np.array([info.min], dtype), "sub")
        m.add_many([3, 3], np.array([info.max], dtype))
        with np.errstate(over="ignore"):
            low, high = np.array([info.min], dtype), np.array([info.max], dtype)
            assert m[0].tolist() == (high + one).tolist() == [info.min]
            assert m[1].tolist() == (low - one).tolist() == [info.max]
            assert m[2].tolist() == (high * (one + one)).tolist()
            assert m[5].tolist() == np.negative(low).tolist()
            assert m[3].tolist() == (low + high + high).tolist()

    def test_add_at_wraps(self, make_map):
        m = make_map((2,), "int8", [1], [[127, 0]])
        m.add_at([1, 1], [0, 1], [1, -128])
        assert m[1].tolist() == [-128, -128]


class TestNan:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("op", ["min", "max"])
    def test_propagates_from_either_side(self, make_map, op, dtype):
        a = np.array([np.nan, 1.0, np.nan, -np.inf, np.nan, np.inf, 2.0], dtype)
        b = np.array([1.0, np.nan, np.nan, np.nan, np.inf, np.nan, 3.0], dtype)
        m = make_map((7,), dtype, [0], a[None])
        m.update_many([0], b, op)
        assert np.isnan(m[0]).tolist() == [True] * 6 + [False]
        m.update_many([0], np.zeros(7, dtype), op)
        assert np.isnan(m[0]).tolist() == [True] * 6 + [False]

    @pytest.mark.parametrize("dtype", ["datetime64[ns]", "timedelta64[s]", "datetime64[D]"])
    @pytest.mark.parametrize("op", ["min", "max"])
    def test_not_a_time_propagates(self, make_map, op, dtype):
        a = np.array([-(2**63), 5, -(2**63), 7], "i8").view(dtype)
        b = np.array([3, -(2**63), -(2**63), 9], "i8").view(dtype)
        m = make_map((4,), dtype, [0], a[None])
        m.update_many([0], b, op)
        assert np.isnat(m[0]).tolist() == [True, True, True, False]
        assert m[0][3] == (b[3] if op == "max" else a[3])


class TestBool:
    def test_add_is_or(self, make_map):
        m = make_map((4,), "bool", [0], [[False, False, True, True]])
        m.add_many([0, 0], [False, True, False, True])
        assert m[0].tolist() == [False, True, True, True]
        m.add_at([0], [0], True)
        assert m[0].tolist() == [True] * 4

    def test_stays_zero_or_one(self, make_map):
        m = make_map((4,), "bool", [0], [[True, True, False, False]])
        for op in ("add", "and", "or", "xor", "set"):
            m.update_many([0, 0, 7, 7], [True, False, True, False], op)
            assert set(m.to_arrays()[1].view("u1").ravel().tolist()) <= {0, 1}


class TestFloat16:
    def test_rounds_after_every_step(self, make_map):
        """2048 + 1 = 2048 in half precision, three times over: not 2051 rounded once."""
        m = make_map((1,), "float16", [0], np.array([[2048]], "f2"))
        m.add_many([0, 0, 0], 1)
        assert m[0].tolist() == [2048.0]

    def test_overflow_and_denormals(self, make_map):
        m = make_map((4,), "float16", [0], np.array([[65504, 6e-8, -65504, 1]], "f2"))
        m.add_many([0], np.array([65504, 6e-8, -65504, 2**-11], "f2"))
        with np.errstate(over="ignore"):
            a = np.array([65504, 6e-8, -65504, 1], "f2")
            assert bits(m[0]) == bits(a + np.array([65504, 6e-8, -65504, 2**-11], "f2"))


NUMBERS = {
    "int8": hnp.arrays("int8", 4),
    "uint64": hnp.arrays("uint64", 4),
    "int64": hnp.arrays("int64", 4),
    "float32": hnp.arrays("float32", 4),
    "float64": hnp.arrays("float64", 4),
    "float16": hnp.arrays("uint16", 4).map(lambda row: row.view("f2")),
    "bool": hnp.arrays("bool", 4),
}


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kind", ["hash", "direct", "growing", "leaving"])
@given(data=st.data())
def test_random_rows_as_numpy(kind, dtype, data):
    case = _cached(kind, dtype)
    m = case.map
    model = {0: data.draw(NUMBERS[dtype]), 1: data.draw(NUMBERS[dtype])}
    m.set_many([0, 1], np.array([model[0], model[1]]))
    for _ in range(data.draw(st.integers(1, 3))):
        op = data.draw(st.sampled_from([op for op in OPS if op_defined(op, dtype)]))
        rows = np.array([data.draw(NUMBERS[dtype]) for _ in range(3)])
        m.update_many([0, 1, 0], rows, op)
        apply(model, [0, 1, 0], rows, op, (4,), dtype)
    assert equal(m[0], model[0], exact=False)
    assert equal(m[1], model[1], exact=False)


_cases: dict = {}


def _cached(kind, dtype):
    """One map for all examples, as some take long to build; of each thread its own, as it is written to."""
    assert kind in KINDS
    which = kind, dtype, threading.get_ident()
    if which not in _cases:
        _cases[which] = build_case(kind, (4,), dtype)
    return _cases[which]


NAMES = [np.str_("add"), enum.StrEnum("Plain", {"ADD": "add"}).ADD, enum.Enum("Named", {"ADD": "add"}, type=str).ADD]


@pytest.mark.parametrize("op", NAMES, ids=["numpy", "StrEnum", "Enum"])
def test_an_op_of_a_subclass_of_str_was_a_type_error(make_map, op):
    m = make_map((2,), "int64", [1], [[1, 2]])
    m.update_many([1], 1, op)
    assert m[1].tolist() == [2, 3]
    m.merge(m.copy(), op)
    assert m[1].tolist() == [4, 6]
    flags = make_map((2,), "datetime64[s]", [1])
    with pytest.raises(TypeError, match="'add' is not defined"):
        flags.update_many([1], np.zeros(2, "M8[s]"), op)
