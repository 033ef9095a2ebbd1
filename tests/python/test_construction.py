"""Promise §1: the object, its arguments and attributes."""

from __future__ import annotations

import collections.abc
import copy
import enum
import pickle
import re
import sys
import weakref

import numpy as np
import pytest
from model import DTYPES, KEY_MAX, KEY_MIN, bits, rows_for

from intarraymap import IntArrayMap


class TestRowShape:
    @pytest.mark.parametrize(
        ("given", "shape"),
        [
            (1, (1,)),
            (4, (4,)),
            ((4,), (4,)),
            ((2, 3), (2, 3)),
            ((1, 1, 1), (1, 1, 1)),
            ((2, 1, 3, 1, 2), (2, 1, 3, 1, 2)),
        ],
    )
    def test_is_always_a_tuple(self, given, shape):
        m = IntArrayMap(given)
        assert m.row_shape == shape
        assert type(m.row_shape) is tuple
        assert all(type(size) is int for size in m.row_shape)
        m[1] = 2.0
        assert m[1].shape == shape
        assert (m[1] == 2.0).all()

    @pytest.mark.parametrize(
        "given", [[3], 3.0, "3", None, (2.0,), ("a",), (None,), {3}, {3: 1}, np.array([3]), object(), ((2,),)]
    )
    def test_type_error(self, given):
        with pytest.raises(TypeError):
            IntArrayMap(given)

    @pytest.mark.parametrize("given", [0, -1, -(2**70), (), (0,), (3, 0), (2, -1), (0, 2**40)])
    def test_value_error(self, given):
        with pytest.raises(ValueError):
            IntArrayMap(given)

    @pytest.mark.parametrize(
        "given", [2**31, 2**63, 2**64, 10**30, (2**16, 2**16), (2**62, 4), (2**32, 2**32), (2**31, 1)]
    )
    @pytest.mark.parametrize("dtype", ["int8", "float64"])
    def test_overflow_error(self, given, dtype):
        with pytest.raises(OverflowError):
            IntArrayMap(given, dtype)

    @pytest.mark.parametrize(
        ("dtype", "most"), [("int8", 2**30), ("float32", 2**28), ("float64", 2**27), ("complex128", 2**26)]
    )
    def test_one_gibibyte_is_the_most(self, dtype, most):
        assert IntArrayMap(most, dtype).row_shape == (most,)
        with pytest.raises(OverflowError):
            IntArrayMap(most + 1, dtype)

    def test_is_required(self):
        with pytest.raises(TypeError):
            IntArrayMap()


class TestDtype:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_accepted(self, dtype):
        for given in (dtype, np.dtype(dtype)):
            m = IntArrayMap(2, given)
            assert m.dtype == np.dtype(dtype)
            assert isinstance(m.dtype, np.dtype)
            m[5] = rows_for(1, (2,), dtype)[0]
            assert m[5].dtype == np.dtype(dtype)

    @pytest.mark.parametrize(
        "dtype", [float, int, bool, complex, np.float32, np.uint8, "f4", "i2", "?", "M8[25s]", "m8[D]"]
    )
    def test_every_spelling(self, dtype):
        assert IntArrayMap(1, dtype).dtype == np.dtype(dtype)

    def test_default_is_float64(self):
        assert IntArrayMap(1).dtype == np.dtype("float64")

    @pytest.mark.parametrize("name", ["f8", "i4", "u2", "c16", "M8[ns]", "f2"])
    def test_byte_order_is_stored_native(self, name):
        swapped = np.dtype(name).newbyteorder("S")
        m = IntArrayMap(2, swapped)
        assert m.dtype == np.dtype(name)
        assert m.dtype.isnative
        m[1] = rows_for(1, (2,), name)[0]
        assert m[1].dtype.isnative

    @pytest.mark.parametrize(
        "dtype",
        [
            None,
            object,
            "O",
            "U5",
            "S3",
            str,
            bytes,
            "V8",
            np.void,
            [("a", "f8")],
            ("f8", (2,)),
            "f8,i4",
            "longdouble",
            "clongdouble",
        ]
        + ["M8", "m8", "nonsense", 3.5, [], np.dtypes.StringDType()],
        ids=str,
    )
    def test_refused(self, dtype):
        with pytest.raises(TypeError):
            IntArrayMap(3, dtype)

    @pytest.mark.parametrize(
        ("dtype", "instead"), [("longdouble", "float64"), ("clongdouble", "complex128"), ("M8", r"\["), ("m8", r"\[")]
    )
    def test_refusal_says_what_to_use_instead(self, dtype, instead):
        with pytest.raises(TypeError, match=instead):
            IntArrayMap(3, dtype)


