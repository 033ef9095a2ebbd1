"""Promise §4: everything a dict does, with dict's meaning."""

from __future__ import annotations

import collections
import collections.abc
import sys
import tracemalloc

import numpy as np
import pytest
from model import DTYPES, FAR_KEY, KEY_MAX, KEY_MIN, bits, build_map, copy_of, plain, rows_for, shuffled
from test_construction import USES

from intarraymap import IntArrayMap

DEFAULT = object()


def content(m) -> dict[int, list]:
    return {key: row.tolist() for key, row in m.items()}


class TestBasics:
    def test_empty(self, make_map):
        m = make_map()
        assert len(m) == 0
        assert bool(m) is False
        assert list(m) == list(m.keys()) == list(m.values()) == list(m.items()) == []
        assert 0 not in m
        with pytest.raises(KeyError):
            m.popitem()
        with pytest.raises(KeyError):
            m[0]

    def test_set_get_delete(self, make_case):
        case = make_case()
        m, model = case.map, case.model
        for key in (7, 200, 201, 7):
            m[key] = model[key] = np.arange(3.0) + key
        del m[3], model[3]
        case.check()
        with pytest.raises(KeyError):
            m[3]
        with pytest.raises(KeyError):
            del m[3]
        case.check()

    def test_len_counts(self, make_map):
        m = make_map()
        for count in range(50):
            assert len(m) == count
            m[count] = 0.0
            m[count] = 1.0
        assert bool(m) is True
        for count in range(50, 0, -1):
            assert len(m) == count
            del m[count - 1]

    @pytest.mark.parametrize("call", ["copy", "clear", "keys", "values", "items", "popitem", "scan"])
    def test_no_arguments(self, make_case, call):
        with pytest.raises(TypeError):
            getattr(make_case(count=2).map, call)(None)

    @pytest.mark.parametrize("call", ["get", "pop", "setdefault", "__getitem__", "__contains__", "__setitem__"])
    def test_missing_arguments(self, make_map, call):
        m = make_map(keys=[1])
        with pytest.raises(TypeError):
            getattr(m, call)()
        with pytest.raises(TypeError):
            getattr(m, call)(1, 2.0, 3.0, 4.0)
        assert list(m) == [1]


class TestGet:
    def test_present(self, make_case):
        m = make_case(count=3).map
        assert np.shares_memory(m.get(1), m[1])
        assert np.shares_memory(m.get(1, DEFAULT), m[1])

    def test_absent(self, make_case):
        m = make_case(count=3).map
        assert m.get(3) is None
        assert m.get(3, DEFAULT) is DEFAULT
        assert 3 not in m


class TestPop:
    def test_gives_independent_memory(self, make_case):
        case = make_case()
        m = case.map
        row = m.pop(5)
        assert bits(row) == bits(case.model.pop(5))
        assert row.flags.writeable
        assert row.flags.owndata or row.base is None or not isinstance(row.base, type(m))
        row[:] = -1.0
        m[5] = case.model[5] = np.zeros(3)
        assert (row == -1.0).all()
        case.check()
        assert m.stats().views == 0, "a popped row is no view"

    def test_default(self, make_map):
        m = make_map(keys=[1])
        assert m.pop(9, DEFAULT) is DEFAULT
        assert m.pop(9, None) is None
        with pytest.raises(KeyError):
            m.pop(9)
        assert m.pop(1, DEFAULT).tolist() == rows_for(1)[0].tolist()
        assert len(m) == 0

    def test_popitem_takes_the_last_row(self, make_case):
        case = make_case()
        m = case.map
        for _ in range(200):
            if not m:
                break
            expected = list(m)[-1]
            key, row = m.popitem()
            assert key == expected
            assert bits(row) == bits(case.model.pop(key))
            row[:] = 0
        case.check()

    def test_popitem_until_empty(self, make_case):
        m = make_case(count=100).map
        m.delete_many(np.arange(0, 100, 3))
        keys = list(m)
        assert [m.popitem()[0] for _ in range(len(m))] == keys[::-1]
        with pytest.raises(KeyError):
            m.popitem()
        m[4] = 1.0
        assert type(m.popitem()) is tuple


