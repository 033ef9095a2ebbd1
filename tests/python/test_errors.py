"""Promise §7: every documented error by type and by what its message names; the map as it was."""

from __future__ import annotations

import numpy as np
import pytest
from model import FAR_KEY, bits, build_map, copy_of

from intarraymap import IntArrayMap

BIG = 2**63 + 11

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
    ("reserve large", lambda m: m.reserve(2**40), OverflowError, [str(2**40)]),
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
]


@pytest.mark.parametrize(("call", "error", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_type_and_message_and_map_unchanged(make_map, call, error, words):
    m = make_map((3,), "int16", range(10))
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


def test_positions_in_shaped_keys(make_map):
    """keys[i] of a matrix: counted in C order, whatever its memory order."""
    m = make_map(keys=range(10))
    keys = np.asfortranarray([[1, 2, 3], [4, 77, 5]])
    with pytest.raises(KeyError) as raised:
        m.get_many(keys)
    assert raised.value.key == 77
    assert raised.value.position in (4, (1, 1))


def test_scalar_key_error_is_as_a_dicts(make_map):
    m = make_map(keys=[1])
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


@pytest.mark.parametrize("kind", ["direct", "direct-segments"])
@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.__setitem__(FAR_KEY, 1.0),
        lambda m: m.setdefault(FAR_KEY),
        lambda m: m.set_many([11, FAR_KEY, 12], 1.0),
        lambda m: m.update({11: 1.0, FAR_KEY: 1.0}),
    ],
    ids=["setitem", "setdefault", "set_many", "update"],
)
def test_too_sparse_names_the_key_and_says_what_was_asked(kind, call):
    m = build_map(kind, keys=range(10))
    with pytest.raises(ValueError, match="index") as raised:
        call(m)
    assert str(FAR_KEY) in str(raised.value)
    assert sorted(m) == list(range(10))


def test_closed(make_map):
    m = make_map(keys=[1])
    m.close()
    with pytest.raises(ValueError, match="closed"):
        m[1]


def test_bare():
    with pytest.raises(RuntimeError, match="__init__"):
        len(IntArrayMap.__new__(IntArrayMap))


@pytest.mark.parametrize("change", ["insert", "delete"])
def test_changed_during_iteration(make_map, change):
    m = make_map(keys=range(10))
    steps = iter(m)
    next(steps)
    if change == "insert":
        m[99] = 1.0
    else:
        del m[5]
    with pytest.raises(RuntimeError, match="iteration"):
        next(steps)


def test_compact_says_what_is_alive(make_map):
    m = make_map(keys=range(10))
    view = m[3]
    with pytest.raises(BufferError, match="view"):
        m.compact()
    assert view.shape == (3,)
    del view
    scan = m.scan()
    with pytest.raises(BufferError, match="scan"):
        m.compact()
    assert scan is not None
