"""Promise §6: many keys at once, each call against a dict, all or nothing at every position of an error."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import (
    DTYPES,
    FAR_KEY,
    KEY_MAX,
    KEY_MIN,
    KINDS,
    apply,
    bits,
    build_case,
    build_map,
    copy_of,
    plain,
    random_keys,
    rows_for,
)

from intarraymap import IntArrayMap, MissingKeyError


def snapshot(m):
    return copy_of(m), list(m), m.dtype, m.row_shape


def same(before, m):
    after = snapshot(m)
    assert after[1:] == before[1:]
    assert after[0].keys() == before[0].keys()
    assert all(bits(after[0][key]) == bits(row) for key, row in before[0].items())
    assert m._check() is None


class TestGetMany:
    @pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 63, 64, 65, 1000])
    def test_all_there(self, make_case, count):
        case = make_case((4,), count=128)
        keys = np.random.default_rng(count).integers(0, 128, count)
        rows = case.map.get_many(keys)
        assert rows.shape == (count, 4)
        assert rows.dtype == case.map.dtype
        assert rows.flags.c_contiguous
        assert rows.flags.writeable
        assert bits(rows) == bits(case.rows(keys))

    def test_gives_independent_memory(self, make_case):
        case = make_case()
        rows = case.map.get_many([5, 6])
        rows[:] = -1.0
        case.check()
        case.map[5] = case.model[5] = np.full(3, 8.0)
        assert (rows == -1.0).all()
        assert case.map.stats().views == 0

    def test_missing(self, make_case):
        case = make_case()
        keys = np.array([5, 70_000, 6, -3, 70_000, 7])
        with pytest.raises(KeyError) as raised:
            case.map.get_many(keys)
        error = raised.value
        assert (error.key, error.position, error.missing_count) == (70_000, 1, 3)
        assert type(error.key) is int
        assert "70000" in str(error)
        assert isinstance(error.args[0], str)
        case.check()

    @pytest.mark.parametrize("position", [0, 1, 30, 62, 63])
    def test_missing_at_every_position(self, make_case, position):
        case = make_case(count=64)
        keys = np.arange(64)
        keys[position] = -9
        with pytest.raises(KeyError) as raised:
            case.map.get_many(keys)
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (-9, position, 1)

    @pytest.mark.parametrize("default", [0, -1.5, float("nan"), np.float32(2.5), np.array(7.0), True])
    def test_default_scalar(self, make_case, default):
        case = make_case()
        rows = case.map.get_many([5, -3, 6, 70_000], default)
        assert bits(rows[[0, 2]]) == bits(case.rows([5, 6]))
        assert bits(rows[[1, 3]]) == bits(np.full((2, 3), float(default)))

    def test_default_one_row(self, make_case):
        case = make_case()
        for default in ([1.0, 2.0, 3.0], np.array([1, 2, 3], "i2"), np.array([3.0, 2.0, 1.0])[::-1]):
            rows = case.map.get_many([[5, -3], [70_000, 6]], default)
            assert rows[0, 1].tolist() == rows[1, 0].tolist() == [1.0, 2.0, 3.0]
            assert bits(rows[1, 1]) == bits(case.model[6])

    def test_default_for_each_key(self, make_case):
        case = make_case((2, 3))
        keys = np.array([[5, -3, 6], [70_000, -4, 7]])
        default = rows_for(6, (2, 3)).reshape(2, 3, 2, 3) + 1000
        for given_default in (
            default,
            default[::-1][::-1],
            np.asfortranarray(default),
            default.astype("f4"),
            default.tolist(),
        ):
            rows = case.map.get_many(keys, default=given_default)
            assert bits(rows[0, 0]) == bits(case.model[5])
            assert bits(rows[1, 2]) == bits(case.model[7])
            for place in ((0, 1), (1, 0), (1, 1)):
                assert bits(rows[place]) == bits(default[place])

    def test_default_is_one_row_when_the_shapes_coincide(self, make_map):
        """S + row_shape and row_shape differ in their number of axes: never ambiguous."""
        m = make_map((2,), keys=[0])
        rows = m.get_many([-1, -2], [5.0, 6.0])
        assert rows.tolist() == [[5.0, 6.0], [5.0, 6.0]]

    @pytest.mark.parametrize(
        ("default", "error"),
        [
            (None, TypeError),
            ("0", TypeError),
            ([None] * 3, TypeError),
            (1j, TypeError),
            (np.zeros(2), ValueError),
            (np.zeros((1, 3)), ValueError),
            (np.zeros((3, 3)), ValueError),
            (np.zeros((2, 4)), ValueError),
            (np.zeros((2, 2, 3)), ValueError),
            (10**400, OverflowError),
        ],
    )
    def test_bad_default(self, make_case, default, error):
        case = make_case()
        with pytest.raises(error):
            case.map.get_many([5, -3], default)
        case.check()

    def test_default_casts_as_rows_do(self, make_map):
        m = make_map((2,), "int8", [1])
        assert m.get_many([2], np.array([100, -100], "i8")).tolist() == [[100, -100]]
        for default, error in (
            (1.5, TypeError),
            (300, OverflowError),
            (np.array([1, 300]), OverflowError),
            (np.ones(2), TypeError),
        ):
            with pytest.raises(error):
                m.get_many([2], default)

    def test_mask(self, make_case):
        case = make_case()
        keys = np.array([[5, -3], [70_000, 6], [7, 7]])
        rows, found = case.map.get_many(keys, 0, return_mask=True)
        assert found.dtype == np.bool_
        assert found.tolist() == [[True, False], [False, True], [True, True]]
        assert rows.shape == (3, 2, 3)
        rows, found = case.map.get_many([5, 6], return_mask=True)
        assert found.tolist() == [True, True]
        with pytest.raises(KeyError):
            case.map.get_many([5, -3], return_mask=True)
        rows, found = case.map.get_many([], 0, return_mask=True)
        assert (rows.shape, found.shape) == ((0, 3), (0,))

    def test_keyword_only(self, make_map):
        m = make_map(keys=[1])
        with pytest.raises(TypeError):
            m.get_many([1], 0, np.empty((1, 3)))


def outs(shape, dtype):
    """Arrays of one shape and dtype with every kind of strides."""
    size = int(np.prod(shape))
    wide = np.zeros(tuple(2 * n + 1 for n in shape), dtype)
    unaligned = np.zeros(size * np.dtype(dtype).itemsize + 1, "u1")[1:].view(dtype).reshape(shape)
    record = np.zeros(shape, [("pad", "u1"), ("x", dtype)])
    axes = tuple(reversed(range(len(shape))))
    return {
        "c": np.zeros(shape, dtype),
        "fortran": np.zeros(shape, dtype, order="F"),
        "every second": wide[tuple(slice(1, 2 * n + 1, 2) for n in shape)],
        "backwards": np.zeros(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)],
        "rows backwards": np.zeros(shape, dtype)[::-1],
        "wide rows": np.zeros((*shape[:-1], shape[-1] + 5), dtype)[..., 2:-3],
        "rows apart": np.zeros((shape[0] * 3, *shape[1:]), dtype)[::3],
        "transposed": np.zeros(tuple(shape[a] for a in axes), dtype).transpose(axes),
        "unaligned": unaligned,
        "field": record["x"],
        "subclass": np.zeros(shape, dtype).view(type("Child", (np.ndarray,), {})),
    }


class TestOut:
    @pytest.mark.parametrize("name", outs((2, 3), "f8"))
    @pytest.mark.parametrize("dtype", ["float64", "int16", "complex64", "bool"])
    def test_every_stride(self, make_case, dtype, name):
        case = make_case((2, 3), dtype)
        for keys in (np.array([5, 99, 6, 0]), np.array([[5, 99], [6, 0], [7, 7]])):
            out = outs(keys.shape + (2, 3), dtype)[name]
            got = case.map.get_many(keys, out=out)
            assert got is out
            assert bits(out) == bits(case.rows(keys))

    @pytest.mark.parametrize("name", outs((2, 3), "f8"))
    def test_every_stride_with_missing(self, make_case, name):
        case = make_case((3,))
        keys = np.array([5, -1, 6, -2])
        out = outs((4, 3), "float64")[name]
        got, found = case.map.get_many(keys, [7.0, 8.0, 9.0], out=out, return_mask=True)
        assert got is out
        assert found.tolist() == [True, False, True, False]
        assert out[1].tolist() == out[3].tolist() == [7.0, 8.0, 9.0]
        assert bits(out[[0, 2]]) == bits(case.rows([5, 6]))

    def test_nothing_around_is_touched(self, make_case):
        case = make_case((3,))
        frame = np.full((10, 9), -5.0)
        case.map.get_many(np.arange(4), out=frame[1:9:2, 1:7:2])
        inside = np.zeros_like(frame, bool)
        inside[1:9:2, 1:7:2] = True
        assert (frame[~inside] == -5.0).all()

    @pytest.mark.parametrize(
        "out",
        [
            np.empty((3, 3)),
            np.empty((2, 4)),
            np.empty((2, 3, 1)),
            np.empty(6),
            np.empty((1, 2, 3)),
            np.empty((0, 3)),
        ],
        ids=lambda out: str(out.shape),
    )
    def test_wrong_shape(self, make_case, out):
        case = make_case((3,))
        with pytest.raises(ValueError):
            case.map.get_many([5, 6], out=out)
        case.check()

    @pytest.mark.parametrize("dtype", ["f4", "i8", ">f8", "c16", "O", "V8"])
    def test_wrong_dtype(self, make_case, dtype):
        case = make_case((3,))
        with pytest.raises(TypeError, match="out must be of float64"):
            case.map.get_many([5, 6], out=np.empty((2, 3), dtype))
        case.check()

    @pytest.mark.parametrize(
        "out", [[[0.0] * 3] * 2, 5, "out", bytearray(48), memoryview(bytearray(48)), object()], ids=plain
    )
    def test_no_array(self, make_case, out):
        case = make_case((3,))
        with pytest.raises(TypeError):
            case.map.get_many([5, 6], out=out)
        case.check()

    def test_none_is_no_out(self, make_map):
        assert make_map(keys=[5]).get_many([5], out=None).shape == (1, 3)

    def test_read_only(self, make_case):
        case = make_case((3,))
        out = np.zeros((2, 3))
        out.flags.writeable = False
        with pytest.raises(ValueError):
            case.map.get_many([5, 6], out=out)
        assert not out.any()

    def test_missing_leaves_the_map_alone(self, make_case):
        case = make_case((3,))
        with pytest.raises(KeyError):
            case.map.get_many([5, -1, 6], out=np.empty((3, 3)))
        case.check()

    def test_overlap_with_the_keys(self, make_case):
        case = make_case((1,), "int64", 100)
        expected = case.rows(np.arange(99, -1, -1))
        for shift in (0, 1):
            memory = np.zeros(101, "i8")
            keys = memory[shift : shift + 100]
            keys[:] = np.arange(99, -1, -1)
            out = memory[:100].reshape(100, 1)
            case.map.get_many(keys, out=out)
            assert bits(out) == bits(expected)

    def test_overlap_with_the_default(self, make_case):
        case = make_case((3,))
        keys = np.array([5, -1, 6, -2, -3])
        memory = np.arange(18.0)
        default = memory[3:].reshape(5, 3)
        expected = default.copy()
        expected[[0, 2]] = case.rows([5, 6])
        out = memory[:15].reshape(5, 3)
        assert bits(case.map.get_many(keys, default, out=out)) == bits(expected)
        memory = np.arange(15.0)
        expected = np.broadcast_to(memory[:3], (5, 3)).copy()
        expected[[0, 2]] = case.rows([5, 6])
        assert bits(case.map.get_many(keys, memory[:3], out=memory.reshape(5, 3))) == bits(expected)

    def test_overlap_with_a_view(self, make_case):
        case = make_case((4,))
        view = case.map[7]
        expected = case.rows([3])
        case.map.get_many([3], out=view.reshape(1, 4))
        case.model[7] = expected[0]
        case.check()

    @pytest.mark.parametrize("kind", ["hash", "direct", "growing"])
    def test_overlap_with_the_maps_rows(self, kind):
        """out = the map's own rows, in another order: as if it had been computed first."""
        case = build_case(kind, (4,), count=64)
        m = case.map
        first, keys, rows, present = m.blocks()[0]
        count = min(len(rows), 64)
        asked = np.array(list(case.model))[:count][::-1]
        expected = case.rows(asked)
        m.get_many(asked, out=rows[:count])
        assert bits(rows[:count]) == bits(expected)
        assert m._check() is None

    def test_mask_beside_out(self, make_case):
        case = make_case((3,), "bool")
        out = np.zeros((3, 3), bool)
        rows, found = case.map.get_many([5, -1, 6], False, out=out, return_mask=True)
        assert rows is out
        assert not np.shares_memory(out, found)
        assert found.tolist() == [True, False, True]


