# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False, always_allow_keywords=True
"""The binding's top floor: a Table is a Batch with the hot methods: one key at a time, and iteration.

Above it: mapping.py (IntArrayMap inherits Table: a wrapper would cost three times as much on ``m[k]``). Below it:
_batch.pyx (many keys), _cursor.pyx, _owner.pyx (the lock; how a call goes is written in _owner.pxd), the front header.
"""
cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from intarraymap._batch cimport Batch
from intarraymap._core cimport *
from intarraymap._cursor cimport WALK_ITEMS, WALK_KEYS, WALK_VALUES, cursor_over, scan_over
from intarraymap._exact cimport PyNumber_Index, exact_point, expect, is_exact, key_from, new_array
from intarraymap._owner cimport (
    RowToken, fail, lock, prefetch, prefetch_view, take, unlock, unlock_written, usable, view, writable,
)

from intarraymap import coerce
from intarraymap.errors import shown

cnp.import_array()

KEYS, VALUES, ITEMS = WALK_KEYS, WALK_VALUES, WALK_ITEMS
cdef object RAISE = coerce.RAISE


@cython.no_gc
cdef class Table(Batch):
    """A Batch with the hot methods of IntArrayMap."""

    def __getitem__(self, key):
        """The live, writable, zero-copy view of a key's row, shape ``row_shape``. O(1).

        Raises KeyError(key) if the key is missing, TypeError if it is not an integer, MemoryError if there is no room
        for a view.
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
        writable(self)
        if key_from(key, &number):
            raise OverflowError(f"key {shown(PyNumber_Index(key))} is outside int64")
        exact = exact_row(self, row, number)
        lock(self, True)
        status = iam_map_put(self.map, number, cnp.PyArray_DATA(exact))
        unlock_written(self)
        if status != IAM_OK:
            fail(status, f"key {number}")

    def __delitem__(self, key):
        """Removes a key; its views keep their memory. O(1).

        Raises KeyError(key) if it is missing, TypeError if it is not an integer, ValueError if the map is read-only.
        """
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
        unlock(self)
        return found

    def __len__(self):
        """How many keys are present. O(1)."""
        cdef uint64_t count
        lock(self, False)
        count = iam_map_count(self.map)
        unlock(self)
        return count

    def __iter__(self):
        """The keys as ints, in row order. Adding or deleting keys meanwhile raises RuntimeError at the next step."""
        return cursor_over(self, WALK_KEYS, False)

    def __reversed__(self):
        """The keys as ints, last row first."""
        return cursor_over(self, WALK_KEYS, True)

    def _cursor(self, int what, bint backward):
        """An iterator over keys, values or items, forward or backward."""
        return cursor_over(self, what, backward)

    def _scan(self):
        """An iterator over (key, view) under Go's rules."""
        return scan_over(self)

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
        MemoryError
            If there is no room for a view.

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
        cdef int64_t expected = 0
        cdef int64_t number = 0
        cdef void *row = NULL
        cdef cnp.ndarray copied
        cdef tuple item
        cdef bint is_last
        usable(self)
        writable(self)
        copied = new_array(self.row_dtype, self.ndim, self.dims)
        while True:
            lock(self, False)
            is_last = iam_map_last(self.map, &expected, &row)
            unlock(self)
            if not is_last:
                raise KeyError("popitem(): the map is empty")
            item = (expected, copied)  # before the key goes: nothing may fail after that
            lock(self, True)
            is_last = iam_map_last(self.map, &number, &row) and number == expected
            if is_last:
                memcpy(cnp.PyArray_DATA(copied), row, self.row_bytes)
                iam_map_remove(self.map, number)
            unlock_written(self)
            if is_last:
                return item

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
        cdef cnp.ndarray found
        cdef RowToken token
        usable(self)
        writable(self)
        if key_from(key, &number):
            raise OverflowError(f"key {shown(PyNumber_Index(key))} is outside int64")
        if has_default:
            present = find_view(self, number)
            if present is not None:
                return present
            exact = exact_row(self, default, number)
        token = RowToken.__new__(RowToken)
        found = view(self, token, self.dims)  # before the key comes: nothing may fail after that
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
        exact_point(found, row)
        return found


# ---- Rows -----------------------------------------------------------------------------------------------------------

cdef inline object find_view(Table table, int64_t key):
    """The view of a key's row, or None.

    Its objects are made while the bucket, then the row and its count of views are on their way from memory: a fifth of
    the time in a large map. What was seen before them is only a hint: making objects may run other code.
    """
    cdef RowToken token
    cdef cnp.ndarray ahead = None
    cdef iam_status status = IAM_OK
    cdef uint32_t number = 0
    cdef void *row
    cdef bint is_coming = prefetch(table, key)
    token = RowToken.__new__(RowToken)
    if is_coming and prefetch_view(table, key):
        ahead = view(table, token, table.dims)
    lock(table, False)
    row = iam_map_find(table.map, key, &number)
    if row != NULL:
        status = take(table, token, number)
    unlock(table)
    if row == NULL:
        return None
    if status != IAM_OK:
        fail(status, f"a view of key {key}")
    if ahead is None:
        return view(table, token, row)
    exact_point(ahead, row)
    return ahead


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
