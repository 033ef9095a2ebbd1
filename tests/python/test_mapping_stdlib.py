"""CPython's own test.mapping_tests against the map, in two ways.

Rows: the tests run on IntArrayMap(1, "int64") itself. Keys and values of the suite are ints; a row of one number
compares and tests as that number does. The few tests that cannot be said in ints and rows (str keys, keyword
arguments, unhashable values in a set) are said again here, in ints and rows, with their names kept.

Words: the suite runs unchanged on a mapping of any hashable to anything, whose every method hands on to the same
method of an IntArrayMap that stores one number per word.
"""

from __future__ import annotations

import collections
import collections.abc
import unittest

import numpy as np
import pytest

from intarraymap import IntArrayMap

try:
    from test import mapping_tests
except ImportError:  # pragma: no cover
    pytest.skip(
        "CPython's test.mapping_tests IS NOT INSTALLED: the promise to do what a dict does goes unchecked by its "
        "own suite. Debian: apt install libpython3-testsuite",
        allow_module_level=True,
    )


class IntRows(IntArrayMap):
    """dict(), as far as the suite is concerned: no arguments, or what dict would take."""

    def __init__(self, source=()):
        super().__init__(1, "int64")
        self.update(source)

    @classmethod
    def fromkeys(cls, keys, value=0):
        made = IntArrayMap.fromkeys(keys, [value], dtype="int64")
        new = cls()
        new.update(made)
        return new


