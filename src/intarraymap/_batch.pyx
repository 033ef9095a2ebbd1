# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False, always_allow_keywords=True
"""Many keys at once: a Batch is an Owner with everything that is one crossing for an array of keys, and blocks.

Above it: _binding.pyx, and batches.py, which makes the arguments exact: `keys` is an exact int64 array of any shape S,
rows are exact arrays of S + row_shape or row_shape. Below it: _owner.pyx and the front header.
"""
cimport cython
cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from intarraymap._core cimport *
from intarraymap._exact cimport array_over, expect, new_array
from intarraymap._owner cimport (
    AXES_MAX, READ, TRACE_DOMAIN, WRITE, Owner, PyThreadState, PyTraceMalloc_Track, PyTraceMalloc_Untrack, fail, lock,
    unlock, usable,
)
from intarraymap._result cimport result_give, result_take

import numpy as np

from intarraymap import coerce
from intarraymap.errors import missing_keys

cnp.import_array()

cdef enum:
    LARGE_RESULT_BYTES = 1 << 20  # results from here on come from iam_result_allocate

cdef cnp.dtype INT64 = np.dtype(np.int64)
cdef cnp.dtype BOOL = np.dtype(np.bool_)
cdef cnp.dtype UINT8 = np.dtype(np.uint8)

cdef dict OPS = {
    "set": IAM_SET, "add": IAM_ADD, "sub": IAM_SUB, "mul": IAM_MUL, "min": IAM_MIN, "max": IAM_MAX,
    "and": IAM_AND, "or": IAM_OR, "xor": IAM_XOR,
}


# ---- What keeps memory alive ----------------------------------------------------------------------------------------

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
            result_give(self.block, self.byte_count)


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
    owner.byte_count = byte_count
    owner.block = result_take(&owner.byte_count)
    if owner.block == NULL:
        raise MemoryError(f"a result of {byte_count} bytes: out of memory")
    PyTraceMalloc_Track(TRACE_DOMAIN, <uintptr_t>owner.block, byte_count)
    return array_over(descr, ndim, dims, owner.block, owner, True)


# ---- Batches --------------------------------------------------------------------------------------------------------

