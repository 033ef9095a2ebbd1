"""Promise §7: every documented error by type and by what its message names; the map as it was."""

from __future__ import annotations

import builtins
import inspect
import os
import pickle
import re
import sys
import tempfile
import traceback

import numpy as np
import pytest
from images import Image
from model import FAR_KEY, MEMORY_FOLDER, bits, build_map, copy_of

import intarraymap
from intarraymap import IntArrayMap, MissingKeyError
from intarraymap.exchange import ArrowTable
from intarraymap.views import MapItems, MapKeys, MapValues

BIG = 2**63 + 11


def read_only(shape) -> np.ndarray:
    array = np.zeros(shape, "i2")
    array.flags.writeable = False
    return array


def with_a_path(call):
    """What `call` makes of a path in a folder of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="intarraymap-test-", dir=MEMORY_FOLDER) as folder:
        return call(os.path.join(folder, "file"))


def opened(m) -> IntArrayMap:
    """The same map out of a file, read-only."""

    def save_and_open(path):
        m.save(path)
        return IntArrayMap.open(path)

    return with_a_path(save_and_open)


def from_archive(cls, **arrays):
    def save_and_read(path):
        with open(path, "wb") as file:  # a path would be given a suffix
            np.savez(file, **arrays)
        return cls.from_npz(path)

    return with_a_path(save_and_read)


def read(table):
    return table.__arrow_c_stream__()


def pandas():
    return pytest.importorskip("pandas", reason="PANDAS IS NOT INSTALLED: what frames raise is not tested")


def frame(keys, column):
    return pandas().DataFrame({"a": column}, index=keys)


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

#: (name, call, error, words that must be in the message); the map has keys 0 … 9, rows (3,) of int16. The name begins
#: with that of the method, and the error is the very class: UnicodeDecodeError, a ValueError, would be somebody else's.
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
    ("get_many missing", lambda m: m.get_many([1, 77]), MissingKeyError, ["77", "keys[1]"]),
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
    ("pop_many missing", lambda m: m.pop_many([1, 2, 77]), MissingKeyError, ["77", "keys[2]"]),
    ("pop_many twice", lambda m: m.pop_many([1, 2, 1]), MissingKeyError, ["1", "keys[2]"]),
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
    ("init again", lambda m: m.__init__(3), RuntimeError, ["__init__"]),
    ("hash", lambda m: hash(m), TypeError, ["unhashable"]),
    ("pop outside", lambda m: m.pop(BIG), KeyError, [str(BIG)]),
    ("pop str", lambda m: m.pop("x"), TypeError, ["str"]),
    ("get str", lambda m: m.get("x"), TypeError, ["str"]),
    ("get float", lambda m: m.get(1.0, 5), TypeError, ["float"]),
    ("setdefault float", lambda m: m.setdefault(1.0), TypeError, ["float"]),
    ("setdefault shape", lambda m: m.setdefault(77, [1, 2]), ValueError, ["77", "(3,)", "(2,)"]),
    ("pop_many outside", lambda m: m.pop_many(np.array([1, 2**63], "u8")), MissingKeyError, [str(2**63), "keys[1]"]),
    ("get_many outside", lambda m: m.get_many(np.array([1, 2**63], "u8")), MissingKeyError, [str(2**63), "keys[1]"]),
    ("get_many counts", lambda m: m.get_many([1, 77, 78, 2]), MissingKeyError, ["keys[1] = 77", "2 of 4"]),
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
    ("save folder", lambda m: m.save("/"), IsADirectoryError, ["/"]),
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
    ("compact viewed", lambda m: (m[3], m.compact()), BufferError, ["compact", "view"]),
    ("to_arrow copy", lambda m: m.to_arrow(copy=5), TypeError, ["copy", "int"]),
    ("from_arrow key", lambda m: type(m).from_arrow(m, key="none"), ValueError, ["key", "'none'", "'row'"]),
    ("from_arrow shape", lambda m: type(m).from_arrow(m, row_shape=4), ValueError, ["rows", "(3,)", "(4,)"]),
    ("to_npz folder", lambda m: m.to_npz("/"), IsADirectoryError, ["/"]),
    ("to_npz nowhere", lambda m: m.to_npz("/nonexistent/x"), FileNotFoundError, ["/nonexistent"]),
    ("to_npz device", lambda m: m.to_npz("/dev/null"), OSError, ["regular", "/dev/null"]),
    ("to_npz path", lambda m: m.to_npz(5), TypeError, ["path", "int"]),
    ("to_npz zero byte", lambda m: m.to_npz("x\0y"), ValueError, ["null"]),
]


#: Writers that say of themselves that they refuse a read-only map.
READ_ONLY = {
    "delitem": lambda m: m.__delitem__(1),
    "pop": lambda m: m.pop(1),
    "popitem": lambda m: m.popitem(),
    "setdefault": lambda m: m.setdefault(1),
    "set_many": lambda m: m.set_many([1], 1),
    "add_at": lambda m: m.add_at([1], 0),
    "pop_many": lambda m: m.pop_many([1]),
    "delete_many": lambda m: m.delete_many([1]),
    "merge": lambda m: m.merge(m),
    "clear": lambda m: m.clear(),
    "compact": lambda m: m.compact(),
}
#: (op, dtype) of those that are not defined; test_ops has them all.
UNDEFINED = [("xor", "float64"), ("min", "complex64"), ("add", "datetime64[s]"), ("mul", "bool")]
#: What makes a map of something else, and is refused before there is one.
MAKERS = [
    ("from_arrays outside", lambda cls: cls.from_arrays([1, BIG], [[1], [2]]), OverflowError, ["keys[1]", str(BIG)]),
    (
        "from_arrays large",
        lambda cls: cls.from_arrays([1, 2], [[1], [40_000]], dtype="i2"),
        OverflowError,
        ["rows[1], item 0", "40000", "int16"],
    ),
    ("from_arrays str", lambda cls: cls.from_arrays([1, 2], "12"), TypeError, ["rows", "str"]),
    ("from_arrays strings", lambda cls: cls.from_arrays([1], [["1"]]), TypeError, ["<U1", "strings"]),
    (
        "from_arrays sparse",
        lambda cls: cls.from_arrays([11, 2**41], [[1], [2]], index="direct"),
        ValueError,
        ["keys[", 'index="direct"', "sparse"],
    ),
    ("fromkeys outside", lambda cls: cls.fromkeys([1, BIG], [1]), OverflowError, ["keys[1]", str(BIG)]),
    (
        "fromkeys large",
        lambda cls: cls.fromkeys([1], [0, 40_000], "i2"),
        OverflowError,
        ["row, item 1", "40000", "int16"],
    ),
    ("fromkeys float", lambda cls: cls.fromkeys([1], [0, 1.5], "i2"), TypeError, ["row, item 1", "float", "int16"]),
    ("fromkeys str", lambda cls: cls.fromkeys([1], "12"), TypeError, ["row", "str"]),
    ("to_arrow picoseconds", lambda cls: cls(2, "M8[ps]").to_arrow(), TypeError, ["datetime64[ps]", "ns"]),
    ("to_arrow months", lambda cls: cls(2, "m8[M]").to_arrow(), TypeError, ["timedelta64[M]", "ns"]),
    ("to_arrow bits", lambda cls: read(cls(2, "bool").to_arrow(copy=False)), BufferError, ["bool", "copy"]),
    ("to_arrow days", lambda cls: read(cls(2, "M8[D]").to_arrow(copy=False)), BufferError, ["datetime64[D]", "copy"]),
    (
        "from_arrow large",
        lambda cls: cls.from_arrow(cls.fromkeys([1], [0, 70_000]), dtype="i2"),
        OverflowError,
        ["row[0], item 1", "70000", "int16"],
    ),
    (
        "from_arrow float",
        lambda cls: cls.from_arrow(cls.fromkeys([1], [1.5]), dtype="i2"),
        TypeError,
        ["row", "float64", "int16"],
    ),
    ("from_npz nowhere", lambda cls: cls.from_npz("/nonexistent/x"), FileNotFoundError, ["/nonexistent/x"]),
    ("from_npz folder", lambda cls: cls.from_npz("/"), IsADirectoryError, ["/"]),
    ("from_npz path", lambda cls: cls.from_npz(5), TypeError, ["int"]),
    ("from_npz zero byte", lambda cls: cls.from_npz("x\0y"), ValueError, ["null"]),
    ("from_npz something", lambda cls: cls.from_npz(__file__), ValueError, [__file__, ".npz"]),
    ("from_npz nothing", lambda cls: from_archive(cls), ValueError, ["'keys' and 'rows'"]),
    ("from_npz no rows", lambda cls: from_archive(cls, keys=[1]), ValueError, ["no array 'rows'"]),
    ("from_npz no keys", lambda cls: from_archive(cls, rows=[[1]]), ValueError, ["no array 'keys'"]),
    ("from_npz more keys", lambda cls: from_archive(cls, keys=[1, 2], rows=[[1]]), ValueError, ["(2,)", "(1, 1)"]),
    ("from_npz no row", lambda cls: from_archive(cls, keys=[1], rows=[1]), ValueError, ["(1,)", "row_shape"]),
    ("from_npz no items", lambda cls: from_archive(cls, keys=[1], rows=[[]]), ValueError, ["row_shape", "0"]),
    ("from_npz objects", lambda cls: from_archive(cls, keys=[1], rows=[[None]]), ValueError, ["pickle"]),
    ("from_npz floats", lambda cls: from_archive(cls, keys=[1.0], rows=[[1]]), TypeError, ["keys", "float64"]),
    ("from_npz strings", lambda cls: from_archive(cls, keys=[1], rows=[["1"]]), TypeError, ["<U1", "strings"]),
    (
        "from_npz outside",
        lambda cls: from_archive(cls, keys=np.array([1, 2**63], "u8"), rows=[[1], [2]]),
        OverflowError,
        ["keys[1]", str(2**63)],
    ),
    ("load zero byte", lambda cls: cls.load("x\0y"), ValueError, ["null"]),
    ("open zero byte", lambda cls: cls.open("x\0y"), ValueError, ["null"]),
    ("open nowhere", lambda cls: cls.open("/nonexistent/x"), FileNotFoundError, ["/nonexistent/x"]),
    ("open folder", lambda cls: cls.open("/"), IsADirectoryError, ["/"]),
    ("open device", lambda cls: cls.open("/dev/null"), OSError, ["regular", "/dev/null"]),
    ("open path", lambda cls: cls.open(None), TypeError, ["path", "NoneType"]),
    ("to_pandas names", lambda cls: pandas() and cls(3).to_pandas(["a"]), ValueError, ["1 names", "3 items"]),
    ("to_pandas str", lambda cls: pandas() and cls(3).to_pandas("abc"), TypeError, ["columns", "string"]),
    ("to_pandas int", lambda cls: pandas() and cls(3).to_pandas(5), TypeError, ["columns", "names", "int"]),
    ("from_pandas number", lambda cls: pandas() and cls.from_pandas(5), TypeError, ["DataFrame", "int"]),
    ("from_pandas strings", lambda cls: cls.from_pandas(frame([1], ["x"])), TypeError, ["column 'a'", "numbers"]),
    ("from_pandas float keys", lambda cls: cls.from_pandas(frame([1.5], [1])), TypeError, ["index", "float64"]),
    (
        "from_pandas float",
        lambda cls: cls.from_pandas(frame([1], [1.5]), dtype="i2"),
        TypeError,
        ["column 'a'", "float64", "int16"],
    ),
    (
        "from_pandas missing",
        lambda cls: cls.from_pandas(frame([1, 2], pandas().array([1, None], "Int64"))),
        ValueError,
        ["column 'a', row 1", "missing"],
    ),
    ("from_pandas shape", lambda cls: cls.from_pandas(frame([1], [1]), row_shape=2), ValueError, ["1 columns", "(2,)"]),
    ("from_pandas key", lambda cls: cls.from_pandas(frame([1], [1]), key="b"), ValueError, ["column 'b'"]),
    (
        "from_pandas large",
        lambda cls: cls.from_pandas(frame([1, 2], [1, 70_000]), dtype="i2"),
        OverflowError,
        ["column 'a'[1]", "70000", "int16"],
    ),
    (
        "from_pandas outside",
        lambda cls: cls.from_pandas(frame(np.array([1, 2**63], "u8"), [1, 2])),
        OverflowError,
        ["index[1]", str(2**63)],
    ),
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
    *[
        (f"{name} read-only", lambda m, call=call: call(opened(m)), ValueError, ["the map is read-only"])
        for name, call in READ_ONLY.items()
    ],
    *[
        (
            f"{name} {op} of {dtype}",
            lambda m, call=call, op=op, dtype=dtype: call(IntArrayMap(3, dtype), np.zeros(3, dtype), op),
            TypeError,
            [f"'{op}' is not defined on {dtype}"],
        )
        for name, call in {
            "update_many": lambda m, row, op: m.update_many([1], row, op),
            "merge": lambda m, row, op: m.merge(IntArrayMap.fromkeys([1], row), op),
        }.items()
        for op, dtype in UNDEFINED
    ],
    ("add_many dates", lambda m: dates().add_many([1], dates()[1]), TypeError, ["'add'", "datetime64[s]"]),
    ("add_at dates", lambda m: dates().add_at([1], 0, dates()[1][0]), TypeError, ["'add'", "datetime64[s]"]),
    *[(name, lambda m, call=call: call(type(m)), error, words) for name, call, error, words in MAKERS],
]


def dates() -> IntArrayMap:
    return IntArrayMap.fromkeys([1], np.array(["2020", "2021"], "M8[s]"))


def method_of(name: str) -> str:
    """The method that a row of a table is about, by the first word of its name."""
    word = name.split()[0]
    return word if hasattr(IntArrayMap, word) else f"__{word}__"


#: What Python refuses itself, because the package does not do it.
BY_PYTHON = {"__hash__", "__or__"}
#: What is told only by a method of what was returned.
LATER = {"to_arrow": "__arrow_c_stream__", "items": "__next__"}


@pytest.mark.parametrize(("name", "call", "error", "words"), CASES, ids=[case[0] for case in CASES])
def test_type_and_message_and_map_unchanged(make_case, name, call, error, words):
    judge(make_case((3,), "int16", 10).map, name, call, error, words)


@pytest.mark.parametrize(("name", "call", "error", "words"), TABLES, ids=[case[0] for case in TABLES])
def test_tables(name, call, error, words):
    judge(build_map("hash", (3,), "int16", range(10)), name, call, error, words)


def judge(m, name, call, error, words):
    before, order, size = copy_of(m), list(m), len(m)
    with pytest.raises(error) as raised:
        call(m)
    assert raised.type is error
    assert is_told_by(method_of(name), raised.value)
    for word in words:
        assert word in str(raised.value), str(raised.value)
    after = copy_of(m)
    assert (len(m), list(m)) == (size, order)
    assert all(bits(after[key]) == bits(row) for key, row in before.items())
    assert m.stats().views == 0
    assert m._check() is None


def is_told_by(method: str, error: BaseException) -> bool:
    """Whether an error came through a method, so that no row is about another than it says. Cython's are in it."""
    names = [frame.name.rpartition(".")[2] for frame in traceback.extract_tb(error.__traceback__)]
    if method in BY_PYTHON:
        return names[-1] == "<lambda>"
    return method in names or LATER.get(method) in names


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


