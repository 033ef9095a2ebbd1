"""Promise §2: which keys there are, which are refused and how."""

from __future__ import annotations

import decimal
import fractions

import numpy as np
import pytest
from model import KEY_MAX, KEY_MIN, bits, copy_of, plain, rows_for


class Index:
    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


SPECIAL_KEYS = [
    0,
    1,
    -1,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32 - 2,
    2**32 - 1,
    2**32,
    2**62,
    KEY_MAX - 1,
    KEY_MAX,
    KEY_MIN,
    KEY_MIN + 1,
]
OUTSIDE = [
    2**63,
    2**64,
    -(2**63) - 1,
    10**40,
    -(10**40),
    np.uint64(2**63),
    np.uint64(2**64 - 1),
    Index(2**63),
    Index(-(2**63) - 1),
]
WRONG = [
    1.0,
    np.float64(1.0),
    "1",
    b"1",
    None,
    (1,),
    [1],
    {1: 1},
    {1},
    1j,
    decimal.Decimal(1),
    fractions.Fraction(1),
    object(),
    ...,
]
WRONG += [np.datetime64(1, "s"), np.str_("1"), np.complex64(1), type]
DEFAULT = object()


class TestLegalKeys:
    @pytest.mark.parametrize("key", SPECIAL_KEYS)
    def test_no_reserved_key(self, make_map, key):
        m = make_map(keys=[key])
        assert key in m
        assert list(m) == [key]
        assert m.contains_many([key]).all()
        m[key] = [1.0, 2.0, 3.0]
        assert m[key].tolist() == [1.0, 2.0, 3.0]
        for other in (key + 1, key - 1, -key, key ^ 1, key ^ 2**31, key ^ 2**32):
            if other != key and KEY_MIN <= other <= KEY_MAX:
                assert other not in m
                assert m.get(other) is None
        del m[key]
        assert key not in m
        assert len(m) == 0

    def test_all_special_keys_together(self, make_any_key_map):
        m = make_any_key_map(keys=SPECIAL_KEYS)
        assert sorted(m) == sorted(SPECIAL_KEYS)
        assert m.get_many(SPECIAL_KEYS).tolist() == rows_for(len(SPECIAL_KEYS)).tolist()

    @pytest.mark.parametrize(
        "key",
        [
            5,
            np.int8(5),
            np.uint8(5),
            np.int16(5),
            np.int32(5),
            np.int64(5),
            np.uint64(5),
            np.array(5),
            np.array(5, "u2"),
            Index(5),
        ]
        + [np.array(5, ">i4"), np.intp(5)],
    )
    def test_anything_with_index(self, make_map, key):
        m = make_map(keys=[4, 5, 6])
        assert key in m
        assert np.shares_memory(m[key], m[5])
        assert np.shares_memory(m.get(key), m[5])
        m[key] = 9.0
        assert m[5].tolist() == [9.0, 9.0, 9.0]
        assert np.shares_memory(m.setdefault(key), m[5])
        assert m.pop(key).tolist() == [9.0, 9.0, 9.0]
        m[key] = 1.0
        del m[key]
        assert 5 not in m
        m[key] = 1.0
        assert sorted(m) == [4, 5, 6]
        assert all(type(k) is int for k in m)

    @pytest.mark.parametrize("key", [True, np.bool_(True)])
    def test_bools(self, make_map, key):
        m = make_map(keys=[0, 1])
        assert np.shares_memory(m[key], m[1])
        assert key in m
        m[key] = 3.0
        assert m[1].tolist() == [3.0, 3.0, 3.0]
        del m[key]
        assert list(m) == [0]
        m[key] = 1.0
        assert sorted(m) == [0, 1]
        assert [type(k) for k in m] == [int, int]

    def test_keys_come_back_as_int(self, make_map):
        m = make_map()
        m[np.int16(7)] = 1.0
        m.set_many(np.array([8], "u1"), 1.0)
        assert [type(k) for k in m] == [int, int]
        assert [type(k) for k in m.keys()] == [int, int]
        assert [type(k) for k, _ in m.items()] == [int, int]
        assert [type(k) for k, _ in m.scan()] == [int, int]
        assert type(m.popitem()[0]) is int
        assert m.to_arrays()[0].dtype == np.int64


