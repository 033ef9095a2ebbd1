# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False, always_allow_keywords=True
"""What a producer of Arrow's C interface hands over, as plain Python and NumPy: schemas, and arrays as their buffers.

Above it: columns.py, which makes keys and rows of it. The structs are in _arrow.pxd; the way out is _arrow.pyx.

A struct is moved out of its capsule and released when the last object over it is gone. The numbers in the structs are
checked; pointers can't be: Arrow's interface trusts both sides that far. The producer's code runs without the GIL.
"""
cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from intarraymap._arrow cimport ENOMEM, ArrowArray, ArrowArrayStream, ArrowSchema, metadata_bytes
from intarraymap._exact cimport array_over

import os

import numpy as np

cnp.import_array()

cdef cnp.dtype UINT8 = np.dtype(np.uint8)
cdef int64_t LENGTH_MOST = 1 << 56  # so that no sum or product of a few numbers leaves int64

cdef enum:
    DEPTH_MOST = 64  # schemas inside schemas: a row has at most 63 axes
    CHILDREN_MOST = 1 << 20


# ---- Schemas --------------------------------------------------------------------------------------------------------

cdef tuple describe(const ArrowSchema *schema, int depth):
    """(name, format, metadata as a dict of bytes, children), and whether it is dictionary-encoded."""
    cdef int64_t at
    cdef list children = []
    if schema.release == NULL or schema.format == NULL:
        raise ValueError("the producer handed over a schema that is released or has no format")
    if schema.n_children < 0 or schema.n_children > CHILDREN_MOST or depth > DEPTH_MOST:
        raise ValueError(f"a schema of {schema.n_children} children, {depth} deep")
    for at in range(schema.n_children):
        if schema.children == NULL or schema.children[at] == NULL:
            raise ValueError("the producer handed over a schema without its children")
        children.append(describe(schema.children[at], depth + 1))
    name = "" if schema.name == NULL else (<bytes>schema.name).decode("utf-8", "replace")
    form = (<bytes>schema.format).decode("utf-8", "replace")
    return name, form, metadata(schema.metadata), tuple(children), schema.dictionary != NULL


cdef dict metadata(const char *packed):
    cdef dict found = {}
    cdef int64_t at = sizeof(int32_t)
    cdef int32_t pairs, length
    cdef bytes key = None
    if packed == NULL:
        return found
    if metadata_bytes(packed) < 0:
        raise ValueError("the producer handed over metadata with a negative length")
    memcpy(&pairs, packed, sizeof(int32_t))
    for place in range(2 * <int64_t>pairs):
        memcpy(&length, packed + at, sizeof(int32_t))
        at += sizeof(int32_t)
        text = <bytes>packed[at:at + length]
        at += length
        if place % 2 == 0:
            key = text
        else:
            found[key] = text
    return found


cdef tuple take_schema(ArrowSchema *schema):
    """Described and released."""
    try:
        return describe(schema, 0)
    finally:
        if schema.release != NULL:
            with nogil:
                schema.release(schema)


# ---- Arrays ---------------------------------------------------------------------------------------------------------

@cython.final
cdef class Root:
    """Owns an array of a producer: the base of all NumPy arrays over it."""
    cdef ArrowArray array

    def __dealloc__(self):
        if self.array.release != NULL:
            with nogil:
                self.array.release(&self.array)


cdef ArrowArray NOTHING  # no rows, no children, no buffers