class TestCapacity:
    @pytest.mark.parametrize("capacity", [1.0, "3", None, (1,), [1]])
    def test_type_error(self, capacity):
        with pytest.raises(TypeError):
            IntArrayMap(3, capacity=capacity)

    @pytest.mark.parametrize("capacity", [-1, -(2**63), -(2**70)])
    def test_value_error(self, capacity):
        with pytest.raises(ValueError):
            IntArrayMap(3, capacity=capacity)

    @pytest.mark.parametrize("capacity", [2**32 - 1, 2**32, 2**63, 2**64, 10**30])
    def test_more_than_the_most_rows(self, capacity):
        with pytest.raises(OverflowError):
            IntArrayMap(3, capacity=capacity)

    @pytest.mark.parametrize("index", ["auto", "hash", "direct"])
    def test_more_than_there_is(self, index):
        with pytest.raises(MemoryError, match="^creating a map: out of memory$"):
            IntArrayMap(2**27, capacity=2**32 - 2, index=index)

    @pytest.mark.parametrize("index", ["auto", "hash", "direct"])
    def test_is_room_and_not_rows(self, index):
        m = IntArrayMap(3, capacity=1000, index=index)
        assert len(m) == 0
        assert list(m) == []
        assert m._check() is None

    def test_is_counted_in_nbytes(self):
        assert IntArrayMap(8, capacity=10_000, index="hash").nbytes >= 10_000 * 72

    def test_arguments_are_by_keyword(self):
        with pytest.raises(TypeError):
            IntArrayMap(3, "f8", 10)


class TestIndexArgument:
    @pytest.mark.parametrize(
        ("given", "becomes"), [("hash", {"hash"}), ("direct", {"direct"}), ("auto", {"hash", "direct"})]
    )
    def test_accepted(self, given, becomes):
        assert IntArrayMap(3, index=given).index in becomes

    @pytest.mark.parametrize("given", ["", "nope", "HASH", "hash ", "auto\0"])
    def test_value_error(self, given):
        with pytest.raises(ValueError):
            IntArrayMap(3, index=given)

    @pytest.mark.parametrize("given", [None, 1, b"hash", ["hash"]])
    def test_not_a_string(self, given):
        with pytest.raises(ValueError, match=f"index must be .*{type(given).__name__}"):
            IntArrayMap(3, index=given)


class TestSeed:
    @pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, None])
    def test_accepted(self, seed):
        m = IntArrayMap(3, index="hash", seed=seed)
        m.set_many(np.arange(100), 1.0)
        assert len(m) == 100
        assert m._check() is None

    @pytest.mark.parametrize("seed", ["1", 1.0, (1,), b"1"])
    def test_type_error(self, seed):
        with pytest.raises(TypeError):
            IntArrayMap(3, seed=seed)

    @pytest.mark.parametrize("seed", [-1, 2**64, 10**40])
    def test_overflow_error(self, seed):
        with pytest.raises(OverflowError):
            IntArrayMap(3, seed=seed)

    def test_is_never_shown(self):
        seed = 0x1122334455667788
        m = IntArrayMap(3, seed=seed)
        m[1] = 1.0
        shown = [repr(m), str(m), str(m.stats()), repr(getattr(m, "__dict__", ""))]
        shown += [str(getattr(m, name)) for name in dir(m) if not callable(getattr(m, name)) and name != "__doc__"]
        for text in shown:
            assert str(seed) not in text
            assert f"{seed:x}" not in text.lower()
        assert not hasattr(m, "seed")


def test_unknown_argument():
    with pytest.raises(TypeError):
        IntArrayMap(3, color="red")


