# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, always_allow_keywords=True
"""The binding: Table owns the C map, the hot scalar methods live here, status codes become errors here.

Above it: mapping.py (IntArrayMap inherits Table). Below it: the front header, through _core.pxd.

How every call goes, so that nothing can deadlock and no hostile object can break a map:
 1. arguments become int64 keys and exact arrays (this may run Python code: __index__, __array__ …);
 2. everything the answer needs is allocated, the view's token included;
 3. lock: try, and if that fails release the GIL, wait, look for signals, try again. Then look whether the map has
    been closed meanwhile;
 4. one crossing into the core; batches release the GIL for it. No Python object is made or dropped here;
 5. unlock; then tracemalloc is told, errors are raised, results are returned.
"""
cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from intarraymap._core cimport *
from intarraymap._exact cimport (
    PyNumber_Index, array_over, expect, is_exact, key_from, new_array,
)
from intarraymap._failing cimport failing_create, failing_drop, failing_set, failing_state
from intarraymap._gate cimport (
    flag_load, flag_move, flag_store, gate_close, gate_enter, gate_fork_count, gate_install, gate_is_quiet, gate_leave,
    gate_nap, gate_open,
)

import os
from types import GenericAlias

import numpy as np

from intarraymap import coerce
from intarraymap.errors import missing_keys

cnp.import_array()

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *thread) nogil
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t block, size_t byte_count)
    int PyTraceMalloc_Untrack(unsigned int domain, uintptr_t block)

cdef extern from *:
    """
    #ifdef INTARRAYMAP_CHECKED
    #define IAM_BINDING_CHECKED 1
    #else
    #define IAM_BINDING_CHECKED 0
    #endif
    """
    bint CHECKED "IAM_BINDING_CHECKED"

cdef enum:
    NEW = 0  # the state of a Table: __new__ only
    STARTING
    READY
    CLOSED

cdef enum:
    READ = 0  # what begin() locks for
    WRITE
    CLOSE  # like WRITE, but a read-only map may be closed too

cdef enum:
    WALK_KEYS = 0  # what a Cursor hands out
    WALK_VALUES
    WALK_ITEMS

    AXES_MAX = 64  # of a NumPy array
    CHUNK = 32  # keys that a Cursor fetches at a time: enough to make the walk's own cost vanish
    BIG_KEYS = 256  # a batch above this releases the GIL: giving it away and getting it back costs about 100 ns
    BIG_BYTES = 1 << 18
    LARGE_RESULT_BYTES = 1 << 20  # results from here on come from iam_result_allocate
    WAIT_MILLISECONDS = 50  # how long Ctrl-C may go unseen while another thread holds the lock
    TRACE_DOMAIN = 0x1A3A9  # of tracemalloc: ours

KEYS, VALUES, ITEMS = WALK_KEYS, WALK_VALUES, WALK_ITEMS
RAISE = coerce.RAISE

cdef str SECOND_INIT = "the map is already initialised: __init__ works only once"
cdef cnp.dtype INT64 = np.dtype(np.int64)
cdef cnp.dtype BOOL = np.dtype(np.bool_)
cdef cnp.dtype UINT8 = np.dtype(np.uint8)

cdef dict KINDS = {
    np.bool_: IAM_BOOL,
    np.int8: IAM_INT8, np.int16: IAM_INT16, np.int32: IAM_INT32, np.int64: IAM_INT64,
    np.uint8: IAM_UINT8, np.uint16: IAM_UINT16, np.uint32: IAM_UINT32, np.uint64: IAM_UINT64,
    np.float16: IAM_FLOAT16, np.float32: IAM_FLOAT32, np.float64: IAM_FLOAT64,
    np.complex64: IAM_COMPLEX64, np.complex128: IAM_COMPLEX128,
    np.datetime64: IAM_DATETIME64, np.timedelta64: IAM_TIMEDELTA64,
}
cdef dict OPS = {
    "set": IAM_SET, "add": IAM_ADD, "sub": IAM_SUB, "mul": IAM_MUL, "min": IAM_MIN, "max": IAM_MAX,
    "and": IAM_AND, "or": IAM_OR, "xor": IAM_XOR,
}
cdef dict INDEXES = {"auto": IAM_INDEX_AUTO, "hash": IAM_INDEX_HASH, "direct": IAM_INDEX_DIRECT}
cdef dict GROWTHS = {None: IAM_GROWTH_STEPS, "steps": IAM_GROWTH_STEPS, "stop": IAM_GROWTH_STOP}
cdef dict SWITCHES = {None: IAM_AUTO, False: IAM_OFF, True: IAM_ON}
cdef dict SIMDS = {
    None: IAM_SIMD_AUTO, "scalar": IAM_SIMD_SCALAR, "baseline": IAM_SIMD_BASELINE, "avx2": IAM_SIMD_AVX2,
}


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
    """The one table between status codes and exceptions."""
    if status == IAM_NO_MEMORY:
        raise MemoryError(f"{what}: out of memory")
    if status == IAM_TOO_MANY_ROWS:
        raise OverflowError(f"{what}: a map holds at most {IAM_ROWS_MAX} rows")
    if status == IAM_TOO_SPARSE:
        raise ValueError(f'{what}: index="direct" was asked for and the keys are too sparse for it')
    if status == IAM_HELD:
        raise BufferError(f"{what}: a view, a block or a scan of this map is alive")
    if status == IAM_FORKED:
        raise RuntimeError("this map was being written by another thread when the process was forked")
    raise RuntimeError(f"{what}: the core answered with status {<int>status}")


cdef int fail_batch(iam_status status, cnp.ndarray keys, str what) except -1:
    if status == IAM_TOO_SPARSE:
        what += ", " + coerce.farthest(keys)
    return fail(status, what)