class TestSetdefault:
    def test_row_of_zeros(self, make_case):
        case = make_case()
        view = case.map.setdefault(77_000)
        assert view.tolist() == [0.0] * 3
        view[1] = 5.0
        case.model[77_000] = np.array([0.0, 5.0, 0.0])
        case.check()

    def test_copies_the_default(self, make_map):
        m = make_map()
        row = np.arange(3.0)
        view = m.setdefault(1, row)
        row[:] = 9
        assert view.tolist() == [0.0, 1.0, 2.0]
        view[0] = 4
        assert m[1][0] == 4

    def test_keeps_what_is_there(self, make_case):
        case = make_case()
        assert np.shares_memory(case.map.setdefault(5), case.map[5])
        assert np.shares_memory(case.map.setdefault(5, 99.0), case.map[5])
        case.check()


class Pairs:
    """The least a mapping can be: keys and __getitem__."""

    def __init__(self, source):
        self.source = source

    def keys(self):
        return self.source.keys()

    def __getitem__(self, key):
        return self.source[key]


NEW = {3: [1.0, 2.0, 3.0], 500: [4.0, 5.0, 6.0], 501: [7.0, 8.0, 9.0]}
SOURCES = {
    "dict": lambda: dict(NEW),
    "dict of arrays": lambda: {key: np.array(row) for key, row in NEW.items()},
    "pairs": lambda: list(NEW.items()),
    "tuple of lists": lambda: tuple(list(pair) for pair in NEW.items()),
    "generator": lambda: ((key, row) for key, row in NEW.items()),
    "items": lambda: NEW.items(),
    "map": lambda: build_map("hash", keys=NEW, rows=list(NEW.values())),
    "map items": lambda: build_map("hash", keys=NEW, rows=list(NEW.values())).items(),
    "map of ints": lambda: build_map("hash", (3,), "int16", keys=NEW, rows=np.array(list(NEW.values()), "i2")),
    "mapping": lambda: collections.UserDict(NEW),
    "keys and getitem": lambda: Pairs(NEW),
    "numpy int keys": lambda: {np.int32(key): row for key, row in NEW.items()},
}


class TestUpdate:
    @pytest.mark.parametrize("source", SOURCES)
    def test_sources(self, make_case, source):
        case = make_case()
        assert case.map.update(SOURCES[source]()) is None
        case.update(list(NEW), list(NEW.values()), "set")
        case.check()

    @pytest.mark.parametrize("source", SOURCES)
    def test_ior_takes_the_same(self, make_case, source):
        case = make_case()
        m = case.map
        m |= SOURCES[source]()
        assert m is case.map
        case.update(list(NEW), list(NEW.values()), "set")
        case.check()

    def test_nothing(self, make_case):
        case = make_case()
        case.map.update()
        case.map.update({})
        case.map.update([])
        case.check()

    def test_itself(self, make_case):
        case = make_case()
        case.map.update(case.map)
        case.map.update(case.map.items())
        case.map |= case.map
        case.check()

    def test_last_pair_wins(self, make_case):
        case = make_case()
        case.map.update([(900, 1.0), (900, 2.0), (5, 3.0), (900, 4.0)])
        case.update([900, 5], [[4.0] * 3, [3.0] * 3], "set")
        case.check()

    def test_views_of_itself(self, make_case):
        """The source's rows are views of rows that the update overwrites: read to its end first."""
        case = make_case()
        m = case.map
        m.update([(0, m[1]), (1, m[0])])
        case.model[0], case.model[1] = case.model[1], case.model[0]
        case.check()

    @pytest.mark.parametrize(
        ("source", "error"),
        [
            (lambda: 42, TypeError),
            (lambda: None, TypeError),
            (lambda: [1, 2], TypeError),
            (lambda: [(1, 2.0, 3.0)], ValueError),
            (lambda: [(1,)], ValueError),
            (lambda: [(900, 1.0), (901,)], ValueError),
            (lambda: [(900, 1.0), 5], TypeError),
            (lambda: {900: 1.0, "a": 2.0}, TypeError),
            (lambda: {900: 1.0, 1.0: 2.0}, TypeError),
            (lambda: {900: 1.0, 2**63: 2.0}, OverflowError),
            (lambda: {900: 1.0, 901: [1.0, 2.0]}, ValueError),
            (lambda: {900: 1.0, 901: "2"}, TypeError),
            (lambda: {900: 1.0, 901: None}, TypeError),
            (lambda: {900: 1.0, 901: 10**400}, OverflowError),
            (lambda: build_map("hash", (4,), keys=[900]), ValueError),
            (lambda: build_map("hash", (3,), "complex64", keys=[900]), TypeError),
        ],
    )
    def test_all_or_nothing(self, make_case, source, error):
        case = make_case()
        with pytest.raises(error):
            case.map.update(source())
        with pytest.raises(error):
            case.map |= source()
        case.check()

    def test_keyword(self, make_case):
        case = make_case()
        with pytest.raises(TypeError):
            case.map.update(x=1.0)
        with pytest.raises(TypeError):
            case.map.update({1: 1.0}, {2: 1.0})
        case.check()

    def test_narrowing_from_another_map(self, make_map):
        m = make_map((2,), "int8", [1, 2])
        before = copy_of(m)
        m.update(build_map("hash", (2,), "int64", [3], [[100, -100]]))
        assert m[3].tolist() == [100, -100]
        with pytest.raises(OverflowError):
            m.update(build_map("hash", (2,), "int64", [1, 4], [[1, 1], [1, 200]]))
        assert sorted(m) == [1, 2, 3]
        assert bits(m[1]) == bits(before[1])

    @pytest.mark.parametrize("after", [0, 1, 5, 100])
    def test_source_that_raises_half_way(self, make_case, after):
        class SourceError(Exception):
            pass

        def source():
            for key in range(after):
                yield 1000 + key, 1.0
            raise SourceError

        case = make_case()
        with pytest.raises(SourceError):
            case.map.update(source())
        with pytest.raises(SourceError):
            case.map |= source()
        case.check()


