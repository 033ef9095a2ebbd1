# _result.pxd: memory of large results. One freed block is kept for the next result, because most programs ask for
# results of one size again and again, and fresh pages cost more than the rows in them (5-9 ns a row of 64 bytes).
# While it is kept it is the system's to take back (MADV_FREE). Seen by _batch.pyx alone.
#
# kept_busy guards the slot and is never waited for: whoever finds it taken does without.
cdef extern from * nogil:
    """
    #include <stdatomic.h>
    #include <stddef.h>
    #ifdef __linux__
    #include <sys/mman.h>
    #endif
    #include "intarraymap.h"

    /* Larger blocks are not kept: 64 MiB hold a million rows of 64 bytes. */
    #define RESULT_KEPT_MOST ((size_t)64 << 20)
    #define RESULT_PAGE_BYTES ((size_t)4096)

    static atomic_flag kept_busy = ATOMIC_FLAG_INIT;
    static void *kept_block;
    static size_t kept_bytes;

    /* A block of at least *bytes_io, and what it really has in *bytes_io, to be given back with; NULL: no memory. */
    static void *result_take(size_t *bytes_io)
    {
        size_t bytes = (*bytes_io + RESULT_PAGE_BYTES - 1) / RESULT_PAGE_BYTES * RESULT_PAGE_BYTES;
        void *block = NULL;
        if (!atomic_flag_test_and_set_explicit(&kept_busy, memory_order_acquire)) {
            if (kept_block != NULL && kept_bytes >= bytes && kept_bytes / 2 <= bytes) {
                block = kept_block;
                *bytes_io = kept_bytes;
                kept_block = NULL;
            }
            atomic_flag_clear_explicit(&kept_busy, memory_order_release);
        }
        if (block == NULL)
            block = iam_result_allocate(*bytes_io = bytes);
        return block;
    }

    static void result_give(void *block, size_t bytes)
    {
    #ifdef MADV_FREE
        if (bytes <= RESULT_KEPT_MOST && !atomic_flag_test_and_set_explicit(&kept_busy, memory_order_acquire)) {
            void *before = kept_block;
            size_t before_bytes = kept_bytes;
            madvise(block, bytes, MADV_FREE);
            kept_block = block;
            kept_bytes = bytes;
            atomic_flag_clear_explicit(&kept_busy, memory_order_release);
            block = before;
            bytes = before_bytes;
        }
    #endif
        iam_result_release(block, bytes);
    }
    """
    void *result_take(size_t *bytes_io)
    void result_give(void *block, size_t byte_count)