class TestSetMany:
    def test_rows_for_each_key(self, make_case):
        case = make_case((2, 3))
        keys = np.array([[5, 200], [-1, 7], [201, 5]])
        rows = rows_for(6, (2, 3), start=50).reshape(3, 2, 2, 3)
        assert case.map.set_many(keys, rows) is None
        case.update(keys, rows, "set")
        case.check()

    @pytest.mark.parametrize("rows", [3, 2.5, [1.0, 2.0, 3.0], np.array([1, 2, 3], "i2"), np.array(4.0)])
    def test_one_row_or_scalar(self, make_case, rows):
        case = make_case()
        keys = np.arange(90, 160)
        case.map.set_many(keys, rows)
        case.update(keys, rows, "set")
        case.check()

    def test_last_duplicate_wins(self, make_case):
        case = make_case()
        keys = np.array([5, 900, 5, 900, 5, 901])
        rows = rows_for(6, start=9)
        case.map.set_many(keys, rows)
        case.update(keys, rows, "set")
        case.check()

    @pytest.mark.parametrize(
        "shape", [(1,), (2,), (4,), (1, 3), (4, 3), (6, 3), (5, 1), (5, 4), (1, 5, 3), (5, 3, 1), (0, 3)]
    )
    def test_no_other_broadcasting(self, make_case, shape):
        case = make_case((3,))
        for call in (case.map.set_many, case.map.add_many, lambda k, r: case.map.update_many(k, r, "max")):
            with pytest.raises(ValueError):
                call(np.arange(5), np.ones(shape))
        case.check()

    def test_nothing(self, make_case):
        case = make_case()
        case.map.set_many([], 1.0)
        case.map.set_many([], [1.0, 2.0, 3.0])
        case.map.set_many([], np.empty((0, 3)))
        case.map.set_many(np.empty((4, 0), int), np.empty((4, 0, 3)))
        case.map.add_many([], np.empty((0, 3)))
        with pytest.raises(ValueError):
            case.map.set_many([], np.empty((1, 3)))
        with pytest.raises(ValueError):
            case.map.set_many(np.empty((4, 0), int), np.empty((0, 4, 3)))
        case.check()

    def test_one_key(self, make_case):
        case = make_case()
        case.map.set_many(np.array(700), [1.0, 2.0, 3.0])
        case.model[700] = np.array([1.0, 2.0, 3.0])
        case.check()

    @pytest.mark.parametrize("layout", ["reversed", "fortran", "strided", "broadcast", "read only", "swapped", "f4"])
    def test_layouts(self, make_case, layout):
        case = make_case((4,))
        keys, rows = np.arange(50, 150), rows_for(100, (4,), start=8)
        source = {
            "reversed": lambda: rows[::-1].copy()[::-1],
            "fortran": lambda: np.asfortranarray(rows),
            "strided": lambda: np.repeat(np.repeat(rows, 2, 0), 3, 1)[::2, ::3],
            "broadcast": lambda: np.broadcast_to(rows[:1], rows.shape),
            "read only": lambda: np.frombuffer(rows.tobytes()).reshape(rows.shape),
            "swapped": lambda: rows.astype(">f8"),
            "f4": lambda: rows.astype("f4"),
        }[layout]()
        case.map.set_many(keys, source)
        case.update(keys, np.array(source, "f8"), "set")
        case.check()

    def test_from_the_maps_own_rows(self, make_case):
        case = make_case((4,))
        m = case.map
        m.set_many(np.arange(20), m.get_many(np.arange(20))[::-1])
        case.update(np.arange(20), case.rows(np.arange(20))[::-1], "set")
        view = m[3]
        m.set_many(np.arange(1000, 1200), view)
        case.update(np.arange(1000, 1200), case.model[3], "set")
        m.add_many([3, 3, 4], view)
        row = case.model[3].copy()
        case.update([3, 3, 4], row, "add")
        case.check()

    @pytest.mark.parametrize("kind", ["hash", "direct", "growing", "segments"])
    def test_from_the_maps_own_block(self, kind):
        case = build_case(kind, (4,), count=64)
        m = case.map
        _, keys, rows, _ = m.blocks()[0]
        count = min(len(rows), 64)
        asked = np.array(list(m))[:count]
        source = rows[:count][::-1]
        expected = source.copy()
        m.set_many(asked, source)
        case.update(asked, expected, "set")
        case.check()

    @pytest.mark.parametrize("count", [1, 100, 5000, 50_000])
    def test_large(self, make_any_key_map, count):
        if make_any_key_map.traits.few_chains and count > 5000:
            pytest.skip("too many keys for so few chains")
        m = make_any_key_map((2,), "int32")
        keys = random_keys(count, seed=count)
        rows = rows_for(count, (2,), "int32")
        m.set_many(keys, rows)
        assert len(m) == count
        order = np.random.default_rng(1).permutation(count)
        assert bits(m.get_many(keys[order])) == bits(rows[order])
        assert not m.contains_many(keys[keys < KEY_MAX] + 1).any()
        assert m._check() is None


