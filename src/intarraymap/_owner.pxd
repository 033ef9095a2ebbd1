# _owner.pxd: the Owner of a C map and how it is locked, for the other three modules of the binding.
#
# How every call goes, so that nothing can deadlock and no hostile object can break a map:
#  1. arguments become int64 keys and exact arrays (this may run Python code: __index__, __array__ …);
#  2. everything the answer needs is allocated, the view's token included;
#  3. lock: try, and if that fails release the GIL, wait, look for signals, try again. Then look whether the map has
#     been closed meanwhile;
#  4. one crossing into the core; big batches release the GIL for it. No Python object is made or dropped here;
#  5. unlock; then tracemalloc is told, errors are raised, results are returned.
cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t

from intarraymap._core cimport (
    IAM_OK, iam_index, iam_kind, iam_map, iam_map_bytes, iam_map_look, iam_map_prefetch,
    iam_map_prefetch_view, iam_map_try_lock, iam_map_unlock, iam_status, iam_view, iam_view_take,
)
from intarraymap._exact cimport array_over
from intarraymap._failing cimport failing_state
from intarraymap._flag cimport bytes_load, bytes_store, count_load, flag_load


cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t block, size_t byte_count)
    int PyTraceMalloc_Untrack(unsigned int domain, uintptr_t block)

cdef extern from *:
    """
    #ifdef INTARRAYMAP_CHECKED
    #define IAM_BINDING_CHECKED 1
    #else
    #define IAM_BINDING_CHECKED 0
    #endif
    #ifdef Py_GIL_DISABLED
    #define IAM_BINDING_HAS_GIL 0
    #else
    #define IAM_BINDING_HAS_GIL 1
    #endif
    """
    const bint CHECKED "IAM_BINDING_CHECKED"
    const bint HAS_GIL "IAM_BINDING_HAS_GIL"

cdef enum:
    NEW = 0  # the state of an Owner: __new__ only
    STARTING
    READY
    CLOSED

cdef enum:
    READ = 0  # what an Owner is locked for: shared
    WRITE  # exclusive
    CLOSE  # like WRITE, but a read-only map may be closed too

cdef enum:
    AXES_MAX = 64  # of a NumPy array
    CHECKED_BYTES = 1 << 14  # of a map that is checked after every single write
    WHOLE_MAP = 1 << 30  # as the count of a batch: always a big one
    TRACE_DOMAIN = 0x1A3A9  # of tracemalloc: ours


cdef class RowToken:
    """Base of a view: holds one row back, and the storage; neither the map nor any Python object."""
    cdef iam_view held


cdef class Owner:
    cdef iam_map *map
    cdef const uint32_t *fork_count  # of _gate.pxd, which has it once in the process
    cdef int state
    cdef int ndim  # axes of a row
    cdef cnp.npy_intp *dims
    cdef size_t row_bytes
    cdef size_t row_items
    cdef iam_kind kind
    cdef iam_index index_asked
    cdef bint is_read_only
    cdef int is_traced
    cdef uint64_t bytes_now  # iam_map_bytes after the last write, as tracemalloc will be told
    cdef uint64_t bytes_told
    cdef uint64_t bytes_unchecked  # checked builds: how much memory the writes since the last check have paid for
    cdef cnp.dtype row_dtype
    cdef tuple shape
    cdef failing_state *failing
    cdef const int *torn  # opened read-only: set when its file has become shorter; else NULL
    cdef object __weakref__

    # Makes this new Owner the owner of a map (and of the allocator state); RuntimeError, and both are destroyed, if it
    # has one already.
    cdef int adopt(self, iam_map *map, tuple shape, cnp.dtype dtype, iam_kind kind, iam_index index_asked,
                   failing_state *failing, bint is_read_only, const int *torn) except -1
    # For batches of `count` keys, after everything they need has been allocated: waits at the gate, looks for signals,
    # locks, and releases the GIL if the batch is a big one. Until end() only the core may be called.
    cdef int begin(self, int purpose, size_t count, PyThreadState **thread_out) except -1
    cdef int end(self, int purpose, PyThreadState *thread) except -1