class TestFromArrays:
    @pytest.mark.parametrize("index", ["auto", "hash", "direct"])
    def test_builds(self, index):
        keys, rows = np.arange(100) - 50, rows_for(100, (2, 3), "int32")
        m = IntArrayMap.from_arrays(keys, rows, index=index)
        assert type(m) is IntArrayMap
        assert m.row_shape == (2, 3)
        assert m.dtype == np.dtype("int32")
        assert len(m) == 100
        assert np.array_equal(m.get_many(keys), rows)
        assert m._check() is None

    def test_last_duplicate_wins(self):
        m = IntArrayMap.from_arrays([5, 6, 5, 5], [[1.0], [2.0], [3.0], [4.0]])
        assert len(m) == 2
        assert m[5].tolist() == [4.0]
        assert m[6].tolist() == [2.0]

    def test_copies(self):
        keys, rows = np.arange(10), rows_for(10)
        before = rows.copy()
        m = IntArrayMap.from_arrays(keys, rows)
        rows[:] = -1
        keys[:] = 77
        assert np.array_equal(m.get_many(np.arange(10)), before)

    def test_dtype_converts(self):
        m = IntArrayMap.from_arrays([1, 2], np.array([[1, 2], [3, 4]]), dtype="float32")
        assert m.dtype == np.dtype("float32")
        assert m[2].tolist() == [3.0, 4.0]

    def test_native_byte_order(self):
        m = IntArrayMap.from_arrays([1, 2], np.array([[1, 2], [3, 4]], ">i4"))
        assert m.dtype == np.dtype("int32")
        assert m[1].tolist() == [1, 2]

    def test_nested_lists(self):
        m = IntArrayMap.from_arrays([7, 8], [[1, 2, 3], [4, 5, 6]])
        assert m.row_shape == (3,)
        assert m.dtype.kind == "i"
        assert m[8].tolist() == [4, 5, 6]

    def test_empty(self):
        m = IntArrayMap.from_arrays([], np.empty((0, 3), "int16"))
        assert (len(m), m.row_shape, m.dtype) == (0, (3,), np.dtype("int16"))

    def test_strided(self):
        rows = rows_for(40, (6,))
        m = IntArrayMap.from_arrays(np.arange(40)[::-2], rows[::2, ::-3])
        assert np.array_equal(m.get_many(np.arange(40)[::-2]), rows[::2, ::-3])

    @pytest.mark.parametrize(
        ("keys", "rows", "error", "what"),
        [
            ([1, 2], np.ones((3, 2)), ValueError, "rows of shape (3, 2): expected (2,)"),
            ([1, 2, 3], np.ones((2, 2)), ValueError, "rows of shape (2, 2): expected (3,)"),
            ([1.0, 2.0], np.ones((2, 2)), TypeError, "keys[0] must be an integer, not float"),
            ([1, 2], np.array([["a"], ["b"]]), TypeError, "dtype <U1 is not supported: strings"),
            ([1, 2], np.array([[None], [None]]), TypeError, "dtype object is not supported"),
            (np.array([2**63], "u8"), np.ones((1, 2)), OverflowError, "keys[0] = 9223372036854775808 is outside int64"),
            ([1], np.ones((1, 0)), ValueError, "row_shape must be of ints >= 1, not 0"),
            (None, np.ones((1, 2)), TypeError, "keys must be an integer, not NoneType"),
        ],
    )
    def test_errors(self, keys, rows, error, what):
        with pytest.raises(error, match=f"^{re.escape(what)}") as raised:
            IntArrayMap.from_arrays(keys, rows)
        assert raised.type is error

    def test_direct_too_sparse(self):
        with pytest.raises(ValueError):
            IntArrayMap.from_arrays([0, 2**40], np.ones((2, 2)), index="direct")

    def test_class(self):
        class Child(IntArrayMap):
            pass

        assert type(Child.from_arrays([1], np.ones((1, 2)))) is Child

    def test_index_and_seed_are_checked(self):
        with pytest.raises(ValueError):
            IntArrayMap.from_arrays([1], np.ones((1, 2)), index="no")
        with pytest.raises(OverflowError):
            IntArrayMap.from_arrays([1], np.ones((1, 2)), seed=-1)