class TestOr:
    def test_new_map(self, make_case):
        case = make_case()
        m = case.map
        other = m | NEW
        assert type(other) is type(m)
        assert other is not m
        assert (other.row_shape, other.dtype) == (m.row_shape, m.dtype)
        case.check()
        case.update(list(NEW), list(NEW.values()), "set")
        assert copy_of(other).keys() == case.model.keys()
        assert all(bits(other[key]) == bits(row) for key, row in case.model.items())
        other[3] = -1.0
        assert m[3].tolist() != [-1.0] * 3

    def test_two_maps(self, make_map):
        a, b = make_map(keys=[1, 2]), make_map(keys=[2, 3], rows=[[9.0] * 3, [8.0] * 3])
        assert content(a | b) == {1: a[1].tolist(), 2: [9.0] * 3, 3: [8.0] * 3}
        assert content(b | a) == {1: a[1].tolist(), 2: a[2].tolist(), 3: [8.0] * 3}
        assert sorted(a) == [1, 2]
        assert sorted(b) == [2, 3]

    @pytest.mark.parametrize("other", [5, None, "abc", [(1, 2.0)], {1, 2}], ids=plain)
    def test_only_mappings(self, make_map, other):
        m = make_map(keys=[1])
        with pytest.raises(TypeError):
            m | other
        with pytest.raises(TypeError):
            other | m
        assert list(m) == [1]

    def test_class(self):
        class Child(IntArrayMap):
            pass

        m = Child(1)
        assert type(m | {1: 1.0}) is Child
        assert type(m | IntArrayMap(1)) is Child