class TestAddMany:
    def test_every_duplicate_counts_in_order(self, make_case):
        """Floating-point sums depend on their order: bit for bit that of a loop."""
        case = make_case((3,))
        rng = np.random.default_rng(7)
        keys = rng.integers(0, 150, 2000)
        rows = rng.normal(size=(2000, 3)) * 10.0 ** rng.integers(-8, 8, (2000, 1))
        assert case.map.add_many(keys, rows) is None
        for key, row in zip(keys.tolist(), rows, strict=True):
            case.model[key] = case.model.get(key, np.zeros(3)) + row
        case.check()

    @pytest.mark.parametrize("rows", [1, 0.5, [1.0, -2.0, 3.0]])
    def test_one_row_or_scalar(self, make_case, rows):
        case = make_case()
        keys = np.array([5, 5, 5, 300, 300, 6])
        case.map.add_many(keys, rows)
        case.update(keys, rows, "add")
        case.check()

    def test_missing_starts_at_zero(self, make_case):
        case = make_case()
        case.map.add_many([9000, 9001, 9000], [[1.0] * 3, [2.0] * 3, [4.0] * 3])
        case.model[9000], case.model[9001] = np.full(3, 5.0), np.full(3, 2.0)
        case.check()

    @pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "complex64", "bool", "float16"])
    def test_dtypes(self, make_case, dtype):
        case = make_case((2,), dtype)
        keys = np.random.default_rng(3).integers(0, 130, 500)
        rows = rows_for(500, (2,), dtype)
        case.map.add_many(keys, rows)
        case.update(keys, rows, "add")
        case.check()


