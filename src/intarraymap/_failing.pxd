# _failing.pxd: an allocator for tests whose n-th request fails. Chosen by the private creation option fail_after.
#
# Its state is counted: one for the map's owner and one for every block alive, because copies of the map and storage
# kept by views give blocks back long after the owner is gone.
from libc.stddef cimport size_t

from intarraymap._core cimport iam_allocator


cdef extern from * nogil:
    """
    #include <stdatomic.h>
    #include <stdlib.h>
    #include <string.h>
    #include "intarraymap.h"

    typedef struct failing_state {
        _Atomic long requests_left; /* the request that finds 0 fails and leaves -1: no more failures */
        _Atomic long references;
    } failing_state;

    static inline void failing_drop(failing_state *state)
    {
        if (atomic_fetch_sub(&state->references, 1) == 1)
            free(state);
    }
    static bool failing_grants(failing_state *state)
    {
        long left = atomic_load(&state->requests_left);
        while (left >= 0 && !atomic_compare_exchange_weak(&state->requests_left, &left, left - 1)) {
        }
        return left != 0;
    }
    static void *failing_allocate(void *state, size_t bytes, size_t alignment, bool zeroed)
    {
        void *block = NULL;
        if (!failing_grants(state))
            return NULL;
        if (alignment < sizeof(void *))
            alignment = sizeof(void *);
        if (posix_memalign(&block, alignment, bytes) != 0)
            return NULL;
        if (zeroed)
            memset(block, 0, bytes);
        atomic_fetch_add(&((failing_state *)state)->references, 1);
        return block;
    }
    static void failing_release(void *state, void *block, size_t bytes)
    {
        (void)bytes;
        if (block != NULL) {
            free(block);
            failing_drop(state);
        }
    }
    static bool failing_may(void *state, size_t bytes)
    {
        (void)bytes;
        return failing_grants(state);
    }
    static inline failing_state *failing_create(long fail_after, iam_allocator *allocator_out)
    {
        failing_state *state = malloc(sizeof *state);
        if (state != NULL) {
            atomic_init(&state->requests_left, fail_after);
            atomic_init(&state->references, 1);
            *allocator_out = (iam_allocator){state, failing_allocate, failing_release, failing_may, failing_may};
        }
        return state;
    }
    static inline long failing_set(failing_state *state, long fail_after)
    {
        return atomic_exchange(&state->requests_left, fail_after);
    }
    """
    ctypedef struct failing_state:
        pass
    failing_state *failing_create(long fail_after, iam_allocator *allocator_out)
    # The requests that were left before the failure; -1 when it has happened.
    long failing_set(failing_state *state, long fail_after)
    void failing_drop(failing_state *state)