class TestEqual:
    def test_itself_and_its_copy(self, make_case):
        m = make_case().map
        assert m == m
        assert not m != m
        other = m.copy()
        assert m == other
        other[5][0] += 1
        assert m != other
        assert not m == other

    @pytest.mark.parametrize("other", ["hash", "direct", "auto", "growing", "colliding"])
    def test_whatever_the_order_or_index(self, make_map, other):
        keys = list(range(80))
        rows = rows_for(80)
        order = shuffled(range(80))
        a = make_map(keys=keys, rows=rows)
        b = build_map(other, keys=order, rows=rows[order])
        assert a == b
        assert b == a
        del b[3]
        assert a != b
        b[300] = a[3]
        assert a != b
        assert b != a

    @pytest.mark.parametrize("other", ["int8", "float32", "complex64", "uint64", "float16"])
    def test_whatever_the_dtype(self, make_map, other):
        a = make_map(keys=range(10))
        assert a == build_map("hash", (3,), other, range(10), a.get_many(np.arange(10)).astype(other))

    def test_numbers_and_not_bits(self, make_map):
        a, b = make_map((1,), keys=[1], rows=[[0.0]]), make_map((1,), keys=[1], rows=[[-0.0]])
        assert a == b
        c = build_map("hash", (1,), "int64", [1], [[-1]])
        d = build_map("hash", (1,), "uint64", [1], np.array([[2**64 - 1]], "u8"))
        assert c != d

    def test_nan_differs_from_nan(self, make_map):
        m = make_map((2,), keys=[1], rows=[[1.0, np.nan]])
        assert m != m.copy()
        assert not m == m.copy()
        assert m != m
        t = make_map((1,), "datetime64[ns]", [1], np.array([["NaT"]], "M8[ns]"))
        assert t != t.copy()

    def test_row_shape_counts(self, make_map):
        assert make_map((2, 3), keys=[1], rows=np.ones((1, 2, 3))) != make_map((6,), keys=[1], rows=np.ones((1, 6)))
        assert make_map((1,), keys=[1], rows=[[1.0]]) != make_map((3,), keys=[1], rows=[[1.0] * 3])
        assert make_map((2,)) != make_map((3,))
        assert make_map((2,)) == make_map((2,), "int8")

    def test_against_a_mapping(self, make_case):
        case = make_case()
        m = case.map
        assert m == case.model
        assert case.model == m
        assert m == collections.UserDict(case.model)
        for wrong in (np.zeros(3) - 5, np.zeros(4), None, "abc", 1.0, object(), {}, [[1.0]], np.array(["a", "b", "c"])):
            model = dict(case.model)
            model[5] = wrong
            assert (m == model) is False
            assert (m != model) is True
        model = dict(case.model)
        model["five"] = model.pop(5)
        assert m != model
        model = dict(case.model)
        model.pop(5)
        assert m != model
        model[2**70] = case.model[5]
        assert m != model
        assert IntArrayMap(3) == {}
        case.check()

    @pytest.mark.parametrize("other", [5, None, "abc", [], (), {1}, object(), np.zeros(3)], ids=plain)
    def test_against_anything_else(self, make_case, other):
        m = make_case(count=2).map
        if isinstance(other, np.ndarray):
            assert m.__eq__(other) is NotImplemented
        else:
            assert (m == other) is False
            assert (m != other) is True

    def test_no_order(self, make_map):
        a, b = make_map(keys=[1]), make_map(keys=[1, 2])
        for compare in (lambda: a < b, lambda: a <= b, lambda: a > b, lambda: a >= b):
            with pytest.raises(TypeError):
                compare()


class TestKeysView:
    def test_set_operations(self, make_map):
        keys = make_map(keys=[1, 2, 3]).keys()
        assert isinstance(keys, collections.abc.KeysView)
        assert keys & {2, 3, 4} == {2, 3}
        assert {2, 3, 4} & keys == {2, 3}
        assert keys | {9} == {1, 2, 3, 9}
        assert keys - {1} == {2, 3}
        assert {1, 7} - keys == {7}
        assert keys ^ {1, 9} == {2, 3, 9}
        assert keys == {1, 2, 3}
        assert keys != {1, 2}
        assert keys <= {1, 2, 3, 4}
        assert keys < {1, 2, 3, 4}
        assert keys >= {1}
        assert keys > {1}
        assert keys.isdisjoint({4})
        assert not keys.isdisjoint({3})
        assert all(type(key) is int for key in keys | set())

    def test_two_views(self, make_map):
        a, b = make_map(keys=[1, 2]), make_map(keys=[2, 3])
        assert a.keys() & b.keys() == {2}
        assert a.keys() | b.keys() == {1, 2, 3}
        assert a.keys() == make_map(keys=[2, 1]).keys()

    def test_live(self, make_map):
        m = make_map(keys=[1])
        keys, values, items = m.keys(), m.values(), m.items()
        m[2] = 5.0
        assert (len(keys), len(values), len(items)) == (2, 2, 2)
        assert 2 in keys
        assert sorted(keys) == [1, 2]
        assert sorted(key for key, _ in items) == [1, 2]
        del m[1]
        assert list(keys) == [2]

    def test_contains(self, make_case):
        keys = make_case(count=3).map.keys()
        assert 1 in keys
        assert np.int8(1) in keys
        for absent in (3, "a", 1.5, None, 2**63, (1,)):
            assert absent not in keys