class TestAddAt:
    def test_items_and_values_for_each_key(self, make_case):
        case = make_case((2, 3))
        rng = np.random.default_rng(5)
        keys, items = rng.integers(0, 150, (40, 20)), rng.integers(0, 6, (40, 20))
        values = rng.normal(size=(40, 20))
        assert case.map.add_at(keys, items, values) is None
        for key, item, value in zip(keys.ravel().tolist(), items.ravel(), values.ravel(), strict=True):
            row = case.model.setdefault(key, np.zeros((2, 3)))
            row.flat[item] += value
        case.check()

    def test_counting(self, make_case):
        case = make_case((4,), "int64")
        case.map.add_at([5, 5, 70_300, 5], [1, 1, 2, 3])
        case.model[5][[1, 3]] += [2, 1]
        case.model[70_300] = np.array([0, 0, 1, 0])
        case.check()

    def test_items_broadcast(self, make_case):
        case = make_case((4,), "int64")
        keys = np.array([[5, 6, 7], [5, 6, 70_300]])
        case.map.add_at(keys, 2)
        case.map.add_at(keys, [0, 1, 2], 10)
        case.map.add_at(keys, [[3], [1]], np.array([[1, 2, 3], [4, 5, 6]]))
        for items, values in ((2, 1), ([0, 1, 2], 10), ([[3], [1]], [[1, 2, 3], [4, 5, 6]])):
            items, values = np.broadcast_to(items, (2, 3)), np.broadcast_to(values, (2, 3))
            for key, item, value in zip(keys.ravel().tolist(), items.ravel(), values.ravel(), strict=True):
                case.model.setdefault(key, np.zeros(4, "i8"))[item] += value
        case.check()

    @pytest.mark.parametrize("item", [4, 5, -1, -4, 2**31, 2**63 - 1, -(2**63)])
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_outside_the_row(self, make_case, item, position):
        case = make_case((4,))
        items = np.zeros(3, "i8")
        items[position] = item
        with pytest.raises(ValueError, match=rf"items\[{position}\]"):
            case.map.add_at([5, 70_300, 6], items, 1.0)
        case.check()

    @pytest.mark.parametrize(
        ("items", "values", "error"),
        [
            ([0.0, 1.0], 1, TypeError),
            (["0", "1"], 1, TypeError),
            (None, 1, TypeError),
            ([True, False], 1, TypeError),
            ([0, 1, 2], 1, ValueError),
            (np.array([0, 2**63], "u8"), 1, (ValueError, OverflowError)),
            (0, [1.0, 2.0, 3.0], ValueError),
            (0, "1", TypeError),
            (0, None, TypeError),
            (0, 1j, TypeError),
            (0, 10**400, OverflowError),
        ],
    )
    def test_errors(self, make_case, items, values, error):
        case = make_case((4,))
        with pytest.raises(error):
            case.map.add_at([5, 70_300], items, values)
        case.check()

    def test_values_cast_as_rows_do(self, make_map):
        m = make_map((2,), "int8", [1])
        before = m[1].copy()
        m.add_at([1], [0], np.array([5], "i8"))
        assert m[1][0] == before[0] + 5
        for values, error in ((1.5, TypeError), (70_300, OverflowError), (np.array([70_300]), OverflowError)):
            with pytest.raises(error):
                m.add_at([1], [0], values)

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "complex128"])
    def test_dtypes(self, make_case, dtype):
        case = make_case((2,), dtype)
        case.map.add_at([5, 5, 70_300], [0, 1, 1], 1)
        one = np.ones((), dtype)
        for key, item in ((5, 0), (5, 1), (70_300, 1)):
            row = case.model.setdefault(key, np.zeros(2, dtype))
            row[item] = row[item] + one
        case.check()


class TestContainsMany:
    def test_mask(self, make_case):
        case = make_case()
        keys = np.arange(-50, 10_000).reshape(2, -1)
        mask = case.map.contains_many(keys)
        assert mask.dtype == np.bool_
        assert mask.shape == keys.shape
        assert mask.ravel().tolist() == [int(key) in case.model for key in keys.ravel()]
        assert mask.flags.writeable


class TestDeleteMany:
    def test_what_was_removed(self, make_case):
        case = make_case()
        keys = np.array([[5, 90_000, 6], [5, 7, -1]])
        removed = case.map.delete_many(keys)
        assert removed.dtype == np.bool_
        assert removed.tolist() == [[True, False, True], [False, True, False]]
        for key in (5, 6, 7):
            del case.model[key]
        case.check()
        assert not case.map.delete_many(keys).any()
        case.check()

    def test_everything(self, make_case):
        case = make_case()
        keys = np.array(list(case.model))
        assert case.map.delete_many(keys[::-1]).all()
        case.model.clear()
        case.check()
        case.map.set_many(keys, 2.0)
        case.update(keys, 2.0, "set")
        case.check()


class TestPopMany:
    def test_rows_out_keys_gone(self, make_case):
        case = make_case()
        keys = np.array([[5, 6], [99, 0]])
        expected = case.rows(keys)
        rows = case.map.pop_many(keys)
        assert rows.shape == (2, 2, 3)
        assert bits(rows) == bits(expected)
        for key in (5, 6, 99, 0):
            del case.model[key]
        case.check()
        rows[:] = -1
        case.check()

    def test_missing(self, make_case):
        case = make_case()
        with pytest.raises(KeyError) as raised:
            case.map.pop_many([5, 6, -7, 8, -9])
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (-7, 2, 2)
        case.check()

    def test_the_second_of_a_duplicate_is_missing(self, make_case):
        case = make_case()
        with pytest.raises(KeyError) as raised:
            case.map.pop_many([5, 6, 5])
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (5, 2, 1)
        case.check()
        rows = case.map.pop_many([5, 6, 5], -2.0)
        assert bits(rows[:2]) == bits(np.array([case.model.pop(5), case.model.pop(6)]))
        assert rows[2].tolist() == [-2.0] * 3
        case.check()

    def test_default(self, make_case):
        case = make_case()
        rows = case.map.pop_many([5, -7, 6], [[1.0] * 3, [2.0] * 3, [3.0] * 3])
        assert rows[1].tolist() == [2.0] * 3
        assert bits(rows[[0, 2]]) == bits(np.array([case.model.pop(5), case.model.pop(6)]))
        assert case.map.pop_many([-7, -8], [1.0, 2.0, 3.0]).tolist() == [[1.0, 2.0, 3.0]] * 2
        case.check()

    @pytest.mark.parametrize(("default", "error"), [(None, TypeError), ("x", TypeError), (np.zeros(2), ValueError)])
    def test_bad_default(self, make_case, default, error):
        case = make_case()
        with pytest.raises(error):
            case.map.pop_many([5, -7], default)
        case.check()


def row_at(blocks, number):
    for first, _, rows, _ in blocks:
        if first <= number < first + len(rows):
            return rows[number - first]
    raise AssertionError(f"row {number} is in no block")


