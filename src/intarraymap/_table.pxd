# _table.pxd: what the three modules of the binding share: the Table that owns a C map, and how it is locked.
cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from intarraymap._core cimport iam_index, iam_kind, iam_map, iam_status, iam_view
from intarraymap._failing cimport failing_state


cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t block, size_t byte_count)
    int PyTraceMalloc_Untrack(unsigned int domain, uintptr_t block)

cdef enum:
    NEW = 0  # the state of a Table: __new__ only
    STARTING
    READY
    CLOSED

cdef enum:
    READ = 0  # what a Table is locked for: shared
    WRITE  # exclusive
    CLOSE  # like WRITE, but a read-only map may be closed too

cdef enum:
    AXES_MAX = 64  # of a NumPy array
    WHOLE_MAP = 1 << 30  # as the count of a batch: always a big one
    TRACE_DOMAIN = 0x1A3A9  # of tracemalloc: ours


cdef class RowToken:
    """Base of a view: holds one row back, and the storage; neither the map nor any Python object."""
    cdef iam_view held


cdef class Table:
    cdef iam_map *map
    cdef int state
    cdef int ndim  # axes of a row
    cdef cnp.npy_intp *dims
    cdef size_t row_bytes
    cdef size_t row_items
    cdef iam_kind kind
    cdef iam_index index_asked
    cdef bint is_read_only
    cdef bint is_traced
    cdef uint64_t bytes_now  # iam_map_bytes after the last write, as tracemalloc will be told
    cdef uint64_t bytes_told
    cdef cnp.dtype row_dtype
    cdef tuple shape
    cdef failing_state *failing
    cdef object __weakref__

    # Makes this new Table the owner of a map (and of the allocator's state); RuntimeError, and both are destroyed, if
    # it has one already.
    cdef int adopt(self, iam_map *map, tuple shape, cnp.dtype dtype, iam_kind kind, iam_index index_asked,
                   failing_state *failing) except -1
    # RuntimeError without __init__, ValueError once closed.
    cdef int require_usable(self) except -1
    # For a few steps: the GIL stays held while the lock is.
    cdef int lock_shared(self) except -1
    cdef void unlock_shared(self) noexcept
    # For batches of `count` keys, after everything they need has been allocated: waits at the gate, looks for signals,
    # locks, and releases the GIL if the batch is a big one. Until end() only the core may be called.
    cdef int begin(self, int purpose, size_t count, PyThreadState **thread_out) except -1
    cdef int end(self, int purpose, PyThreadState *thread) except -1
    # Under the lock: the token holds the row back until it goes.
    cdef iam_status take_row(self, RowToken token, uint32_t number) noexcept
    # The array over a row that a token holds.
    cdef object view_of(self, RowToken token, void *row)


# The one table between status codes and exceptions.
cdef int fail(iam_status status, str what) except -1