class TestFromkeys:
    @pytest.mark.parametrize("keys", [[3, 4, 5], (3, 4, 5), range(3, 6), {3: 0, 4: 0, 5: 0}, np.array([3, 4, 5])])
    def test_iterables(self, keys):
        m = IntArrayMap.fromkeys(keys, [1.5, 2.5])
        assert sorted(m) == [3, 4, 5]
        assert m.row_shape == (2,)
        assert m.dtype == np.dtype("float64")
        assert all(row.tolist() == [1.5, 2.5] for row in m.values())

    def test_iterator_and_map(self):
        assert sorted(IntArrayMap.fromkeys(iter([1, 2]), [0])) == [1, 2]
        source = IntArrayMap.fromkeys([8, 9], [0])
        assert sorted(IntArrayMap.fromkeys(source, [1, 2])) == [8, 9]

    def test_rows_are_independent(self):
        row = np.array([1.0, 2.0])
        m = IntArrayMap.fromkeys([1, 2], row)
        m[1][0] = 9
        row[:] = 7
        assert m[1].tolist() == [9.0, 2.0]
        assert m[2].tolist() == [1.0, 2.0]

    def test_dtype(self):
        m = IntArrayMap.fromkeys([1], [1, 2], dtype="float32")
        assert m.dtype == np.dtype("float32")
        assert IntArrayMap.fromkeys([1], np.array([1, 2], "i2")).dtype == np.dtype("int16")

    def test_no_keys(self):
        m = IntArrayMap.fromkeys([], [1.0, 2.0])
        assert len(m) == 0
        assert m.row_shape == (2,)

    def test_class(self):
        class Child(IntArrayMap):
            pass

        assert type(Child.fromkeys([1], [1.0])) is Child
        assert type(Child(1).fromkeys([1], [1.0])) is Child

    @pytest.mark.parametrize(
        ("keys", "error", "what"),
        [
            (3, TypeError, "keys must be iterable, not int"),
            ([1, "a"], TypeError, "keys[1] must be an integer, not str"),
            ([1, 2.0], TypeError, "keys[1] must be an integer, not float"),
            ([2**63], OverflowError, "keys[0] = 9223372036854775808 is outside int64"),
        ],
    )
    def test_errors(self, keys, error, what):
        with pytest.raises(error, match=f"^{re.escape(what)}$") as raised:
            IntArrayMap.fromkeys(keys, [1.0])
        assert raised.type is error

    def test_source_error_comes_through(self):
        class SourceError(Exception):
            pass

        def source():
            yield 1
            raise SourceError

        with pytest.raises(SourceError):
            IntArrayMap.fromkeys(source(), [1.0])


class TestAttributes:
    @pytest.mark.parametrize("name", ["row_shape", "dtype", "index", "nbytes", "read_only"])
    def test_cannot_be_set(self, name):
        m = IntArrayMap(3)
        before = getattr(m, name)
        with pytest.raises(AttributeError):
            setattr(m, name, before)
        with pytest.raises(AttributeError):
            delattr(m, name)
        assert getattr(m, name) == before

    def test_read_only(self):
        assert IntArrayMap(3).read_only is False

    def test_nbytes_grows_and_covers_the_rows(self, make_map):
        m = make_map((8,), "float64", range(5000))
        assert type(m.nbytes) is int
        assert m.nbytes >= 5000 * 64 or make_map.traits.borrows
        assert sys.getsizeof(m) >= m.nbytes

    def test_index_is_what_it_is_now(self, make_map):
        m = make_map(keys=range(10))
        assert m.index in ("hash", "direct")
        assert m.index == m.stats().index
        if make_map.traits.index != "auto":
            assert m.index == make_map.traits.index


class TestClass:
    def test_is_a_mutable_mapping(self):
        assert issubclass(IntArrayMap, collections.abc.MutableMapping)
        assert isinstance(IntArrayMap(1), collections.abc.MutableMapping)
        assert collections.abc.MutableMapping in IntArrayMap.__mro__, "is one, not only registered as one"

    def test_table_comes_first_among_the_bases(self):
        assert IntArrayMap.__bases__[0].__name__ == "Table"
        for name in ("__getitem__", "__setitem__", "__delitem__", "__contains__", "__len__", "get"):
            owner = next(cls for cls in IntArrayMap.__mro__ if name in cls.__dict__)
            assert owner.__name__ == "Table", f"{name} is the binding's own"

    def test_can_be_subscripted(self):
        assert IntArrayMap[np.dtype("float64")] is not None

    def test_unhashable(self, make_map):
        with pytest.raises(TypeError):
            hash(make_map(keys=[1]))

    def test_weak_references(self):
        m = IntArrayMap(1)
        reference = weakref.ref(m)
        assert reference() is m
        del m
        assert reference() is None

    def test_weak_reference_callback(self):
        m, called = IntArrayMap(1), []
        weakref.finalize(m, called.append, 1)
        del m
        assert called == [1]