class TestIndexMany:
    def test_row_numbers_fit_blocks(self, make_case):
        case = make_case((4,))
        m = case.map
        keys = np.array([[5, -7, 99], [0, 50, 60_000]])
        numbers = m.index_many(keys)
        assert numbers.dtype == np.int64
        assert numbers.shape == keys.shape
        assert numbers[0, 1] == numbers[1, 2] == -1
        blocks = m.blocks()
        for key, number in zip(keys.ravel().tolist(), numbers.ravel().tolist(), strict=True):
            if key in case.model:
                assert np.shares_memory(row_at(blocks, number), m[key])

    def test_valid_until_deleted_or_compacted(self, make_case):
        case = make_case((4,))
        m = case.map
        before = m.index_many(np.arange(50))
        m.set_many(np.arange(10_000, 13_000), 1.0)
        m.delete_many(np.arange(60, 90))
        m.reserve(20_000)
        assert m.index_many(np.arange(50)).tolist() == before.tolist()

    def test_distinct(self, make_case):
        case = make_case()
        numbers = case.map.index_many(np.array(list(case.model)))
        assert len(set(numbers.tolist())) == len(case.model)
        assert numbers.min() >= 0


class TestEnsureMany:
    def test_creates_what_is_missing(self, make_case):
        case = make_case()
        m = case.map
        keys = np.array([[5, 70_300], [70_301, 70_300]])
        numbers, created = m.ensure_many(keys)
        assert numbers.dtype == np.int64
        assert created.dtype == np.bool_
        assert created.tolist() == [[False, True], [True, False]]
        assert numbers[0, 1] == numbers[1, 1]
        assert numbers.tolist() == m.index_many(keys).tolist()
        case.model[70_300], case.model[70_301] = np.zeros(3), np.zeros(3)
        case.check()

    @pytest.mark.parametrize("fill", [7, 2.5, [1.0, 2.0, 3.0], np.array([1, 2, 3], "i2")])
    def test_fill(self, make_case, fill):
        case = make_case()
        case.map.ensure_many([5, 70_300, 70_300, 70_301], fill)
        case.update([70_300, 70_301], fill, "set")
        case.check()

    @pytest.mark.parametrize(
        ("fill", "error"),
        [
            (None, TypeError),
            ("x", TypeError),
            (1j, TypeError),
            (np.zeros(2), ValueError),
            (np.zeros((2, 3)), ValueError),
        ],
    )
    def test_bad_fill(self, make_case, fill, error):
        case = make_case()
        with pytest.raises(error):
            case.map.ensure_many([5, 70_300], fill)
        case.check()

    def test_rows_through_blocks(self, make_case):
        case = make_case((4,))
        m = case.map
        numbers, _ = m.ensure_many(np.arange(200, 220))
        blocks = m.blocks()
        for place, number in enumerate(numbers.tolist()):
            row_at(blocks, number)[:] = place
            case.model[200 + place] = np.full(4, float(place))
        case.check()


class TestMerge:
    @pytest.mark.parametrize("op", ["set", "add", "sub", "mul", "min", "max", "and", "or", "xor"])
    def test_key_by_key(self, make_case, op):
        case = make_case((2,), "int32")
        other = build_map("hash", (2,), "int32", range(50, 150), rows_for(100, (2,), "int32", start=60))
        assert case.map.merge(other, op) is None
        keys, rows = other.to_arrays()
        case.update(keys, rows, op)
        case.check()
        assert len(other) == 100

    def test_default_is_set(self, make_case):
        case = make_case()
        other = build_map("direct", keys=range(90, 110), rows=np.full((20, 3), 4.0))
        case.map.merge(other)
        case.update(np.arange(90, 110), 4.0, "set")
        case.check()

    @pytest.mark.parametrize("op", ["set", "add", "sub", "mul", "min", "max"])
    def test_itself(self, make_case, op):
        case = make_case()
        case.map.merge(case.map, op)
        keys = np.array(list(case.model))
        case.update(keys, case.rows(keys), op)
        case.check()

    def test_kinds_into_each_other(self, make_case, kind):
        if make_case.traits.dense_only and kind == "leaving":
            pytest.skip("it brings a far key")
        case, other = make_case((2,), "int64"), build_case(kind, (2,), "int64", count=130)
        case.map.merge(other.map, "add")
        case.update(list(other.model), list(other.model.values()), "add")
        case.check()
        other.check()

    def test_casts(self, make_map):
        m = make_map((2,), "int8", [1], [[1, 2]])
        m.merge(build_map("hash", (2,), "int64", [1, 2], [[3, 4], [5, 6]]), "add")
        assert m[1].tolist() == [4, 6]
        assert m[2].tolist() == [5, 6]
        for other, error in (
            (build_map("hash", (2,), "int64", [3, 4], [[1, 1], [1, 300]]), OverflowError),
            (build_map("hash", (2,), "float64", [3]), TypeError),
            (build_map("hash", (3,), "int8", [3]), ValueError),
            (build_map("hash", (2, 1), "int8", [3]), ValueError),
        ):
            with pytest.raises(error):
                m.merge(other)
            assert sorted(m) == [1, 2]

    @pytest.mark.parametrize("other", [None, 5, {1: 2.0}, [(1, 2.0)], "m"], ids=plain)
    def test_only_maps(self, make_case, other):
        case = make_case()
        with pytest.raises(TypeError):
            case.map.merge(other)
        case.check()


class TestToArrays:
    def test_independent(self, make_case):
        case = make_case((2, 3))
        keys, rows = case.map.to_arrays()
        assert keys.dtype == np.int64
        assert keys.shape == (len(case.model),)
        assert rows.shape == (len(case.model), 2, 3)
        assert keys.flags.writeable
        assert rows.flags.writeable
        keys[:] = 0
        rows[:] = -1
        case.check()
        assert case.map.stats().views == 0

    def test_empty(self, make_map):
        keys, rows = make_map((2, 3), "int16").to_arrays()
        assert (keys.shape, keys.dtype) == ((0,), np.dtype("int64"))
        assert (rows.shape, rows.dtype) == ((0, 2, 3), np.dtype("int16"))

    def test_round_trip(self, make_case):
        case = make_case()
        other = IntArrayMap.from_arrays(*case.map.to_arrays())
        assert other == case.map


