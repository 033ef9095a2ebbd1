# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False
"""Iteration: Cursor walks rows and notices any change of the set of keys; Scan walks on through changes.

Above it: _binding.pyx, which starts them. Below it: _owner.pyx and the front header.
"""
cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint32_t, uint64_t

from intarraymap._core cimport *
from intarraymap._owner cimport Owner, RowToken, fail, lock, take, unlock, view

cnp.import_array()  # for the views


@cython.final
cdef class Cursor:
    """Keys, values or items in row order; any change of the set of keys ends it with RuntimeError."""

    def __iter__(self):
        return self

    def __length_hint__(self):
        return 0 if self.owner is None else self.left

    def __next__(self):
        with cython.critical_section(self):
            return self.step()

    cdef object step(self):
        cdef Owner owner = self.owner
        cdef RowToken token = None
        cdef iam_status status = IAM_OK
        cdef bint changed
        cdef bint found = False
        cdef int64_t key = 0
        cdef void *row = NULL
        if owner is None:
            raise StopIteration
        if self.what != WALK_KEYS:
            token = RowToken.__new__(RowToken)
        lock(owner, False)
        changed = iam_map_version(owner.map) != self.version or iam_map_epoch(owner.map) != self.epoch
        if not changed:
            if self.at == self.filled:
                self.at = 0
                self.filled = iam_map_walk(owner.map, self.backward, &self.position, CHUNK, self.keys, self.rows)
            found = self.filled != 0
        if found:
            key = self.keys[self.at]
            if self.what != WALK_KEYS:
                row = iam_map_row(owner.map, self.rows[self.at])
                status = take(owner, token, self.rows[self.at])
            if status == IAM_OK:
                self.at += 1
                if self.left > 0:  # an opened file may have more rows than it says
                    self.left -= 1
        unlock(owner)
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        if not found:
            self.owner = None
            if changed:
                raise RuntimeError("the map changed during iteration")
            raise StopIteration
        try:
            if self.what == WALK_KEYS:
                return key
            array = view(owner, token, row)
            return array if self.what == WALK_VALUES else (key, array)
        except MemoryError:
            if self.at != 0:  # a gc callback may have walked to the end meanwhile
                self.at -= 1  # the step has not been made: the next call makes it
                self.left += 1
            raise


cdef Cursor cursor_over(Owner owner, int what, bint backward):
    cdef Cursor cursor = Cursor.__new__(Cursor)
    lock(owner, False)
    cursor.version = iam_map_version(owner.map)
    cursor.epoch = iam_map_epoch(owner.map)
    cursor.left = iam_map_count(owner.map)
    unlock(owner)
    cursor.what = what
    cursor.backward = backward
    cursor.position = <uint64_t>-1 if backward else 0
    cursor.owner = owner
    return cursor


@cython.final
@cython.no_gc_clear  # __dealloc__ needs the owner
cdef class Scan:
    """(key, view) while the map may change; clear() ends it, compact() is refused while it lives."""

    def __dealloc__(self):
        self.finish()

    cdef void finish(self) noexcept:
        if self.owner is not None and not self.is_over:
            self.is_over = True
            iam_scans_release(self.owner.map)

    def __iter__(self):
        return self

    def __next__(self):
        with cython.critical_section(self):
            return self.step()

    cdef object step(self):
        cdef Owner owner = self.owner
        cdef RowToken token
        cdef iam_status status = IAM_OK
        cdef uint64_t position, before
        cdef int64_t key = 0
        cdef uint32_t number = 0
        cdef void *row = NULL
        cdef bint found = False
        if owner is None or self.is_over:
            raise StopIteration
        token = RowToken.__new__(RowToken)
        lock(owner, False)
        before = self.position
        if iam_map_epoch(owner.map) == self.epoch:
            position = self.position
            found = iam_map_walk(owner.map, False, &position, 1, &key, &number) == 1
        if found:
            row = iam_map_row(owner.map, number)
            status = take(owner, token, number)
            if status == IAM_OK:
                self.position = position
        unlock(owner)
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        if not found:
            self.finish()
            raise StopIteration
        try:
            return key, view(owner, token, row)
        except MemoryError:
            self.position = before  # the step has not been made: the next call makes it
            raise


cdef Scan scan_over(Owner owner):
    cdef Scan scan = Scan.__new__(Scan)
    lock(owner, False)
    scan.epoch = iam_map_epoch(owner.map)
    iam_scans_take(owner.map)
    scan.owner = owner
    unlock(owner)
    return scan