class TestKeysOutsideInt64:
    @pytest.mark.parametrize("key", OUTSIDE, ids=plain)
    def test_table(self, make_map, key):
        m = make_map(keys=[0, 1, 2])
        before = copy_of(m)
        number = key.__index__()
        for call in (lambda: m[key], lambda: m.__delitem__(key), lambda: m.pop(key)):
            with pytest.raises(KeyError) as raised:
                call()
            assert raised.value.args == (number,)
        assert (key in m) is False
        assert m.get(key) is None
        assert m.get(key, DEFAULT) is DEFAULT
        assert m.pop(key, DEFAULT) is DEFAULT
        for call in (lambda: m.__setitem__(key, 0.0), lambda: m.setdefault(key), lambda: m.setdefault(key, 1.0)):
            with pytest.raises(OverflowError, match=str(number)):
                call()
        assert copy_of(m).keys() == before.keys()


class TestKeysOfWrongType:
    @pytest.mark.parametrize("key", WRONG, ids=plain)
    def test_table(self, make_map, key):
        m = make_map(keys=[0, 1, 2])
        calls = [
            lambda: m[key],
            lambda: m.__setitem__(key, 0.0),
            lambda: m.__delitem__(key),
            lambda: m.pop(key),
            lambda: m.pop(key, DEFAULT),
            lambda: m.get(key),
            lambda: m.get(key, DEFAULT),
            lambda: m.setdefault(key),
            lambda: m.setdefault(key, 0.0),
        ]
        for call in calls:
            with pytest.raises(TypeError):
                call()
        assert (key in m) is False
        assert sorted(m) == [0, 1, 2]

    @pytest.mark.parametrize(
        "key", [np.array(1.0), np.array([1]), np.array([[1]]), np.array([True]), np.array(["a"])], ids=plain
    )
    def test_arrays_that_are_no_integer(self, make_map, key):
        m = make_map(keys=[0, 1, 2])
        for call in (lambda: m[key], lambda: m.get(key), lambda: m.__setitem__(key, 0.0), lambda: m.__delitem__(key)):
            with pytest.raises(TypeError):
                call()
        assert sorted(m) == [0, 1, 2]

    @pytest.mark.parametrize(("key", "name"), [("a", "str"), (1.0, "float"), (None, "NoneType"), ((1,), "tuple")])
    def test_message_names_the_type(self, make_map, key, name):
        m = make_map()
        with pytest.raises(TypeError, match=name):
            m[key]


class TestMissing:
    @pytest.mark.parametrize("key", [7, np.int32(7), np.uint64(7), Index(7)])
    def test_key_error_carries_the_int_itself(self, make_case, key):
        m = make_case(count=2).map
        for call in (lambda: m[key], lambda: m.__delitem__(key), lambda: m.pop(key)):
            with pytest.raises(KeyError) as raised:
                call()
            assert raised.value.args == (7,)
            assert type(raised.value.args[0]) is int


READERS = {
    "get_many": lambda m, keys: m.get_many(keys, 0),
    "contains_many": lambda m, keys: m.contains_many(keys),
    "index_many": lambda m, keys: m.index_many(keys),
}
REMOVERS = {
    "delete_many": lambda m, keys: m.delete_many(keys),
    "pop_many": lambda m, keys: m.pop_many(keys, 0),
}
WRITERS = {
    "set_many": lambda m, keys: m.set_many(keys, 1),
    "add_many": lambda m, keys: m.add_many(keys, 1),
    "update_many": lambda m, keys: m.update_many(keys, 1, "max"),
    "add_at": lambda m, keys: m.add_at(keys, 0),
    "ensure_many": lambda m, keys: m.ensure_many(keys),
}
ALL = {**READERS, **REMOVERS, **WRITERS}