class TestItemsAndValues:
    def test_types(self, make_case):
        m = make_case(count=2).map
        assert isinstance(m.items(), collections.abc.ItemsView)
        assert isinstance(m.values(), collections.abc.ValuesView)

    def test_in_compares_rows_as_equal_does(self, make_map):
        m = make_map((3,), keys=[1, 2], rows=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        row = np.array([1.0, 2.0, 3.0])
        assert row in m.values()
        assert row.astype("int32") in m.values()
        assert (1, row) in m.items()
        assert (1, row.astype("f4")) in m.items()
        assert (2, row) not in m.items()
        assert (3, row) not in m.items()
        assert row + 1 not in m.values()
        assert (1, m[1]) in m.items()
        assert m[2] in m.values()

    @pytest.mark.parametrize(
        "other", [None, "abc", 5, 1.0, np.ones(4), np.array("x"), [], object(), (1,), (1, 2, 3)], ids=plain
    )
    def test_in_of_other_kinds(self, make_map, other):
        m = make_map((3,), keys=[1, 2], rows=np.full((2, 3), 1.0))
        assert other not in m.values()
        assert other not in m.items()
        assert (1, other) not in m.items()
        assert ("a", np.ones(3)) not in m.items()

    def test_nan(self, make_map):
        m = make_map((2,), keys=[1], rows=[[np.nan, 1.0]])
        assert np.array([np.nan, 1.0]) not in m.values()
        assert (1, np.array([np.nan, 1.0])) not in m.items()

    def test_lengths(self, make_case):
        case = make_case()
        assert len(case.map.keys()) == len(case.map.values()) == len(case.map.items()) == len(case.model)

    def test_repr_is_short(self, make_case):
        m = make_case().map
        for view in (m.keys(), m.values(), m.items()):
            assert isinstance(repr(view), str)


class TestReversed:
    def test_mirrors_the_order(self, make_case):
        m = make_case().map
        m.delete_many(np.arange(10, 30))
        keys = list(m)
        assert list(reversed(m)) == keys[::-1]
        assert list(reversed(m.keys())) == keys[::-1]
        assert [key for key, _ in reversed(m.items())] == keys[::-1]
        assert [bits(row) for row in reversed(m.values())] == [bits(m[key]) for key in keys[::-1]]

    def test_empty(self, make_map):
        assert list(reversed(make_map())) == []


class TestOrder:
    @pytest.mark.parametrize("kind", ["hash", "growing", "segments", "mapped", "colliding", "all-zero", "all-ones"])
    def test_hash_is_insertion_order(self, kind):
        keys = shuffled(range(-500, 500))
        m = build_map(kind, keys=keys)
        assert list(m) == keys
        for key in keys[::3]:
            m[key] = 5.0
        m.add_many(np.array(keys[::-1]), 1.0)
        assert list(m) == keys, "overwriting keeps the place"
        m.reserve(50_000)
        assert list(m) == keys, "as does making room"
        m.set_many(np.arange(5000, 6000)[::-1], 0.0)
        assert list(m) == keys + list(range(5999, 4999, -1))

    @pytest.mark.parametrize("kind", ["hash", "growing", "segments", "mapped"])
    def test_hash_after_a_delete(self, kind):
        """New keys may fill freed places; the others keep their order."""
        keys = shuffled(range(200))
        m = build_map(kind, keys=keys)
        gone = set(keys[10:60:2])
        for key in gone:
            del m[key]
        m.set_many(np.arange(1000, 1100), 0.0)
        assert [key for key in m if key < 1000] == [key for key in keys if key not in gone]
        assert sorted(key for key in m if key >= 1000) == list(range(1000, 1100))

    @pytest.mark.parametrize(("index", "options"), [("direct", {}), ("auto", {}), ("direct", {"reserve": False})])
    def test_direct_is_ascending_within_a_page_and_pages_as_they_came(self, index, options):
        m = IntArrayMap(2, index=index, _options=options)
        arrived = []
        for start in [*range(0, 20_000, 64), *range(-40_000, -20_000, 64), *range(20_000, 60_000, 64)]:
            for key in shuffled(range(start, start + 64)):
                m[key] = 1.0
                arrived.append(key)
        assert m.index == "direct"
        page_rows = m.stats().page_rows
        assert page_rows & (page_rows - 1) == 0
        pages = dict.fromkeys(key // page_rows for key in arrived)
        present = collections.defaultdict(list)
        for key in sorted(set(arrived)):
            present[key // page_rows].append(key)
        assert list(m) == [key for page in pages for key in present[page]]

    def test_every_way_of_asking_agrees(self, make_case):
        m = make_case().map
        m.delete_many(np.arange(20, 40))
        m.set_many(np.arange(7000, 7010), 1.0)
        keys = list(m)
        assert list(m.keys()) == keys
        assert [key for key, _ in m.items()] == keys
        assert m.to_arrays()[0].tolist() == keys
        assert [key for key, _ in m.scan()] == keys
        assert [bits(row) for row in m.values()] == [bits(row) for row in m.to_arrays()[1]]

    def test_docstring_says_so(self):
        text = IntArrayMap.__doc__.lower()
        assert "order" in text
        assert "dict" in text


class TestCopy:
    def test_independent(self, make_case):
        case = make_case()
        other = case.map.copy()
        assert other is not case.map
        assert type(other) is type(case.map)
        assert copy_of(other).keys() == case.model.keys()
        other[5] = -1.0
        other[88_000] = 1.0
        del other[6]
        assert other._check() is None
        case.check()
        case.map[7] = case.model[7] = np.full(3, 9.0)
        assert other[7].tolist() != [9.0] * 3

    def test_views_alive_do_not_matter(self, make_case):
        case = make_case()
        view = case.map[5]
        other = case.map.copy()
        assert other.stats().views == 0
        assert not np.shares_memory(view, other[5])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_attributes(self, make_map, dtype):
        m = make_map((2, 2), dtype, range(5))
        other = m.copy()
        assert (other.row_shape, other.dtype, len(other)) == ((2, 2), m.dtype, 5)
        assert all(bits(other[key]) == bits(m[key]) for key in range(5))


class TestClear:
    def test_empties(self, make_case):
        case = make_case()
        case.map.clear()
        case.model.clear()
        case.check()
        case.map.clear()
        case.check()
        for key in (5, -5, 5000):
            case.map[key] = case.model[key] = np.full(3, 1.0)
        case.check()

    def test_gives_memory_back(self):
        m = IntArrayMap(8)
        empty = m.nbytes
        m.set_many(np.arange(50_000), 1.0)
        m.clear()
        assert m.nbytes <= empty + 65536


class TestGetsizeof:
    def test_all_memory(self, make_case):
        m = make_case().map
        assert sys.getsizeof(m) >= m.nbytes
        before = sys.getsizeof(m)
        count = 5000 if make_case.traits.few_chains else 50_000
        m.set_many(np.arange(10_000, 10_000 + count), 1.0)
        assert sys.getsizeof(m) >= before + count * 4 // 5 * 24


class TestRepr:
    @pytest.mark.parametrize("count", [0, 1, 3, 10, 100_000])
    def test_short_at_any_length(self, count):
        m = IntArrayMap.from_arrays(np.arange(count), np.ones((count, 3)))
        assert "IntArrayMap" in repr(m)
        assert len(repr(m)) < 1000
        assert str(m) == repr(m)

    def test_short_at_any_row_length(self):
        m = IntArrayMap((100, 100, 10))
        m[1] = 0.5
        assert len(repr(m)) < 1000

    def test_special_numbers(self, make_any_key_map):
        m = make_any_key_map((2,), keys=[KEY_MIN, KEY_MAX], rows=[[np.nan, np.inf], [-0.0, 1e300]])
        assert isinstance(repr(m), str)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, make_case, dtype):
        assert 0 < len(repr(make_case((2,), dtype, 100).map)) < 1000

    def test_class_name(self):
        class Child(IntArrayMap):
            pass

        assert "Child" in repr(Child(1))


class TestClose:
    @pytest.mark.parametrize("use", USES, ids=list(USES))
    def test_every_call_raises(self, make_case, use):
        m = make_case((1,), count=4).map
        m.close()
        with pytest.raises(ValueError):
            USES[use](m)
        with pytest.raises(ValueError):
            USES[use](m)

    def test_twice_is_fine_and_repr_works(self, make_case):
        m = make_case(count=2).map
        assert m.close() is None
        assert m.close() is None
        assert "IntArrayMap" in repr(m)

    def test_with(self, make_map):
        m = make_map(keys=[1, 2])
        with m as inner:
            assert inner is m
            view = m[1]
        with pytest.raises(ValueError):
            len(m)
        assert view.tolist() == rows_for(2)[0].tolist()

    def test_with_and_an_exception(self, make_case):
        m = make_case(count=2).map
        with pytest.raises(ZeroDivisionError), m:
            raise ZeroDivisionError
        with pytest.raises(ValueError):
            m[1]

    def test_closing_inside_with(self, make_case):
        with make_case(count=2).map as m:
            m.close()
        assert "IntArrayMap" in repr(m)

    @pytest.mark.parametrize("start", ["iter", "items", "values", "reversed", "scan"])
    def test_iterators_stop_with_value_error(self, make_case, start):
        m = make_case().map
        steps = {
            "iter": lambda: iter(m),
            "items": lambda: iter(m.items()),
            "values": lambda: iter(m.values()),
            "reversed": lambda: reversed(m),
            "scan": lambda: m.scan(),
        }[start]()
        next(steps)
        m.close()
        for _ in range(2):
            with pytest.raises(ValueError):
                next(steps)

    def test_views_of_the_mapping_raise(self, make_case):
        m = make_case(count=2).map
        keys, items, values = m.keys(), m.items(), m.values()
        m.close()
        for view in (keys, items, values):
            with pytest.raises(ValueError):
                len(view)
            with pytest.raises(ValueError):
                list(view)
            with pytest.raises(ValueError):
                (1, 2) in view if view is items else 1 in view

    def test_as_another_map(self, make_map):
        m, closed = make_map(keys=[1]), make_map(keys=[2])
        closed.close()
        for use in (lambda: m == closed, lambda: m.merge(closed), lambda: m.update(closed), lambda: m | closed):
            with pytest.raises(ValueError):
                use()
        assert list(m) == [1]

    def test_frees_memory(self):
        m = IntArrayMap(8)
        m.set_many(np.arange(1000), 1.0)
        view = m[999]
        m.close()
        assert view.tolist() == [1.0] * 8


class TestFarKeys:
    def test_mixed(self, make_any_key_map):
        keys = [0, 1, 2, FAR_KEY, -FAR_KEY, KEY_MIN, KEY_MAX, 3, 4]
        m = make_any_key_map(keys=keys)
        assert sorted(m) == sorted(keys)
        for key in keys:
            assert np.array_equal(m.pop(key), rows_for(len(keys))[keys.index(key)])
        assert not m


class TestViewsOfTheMapping:
    @pytest.mark.parametrize("view", ["keys", "values", "items"])
    def test_mapping_is_read_only(self, make_map, view):
        """As of dict's views."""
        m = make_map(keys=range(5))
        proxy = getattr(m, view)().mapping
        assert len(proxy) == 5 and 3 in proxy and proxy[3].tolist() == m[3].tolist()
        with pytest.raises(TypeError):
            proxy[3] = 0
        m[9] = 1
        assert len(proxy) == 6


def test_equal_only_if_nothing_was_rounded():
    """An integer beyond 2**53 is not the float that it would be rounded to."""
    exact, odd = IntArrayMap(2, "int64"), IntArrayMap(2, "int64")
    floats = IntArrayMap(2, "float64")
    exact[1], odd[1], floats[1] = [2**53, 4], [2**53 + 1, 4], [2.0**53, 4]
    assert exact == floats and floats == exact
    assert odd != floats and floats != odd


@pytest.mark.parametrize(
    ("dtype", "row", "others"),
    [
        ("uint64", [2**64 - 1, 0], [[2**64 - 2, 0], [2.0**64, 0], [-1, 0]]),
        ("uint64", [2**63, 5], [[2**63 + 1, 5], [2**63 + 1, 5.0]]),
        ("int64", [2**53, 1], [[2**53 + 1, 1.0], [2**53 + 1, 1 + 0j]]),
        ("float64", [2**70, 1], [[2**70 + 1, 1], [2**70, 1.5]]),
        ("float32", [2**70, 0.5], [[2**70, 0.25], [2**1100, 0.5]]),
        ("complex128", [2**70, 1j], [[2**70 + 1, 1j], [2**70, 1]]),
        ("bool", [True, False], [[2**64, 0.0], [True, 0.5]]),
        ("uint64", [np.uint64(2**63 + 1), 1], [[np.uint64(2**63), 1], [2.0**63, np.int64(1)]]),
        ("float64", [2**53, 1.5], [[np.int64(2**53 + 1), 1.5], [np.float32(2**53), np.float16(1.25)]]),
    ],
)
def test_lists_of_numbers_are_compared_exactly(dtype, row, others):
    """Of such lists NumPy makes floats or objects: what had been stored was another row, and another the same."""
    m = IntArrayMap(2, dtype)
    m[1] = row
    for same in (row, tuple(row), collections.deque(row), collections.UserList(row)):
        assert m == {1: same} and (1, same) in m.items() and same in m.values()
    for other in others:
        assert m != {1: other} and (1, other) not in m.items() and other not in m.values()


def test_lists_of_what_is_no_number_are_unequal():
    class Equal:
        def __eq__(self, other):
            return True

        __hash__ = None

    m = IntArrayMap(2)
    m[1] = [1, 2]
    for row in ([Equal(), Equal()], [None, 2], ["1", "2"], [1, [2]], [2**70, None]):
        assert m != {1: row} and (1, row) not in m.items() and row not in m.values()
    m[1] = [np.nan, 2**70]
    assert m != {1: [np.nan, 2**70]}


def test_unequal_to_a_mapping_that_loses_a_key():
    class Loses(collections.UserDict):
        def __getitem__(self, key):
            raise KeyError(key)

    m = IntArrayMap(1)
    m[4] = 1
    other = Loses()
    other.data[4] = [1]
    assert m != other


def times(number: int, dtype: str):
    return IntArrayMap.from_arrays([0], np.array([[number]], "i8").view(dtype))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ((2**55, "M8[s]"), (0, "M8[ns]"), False),
        ((1, "m8[s]"), (1000, "m8[ms]"), True),
        ((7, "m8[3h]"), (3 * 3600 * 10**9, "m8[7ns]"), True),
        ((2**62, "m8[2s]"), (2**61, "m8[4s]"), True),
        ((0, "m8[W]"), (0, "m8[as]"), True),
        ((1, "m8[W]"), (604800 * 10**18 % 2**64, "m8[as]"), False),
        ((50, "M8[Y]"), (18262, "M8[D]"), True),
        ((50, "M8[Y]"), (18263, "M8[D]"), False),
        ((-(10**15), "M8[7M]"), (0, "M8[as]"), False),
        ((50, "m8[Y]"), (18262, "m8[D]"), False),
        ((-(2**63), "M8[s]"), (-(2**63), "M8[ms]"), False),
    ],
)
def test_times_of_another_unit_were_equal_where_numpy_wraps(a, b, same):
    m, other = times(*a), times(*b)
    for one, two in ((m, other), (other, m), (m, {0: other[0]}), (other, dict(m))):
        assert (one == two) is same
        assert (one != two) is not same
    assert (other[0] in m.values()) is same
    assert ((0, m[0]) in other.items()) is same


