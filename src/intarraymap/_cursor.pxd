# _cursor.pxd: how _binding.pyx starts an iteration.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from intarraymap._owner cimport Owner

cdef enum:
    WALK_KEYS = 0  # what a Cursor hands out
    WALK_VALUES
    WALK_ITEMS

    CHUNK = 32  # keys that a Cursor fetches at a time: enough to make the walk's own cost vanish


cdef class Cursor:
    cdef Owner owner  # None: exhausted
    cdef int what
    cdef bint backward
    cdef uint64_t position, version, epoch
    cdef uint64_t left  # keys still to come
    cdef size_t at, filled
    cdef int64_t keys[CHUNK]
    cdef uint32_t rows[CHUNK]
    cdef object step(self)


cdef class Scan:
    cdef Owner owner
    cdef bint is_over
    cdef uint64_t position, epoch
    cdef void finish(self) noexcept
    cdef object step(self)


cdef Cursor cursor_over(Owner owner, int what, bint backward)
cdef Scan scan_over(Owner owner)