KEY_ARRAYS = {
    "int8": np.array([1, 3, 5], "i1"),
    "uint8": np.array([1, 3, 5], "u1"),
    "int16": np.array([1, 3, 5], "i2"),
    "uint16 swapped": np.array([1, 3, 5], ">u2"),
    "int32 swapped": np.array([1, 3, 5], ">i4"),
    "uint32": np.array([1, 3, 5], "u4"),
    "int64": np.array([1, 3, 5], "i8"),
    "int64 swapped": np.array([1, 3, 5], ">i8"),
    "uint64": np.array([1, 3, 5], "u8"),
    "uint64 swapped": np.array([1, 3, 5], ">u8"),
    "list": [1, 3, 5],
    "list of numpy ints": [np.int8(1), np.int64(3), np.uint16(5)],
    "reversed": np.array([5, 3, 1])[::-1],
    "strided": np.array([1, 0, 0, 3, 0, 0, 5, 0, 0])[::3],
    "column": np.array([[1, 9], [3, 9], [5, 9]])[:, 0],
    "unaligned": np.frombuffer(b"x" + np.array([1, 3, 5], "i8").tobytes(), "i8", offset=1),
    "read only": np.frombuffer(np.array([1, 3, 5], "i8").tobytes(), "i8"),
    "object of ints": np.array([1, 3, 5], dtype=object),
    "longlong": np.array([1, 3, 5], np.longlong),
}
KEY_SHAPES = {
    "matrix": np.array([[0, 1, 2], [3, 4, 5]]),
    "fortran": np.asfortranarray(np.array([[0, 1, 2], [3, 4, 5]])),
    "transposed": np.array([[0, 3], [1, 4], [2, 5]]).T,
    "reversed both ways": np.array([[5, 4, 3], [2, 1, 0]])[::-1, ::-1],
    "nested list": [[0, 1, 2], [3, 4, 5]],
    "cube": np.arange(6).reshape(1, 2, 3),
    "broadcast": np.broadcast_to(np.array([1, 2]), (4, 2)),
    "small int swapped": np.array([[0, 1], [2, 3]], ">i2"),
    "scalar": np.array(3),
    "one": np.array([3]),
    "none": np.empty((0,), "i8"),
    "none of many": np.empty((2, 0, 3), "i8"),
}