class TestBlocks:
    def test_show_every_row(self, make_case):
        case = make_case((2, 3))
        m = case.map
        m.delete_many(np.arange(20, 40))
        blocks = m.blocks()
        assert isinstance(blocks, list)
        came = []
        for first, keys, rows, present in blocks:
            assert type(first) is int
            assert first % 8 == 0
            assert keys.shape == (len(rows),)
            assert keys.dtype == np.int64
            assert rows.shape[1:] == (2, 3)
            assert rows.dtype == m.dtype
            assert rows.flags.writeable
            assert rows.flags.c_contiguous
            assert not keys.flags.writeable
            assert not present.flags.writeable
            assert present.dtype == np.uint8
            assert len(present) == (len(rows) + 7) // 8
            there = np.unpackbits(present, bitorder="little")[: len(rows)].astype(bool)
            for place in np.flatnonzero(there):
                key = int(keys[place])
                came.append(key)
                assert bits(rows[place]) == bits(m[key])
        assert came == list(m)

    def test_live_and_writable(self, make_case):
        case = make_case((3,))
        m = case.map
        blocks = m.blocks()
        for _, _, rows, _ in blocks:
            rows += 1
        for row in case.model.values():
            row += 1
        case.check()
        m[5] = case.model[5] = np.full(3, -4.0)
        number = int(m.index_many([5])[0])
        assert row_at(blocks, number).tolist() == [-4.0] * 3

    def test_cannot_be_made_writable(self, make_map):
        m = make_map(keys=range(100))
        _, keys, rows, present = m.blocks()[0]
        for array in (keys, present):
            with pytest.raises(ValueError):
                array[0] = 0
        with pytest.raises(ValueError):
            present.flags.writeable = True
        if m.index == "hash":  # direct: computed for the occasion, nothing of the map's
            with pytest.raises(ValueError):
                keys.flags.writeable = True
        with pytest.raises(ValueError):
            rows.resize((1000, 3), refcheck=False)

    def test_hold_back_free_rows_and_compact(self, make_case):
        case = make_case((3,))
        m = case.map
        blocks = m.blocks()
        number = int(m.index_many([5])[0])
        row = row_at(blocks, number)
        before = row.copy()
        del m[5], case.model[5]
        keys = np.arange(20_000, 22_000)
        m.set_many(keys, -1.0)
        case.update(keys, -1.0, "set")
        assert bits(row) == bits(before), "a freed row is used again while a block shows it"
        with pytest.raises(BufferError):
            m.compact()
        case.check()
        del row
        with pytest.raises(BufferError):
            m.compact()
        del blocks
        m.compact()
        case.check()

    def test_one_array_of_a_block_is_enough(self, make_case):
        """rows alone, or the presence alone, hold what the block holds."""
        for pick in (2, 3):
            case = make_case((3,))
            array = case.map.blocks()[0][pick]
            with pytest.raises(BufferError):
                case.map.compact()
            del array
            case.map.compact()
            case.check()

    def test_outlive_the_map(self, make_map):
        m = build_map(make_map.kind, keys=range(50))
        _, keys, rows, present = m.blocks()[0]
        expected = rows.copy(), keys.copy(), present.copy()
        del m
        assert bits(rows) == bits(expected[0])
        assert bits(keys) == bits(expected[1])
        assert bits(present) == bits(expected[2])

    def test_empty(self, make_map):
        m = make_map()
        assert sum(int(np.unpackbits(block[3]).sum()) for block in m.blocks()) == 0

    def test_counted_as_views(self, make_map):
        m = make_map(keys=range(10))
        blocks = m.blocks()
        assert m.stats().views >= 1
        del blocks
        assert m.stats().views == 0


class TestReserve:
    @pytest.mark.parametrize(
        ("count", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError), (None, TypeError)]
    )
    def test_errors(self, make_case, count, error):
        case = make_case()
        with pytest.raises(error):
            case.map.reserve(count)
        case.check()

    @pytest.mark.parametrize("count", [2**32 - 1, 2**40, 2**64, 10**30])
    def test_too_much(self, make_case, count):
        case = make_case()
        with pytest.raises(OverflowError):
            case.map.reserve(count)
        case.check()

    @pytest.mark.parametrize("count", [0, 1, 10, 20_000])
    def test_changes_no_content(self, make_case, count):
        case = make_case()
        assert case.map.reserve(count) is None
        case.check()


class TestCompact:
    def test_closes_holes(self, make_case):
        case = make_case((4,))
        m = case.map
        m.set_many(np.arange(10_000, 40_000), 1.0) if not make_case.traits.few_chains else None
        gone = [key for key in m if key % 10]
        m.delete_many(np.array(gone))
        before = m.nbytes
        case.model = copy_of(m)
        order = list(m)
        m.compact()
        case.check()
        stats = m.stats()
        if stats.index == "hash":
            assert stats.rows_used - stats.rows_free == len(m)
            assert stats.rows_free <= 8
            assert list(m) == order or make_case.traits.index != "hash"
        if not make_case.traits.few_chains and make_case.traits.index != "direct":
            assert m.nbytes < before / 2

    def test_empty(self, make_map):
        m = make_map()
        m.compact()
        assert len(m) == 0
        m[1] = 1.0
        assert list(m) == [1]

    def test_twice(self, make_case):
        case = make_case()
        case.map.compact()
        case.map.compact()
        case.check()


STATS = {
    "count": int,
    "index": str,
    "leaving_direct": bool,
    "bucket_count": int,
    "overflow_count": int,
    "load": float,
    "longest_chain": int,
    "evacuated": float,
    "page_count": int,
    "page_rows": int,
    "bytes": int,
    "bytes_rows": int,
    "bytes_keys": int,
    "bytes_presence": int,
    "bytes_views": int,
    "bytes_buckets": int,
    "bytes_overflow": int,
    "bytes_directory": int,
    "rows_used": int,
    "rows_free": int,
    "rows_held": int,
    "views": int,
    "scans": int,
    "growths": int,
    "allocations": int,
}


class TestStats:
    def test_fields(self, make_case):
        case = make_case()
        stats = case.map.stats()
        for name, kind in STATS.items():
            assert type(getattr(stats, name)) is kind, name
            assert name in repr(stats)
        assert stats.count == len(case.model)
        assert stats.index == case.map.index
        assert stats.bytes == case.map.nbytes
        parts = sum(getattr(stats, name) for name in STATS if name.startswith("bytes_"))
        assert 0 <= parts <= stats.bytes
        assert stats.bytes_rows >= len(case.model) * 24 or make_case.traits.borrows
        assert 0.0 <= stats.evacuated <= 1.0
        assert stats.rows_used >= len(case.model)
        if make_case.traits.index == "hash":
            assert stats.rows_used - stats.rows_free - stats.rows_held == stats.count

    def test_cannot_be_set(self, make_map):
        stats = make_map().stats()
        with pytest.raises(AttributeError, match="count"):
            stats.count = 5

    def test_load_stays_below_its_limit(self):
        m = build_map("growing", (1,), keys=range(20_000))
        stats = m.stats()
        assert 2 < stats.load <= 6.6
        assert stats.growths > 1000
        assert stats.load == pytest.approx(20_000 / stats.bucket_count)