NEW = np.arange(500, 9000)
#: Calls that need memory, and what they say it was for.
STARVED = [
    ("setitem", lambda m: [m.__setitem__(key, 1.0) for key in range(500, 9000)], r"key \d+"),
    ("setdefault", lambda m: [m.setdefault(key) for key in range(500, 9000)], r"key \d+|a view of key \d+"),
    ("getitem", lambda m: m[5], "a view of key 5"),
    ("get", lambda m: m.get(5), "a view of key 5"),
    ("items", lambda m: list(m.items()), "a view of key 0"),
    ("set_many", lambda m: m.set_many(NEW, 1.0), "set"),
    ("add_many", lambda m: m.add_many(NEW, 1.0), "add"),
    ("update_many", lambda m: m.update_many(NEW, 1.0, "max"), "max"),
    ("update", lambda m: m.update(dict.fromkeys(range(500, 9000), 1.0)), "set"),
    ("update map", lambda m: m.update(IntArrayMap.fromkeys(NEW, [1.0] * 3)), "set"),
    ("merge", lambda m: m.merge(IntArrayMap.fromkeys(NEW, [1.0] * 3), "sub"), "sub"),
    ("ensure_many", lambda m: m.ensure_many(NEW), "ensure_many"),
    ("add_at", lambda m: m.add_at(NEW, 0), "add_at"),
    ("pop_many", lambda m: m.pop_many([5, 6]), "pop_many"),
    ("reserve", lambda m: m.reserve(100_000), "reserving 100000 rows"),
    ("compact", lambda m: m.compact(), "compact"),
    ("clear", lambda m: m.clear(), "clear"),
    ("copy", lambda m: m.copy(), "copy"),
    ("save", lambda m: with_a_path(m.save), "save"),
]
#: The same of those that make a map.
STARVED_MAKERS = [
    ("init", lambda cls: cls(3, capacity=9000), "creating a map"),
    ("from_arrays", lambda cls: cls.from_arrays(NEW, np.ones((len(NEW), 3))), "creating a map|set"),
    ("fromkeys", lambda cls: cls.fromkeys(NEW, [1.0] * 3), "creating a map|set"),
    ("from_arrow", lambda cls: cls.from_arrow(IntArrayMap.fromkeys(NEW, [1.0])), "creating a map|set"),
    ("from_npz", lambda cls: from_archive(cls, keys=NEW, rows=np.ones((len(NEW), 3))), "creating a map|set"),
    ("from_pandas", lambda cls: cls.from_pandas(frame(NEW, NEW)), "creating a map|set"),
]