class TestKeyArrays:
    @pytest.mark.parametrize("keys", KEY_ARRAYS.values(), ids=KEY_ARRAYS)
    def test_every_integer_array(self, make_map, keys):
        m = make_map(keys=range(6))
        rows = rows_for(6)
        assert m.get_many(keys).tolist() == rows[[1, 3, 5]].tolist()
        assert m.contains_many(keys).tolist() == [True, True, True]
        blocks = m.index_many(keys)
        assert (blocks >= 0).all()
        m.set_many(keys, [[1.0] * 3, [2.0] * 3, [3.0] * 3])
        m.add_many(keys, 10.0)
        m.update_many(keys, 1.0, "sub")
        m.add_at(keys, [0, 1, 2], [100.0, 200.0, 300.0])
        assert [m[k].tolist() for k in (1, 3, 5)] == [[110.0, 10.0, 10.0], [11.0, 211.0, 11.0], [12.0, 12.0, 312.0]]
        assert m.ensure_many(keys)[1].tolist() == [False] * 3
        assert m.pop_many(keys).tolist() == [[110.0, 10.0, 10.0], [11.0, 211.0, 11.0], [12.0, 12.0, 312.0]]
        assert m.delete_many(keys).tolist() == [False] * 3
        assert sorted(m) == [0, 2, 4]

    @pytest.mark.parametrize("keys", KEY_SHAPES.values(), ids=KEY_SHAPES)
    def test_every_shape(self, make_case, keys):
        m = make_case((2, 2), "int32", 6).map
        array = np.asarray(keys)
        rows = rows_for(6, (2, 2), "int32")
        got = m.get_many(keys)
        assert got.shape == array.shape + (2, 2)
        assert got.flags.c_contiguous
        assert np.array_equal(got, rows[array])
        assert m.contains_many(keys).shape == array.shape
        numbers = m.index_many(keys)
        assert (numbers.shape, numbers.dtype) == (array.shape, np.dtype("int64"))
        numbers, created = m.ensure_many(keys)
        assert numbers.shape == created.shape == array.shape
        m.set_many(keys, got + 1)
        assert np.array_equal(m.get_many(keys), rows[array] + 1)
        removed = m.delete_many(keys)
        assert removed.shape == array.shape
        assert removed.sum() == len(np.unique(array))

    @pytest.mark.parametrize("dtype", ["f8", "i8", "u1", "?", "O", "U3", "S2", "M8[s]", "c16"])
    @pytest.mark.parametrize("call", ALL)
    def test_empty_of_any_dtype(self, make_map, call, dtype):
        m = make_map(keys=[1])
        ALL[call](m, np.empty((0,), dtype))
        ALL[call](m, [])
        ALL[call](m, [[], []])
        assert list(m) == [1]

    @pytest.mark.parametrize("call", ALL)
    @pytest.mark.parametrize(
        "keys",
        [
            np.array([True, False]),
            np.array([1.0, 2.0]),
            np.array([1, 2], "f2"),
            np.array(["1", "2"]),
            np.array([b"1"]),
            np.array([1, "a"], dtype=object),
            np.array([1, None], dtype=object),
            np.array([1, 2.0], dtype=object),
            np.array([1, 2], "M8[s]"),
            np.array([1, 2], "m8[s]"),
            np.array([1j]),
            np.array([(1,)], [("a", "i8")]),
            [1, 2.5],
            [1.0],
            ["1"],
            [1, "a"],
            [None],
            [1, None],
            {1, 2},
            frozenset({1}),
            {1: 2},
            set(),
            {},
            iter([1, 2]),
            (k for k in (1, 2)),
            "12",
            "",
            b"12",
            b"",
            None,
            1.0,
            object(),
        ],
        ids=plain,
    )
    def test_type_error(self, make_map, call, keys):
        m = make_map(keys=[0, 1, 2])
        before = copy_of(m)
        with pytest.raises(TypeError):
            ALL[call](m, keys)
        after = copy_of(m)
        assert after.keys() == before.keys()
        assert all(bits(after[k]) == bits(before[k]) for k in before)

    @pytest.mark.parametrize("call", ALL)
    def test_ragged_lists(self, make_map, call):
        m = make_map(keys=[0, 1, 2])
        with pytest.raises(ValueError, match="inhomogeneous"):
            ALL[call](m, [[1, 2], [0]])
        assert sorted(m) == [0, 1, 2]


