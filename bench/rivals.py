"""What people use today in place of the map: each a small adaptor with the same verbs.

A contestant is a class. `build(keys, rows)` copies both, as the map does; the batch verbs take arrays; the scalar verbs
are whole loops (`loop_get` …), so that nobody pays for a Python-level wrapper. A verb that a rival has no good way to
do is simply absent, and the rival is then left out of that case.
"""

import os

import numpy as np

DEFAULT_THREADS = os.environ.get("BENCH_THREADS") == "default"  # otherwise one each


def doubled(rows):
    """A copy of `rows` with twice the room: how a growing ndarray grows."""
    bigger = np.empty((2 * rows.shape[0], *rows.shape[1:]), rows.dtype)
    bigger[: rows.shape[0]] = rows
    return bigger


class Rival:
    """Base of every contestant."""

    name = ""

    @staticmethod
    def rows_of(result):
        """What `get_many` gave, as an array; only the check calls it."""
        return result

    @classmethod
    def can(cls, verb):
        """Whether this contestant has `verb`."""
        return hasattr(cls, verb)


class DictOfArrays(Rival):
    """`dict[int, ndarray]`: one small array per key."""

    name = "dict of arrays"

    def __init__(self, row_items, dtype=np.float64):
        self.table = {}
        self.row_items = row_items

    @classmethod
    def build(cls, keys, rows):
        made = cls(rows.shape[1])
        made.table = {key: row.copy() for key, row in zip(keys.tolist(), rows, strict=True)}
        return made

    def get_many(self, keys):
        # The fastest of np.array, np.stack, a loop of row copies, and this.
        found = list(map(self.table.__getitem__, keys.tolist()))
        return np.concatenate(found).reshape(keys.size, self.row_items)

    def get_many_default(self, keys, default):
        missing = np.full(self.row_items, default)
        get = self.table.get
        return np.concatenate([get(key, missing) for key in keys.tolist()]).reshape(keys.size, self.row_items)

    def contains_many(self, keys):
        return np.fromiter(map(self.table.__contains__, keys.tolist()), np.bool_, keys.size)

    def set_many(self, keys, rows):
        table = self.table
        for key, row in zip(keys.tolist(), rows, strict=True):
            table[key][:] = row

    def add_many(self, keys, rows):
        table = self.table
        for key, row in zip(keys.tolist(), rows, strict=True):
            here = table.get(key)
            if here is None:
                table[key] = row.copy()
            else:
                here += row

    def delete_many(self, keys):
        pop = self.table.pop
        return np.fromiter((pop(key, None) is not None for key in keys.tolist()), np.bool_, keys.size)

    def loop_get(self, keys):
        table = self.table
        for key in keys:
            table[key]

    def loop_copy(self, keys):
        table = self.table
        for key in keys:
            table[key].copy()

    def loop_set(self, keys, row):
        table = self.table
        for key in keys:
            table[key][:] = row

    def loop_insert(self, keys, row):
        table = self.table
        for key in keys:
            table[key] = row.copy()

    def loop_contains(self, keys):
        table = self.table
        for key in keys:
            key in table

    def loop_delete(self, keys):
        table = self.table
        for key in keys:
            del table[key]

    def loop_items(self):
        for _key, _row in self.table.items():
            pass


class RowNumbers(Rival):
    """Common part: an index from key to row number, and the rows in one ndarray that doubles by copying."""

    def __init__(self, row_items, dtype=np.float64):
        self.rows = np.empty((8, row_items), dtype)
        self.free = []

    def find(self, keys):
        """Row numbers, -1 where missing."""
        raise NotImplementedError

    def get_many(self, keys):
        return np.take(self.rows, self.find(keys), axis=0)

    def get_many_default(self, keys, default):
        positions = self.find(keys)
        out = np.take(self.rows, positions, axis=0)
        out[positions < 0] = default
        return out

    def contains_many(self, keys):
        return self.find(keys) >= 0

    def set_many(self, keys, rows):
        self.rows[self.find(keys)] = rows

    def room_for(self, count):
        while self.rows.shape[0] < count:
            self.rows = doubled(self.rows)


