# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False, always_allow_keywords=True
"""The binding's ground floor: an Owner owns a C map: its life, its lock, what it is now, calls on the whole of it.

Above it: _batch.pyx (many keys), _cursor.pyx (iteration), _binding.pyx (one key). Below it: the front header
(_core.pxd). How a call goes is written in _owner.pxd.
"""
cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.number cimport PyNumber_Index
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from intarraymap._core cimport *
from intarraymap._failing cimport failing_create, failing_drop, failing_set, failing_state
from intarraymap._flag cimport bytes_load, bytes_store, count_load, flag_load, flag_move, flag_store
from intarraymap._gate cimport (
    gate_close, gate_enter, gate_fork_counter, gate_install, gate_is_quiet, gate_leave, gate_nap, gate_open,
)

import os
from types import GenericAlias

import numpy as np

from intarraymap import coerce

cnp.import_array()

cdef extern from "Python.h":
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *thread) nogil

cdef enum:
    BIG_KEYS = 256  # a batch above this releases the GIL: giving it away and getting it back costs about 100 ns
    BIG_BYTES = 1 << 18
    WAIT_MILLISECONDS = 50  # how long Ctrl-C may go unseen while another thread holds the lock

IS_CHECKED = bool(CHECKED)  # a build that checks every invariant after writes

cdef dict KINDS = {
    np.bool_: IAM_BOOL,
    np.int8: IAM_INT8, np.int16: IAM_INT16, np.int32: IAM_INT32, np.int64: IAM_INT64,
    np.uint8: IAM_UINT8, np.uint16: IAM_UINT16, np.uint32: IAM_UINT32, np.uint64: IAM_UINT64,
    np.float16: IAM_FLOAT16, np.float32: IAM_FLOAT32, np.float64: IAM_FLOAT64,
    np.complex64: IAM_COMPLEX64, np.complex128: IAM_COMPLEX128,
    np.datetime64: IAM_DATETIME64, np.timedelta64: IAM_TIMEDELTA64,
}
cdef dict INDEXES = {"auto": IAM_INDEX_AUTO, "hash": IAM_INDEX_HASH, "direct": IAM_INDEX_DIRECT}
cdef dict INDEX_NAMES = {IAM_INDEX_AUTO: "auto", IAM_INDEX_HASH: "hash", IAM_INDEX_DIRECT: "direct"}
cdef dict GROWTHS = {None: IAM_GROWTH_STEPS, "steps": IAM_GROWTH_STEPS, "stop": IAM_GROWTH_STOP}
cdef dict SWITCHES = {None: IAM_AUTO, False: IAM_OFF, True: IAM_ON}
cdef dict SIMDS = {
    None: IAM_SIMD_AUTO, "scalar": IAM_SIMD_SCALAR, "baseline": IAM_SIMD_BASELINE, "avx2": IAM_SIMD_AVX2,
}
cdef iam_spare *SPARE = iam_spare_create()  # NULL: out of memory, so nothing is kept
cdef frozenset OPTIONS = frozenset(
    ["growth", "huge_pages", "pipeline", "reserve", "simd", "spare", "hash_and", "hash_or", "fail_after"]
)


# ---- Forks ----------------------------------------------------------------------------------------------------------

def _before_fork():
    with nogil:
        gate_close()
        while not gate_is_quiet():
            gate_nap()


def _after_fork_in_parent():
    gate_open()


if gate_install() != 0:
    raise MemoryError("pthread_atfork failed")
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)


# ---- Status codes into errors ---------------------------------------------------------------------------------------

cdef int fail(iam_status status, str what) except -1:
    if status == IAM_NO_MEMORY:
        raise MemoryError(f"{what}: out of memory")
    if status == IAM_TOO_MANY_ROWS:
        raise OverflowError(f"{what}: a map holds at most {IAM_ROWS_MAX} rows")
    if status == IAM_TOO_SPARSE:
        raise ValueError(f'{what}: index="direct" was asked for and the keys are too sparse for it')
    if status == IAM_HELD:
        raise BufferError(f"{what}: a view, a block or a scan of this map is alive")
    if status == IAM_DAMAGED:
        raise ValueError(f"{what}: the file that this map was opened from is damaged")
    if status == IAM_FORKED:
        raise RuntimeError("this map was being written by another thread when the process was forked")
    raise RuntimeError(f"{what}: the core answered with status {<int>status}")


cdef int refuse(int state) except -1:
    if state == CLOSED:
        raise ValueError("the map is closed")
    raise RuntimeError("the map is not initialised: __init__ has not been called")


