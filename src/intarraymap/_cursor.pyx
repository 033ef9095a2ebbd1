# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False
"""Iteration: Cursor walks rows and notices any change of the set of keys; Scan walks on through changes.

Above it: _binding.pyx, which starts them. Below it: Table and the front header.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from intarraymap._core cimport *
from intarraymap._table cimport RowToken, Table, fail


@cython.final
cdef class Cursor:
    """Keys, values or items in row order; any change of the set of keys ends it with RuntimeError."""

    def __iter__(self):
        return self

    def __length_hint__(self):
        return 0 if self.table is None else self.left

    def __next__(self):
        with cython.critical_section(self):
            return self.step()

    cdef object step(self):
        cdef Table table = self.table
        cdef RowToken token = None
        cdef iam_status status = IAM_OK
        cdef bint changed
        cdef bint found = False
        cdef int64_t key = 0
        cdef void *row = NULL
        if table is None:
            raise StopIteration
        if self.what != WALK_KEYS:
            token = RowToken.__new__(RowToken)
        table.lock_shared()
        changed = iam_map_version(table.map) != self.version or iam_map_epoch(table.map) != self.epoch
        if not changed:
            if self.at == self.filled:
                self.at = 0
                self.filled = iam_map_walk(table.map, self.backward, &self.position, CHUNK, self.keys, self.rows)
            found = self.filled != 0
        if found:
            key = self.keys[self.at]
            if self.what != WALK_KEYS:
                row = iam_map_row(table.map, self.rows[self.at])
                status = table.take_row(token, self.rows[self.at])
            if status == IAM_OK:
                self.at += 1
                self.left -= 1
        table.unlock_shared()
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        if not found:
            self.table = None
            if changed:
                raise RuntimeError("the map changed during iteration")
            raise StopIteration
        if self.what == WALK_KEYS:
            return key
        view = table.view_of(token, row)
        return view if self.what == WALK_VALUES else (key, view)


cdef Cursor cursor_over(Table table, int what, bint backward):
    cdef Cursor cursor = Cursor.__new__(Cursor)
    table.lock_shared()
    cursor.version = iam_map_version(table.map)
    cursor.epoch = iam_map_epoch(table.map)
    cursor.left = iam_map_count(table.map)
    table.unlock_shared()
    cursor.what = what
    cursor.backward = backward
    cursor.position = <uint64_t>-1 if backward else 0
    cursor.table = table
    return cursor


@cython.final
@cython.no_gc_clear  # __dealloc__ needs the table
cdef class Scan:
    """(key, view) while the map may change; clear() ends it, compact() is refused while it lives."""

    def __dealloc__(self):
        self.finish()

    cdef void finish(self) noexcept:
        if self.table is not None and not self.is_over:
            self.is_over = True
            iam_scans_release(self.table.map)

    def __iter__(self):
        return self

    def __next__(self):
        with cython.critical_section(self):
            return self.step()

    cdef object step(self):
        cdef Table table = self.table
        cdef RowToken token
        cdef iam_status status = IAM_OK
        cdef uint64_t position
        cdef int64_t key = 0
        cdef uint32_t number = 0
        cdef void *row = NULL
        cdef bint found = False
        if table is None or self.is_over:
            raise StopIteration
        token = RowToken.__new__(RowToken)
        table.lock_shared()
        if iam_map_epoch(table.map) == self.epoch:
            position = self.position
            found = iam_map_walk(table.map, False, &position, 1, &key, &number) == 1
        if found:
            row = iam_map_row(table.map, number)
            status = table.take_row(token, number)
            if status == IAM_OK:
                self.position = position
        table.unlock_shared()
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        if not found:
            self.finish()
            raise StopIteration
        return key, table.view_of(token, row)


cdef Scan scan_over(Table table):
    cdef Scan scan = Scan.__new__(Scan)
    table.lock_shared()
    scan.epoch = iam_map_epoch(table.map)
    iam_scans_take(table.map)
    scan.table = table
    table.unlock_shared()
    return scan
