/* keys.h: the keys of bench/workloads.py in C, and the clock. */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include <stdint.h>
#include <time.h>

enum { ROW_ITEMS = 8, QUERY_COUNT = 1000000 };

static inline int64_t splitmix64(uint64_t number)
{
    uint64_t mixed = (number + 1) * 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return (int64_t)(mixed ^ (mixed >> 31));
}

/* Position of query i of query set s: uniform over count, the same in every language. */
static inline uint64_t query_position(uint64_t s, uint64_t i, uint64_t count)
{
    return (uint64_t)splitmix64((s + 1) * 1000003u * QUERY_COUNT + i) % count;
}

static inline double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

#endif
