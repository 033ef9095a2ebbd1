# _flag.pxd: a map's state (new, ready, closed), the count of forks, how many bytes it has: read on every call, by any
# thread, with no lock.
from libc.stdint cimport uint32_t, uint64_t


cdef extern from * nogil:
    """
    #include <stdbool.h>
    #include <stdint.h>

    static inline int flag_load(const int *flag) { return __atomic_load_n(flag, __ATOMIC_ACQUIRE); }
    static inline void flag_store(int *flag, int state) { __atomic_store_n(flag, state, __ATOMIC_RELEASE); }
    static inline bool flag_move(int *flag, int from, int to)
    {
        return __atomic_compare_exchange_n(flag, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline uint32_t count_load(const uint32_t *count) { return __atomic_load_n(count, __ATOMIC_RELAXED); }
    static inline uint64_t bytes_load(const uint64_t *bytes) { return __atomic_load_n(bytes, __ATOMIC_RELAXED); }
    static inline void bytes_store(uint64_t *bytes, uint64_t count)
    {
        __atomic_store_n(bytes, count, __ATOMIC_RELAXED);
    }
    """
    uint64_t bytes_load(const uint64_t *bytes)
    void bytes_store(uint64_t *bytes, uint64_t count)
    uint32_t count_load(const uint32_t *count)
    int flag_load(const int *flag)
    void flag_store(int *flag, int state)
    # Whether the flag was `before`; it is `after` then.
    bint flag_move(int *flag, int before, int after)
