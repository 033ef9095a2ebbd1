# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, always_allow_keywords=True
"""The lower half of the binding: Table owns a C map, locks it, and has the hot methods: one key at a time.

Above it: _binding.pyx (many keys, the whole map) and _cursor.pyx (iteration). Below it: the front header, _core.pxd.

How every call goes, so that nothing can deadlock and no hostile object can break a map:
 1. arguments become int64 keys and exact arrays (this may run Python code: __index__, __array__ …);
 2. everything the answer needs is allocated, the view's token included;
 3. lock: try, and if that fails release the GIL, wait, look for signals, try again. Then look whether the map has
    been closed meanwhile;
 4. one crossing into the core; big batches release the GIL for it. No Python object is made or dropped here;
 5. unlock; then tracemalloc is told, errors are raised, results are returned.
"""
cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from intarraymap._core cimport *
from intarraymap._exact cimport PyNumber_Index, array_over, expect, is_exact, key_from, new_array
from intarraymap._failing cimport failing_create, failing_drop, failing_state
from intarraymap._flag cimport flag_load, flag_move, flag_store
from intarraymap._gate cimport (
    gate_close, gate_enter, gate_fork_count, gate_install, gate_is_quiet, gate_leave, gate_nap,
    gate_open,
)

import os
from types import GenericAlias

import numpy as np

from intarraymap import coerce

cnp.import_array()

cdef extern from "Python.h":
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *thread) nogil

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
    BIG_KEYS = 256  # a batch above this releases the GIL: giving it away and getting it back costs about 100 ns
    BIG_BYTES = 1 << 18
    WAIT_MILLISECONDS = 50  # how long Ctrl-C may go unseen while another thread holds the lock

cdef object RAISE = coerce.RAISE

