"""The bar: an open-addressing table that a good programmer writes by hand with numba in an afternoon.

Linear probing over 16-byte slots (key, row number), at most half full, Fibonacci hashing (one multiply: faster than
any hash that resists patterns), unsigned indices (numba then leaves out the test for negative ones). Rows lie in one
array that doubles by copying. `get_many` finds all row numbers first and gathers with `np.take`: tried against copying
each row inside the probing loop (1.1–1.5 times slower from 1e5 keys up) and in chunks of 256 (1.1–1.3 times slower).

The table holds no more than this bench needs; it is no library.
"""

import numba
import numpy as np
from numba import njit, types
from numba.typed import Dict

from .rivals import Rival, doubled

U = np.uint64
FIBONACCI = U(0x9E3779B97F4A7C15)
KEY, ROW = U(0), U(1)
EMPTY = -1

numba.set_num_threads(1)


@njit
def probe(slots, shift, key):
    """The slot of `key`, or the empty one where it belongs."""
    mask = U(slots.shape[0] - 1)
    at = (U(key) * FIBONACCI) >> shift
    while slots[at, ROW] != EMPTY and slots[at, KEY] != key:
        at = (at + U(1)) & mask
    return at


@njit
def insert_distinct(slots, shift, keys, first_row):
    for i in range(U(keys.size)):
        at = probe(slots, shift, keys[i])
        slots[at, KEY] = keys[i]
        slots[at, ROW] = first_row + np.int64(i)


@njit
def rehash(old, slots, shift):
    for i in range(U(old.shape[0])):
        if old[i, ROW] != EMPTY:
            at = probe(slots, shift, old[i, KEY])
            slots[at, KEY] = old[i, KEY]
            slots[at, ROW] = old[i, ROW]


@njit
def find_rows(slots, shift, keys, positions):
    for i in range(U(keys.size)):
        positions[i] = slots[probe(slots, shift, keys[i]), ROW]


@njit
def fill_missing(positions, out, default):
    for i in range(U(positions.size)):
        if positions[i] == EMPTY:
            for j in range(U(out.shape[1])):
                out[i, j] = default


@njit
def contains(slots, shift, keys, found):
    for i in range(U(keys.size)):
        found[i] = slots[probe(slots, shift, keys[i]), ROW] != EMPTY


@njit
def store(slots, shift, rows, keys, new):
    for i in range(U(keys.size)):
        row = U(slots[probe(slots, shift, keys[i]), ROW])
        for j in range(U(rows.shape[1])):
            rows[row, j] = new[i, j]