WRITES = {
    "set_many": lambda m, keys, rows: m.set_many(keys, rows),
    "add_many": lambda m, keys, rows: m.add_many(keys, rows),
    "update_many": lambda m, keys, rows: m.update_many(keys, rows, "min"),
    "update pairs": lambda m, keys, rows: m.update(list(zip(keys, rows, strict=True))),
    "ior": lambda m, keys, rows: m.__ior__(list(zip(keys, rows, strict=True))),
}


class TestAllOrNothing:
    @pytest.mark.parametrize("position", [0, 1, 9, 98, 99])
    @pytest.mark.parametrize("write", WRITES)
    def test_bad_key_at_every_position(self, make_case, write, position):
        case = make_case()
        before = snapshot(case.map)
        rows = rows_for(100, start=20)
        for bad, error in (
            (2**63, OverflowError),
            (-(2**63) - 1, OverflowError),
            ("a", TypeError),
            (None, TypeError),
            (1.5, TypeError),
        ):
            keys = list(range(50, 150))
            keys[position] = bad
            with pytest.raises(error):
                WRITES[write](case.map, keys, rows)
            same(before, case.map)

    @pytest.mark.parametrize("position", [0, 1, 9, 98, 99])
    @pytest.mark.parametrize("write", WRITES)
    def test_bad_row_at_every_position(self, make_case, write, position):
        case = make_case((2,), "int8")
        before = snapshot(case.map)
        rows = rows_for(100, (2,), "int64")
        rows[position, 1] = 1000
        with pytest.raises(OverflowError):
            WRITES[write](case.map, np.arange(50, 150).tolist(), rows)
        same(before, case.map)

    @pytest.mark.parametrize("position", [0, 1, 50, 98, 99])
    @pytest.mark.parametrize(
        "write",
        [
            lambda m, keys: m.set_many(keys, 1.0),
            lambda m, keys: m.add_many(keys, 1.0),
            lambda m, keys: m.update_many(keys, 1.0, "sub"),
            lambda m, keys: m.add_at(keys, 0),
            lambda m, keys: m.ensure_many(keys),
            lambda m, keys: m.update(dict.fromkeys(keys.tolist(), 1.0)),
            lambda m, keys: m.merge(build_map("hash", keys=keys)),
        ],
        ids=["set_many", "add_many", "update_many", "add_at", "ensure_many", "update", "merge"],
    )
    @pytest.mark.parametrize("kind", ["direct", "direct-segments"])
    def test_too_sparse_at_every_position(self, kind, write, position):
        case = build_case(kind)
        before = snapshot(case.map)
        keys = np.arange(50, 150)
        for far in (2**40, KEY_MIN, KEY_MAX):
            keys[position] = far
            with pytest.raises(ValueError, match="sparse"):
                write(case.map, keys)
            same(before, case.map)
            with pytest.raises(ValueError, match="sparse"):
                case.map[far] = 1.0
            with pytest.raises(ValueError, match="sparse"):
                case.map.setdefault(far)
            same(before, case.map)

    def test_missing_in_pop_many_at_every_position(self, make_case):
        case = make_case()
        before = snapshot(case.map)
        for position in range(0, 60, 7):
            keys = np.arange(60)
            keys[position] = -1
            with pytest.raises(KeyError):
                case.map.pop_many(keys)
            same(before, case.map)

    def test_bad_keys_when_removing(self, make_case):
        case = make_case()
        before = snapshot(case.map)
        for keys in ([1, "a"], [1, 2.5], [1, None], np.array([1.0])):
            for call in (case.map.delete_many, case.map.pop_many):
                with pytest.raises(TypeError):
                    call(keys)
                same(before, case.map)


class TestRoomForDistinctKeys:
    @pytest.mark.parametrize("index", ["hash", "auto"])
    @pytest.mark.parametrize("call", ["set_many", "add_many", "ensure_many", "add_at"])
    def test_never_for_the_length_of_the_batch(self, index, call):
        m = IntArrayMap(8, index=index)
        keys = np.arange(500_000) % 10
        arguments = {"set_many": (1.0,), "add_many": (1.0,), "ensure_many": (), "add_at": (0,)}[call]
        getattr(m, call)(keys, *arguments)
        assert len(m) == 10
        assert m.nbytes < 1 << 20
        assert m._check() is None

    @pytest.mark.parametrize("index", ["hash", "auto"])
    def test_nor_for_keys_that_are_there(self, index):
        m = IntArrayMap(8, index=index)
        m.set_many(np.arange(20_000), 1.0)
        before = m.nbytes
        for _ in range(5):
            m.set_many(np.arange(20_000), 2.0)
            m.add_many(np.arange(20_000)[::-1], 2.0)
        assert m.nbytes <= before * 1.01


def read_only_cases():
    return [
        ("get_many", lambda m, k: m.get_many(k, 0.0)),
        ("contains_many", lambda m, k: m.contains_many(k)),
        ("index_many", lambda m, k: m.index_many(k)),
    ]


@pytest.mark.parametrize(("name", "call"), read_only_cases())
def test_reading_changes_nothing(make_case, name, call):
    case = make_case()
    before = case.map.stats()
    call(case.map, np.arange(-100, 500))
    after = case.map.stats()
    assert [getattr(after, field) for field in STATS] == [getattr(before, field) for field in STATS]


KEYS = st.one_of(
    st.integers(-5, 70),
    st.integers(0, 100_000),
    st.sampled_from([FAR_KEY, FAR_KEY + 1, KEY_MIN, KEY_MAX, KEY_MIN + 1, -FAR_KEY]),
    st.integers(KEY_MIN, KEY_MAX),
)


@pytest.mark.parametrize("kind", list(KINDS))
@given(data=st.data())
def test_random_batches_against_a_dict(kind, data):
    dense = KINDS[kind].dense_only
    keys_strategy = st.lists(st.integers(-100, 3000) if dense else KEYS, max_size=60)
    case = build_case(kind, (2,), "int64", count=20)
    m, model = case.map, case.model
    for _ in range(data.draw(st.integers(1, 8))):
        keys = data.draw(keys_strategy)
        array = np.array(keys, dtype=np.int64)
        rows = np.array([data.draw(st.integers(-1000, 1000)) for _ in range(2 * len(keys))], "i8").reshape(-1, 2)
        call = data.draw(st.sampled_from(["set", "add", "max", "xor", "delete", "pop", "ensure", "get", "contains"]))
        if call in ("set", "add", "max", "xor"):
            m.update_many(array, rows, call)
            apply(model, keys, rows, call, (2,), "int64")
        elif call == "delete":
            removed = m.delete_many(array)
            assert removed.tolist() == [model.pop(key, None) is not None for key in keys]
        elif call == "pop":
            got = m.pop_many(array, [-5, -6])
            assert got.tolist() == [model.pop(key, np.array([-5, -6])).tolist() for key in keys]
        elif call == "ensure":
            _, created = m.ensure_many(array, 9)
            expected = []
            for key in keys:
                expected.append(key not in model)
                model.setdefault(key, np.array([9, 9]))
            assert created.tolist() == expected
        elif call == "get":
            assert m.get_many(array, -1).tolist() == [model.get(key, np.array([-1, -1])).tolist() for key in keys]
        else:
            assert m.contains_many(array).tolist() == [key in model for key in keys]
    case.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row_shape", [(1,), (5,), (2, 3), (33,)])
