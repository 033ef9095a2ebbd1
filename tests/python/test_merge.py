"""Promise §6, merge: another map into this one, key by key, all or nothing; compared with a dict of arrays."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from model import (
    DTYPES,
    OPS,
    Case,
    apply,
    assert_same,
    build_case,
    build_map,
    copy_of,
    op_defined,
    random_keys,
    rows_for,
)

from intarraymap import IntArrayMap


def pair(dtype: str, row_shape=(3,), kinds=("hash", "hash")) -> tuple[Case, Case]:
    """Two maps with some keys in common."""
    first = build_map(kinds[0], row_shape, dtype, range(60), rows_for(60, row_shape, dtype))
    second = build_map(kinds[1], row_shape, dtype, range(40, 90), rows_for(50, row_shape, dtype, start=40))
    return Case(first, copy_of(first)), Case(second, copy_of(second))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
class TestEveryOpAndDtype:
    def test_into_another(self, op, dtype):
        one, other = pair(dtype)
        if op_defined(op, dtype) is False:
            with pytest.raises(TypeError, match=op):
                one.map.merge(other.map, op)
        elif op_defined(op, dtype):
            one.map.merge(other.map, op)
            keys, rows = other.map.to_arrays()
            one.update(keys, rows, op)
        one.check()
        other.check()

    def test_into_itself(self, op, dtype):
        one, _ = pair(dtype)
        if op_defined(op, dtype) is False:
            with pytest.raises(TypeError, match=op):
                one.map.merge(one.map, op)
        elif op_defined(op, dtype):
            keys, rows = one.map.to_arrays()
            one.map.merge(one.map, op)
            one.update(keys, rows, op)
        one.check()

    def test_into_an_empty_map(self, op, dtype):
        """A missing key takes the row itself, or its negative."""
        if not op_defined(op, dtype):
            return
        one, _ = pair(dtype)
        new = IntArrayMap(3, dtype)
        new.merge(one.map, op)
        assert_same(new, apply({}, list(one.model), list(one.model.values()), op, (3,), dtype))


class TestKinds:
    def test_into_each_other(self, make_case, kind):
        if make_case.traits.dense_only and kind == "leaving":
            pytest.skip("it brings a far key")
        case, other = make_case((2, 2), "int64"), build_case(kind, (2, 2), "int64", count=130)
        case.map.merge(other.map, "sub")
        case.update(list(other.model), list(other.model.values()), "sub")
        case.check()
        other.check()

    def test_nothing_in_common(self, make_any_key_map):
        keys = random_keys(2000, 3)
        m = make_any_key_map((2,), "int32", keys[:1000])
        other = make_any_key_map((2,), "int32", keys[1000:])
        model = copy_of(m) | copy_of(other)
        m.merge(other, "max")
        assert_same(m, model)

    def test_empty_ones(self, make_case):
        case = make_case()
        case.map.merge(IntArrayMap(3), "add")
        case.check()
        case.map.merge(IntArrayMap(3, "bool"), "add")
        case.check()

    def test_with_holes(self, make_case):
        case, other = make_case(), build_case("hash", count=200)
        other.map.delete_many(range(0, 200, 3))
        other.model = copy_of(other.map)
        case.map.merge(other.map, "mul")
        case.update(list(other.model), list(other.model.values()), "mul")
        case.check()

    def test_views_stay(self, make_map):
        m, other = make_map((2,), keys=range(50)), build_map("hash", (2,), keys=range(20, 90))
        views = {key: m[key] for key in range(50)}
        expected = m.copy()
        expected.merge(other, "add")
        m.merge(other, "add")
        assert m == expected
        for key, view in views.items():
            assert np.array_equal(view, expected[key]), "views show what was merged in"

    def test_parts_of_a_large_map(self):
        """Counts by parts, as several workers would make them, are the counts of all."""
        rng = np.random.default_rng(5)
        keys, items = rng.integers(0, 3000, 40_000), rng.integers(0, 4, 40_000)
        whole = IntArrayMap(4, "int64")
        whole.add_at(keys, items)
        total = IntArrayMap(4, "int64")
        for part in np.array_split(np.arange(40_000), 7):
            counted = IntArrayMap(4, "int64")
            counted.add_at(keys[part], items[part])
            total.merge(counted, "add")
        assert total == whole


class TestCasts:
    @pytest.mark.parametrize(
        "into, dtype", [("float64", "float32"), ("float32", "float64"), ("int64", "int8"), ("complex64", "int16"),
                        ("int32", "bool"), ("datetime64[ns]", "datetime64[s]")]
    )  # fmt: skip
    def test_same_kind(self, into, dtype):
        m = build_map("hash", (2,), into, range(5))
        other = build_map("hash", (2,), dtype, range(3, 8))
        model = copy_of(m)
        for key, row in copy_of(other).items():
            model[key] = row.astype(into)
        m.merge(other)
        assert_same(m, model)

    @pytest.mark.parametrize(
        "into, dtype, error",
        [
            ("int8", "int64", OverflowError),
            ("uint8", "int8", OverflowError),
            ("int64", "float64", TypeError),
            ("float64", "complex128", TypeError),
            ("bool", "int8", TypeError),
            ("int64", "datetime64[s]", TypeError),
            ("timedelta64[s]", "datetime64[s]", TypeError),
        ],
    )
    def test_refused(self, make_map, into, dtype, error):
        m = make_map((2,), into, range(5))
        before = copy_of(m)
        other = IntArrayMap(2, dtype)
        other.set_many([1, 7], rows_for(2, (2,), dtype))
        if error is OverflowError:
            other[7] = [1, -1] if into == "uint8" else [1, 300]
        with pytest.raises(error):
            m.merge(other)
        assert_same(m, before)

    def test_wrong_arguments(self, make_case):
        case = make_case()
        for other, op, error in (
            (IntArrayMap(4), "set", ValueError),
            (IntArrayMap((3, 1)), "set", ValueError),
            ({1: [1, 2, 3]}, "set", TypeError),
            (None, "set", TypeError),
            (np.zeros(3), "set", TypeError),
            (IntArrayMap(3), "plus", ValueError),
            (IntArrayMap(3), "", ValueError),
            (IntArrayMap(3), None, TypeError),
            (IntArrayMap(3), np.add, TypeError),
            (IntArrayMap(3), "xor", TypeError),
        ):
            with pytest.raises(error):
                case.map.merge(other, op)
            case.check()

    def test_closed(self, make_case):
        case = make_case()
        other = IntArrayMap(3)
        other.close()
        with pytest.raises(ValueError, match="closed"):
            case.map.merge(other)
        with pytest.raises(ValueError, match="closed"):
            other.merge(case.map)
        case.check()


class TestAllOrNothing:
    def test_out_of_memory(self):
        """Whichever request fails, the map is as before, and the next merge works."""
        other = IntArrayMap.from_arrays(np.arange(3000) * 7 - 500, rows_for(3000, (4,), "int64"))
        failures = 0
        for fail_after in range(40):
            m = IntArrayMap(4, "int64", index="hash", _options={"fail_after": -1})
            m.set_many(np.arange(100), rows_for(100, (4,), "int64", start=9))
            before = copy_of(m)
            m._fail_after(fail_after)
            try:
                m.merge(other, "add")
            except MemoryError:
                failures += 1
                m._fail_after(-1)
                assert_same(m, before)
                m.merge(other, "add")
            m._fail_after(-1)
            assert_same(m, apply(before, *other.to_arrays(), "add", (4,), "int64"))
        assert failures >= 3

    def test_too_sparse(self):
        m = build_map("direct", (2,), keys=range(100))
        before = copy_of(m)
        with pytest.raises(ValueError, match="sparse"):
            m.merge(build_map("hash", (2,), keys=[1, 2**50]))
        assert_same(m, before)

    def test_both_ways_at_once(self):
        """Two maps are never locked at once."""
        a = IntArrayMap.from_arrays(np.arange(2000), np.ones((2000, 2)))
        b = IntArrayMap.from_arrays(np.arange(1000, 3000), np.ones((2000, 2)))

        def work(into, other):
            for _ in range(30):
                into.merge(other, "max")
                into.merge(into, "min")

        threads = [threading.Thread(target=work, args=each) for each in ((a, b), (b, a), (a, b))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert a == b == IntArrayMap.fromkeys(range(3000), [1.0, 1.0])