class TestRows(mapping_tests.TestMappingProtocol):
    type2test = IntRows

    def _reference(self):
        return {1: 2, 1001: 10, -2: 12}

    def test_read(self):
        p, d = self._empty_mapping(), self._full_mapping(self.reference)
        for key, value in self.reference.items():
            self.assertEqual(d[key], value)
        knownkey = next(iter(self.other))
        self.assertRaises(KeyError, lambda: d[knownkey])
        self.assertEqual(len(p), 0)
        self.assertEqual(len(d), len(self.reference))
        for k in self.reference:
            self.assertIn(k, d)
        for k in self.other:
            self.assertNotIn(k, d)
        self.assertEqual(p, p)
        self.assertEqual(d, d)
        self.assertNotEqual(p, d)
        self.assertNotEqual(d, p)
        self.assertFalse(p)
        self.assertTrue(d)

        def check_iterandlist(steps, lst, ref):
            self.assertTrue(hasattr(steps, "__next__"))
            self.assertTrue(hasattr(steps, "__iter__"))
            self.assertEqual(sorted(steps), sorted(ref))
            self.assertEqual(sorted(lst), sorted(ref))

        check_iterandlist(iter(d.keys()), list(d.keys()), self.reference.keys())
        check_iterandlist(iter(d), list(d.keys()), self.reference.keys())
        check_iterandlist(iter(d.values()), list(d.values()), self.reference.values())
        check_iterandlist(iter(d.items()), list(d.items()), self.reference.items())
        key, value = next(iter(d.items()))
        knownkey, knownvalue = next(iter(self.other.items()))
        self.assertEqual(d.get(key, knownvalue), value)
        self.assertEqual(d.get(knownkey, knownvalue), knownvalue)
        self.assertNotIn(knownkey, d)

    def test_constructor(self):
        mapping_tests.BasicTestMappingProtocol.test_constructor(self)
        self.assertIsNot(self._empty_mapping(), self._empty_mapping())
        self.assertEqual(self.type2test({1: 1, 2: 2}), {1: np.array([1]), 2: np.array([2])})

    def test_bool(self):
        mapping_tests.BasicTestMappingProtocol.test_bool(self)
        self.assertTrue(self._full_mapping({7: 8}))
        self.assertIs(bool(self._empty_mapping()), False)
        self.assertIs(bool(self._full_mapping({7: 8})), True)

    def test_keys(self):
        mapping_tests.BasicTestMappingProtocol.test_keys(self)
        k = self._full_mapping({11: 1, 12: 2}).keys()
        self.assertIn(11, k)
        self.assertIn(12, k)
        self.assertNotIn(13, k)

    def test_contains(self):
        d = self._empty_mapping()
        self.assertNotIn(11, d)
        d = self._full_mapping({11: 1, 12: 2})
        self.assertIn(11, d)
        self.assertIn(12, d)
        self.assertNotIn(13, d)
        self.assertRaises(TypeError, d.__contains__)

    def test_len(self):
        mapping_tests.BasicTestMappingProtocol.test_len(self)
        self.assertEqual(len(self._full_mapping({11: 1, 12: 2})), 2)

    def test_getitem(self):
        mapping_tests.BasicTestMappingProtocol.test_getitem(self)
        d = self._full_mapping({11: 1, 12: 2})
        self.assertEqual(d[11], 1)
        self.assertEqual(d[12], 2)
        d[13] = 3
        d[11] = 4
        self.assertEqual(d[13], 3)
        self.assertEqual(d[11], 4)
        del d[12]
        self.assertEqual(d, {11: np.array([4]), 13: np.array([3])})
        self.assertRaises(TypeError, d.__getitem__)

    def test_clear(self):
        d = self._full_mapping({1: 1, 2: 2, 3: 3})
        d.clear()
        self.assertEqual(d, {})
        self.assertRaises(TypeError, d.clear, None)

    def test_update(self):
        d = self._empty_mapping()
        d.update(self.other)
        self.assertEqual(list(d.items()), list(self.other.items()))
        d = self._empty_mapping()
        d.update()
        self.assertEqual(d, self._empty_mapping())
        for source in (self.other.items(), iter(self.other.items())):
            d = self._empty_mapping()
            d.update(source)
            self.assertEqual(list(d.items()), list(self.other.items()))
        self.assertRaises((TypeError, AttributeError), d.update, 42)
        outerself = self

        class SimpleUserDict:
            def __init__(self):
                self.d = outerself.reference

            def keys(self):
                return self.d.keys()

            def __getitem__(self, i):
                return self.d[i]

        d.clear()
        d.update(SimpleUserDict())
        self.assertEqual(sorted(d.items()), sorted(self.reference.items()))

        class Exc(Exception):
            pass

        class FailingUserDict:
            def keys(self):
                raise Exc

        d = self._empty_mapping()
        self.assertRaises(Exc, d.update, FailingUserDict())
        d.clear()

        class FailingKeys:
            def keys(self):
                yield 1
                raise Exc

            def __getitem__(self, key):
                return key

        self.assertRaises(Exc, d.update, FailingKeys())

        class FailingItems:
            def keys(self):
                return iter(range(20))

            def __getitem__(self, key):
                raise Exc

        self.assertRaises(Exc, d.update, FailingItems())

        class badseq:
            def __iter__(self):
                return self

            def __next__(self):
                raise Exc()

        self.assertRaises(Exc, d.update, badseq())
        self.assertRaises(ValueError, d.update, [(1, 2, 3)])
        self.assertEqual(len(d), 0)
        d = self._full_mapping({1: 3, 2: 4})
        d.update(self._full_mapping({1: 2, 3: 4, 5: 6}).items())
        self.assertEqual(dict(d), {1: 2, 2: 4, 3: 4, 5: 6})

    def test_fromkeys(self):
        d = self._empty_mapping()
        self.assertIsNot(d.fromkeys([4, 5]), d)
        self.assertEqual(dict(self.type2test.fromkeys((4, 5), 7)), {4: 7, 5: 7})
        self.assertEqual(self.type2test.fromkeys([]), {})

        def g():
            yield 1

        self.assertEqual(dict(d.fromkeys(g())), {1: 0})
        self.assertRaises(TypeError, d.fromkeys, 3)

        class dictlike(self.type2test):
            pass

        self.assertEqual(dict(dictlike.fromkeys([9])), {9: 0})
        self.assertIs(type(dictlike().fromkeys([9])), dictlike)
        self.assertRaises(TypeError, IntArrayMap.fromkeys)

        class Exc(Exception):
            pass

        class BadSeq:
            def __iter__(self):
                return self

            def __next__(self):
                raise Exc()

        self.assertRaises(Exc, IntArrayMap.fromkeys, BadSeq(), [1])

    def test_copy(self):
        d = self._full_mapping({1: 1, 2: 2, 3: 3})
        self.assertEqual(dict(d.copy()), {1: 1, 2: 2, 3: 3})
        d = self._empty_mapping()
        self.assertEqual(d.copy(), d)
        self.assertIsInstance(d.copy(), d.__class__)
        self.assertRaises(TypeError, d.copy, None)

    def test_get(self):
        mapping_tests.BasicTestMappingProtocol.test_get(self)
        d = self._full_mapping({11: 1, 12: 2})
        self.assertIsNone(d.get(13))
        self.assertEqual(d.get(13, 3), 3)
        self.assertEqual(d.get(11), 1)
        self.assertEqual(d.get(11, 3), 1)

    def test_setdefault(self):
        mapping_tests.BasicTestMappingProtocol.test_setdefault(self)
        d = self._empty_mapping()
        self.assertEqual(d.setdefault(10), 0)
        d.setdefault(10, 5)
        self.assertEqual(d.setdefault(10), 0)
        d.setdefault(11, 0)[0] += 3
        self.assertEqual(d[11][0], 3)
        d.setdefault(11, 0)[0] += 4
        self.assertEqual(d[11][0], 7)

    def test_popitem(self):
        mapping_tests.BasicTestMappingProtocol.test_popitem(self)
        for copymode in -1, +1:
            for log2size in range(12):
                size = 2**log2size
                a, b = self._empty_mapping(), self._empty_mapping()
                for i in range(size):
                    a[i] = i
                    if copymode < 0:
                        b[i] = i
                if copymode > 0:
                    b = a.copy()
                for _ in range(size):
                    ta, tb = a.popitem(), b.popitem()
                    self.assertEqual(ta[1], ta[0])
                    self.assertEqual(tb[1], tb[0])
                    self.assertFalse(copymode < 0 and ta != tb)
                self.assertFalse(a)
                self.assertFalse(b)

    def test_pop(self):
        mapping_tests.BasicTestMappingProtocol.test_pop(self)
        d = self._empty_mapping()
        self.assertEqual(d.pop(5, 6), 6)
        d[5] = 6
        self.assertEqual(d.pop(5, 1), 6)

    def test_values(self):
        mapping_tests.BasicTestMappingProtocol.test_values(self)
        self.assertEqual(list(self._full_mapping({1: 2}).values()), [2])

    def test_items(self):
        mapping_tests.BasicTestMappingProtocol.test_items(self)
        self.assertEqual(list(self._full_mapping({1: 2}).items()), [(1, 2)])

    def test_mutatingiteration(self):
        d = self._empty_mapping()
        d[1] = 1
        with self.assertRaises(RuntimeError):
            for i in d:
                d[i + 1] = 1


