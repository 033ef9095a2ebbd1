"""Promise §7: every documented error by type and by what its message names; the map as it was."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from images import Image
from model import FAR_KEY, bits, build_map, copy_of

from intarraymap import IntArrayMap

BIG = 2**63 + 11


def read_only(shape) -> np.ndarray:
    array = np.zeros(shape, "i2")
    array.flags.writeable = False
    return array


#: Every method that takes keys, and everything that is no array of keys.
KEY_CALLS = {
    "get_many": lambda m, keys: m.get_many(keys),
    "pop_many": lambda m, keys: m.pop_many(keys),
    "set_many": lambda m, keys: m.set_many(keys, 1),
    "add_many": lambda m, keys: m.add_many(keys, 1),
    "update_many": lambda m, keys: m.update_many(keys, 1, "max"),
    "add_at": lambda m, keys: m.add_at(keys, 0),
    "contains_many": lambda m, keys: m.contains_many(keys),
    "delete_many": lambda m, keys: m.delete_many(keys),
    "index_many": lambda m, keys: m.index_many(keys),
    "ensure_many": lambda m, keys: m.ensure_many(keys),
}
NO_KEYS = [
    ("bools", np.array([True, False]), ["bool"]),
    ("floats", np.array([1.0, 2.0]), ["float64"]),
    ("whole floats in a list", [1, 2.0], ["keys[1]", "float"]),
    ("strings", np.array(["1", "2"]), ["<U1"]),
    ("a string", "12", ["str"]),
    ("bytes", b"12", ["bytes"]),
    ("a bytearray", bytearray(b"12"), ["bytearray"]),
    ("objects", np.array([1, None], object), ["keys[1]", "NoneType"]),
    ("a set", {1, 2}, ["set"]),
    ("a dict", {1: 2}, ["dict"]),
    ("an iterator", iter([1, 2]), ["iterator"]),
    ("a generator", (key for key in (1, 2)), ["generator"]),
    ("None", None, ["NoneType"]),
    ("dates", np.array(["2020"], "M8[D]"), ["datetime64"]),
    ("a ragged place", [[1, 2], [3, "x"]], ["keys[1, 1]", "str"]),
]
#: Every method that takes rows (of int16), and everything that is none.
ROW_CALLS = {
    "setitem": lambda m, row: m.__setitem__(5, row),
    "setitem new": lambda m, row: m.__setitem__(77, row),
    "setdefault": lambda m, row: m.setdefault(77, row),
    "set_many": lambda m, row: m.set_many([1, 77], row),
    "add_many": lambda m, row: m.add_many([1, 77], row),
    "update_many": lambda m, row: m.update_many([1, 77], row, "max"),
    "ensure_many": lambda m, row: m.ensure_many([1, 77], row),
    "get_many": lambda m, row: m.get_many([1, 77], row),
    "pop_many": lambda m, row: m.pop_many([1, 77], row),
    "update": lambda m, row: m.update({1: 1, 77: row}),
    "ior": lambda m, row: m.__ior__({1: 1, 77: row}),
}
NO_ROWS = [
    ("a string", "123", TypeError, ["str"]),
    ("bytes", b"123", TypeError, ["bytes"]),
    ("None", None, TypeError, ["None"]),
    ("a set", {1, 2, 3}, TypeError, ["set"]),
    ("a dict", {0: 1}, TypeError, ["dict"]),
    ("an iterator", iter([1, 2, 3]), TypeError, ["iterator"]),
    ("a float", 1.5, TypeError, ["int16"]),
    ("a whole float", 1.0, TypeError, ["int16"]),
    ("floats", np.ones(3, "f4"), TypeError, ["float32", "int16"]),
    ("complex", 1j, TypeError, ["int16"]),
    ("strings", ["1", "2", "3"], TypeError, ["int16"]),
    ("objects", np.array([1, 2, 3], object), TypeError, ["object"]),
    ("dates", np.array([1, 2, 3], "M8[s]"), TypeError, ["datetime64", "int16"]),
    ("a large number", 2**15, OverflowError, ["32768", "int16"]),
    ("a very large number", 2**70, OverflowError, ["int16"]),
    ("a large number in a list", [1, -(2**15) - 1, 3], OverflowError, ["item 1", "-32769", "int16"]),
    ("a large array", np.array([1, 2, 2**40]), OverflowError, ["item 2", str(2**40), "int16"]),
    ("a short row", [1, 2], ValueError, ["(2,)", "(3,)"]),
    ("a long row", [1, 2, 3, 4], ValueError, ["(4,)", "(3,)"]),
    ("a column", [[1], [2], [3]], ValueError, ["(3, 1)", "(3,)"]),
    ("a row too deep", [[1, 2, 3]], ValueError, ["(1, 3)", "(3,)"]),
    ("masked numbers", np.ma.masked_array([1, 2, 3], [0, 1, 0]), TypeError, ["masked"]),
]
#: What no map holds, and what to use instead.
NO_DTYPES = [
    ("object", ["object", "numeric"]),
    ("U5", ["U5", "numbers"]),
    ("S5", ["S5", "uint8"]),
    ("V5", ["V5", "numeric"]),
    ("i4, f8", ["numeric"]),
    ("(2,)f8", ["row_shape"]),
    ("g", ["float64"]),
    ("G", ["complex128"]),
    ("M8", ["unit", "[ns]"]),
    ("m8", ["unit", "[ns]"]),
    ("nonsense", ["nonsense"]),
]

#: (name, call, error, words that must be in the message); the map has keys 0 … 9, rows (3,) of int16.
CASES = [
    ("getitem missing", lambda m: m[77], KeyError, ["77"]),
    ("getitem float", lambda m: m[1.5], TypeError, ["float"]),
    ("getitem str", lambda m: m["seven"], TypeError, ["str"]),
    ("getitem None", lambda m: m[None], TypeError, ["NoneType"]),
    ("getitem tuple", lambda m: m[1, 2], TypeError, ["tuple"]),
    ("getitem slice", lambda m: m[1:2], TypeError, ["slice"]),
    ("getitem outside", lambda m: m[BIG], KeyError, [str(BIG)]),
    ("delitem missing", lambda m: m.__delitem__(77), KeyError, ["77"]),
    ("delitem outside", lambda m: m.__delitem__(-BIG), KeyError, [str(-BIG)]),
    ("delitem float", lambda m: m.__delitem__(2.0), TypeError, ["float"]),
    ("pop missing", lambda m: m.pop(77), KeyError, ["77"]),
    ("setitem outside", lambda m: m.__setitem__(BIG, 1), OverflowError, [str(BIG), "int64"]),
    ("setdefault outside", lambda m: m.setdefault(BIG), OverflowError, [str(BIG), "int64"]),
    ("setitem float key", lambda m: m.__setitem__(1.0, 1), TypeError, ["float"]),
    ("setitem shape", lambda m: m.__setitem__(77, [1, 2]), ValueError, ["77", "(3,)", "(2,)"]),
    ("setitem too large", lambda m: m.__setitem__(77, 40_000), OverflowError, ["77", "40000", "int16"]),
    (
        "setitem too large in a row",
        lambda m: m.__setitem__(77, [1, 2, -40_000]),
        OverflowError,
        ["77", "-40000", "int16"],
    ),
    ("setitem float", lambda m: m.__setitem__(77, 1.5), TypeError, ["77", "int16", "float"]),
    ("setitem float array", lambda m: m.__setitem__(77, np.ones(3)), TypeError, ["77", "int16", "float64"]),
    (
        "setitem wide array",
        lambda m: m.__setitem__(77, np.array([1, 2, 2**40])),
        OverflowError,
        ["77", str(2**40), "int16"],
    ),
    ("setitem str", lambda m: m.__setitem__(77, "12"), TypeError, ["77", "str"]),
    ("setitem None", lambda m: m.__setitem__(77, None), TypeError, ["77", "NoneType"]),
    ("setitem objects", lambda m: m.__setitem__(77, np.array([1, 2, 3], object)), TypeError, ["77", "object"]),
    ("popitem empty", lambda m: IntArrayMap(1).popitem(), KeyError, ["empty"]),
    ("get_many missing", lambda m: m.get_many([1, 77]), KeyError, ["77", "keys[1]"]),
    ("get_many float keys", lambda m: m.get_many([1.0]), TypeError, ["keys", "float"]),
    ("get_many bool keys", lambda m: m.get_many(np.array([True])), TypeError, ["keys", "bool"]),
    ("get_many str keys", lambda m: m.get_many("abc"), TypeError, ["keys", "str"]),
    ("get_many set", lambda m: m.get_many({1, 2}), TypeError, ["keys", "set"]),
    ("get_many None", lambda m: m.get_many(None), TypeError, ["keys", "NoneType"]),
    ("get_many objects", lambda m: m.get_many([1, None]), TypeError, ["keys[1]", "NoneType"]),
    ("get_many str in a list", lambda m: m.get_many([1, 2, "x"]), TypeError, ["keys[2]", "str"]),
    ("get_many default", lambda m: m.get_many([77], 1.5), TypeError, ["default", "int16", "float"]),
    ("get_many default None", lambda m: m.get_many([77], None), TypeError, ["default", "None"]),
    ("get_many default shape", lambda m: m.get_many([77], [1, 2]), ValueError, ["default", "(3,)", "(2,)"]),
    (
        "get_many out shape",
        lambda m: m.get_many([1], out=np.empty((2, 3), "i2")),
        ValueError,
        ["out", "(1, 3)", "(2, 3)"],
    ),
    ("get_many out list", lambda m: m.get_many([1], out=[]), TypeError, ["out", "list"]),
    ("pop_many missing", lambda m: m.pop_many([1, 2, 77]), KeyError, ["77", "keys[2]"]),
    ("pop_many twice", lambda m: m.pop_many([1, 2, 1]), KeyError, ["1", "keys[2]"]),
    ("set_many outside", lambda m: m.set_many([1, BIG], 0), OverflowError, ["keys[1]", str(BIG)]),
    ("set_many shape", lambda m: m.set_many([1, 2], [[1, 2, 3]]), ValueError, ["rows", "(2, 3)", "(1, 3)"]),
    ("set_many float", lambda m: m.set_many([1, 2], 1.5), TypeError, ["rows", "int16", "float"]),
    ("set_many None", lambda m: m.set_many([1, 2], None), TypeError, ["rows", "NoneType"]),
    (
        "set_many too large",
        lambda m: m.set_many([1, 2], [[1, 1, 1], [1, 1, 99_999]]),
        OverflowError,
        ["99999", "int16"],
    ),
    ("add_many outside", lambda m: m.add_many([BIG], 0), OverflowError, ["keys[0]", str(BIG)]),
    ("add_many float", lambda m: m.add_many([1], 1.5), TypeError, ["rows", "int16", "float"]),
    ("update_many op", lambda m: m.update_many([1], 1, "plus"), ValueError, ["plus", "set", "xor"]),
    ("add_at items", lambda m: m.add_at([1, 2], [0, 3]), ValueError, ["items[1]", "3"]),
    ("add_at negative item", lambda m: m.add_at([1, 2], [-1, 0]), ValueError, ["items[0]", "-1"]),
    ("add_at float items", lambda m: m.add_at([1], [0.5]), TypeError, ["items", "float"]),
    ("add_at values", lambda m: m.add_at([1], [0], 1.5), TypeError, ["values", "int16", "float"]),
    ("ensure_many fill", lambda m: m.ensure_many([77], "x"), TypeError, ["fill", "str"]),
    ("merge dict", lambda m: m.merge({1: 2}), TypeError, ["dict"]),
    ("merge shape", lambda m: m.merge(IntArrayMap(4, "int16")), ValueError, ["(3,)", "(4,)"]),
    ("update number", lambda m: m.update(5), TypeError, ["int"]),
    ("update bad key", lambda m: m.update({1: 5, "x": 5}), TypeError, ["str"]),
    ("update bad row", lambda m: m.update({1: 5, 78: [1, 2]}), ValueError, ["78", "(3,)", "(2,)"]),
    ("update large", lambda m: m.update({1: 5, 78: 70_000}), OverflowError, ["78", "70000", "int16"]),
    ("fromkeys", lambda m: type(m).fromkeys([1, "x"], [1]), TypeError, ["str"]),
    ("reserve negative", lambda m: m.reserve(-5), ValueError, ["-5"]),
    ("reserve float", lambda m: m.reserve(1.5), TypeError, ["float"]),
    ("reserve large", lambda m: m.reserve(2**40), OverflowError, [str(2**40), "at most 4294967294 rows"]),
    ("init row_shape list", lambda m: IntArrayMap([3]), TypeError, ["row_shape", "list"]),
    ("init row_shape zero", lambda m: IntArrayMap((3, 0)), ValueError, ["row_shape", "0"]),
    ("init row_shape empty", lambda m: IntArrayMap(()), ValueError, ["row_shape"]),
    ("init row_shape large", lambda m: IntArrayMap(2**40), OverflowError, ["row"]),
    ("init dtype", lambda m: IntArrayMap(3, "U5"), TypeError, ["dtype"]),
    ("init dtype None", lambda m: IntArrayMap(3, None), TypeError, ["dtype"]),
    ("init capacity", lambda m: IntArrayMap(3, capacity=-1), ValueError, ["capacity", "-1"]),
    ("init index", lambda m: IntArrayMap(3, index="tree"), ValueError, ["tree", "hash", "direct", "auto"]),
    ("init seed", lambda m: IntArrayMap(3, seed=-1), OverflowError, ["seed"]),
    ("again", lambda m: m.__init__(3), RuntimeError, ["__init__"]),
    ("hash", hash, TypeError, ["unhashable"]),
    ("pop outside", lambda m: m.pop(BIG), KeyError, [str(BIG)]),
    ("pop str", lambda m: m.pop("x"), TypeError, ["str"]),
    ("get str", lambda m: m.get("x"), TypeError, ["str"]),
    ("get float", lambda m: m.get(1.0, 5), TypeError, ["float"]),
    ("setdefault float", lambda m: m.setdefault(1.0), TypeError, ["float"]),
    ("setdefault shape", lambda m: m.setdefault(77, [1, 2]), ValueError, ["77", "(3,)", "(2,)"]),
    ("pop_many outside", lambda m: m.pop_many(np.array([1, 2**63], "u8")), KeyError, [str(2**63), "keys[1]"]),
    ("get_many outside", lambda m: m.get_many(np.array([1, 2**63], "u8")), KeyError, [str(2**63), "keys[1]"]),
    ("get_many counts", lambda m: m.get_many([1, 77, 78, 2]), KeyError, ["keys[1] = 77", "2 of 4"]),
    ("get_many out dtype", lambda m: m.get_many([1], out=np.empty((1, 3))), TypeError, ["out", "int16", "float64"]),
    ("get_many out read-only", lambda m: m.get_many([1], out=read_only((1, 3))), ValueError, ["out", "read-only"]),
    ("get_many out order", lambda m: m.get_many([1], out=np.empty((1, 3), ">i2")), TypeError, ["out", "int16"]),
    ("pop_many default None", lambda m: m.pop_many([77], None), TypeError, ["default", "None"]),
    ("update_many op type", lambda m: m.update_many([1], 1, 5), TypeError, ["op", "int"]),
    ("merge op", lambda m: m.merge(m, "plus"), ValueError, ["plus", "set", "xor"]),
    ("merge floats", lambda m: m.merge(IntArrayMap.fromkeys([1], [1.0] * 3)), TypeError, ["float64", "int16"]),
    ("merge large", lambda m: m.merge(IntArrayMap.fromkeys([1], [70_000] * 3)), OverflowError, ["70000", "int16"]),
    ("add_at items shape", lambda m: m.add_at([1, 2, 3], [0, 1]), ValueError, ["items", "(2,)", "(3,)"]),
    ("add_at values shape", lambda m: m.add_at([1, 2, 3], 0, [0, 1]), ValueError, ["values", "(2,)", "(3,)"]),
    ("add_at values large", lambda m: m.add_at([1], 0, 70_000), OverflowError, ["values", "70000", "int16"]),
    ("update short pair", lambda m: m.update([(1, 5), (2,)]), ValueError, ["element 1", "length 1"]),
    ("update no pair", lambda m: m.update([(1, 5), 7]), TypeError, ["element 1", "int"]),
    ("update outside", lambda m: m.update({1: 5, BIG: 5}), OverflowError, ["keys[1]", str(BIG)]),
    ("or list", lambda m: m | [(1, 2)], TypeError, ["|"]),
    ("ior number", lambda m: m.__ior__(5), TypeError, ["int"]),
    ("fromkeys number", lambda m: type(m).fromkeys(5, [1]), TypeError, ["keys", "int"]),
    ("fromkeys scalar", lambda m: type(m).fromkeys([1], 5), ValueError, ["row", "axis"]),
    (
        "from_arrays shape",
        lambda m: type(m).from_arrays([1, 2], [[1], [2], [3]]),
        ValueError,
        ["rows", "(3, 1)", "(2,)"],
    ),
    ("from_arrays no row", lambda m: type(m).from_arrays([1, 2], [1, 2]), ValueError, ["rows", "(2,)"]),
    ("from_arrays keys", lambda m: type(m).from_arrays([1.5], [[1]]), TypeError, ["keys", "float"]),
    ("from_arrays dtype", lambda m: type(m).from_arrays([1], [[1.5]], dtype="i4"), TypeError, ["rows", "int32"]),
    ("reserve bool", lambda m: m.reserve(True), TypeError, ["bool"]),
    ("init row_shape str", lambda m: IntArrayMap("3"), TypeError, ["row_shape", "str"]),
    ("init row_shape bool", lambda m: IntArrayMap(True), TypeError, ["row_shape", "bool"]),
    ("init row_shape float", lambda m: IntArrayMap((3, 1.0)), TypeError, ["row_shape", "float"]),
    ("init row_shape negative", lambda m: IntArrayMap(-3), ValueError, ["row_shape", "-3"]),
    ("init row of bytes", lambda m: IntArrayMap(2**30), OverflowError, ["row", str(2**33), str(2**30)]),
    ("init capacity float", lambda m: IntArrayMap(3, capacity=1.0), TypeError, ["capacity", "float"]),
    (
        "init capacity large",
        lambda m: IntArrayMap(3, capacity=2**32),
        OverflowError,
        ["capacity", str(2**32), "4294967294"],
    ),
    ("init index type", lambda m: IntArrayMap(3, index=5), ValueError, ["index", "int"]),
    ("init seed float", lambda m: IntArrayMap(3, seed=1.0), TypeError, ["seed", "float"]),
    ("init seed large", lambda m: IntArrayMap(3, seed=2**64), OverflowError, ["seed", "2**64"]),
    ("save path", lambda m: m.save(5), TypeError, ["path", "int"]),
    ("save bytes", lambda m: m.save(b"x"), TypeError, ["path", "bytes"]),
    ("save zero byte", lambda m: m.save("x\0y"), ValueError, ["null"]),
    ("save folder", lambda m: m.save("/"), OSError, ["/"]),
    ("save nowhere", lambda m: m.save("/nonexistent/x"), FileNotFoundError, ["/nonexistent"]),
    ("save progress", lambda m: m.save("x", progress=5), TypeError, ["progress", "int"]),
    ("load nowhere", lambda m: type(m).load("/nonexistent/x"), FileNotFoundError, ["/nonexistent/x"]),
    ("load folder", lambda m: type(m).load("/"), IsADirectoryError, ["/"]),
    ("load path", lambda m: type(m).load(None), TypeError, ["path", "NoneType"]),
    ("load something", lambda m: type(m).load(__file__), ValueError, [__file__, "image"]),
    ("load device", lambda m: type(m).load("/dev/null"), OSError, ["regular"]),
    ("open verify", lambda m: type(m).open(__file__, verify="all"), ValueError, ["verify", "all"]),
    ("open mode", lambda m: type(m).open(__file__, mode="w"), ValueError, ["mode", "w"]),
    ("open something", lambda m: type(m).open(__file__), ValueError, [__file__, "image"]),
    ("from_arrow number", lambda m: type(m).from_arrow(5), TypeError, ["int"]),
]


#: Products of the tables above; what is judged here is judged before the map is asked, whatever its kind.
TABLES = [
    *[
        (f"{name} of {what}", lambda m, call=call, keys=keys: call(m, keys), TypeError, ["keys", *words])
        for name, call in KEY_CALLS.items()
        for what, keys, words in NO_KEYS
    ],
    *[
        (f"{name} outside", lambda m, call=KEY_CALLS[name]: call(m, [1, -BIG]), OverflowError, ["keys[1]", str(-BIG)])
        for name in ("set_many", "add_many", "update_many", "add_at", "ensure_many")
    ],
    *[
        (f"{name} of {what}", lambda m, call=call, row=row: call(m, row), error, words)
        for name, call in ROW_CALLS.items()
        for what, row, error, words in NO_ROWS
    ],
    *[(f"init dtype {name}", lambda m, name=name: IntArrayMap(3, name), TypeError, words) for name, words in NO_DTYPES],
]


@pytest.mark.parametrize(("call", "error", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_type_and_message_and_map_unchanged(make_case, call, error, words):
    judge(make_case((3,), "int16", 10).map, call, error, words)


@pytest.mark.parametrize(("call", "error", "words"), [case[1:] for case in TABLES], ids=[case[0] for case in TABLES])
def test_tables(call, error, words):
    judge(build_map("hash", (3,), "int16", range(10)), call, error, words)


def judge(m, call, error, words):
    before, order, size = copy_of(m), list(m), len(m)
    with pytest.raises(error) as raised:
        call(m)
    assert raised.type in (error,) or issubclass(raised.type, error)
    for word in words:
        assert word in str(raised.value), str(raised.value)
    after = copy_of(m)
    assert (len(m), list(m)) == (size, order)
    assert all(bits(after[key]) == bits(row) for key, row in before.items())
    assert m.stats().views == 0
    assert m._check() is None


def test_positions_in_shaped_keys(make_case):
    """keys[i] of a matrix: counted in C order, whatever its memory order."""
    m = make_case(count=10).map
    keys = np.asfortranarray([[1, 2, 3], [4, 77, 5]])
    with pytest.raises(KeyError) as raised:
        m.get_many(keys)
    assert raised.value.key == 77
    assert raised.value.position in (4, (1, 1))


def test_scalar_key_error_is_as_a_dicts(make_case):
    m = make_case(count=2).map
    with pytest.raises(KeyError) as raised:
        m[5]
    with pytest.raises(KeyError) as dicts:
        {}[5]
    assert raised.value.args == dicts.value.args
    assert str(raised.value) == str(dicts.value)


@pytest.mark.parametrize("call", ["get_many", "pop_many"])
def test_batch_key_error_attributes(make_map, call):
    m = make_map(keys=range(10))
    with pytest.raises(KeyError) as raised:
        getattr(m, call)([3, -7, 4, FAR_KEY, -7])
    error = raised.value
    assert (error.key, error.position, error.missing_count) == (-7, 1, 3)
    assert [type(n) for n in (error.key, error.position, error.missing_count)] == [int, int, int]
    assert "\n" not in str(error)


@pytest.mark.parametrize("call", ["get_many", "pop_many"])
def test_batch_key_error_travels(make_map, call):
    """Pickled, as a process pool does with what a worker raised, it says the same."""
    m = make_map(keys=range(10))
    with pytest.raises(KeyError) as raised:
        getattr(m, call)([3, -7, 4, FAR_KEY, -7])
    error, back = raised.value, pickle.loads(pickle.dumps(raised.value))
    assert type(back) is type(error) and str(back) == str(error)
    assert (back.key, back.position, back.missing_count) == (-7, 1, 3)


@pytest.mark.parametrize("kind", ["direct", "direct-segments"])
@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.__setitem__(FAR_KEY, 1.0),
        lambda m: m.setdefault(FAR_KEY),
        lambda m: m.set_many([11, FAR_KEY, 12], 1.0),
        lambda m: m.update({11: 1.0, FAR_KEY: 1.0}),
        lambda m: m.__ior__({11: 1.0, FAR_KEY: 1.0}),
        lambda m: m.merge(IntArrayMap.fromkeys([FAR_KEY], [1.0] * 3)),
        lambda m: m.add_at([11, FAR_KEY], 0),
        lambda m: m.ensure_many([11, FAR_KEY]),
    ],
    ids=["setitem", "setdefault", "set_many", "update", "ior", "merge", "add_at", "ensure_many"],
)
def test_too_sparse_names_the_key_and_says_what_was_asked(kind, call):
    m = build_map(kind, keys=range(10))
    with pytest.raises(ValueError, match='index="direct" was asked for and the keys are too sparse for it') as raised:
        call(m)
    assert str(FAR_KEY) in str(raised.value)
    assert sorted(m) == list(range(10))


def test_too_sparse_from_the_start():
    """The first batch is judged as a whole: the key that is named is one of its keys."""
    with pytest.raises(ValueError, match=r'keys\[\d\] = (11|2199023255552): index="direct" was asked .* too sparse'):
        IntArrayMap.from_arrays([11, 2**41], np.ones((2, 3)), index="direct")


#: Calls that need memory, and what they say it was for.
STARVED = [
    ("setitem", lambda m: [m.__setitem__(key, 1.0) for key in range(500, 9000)], r"key \d+"),
    ("setdefault", lambda m: [m.setdefault(key) for key in range(500, 9000)], r"key \d+|a view of key \d+"),
    ("getitem", lambda m: m[5], "a view of key 5"),
    ("get", lambda m: m.get(5), "a view of key 5"),
    ("items", lambda m: list(m.items()), "a view of key 0"),
    ("set_many", lambda m: m.set_many(np.arange(500, 9000), 1.0), "set"),
    ("add_many", lambda m: m.add_many(np.arange(500, 9000), 1.0), "add"),
    ("ensure_many", lambda m: m.ensure_many(np.arange(500, 9000)), "ensure_many"),
    ("add_at", lambda m: m.add_at(np.arange(500, 9000), 0), "add_at"),
    ("reserve", lambda m: m.reserve(100_000), "reserving 100000 rows"),
    ("compact", lambda m: m.compact(), "compact"),
    ("clear", lambda m: m.clear(), "clear"),
    ("copy", lambda m: m.copy(), "copy"),
]


@pytest.mark.parametrize("kind", ["hash", "direct"])
@pytest.mark.parametrize(("call", "what"), [case[1:] for case in STARVED], ids=[case[0] for case in STARVED])
def test_out_of_memory_says_what_for(kind, call, what):
    """The n-th request is refused; some calls find another way, so that not each of them is told."""
    said = set()
    for n in range(30):
        m = build_map(kind, keys=range(100), options={"fail_after": -1})
        m._fail_after(n)
        try:
            call(m)
        except MemoryError as error:
            said.add(str(error))
        m._fail_after(-1)
        assert m._check() is None
    assert said
    assert all(re.fullmatch(f"({what}): out of memory", each) for each in said), said


#: Numbers of DESIGN §12, and the byte of a file that breaks each when a bit of it is flipped (docs/format.md).
BROKEN = [
    ("B1", "hash", "buckets", 0),  # a tophash
    ("I1", "hash", "keys", 40),  # the key of row 5
    ("R1", "hash", "presence", 0),
    ("R1", "direct", "presence", 0),
    ("D1", "direct", "pages", 0),
]


@pytest.mark.parametrize(("number", "kind", "part", "place"), BROKEN)
def test_check_names_the_invariant(tmp_path, number, kind, part, place):
    """A file that is trusted and lies, under right checksums."""
    build_map(kind, keys=range(5000)).save(tmp_path / "map.iam")
    image = Image(tmp_path / "map.iam")
    image.part(part, "u1")[place] ^= 16
    m = IntArrayMap.open(image.seal().write())
    with pytest.raises(RuntimeError, match=f"^{number}: "):
        m._check()


def test_closed(make_case):
    m = make_case(count=2).map
    m.close()
    with pytest.raises(ValueError, match="^the map is closed$"):
        m[1]


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    "walk", [iter, reversed, lambda m: iter(m.items()), lambda m: iter(m.values()), lambda m: m.scan()]
)
def test_a_step_of_a_closed_map(make_case, walk, steps):
    m = make_case(count=10).map
    walking = walk(m)
    for _ in range(steps):
        next(walking)
    m.close()
    for _ in range(2):
        with pytest.raises(ValueError, match="^the map is closed$"):
            next(walking)


def test_bare():
    with pytest.raises(RuntimeError, match="__init__"):
        len(IntArrayMap.__new__(IntArrayMap))


@pytest.mark.parametrize("change", ["insert", "delete"])
def test_changed_during_iteration(make_case, change):
    m = make_case(count=10).map
    steps = iter(m)
    next(steps)
    if change == "insert":
        m[99] = 1.0
    else:
        del m[5]
    with pytest.raises(RuntimeError, match="iteration"):
        next(steps)


def test_compact_says_what_is_alive(make_case):
    m = make_case(count=10).map
    view = m[3]
    with pytest.raises(BufferError, match="view"):
        m.compact()
    assert view.shape == (3,)
    del view
    scan = m.scan()
    with pytest.raises(BufferError, match="scan"):
        m.compact()
    assert scan is not None