#: Every use of a map; `m.close` among them.
USES = {
    "len": len,
    "bool": bool,
    "in": lambda m: 1 in m,
    "iter": lambda m: list(m),
    "reversed": lambda m: list(reversed(m)),
    "getitem": lambda m: m[1],
    "setitem": lambda m: m.__setitem__(1, 0),
    "delitem": lambda m: m.__delitem__(1),
    "get": lambda m: m.get(1),
    "pop": lambda m: m.pop(1, None),
    "popitem": lambda m: m.popitem(),
    "setdefault": lambda m: m.setdefault(1),
    "keys": lambda m: list(m.keys()),
    "values": lambda m: list(m.values()),
    "items": lambda m: list(m.items()),
    "update": lambda m: m.update({1: 0}),
    "or": lambda m: m | {1: 0},
    "ior": lambda m: m.__ior__({1: 0}),
    "eq": lambda m: m == {},
    "copy": lambda m: m.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "clear": lambda m: m.clear(),
    "scan": lambda m: list(m.scan()),
    "get_many": lambda m: m.get_many([1], 0),
    "get_many none": lambda m: m.get_many([], 0),
    "set_many": lambda m: m.set_many([1], 0),
    "set_many none": lambda m: m.set_many([], 0),
    "add_many": lambda m: m.add_many([1], 0),
    "update_many": lambda m: m.update_many([1], 0, "set"),
    "add_at": lambda m: m.add_at([1], [0]),
    "contains_many": lambda m: m.contains_many([1]),
    "delete_many": lambda m: m.delete_many([1]),
    "pop_many": lambda m: m.pop_many([1], 0),
    "index_many": lambda m: m.index_many([1]),
    "ensure_many": lambda m: m.ensure_many([1]),
    "merge": lambda m: m.merge(m),
    "to_arrays": lambda m: m.to_arrays(),
    "blocks": lambda m: m.blocks(),
    "reserve": lambda m: m.reserve(1),
    "compact": lambda m: m.compact(),
    "stats": lambda m: m.stats(),
    "enter": lambda m: m.__enter__(),
}
ATTRIBUTES = {
    name: lambda m, name=name: getattr(m, name) for name in ("row_shape", "dtype", "index", "nbytes", "read_only")
}


class TestNewAlone:
    @pytest.mark.parametrize("use", [*USES.values(), *ATTRIBUTES.values()], ids=[*USES, *ATTRIBUTES])
    def test_every_use_raises(self, use):
        m = IntArrayMap.__new__(IntArrayMap)
        with pytest.raises(RuntimeError):
            use(m)

    def test_check_and_close_raise(self):
        m = IntArrayMap.__new__(IntArrayMap)
        for call in (m._check, m.close):
            with pytest.raises(RuntimeError):
                call()

    def test_as_another_map(self):
        good, bare = IntArrayMap(1), IntArrayMap.__new__(IntArrayMap)
        for use in (lambda: good == bare, lambda: good.merge(bare), lambda: good.update(bare), lambda: good | bare):
            with pytest.raises(RuntimeError):
                use()
        assert len(good) == 0

    def test_repr(self):
        assert "IntArrayMap" in repr(IntArrayMap.__new__(IntArrayMap))

    def test_subclass_that_forgets_to_call_init(self):
        class Forgetful(IntArrayMap):
            def __init__(self):
                pass

        with pytest.raises(RuntimeError):
            len(Forgetful())

    def test_init_later_works(self):
        m = IntArrayMap.__new__(IntArrayMap)
        m.__init__(2)
        m[1] = 5
        assert m[1].tolist() == [5.0, 5.0]

    def test_init_that_failed_leaves_it_as_it_was(self):
        m = IntArrayMap.__new__(IntArrayMap)
        with pytest.raises(TypeError):
            m.__init__("nonsense")
        with pytest.raises(RuntimeError):
            len(m)


class TestInitAgain:
    @pytest.mark.parametrize("arguments", [(3,), (2, "int8"), ("nonsense",)])
    def test_changes_nothing(self, make_map, arguments):
        m = make_map(keys=[1, 2, 3])
        view, before = m[2], m.to_arrays()
        with pytest.raises(RuntimeError):
            m.__init__(*arguments)
        after = m.to_arrays()
        assert bits(before[0]) == bits(after[0])
        assert bits(before[1]) == bits(after[1])
        assert (m.row_shape, m.dtype) == ((3,), np.dtype("float64"))
        view[0] = 99
        assert m[2][0] == 99

    def test_after_close(self):
        m = IntArrayMap(1)
        m.close()
        with pytest.raises(RuntimeError, match="__init__ works only once"):
            m.__init__(1)
        with pytest.raises(ValueError, match="closed"):
            len(m)