def test_every_width_and_dtype(make_map, dtype, row_shape):
    """Row sizes that are no power of two, rows of one byte, rows of hundreds."""
    keys = np.arange(300)
    rows = rows_for(300, row_shape, dtype)
    m = make_map(row_shape, dtype, keys, rows)
    order = np.random.default_rng(2).permutation(300)
    assert bits(m.get_many(order)) == bits(rows[order])
    got, found = m.get_many(order - 150, rows[0], return_mask=True)
    assert found.tolist() == (order >= 150).tolist()
    assert bits(got[found]) == bits(rows[order[found] - 150])
    assert bits(m.pop_many(order[:100])) == bits(rows[order[:100]])
    numbers = collections.Counter(m.index_many(order[100:]).tolist())
    assert max(numbers.values()) == 1
    m.set_many(order[:100], rows[order[:100]])
    assert bits(m.get_many(keys)) == bits(rows)


class TestBeyondInt64InPopMany:
    def test_the_second_of_a_duplicate_was_not_missing(self, make_case):
        case = make_case()
        for keys in ([5, 5, 2**63], np.array([5, 5, 2**63], "u8"), [5, 5, 10**30]):
            with pytest.raises(KeyError) as raised:
                case.map.pop_many(keys)
            assert (raised.value.key, raised.value.position, raised.value.missing_count) == (5, 1, 2)
        with pytest.raises(KeyError) as raised:
            case.map.pop_many([[2**63, 6], [7, 6]])
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (2**63, 0, 2)
        with pytest.raises(KeyError) as raised:
            case.map.get_many([5, 5, 2**63])
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (2**63, 2, 1)
        case.check()

    def test_what_they_look_like_in_64_bits_is_no_duplicate(self, make_any_key_map):
        m = make_any_key_map(keys=[-1, 0])
        with pytest.raises(KeyError) as raised:
            m.pop_many([-1, 2**64 - 1, 0])
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (2**64 - 1, 1, 1)
        assert sorted(m) == [-1, 0]

    def test_a_read_only_map_had_no_such_key(self, make_map, tmp_path):
        make_map(keys=[5]).save(tmp_path / "m.iam")
        with type(make_map()).open(tmp_path / "m.iam") as opened:
            for keys in ([2**70], [5, 2**70], [5, 2**63]):
                for default in ((), (0,)):
                    with pytest.raises(ValueError, match="read-only"):
                        opened.pop_many(keys, *default)


@pytest.mark.parametrize("kind", ["M", "m"])
def test_times_of_no_steps_ended_the_process(kind):
    m = build_map("auto", (2,), f"{kind}8[s]", [1])
    row = np.zeros((1, 2), "i8").view(f"{kind}8[0s]")
    for use in (
        lambda: m.get_many([1], out=row),
        lambda: m.get_many([2], row),
        lambda: m.pop_many([2], row[0]),
        lambda: m.ensure_many([2], row[0, 0]),
        lambda: m.update_many([1], row, "set"),
        lambda: m.contains_many(row),
    ):
        with pytest.raises(TypeError):
            use()


class TestAddAtNames:
    """The item that is outside its row, by its place in what the caller gave."""

    @pytest.mark.parametrize(
        ("keys", "items", "name"),
        [
            (np.zeros((2, 2), int), [[0, 1], [2, 9]], r"items[1, 1] = 9 "),
            (np.zeros((2, 2), int), [0, 9], r"items[1] = 9 "),
            (np.zeros((2, 2), int), [[0], [-1]], r"items[1, 0] = -1 "),
            (np.zeros((2, 3, 2), int), [[[0, 1]], [[9, 9]]], r"items[1, 0, 0] = 9 "),
            (np.zeros((2, 3, 2), int), [[0, 1], [2, 3], [4, 0]], r"items[2, 0] = 4 "),
            (np.zeros(3, int), [9], r"items[0] = 9 "),
            (np.zeros(3, int), 9, r"items[0] = 9 "),
            (0, 9, r"items[0] = 9 "),
            ([[0, 0]], [[0, 2**63]], r"items[0, 1] = 9223372036854775808 "),
        ],
    )
    def test_of_more_axes_had_one(self, make_map, keys, items, name):
        m = make_map((4,), "int64", [0])
        before = m[0].tolist()
        with pytest.raises(ValueError) as raised:
            m.add_at(keys, items)
        assert name in str(raised.value)
        assert m[0].tolist() == before

    def test_too_long_to_be_written_out(self, make_map):
        with pytest.raises(ValueError, match=r"items\[1\] = an integer of 16610 bits is outside a row of 3 items"):
            make_map().add_at([5, 5], [0, 10**5000])


@pytest.mark.parametrize(
    "key", [2**63, -(2**63) - 1, 10**30, np.uint64(2**63), np.array(2**64 - 1, "u8"), np.array(2**70, object)]
)
def test_a_single_key_that_no_int64_can_be(make_case, key):
    """NumPy makes scalars of what is calculated from arrays of no axis, and the marks of such keys were calculated."""
    case = make_case()
    m, before = case.map, case.map.to_arrays()
    out = np.full(m.row_shape, 7, m.dtype)
    for got in (m.get_many(key, 0), m.get_many(key, 0, out=out), m.pop_many(key, 0)):
        assert got.shape == m.row_shape and got.dtype == m.dtype and not got.any()
    assert not out.any()
    rows, found = m.get_many(key, 1, return_mask=True)
    assert rows.shape == m.row_shape and (rows == 1).all()
    for mask in (found, m.contains_many(key), m.delete_many(key)):
        assert type(mask) is np.ndarray and mask.shape == () and mask.dtype == bool and not mask
    assert m.index_many(key).shape == () and m.index_many(key) == -1
    for call in (m.get_many, m.pop_many):
        with pytest.raises(MissingKeyError) as raised:
            call(key)
        assert (raised.value.key, raised.value.position, raised.value.missing_count) == (int(key), 0, 1)
    for wrong in (m.set_many, m.add_many, lambda key, row: m.ensure_many(key), lambda key, row: m.add_at(key, 0)):
        with pytest.raises(OverflowError, match=f"keys = {int(key)} is outside int64"):
            wrong(key, 1)
    assert all(np.array_equal(now, then) for now, then in zip(m.to_arrays(), before, strict=True))