def test_times_of_no_steps_are_unequal():
    """NumPy raises SystemError, or the process ends."""
    for number in (0, 5):
        m = times(number, "M8[s]")
        row = np.array([number], "i8").view("M8[0s]")
        assert m != {0: row}
        assert row not in m.values()


def test_long_doubles_that_are_equal_were_not():
    m = IntArrayMap.from_arrays([0], [[2**53 + 1, -(2**63) + 1]])
    equal = np.array([2**53 + 1, -(2**63) + 1], np.longdouble)
    if int(equal[0]) == 2**53 + 1:
        assert m == {0: equal}
        assert m == {0: equal.astype(np.clongdouble)}
    assert m != {0: equal.astype(float)}
    assert m != {0: np.nextafter(equal, np.longdouble(0))}


@pytest.mark.thread_unsafe(reason="what the other threads hold is counted too")
def test_update_made_room_for_sixteen_rows_to_put_one():
    """Of rows of 1 GiB that is 16 GiB."""
    m = IntArrayMap(2**20, capacity=4)
    m.update({1: 1.0})
    tracemalloc.start()
    try:
        m.update({2: 2.0})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**23


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 1000])
@pytest.mark.parametrize("length", [1, 500, 2000])
def test_update_of_any_length(count, length):
    rows = rows_for(count, (length,))
    m = IntArrayMap(length)
    m.update((key, rows[key]) for key in range(count))
    assert len(m) == count
    assert bits(m.get_many(np.arange(count))) == bits(rows)