@cython.no_gc
cdef class Batch(Owner):
    """An Owner with everything that is done to more than one key."""

    def _is_apart(self, cnp.ndarray out not None, cnp.ndarray keys not None, cnp.ndarray defaults):
        """Whether memory that is to be written to touches neither the map nor what is read. All C-ordered."""
        cdef const char *first = cnp.PyArray_BYTES(out)
        cdef const char *end = first + cnp.PyArray_NBYTES(out)
        cdef bint overlaps
        for read in (keys, defaults):
            if read is not None and cnp.PyArray_BYTES(read) < end and (
                first < cnp.PyArray_BYTES(read) + cnp.PyArray_NBYTES(read)
            ):
                return False
        lock(self, False)
        overlaps = iam_map_overlaps(self.map, first, end - first)
        unlock(self)
        return not overlaps

    def _get_many(self, cnp.ndarray keys not None, cnp.ndarray defaults, cnp.ndarray rows_out, cnp.ndarray found_out):
        """rows_out, found_out: exact arrays or None; returns the rows."""
        cdef size_t count = count_of(self, keys)
        cdef size_t stride = 0
        cdef const void *defaults_in = NULL
        cdef uint8_t *found = NULL
        cdef iam_missing missing
        cdef iam_status status
        cdef PyThreadState *thread
        if defaults is not None:
            stride = stride_of(self, defaults, count)
            defaults_in = cnp.PyArray_DATA(defaults)
        if found_out is not None:
            expect(found_out, BOOL, count, True)
            found = <uint8_t *>cnp.PyArray_DATA(found_out)
        if rows_out is None:
            rows_out = new_rows(self, keys)
        else:
            expect(rows_out, self.row_dtype, count * self.row_items, True)
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef void *rows = cnp.PyArray_DATA(rows_out)
        self.begin(READ, count, &thread)
        status = iam_map_get_many(self.map, keys_in, count, rows, defaults_in, stride, found, &missing)
        self.end(READ, thread)
        if status == IAM_MISSING:
            raise missing_keys(missing.key, missing.position, missing.count, (<object>keys).shape)
        if status != IAM_OK:
            fail(status, "get_many")
        return rows_out

    def _pop_many(self, cnp.ndarray keys not None, cnp.ndarray defaults):
        cdef size_t count = count_of(self, keys)
        cdef size_t stride = 0
        cdef const void *defaults_in = NULL
        cdef iam_missing missing
        cdef iam_status status
        cdef PyThreadState *thread
        if defaults is not None:
            stride = stride_of(self, defaults, count)
            defaults_in = cnp.PyArray_DATA(defaults)
        keys = apart(self, keys)
        cdef cnp.ndarray result = new_rows(self, keys)
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef void *rows = cnp.PyArray_DATA(result)
        self.begin(WRITE, count, &thread)
        status = iam_map_pop_many(self.map, keys_in, count, rows, defaults_in, stride, &missing)
        self.end(WRITE, thread)
        if status == IAM_MISSING:
            raise missing_keys(missing.key, missing.position, missing.count, (<object>keys).shape)
        if status != IAM_OK:
            fail(status, "pop_many")
        return result

    def _contains_many(self, cnp.ndarray keys not None):
        cdef size_t count = count_of(self, keys)
        cdef PyThreadState *thread
        cdef cnp.ndarray result = new_result(BOOL, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef uint8_t *found = <uint8_t *>cnp.PyArray_DATA(result)
        self.begin(READ, count, &thread)
        iam_map_contains_many(self.map, keys_in, count, found)
        self.end(READ, thread)
        return result

    def _index_many(self, cnp.ndarray keys not None):
        cdef size_t count = count_of(self, keys)
        cdef PyThreadState *thread
        cdef cnp.ndarray result = new_result(INT64, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef int64_t *numbers = <int64_t *>cnp.PyArray_DATA(result)
        self.begin(READ, count, &thread)
        iam_map_index_many(self.map, keys_in, count, numbers)
        self.end(READ, thread)
        return result

    def _delete_many(self, cnp.ndarray keys not None):
        cdef size_t count = count_of(self, keys)
        cdef PyThreadState *thread
        keys = apart(self, keys)
        cdef cnp.ndarray result = new_result(BOOL, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef uint8_t *removed = <uint8_t *>cnp.PyArray_DATA(result)
        self.begin(WRITE, count, &thread)
        iam_map_delete_many(self.map, keys_in, count, removed)
        self.end(WRITE, thread)
        return result

    def _op_defined(self, str op not None):
        """Whether an operation is defined on this map's dtype; KeyError for an unknown one."""
        usable(self)
        return iam_op_defined(<iam_op><int>OPS[op], self.kind)

    def _update_many(self, cnp.ndarray keys not None, cnp.ndarray rows not None, str op not None):
        cdef size_t count = count_of(self, keys)
        cdef size_t stride = stride_of(self, rows, count)
        cdef iam_op code = <iam_op><int>OPS[op]
        cdef iam_status status
        cdef PyThreadState *thread
        if not iam_op_defined(code, self.kind):
            raise TypeError(f"{op!r} is not defined on {self.row_dtype}")
        keys, rows = apart(self, keys), apart(self, rows)
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef const void *rows_in = cnp.PyArray_DATA(rows)
        self.begin(WRITE, count, &thread)
        status = iam_map_update_many(self.map, keys_in, count, rows_in, stride, code)
        self.end(WRITE, thread)
        if status != IAM_OK:
            fail_batch(self, status, keys, op)

    def _add_at(self, cnp.ndarray keys not None, cnp.ndarray items not None, cnp.ndarray values not None,
                tuple items_shape not None):
        """items, values: exact arrays of shape S or of one item. items_shape: before they were broadcast to S."""
        cdef size_t count = count_of(self, keys)
        cdef size_t item_count = cnp.PyArray_SIZE(items)
        cdef size_t value_count = cnp.PyArray_SIZE(values)
        cdef iam_status status
        cdef PyThreadState *thread
        expect(items, INT64, count if item_count != 1 else 1, False)
        expect(values, self.row_dtype, count if value_count != 1 else 1, False)
        keys, values = apart(self, keys), apart(self, values)
        items = items.copy()  # checked here, so that no other thread can change what was checked
        cdef const int64_t *items_in = <const int64_t *>cnp.PyArray_DATA(items)
        cdef size_t position
        for position in range(item_count):
            if items_in[position] < 0 or <uint64_t>items_in[position] >= self.row_items:
                place = coerce.item_place(position, (<object>items).shape, items_shape)
                raise ValueError(f"{place} = {items_in[position]} is outside a row of {self.row_items} items")
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef const void *values_in = cnp.PyArray_DATA(values)
        cdef size_t item_stride = 1 if item_count != 1 else 0  # in items
        cdef size_t value_stride = self.row_bytes // self.row_items if value_count != 1 else 0
        self.begin(WRITE, count, &thread)
        status = iam_map_add_at(self.map, keys_in, count, items_in, item_stride, values_in, value_stride)
        self.end(WRITE, thread)
        if status != IAM_OK:
            fail_batch(self, status, keys, "add_at")

    def _ensure_many(self, cnp.ndarray keys not None, cnp.ndarray fill not None):
        cdef size_t count = count_of(self, keys)
        cdef iam_status status
        cdef PyThreadState *thread
        expect(fill, self.row_dtype, self.row_items, False)
        keys, fill = apart(self, keys), apart(self, fill)
        cdef cnp.ndarray numbers = new_result(INT64, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef cnp.ndarray created = new_result(BOOL, cnp.PyArray_NDIM(keys), cnp.PyArray_DIMS(keys))
        cdef tuple both = (numbers, created)  # before the keys come: nothing may fail after that
        cdef const int64_t *keys_in = <const int64_t *>cnp.PyArray_DATA(keys)
        cdef const void *fill_in = cnp.PyArray_DATA(fill)
        cdef int64_t *numbers_out = <int64_t *>cnp.PyArray_DATA(numbers)
        cdef uint8_t *created_out = <uint8_t *>cnp.PyArray_DATA(created)
        self.begin(WRITE, count, &thread)
        status = iam_map_ensure_many(self.map, keys_in, count, fill_in, numbers_out, created_out)
        self.end(WRITE, thread)
        if status != IAM_OK:
            fail_batch(self, status, keys, "ensure_many")
        return both

    # -- The whole map as arrays

    def _to_arrays(self):
        """(keys, rows) in row order, independent."""
        cdef uint64_t room = 0
        cdef uint64_t count
        cdef PyThreadState *thread
        cdef cnp.ndarray keys, rows
        cdef void *keys_out
        cdef void *rows_out
        cdef bint is_whole = True
        lock(self, False)
        count = iam_map_count(self.map)
        unlock(self)
        while True:
            keys = new_like(self, INT64, count, False)
            rows = new_like(self, self.row_dtype, count, True)
            keys_out, rows_out = cnp.PyArray_DATA(keys), cnp.PyArray_DATA(rows)
            room = count
            self.begin(READ, count, &thread)
            count = iam_map_count(self.map)
            if count <= room:
                is_whole = iam_map_export(self.map, <int64_t *>keys_out, rows_out)
            self.end(READ, thread)
            if not is_whole:
                fail(IAM_DAMAGED, "reading all rows")
            if count <= room:
                return (keys, rows) if count == room else (keys[:count].copy(), rows[:count].copy())
            count += count // 64  # keys come faster than we allocate: ask for a little more

    def _merge_itself(self, str op not None):
        """Each row combined with itself. One call: nothing comes between reading and writing."""
        cdef uint64_t room
        cdef uint64_t count
        cdef iam_op code = <iam_op><int>OPS[op]
        cdef iam_status status = IAM_OK
        cdef PyThreadState *thread
        cdef cnp.ndarray keys, rows
        cdef int64_t *keys_out
        cdef void *rows_out
        if not iam_op_defined(code, self.kind):
            raise TypeError(f"{op!r} is not defined on {self.row_dtype}")
        lock(self, False)
        count = iam_map_count(self.map)
        unlock(self)
        while True:
            room = count
            keys = new_like(self, INT64, room, False)
            rows = new_like(self, self.row_dtype, room, True)
            keys_out, rows_out = <int64_t *>cnp.PyArray_DATA(keys), cnp.PyArray_DATA(rows)
            self.begin(WRITE, room, &thread)
            count = iam_map_count(self.map)
            if count <= room:
                if iam_map_export(self.map, keys_out, rows_out):
                    status = iam_map_update_many(self.map, keys_out, count, rows_out, self.row_bytes, code)
                else:
                    status = IAM_DAMAGED
            self.end(WRITE, thread)
            if status != IAM_OK:
                fail(status, "merging a map with itself")
            if count <= room:
                return

    def _snapshot(self):
        """(keys, rows) in row order that nobody will change: read-only storage itself if it is one run, else copies."""
        cdef uint64_t count
        if self.is_read_only:
            blocks = self._blocks()
            lock(self, False)
            count = iam_map_count(self.map)
            unlock(self)
            if len(blocks) == 1:
                _, keys, rows, present = blocks[0]
                bits = np.unpackbits(present, bitorder="little")[:count]
                if len(bits) == count and bits.all():
                    return keys[:count], rows[:count]
        return self._to_arrays()

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
                lock(self, False)
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
                unlock(self)
                if fits:
                    break
                room, keys_room = count + 1, keys_count
                free(blocks)
                free(token.computed)
                blocks = <iam_block *>calloc(room, sizeof(iam_block))
                token.computed = <int64_t *>calloc(keys_room, sizeof(int64_t))
                if blocks == NULL or (token.computed == NULL and keys_room != 0):
                    raise MemoryError("blocks: out of memory")
            return block_arrays(self, blocks, count, token)
        finally:
            free(blocks)


def spread(cnp.ndarray packed not None, cnp.ndarray inside not None, cnp.ndarray out not None):
    """Copies what is in `packed` to the places of `out` that `inside` marks. All exact. Asks for no memory."""
    cdef size_t place
    cdef size_t count = cnp.PyArray_SIZE(inside)
    cdef size_t piece_bytes = <size_t>cnp.PyArray_NBYTES(out) // count if count != 0 else 0
    cdef size_t left = cnp.PyArray_NBYTES(packed)
    cdef const uint8_t *marks = <const uint8_t *>cnp.PyArray_DATA(inside)
    cdef const char *source = cnp.PyArray_BYTES(packed)
    cdef char *target = cnp.PyArray_BYTES(out)
    expect(inside, BOOL, count, False)
    expect(packed, out.descr, cnp.PyArray_SIZE(packed), False)
    expect(out, out.descr, cnp.PyArray_SIZE(out), True)
    for place in range(count):
        if marks[place] and left >= piece_bytes:
            memcpy(target, source, piece_bytes)
            source += piece_bytes
            left -= piece_bytes
        target += piece_bytes


# ---- What the methods share ------------------------------------------------------------------------------------------

cdef cnp.ndarray apart(Batch batch, cnp.ndarray array):
    """The array, or a copy if it touches memory of the map: what a writer reads must not change under it."""
    cdef bint overlaps
    lock(batch, False)
    overlaps = iam_map_overlaps(batch.map, cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
    unlock(batch)
    return array.copy() if overlaps else array


cdef inline size_t count_of(Batch batch, cnp.ndarray keys) except? 0:
    cdef size_t count = cnp.PyArray_SIZE(keys)
    usable(batch)
    expect(keys, INT64, count, False)
    return count


cdef cnp.ndarray new_rows(Batch batch, cnp.ndarray keys):
    """Contents undefined, S + row_shape."""
    cdef cnp.npy_intp dims[AXES_MAX]
    cdef int ndim = cnp.PyArray_NDIM(keys)
    if ndim + batch.ndim > AXES_MAX:
        raise ValueError(f"keys of {ndim} axes and rows of {batch.ndim} are more than NumPy's {AXES_MAX} axes")
    if ndim != 0:  # PyArray_DIMS may be NULL then
        memcpy(dims, cnp.PyArray_DIMS(keys), ndim * sizeof(cnp.npy_intp))
    memcpy(&dims[ndim], batch.dims, batch.ndim * sizeof(cnp.npy_intp))
    return new_result(batch.row_dtype, ndim + batch.ndim, dims)


cdef inline size_t stride_of(Batch batch, cnp.ndarray rows, size_t count) except? 1:
    """0 for one row, row_bytes for a row per key."""
    cdef bint is_one = cnp.PyArray_NDIM(rows) == batch.ndim
    expect(rows, batch.row_dtype, batch.row_items if is_one else count * batch.row_items, False)
    return 0 if is_one else batch.row_bytes


cdef cnp.ndarray new_like(Batch batch, cnp.dtype descr, uint64_t count, bint with_row):
    cdef cnp.npy_intp dims[AXES_MAX]
    dims[0] = count
    if with_row:
        memcpy(&dims[1], batch.dims, batch.ndim * sizeof(cnp.npy_intp))
    return new_result(descr, 1 + (batch.ndim if with_row else 0), dims)


cdef list block_arrays(Batch batch, const iam_block *blocks, uint64_t count, BlocksToken token):
    cdef cnp.npy_intp dims[AXES_MAX]
    cdef uint64_t at
    cdef uint64_t first = 0
    cdef list result = []
    memcpy(&dims[1], batch.dims, batch.ndim * sizeof(cnp.npy_intp))
    for at in range(count):
        dims[0] = blocks[at].row_count
        rows = array_over(batch.row_dtype, 1 + batch.ndim, dims, blocks[at].rows, token, not batch.is_read_only)
        if blocks[at].keys != NULL:
            keys = array_over(INT64, 1, dims, <void *>blocks[at].keys, token, False)
        else:
            keys = array_over(INT64, 1, dims, token.computed + first, token, False)
            first += blocks[at].row_count
        dims[0] = (blocks[at].row_count + 7) // 8
        present = array_over(UINT8, 1, dims, <void *>blocks[at].present, token, False)
        result.append((blocks[at].first_row, keys, rows, present))
    return result


cdef int fail_batch(Owner owner, iam_status status, cnp.ndarray keys, str what) except -1:
    cdef uint64_t position = 0
    cdef int64_t first = 0
    cdef bint found
    if status == IAM_TOO_SPARSE:
        lock(owner, False)
        found = iam_map_walk(owner.map, False, &position, 1, &first, NULL) == 1
        unlock(owner)
        what += ", " + coerce.farthest(keys, first if found else None)
    return fail(status, what)