cdef dict KINDS = {
    np.bool_: IAM_BOOL,
    np.int8: IAM_INT8, np.int16: IAM_INT16, np.int32: IAM_INT32, np.int64: IAM_INT64,
    np.uint8: IAM_UINT8, np.uint16: IAM_UINT16, np.uint32: IAM_UINT32, np.uint64: IAM_UINT64,
    np.float16: IAM_FLOAT16, np.float32: IAM_FLOAT32, np.float64: IAM_FLOAT64,
    np.complex64: IAM_COMPLEX64, np.complex128: IAM_COMPLEX128,
    np.datetime64: IAM_DATETIME64, np.timedelta64: IAM_TIMEDELTA64,
}
cdef dict INDEXES = {"auto": IAM_INDEX_AUTO, "hash": IAM_INDEX_HASH, "direct": IAM_INDEX_DIRECT}
cdef dict GROWTHS = {None: IAM_GROWTH_STEPS, "steps": IAM_GROWTH_STEPS, "stop": IAM_GROWTH_STOP}
cdef dict SWITCHES = {None: IAM_AUTO, False: IAM_OFF, True: IAM_ON}
cdef dict SIMDS = {
    None: IAM_SIMD_AUTO, "scalar": IAM_SIMD_SCALAR, "baseline": IAM_SIMD_BASELINE, "avx2": IAM_SIMD_AVX2,
}
cdef frozenset OPTIONS = frozenset(
    ["growth", "huge_pages", "pipeline", "reserve", "simd", "hash_and", "hash_or", "fail_after"]
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
    for length in row_shape:
        wanted.row_items *= <uint64_t>length
    wanted.kind = <iam_kind><int>KINDS[(<object>dtype).type]
    wanted.index = <iam_index><int>INDEXES[index]
    if options is None:
        return 0
    if not options.keys() <= OPTIONS:
        raise ValueError(f"unknown creation options: {sorted(options.keys() - OPTIONS)}")
    wanted.growth = <iam_growth><int>GROWTHS[options.get("growth")]
    wanted.huge_pages = <iam_switch><int>SWITCHES[options.get("huge_pages")]
    wanted.pipeline = <iam_switch><int>SWITCHES[options.get("pipeline")]
    wanted.reserve = <iam_switch><int>SWITCHES[options.get("reserve")]
    wanted.simd = <iam_simd><int>SIMDS[options.get("simd")]
    wanted.hash_and = options.get("hash_and", 0)
    wanted.hash_or = options.get("hash_or", 0)
    return 0


# ---- The map --------------------------------------------------------------------------------------------------------

@cython.final
@cython.freelist(64)
cdef class RowToken:
    def __dealloc__(self):
        if self.held.rows != NULL:
            iam_view_release(&self.held)


@cython.no_gc  # its own objects, a dtype and a tuple of ints, are in no cycle
cdef class Table:
    """Owns a C map and has its hot methods. IntArrayMap inherits it, by way of Binding."""

    def __init__(self, tuple row_shape not None, cnp.dtype dtype not None, uint64_t capacity, str index not None,
                 uint64_t seed, dict options):
        cdef iam_options wanted
        cdef iam_map *map = NULL
        cdef failing_state *failing = NULL
        cdef iam_status status
        self._refuse_second_init()
        read_options(&wanted, row_shape, dtype, index, options)
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

    cdef int adopt(self, iam_map *map, tuple shape, cnp.dtype dtype, iam_kind kind, iam_index index_asked,
                   failing_state *failing) except -1:
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
            refuse_second_init()
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
        tell_tracemalloc(self)
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
            refuse_second_init()

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

    # -- The lock, for batches and for other modules

    cdef int require_usable(self) except -1:
        return usable(self)

    cdef int lock_shared(self) except -1:
        return lock(self, False)

    cdef void unlock_shared(self) noexcept:
        iam_map_unlock(self.map, False)

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
            status = iam_map_try_lock(self.map, exclusive, gate_fork_count())
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
        return after_write(self) if purpose != READ else 0

    # -- Views

    cdef iam_status take_row(self, RowToken token, uint32_t number) noexcept:
        return take(self, token, number)

    cdef object view_of(self, RowToken token, void *row):
        return view(self, token, row)

    # -- One key

    def __getitem__(self, key):
        """The live, writable, zero-copy view of a key's row, shape ``row_shape``. O(1).

        Raises KeyError(key) if the key is missing, TypeError if it is not an integer.
        """
        cdef int64_t number = 0
        usable(self)
        if key_from(key, &number):
            raise KeyError(PyNumber_Index(key))
        row = find_view(self, number)
        if row is None:
            raise KeyError(number)
        return row

    def __setitem__(self, key, row):
        """Copies a row (exactly ``row_shape``, or a scalar) in, inserting the key if it is missing. O(1).

        Raises TypeError, ValueError or OverflowError if key or row do not fit (nothing is changed then), MemoryError.
        """
        cdef int64_t number = 0
        cdef cnp.ndarray exact
        cdef iam_status status
        usable(self)
        if key_from(key, &number):
            raise OverflowError(f"key {PyNumber_Index(key)} is outside int64")
        exact = exact_row(self, row, number)
        lock(self, True)
        status = iam_map_put(self.map, number, cnp.PyArray_DATA(exact))
        unlock_written(self)
        if status != IAM_OK:
            fail(status, f"key {number}")

    def __delitem__(self, key):
        """Removes a key; its views keep their memory. O(1). Raises KeyError(key) if it is missing."""
        cdef int64_t number = 0
        cdef iam_status status
        usable(self)
        if key_from(key, &number):
            writable(self)
            raise KeyError(PyNumber_Index(key))
        lock(self, True)
        status = iam_map_remove(self.map, number)
        unlock_written(self)
        if status != IAM_OK:
            raise KeyError(number)

    def __contains__(self, key):
        """Whether the key is present; False for whatever is not an integer. O(1)."""
        cdef int64_t number = 0
        cdef bint found
        usable(self)
        try:
            if key_from(key, &number):
                return False
        except TypeError:
            return False
        lock(self, False)
        found = iam_map_find(self.map, number, NULL) != NULL
        iam_map_unlock(self.map, False)
        return found

    def __len__(self):
        """How many keys are present. O(1)."""
        cdef uint64_t count
        lock(self, False)
        count = iam_map_count(self.map)
        iam_map_unlock(self.map, False)
        return count

    def get(self, key, default=None):
        "get($self, key, default=None)\n--\n\n" """
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
        usable(self)
        if key_from(key, &number):
            return default
        row = find_view(self, number)
        return default if row is None else row

    def pop(self, key, default=RAISE):
        "pop($self, key, default=...)\n--\n\n" """
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
        usable(self)
        is_outside = key_from(key, &number)
        if is_outside:
            writable(self)
        else:
            result = new_array(self.row_dtype, self.ndim, self.dims)
            lock(self, True)
            row = iam_map_find(self.map, number, NULL)
            if row != NULL:
                memcpy(cnp.PyArray_DATA(result), row, self.row_bytes)
                iam_map_remove(self.map, number)
            unlock_written(self)
            if row != NULL:
                return result
        if default is not RAISE:
            return default
        raise KeyError(PyNumber_Index(key) if is_outside else number)

    def popitem(self):
        "popitem($self)\n--\n\n" """
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
        usable(self)
        result = new_array(self.row_dtype, self.ndim, self.dims)
        lock(self, True)
        found = iam_map_last(self.map, &number, &row)
        if found:
            memcpy(cnp.PyArray_DATA(result), row, self.row_bytes)
            iam_map_remove(self.map, number)
        unlock_written(self)
        if not found:
            raise KeyError("popitem(): the map is empty")
        return number, result

    def setdefault(self, key, default=RAISE):
        "setdefault($self, key, default=...)\n--\n\n" """
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
        cdef bint has_default = default is not RAISE
        cdef iam_status status
        cdef cnp.ndarray exact = None
        cdef RowToken token
        usable(self)
        writable(self)
        if key_from(key, &number):
            raise OverflowError(f"key {PyNumber_Index(key)} is outside int64")
        if has_default:
            present = find_view(self, number)
            if present is not None:
                return present
            exact = exact_row(self, default, number)
        token = RowToken.__new__(RowToken)
        lock(self, True)
        status = iam_map_ensure(self.map, number, &row, &row_number, &created)
        if status == IAM_OK:
            status = take(self, token, row_number)
            if created and status != IAM_OK:
                iam_map_remove(self.map, number)
            elif created and has_default:
                memcpy(row, cnp.PyArray_DATA(exact), self.row_bytes)
        unlock_written(self)
        if status != IAM_OK:
            fail(status, f"key {number}")
        return view(self, token, row)


# ---- The lock: rules at the top of this file ------------------------------------------------------------------------

cdef inline int usable(Table table) except -1:
    cdef int state = flag_load(&table.state)
    if state != READY:
        refuse(state)
    return 0


cdef inline int writable(Table table) except -1:
    """Every writer comes by here."""
    if table.is_read_only:
        raise ValueError("the map is read-only")
    return 0


cdef inline int lock(Table table, bint exclusive) except -1:
    """For one key: the GIL stays held while the lock is."""
    cdef iam_status status
    usable(table)
    if exclusive:
        writable(table)
    status = iam_map_try_lock(table.map, exclusive, gate_fork_count())
    while status != IAM_OK:
        wait(table, exclusive, status)
        status = iam_map_try_lock(table.map, exclusive, gate_fork_count())
    if flag_load(&table.state) != READY:
        iam_map_unlock(table.map, exclusive)
        usable(table)
    return 0


cdef int wait(Table table, bint exclusive, iam_status status) except -1:
    """Holding no lock: lets the GIL go until the map's lock seems free, and looks for signals."""
    if status != IAM_LOCKED:
        fail(status, "locking")
    with nogil:
        iam_map_wait(table.map, exclusive, WAIT_MILLISECONDS)
    PyErr_CheckSignals()
    return usable(table)


cdef inline int unlock_written(Table table) except -1:
    table.bytes_now = iam_map_bytes(table.map)
    iam_map_unlock(table.map, True)
    return after_write(table)


cdef void end_crossing(Table table, bint exclusive, PyThreadState *thread) noexcept nogil:
    """Unlocks before it takes the GIL back: nobody waits for the GIL with a lock in hand."""
    if exclusive:
        table.bytes_now = iam_map_bytes(table.map)
    iam_map_unlock(table.map, exclusive)
    if thread != NULL:
        gate_leave()
        PyEval_RestoreThread(thread)


cdef inline int after_write(Table table) except -1:
    if table.bytes_now != table.bytes_told:
        tell_tracemalloc(table)
    if CHECKED and flag_load(&table.state) == READY:
        table._check()
    return 0


cdef int tell_tracemalloc(Table table) except -1:
    table.bytes_told = table.bytes_now
    if PyTraceMalloc_Track(TRACE_DOMAIN, <uintptr_t>table.map, table.bytes_told) == 0:
        table.is_traced = True
    return 0


# ---- Rows -----------------------------------------------------------------------------------------------------------

cdef inline iam_status take(Table table, RowToken token, uint32_t number) noexcept:
    cdef iam_status status = iam_view_take(table.map, number, &token.held)
    if status != IAM_OK:
        token.held.rows = NULL
    return status


cdef inline object view(Table table, RowToken token, void *row):
    return array_over(table.row_dtype, table.ndim, table.dims, row, token, not table.is_read_only)


cdef inline object find_view(Table table, int64_t key):
    """The view of a key's row, or None."""
    cdef RowToken token = RowToken.__new__(RowToken)
    cdef iam_status status = IAM_OK
    cdef uint32_t number = 0
    cdef void *row
    lock(table, False)
    row = iam_map_find(table.map, key, &number)
    if row != NULL:
        status = take(table, token, number)
    iam_map_unlock(table.map, False)
    if row == NULL:
        return None
    if status != IAM_OK:
        fail(status, f"a view of key {key}")
    return view(table, token, row)


cdef cnp.ndarray exact_row(Table table, object row, int64_t key):
    """The row itself if it is exactly what the core reads, else a converted copy. May run Python code."""
    cdef int axis
    if cnp.PyArray_CheckExact(row) and cnp.PyArray_NDIM(row) == table.ndim and is_exact(row, table.row_dtype):
        for axis in range(table.ndim):
            if cnp.PyArray_DIM(row, axis) != table.dims[axis]:
                break
        else:
            return row
    row = coerce.row(row, table.shape, table.row_dtype, f"row of key {key}")
    expect(row, table.row_dtype, table.row_items, False)
    return row
