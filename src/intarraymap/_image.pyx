# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True, auto_pickle=False, always_allow_keywords=True
"""Maps as files: writing an image to a descriptor, opening one as memory. Paths and atomicity are files.py's.

Above it: files.py. Below it: _owner.pyx, the front header, and _mapped.pxd (write, mmap, SIGBUS).
"""
cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove, memset

from intarraymap._core cimport *
from intarraymap._flag cimport flag_load, flag_store
from intarraymap._mapped cimport (
    mapped_load, mapped_open, mapped_release, mapped_store, mapped_torn, mapped_write,
)
from intarraymap._owner cimport READ, WHOLE_MAP, Owner, PyThreadState, fail

import errno
import os

import numpy as np

cnp.import_array()

cdef enum:
    PIECE_BYTES = 2 << 20  # written at a time, at multiples of it: see MAPPED_HUGE
    VERIFY_BYTES = 16 << 20  # checked between two looks for signals: some milliseconds
    REASON_BYTES = 256

FILL_COUNT = 33  # of fill(): counts 0 .. 32

cdef tuple SCALARS = (
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float32,
    np.float64, np.complex64, np.complex128, np.datetime64, np.timedelta64,
)  # by iam_kind
cdef frozenset TIME_UNITS = frozenset("Y M W D h m s ms us ns ps fs as".split())


# ---- What the header says of arrays ---------------------------------------------------------------------------------

cdef int describe(Owner owner, iam_about *about) except -1:
    memset(about, 0, sizeof(iam_about))
    about.axis_count = <uint32_t>len(owner.shape)
    for axis, length in enumerate(owner.shape):
        about.axes[<size_t>axis] = length
    if owner.kind in (IAM_DATETIME64, IAM_TIMEDELTA64):
        unit, multiple = np.datetime_data(owner.row_dtype)
        about.time_multiple = multiple
        for place, letter in enumerate(unit.encode()):
            about.time_unit[<size_t>place] = letter
    return 0


cdef object dtype_of(const iam_about *about, int kind):
    """The dtype, or None where the header says nonsense."""
    cdef bytes packed = about.time_unit[:8]
    scalar = SCALARS[kind]
    if kind != IAM_DATETIME64 and kind != IAM_TIMEDELTA64:
        return np.dtype(scalar) if about.time_multiple == 0 and packed == bytes(8) else None
    unit = packed.rstrip(b"\0").decode("ascii", "replace")
    if unit not in TIME_UNITS or not 1 <= about.time_multiple < 1 << 31:
        return None
    letter = "M" if kind == IAM_DATETIME64 else "m"
    return np.dtype(f"{letter}8[{about.time_multiple}{unit}]")


# ---- Saving ---------------------------------------------------------------------------------------------------------

@cython.final
cdef class Ticket:
    """What a save in progress says to other threads: how far it is; and what they say to it: stop."""
    cdef uint64_t done
    cdef uint64_t total
    cdef int is_cancelled

    def progress(self):
        """(bytes written, bytes of the whole file: 0 while the index is being built)."""
        return mapped_load(&self.done), mapped_load(&self.total)

    def cancel(self):
        flag_store(&self.is_cancelled, 1)


cdef iam_status write_pieces(const iam_map *map, uint64_t seed, const iam_about *about, int descriptor, char *piece,
                             Ticket ticket, int *errno_out) noexcept nogil:
    """Under the lock, without the GIL."""
    cdef iam_save *save = NULL
    cdef c_bool ready = False
    cdef size_t more = 1
    cdef size_t filled = 0
    cdef size_t piece_bytes
    cdef iam_status status = iam_save_begin(map, seed, about, &save)
    while status == IAM_OK and not ready and not flag_load(&ticket.is_cancelled):
        status = iam_save_prepare(save, &ready)
    if status == IAM_OK and ready:
        mapped_store(&ticket.total, iam_save_bytes(save))
        while (more != 0 or filled != 0) and not flag_load(&ticket.is_cancelled) and errno_out[0] == 0:
            more = iam_save_next(save, piece + filled, PIECE_BYTES + IAM_SAVE_ROOM_LEAST - filled)
            filled += more
            if filled < PIECE_BYTES and more != 0:
                continue
            piece_bytes = filled if filled < PIECE_BYTES else PIECE_BYTES
            errno_out[0] = mapped_write(descriptor, piece, piece_bytes)
            filled -= piece_bytes
            memmove(piece, piece + piece_bytes, filled)
            mapped_store(&ticket.done, ticket.done + piece_bytes)
    iam_save_end(save)
    return status


def write_image(Owner owner not None, int descriptor, uint64_t seed, Ticket ticket not None):
    """Writes the whole image, in the order of its bytes. False: it was cancelled, and what is written is a part."""
    cdef iam_about about
    cdef iam_status status
    cdef PyThreadState *thread
    cdef int error = 0
    cdef char *piece
    describe(owner, &about)
    piece = <char *>malloc(PIECE_BYTES + IAM_SAVE_ROOM_LEAST)
    if piece == NULL:
        raise MemoryError("saving a map: out of memory")
    try:
        owner.begin(READ, WHOLE_MAP, &thread)
        status = write_pieces(owner.map, seed, &about, descriptor, piece, ticket, &error)
        owner.end(READ, thread)
    finally:
        free(piece)
    if status != IAM_OK:
        fail(status, "save")
    if error != 0:
        raise OSError(error, os.strerror(error))
    return not flag_load(&ticket.is_cancelled)