class TestManyRowsAtMost:
    def test_reserve_beyond(self):
        m = IntArrayMap(1)
        with pytest.raises(OverflowError):
            m.reserve(2**32 - 1)
        assert len(m) == 0


@pytest.mark.parametrize(
    "option", [{"simd": "scalar"}, {"simd": "baseline"}, {"simd": "avx2"}, {"pipeline": True}, {"pipeline": False}]
)
@pytest.mark.parametrize(
    "more", [{"growth": "steps"}, {"growth": "stop"}, {"huge_pages": True}, {"huge_pages": False}, {"reserve": False}]
)
@pytest.mark.parametrize("index", ["hash", "auto"])
def test_private_options_change_no_result(option, more, index):
    keys = np.concatenate([np.arange(3000), np.array([KEY_MIN, KEY_MAX, -1])])
    rows = rows_for(len(keys), (5,), "float32")
    m = IntArrayMap((5,), "float32", index=index, _options={**option, **more})
    for key, row in zip(keys.tolist(), rows, strict=True):
        m[key] = row
    assert np.array_equal(m.get_many(keys), rows)
    m.add_many(keys, rows)
    assert np.array_equal(m.get_many(keys), rows + rows)
    removed = m.delete_many(keys[::2])
    assert removed.all()
    assert m.contains_many(keys).sum() == len(keys) // 2
    assert m._check() is None


#: Times whose unit NumPy takes and then divides by, or divides while it reads it: to the processor a division by zero.
STEPLESS = ["M8[0s]", "m8[0ns]", "M8[-0D]", "M8[0Y]", "M8[s/0]", "m8[s/ 0]", "M8[s/-1]", "M8[s/4294967296]"]


@pytest.mark.parametrize("dtype", [*STEPLESS, "M8[W/2147483647]", b"M8[s/0]", "i4,M8[s/00]"], ids=str)
def test_times_of_no_steps_ended_the_process(dtype):
    with pytest.raises(TypeError, match="dtype"):
        IntArrayMap(1, dtype)
    with pytest.raises(TypeError, match="dtype"):
        IntArrayMap.fromkeys([1], [0], dtype)


@pytest.mark.parametrize("dtype", [name for name in STEPLESS if "0" in name[3:5]])
def test_rows_of_no_steps_were_a_map_of_them(dtype):
    rows = np.zeros((1, 2), "i8").view(dtype)
    for build in (lambda: IntArrayMap.from_arrays([1], rows), lambda: IntArrayMap.fromkeys([1], rows[0])):
        with pytest.raises(TypeError, match="steps"):
            build()


def test_a_unit_may_still_be_divided():
    assert IntArrayMap(1, "M8[D/24]").dtype == np.dtype("M8[h]")


def test_an_int32_with_fields_was_taken_for_an_int32():
    with pytest.raises(TypeError, match="structured"):
        IntArrayMap(1, np.dtype((np.int32, {"a": (np.int16, 0), "b": (np.int16, 2)})))


@pytest.mark.parametrize("shape", [[[1], [1, 2]], [[[1]], [1]], [np.zeros(2), 1], []])
def test_a_ragged_list_of_lengths_was_a_value_error(shape):
    with pytest.raises(TypeError, match="list"):
        IntArrayMap(shape)


def test_integers_too_long_to_be_written_out_were_value_errors():
    for make in (lambda number: IntArrayMap(number), lambda number: IntArrayMap((2, number))):
        with pytest.raises(OverflowError, match="bits"):
            make(10**5000)
        with pytest.raises(ValueError, match="bits"):
            make(-(10**5000))
    for use in (lambda number: IntArrayMap(1, capacity=number), IntArrayMap(1).reserve):
        with pytest.raises(OverflowError, match="16610 bits"):
            use(10**5000)
        with pytest.raises(ValueError, match="16610 bits"):
            use(-(10**5000))


def test_a_string_enum_names_an_index():
    assert IntArrayMap(1, index=enum.Enum("Named", {"HASH": "hash"}, type=str).HASH).index == "hash"