def starved(n: int) -> type[IntArrayMap]:
    """Maps whose n-th request is refused, the very first of their making included."""

    class Starved(IntArrayMap):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more, _options={"fail_after": n})

    return Starved


@pytest.mark.parametrize("kind", ["hash", "direct"])
@pytest.mark.parametrize(("name", "call", "what"), STARVED, ids=[case[0] for case in STARVED])
def test_out_of_memory_says_what_for(kind, name, call, what):
    """The n-th request is refused; some calls find another way, so that not each of them is told."""
    said = set()
    for n in range(30):
        m = build_map(kind, keys=range(100), options={"fail_after": -1})
        before = copy_of(m)
        m._fail_after(n)
        try:
            call(m)
        except MemoryError as error:
            said.add(out_of_memory(name, error))
            m._fail_after(-1)
            after = copy_of(m)
            assert all(bits(after[key]) == bits(row) for key, row in before.items())
        m._fail_after(-1)
        assert m._check() is None
    check_said(said, what)


@pytest.mark.parametrize(("name", "call", "what"), STARVED_MAKERS, ids=[case[0] for case in STARVED_MAKERS])
def test_out_of_memory_when_it_is_made(name, call, what):
    said = set()
    for n in range(30):
        try:
            assert call(starved(n))._check() is None
        except MemoryError as error:
            said.add(out_of_memory(name, error))
    check_said(said, what)