cdef int refuse_second_init() except -1:
    raise RuntimeError("the map is already initialised: __init__ works only once")


# ---- Creation options -----------------------------------------------------------------------------------------------

cdef int read_options(iam_options *wanted, tuple row_shape, cnp.dtype dtype, str index, dict options) except -1:
    memset(wanted, 0, sizeof(iam_options))
    wanted.row_items = 1
    for length in row_shape:  # coerce has judged them, but nobody has to come by way of it
        if not 1 <= length <= coerce.ROW_ITEMS_MAX // wanted.row_items:
            raise ValueError(f"row_shape must be of ints >= 1, of {coerce.ROW_ITEMS_MAX} items at most")
        wanted.row_items *= <uint64_t>length
    wanted.kind = <iam_kind><int>KINDS[(<object>dtype).type]
    wanted.index = <iam_index><int>INDEXES[index]
    wanted.spare = SPARE
    wanted.serial_views = HAS_GIL
    if options is None:
        return 0
    if not options.keys() <= OPTIONS:
        raise ValueError(f"unknown creation options: {sorted(options.keys() - OPTIONS)}")
    wanted.growth = <iam_growth><int>GROWTHS[options.get("growth")]
    wanted.huge_pages = <iam_switch><int>SWITCHES[options.get("huge_pages")]
    wanted.pipeline = <iam_switch><int>SWITCHES[options.get("pipeline")]
    wanted.reserve = <iam_switch><int>SWITCHES[options.get("reserve")]
    wanted.simd = <iam_simd><int>SIMDS[options.get("simd")]
    if options.get("spare") is False:
        wanted.spare = NULL
    wanted.hash_and = options.get("hash_and", 0)
    wanted.hash_or = options.get("hash_or", 0)
    return 0


# ---- The owner ------------------------------------------------------------------------------------------------------

@cython.final
@cython.freelist(64)
cdef class RowToken:
    def __dealloc__(self):
        if self.held.rows != NULL:
            iam_view_release(&self.held)


