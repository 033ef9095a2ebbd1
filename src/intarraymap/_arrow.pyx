# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False, always_allow_keywords=True
"""A map's rows as an Arrow stream: capsules for whoever reads Arrow's C interface.

Above it: arrow.py, which knows what Arrow calls our dtypes. Below it: _owner.pyx (the lock) and the front header. The
structs and what keeps their memory alive are in _arrow.pxd; the way in is _producer.pyx.

All that a stream gives is made when it is asked for, as one call on the map under its shared lock. From then on it
knows no map and no Python object: its callbacks run and are released anywhere, on any thread, with or without the GIL.
A batch is a block of the map without its absent rows (a copy), or a run of present rows where they lie (zero-copy: its
stream holds the storage as blocks() does).
"""
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset, strlen

from intarraymap._core cimport *
from intarraymap._exact cimport is_exact
from intarraymap._owner cimport READ, WHOLE_MAP, Owner, PyThreadState, lock, unlock

import numpy as np

cnp.import_array()

cdef cnp.dtype INT64 = np.dtype(np.int64)

cdef enum:
    RUNS_FEW = 64  # that many batches are nobody's trouble
    ROWS_PER_RUN = 256  # pyarrow takes a batch in 8 us; to copy as many rows of 64 bytes takes 10 us


# ---- Schemas --------------------------------------------------------------------------------------------------------

# One malloc a node: the struct's own strings and the structs of its children, which are released one by one because a
# consumer may have moved them away.
cdef struct SchemaNode:
    ArrowSchema *children[2]
    ArrowSchema child[2]


cdef void release_schema(ArrowSchema *schema) noexcept nogil:
    cdef int64_t at
    for at in range(schema.n_children):
        if schema.children[at].release != NULL:
            schema.children[at].release(schema.children[at])
    free(schema.private_data)
    schema.release = NULL


cdef int new_schema(ArrowSchema *out, const char *format, const char *name, const char *metadata,
                    int64_t child_count) noexcept nogil:
    """Its children (two at most) are still to be made. 0 or ENOMEM."""
    cdef size_t format_bytes = strlen(format) + 1
    cdef size_t name_bytes = strlen(name) + 1
    cdef size_t note_bytes = metadata_bytes(metadata)
    cdef SchemaNode *node = <SchemaNode *>calloc(1, sizeof(SchemaNode) + format_bytes + name_bytes + note_bytes)
    cdef char *text = <char *>(node + 1)
    cdef int64_t at
    memset(out, 0, sizeof(ArrowSchema))
    if node == NULL:
        return ENOMEM
    memcpy(text, format, format_bytes)
    out.format = text
    memcpy(text + format_bytes, name, name_bytes)
    out.name = text + format_bytes
    if metadata != NULL:
        memcpy(text + format_bytes + name_bytes, metadata, note_bytes)
        out.metadata = text + format_bytes + name_bytes
    for at in range(child_count):
        node.children[at] = &node.child[at]
    out.flags = ARROW_FLAG_NULLABLE
    out.n_children = child_count
    out.children = node.children if child_count != 0 else NULL
    out.release = release_schema
    out.private_data = node
    return 0


cdef int copy_schema(const ArrowSchema *schema, ArrowSchema *out) noexcept nogil:
    """One of ours. 0, or ENOMEM and nothing is left."""
    cdef int64_t at
    if new_schema(out, schema.format, schema.name, schema.metadata, schema.n_children) != 0:
        return ENOMEM
    for at in range(schema.n_children):
        if copy_schema(schema.children[at], out.children[at]) != 0:
            release_schema(out)
            return ENOMEM
    return 0


cdef int make_schema(ArrowSchema *out, tuple described) except -1:
    """From (name, format, metadata or None, children), as arrow.py describes it."""
    cdef bytes name, format, metadata
    cdef tuple children
    cdef int64_t at
    name, format, metadata, children = described
    if len(children) > 2:
        raise TypeError("a schema of ours has at most two children")
    if new_schema(out, format, name, NULL if metadata is None else <const char *>metadata, len(children)) != 0:
        raise MemoryError("a schema: out of memory")
    try:
        for at in range(len(children)):
            make_schema(out.children[at], children[at])
    except BaseException:
        release_schema(out)
        raise
    return 0