class Words(collections.abc.MutableMapping):
    """Any hashable to anything: an IntArrayMap of one number per word, and two lists that say what numbers mean."""

    NOTHING = object()

    def __init__(self, *sources, **named):
        self.map = IntArrayMap(1, "int64")
        self.numbers, self.words = {}, []  # of keys
        self.meanings = []  # of values
        self.update(*sources, **named)

    def number(self, word):
        """A number for a key: spread out, so that nothing is dense by accident."""
        place = self.numbers.setdefault(word, len(self.words))
        if place == len(self.words):
            self.words.append(word)
        return (place * 0x9E3779B97F4A7C15) % 2**63 - 2**62

    def word(self, number):
        return self.words[(number + 2**62) * pow(0x9E3779B97F4A7C15, -1, 2**63) % 2**63]

    def store(self, value):
        self.meanings.append(value)
        return [len(self.meanings) - 1]

    def meaning(self, row):
        assert row.shape == (1,) and row.dtype == np.int64
        return self.meanings[row[0]]

    def __getitem__(self, word):
        try:
            return self.meaning(self.map[self.number(word)])
        except KeyError:
            raise KeyError(word) from None

    def __setitem__(self, word, value):
        self.map[self.number(word)] = self.store(value)

    def __delitem__(self, word):
        try:
            del self.map[self.number(word)]
        except KeyError:
            raise KeyError(word) from None

    def __contains__(self, word):
        return self.number(word) in self.map

    def __len__(self):
        return len(self.map)

    def __iter__(self):
        return map(self.word, self.map)

    def get(self, word, default=None):
        row = self.map.get(self.number(word))
        return default if row is None else self.meaning(row)

    def pop(self, word, default=NOTHING):
        number = self.number(word)
        if default is self.NOTHING:
            return self.meaning(self.map.pop(number))
        row = self.map.pop(number, None)
        return default if row is None else self.meaning(row)

    def popitem(self):
        number, row = self.map.popitem()
        return self.word(number), self.meaning(row)

    def setdefault(self, word, default=None):
        return self.meaning(self.map.setdefault(self.number(word), self.store(default)))

    def update(self, *sources, **named):
        gathered = {}
        gathered_update = collections.UserDict.update
        holder = collections.UserDict(gathered)
        gathered_update(holder, *sources, **named)
        self.map.update({self.number(word): self.store(value) for word, value in holder.items()})

    def clear(self):
        self.map.clear()

    def copy(self):
        new = type(self)()
        new.map, new.numbers, new.words = self.map.copy(), dict(self.numbers), list(self.words)
        new.meanings = list(self.meanings)
        return new

    @classmethod
    def fromkeys(cls, words, value=None):
        new = cls()
        for word in words:
            new[word] = value
        return new

    def __repr__(self):
        if getattr(self, "printing", False):
            return "{...}"
        self.printing = True
        try:
            return "{" + ", ".join(f"{word!r}: {value!r}" for word, value in self.items()) + "}"
        finally:
            self.printing = False


class TestWords(mapping_tests.TestHashMappingProtocol):
    type2test = Words

    def tearDown(self):
        made = self._full_mapping(self.reference)
        assert made.map._check() is None

    @unittest.skip("dict subclasses whose __new__ gives another type: said of dict, not of mappings")
    def test_fromkeys(self):
        pass

    @unittest.skip("a recursion limit of dict's repr, not of the map's")
    def test_repr_deep(self):
        pass


def test_the_suite_is_really_run():
    """A loud check that the adapted classes carry CPython's tests and are not empty shells."""
    names = {name for name in dir(mapping_tests.TestMappingProtocol) if name.startswith("test_")}
    assert len(names) >= 15
    assert names <= {name for name in dir(TestRows) if name.startswith("test_")}
    assert names <= {name for name in dir(TestWords) if name.startswith("test_")}
    assert issubclass(IntRows, collections.abc.MutableMapping)