cdef int refuse(int state) except -1:
    if state == CLOSED:
        raise ValueError("the map is closed")
    raise RuntimeError("the map is not initialised: __init__ has not been called")


# ---- What keeps memory alive ----------------------------------------------------------------------------------------

@cython.final
@cython.freelist(64)
cdef class RowToken:
    """Base of a view: holds one row back, and the storage; neither the map nor any Python object."""
    cdef iam_view held

    def __dealloc__(self):
        if self.held.rows != NULL:
            iam_view_release(&self.held)


@cython.final
cdef class BlocksToken:
    """Base of all arrays of one blocks() call; owns the keys that were computed for it."""
    cdef iam_rows *rows
    cdef int64_t *computed

    def __dealloc__(self):
        free(self.computed)
        if self.rows != NULL:
            iam_blocks_release(self.rows)


@cython.final
cdef class ResultOwner:
    """Base of a large result."""
    cdef void *block
    cdef size_t byte_count

    def __dealloc__(self):
        if self.block != NULL:
            PyTraceMalloc_Untrack(TRACE_DOMAIN, <uintptr_t>self.block)
            iam_result_release(self.block, self.byte_count)


cdef object new_result(cnp.dtype descr, int ndim, const cnp.npy_intp *dims):
    """A new C-ordered array, contents undefined, on huge pages if it is large."""
    cdef size_t byte_count = descr.itemsize
    cdef int axis
    cdef ResultOwner owner
    for axis in range(ndim):
        if dims[axis] != 0 and byte_count > (<size_t>1 << 62) // <size_t>dims[axis]:
            raise MemoryError("the result is too large")
        byte_count *= <size_t>dims[axis]
    if byte_count < LARGE_RESULT_BYTES:
        return new_array(descr, ndim, dims)
    owner = ResultOwner.__new__(ResultOwner)
    owner.block = iam_result_allocate(byte_count)
    if owner.block == NULL:
        raise MemoryError(f"a result of {byte_count} bytes: out of memory")
    owner.byte_count = byte_count
    PyTraceMalloc_Track(TRACE_DOMAIN, <uintptr_t>owner.block, byte_count)
    return array_over(descr, ndim, dims, owner.block, owner, True)


# ---- The map --------------------------------------------------------------------------------------------------------