class DictOfRowNumbers(RowNumbers):
    """`dict[int, int]` and an ndarray."""

    name = "dict of row numbers"

    def __init__(self, row_items, dtype=np.float64):
        super().__init__(row_items, dtype)
        self.table = {}

    @classmethod
    def build(cls, keys, rows):
        made = cls(rows.shape[1])
        made.table = dict(zip(keys.tolist(), range(keys.size), strict=True))
        made.rows = rows.copy()
        return made

    def find(self, keys):
        table = self.table
        return np.fromiter((table.get(key, -1) for key in keys.tolist()), np.intp, keys.size)

    def get_many(self, keys):
        positions = np.fromiter(map(self.table.__getitem__, keys.tolist()), np.intp, keys.size)
        return np.take(self.rows, positions, axis=0)

    def contains_many(self, keys):
        return np.fromiter(map(self.table.__contains__, keys.tolist()), np.bool_, keys.size)

    def add_many(self, keys, rows):
        table = self.table
        for key, row in zip(keys.tolist(), rows, strict=True):
            number = table.get(key)
            if number is None:
                number = table[key] = len(table)
                self.room_for(number + 1)
                self.rows[number] = row
            else:
                self.rows[number] += row

    def delete_many(self, keys):
        pop = self.table.pop
        numbers = np.fromiter((pop(key, -1) for key in keys.tolist()), np.intp, keys.size)
        removed = numbers >= 0
        self.free.append(numbers[removed])
        return removed

    def loop_get(self, keys):
        table, rows = self.table, self.rows
        for key in keys:
            rows[table[key]]

    def loop_copy(self, keys):
        table, rows = self.table, self.rows
        for key in keys:
            rows[table[key]].copy()

    def loop_set(self, keys, row):
        table, rows = self.table, self.rows
        for key in keys:
            rows[table[key]] = row

    def loop_insert(self, keys, row):
        table, rows = self.table, self.rows
        count = len(table)
        for key in keys:
            if count == rows.shape[0]:
                self.rows = rows = doubled(rows)
            table[key] = count
            rows[count] = row
            count += 1

    loop_contains = DictOfArrays.loop_contains

    def loop_delete(self, keys):
        pop, free = self.table.pop, self.free.append
        for key in keys:
            free(pop(key))


def pandas_rivals():
    """The rivals that live in pandas: Index, and the khash table inside it."""
    import pandas
    from pandas._libs.hashtable import Int64HashTable

    class PandasIndex(RowNumbers):
        """`pandas.Index.get_indexer`, then take."""

        name = "pandas Index"

        @classmethod
        def build(cls, keys, rows):
            made = cls(rows.shape[1])
            made.index = pandas.Index(keys.copy())
            made.rows = rows.copy()
            made.index.get_indexer(keys[:1])  # builds its table now, not at the first question
            return made

        def find(self, keys):
            return self.index.get_indexer(keys)

        def contains_many(self, keys):
            return self.index.get_indexer(keys) >= 0

    class Khash(RowNumbers):
        """pandas' inner hash table (khash), then take. Has no way to delete."""

        name = "pandas khash"

        def __init__(self, row_items, dtype=np.float64):
            super().__init__(row_items, dtype)
            self.table = Int64HashTable(8)
            self.count = 0

        @classmethod
        def build(cls, keys, rows):
            made = cls(rows.shape[1])
            made.table = Int64HashTable(keys.size)
            made.table.map_locations(keys)
            made.rows = rows.copy()
            made.count = keys.size
            return made

        def find(self, keys):
            return self.table.lookup(keys)

        def loop_get(self, keys):
            get, rows = self.table.get_item, self.rows
            for key in keys:
                rows[get(key)]

        def loop_copy(self, keys):
            get, rows = self.table.get_item, self.rows
            for key in keys:
                rows[get(key)].copy()

        def loop_set(self, keys, row):
            get, rows = self.table.get_item, self.rows
            for key in keys:
                rows[get(key)] = row

        def loop_insert(self, keys, row):
            put, rows, count = self.table.set_item, self.rows, self.count
            for key in keys:
                if count == rows.shape[0]:
                    self.rows = rows = doubled(rows)
                put(key, count)
                rows[count] = row
                count += 1
            self.count = count

        loop_contains = DictOfArrays.loop_contains

    return [PandasIndex, Khash]