def out_of_memory(name: str, error: MemoryError) -> str:
    assert type(error) is MemoryError  # NumPy's own tells of an array, which is not what the caller asked for
    assert is_told_by(method_of(name), error)
    return str(error)


def check_said(said: set[str], what: str) -> None:
    assert said
    assert all(re.fullmatch(f"({what}): out of memory", each) for each in said), said


#: What asks others than the map's own allocator, in a child that has only so many MiB of addresses left: the name of
#: the method, the MiB, what is done before, the call, and what it says. A row has 128 MiB.
SHORT = [
    ("to_arrays", 100, "", "m.to_arrays()", "a result of 134217728 bytes: out of memory"),
    ("get_many", 100, "", "m.get_many([5])", "a result of 134217728 bytes: out of memory"),
    ("pop_many", 100, "", "m.pop_many([5])", "a result of 134217728 bytes: out of memory"),
    ("to_npz", 100, "", "m.to_npz(path)", "a result of 134217728 bytes: out of memory"),
    ("to_pandas", 100, "", "m.to_pandas()", "a result of 134217728 bytes: out of memory"),
    ("to_arrow", 100, "", "m.to_arrow().__arrow_c_stream__()", "an Arrow stream: out of memory"),
    ("load", 200, "m.save(path)", "IntArrayMap.load(path)", "loading an image: out of memory"),
    ("load", 100, "hole(path)", "IntArrayMap.load(path)", "there are no addresses left to map the file to"),
    ("open", 100, "hole(path)", "IntArrayMap.open(path)", "there are no addresses left to map the file to"),
]
SHORT_CHILD = """
import resource
from intarraymap import IntArrayMap

def hole(path):
    with open(path, "wb") as file:
        file.truncate(1 << 30)

path = {path!r}
m = IntArrayMap(2**24)
m.setdefault(5)
{before}
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + ({room} << 20), resource.RLIM_INFINITY))
try:
    {call}
except Exception as error:
    print(type(error).__name__, error, sep=": ")
assert m._check() is None and len(m) == 1
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="NEEDS /proc")
@pytest.mark.parametrize(
    ("name", "room", "before", "call", "what"), SHORT, ids=[f"{case[0]} {case[1]} MiB" for case in SHORT]
)
def test_out_of_addresses_says_what_for(run_child, name, room, before, call, what):
    assert f".{name}(" in call
    said = with_a_path(lambda path: run_child(SHORT_CHILD.format(path=path, room=room, before=before, call=call)))
    assert said.strip() == f"MemoryError: {what}"


#: Where there is no pandas.
NO_FRAMES = [
    ("to_pandas", lambda m: m.to_pandas(), ImportError, ["pandas", "pip install"]),
    ("from_pandas", lambda m: m.from_pandas(5), ImportError, ["pandas", "pip install"]),
]


@pytest.mark.parametrize(("name", "call", "error", "words"), NO_FRAMES, ids=[case[0] for case in NO_FRAMES])
def test_no_frames(monkeypatch, name, call, error, words):
    monkeypatch.setitem(sys.modules, "pandas", None)
    judge(build_map("hash", (3,), "int16", range(10)), name, call, error, words)


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


# ---- What is documented ---------------------------------------------------------------------------------------------

#: All rows there are, as (method, error).
ROWS = {
    *((method_of(name), error) for name, _, error, _ in [*CASES, *TABLES, *NO_FRAMES]),
    *((method_of(name), MemoryError) for name, *_ in [*STARVED, *STARVED_MAKERS, *SHORT]),
    *(("_check", RuntimeError) for _ in BROKEN),
}
#: What users are handed: the package's own classes, and those of what a map returns.
PUBLIC = [*(getattr(intarraymap, name) for name in intarraymap.__all__), MapKeys, MapValues, MapItems, ArrowTable]
#: (method, error) that are documented and have no row, with the reason.
NO_ROW: dict[tuple[str, str], str] = {}


def documented_errors(text: str) -> set[str]:
    """The errors of a docstring: of its section "Raises", or of the sentence "Raises … if …" where it has none."""
    section = re.search(r"^Raises\n-+\n(.*?)(?=\n\n\S|\Z)", inspect.cleandoc(text), re.DOTALL | re.MULTILINE)
    if section:
        heads = [line for line in section[1].splitlines() if line[:1].strip()]
        return {name for line in heads for name in line.split(", ")}
    sentences = re.findall(r"\bRaises (.+?)(?:\.\s|\.?\Z)", text.strip(), re.DOTALL)
    return {name for sentence in sentences for name in re.findall(r"\b[A-Z]\w*Error\b", sentence)}


def documented() -> set[tuple[str, str]]:
    """(method, error) of all docstrings; those of a class are of its __init__, and of other classes have a dot."""
    found = set()
    for cls in filter(inspect.isclass, PUBLIC):
        texts = {name: getattr(cls, name).__doc__ for name in dir(cls) if hasattr(cls, name)}
        for name, text in {**texts, "__init__": cls.__doc__}.items():
            method = name if cls is IntArrayMap else f"{cls.__name__}.{name}"
            found |= {(method, error) for error in documented_errors(text or "")}
    return found


def documented_as(error: type[BaseException]) -> str:
    """Which of the OSErrors comes is the system's affair; a missing key is a KeyError that says more."""
    return next((base.__name__ for base in (OSError, KeyError) if issubclass(error, base)), error.__name__)