cdef void destroy_schema_capsule(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:
        schema.release(schema)
    free(schema)


def schema_capsule(tuple described not None):
    """The capsule that ``__arrow_c_schema__`` returns."""
    cdef ArrowSchema *schema = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
    if schema == NULL:
        raise MemoryError("a schema: out of memory")
    try:
        make_schema(schema, described)
        return PyCapsule_New(schema, "arrow_schema", destroy_schema_capsule)
    except BaseException:
        if schema.release != NULL:
            schema.release(schema)
        free(schema)
        raise


def is_schema_capsule(capsule):
    """Whether this is a capsule as ``__arrow_c_schema__`` returns it."""
    return bool(PyCapsule_IsValid(capsule, "arrow_schema"))


# ---- Arrays ---------------------------------------------------------------------------------------------------------

cdef struct ArrayNode:
    arrow_hold *hold
    const void *buffers[2]
    ArrowArray *children[2]
    ArrowArray child[2]


cdef void release_array(ArrowArray *array) noexcept nogil:
    cdef ArrayNode *node = <ArrayNode *>array.private_data
    cdef int64_t at
    for at in range(array.n_children):
        if array.children[at].release != NULL:
            array.children[at].release(array.children[at])
    hold_drop(node.hold)
    free(node)
    array.release = NULL


cdef int new_array(ArrowArray *out, arrow_hold *hold, int64_t length, int64_t buffer_count,
                   int64_t child_count) noexcept nogil:
    cdef ArrayNode *node = <ArrayNode *>calloc(1, sizeof(ArrayNode))
    cdef int64_t at
    memset(out, 0, sizeof(ArrowArray))
    if node == NULL:
        return ENOMEM
    hold_take(hold)
    node.hold = hold
    for at in range(child_count):
        node.children[at] = &node.child[at]
    out.length = length
    out.n_buffers = buffer_count
    out.n_children = child_count
    out.buffers = node.buffers
    out.children = node.children if child_count != 0 else NULL
    out.release = release_array
    out.private_data = node
    return 0


# ---- The stream -----------------------------------------------------------------------------------------------------

cdef struct Batch:
    arrow_hold *hold
    int64_t row_count
    int64_t missing_count  # items that are NaT
    const void *keys
    const void *items
    const void *valid  # bitmap of the items, or NULL


cdef struct Stream:
    ArrowSchema schema
    arrow_hold *rows  # on the storage of the map, or NULL
    Batch *batches
    size_t batch_room
    size_t batch_count
    size_t next
    int64_t row_items
    int64_t part_count  # 2 if an item is complex: a list of two, else 0


cdef int batch_array(const Stream *stream, const Batch *batch, ArrowArray *out) noexcept nogil:
    """struct<key, row: list<item>> over a batch: 0, or ENOMEM and nothing is left."""
    cdef ArrowArray *row
    cdef int64_t item_count = batch.row_count * stream.row_items
    if new_array(out, batch.hold, batch.row_count, 1, 2) != 0:
        return ENOMEM
    row = out.children[1]
    if new_array(out.children[0], batch.hold, batch.row_count, 2, 0) == 0:
        out.children[0].buffers[1] = batch.keys
        if new_array(row, batch.hold, batch.row_count, 1, 1) == 0:
            row = row.children[0]
            if stream.part_count != 0:
                if new_array(row, batch.hold, item_count, 1, 1) != 0:
                    release_array(out)
                    return ENOMEM
                row = row.children[0]
                item_count *= stream.part_count
            if new_array(row, batch.hold, item_count, 2, 0) == 0:
                row.null_count = batch.missing_count
                row.buffers[0] = batch.valid
                row.buffers[1] = batch.items
                return 0
    release_array(out)
    return ENOMEM


cdef int stream_schema(ArrowArrayStream *stream, ArrowSchema *out) noexcept nogil:
    return copy_schema(&(<Stream *>stream.private_data).schema, out)


cdef int stream_next(ArrowArrayStream *stream, ArrowArray *out) noexcept nogil:
    cdef Stream *mine = <Stream *>stream.private_data
    cdef Batch *batch
    if mine.next == mine.batch_count:
        memset(out, 0, sizeof(ArrowArray))  # released: the end of the stream
        return 0
    batch = &mine.batches[mine.next]
    if batch_array(mine, batch, out) != 0:
        return ENOMEM
    mine.next += 1
    hold_drop(batch.hold)  # its memory is the consumer's to let go
    batch.hold = NULL
    return 0


cdef const char *stream_error(ArrowArrayStream *stream) noexcept nogil:
    return "out of memory"  # the only thing that can fail


cdef void drop_stream(Stream *mine) noexcept nogil:
    cdef size_t at
    for at in range(mine.batch_count):
        hold_drop(mine.batches[at].hold)
    hold_drop(mine.rows)
    free(mine.batches)
    if mine.schema.release != NULL:
        mine.schema.release(&mine.schema)
    free(mine)


cdef void release_stream(ArrowArrayStream *stream) noexcept nogil:
    drop_stream(<Stream *>stream.private_data)
    stream.release = NULL


cdef void destroy_stream_capsule(object capsule) noexcept:
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>PyCapsule_GetPointer(capsule, "arrow_array_stream")
    if stream.release != NULL:
        stream.release(stream)
    free(stream)


cdef Stream *new_stream(tuple described, int64_t row_items, int64_t part_count) except NULL:
    cdef Stream *mine = <Stream *>calloc(1, sizeof(Stream))
    if mine == NULL:
        raise MemoryError("an Arrow stream: out of memory")
    mine.row_items = row_items
    mine.part_count = part_count
    try:
        make_schema(&mine.schema, described)
    except BaseException:
        drop_stream(mine)
        raise
    return mine


cdef object stream_capsule(Stream *mine):
    """Takes the stream over, also if it fails."""
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>calloc(1, sizeof(ArrowArrayStream))
    if stream == NULL:
        drop_stream(mine)
        raise MemoryError("an Arrow stream: out of memory")
    stream.get_schema = stream_schema
    stream.get_next = stream_next
    stream.get_last_error = stream_error
    stream.release = release_stream
    stream.private_data = mine
    try:
        return PyCapsule_New(stream, "arrow_array_stream", destroy_stream_capsule)
    except BaseException:
        stream.release(stream)
        free(stream)
        raise


# ---- Rows of a map into batches (under its shared lock, without the GIL) ---------------------------------------------

cdef Batch *next_batch(Stream *mine) noexcept nogil:
    """The next one to be filled, with a hold; it counts at once, so that it goes with the stream. NULL: no memory."""
    cdef Batch *larger
    cdef Batch *batch
    if mine.batch_count == mine.batch_room:
        larger = <Batch *>realloc(mine.batches, (2 * mine.batch_room + 4) * sizeof(Batch))
        if larger == NULL:
            return NULL
        mine.batches = larger
        mine.batch_room = 2 * mine.batch_room + 4
    batch = &mine.batches[mine.batch_count]
    memset(batch, 0, sizeof(Batch))
    batch.hold = hold_create()
    if batch.hold == NULL:
        return NULL
    mine.batch_count += 1
    return batch


cdef int finish_batch(Batch *batch, iam_kind kind, uint64_t item_count) noexcept nogil:
    """NaT is a null in Arrow. 0 or ENOMEM."""
    cdef void *valid
    if kind != IAM_DATETIME64 and kind != IAM_TIMEDELTA64:
        return 0
    batch.missing_count = times_missing(<const int64_t *>batch.items, item_count, NULL)
    if batch.missing_count == 0:
        return 0
    valid = hold_allocate(batch.hold, 2, (item_count + 7) // 8)
    if valid == NULL:
        return ENOMEM
    memset(valid, 0, (item_count + 7) // 8)
    times_missing(<const int64_t *>batch.items, item_count, <uint8_t *>valid)
    batch.valid = valid
    return 0


cdef int copy_block(const iam_map *map, const iam_block *block, size_t row_bytes, iam_kind kind, uint64_t row_items,
                    Stream *mine) noexcept nogil:
    """The present rows of a block as a batch of its own memory."""
    cdef uint64_t begin, end
    cdef uint64_t count = bit_count(block.present, block.row_count)
    cdef uint64_t done = 0
    cdef Batch *batch
    cdef int64_t *keys
    cdef char *rows
    if count == 0:
        return 0
    batch = next_batch(mine)
    if batch == NULL:
        return ENOMEM
    keys = <int64_t *>hold_allocate(batch.hold, 0, sizeof(int64_t) * (count if block.keys != NULL else block.row_count))
    rows = <char *>hold_allocate(batch.hold, 1, count * row_bytes)
    if keys == NULL or rows == NULL:
        return ENOMEM
    if block.keys == NULL:
        iam_map_block_keys(map, block, keys)
    begin = bit_run(block.present, 0, block.row_count, False)
    while begin < block.row_count and done < count:
        end = bit_run(block.present, begin, block.row_count, True)
        if end - begin > count - done:  # a mapped file has changed since the bits were counted
            end = begin + count - done
        memcpy(rows + done * row_bytes, <const char *>block.rows + begin * row_bytes, (end - begin) * row_bytes)
        if block.keys != NULL:
            memcpy(keys + done, block.keys + begin, (end - begin) * sizeof(int64_t))
        elif done != begin:
            memmove(keys + done, keys + begin, (end - begin) * sizeof(int64_t))
        done += end - begin
        begin = bit_run(block.present, end, block.row_count, False)
    if kind == IAM_BOOL:
        bits_pack(<const uint8_t *>rows, done * row_items, <uint8_t *>rows)
    batch.row_count = done
    batch.keys = keys
    batch.items = rows
    return finish_batch(batch, kind, done * row_items)


cdef int show_block(const iam_map *map, const iam_block *block, size_t row_bytes, iam_kind kind, uint64_t row_items,
                    bint is_read_only, Stream *mine) noexcept nogil:
    """Each run of present rows of a block as a batch where it lies.

    Keys are copies, 8 bytes a row, unless the map is read-only: those of a row that is deleted later would become links
    of the list of free rows, and the direct index has none.
    """
    cdef int64_t *computed = NULL
    cdef const int64_t *keys = block.keys
    cdef int64_t *copied
    cdef uint64_t begin, end
    cdef Batch *batch
    cdef int error = 0
    if keys == NULL:
        computed = <int64_t *>malloc(block.row_count * sizeof(int64_t) + 1)
        if computed == NULL:
            return ENOMEM
        iam_map_block_keys(map, block, computed)
        keys = computed
    begin = bit_run(block.present, 0, block.row_count, False)
    while begin < block.row_count and error == 0:
        end = bit_run(block.present, begin, block.row_count, True)
        batch = next_batch(mine)
        if batch == NULL:
            error = ENOMEM
            break
        hold_take(mine.rows)
        batch.hold.parent = mine.rows
        batch.row_count = end - begin
        batch.items = <const char *>block.rows + begin * row_bytes
        batch.keys = keys + begin
        if computed != NULL or not is_read_only:
            copied = <int64_t *>hold_allocate(batch.hold, 0, (end - begin) * sizeof(int64_t))
            if copied == NULL:
                error = ENOMEM
                break
            memcpy(copied, keys + begin, (end - begin) * sizeof(int64_t))
            batch.keys = copied
        error = finish_batch(batch, kind, (end - begin) * row_items)
        begin = bit_run(block.present, end, block.row_count, False)
    free(computed)
    return error


cdef bint is_scattered(const iam_map *map) noexcept nogil:
    """Whether the rows lie in so many runs that a copy is the cheaper way to read them."""
    cdef uint64_t run_count = 0
    cdef uint64_t at, begin, end
    cdef iam_block block
    for at in range(iam_map_block_count(map)):
        iam_map_block(map, at, &block)
        begin = bit_run(block.present, 0, block.row_count, False)
        while begin < block.row_count:
            run_count += 1
            end = bit_run(block.present, begin, block.row_count, True)
            begin = bit_run(block.present, end, block.row_count, False)
    return run_count > RUNS_FEW and run_count > iam_map_count(map) // ROWS_PER_RUN


cdef int fill_stream(const iam_map *map, bint copy, size_t row_bytes, iam_kind kind, uint64_t row_items,
                     bint is_read_only, Stream *mine) noexcept nogil:
    cdef uint64_t block_count = iam_map_block_count(map)
    cdef uint64_t at
    cdef iam_block block
    cdef int error
    for at in range(block_count):
        iam_map_block(map, at, &block)
        if copy:
            error = copy_block(map, &block, row_bytes, kind, row_items, mine)
        else:
            error = show_block(map, &block, row_bytes, kind, row_items, is_read_only, mine)
        if error != 0:
            return error
    return 0


cdef int hold_rows(Owner owner, Stream *mine) except -1:
    """With the GIL: the stream holds the rows that the map has now. clear() may give it others right afterwards."""
    cdef arrow_hold *hold = hold_create()
    if hold == NULL:
        raise MemoryError("an Arrow stream: out of memory")
    try:
        lock(owner, False)
    except BaseException:
        hold_drop(hold)
        raise
    iam_blocks_take(owner.map)
    hold.rows = iam_map_rows(owner.map)
    unlock(owner)
    hold_drop(mine.rows)
    mine.rows = hold
    return 0


def map_stream(Owner owner not None, tuple described not None, bint copy, bint must_show):
    """The capsule that ``__arrow_c_stream__`` returns: a batch for each block (copy) or run of rows (no copy).

    Unless must_show, rows that lie in very many runs are copied all the same.
    """
    cdef PyThreadState *thread
    cdef Stream *mine
    cdef int error = 0
    cdef bint is_same
    if owner.kind == IAM_BOOL and not copy:
        raise BufferError("Arrow packs bool in bits: rows of bool can't be handed over without a copy")
    parts = 2 if owner.kind == IAM_COMPLEX64 or owner.kind == IAM_COMPLEX128 else 0
    mine = new_stream(described, owner.row_items, parts)
    try:
        while True:
            if not copy:
                hold_rows(owner, mine)
            owner.begin(READ, WHOLE_MAP, &thread)
            is_same = mine.rows == NULL or mine.rows.rows == iam_map_rows(owner.map)
            if is_same:
                if not copy and not must_show:
                    copy = is_scattered(owner.map)
                error = fill_stream(owner.map, copy, owner.row_bytes, owner.kind, owner.row_items, owner.is_read_only,
                                    mine)
            owner.end(READ, thread)
            if is_same:
                break
        if error != 0:
            raise MemoryError("an Arrow stream: out of memory")
    except BaseException:
        drop_stream(mine)
        raise
    if copy:
        hold_drop(mine.rows)
        mine.rows = NULL
    return stream_capsule(mine)


def rows_stream(cnp.ndarray keys not None, cnp.ndarray times not None, tuple described not None):
    """The same of exact arrays, as one batch that is a copy: int64 keys (n,) and times of 8 bytes (n, items)."""
    cdef uint64_t count = cnp.PyArray_SIZE(keys)
    cdef uint64_t item_count = cnp.PyArray_SIZE(times)
    cdef Stream *mine = new_stream(described, item_count // count if count != 0 else 1, 0)
    cdef Batch *batch
    cdef void *keys_out
    cdef void *times_out
    cdef int error = 0
    if not (is_exact(keys, INT64) and cnp.PyArray_ISCARRAY_RO(times) and cnp.PyArray_ITEMSIZE(times) == 8):
        drop_stream(mine)
        raise TypeError("expected exact keys and rows of 8 bytes an item")
    if count != 0:
        batch = next_batch(mine)
        error = ENOMEM
        if batch != NULL:
            keys_out = hold_allocate(batch.hold, 0, count * sizeof(int64_t))
            times_out = hold_allocate(batch.hold, 1, item_count * sizeof(int64_t))
            if keys_out != NULL and times_out != NULL:
                memcpy(keys_out, cnp.PyArray_DATA(keys), count * sizeof(int64_t))
                memcpy(times_out, cnp.PyArray_DATA(times), item_count * sizeof(int64_t))
                batch.keys, batch.items, batch.row_count = keys_out, times_out, count
                error = finish_batch(batch, IAM_DATETIME64, item_count)
    if error != 0:
        drop_stream(mine)
        raise MemoryError("an Arrow stream: out of memory")
    return stream_capsule(mine)