@njit
def accumulate(slots, shift, rows, count, start, keys, new):
    """Adds from `start` on; stops where the next new key would need more room. Returns `(where, count)`."""
    limit = min(slots.shape[0] // 2, rows.shape[0])
    for i in range(U(start), U(keys.size)):
        at = probe(slots, shift, keys[i])
        if slots[at, ROW] == EMPTY:
            if count == limit:
                return np.int64(i), count
            slots[at, KEY] = keys[i]
            slots[at, ROW] = count
            count += 1
            for j in range(U(rows.shape[1])):
                rows[U(count - 1), j] = new[i, j]
        else:
            row = U(slots[at, ROW])
            for j in range(U(rows.shape[1])):
                rows[row, j] += new[i, j]
    return np.int64(keys.size), count


@njit
def delete(slots, shift, keys, removed, free):
    """Backward-shift deletion: no tombstones. Row numbers given back are left in `free`."""
    mask = U(slots.shape[0] - 1)
    freed = 0
    for i in range(U(keys.size)):
        hole = probe(slots, shift, keys[i])
        removed[i] = slots[hole, ROW] != EMPTY
        if not removed[i]:
            continue
        free[freed] = slots[hole, ROW]
        freed += 1
        at = hole
        while True:
            at = (at + U(1)) & mask
            if slots[at, ROW] == EMPTY:
                break
            home = (U(slots[at, KEY]) * FIBONACCI) >> shift
            if ((at - home) & mask) >= ((at - hole) & mask):
                slots[hole, KEY] = slots[at, KEY]
                slots[hole, ROW] = slots[at, ROW]
                hole = at
        slots[hole, ROW] = EMPTY
    return freed


@njit
def add_at_positions(rows, positions, new):
    """The floor of accumulation: the rows' positions are known."""
    for i in range(U(positions.size)):
        row = U(positions[i])
        for j in range(U(rows.shape[1])):
            rows[row, j] += new[i, j]


class NumbaTable(Rival):
    """A hand-written numba open-addressing table."""

    name = "numba table"

    def __init__(self, row_items, dtype=np.float64, capacity=8):
        log2 = max(4, int(2 * capacity - 1).bit_length())
        self.slots = np.full((1 << log2, 2), EMPTY, np.int64)
        self.shift = U(64 - log2)
        self.rows = np.empty((capacity, row_items), dtype)
        self.count = 0

    @classmethod
    def build(cls, keys, rows):
        table = cls(rows.shape[1], rows.dtype)
        sized = cls(1, capacity=keys.size)
        table.slots, table.shift = sized.slots, sized.shift
        table.rows = rows.copy()
        insert_distinct(table.slots, table.shift, keys, 0)
        table.count = keys.size
        return table

    def grow(self):
        old, log2 = self.slots, 65 - int(self.shift)
        self.slots, self.shift = np.full((1 << log2, 2), EMPTY, np.int64), U(64 - log2)
        rehash(old, self.slots, self.shift)
        self.rows = doubled(self.rows)

    def get_many(self, keys):
        positions = np.empty(keys.size, np.int64)
        find_rows(self.slots, self.shift, keys, positions)
        return np.take(self.rows, positions, axis=0)

    def get_many_default(self, keys, default):
        positions = np.empty(keys.size, np.int64)
        find_rows(self.slots, self.shift, keys, positions)
        out = np.take(self.rows, positions, axis=0)
        fill_missing(positions, out, default)
        return out

    def contains_many(self, keys):
        found = np.empty(keys.size, np.bool_)
        contains(self.slots, self.shift, keys, found)
        return found

    def set_many(self, keys, rows):
        store(self.slots, self.shift, self.rows, keys, rows)

    def add_many(self, keys, rows):
        done = 0
        while True:
            done, self.count = accumulate(self.slots, self.shift, self.rows, self.count, done, keys, rows)
            if done == keys.size:
                return
            self.grow()

    def delete_many(self, keys):
        removed = np.empty(keys.size, np.bool_)
        free = np.empty(keys.size, np.int64)
        delete(self.slots, self.shift, keys, removed, free)
        return removed


@njit
def typed_find(table, keys, positions):
    for i in range(keys.size):
        positions[i] = table.get(keys[i], EMPTY)


@njit
def typed_insert(table, keys, first_row):
    for i in range(keys.size):
        table[keys[i]] = first_row + i


@njit
def typed_accumulate(table, rows, start, keys, new):
    found = np.empty(1, np.int64)  # an assignment is how numba turns get's optional into an int
    for i in range(start, keys.size):
        found[0] = table.get(keys[i], EMPTY)
        row = found[0]
        if row == EMPTY:
            row = len(table)
            if row == rows.shape[0]:
                return i
            table[keys[i]] = row
            rows[row] = 0
        for j in range(rows.shape[1]):
            rows[row, j] += new[i, j]
    return keys.size


class TypedDict(Rival):
    """numba's own typed.Dict from key to row number, and an ndarray."""

    name = "numba typed.Dict"

    def __init__(self, row_items, dtype=np.float64):
        self.table = Dict.empty(types.int64, types.int64)
        self.rows = np.empty((8, row_items), dtype)

    @classmethod
    def build(cls, keys, rows):
        made = cls(rows.shape[1])
        made.rows = rows.copy()
        typed_insert(made.table, keys, 0)
        return made

    def get_many(self, keys):
        positions = np.empty(keys.size, np.int64)
        typed_find(self.table, keys, positions)
        return np.take(self.rows, positions, axis=0)

    def add_many(self, keys, rows):
        done = 0
        while True:
            done = typed_accumulate(self.table, self.rows, done, keys, rows)
            if done == keys.size:
                return
            self.rows = doubled(self.rows)
