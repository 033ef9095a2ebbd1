# _arrow.pxd: the three structs of the Arrow C data and stream interfaces, written from their specification
# (arrow.apache.org/docs/format/CDataInterface.html), and what _arrow.pyx needs of C to fill them. Seen by it alone.
#
# A hold is what keeps the memory of one record batch alive: buffers of its own, and without a copy the hold of its
# stream on the map's rows. It is counted, because every array of a batch may be moved and released by itself, from any
# thread. Buffers need neither the GIL nor the map nor an interpreter to go. Rows need the GIL for a moment, where there
# is one, because under it views are counted by plain instructions.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from intarraymap._core cimport iam_rows


cdef extern from * nogil:
    """
    #include <errno.h>
    #include <stdbool.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include "intarraymap.h"

    #ifndef ARROW_C_DATA_INTERFACE
    #define ARROW_C_DATA_INTERFACE
    #define ARROW_FLAG_DICTIONARY_ORDERED 1
    #define ARROW_FLAG_NULLABLE 2
    #define ARROW_FLAG_MAP_KEYS_SORTED 4

    struct ArrowSchema {
        const char *format, *name, *metadata;
        int64_t flags, n_children;
        struct ArrowSchema **children, *dictionary;
        void (*release)(struct ArrowSchema *);
        void *private_data;
    };
    struct ArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void **buffers;
        struct ArrowArray **children, *dictionary;
        void (*release)(struct ArrowArray *);
        void *private_data;
    };
    #endif
    #ifndef ARROW_C_STREAM_INTERFACE
    #define ARROW_C_STREAM_INTERFACE
    struct ArrowArrayStream {
        int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
        int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
        const char *(*get_last_error)(struct ArrowArrayStream *);
        void (*release)(struct ArrowArrayStream *);
        void *private_data;
    };
    #endif

    #if PY_VERSION_HEX >= 0x030D0000
    #define arrow_python_ends() Py_IsFinalizing()
    #else
    #define arrow_python_ends() _Py_IsFinalizing()
    #endif

    /* Buffers from here on lie on pages of their own, huge ones where the system has them. */
    #define ARROW_LARGE_BYTES ((size_t)1 << 20)

    typedef struct arrow_hold {
        _Atomic size_t references;
        struct arrow_hold *parent; /* that of the stream, which holds the rows, or NULL */
        iam_rows *rows;            /* a block hold, or NULL */
        struct {
            void *block;
            size_t bytes;
        } owned[3]; /* keys, items, validity, as far as they are copies */
    } arrow_hold;

    static inline arrow_hold *hold_create(void)
    {
        arrow_hold *hold = calloc(1, sizeof *hold);
        if (hold != NULL)
            hold->references = 1;
        return hold;
    }
    static inline void hold_take(arrow_hold *hold) { hold->references++; }
    /* Gives a block hold back, with the GIL in hand. A thread that asks for it while the interpreter ends would never
     * return: the rows are left to the end of the process then. */
    static void rows_let_go(iam_rows *rows)
    {
    #ifdef Py_GIL_DISABLED
        iam_blocks_release(rows);
    #else
        PyGILState_STATE before;
        if (!Py_IsInitialized() || PyGILState_Check()) {
            iam_blocks_release(rows);
            return;
        }
        if (arrow_python_ends())
            return;
        before = PyGILState_Ensure();
        iam_blocks_release(rows);
        PyGILState_Release(before);
    #endif
    }
    static void hold_drop(arrow_hold *hold)
    {
        if (hold == NULL || --hold->references != 0)
            return;
        for (int i = 0; i < 3; i++) {
            if (hold->owned[i].bytes >= ARROW_LARGE_BYTES)
                iam_result_release(hold->owned[i].block, hold->owned[i].bytes);
            else
                free(hold->owned[i].block);
        }
        if (hold->rows != NULL)
            rows_let_go(hold->rows);
        hold_drop(hold->parent);
        free(hold);
    }
    /* Memory that goes with the hold, aligned and padded to the 64 bytes that Arrow recommends; NULL: no memory. */
    static inline void *hold_allocate(arrow_hold *hold, int which, size_t bytes)
    {
        void *block = NULL;
        if (bytes > (SIZE_MAX >> 2))
            return NULL;
        bytes = bytes == 0 ? 64 : (bytes + 63) & ~(size_t)63;
        if (bytes >= ARROW_LARGE_BYTES)
            block = iam_result_allocate(bytes);
        else if (posix_memalign(&block, 64, bytes) != 0)
            block = NULL;
        if (block != NULL) {
            hold->owned[which].block = block;
            hold->owned[which].bytes = bytes;
        }
        return block;
    }

    /* The first position from `begin` on whose bit is not `wanted`, at most `end`. */
    static inline uint64_t bit_run(const uint8_t *bits, uint64_t begin, uint64_t end, bool wanted)
    {
        const uint8_t all = wanted ? 0xFF : 0;
        while (begin < end) {
            if (begin % 8 == 0 && begin + 8 <= end && bits[begin / 8] == all)
                begin += 8;
            else if (((bits[begin / 8] >> (begin % 8)) & 1) == wanted)
                begin++;
            else
                break;
        }
        return begin;
    }
    static inline uint64_t bit_count(const uint8_t *bits, uint64_t count)
    {
        uint64_t sum = 0;
        uint64_t at = 0;
        for (uint64_t word; at + 64 <= count; at += 64) {
            memcpy(&word, bits + at / 8, 8);
            sum += (uint64_t)__builtin_popcountll(word);
        }
        for (; at < count; at++)
            sum += (bits[at / 8] >> (at % 8)) & 1;
        return sum;
    }
    /* count bytes of 0 or 1 into bits, which may be the same memory. */
    static inline void bits_pack(const uint8_t *bools, uint64_t count, uint8_t *bits)
    {
        for (uint64_t at = 0; at < count; at += 8) {
            uint8_t packed = 0;
            for (uint64_t i = 0; i < 8 && at + i < count; i++)
                packed |= (uint8_t)((bools[at + i] != 0) << i);
            bits[at / 8] = packed;
        }
    }
    /* How many of the items are NaT, and a bitmap of those that are not (zeroed before). */
    static inline uint64_t times_missing(const int64_t *times, uint64_t count, uint8_t *valid)
    {
        uint64_t missing = 0;
        for (uint64_t at = 0; at < count; at++) {
            if (times[at] == INT64_MIN)
                missing++;
            else if (valid != NULL)
                valid[at / 8] |= (uint8_t)(1u << (at % 8));
        }
        return missing;
    }
    /* Bytes of a schema's metadata: a count, and pairs of strings with their lengths; -1: they make no sense. */
    static inline int64_t metadata_bytes(const char *metadata)
    {
        int32_t pairs, length;
        int64_t at = sizeof pairs;
        if (metadata == NULL)
            return 0;
        memcpy(&pairs, metadata, sizeof pairs);
        if (pairs < 0)
            return -1;
        for (int64_t i = 0; i < 2 * (int64_t)pairs; i++) {
            memcpy(&length, metadata + at, sizeof length);
            if (length < 0)
                return -1;
            at += (int64_t)sizeof length + length;
        }
        return at;
    }
    """
    const int ENOMEM
    const int64_t ARROW_FLAG_NULLABLE

    ctypedef struct ArrowSchema "struct ArrowSchema":
        const char *format
        const char *name
        const char *metadata
        int64_t flags
        int64_t n_children
        ArrowSchema **children
        ArrowSchema *dictionary
        void (*release)(ArrowSchema *) noexcept nogil
        void *private_data

    ctypedef struct ArrowArray "struct ArrowArray":
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void **buffers
        ArrowArray **children
        ArrowArray *dictionary
        void (*release)(ArrowArray *) noexcept nogil
        void *private_data

    ctypedef struct ArrowArrayStream "struct ArrowArrayStream":
        int (*get_schema)(ArrowArrayStream *, ArrowSchema *out) noexcept nogil
        int (*get_next)(ArrowArrayStream *, ArrowArray *out) noexcept nogil
        const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
        void (*release)(ArrowArrayStream *) noexcept nogil
        void *private_data

    ctypedef struct arrow_hold:
        arrow_hold *parent
        iam_rows *rows
    arrow_hold *hold_create()
    void hold_take(arrow_hold *hold)
    void hold_drop(arrow_hold *hold)
    void *hold_allocate(arrow_hold *hold, int which, size_t bytes)

    uint64_t bit_run(const uint8_t *bits, uint64_t begin, uint64_t end, bint wanted)
    uint64_t bit_count(const uint8_t *bits, uint64_t count)
    void bits_pack(const uint8_t *bools, uint64_t count, uint8_t *bits)
    uint64_t times_missing(const int64_t *times, uint64_t count, uint8_t *valid)
    int64_t metadata_bytes(const char *metadata)