@cython.final
cdef class ArrowData:
    """One array of a producer: its numbers, its children and its buffers."""
    cdef Root root
    cdef const ArrowArray *array

    def __cinit__(self):
        self.array = &NOTHING  # for whoever makes one by hand

    @property
    def length(self):
        return self.array.length

    @property
    def null_count(self):
        """-1: not known."""
        return self.array.null_count

    @property
    def offset(self):
        return self.array.offset

    @property
    def child_count(self):
        return self.array.n_children

    def child(self, int64_t at):
        """One of its children."""
        if at < 0 or at >= self.array.n_children or self.array.children == NULL:
            raise ValueError(f"the producer's array has {self.array.n_children} children, not {at + 1}")
        return data_over(self.root, self.array.children[at])

    def buffer(self, int64_t at, int64_t first, int64_t end):
        """Bytes [first, end) of a buffer as a read-only array; None if there is no such buffer."""
        cdef const char *begin
        cdef cnp.npy_intp dims[1]
        if at < 0 or at >= self.array.n_buffers or self.array.buffers == NULL or self.array.buffers[at] == NULL:
            return None
        if first < 0 or end < first:
            raise ValueError(f"bytes {first} to {end} of a producer's buffer")
        begin = <const char *>self.array.buffers[at] + first
        dims[0] = end - first
        return array_over(UINT8, 1, dims, <void *>begin, self.root, False)


cdef ArrowData data_over(Root root, const ArrowArray *array):
    cdef ArrowData data = ArrowData.__new__(ArrowData)
    if array == NULL or array.length < 0 or array.offset < 0 or array.null_count < -1 or array.n_children < 0:
        raise ValueError("the producer handed over an array with a negative length, offset or count")
    if array.length > LENGTH_MOST or array.offset > LENGTH_MOST:
        raise ValueError(f"the producer handed over an array of length {array.length} at offset {array.offset}")
    data.root = root
    data.array = array
    return data


def take_array(schema_capsule, array_capsule):
    """(schema, ArrowData) of the two capsules of ``__arrow_c_array__``."""
    cdef ArrowSchema *schema = <ArrowSchema *>PyCapsule_GetPointer(schema_capsule, "arrow_schema")
    cdef ArrowArray *array = <ArrowArray *>PyCapsule_GetPointer(array_capsule, "arrow_array")
    cdef Root root = Root.__new__(Root)
    described = take_schema(schema)
    if array.release == NULL:
        raise ValueError("the producer handed over an array that is released")
    root.array = array[0]
    array.release = NULL
    return described, data_over(root, &root.array)


# ---- Streams --------------------------------------------------------------------------------------------------------

@cython.final
cdef class ArrowStream:
    """A producer's stream, moved out of the capsule of ``__arrow_c_stream__``: iterates over its batches."""
    cdef ArrowArrayStream stream

    def __cinit__(self, capsule):
        cdef ArrowArrayStream *given = <ArrowArrayStream *>PyCapsule_GetPointer(capsule, "arrow_array_stream")
        if given.release == NULL:
            raise ValueError("the producer handed over a stream that is released")
        self.stream = given[0]
        given.release = NULL

    def __dealloc__(self):
        if self.stream.release != NULL:
            with nogil:
                self.stream.release(&self.stream)

    def schema(self):
        """(name, format, metadata, children, whether it is dictionary-encoded); children likewise."""
        cdef ArrowSchema schema
        cdef int error
        memset(&schema, 0, sizeof(ArrowSchema))
        with nogil:
            error = self.stream.get_schema(&self.stream, &schema)
        if error != 0:
            blame(self, error)
        return take_schema(&schema)

    def __iter__(self):
        return self

    def __next__(self):
        cdef Root root = Root.__new__(Root)
        cdef int error
        with nogil:
            error = self.stream.get_next(&self.stream, &root.array)
        if error != 0:
            root.array.release = NULL
            blame(self, error)
        if root.array.release == NULL:
            raise StopIteration
        return data_over(root, &root.array)


cdef int blame(ArrowStream producer, int error) except -1:
    cdef const char *text = producer.stream.get_last_error(&producer.stream)
    words = os.strerror(error) if text == NULL else (<bytes>text).decode("utf-8", "replace")
    if error == ENOMEM:
        raise MemoryError(f"the producer of the Arrow stream failed: {words}")
    raise ValueError(f"the producer of the Arrow stream failed: {words}")