# The one table between status codes and exceptions.
cdef int fail(iam_status status, str what) except -1
# RuntimeError without __init__, ValueError once closed.
cdef int refuse(int state) except -1
# Holding no lock: lets the GIL go until the map's lock seems free, and looks for signals.
cdef int wait(Owner owner, bint exclusive, iam_status status) except -1
cdef int tell_tracemalloc(Owner owner) except -1
# Checked builds, after a write: every invariant, if the map is small; after big batches, and
# of a large map at every so many writes, so that checking costs about the same for each.
cdef int check_written(Owner owner, bint is_big) except -1


# ---- For one key: the GIL stays held while the lock is --------------------------------------------------------------

cdef inline int usable(Owner owner) except -1:
    cdef int state = flag_load(&owner.state)
    if state != READY:
        refuse(state)
    return 0


cdef inline int writable(Owner owner) except -1:
    """Every writer comes by here."""
    if owner.is_read_only:
        raise ValueError("the map is read-only")
    return 0


cdef inline iam_status try_lock(Owner owner, bint exclusive) noexcept:
    """With a GIL nothing is taken: everyone takes the lock GIL in hand, and nobody lets that go before unlock."""
    if HAS_GIL:
        return iam_map_look(owner.map, exclusive, count_load(owner.fork_count))
    return iam_map_try_lock(owner.map, exclusive, count_load(owner.fork_count))


cdef inline int lock(Owner owner, bint exclusive) except -1:
    cdef iam_status status
    usable(owner)
    if exclusive:
        writable(owner)
    status = try_lock(owner, exclusive)
    while status != IAM_OK:
        wait(owner, exclusive, status)
        status = try_lock(owner, exclusive)
    if flag_load(&owner.state) != READY:
        if not HAS_GIL:
            iam_map_unlock(owner.map, exclusive)
        usable(owner)
    return 0


cdef inline bint prefetch(Owner owner, int64_t key) noexcept:
    """For a reader that will lock soon, and makes objects before that: False where it is no use.

    Only with a GIL, where a look at the lock is enough."""
    return HAS_GIL and try_lock(owner, False) == IAM_OK and iam_map_prefetch(owner.map, key)


cdef inline bint prefetch_view(Owner owner, int64_t key) noexcept:
    """The same a moment later, for a reader that will take a view: whether there seems to be a row."""
    return HAS_GIL and try_lock(owner, False) == IAM_OK and iam_map_prefetch_view(owner.map, key)


cdef inline void unlock(Owner owner) noexcept:
    if not HAS_GIL:
        iam_map_unlock(owner.map, False)


cdef inline int unlock_written(Owner owner) except -1:
    cdef uint64_t byte_count = iam_map_bytes(owner.map)
    bytes_store(&owner.bytes_now, byte_count)
    if not HAS_GIL:
        iam_map_unlock(owner.map, True)
    return after_write(owner, byte_count, False)


cdef inline int after_write(Owner owner, uint64_t byte_count, bint is_big) except -1:
    """byte_count: what this write left, though others may have come since. They will ask for theirs."""
    if byte_count != bytes_load(&owner.bytes_told):
        tell_tracemalloc(owner)
    if CHECKED:
        check_written(owner, is_big)
    return 0


# ---- Views ----------------------------------------------------------------------------------------------------------

cdef inline iam_status take(Owner owner, RowToken token, uint32_t number) noexcept:
    """Under the lock: the token holds the row back until it goes."""
    cdef iam_status status = iam_view_take(owner.map, number, &token.held)
    if status != IAM_OK:
        token.held.rows = NULL
    return status


cdef inline object view(Owner owner, RowToken token, void *row):
    """The array over a row that a token holds.

    Where nothing may fail once the row is known, it is made over other memory first (`dims` is there, and aligned), and
    exact_point moves it before anybody has seen it.
    """
    return array_over(owner.row_dtype, owner.ndim, owner.dims, row, token, not owner.is_read_only)