def test_docstrings_are_read():
    assert documented_errors("Reads.\n\nRaises\n------\nKeyError, TypeError\n    If A.\n\nNotes\n-----\nB") == {
        "KeyError",
        "TypeError",
    }
    assert documented_errors("Reads. Raises KeyError(key) if it is\nmissing, TypeError else. Never ValueError.") == {
        "KeyError",
        "TypeError",
    }
    assert documented_errors("Reads. A later step raises KeyError.") == set()
    assert {("__getitem__", "KeyError"), ("__init__", "RuntimeError"), ("add_at", "TypeError")} < documented()


def test_every_documented_error_has_a_row():
    """And a reason is there only for what is documented and has none."""
    rows = {(method, documented_as(error)) for method, error in ROWS}
    assert documented() - rows == NO_ROW.keys()
    assert all(NO_ROW.values())


def test_documented_errors_are_errors():
    for method, error in documented():
        assert issubclass(getattr(builtins, error), Exception), f"{method} documents {error}"


#: Methods with rows of errors that their docstrings do not name, with the reason.
UNDOCUMENTED = {
    "__hash__": "Python's refusal of what has none",
    "__or__": "Python's refusal of what has none for such an operand",
    "__ior__": "is update(), as its docstring says",
    "items": "a step of the iterator, not the method",
}


def test_every_row_is_documented():
    rows = {(method, documented_as(error)) for method, error in ROWS}
    assert {method for method, _ in rows - documented()} == UNDOCUMENTED.keys()


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