@cython.no_gc  # its own objects, a dtype and a tuple of ints, are in no cycle
cdef class Owner:
    """Owns a C map. IntArrayMap inherits it, by way of Batch and Table."""

    def __init__(self, tuple row_shape not None, cnp.dtype dtype not None, uint64_t capacity, str index not None,
                 uint64_t seed, dict options):
        cdef iam_options wanted
        cdef iam_map *map = NULL
        cdef failing_state *failing = NULL
        cdef iam_status status
        self._refuse_second_init()
        row_shape = tuple([int(PyNumber_Index(length)) for length in row_shape])  # of ints, whatever they were of
        read_options(&wanted, row_shape, dtype, index, options)
        wanted.capacity = capacity
        wanted.seed = seed
        fail_after = None if options is None else options.get("fail_after")
        if fail_after is not None:
            failing = failing_create(fail_after, &wanted.allocator)
            if failing == NULL:
                raise MemoryError("creating a map: out of memory")
        status = iam_map_create(&wanted, &map)
        if status != IAM_OK:
            if failing != NULL:
                failing_drop(failing)
            fail(status, "creating a map")
        self.adopt(map, row_shape, dtype, wanted.kind, wanted.index, failing, False, NULL)

    cdef int adopt(self, iam_map *map, tuple shape, cnp.dtype dtype, iam_kind kind, iam_index index_asked,
                   failing_state *failing, bint is_read_only, const int *torn) except -1:
        cdef Py_ssize_t axis
        cdef cnp.npy_intp *dims = <cnp.npy_intp *>malloc(len(shape) * sizeof(cnp.npy_intp))
        cdef bint is_first = dims != NULL and flag_move(&self.state, NEW, STARTING)
        if not is_first:
            iam_map_destroy(map)
            if failing != NULL:
                failing_drop(failing)
            if dims == NULL:
                raise MemoryError("creating a map: out of memory")
            free(dims)
            refuse_second_init()
        self.map = map
        self.fork_count = gate_fork_counter()
        self.failing = failing
        self.dims = dims
        self.ndim = <int>len(shape)
        self.row_items = 1
        for axis in range(len(shape)):
            dims[axis] = shape[axis]
            self.row_items *= <size_t>dims[axis]
        self.row_bytes = self.row_items * iam_kind_bytes(kind)
        self.kind = kind
        self.index_asked = index_asked
        self.row_dtype = dtype
        self.shape = shape
        self.is_read_only = is_read_only
        self.torn = torn
        self.bytes_now = iam_map_bytes(map)
        flag_store(&self.state, READY)
        tell_tracemalloc(self)
        return 0

    def __dealloc__(self):
        if self.is_traced:
            PyTraceMalloc_Untrack(TRACE_DOMAIN, <uintptr_t>self.map)
        # A map that was being written when the process was forked is left alone: its links can't be trusted.
        if self.map != NULL and iam_map_try_lock(self.map, True, count_load(self.fork_count)) != IAM_FORKED:
            iam_map_unlock(self.map, True)
            iam_map_destroy(self.map)
        if self.failing != NULL:
            failing_drop(self.failing)
        free(self.dims)

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    def _refuse_second_init(self):
        if flag_load(&self.state) != NEW:
            refuse_second_init()

    def _require_writable(self):
        """Before anything else is judged: a writer on a read-only map is that error, whatever it was given."""
        usable(self)
        writable(self)

    def _check(self):
        "_check($self)\n--\n\n" """
        Check every invariant of the map: O(n), present in every build.

        Raises
        ------
        RuntimeError
            Naming the broken invariant. It is a bug in this package, or memory was overwritten.
        """
        cdef char reason[256]
        cdef iam_status status
        cdef PyThreadState *thread
        reason[0] = 0
        self.begin(READ, WHOLE_MAP, &thread)
        status = iam_map_validate(self.map, reason, sizeof(reason))
        self.end(READ, thread)
        if status == IAM_BROKEN:
            raise RuntimeError((<bytes>reason).decode("utf-8", "replace"))
        if status != IAM_OK:
            fail(status, "checking")

    # -- Batches

    cdef int begin(self, int purpose, size_t count, PyThreadState **thread_out) except -1:
        cdef bint exclusive = purpose != READ
        cdef bint is_big = count > BIG_KEYS or count * self.row_bytes > BIG_BYTES
        cdef iam_status status
        thread_out[0] = NULL
        PyErr_CheckSignals()
        while True:
            usable(self)
            if purpose == WRITE:
                writable(self)
            if is_big and not gate_enter():
                with nogil:
                    gate_nap()
                PyErr_CheckSignals()
                continue
            status = iam_map_try_lock(self.map, exclusive, count_load(self.fork_count))
            if status == IAM_OK:
                break
            if is_big:
                gate_leave()
            wait(self, exclusive, status)
        if flag_load(&self.state) != READY:
            iam_map_unlock(self.map, exclusive)
            if is_big:
                gate_leave()
            usable(self)
        if is_big:
            thread_out[0] = PyEval_SaveThread()
        return 0

    cdef int end(self, int purpose, PyThreadState *thread) except -1:
        end_crossing(self, purpose != READ, thread)
        if self.torn != NULL and flag_load(self.torn) and purpose != CLOSE:
            raise OSError("the file that this map was opened from has become shorter: a part of it is lost")
        return after_write(self, bytes_load(&self.bytes_now), thread != NULL) if purpose != READ else 0

    # -- What a map is now

    @property
    def row_shape(self):
        """The shape of every row: always a tuple."""
        usable(self)
        return self.shape

    @property
    def dtype(self):
        """The dtype of the rows, in native byte order."""
        usable(self)
        return self.row_dtype

    @property
    def index(self):
        """``"hash"`` or ``"direct"``, as it is now."""
        cdef iam_index index
        lock(self, False)
        index = iam_map_index(self.map)
        unlock(self)
        return INDEX_NAMES[<int>index]

    @property
    def nbytes(self):
        """All memory committed, in bytes."""
        cdef uint64_t byte_count
        lock(self, False)
        byte_count = iam_map_bytes(self.map)
        unlock(self)
        return byte_count

    @property
    def read_only(self):
        """Whether writers, and writes through views, are refused."""
        usable(self)
        return self.is_read_only

    def _index_asked(self):
        usable(self)
        return INDEX_NAMES[<int>self.index_asked]

    def _describe(self):
        """For repr: (shape, dtype, count, index or what is wrong); never raises for a broken or closed map."""
        cdef uint64_t count
        cdef iam_index index
        if flag_load(&self.state) in (NEW, STARTING):
            return None
        try:
            lock(self, False)
        except (ValueError, RuntimeError) as error:
            return self.shape, self.row_dtype, None, str(error)
        count, index = iam_map_count(self.map), iam_map_index(self.map)
        unlock(self)
        return self.shape, self.row_dtype, count, INDEX_NAMES[<int>index]

    def _stats(self):
        """All of iam_stats, by name."""
        cdef iam_stats now
        cdef PyThreadState *thread
        self.begin(READ, WHOLE_MAP, &thread)
        iam_map_stats(self.map, &now)
        self.end(READ, thread)
        fields = <dict>now
        fields["index"] = INDEX_NAMES[<int>now.index]
        return fields

    def _fail_after(self, long count):
        """Tests: the request for memory after `count` more fails; -1 never. Returns what was left, -1: it failed."""
        usable(self)
        if self.failing == NULL:
            raise RuntimeError("the map was not created with the fail_after option")
        return failing_set(self.failing, count)

    # -- Whole map

    def _close(self):
        cdef PyThreadState *thread
        if flag_load(&self.state) == CLOSED:
            return
        try:
            self.begin(CLOSE, WHOLE_MAP, &thread)
        except ValueError:
            if flag_load(&self.state) == CLOSED:
                return  # another thread was first
            raise
        iam_map_clear(self.map)  # out of memory: the rows go with the map
        flag_store(&self.state, CLOSED)
        self.end(CLOSE, thread)

    def _clear(self):
        cdef PyThreadState *thread
        self.begin(WRITE, WHOLE_MAP, &thread)
        cdef iam_status status = iam_map_clear(self.map)
        self.end(WRITE, thread)
        if status != IAM_OK:
            fail(status, "clear")

    def _reserve(self, uint64_t row_count):
        cdef PyThreadState *thread
        self.begin(WRITE, WHOLE_MAP, &thread)
        cdef iam_status status = iam_map_reserve(self.map, row_count)
        self.end(WRITE, thread)
        if status != IAM_OK:
            fail(status, f"reserving {row_count} rows")

    def _compact(self):
        cdef PyThreadState *thread
        self.begin(WRITE, WHOLE_MAP, &thread)
        cdef iam_status status = iam_map_compact(self.map)
        self.end(WRITE, thread)
        if status != IAM_OK:
            fail(status, "compact")

    def _copy_from(self, Owner other not None, uint64_t seed):
        """Makes this new Owner an independent copy of another."""
        cdef iam_map *map = NULL
        cdef PyThreadState *thread
        cdef iam_status status
        self._refuse_second_init()
        other.begin(READ, WHOLE_MAP, &thread)
        status = iam_map_copy(other.map, seed, &map)
        other.end(READ, thread)
        if status != IAM_OK:
            fail(status, "copy")
        self.adopt(map, other.shape, other.row_dtype, other.kind, other.index_asked, NULL, False, NULL)