class TestKeysBeyondInt64InBatches:
    BEYOND = {
        "uint64": np.array([1, 2**63, 2], "u8"),
        "uint64 most": np.array([1, 2**64 - 1, 2], "u8"),
        "uint64 swapped": np.array([1, 2**63, 2], ">u8"),
        "list": [1, 2**63, 2],
        "list with negative": [1, 2**63, -1],
        "list beyond uint64": [1, 2**64, 2],
        "list far beyond": [1, -(10**30), 2],
    }

    @pytest.mark.parametrize("keys", BEYOND.values(), ids=BEYOND)
    def test_missing_for_readers(self, make_map, keys):
        m = make_map(keys=[1, 2, -1, 0])
        assert m.contains_many(keys).tolist() == [True, False, True]
        rows, found = m.get_many(keys, -7.0, return_mask=True)
        assert found.tolist() == [True, False, True]
        assert rows[1].tolist() == [-7.0] * 3
        assert np.array_equal(rows[0], m[1])
        with pytest.raises(KeyError) as raised:
            m.get_many(keys)
        assert raised.value.key == int(keys[1])
        assert raised.value.position == 1
        assert raised.value.missing_count == 1

    @pytest.mark.parametrize("keys", BEYOND.values(), ids=BEYOND)
    @pytest.mark.parametrize("call", WRITERS)
    def test_overflow_for_writers(self, make_case, call, keys):
        m = make_case(count=2).map
        before = copy_of(m)
        with pytest.raises(OverflowError, match=r"keys\[1\]"):
            WRITERS[call](m, keys)
        after = copy_of(m)
        assert after.keys() == before.keys()
        assert all(bits(after[k]) == bits(before[k]) for k in before)

    def test_never_wrapped(self, make_any_key_map):
        m = make_any_key_map(keys=[KEY_MIN, KEY_MAX, -1, 0])
        assert m.contains_many(np.array([2**63, 2**64 - 1, 2**63 - 1, 0], "u8")).tolist() == [False, False, True, True]
        assert m.contains_many([2**63, 2**64 - 1, -(2**63) - 1, 2**64]).tolist() == [False] * 4

    def test_never_through_float(self, make_any_key_map):
        """NumPy turns [2**63, -1] into floats: 2**53 + 1 would be lost on the way."""
        m = make_any_key_map(keys=[2**53, -1])
        assert m.contains_many([2**53 + 1, 2**63, -1]).tolist() == [False, False, True]
        assert m.contains_many([2**53, 2**63, -1]).tolist() == [True, False, True]


class TestKeysAreRead:
    @pytest.mark.parametrize("call", ALL)
    def test_and_never_written(self, make_case, call):
        m = make_case(count=6).map
        keys = np.array([5, 1, 1, 3])
        ALL[call](m, np.array([0]))
        if call == "pop_many":
            m.pop_many(keys, 0)
        else:
            ALL[call](m, keys)
        assert keys.tolist() == [5, 1, 1, 3]

    def test_signed_zero_extension(self, make_any_key_map):
        """−1 as int8 is −1; 255 as uint8 is 255."""
        m = make_any_key_map(keys=[-1, 255])
        assert m.contains_many(np.array([-1], "i1")).tolist() == [True]
        assert np.array_equal(m.get_many(np.array([255], "u1"))[0], m[255])
        assert np.array_equal(m.get_many(np.array([-1], "i2"))[0], m[-1])


LONG = 10**5000


@pytest.mark.parametrize("key", [LONG, -LONG], ids=["long", "negative"])
def test_keys_too_long_to_be_written_out_were_value_errors(make_map, key):
    m = make_map(keys=[0])
    for put in (
        lambda: m.__setitem__(key, 0),
        lambda: m.setdefault(key),
        lambda: m.set_many([0, key], 0),
        lambda: m.update({key: 0}),
        lambda: m.add_at([key], 0),
        lambda: type(m).fromkeys([key], [0.0]),
    ):
        with pytest.raises(OverflowError, match="an integer of 16610 bits"):
            put()
    for take in (lambda: m.get_many([0, key]), lambda: m.pop_many([0, key])):
        with pytest.raises(KeyError) as raised:
            take()
        assert (raised.value.key, raised.value.position) == (key, 1)
        assert "16610 bits" in str(raised.value)
    for look in (lambda: m[key], lambda: m.pop(key)):
        with pytest.raises(KeyError) as raised:
            look()
        assert raised.value.args == (key,)
    with pytest.raises(MemoryError, match="bits"):
        m.contains_many(range(LONG))
    assert key not in m and m.get(key, 5) == 5 and list(m) == [0]


@pytest.mark.parametrize("call", ALL)
def test_masked_keys_within_a_list_were_read(make_map, call):
    m = make_map(keys=[0, 1, 2])
    masked = np.ma.array([1, 2], mask=[0, 1])
    for keys in ([masked], [masked, masked], [[1, 2], masked], ([[masked]],), [np.ma.masked, 1], [masked[1]]):
        with pytest.raises(TypeError, match="masked"):
            ALL[call](m, keys)
    assert sorted(m) == [0, 1, 2]
    assert m.contains_many([np.ma.array([1, 2])]).tolist() == [[True, True]], "nothing is masked"