# ---- Opening --------------------------------------------------------------------------------------------------------

cdef object reject(char *reason):
    return ValueError((<bytes>reason).decode("utf-8", "replace"))


cdef object refused(int error):
    if error == errno.ENOMEM:
        return MemoryError("there are no addresses left to map the file to")
    return OSError(error, os.strerror(error))


cdef int verify_all(iam_map *map, const iam_mapping *mapping, bint blocks) except -1:
    """Signals are looked for in between: nobody else knows the map yet."""
    cdef char reason[REASON_BYTES]
    cdef iam_status status = IAM_OK
    cdef uint64_t block = 0
    reason[0] = 0
    while blocks and block != <uint64_t>-1:
        with nogil:
            status = iam_image_verify_blocks(mapping.bytes, &block, VERIFY_BYTES, reason, REASON_BYTES)
        if status != IAM_OK:
            raise reject(reason)
        PyErr_CheckSignals()
    with nogil:
        status = iam_image_verify(map, reason, REASON_BYTES)
    if status != IAM_OK:
        raise reject(reason)
    return 0


def open_image(Owner new not None, int descriptor, uint64_t byte_count, uint64_t seed, bint blocks, bint whole,
               bint writable, bint copied):
    """Makes a new Owner the owner of the map in a file.

    blocks: the checksum of every block is checked; whole: keys and index are. writable: changes stay in this process;
    copied: the map gets memory of its own and an index with a seed of its own, and the file is let go.
    """
    cdef iam_mapping mapping
    cdef iam_about about
    cdef iam_map *map = NULL
    cdef iam_map *copy = NULL
    cdef char reason[REASON_BYTES]
    cdef iam_status status
    cdef int error
    cdef iam_kind kind
    cdef iam_index asked
    cdef const int *torn
    new._refuse_second_init()
    reason[0] = 0
    error = mapped_open(descriptor, byte_count, writable, &mapping)
    if error != 0:
        raise refused(error)
    torn = mapped_torn(&mapping)
    status = iam_image_open(&mapping, seed, &map, &about, reason, REASON_BYTES)
    if status != IAM_OK:
        mapped_release(mapping.state, mapping.bytes, mapping.byte_count)
        if status == IAM_DAMAGED:
            raise reject(reason)
        fail(status, "opening an image")
    try:
        kind, asked = iam_map_kind(map), iam_map_index_asked(map)
        dtype = dtype_of(&about, kind)
        if dtype is None:
            raise ValueError("its rows have a time unit that there is not")
        if whole:
            verify_all(map, &mapping, blocks)
        shape = tuple([about.axes[axis] for axis in range(about.axis_count)])
        if copied:
            with nogil:
                status = iam_map_copy(map, seed, &copy)
        if torn != NULL and flag_load(torn):
            raise OSError("the file became shorter while it was read")
        if status != IAM_OK:
            fail(status, "loading an image")
        if writable:
            status = iam_image_trust(map)
            if status != IAM_OK:
                fail(status, "opening an image")
        if copied:
            iam_map_destroy(map)
            map = copy
            copy = NULL
    except BaseException:
        iam_map_destroy(copy)
        iam_map_destroy(map)
        raise
    is_read_only = not writable and not copied
    new.adopt(map, shape, dtype, kind, asked, NULL, is_read_only, torn if is_read_only else NULL)


def read_info(int descriptor, uint64_t byte_count):
    """What the header says of the file: a dict of counts of bytes; ValueError if it is not an image."""
    cdef iam_mapping mapping
    cdef iam_about about
    cdef iam_image_info info
    cdef iam_map *map = NULL
    cdef char reason[REASON_BYTES]
    cdef iam_status status
    cdef int error = mapped_open(descriptor, byte_count, False, &mapping)
    if error != 0:
        raise refused(error)
    reason[0] = 0
    status = iam_image_open(&mapping, 0, &map, &about, reason, REASON_BYTES)
    if status != IAM_OK:
        mapped_release(mapping.state, mapping.bytes, mapping.byte_count)
        if status == IAM_DAMAGED:
            raise reject(reason)
        fail(status, "opening an image")
    iam_image_info_read(mapping.bytes, &info)
    iam_map_destroy(map)
    return <dict>info


def fill(Owner owner not None):
    """How full the index is: counts[k] = home buckets with k keys (hash), pages with k / 32 of their rows (direct)."""
    cdef uint64_t counts[33]
    cdef PyThreadState *thread
    owner.begin(READ, WHOLE_MAP, &thread)
    iam_map_fill(owner.map, counts, 33)
    owner.end(READ, thread)
    return [counts[place] for place in range(33)]