cdef int wait(Owner owner, bint exclusive, iam_status status) except -1:
    if status != IAM_LOCKED:
        fail(status, "locking")
    with nogil:
        iam_map_wait(owner.map, exclusive, WAIT_MILLISECONDS)
    PyErr_CheckSignals()
    return usable(owner)


cdef void end_crossing(Owner owner, bint exclusive, PyThreadState *thread) noexcept nogil:
    """Unlocks before it takes the GIL back: nobody waits for the GIL with a lock in hand."""
    if exclusive:
        bytes_store(&owner.bytes_now, iam_map_bytes(owner.map))
    iam_map_unlock(owner.map, exclusive)
    if thread != NULL:
        gate_leave()
        PyEval_RestoreThread(thread)


cdef int tell_tracemalloc(Owner owner) except -1:
    """Holding no lock, so that without a GIL threads may come here side by side: the last one tells what is true."""
    cdef uint64_t byte_count
    while True:
        byte_count = bytes_load(&owner.bytes_now)
        bytes_store(&owner.bytes_told, byte_count)
        if PyTraceMalloc_Track(TRACE_DOMAIN, <uintptr_t>owner.map, byte_count) == 0:
            flag_store(&owner.is_traced, True)
        if bytes_load(&owner.bytes_now) == byte_count:
            return 0


cdef int check_written(Owner owner, bint is_big) except -1:
    """Checked builds. The core has looked already (map_check) at all but maps over files, less often, and aborts."""
    cdef uint64_t paid = bytes_load(&owner.bytes_unchecked) + CHECKED_BYTES
    is_due = is_big or paid >= bytes_load(&owner.bytes_now)
    bytes_store(&owner.bytes_unchecked, 0 if is_due else paid)
    if is_due and flag_load(&owner.state) == READY:
        try:
            owner._check()
        except ValueError:  # closed by another thread meanwhile: the write itself went well
            if flag_load(&owner.state) == READY:
                raise
    return 0