def cykhash_rivals():
    """cykhash: khash again, made for Cython and Python."""
    import cykhash

    class Cykhash(RowNumbers):
        """`cykhash.Int64toInt64Map`, then take."""

        name = "cykhash"

        def __init__(self, row_items, dtype=np.float64):
            super().__init__(row_items, dtype)
            self.table = cykhash.Int64toInt64Map()

        @classmethod
        def build(cls, keys, rows):
            made = cls(rows.shape[1])
            made.table = cykhash.Int64toInt64Map_from_buffers(keys, np.arange(keys.size))
            made.rows = rows.copy()
            return made

        def find(self, keys):
            positions = np.empty(keys.size, np.int64)
            cykhash.Int64toInt64Map_to(self.table, keys, positions, False, -1)
            return positions

        loop_get = DictOfRowNumbers.loop_get
        loop_copy = DictOfRowNumbers.loop_copy
        loop_set = DictOfRowNumbers.loop_set
        loop_insert = DictOfRowNumbers.loop_insert
        loop_contains = DictOfArrays.loop_contains

        def loop_delete(self, keys):
            table, free = self.table, self.free.append
            for key in keys:
                free(table.pop(key))

    return [Cykhash]


def numba_rivals():
    """The hand-written table and numba's typed.Dict."""
    from .numba_table import NumbaTable, TypedDict

    return [NumbaTable, TypedDict]


def arraymap_rivals():
    """arraymap: a frozen map from the values of an array to their positions."""
    import arraymap

    class ArrayMap(RowNumbers):
        """`arraymap.FrozenAutoMap.get_all`, then take. Has no batch that may miss, and no way to grow in batches."""

        name = "arraymap"

        @classmethod
        def can(cls, verb):
            return verb not in ("get_many_default", "contains_many") and super().can(verb)

        @classmethod
        def build(cls, keys, rows):
            made = cls(rows.shape[1])
            own = keys.copy()
            own.flags.writeable = False
            made.table = arraymap.FrozenAutoMap(own)
            made.rows = rows.copy()
            return made

        def find(self, keys):
            return self.table.get_all(keys)

        loop_get = DictOfRowNumbers.loop_get
        loop_copy = DictOfRowNumbers.loop_copy
        loop_set = DictOfRowNumbers.loop_set
        loop_contains = DictOfArrays.loop_contains

    return [ArrayMap]


def hirola_rivals():
    """hirola: a hash table of fixed size from keys to row numbers."""
    import hirola

    class Hirola(RowNumbers):
        """`hirola.HashTable.get`, then take. The table is made for the number of keys; no deletes."""

        name = "hirola"

        def __init__(self, row_items, dtype=np.float64, capacity=8):
            super().__init__(row_items, dtype)
            self.table = hirola.HashTable(max(2 * capacity, 16), np.int64)

        @classmethod
        def build(cls, keys, rows):
            made = cls(rows.shape[1], capacity=keys.size)
            made.table.add(keys)
            made.rows = rows.copy()
            return made

        def find(self, keys):
            return self.table.get(keys, default=-1)

    return [Hirola]


def tensorflow_rivals():
    """TensorFlow: tf.lookup.experimental.DenseHashTable."""
    import tensorflow as tf

    class DenseHashTable(RowNumbers):
        """From key to row number, then take. Two keys are reserved and cannot be stored."""

        name = "tf DenseHashTable"

        def __init__(self, row_items, dtype=np.float64):
            super().__init__(row_items, dtype)
            self.table = tf.lookup.experimental.DenseHashTable(
                tf.int64, tf.int64, default_value=-1, empty_key=-(2**63), deleted_key=-(2**63) + 1
            )

        @classmethod
        def build(cls, keys, rows):
            made = cls(rows.shape[1])
            made.table.insert(keys, np.arange(keys.size))
            made.rows = rows.copy()
            return made

        def find(self, keys):
            return self.table.lookup(keys).numpy()

    return [DenseHashTable]


def dict_rivals():
    """dict of arrays; dict of row numbers."""
    return [DictOfArrays, DictOfRowNumbers]


def makers():
    """The functions that import and make the rivals; each raises ImportError where its library is not installed."""
    yield from (dict_rivals, pandas_rivals, cykhash_rivals, hirola_rivals, arraymap_rivals, numba_rivals)
    yield tensorflow_rivals
    from . import groupers, joins

    yield from (joins.polars_joins, joins.arrow_joins, joins.duckdb_joins)
    yield from (groupers.scipy_rivals, groupers.pandas_groupers, groupers.polars_rivals)
    yield from (groupers.arrow_rivals, groupers.duckdb_groupers)


def available():
    """Every rival that can be imported here.

    Returns
    -------
    (list of classes, list of str)
        The rivals, and one plain message for each that is left out.
    """
    found, left_out = [], []
    for make in makers():
        try:
            found += make()
        except ImportError as error:
            left_out.append(f"left out: {make.__doc__.splitlines()[0]} ({error})")
    return found, left_out