@cython.no_gc  # its own objects, a dtype and a tuple of ints, are in no cycle; IntArrayMap's __dict__ is Python's affair
cdef class Table:
    """Owns a C map. IntArrayMap inherits it; arguments of the underscored methods are exact arrays from coerce.py."""
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

    def __init__(self, tuple row_shape not None, cnp.dtype dtype not None, uint64_t capacity, str index not None,
                 uint64_t seed, dict options):
        cdef iam_options wanted
        cdef iam_map *map = NULL
        cdef failing_state *failing = NULL
        cdef iam_status status
        self._refuse_second_init()
        self.read_options(&wanted, row_shape, dtype, index, options)
        wanted.capacity = capacity
        wanted.seed = seed
        fail_after = None if options is None else options.get("fail_after")
        if fail_after is not None:
            failing = failing_create(fail_after, &wanted.allocator)
            if failing == NULL:
                raise MemoryError
        status = iam_map_create(&wanted, &map)
        if status != IAM_OK:
            if failing != NULL:
                failing_drop(failing)
            fail(status, "creating a map")
        self.adopt(map, row_shape, dtype, wanted.kind, wanted.index, failing)

    cdef int read_options(self, iam_options *wanted, tuple row_shape, cnp.dtype dtype, str index,
                          dict options) except -1:
        memset(wanted, 0, sizeof(iam_options))
        wanted.row_items = 1
        for length in row_shape:
            wanted.row_items *= <uint64_t>length
        wanted.kind = <iam_kind><int>KINDS[(<object>dtype).type]
        wanted.index = <iam_index><int>INDEXES[index]
        if options is None:
            return 0
        unknown = options.keys() - {
            "growth", "huge_pages", "pipeline", "reserve", "simd", "hash_and", "hash_or", "fail_after",
        }
        if unknown:
            raise ValueError(f"unknown creation options: {sorted(unknown)}")
        wanted.growth = <iam_growth><int>GROWTHS[options.get("growth")]
        wanted.huge_pages = <iam_switch><int>SWITCHES[options.get("huge_pages")]
        wanted.pipeline = <iam_switch><int>SWITCHES[options.get("pipeline")]
        wanted.reserve = <iam_switch><int>SWITCHES[options.get("reserve")]
        wanted.simd = <iam_simd><int>SIMDS[options.get("simd")]
        wanted.hash_and = options.get("hash_and", 0)
        wanted.hash_or = options.get("hash_or", 0)
        return 0

    cdef int adopt(self, iam_map *map, tuple shape, cnp.dtype dtype, iam_kind kind, iam_index index_asked,
                   failing_state *failing) except -1:
        """Makes this new Table the owner of `map` (and of `failing`); if another thread was first, destroys them."""
        cdef Py_ssize_t axis
        cdef cnp.npy_intp *dims = <cnp.npy_intp *>malloc(len(shape) * sizeof(cnp.npy_intp))
        cdef bint is_first = dims != NULL and flag_move(&self.state, NEW, STARTING)
        if not is_first:
            iam_map_destroy(map)
            if failing != NULL:
                failing_drop(failing)
            if dims == NULL:
                raise MemoryError
            free(dims)
            raise RuntimeError(SECOND_INIT)
        self.map = map
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
        self.bytes_now = iam_map_bytes(map)
        flag_store(&self.state, READY)
        self.tell_tracemalloc()
        return 0

    def __dealloc__(self):
        if self.is_traced:
            PyTraceMalloc_Untrack(TRACE_DOMAIN, <uintptr_t>self.map)
        # A map that was being written when the process was forked is left alone: its links can't be trusted.
        if self.map != NULL and iam_map_try_lock(self.map, True, gate_fork_count()) != IAM_FORKED:
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
            raise RuntimeError(SECOND_INIT)

    # -- The lock: rules at the top of this file

    @cython.final
    cdef inline int usable(self) except -1:
        cdef int state = flag_load(&self.state)
        if state != READY:
            refuse(state)
        return 0

    @cython.final
    cdef inline int writable(self) except -1:
        """Every writer comes by here."""
        if self.is_read_only:
            raise ValueError("the map is read-only")
        return 0

    @cython.final
    cdef inline int lock(self, bint exclusive) except -1:
        """For scalar methods: the GIL stays held while the lock is."""
        cdef iam_status status
        self.usable()
        if exclusive:
            self.writable()
        status = iam_map_try_lock(self.map, exclusive, gate_fork_count())
        while status != IAM_OK:
            self.wait(exclusive, status)
            status = iam_map_try_lock(self.map, exclusive, gate_fork_count())
        if flag_load(&self.state) != READY:
            iam_map_unlock(self.map, exclusive)
            self.usable()
        return 0

    @cython.final
    cdef int wait(self, bint exclusive, iam_status status) except -1:
        """Holding no lock: lets the GIL go until the map's lock seems free, and looks for signals."""
        if status != IAM_LOCKED:
            fail(status, "locking")
        with nogil:
            iam_map_wait(self.map, exclusive, WAIT_MILLISECONDS)
        PyErr_CheckSignals()
        return self.usable()

    @cython.final
    cdef inline void unlock(self) noexcept:
        iam_map_unlock(self.map, False)

    @cython.final
    cdef inline int unlock_written(self) except -1:
        self.bytes_now = iam_map_bytes(self.map)
        iam_map_unlock(self.map, True)
        return self.after_write()

    @cython.final
    cdef int begin(self, int purpose, size_t count, PyThreadState **thread_out) except -1:
        """For batches of `count` keys: locks, and releases the GIL if the batch is a big one. Until end() only the
        core may be called."""
        cdef bint exclusive = purpose != READ
        cdef bint is_big = count > BIG_KEYS or count * self.row_bytes > BIG_BYTES
        cdef iam_status status
        thread_out[0] = NULL
        PyErr_CheckSignals()
        while True:
            self.usable()
            if purpose == WRITE:
                self.writable()
            if is_big and not gate_enter():
                with nogil:
                    gate_nap()
                PyErr_CheckSignals()
                continue
            status = iam_map_try_lock(self.map, exclusive, gate_fork_count())
            if status == IAM_OK:
                break
            if is_big:
                gate_leave()
            self.wait(exclusive, status)
        if flag_load(&self.state) != READY:
            iam_map_unlock(self.map, exclusive)
            if is_big:
                gate_leave()
            self.usable()
        if is_big:
            thread_out[0] = PyEval_SaveThread()
        return 0

    @cython.final
    cdef void end_crossing(self, bint exclusive, PyThreadState *thread) noexcept nogil:
        if exclusive:
            self.bytes_now = iam_map_bytes(self.map)
        iam_map_unlock(self.map, exclusive)
        if thread != NULL:
            gate_leave()
            PyEval_RestoreThread(thread)

    @cython.final
    cdef inline int end(self, bint exclusive, PyThreadState *thread) except -1:
        self.end_crossing(exclusive, thread)
        return self.after_write() if exclusive else 0

    @cython.final
    cdef inline int after_write(self) except -1:
        if self.bytes_now != self.bytes_told:
            self.tell_tracemalloc()
        if CHECKED:
            self._check()
        return 0

    @cython.final
    cdef int tell_tracemalloc(self) except -1:
        self.bytes_told = self.bytes_now
        if PyTraceMalloc_Track(TRACE_DOMAIN, <uintptr_t>self.map, self.bytes_told) == 0:
            self.is_traced = True
        return 0

    # -- Views

    @cython.final
    cdef inline object view(self, RowToken token, void *row):
        return array_over(self.row_dtype, self.ndim, self.dims, row, token, not self.is_read_only)

    @cython.final
    cdef inline iam_status take(self, RowToken token, uint32_t number) noexcept:
        """Under the lock. The token releases what it took when it goes."""
        cdef iam_status status = iam_view_take(self.map, number, &token.held)
        if status != IAM_OK:
            token.held.rows = NULL
        return status

    @cython.final
    cdef inline object find_view(self, int64_t key):
        """The view of a key's row, or None."""
        cdef RowToken token = RowToken.__new__(RowToken)
        cdef iam_status status = IAM_OK
        cdef uint32_t number = 0
        cdef void *row
        self.lock(False)
        row = iam_map_find(self.map, key, &number)
        if row != NULL:
            status = self.take(token, number)
        self.unlock()
        if row == NULL:
            return None
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        return self.view(token, row)

    @cython.final
    cdef cnp.ndarray exact_row(self, object row, int64_t number):
        """The row itself if it is exactly what the core reads, else a converted copy. May run Python code."""
        cdef int axis
        if cnp.PyArray_CheckExact(row) and cnp.PyArray_NDIM(row) == self.ndim and is_exact(row, self.row_dtype):
            for axis in range(self.ndim):
                if cnp.PyArray_DIM(row, axis) != self.dims[axis]:
                    break
            else:
                return row
        row = coerce.row(row, self.shape, self.row_dtype, f"row of key {number}")
        expect(row, self.row_dtype, self.row_items, False)
        return row

    # -- One key

    def __getitem__(self, key):
        """The live, writable, zero-copy view of a key's row, shape ``row_shape``. O(1).

        Raises KeyError(key) if the key is missing, TypeError if it is not an integer.
        """
        cdef int64_t number = 0
        self.usable()
        if key_from(key, &number):
            raise KeyError(PyNumber_Index(key))
        view = self.find_view(number)
        if view is None:
            raise KeyError(number)
        return view

    def __setitem__(self, key, row):
        """Copies a row (exactly ``row_shape``, or a scalar) in, inserting the key if it is missing. O(1).

        Raises TypeError, ValueError or OverflowError if key or row do not fit (nothing is changed then), MemoryError.
        """
        cdef int64_t number = 0
        cdef cnp.ndarray exact
        cdef iam_status status
        self.usable()
        if key_from(key, &number):
            raise OverflowError(f"key {PyNumber_Index(key)} is outside int64")
        exact = self.exact_row(row, number)
        self.lock(True)
        status = iam_map_put(self.map, number, cnp.PyArray_DATA(exact))
        self.unlock_written()
        if status != IAM_OK:
            fail(status, f"key {number}")

    def __delitem__(self, key):
        """Removes a key; its views keep their memory. O(1). Raises KeyError(key) if it is missing."""
        cdef int64_t number = 0
        cdef iam_status status
        self.usable()
        if key_from(key, &number):
            self.writable()
            raise KeyError(PyNumber_Index(key))
        self.lock(True)
        status = iam_map_remove(self.map, number)
        self.unlock_written()
        if status != IAM_OK:
            raise KeyError(number)

    def __contains__(self, key):
        """Whether the key is present; False for whatever is not an integer. O(1)."""
        cdef int64_t number = 0
        cdef bint found
        self.usable()
        try:
            if key_from(key, &number):
                return False
        except TypeError:
            return False
        self.lock(False)
        found = iam_map_find(self.map, number, NULL) != NULL
        self.unlock()
        return found

    def __len__(self):
        """How many keys are present. O(1)."""
        cdef uint64_t count
        self.lock(False)
        count = iam_map_count(self.map)
        self.unlock()
        return count

    def __iter__(self):
        """The keys as ints, in row order. Adding or deleting keys meanwhile raises RuntimeError at the next step."""
        return self._cursor(WALK_KEYS, False)

    def __reversed__(self):
        """The keys as ints, last row first."""
        return self._cursor(WALK_KEYS, True)

    def get(self, key, default=None):
        """get($self, key, default=None)
        --

        The live view of a key's row, or a default.

        Parameters
        ----------
        key : int
            Anything with ``__index__``, or a ``numpy.bool_``.
        default : object, optional
            Given back as it is if the key is missing (an integer outside int64 always is).

        Returns
        -------
        numpy.ndarray or object
            A writable zero-copy view of shape ``row_shape``, or `default`.

        Raises
        ------
        TypeError
            If the key is not an integer.

        Notes
        -----
        O(1); allocates the view object only. Safe beside any other call on the same map.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m[7] = [1, 2]
        >>> m.get(7)
        array([1., 2.])
        >>> m.get(8, "none")
        'none'
        """
        cdef int64_t number = 0
        self.usable()
        if key_from(key, &number):
            return default
        view = self.find_view(number)
        return default if view is None else view

    def pop(self, key, default=RAISE):
        """pop($self, key, default=...)
        --

        Remove a key and return its row.

        Parameters
        ----------
        key : int
            Anything with ``__index__``, or a ``numpy.bool_``.
        default : object, optional
            Given back as it is if the key is missing.

        Returns
        -------
        numpy.ndarray or object
            A copy of the row, shape ``row_shape``, independent of the map; or `default`.

        Raises
        ------
        KeyError
            If the key is missing and there is no default.
        TypeError
            If the key is not an integer.
        ValueError
            If the map is read-only.

        Notes
        -----
        O(1) and one copy of a row. Safe beside any other call on the same map.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m[7] = [1, 2]
        >>> m.pop(7), len(m)
        (array([1., 2.]), 0)
        """
        cdef int64_t number = 0
        cdef cnp.ndarray result
        cdef void *row
        cdef bint is_outside
        self.usable()
        is_outside = key_from(key, &number)
        if is_outside:
            self.writable()
        else:
            result = new_array(self.row_dtype, self.ndim, self.dims)
            self.lock(True)
            row = iam_map_find(self.map, number, NULL)
            if row != NULL:
                memcpy(cnp.PyArray_DATA(result), row, self.row_bytes)
                iam_map_remove(self.map, number)
            self.unlock_written()
            if row != NULL:
                return result
        if default is not RAISE:
            return default
        raise KeyError(PyNumber_Index(key) if is_outside else number)

    def popitem(self):
        """popitem($self)
        --

        Remove the last key in row order and return it with its row.

        Returns
        -------
        tuple of (int, numpy.ndarray)
            The key and a copy of its row, independent of the map.

        Raises
        ------
        KeyError
            If the map is empty.
        ValueError
            If the map is read-only.

        Notes
        -----
        O(1) amortised and one copy of a row. Safe beside any other call on the same map.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m[7] = [1, 2]
        >>> m.popitem()
        (7, array([1., 2.]))
        """
        cdef int64_t number = 0
        cdef void *row = NULL
        cdef cnp.ndarray result
        cdef bint found
        self.usable()
        result = new_array(self.row_dtype, self.ndim, self.dims)
        self.lock(True)
        found = iam_map_last(self.map, &number, &row)
        if found:
            memcpy(cnp.PyArray_DATA(result), row, self.row_bytes)
            iam_map_remove(self.map, number)
        self.unlock_written()
        if not found:
            raise KeyError("popitem(): the map is empty")
        return number, result

    def setdefault(self, key, default=RAISE):
        """setdefault($self, key, default=...)
        --

        The live view of a key's row, inserting the key first if it is missing.

        Parameters
        ----------
        key : int
            Anything with ``__index__``, or a ``numpy.bool_``.
        default : array_like, optional
            The row to insert: exactly ``row_shape`` or a scalar. Without it, a row of zeros. Not looked at if the key
            is present.

        Returns
        -------
        numpy.ndarray
            A writable zero-copy view of shape ``row_shape``.

        Raises
        ------
        OverflowError
            If the key is outside int64 or a number does not fit the dtype.
        TypeError
            If the key is not an integer or the default is not numeric.
        ValueError
            If the default has the wrong shape or the map is read-only.
        MemoryError
            If there is no room for one more row; the map is as before.

        Notes
        -----
        O(1). Safe beside any other call on the same map: of several threads one inserts, all get the same row.

        Examples
        --------
        >>> from intarraymap import IntArrayMap
        >>> m = IntArrayMap(2)
        >>> m.setdefault(7)[0] += 3
        >>> m[7]
        array([3., 0.])
        """
        cdef int64_t number = 0
        cdef uint32_t row_number = 0
        cdef void *row = NULL
        cdef c_bool created = False
        cdef iam_status status
        cdef cnp.ndarray exact = None
        cdef RowToken token
        self.usable()
        self.writable()
        if key_from(key, &number):
            raise OverflowError(f"key {PyNumber_Index(key)} is outside int64")
        if default is not RAISE:
            view = self.find_view(number)
            if view is not None:
                return view
            exact = self.exact_row(default, number)
        token = RowToken.__new__(RowToken)
        self.lock(True)
        status = iam_map_ensure(self.map, number, &row, &row_number, &created)
        if status == IAM_OK:
            status = self.take(token, row_number)
            if created and status != IAM_OK:
                iam_map_remove(self.map, number)
            elif created and <void *>exact != <void *>None:
                memcpy(row, cnp.PyArray_DATA(exact), self.row_bytes)
        self.unlock_written()
        if status != IAM_OK:
            fail(status, f"key {number}")
        return self.view(token, row)

    # -- What a map is now

    @property
    def row_shape(self):
        """The shape of every row: always a tuple."""
        self.usable()
        return self.shape

    @property
    def dtype(self):
        """The dtype of the rows, in native byte order."""
        self.usable()
        return self.row_dtype

    @property
    def index(self):
        """``"hash"`` or ``"direct"``, as it is now."""
        cdef iam_index index
        self.lock(False)
        index = iam_map_index(self.map)
        self.unlock()
        return "direct" if index == IAM_INDEX_DIRECT else "hash"

    @property
    def nbytes(self):
        """All memory committed, in bytes."""
        cdef uint64_t byte_count
        self.lock(False)
        byte_count = iam_map_bytes(self.map)
        self.unlock()
        return byte_count

    @property
    def read_only(self):
        """Whether writers, and writes through views, are refused."""
        self.usable()
        return self.is_read_only

    def _index_asked(self):
        self.usable()
        return {IAM_INDEX_AUTO: "auto", IAM_INDEX_HASH: "hash", IAM_INDEX_DIRECT: "direct"}[<int>self.index_asked]

    def _describe(self):
        """For repr: (shape, dtype, count, index or what is wrong); never raises for a broken or closed map."""
        if flag_load(&self.state) in (NEW, STARTING):
            return None
        try:
            return self.shape, self.row_dtype, len(self), self.index
        except (ValueError, RuntimeError) as error:
            return self.shape, self.row_dtype, None, str(error)

    def _stats(self):
        """All of iam_stats, by name."""
        cdef iam_stats now
        cdef PyThreadState *thread
        self.begin(READ, BIG_KEYS + 1, &thread)
        iam_map_stats(self.map, &now)
        self.end(False, thread)
        fields = <dict>now
        fields["index"] = "direct" if now.index == IAM_INDEX_DIRECT else "hash"
        return fields

    def _check(self):
        """_check($self)
        --

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
        self.begin(READ, BIG_KEYS + 1, &thread)
        status = iam_map_validate(self.map, reason, sizeof(reason))
        self.end(False, thread)
        if status == IAM_BROKEN:
            raise RuntimeError((<bytes>reason).decode("utf-8", "replace"))
        if status != IAM_OK:
            fail(status, "checking")

    def _fail_after(self, long count):
        """Tests: the request for memory after `count` more fails; -1 never. Returns what was left, -1: it failed."""
        self.usable()
        if self.failing == NULL:
            raise RuntimeError("the map was not created with the fail_after option")
        return failing_set(self.failing, count)

    def _overlaps(self, cnp.ndarray array not None):
        """Whether an array touches memory of the map. The bounds of a strided array count as a whole."""
        cdef bint overlaps
        low, high = np.lib.array_utils.byte_bounds(array)
        cdef uintptr_t first = low
        cdef size_t byte_count = high - low
        self.lock(False)
        overlaps = iam_map_overlaps(self.map, <void *>first, byte_count)
        self.unlock()
        return overlaps

    @cython.final
    cdef cnp.ndarray apart(self, cnp.ndarray array):
        """The array, or a copy if it touches memory of the map: what a writer reads must not change under it."""
        cdef bint overlaps
        self.lock(False)
        overlaps = iam_map_overlaps(self.map, cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
        self.unlock()
        return array.copy() if overlaps else array

    # -- Whole map

    def _close(self):
        cdef PyThreadState *thread
        if flag_load(&self.state) == CLOSED:
            return
        try:
            self.begin(CLOSE, BIG_KEYS + 1, &thread)
        except ValueError:
            if flag_load(&self.state) == CLOSED:
                return  # another thread was first
            raise
        iam_map_clear(self.map)  # out of memory: the rows go with the map
        flag_store(&self.state, CLOSED)
        self.end_crossing(True, thread)
        self.tell_tracemalloc()

    def _clear(self):
        cdef PyThreadState *thread
        self.begin(WRITE, BIG_KEYS + 1, &thread)
        cdef iam_status status = iam_map_clear(self.map)
        self.end(True, thread)
        if status != IAM_OK:
            fail(status, "clear")

    def _reserve(self, uint64_t row_count):
        cdef PyThreadState *thread
        self.begin(WRITE, BIG_KEYS + 1, &thread)
        cdef iam_status status = iam_map_reserve(self.map, row_count)
        self.end(True, thread)
        if status != IAM_OK:
            fail(status, f"reserving {row_count} rows")

    def _compact(self):
        cdef PyThreadState *thread
        self.begin(WRITE, BIG_KEYS + 1, &thread)
        cdef iam_status status = iam_map_compact(self.map)
        self.end(True, thread)
        if status != IAM_OK:
            fail(status, "compact")

    def _copy_from(self, Table other not None, uint64_t seed):
        """Makes this new Table an independent copy of another."""
        cdef iam_map *map = NULL
        cdef PyThreadState *thread
        cdef iam_status status
        self._refuse_second_init()
        other.begin(READ, BIG_KEYS + 1, &thread)
        status = iam_map_copy(other.map, seed, &map)
        other.end(False, thread)
        if status != IAM_OK:
            fail(status, "copy")
        self.adopt(map, other.shape, other.row_dtype, other.kind, other.index_asked, NULL)

    def _to_arrays(self):
        """(keys, rows) in row order, independent."""
        cdef uint64_t room = 0
        cdef uint64_t count
        cdef PyThreadState *thread
        cdef cnp.ndarray keys, rows
        cdef void *keys_out
        cdef void *rows_out
        count = len(self)
        while True:
            keys = self.new_like(INT64, count, False)
            rows = self.new_like(self.row_dtype, count, True)
            keys_out, rows_out = cnp.PyArray_DATA(keys), cnp.PyArray_DATA(rows)
            room = count
            self.begin(READ, count, &thread)
            count = iam_map_count(self.map)
            if count <= room:
                iam_map_export(self.map, <int64_t *>keys_out, rows_out)
            self.end(False, thread)
            if count <= room:
                return (keys, rows) if count == room else (keys[:count].copy(), rows[:count].copy())
            count += count // 64  # keys come faster than we allocate: ask for a little more

    @cython.final
    cdef cnp.ndarray new_like(self, cnp.dtype descr, uint64_t count, bint with_row):
        cdef cnp.npy_intp dims[AXES_MAX]
        dims[0] = count
        if with_row:
            memcpy(&dims[1], self.dims, self.ndim * sizeof(cnp.npy_intp))
        return new_result(descr, 1 + (self.ndim if with_row else 0), dims)

    # -- Many keys: `keys` is an exact int64 array of any shape S, rows are exact arrays of S + row_shape or row_shape

    @cython.final
    cdef inline size_t count_of(self, cnp.ndarray keys) except? 0:
        cdef size_t count = cnp.PyArray_SIZE(keys)
        self.usable()
        expect(keys, INT64, count, False)
        return count

    @cython.final
    cdef cnp.ndarray new_rows(self, cnp.ndarray keys):
        """Contents undefined, S + row_shape."""
        cdef cnp.npy_intp dims[AXES_MAX]
        cdef int ndim = cnp.PyArray_NDIM(keys)
        if ndim + self.ndim > AXES_MAX:
            raise ValueError(f"keys of {ndim} axes and rows of {self.ndim} are more than NumPy's {AXES_MAX} axes")
        memcpy(dims, cnp.PyArray_DIMS(keys), ndim * sizeof(cnp.npy_intp))
        memcpy(&dims[ndim], self.dims, self.ndim * sizeof(cnp.npy_intp))
        return new_result(self.row_dtype, ndim + self.ndim, dims)

    @cython.final
    cdef inline size_t stride_of(self, cnp.ndarray rows, size_t count) except? 1:
        """0 for one row, row_bytes for a row per key."""
        cdef bint is_one = cnp.PyArray_NDIM(rows) == self.ndim
        expect(rows, self.row_dtype, self.row_items if is_one else count * self.row_items, False)
        return 0 if is_one else self.row_bytes

    def _get_many(self, cnp.ndarray keys not None, cnp.ndarray defaults, cnp.ndarray rows_out, cnp.ndarray found_out):
        """rows_out, found_out: exact arrays or None; returns the rows."""
        cdef size_t count = self.count_of(keys)
        cdef size_t stride = 0
        cdef const void *defaults_in = NULL
        cdef uint8_t *found = NULL
        cdef iam_missing missing
        cdef iam_status status
        cdef PyThreadState *thread
        if defaults is not None:
            stride = self.stride_of(defaults, count)
            defaults_in = cnp.PyArray_DATA(defaults)
        if found_out is not None:
            expect(found_out, BOOL, count, True)
            found = <uint8_t *>cnp.PyArray_DATA(found_out)
        if rows_out is None:
            rows_out = self.new_rows(keys)
        else:
            expect(rows_out, self.row_dtype, count * self.row_items, True)
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef void *rows = cnp.PyArray_DATA(rows_out)
        self.begin(READ, count, &thread)
        status = iam_map_get_many(self.map, keys_in, count, rows, defaults_in, stride, found, &missing)
        self.end(False, thread)
        if status == IAM_MISSING:
            raise missing_keys(missing.key, missing.position, missing.count, (<object>keys).shape)
        if status != IAM_OK:
            fail(status, "get_many")
        return rows_out

    def _pop_many(self, cnp.ndarray keys not None, cnp.ndarray defaults):
        cdef size_t count = self.count_of(keys)
        cdef size_t stride = 0
        cdef const void *defaults_in = NULL
        cdef iam_missing missing
        cdef iam_status status
        cdef PyThreadState *thread
        if defaults is not None:
            stride = self.stride_of(defaults, count)
            defaults_in = cnp.PyArray_DATA(defaults)
        keys = self.apart(keys)
        cdef cnp.ndarray result = self.new_rows(keys)
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef void *rows = cnp.PyArray_DATA(result)
        self.begin(WRITE, count, &thread)
        status = iam_map_pop_many(self.map, keys_in, count, rows, defaults_in, stride, &missing)
        self.end(True, thread)
        if status == IAM_MISSING:
            raise missing_keys(missing.key, missing.position, missing.count, (<object>keys).shape)
        if status != IAM_OK:
            fail(status, "pop_many")
        return result

    def _contains_many(self, cnp.ndarray keys not None):
        cdef size_t count = self.count_of(keys)
        cdef PyThreadState *thread
        cdef cnp.ndarray result = new_result(BOOL, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef uint8_t *found = <uint8_t *>cnp.PyArray_DATA(result)
        self.begin(READ, count, &thread)
        iam_map_contains_many(self.map, keys_in, count, found)
        self.end(False, thread)
        return result

    def _index_many(self, cnp.ndarray keys not None):
        cdef size_t count = self.count_of(keys)
        cdef PyThreadState *thread
        cdef cnp.ndarray result = new_result(INT64, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef int64_t *numbers = <int64_t *>cnp.PyArray_DATA(result)
        self.begin(READ, count, &thread)
        iam_map_index_many(self.map, keys_in, count, numbers)
        self.end(False, thread)
        return result

    def _delete_many(self, cnp.ndarray keys not None):
        cdef size_t count = self.count_of(keys)
        cdef PyThreadState *thread
        keys = self.apart(keys)
        cdef cnp.ndarray result = new_result(BOOL, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef uint8_t *removed = <uint8_t *>cnp.PyArray_DATA(result)
        self.begin(WRITE, count, &thread)
        iam_map_delete_many(self.map, keys_in, count, removed)
        self.end(True, thread)
        return result

    def _op_defined(self, str op not None):
        """Whether an operation is defined on this map's dtype; KeyError for an unknown one."""
        self.usable()
        return iam_op_defined(<iam_op><int>OPS[op], self.kind)

    def _update_many(self, cnp.ndarray keys not None, cnp.ndarray rows not None, str op not None):
        cdef size_t count = self.count_of(keys)
        cdef size_t stride = self.stride_of(rows, count)
        cdef iam_op code = <iam_op><int>OPS[op]
        cdef iam_status status
        cdef PyThreadState *thread
        if not iam_op_defined(code, self.kind):
            raise TypeError(f"{op!r} is not defined on {self.row_dtype}")
        keys, rows = self.apart(keys), self.apart(rows)
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef const void *rows_in = cnp.PyArray_DATA(rows)
        self.begin(WRITE, count, &thread)
        status = iam_map_update_many(self.map, keys_in, count, rows_in, stride, code)
        self.end(True, thread)
        if status != IAM_OK:
            fail_batch(status, keys, op)

    def _add_at(self, cnp.ndarray keys not None, cnp.ndarray items not None, cnp.ndarray values not None):
        """items, values: exact arrays of shape S or of one item."""
        cdef size_t count = self.count_of(keys)
        cdef size_t item_count = cnp.PyArray_SIZE(items)
        cdef size_t value_count = cnp.PyArray_SIZE(values)
        cdef iam_status status
        cdef PyThreadState *thread
        expect(items, INT64, count if item_count != 1 else 1, False)
        expect(values, self.row_dtype, count if value_count != 1 else 1, False)
        keys, values = self.apart(keys), self.apart(values)
        items = items.copy()  # checked here, so that no other thread can change what was checked
        cdef const int64_t *items_in = <const int64_t *>cnp.PyArray_DATA(items)
        cdef size_t position
        for position in range(item_count):
            if items_in[position] < 0 or <uint64_t>items_in[position] >= self.row_items:
                raise ValueError(f"items[{position}] = {items_in[position]} is outside a row of {self.row_items} items")
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef const void *values_in = cnp.PyArray_DATA(values)
        cdef size_t item_stride = 1 if item_count != 1 else 0  # in items
        cdef size_t value_stride = self.row_bytes // self.row_items if value_count != 1 else 0
        self.begin(WRITE, count, &thread)
        status = iam_map_add_at(self.map, keys_in, count, items_in, item_stride, values_in, value_stride)
        self.end(True, thread)
        if status != IAM_OK:
            fail_batch(status, keys, "add_at")

    def _ensure_many(self, cnp.ndarray keys not None, cnp.ndarray fill not None):
        cdef size_t count = self.count_of(keys)
        cdef iam_status status
        cdef PyThreadState *thread
        expect(fill, self.row_dtype, self.row_items, False)
        keys, fill = self.apart(keys), self.apart(fill)
        cdef cnp.ndarray numbers = new_result(INT64, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef cnp.ndarray created = new_result(BOOL, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef const void *fill_in = cnp.PyArray_DATA(fill)
        cdef int64_t *numbers_out = <int64_t *>cnp.PyArray_DATA(numbers)
        cdef uint8_t *created_out = <uint8_t *>cnp.PyArray_DATA(created)
        self.begin(WRITE, count, &thread)
        status = iam_map_ensure_many(self.map, keys_in, count, fill_in, numbers_out, created_out)
        self.end(True, thread)
        if status != IAM_OK:
            fail_batch(status, keys, "ensure_many")
        return numbers, created

    # -- Blocks

    def _blocks(self):
        """[(first row number, keys, rows, present bitmap)], zero-copy; keys of direct blocks are computed."""
        cdef BlocksToken token = BlocksToken.__new__(BlocksToken)
        cdef iam_block *blocks = NULL
        cdef uint64_t room = 0
        cdef uint64_t keys_room = 0
        cdef uint64_t count, keys_count, at
        cdef bint fits = False
        cdef iam_block block
        try:
            while True:
                self.lock(False)
                count = iam_map_block_count(self.map)
                keys_count = 0
                for at in range(count):
                    iam_map_block(self.map, at, &block)
                    if block.keys == NULL:
                        keys_count += block.row_count
                    if at < room:
                        blocks[at] = block
                fits = count <= room and keys_count <= keys_room
                if fits:
                    keys_count = 0
                    for at in range(count):
                        if blocks[at].keys == NULL:
                            iam_map_block_keys(self.map, &blocks[at], token.computed + keys_count)
                            keys_count += blocks[at].row_count
                    iam_blocks_take(self.map)
                    token.rows = iam_map_rows(self.map)
                self.unlock()
                if fits:
                    break
                room, keys_room = count + 1, keys_count
                free(blocks)
                free(token.computed)
                blocks = <iam_block *>calloc(room, sizeof(iam_block))
                token.computed = <int64_t *>calloc(keys_room, sizeof(int64_t))
                if blocks == NULL or (token.computed == NULL and keys_room != 0):
                    raise MemoryError("blocks: out of memory")
            return self.block_arrays(blocks, count, token)
        finally:
            free(blocks)

    @cython.final
    cdef list block_arrays(self, const iam_block *blocks, uint64_t count, BlocksToken token):
        cdef cnp.npy_intp dims[AXES_MAX]
        cdef uint64_t at
        cdef uint64_t first = 0
        cdef list result = []
        memcpy(&dims[1], self.dims, self.ndim * sizeof(cnp.npy_intp))
        for at in range(count):
            dims[0] = blocks[at].row_count
            rows = array_over(self.row_dtype, 1 + self.ndim, dims, blocks[at].rows, token, not self.is_read_only)
            if blocks[at].keys != NULL:
                keys = array_over(INT64, 1, dims, <void *>blocks[at].keys, token, False)
            else:
                keys = array_over(INT64, 1, dims, token.computed + first, token, False)
                first += blocks[at].row_count
            dims[0] = (blocks[at].row_count + 7) // 8
            present = array_over(UINT8, 1, dims, <void *>blocks[at].present, token, False)
            result.append((blocks[at].first_row, keys, rows, present))
        return result

    # -- Iteration

    def _cursor(self, int what, bint backward):
        """An iterator over keys, values or items, forward or backward."""
        cdef Cursor cursor = Cursor.__new__(Cursor)
        self.lock(False)
        cursor.version = iam_map_version(self.map)
        cursor.epoch = iam_map_epoch(self.map)
        cursor.left = iam_map_count(self.map)
        self.unlock()
        cursor.what = what
        cursor.backward = backward
        cursor.position = <uint64_t>-1 if backward else 0
        cursor.table = self
        return cursor

    def _scan(self):
        """An iterator over (key, view) under Go's rules."""
        cdef Scan scan = Scan.__new__(Scan)
        self.lock(False)
        scan.epoch = iam_map_epoch(self.map)
        iam_scans_take(self.map)
        self.unlock()
        scan.table = self
        return scan


# ---- Iterators ------------------------------------------------------------------------------------------------------

@cython.final
cdef class Cursor:
    """Keys, values or items in row order; any change of the set of keys ends it with RuntimeError."""
    cdef Table table  # None: exhausted
    cdef int what
    cdef bint backward
    cdef uint64_t position, version, epoch, left
    cdef size_t at, filled
    cdef int64_t keys[CHUNK]
    cdef uint32_t rows[CHUNK]

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
        table.lock(False)
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
                status = table.take(token, self.rows[self.at])
            if status == IAM_OK:
                self.at += 1
                self.left -= 1
        table.unlock()
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        if not found:
            self.table = None
            if changed:
                raise RuntimeError("the map changed during iteration")
            raise StopIteration
        if self.what == WALK_KEYS:
            return key
        view = table.view(token, row)
        return view if self.what == WALK_VALUES else (key, view)


@cython.final
@cython.no_gc_clear  # __dealloc__ needs the table
cdef class Scan:
    """(key, view) while the map may change; clear() ends it, compact() is refused while it lives."""
    cdef Table table
    cdef bint is_over
    cdef uint64_t position, epoch

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
        cdef RowToken token = RowToken.__new__(RowToken)
        cdef iam_status status = IAM_OK
        cdef uint64_t position
        cdef int64_t key = 0
        cdef uint32_t number = 0
        cdef void *row = NULL
        cdef bint found = False
        if table is None or self.is_over:
            raise StopIteration
        table.lock(False)
        if iam_map_epoch(table.map) == self.epoch:
            position = self.position
            found = iam_map_walk(table.map, False, &position, 1, &key, &number) == 1
        if found:
            row = iam_map_row(table.map, number)
            status = table.take(token, number)
            if status == IAM_OK:
                self.position = position
        table.unlock()
        if status != IAM_OK:
            fail(status, f"a view of key {key}")
        if not found:
            self.finish()
            raise StopIteration
        return key, table.view(token, row)
