/* harness.h: what every C test shares: checks that say where they failed, a failing allocator, a reference map, random
 * numbers, keys for a chosen bucket. */
#ifndef IAM_HARNESS_H
#define IAM_HARNESS_H

#include "hash.h"
#include "intarraymap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One of each in a program, though several of its files include this: weak. */
__attribute__((weak)) _Atomic uint64_t harness_check_count;  /* tests check in threads too */
__attribute__((weak)) _Atomic int64_t harness_refusal_count; /* requests for memory that were refused on purpose */

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        harness_check_count++;                                                                                         \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                                   \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        test();                                                                                                        \
        printf("ok %s\n", #test);                                                                                      \
    } while (0)

static inline int harness_end(void)
{
    printf("%llu checks passed\n", (unsigned long long)atomic_load(&harness_check_count));
    printf("%lld refused requests counted\n", (long long)atomic_load(&harness_refusal_count));
    return 0;
}

/* splitmix64 (Steele, Lea, Flood, 2014): the same numbers everywhere for one seed. */
static inline uint64_t harness_random(uint64_t *state)
{
    uint64_t mixed = (*state += 0x9e3779b97f4a7c15u);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

/* The next key whose hash has `low_bits` under `low_mask` and, unless it is negative, this tophash. Some 256 * low_mask
 * tries. */
static inline int64_t harness_key_for(const hash_secret *secret, uint64_t low_mask, uint64_t low_bits, int tophash,
                                      int64_t *last_tried_io)
{
    for (;;) {
        uint64_t hash = hash_key(secret, ++*last_tried_io);
        if ((hash & low_mask) == low_bits && (tophash < 0 || hash_tophash(hash) == tophash))
            return *last_tried_io;
    }
}

/* ---- An allocator that fails on request and knows what is alive ------------------------------------------------- */

typedef struct failing {
    _Atomic int64_t until_failure; /* requests that still succeed; negative: all do */
    _Atomic int64_t refused;       /* requests that did not */
    _Atomic int64_t alive;         /* blocks */
    _Atomic bool refuses_ranges;   /* no address space is reserved */
    _Atomic bool refuses_once;     /* after one refusal all requests succeed again */
    _Atomic size_t block_most;     /* bytes of the largest block that is granted */
    _Atomic bool has_foreign;      /* blocks come back that were not granted here */
} failing;

#define FAILING_NEVER (-1)

static inline bool failing_grants(failing *state)
{
    int64_t left = atomic_load(&state->until_failure);
    if (left < 0)
        return true;
    if (left == 0) {
        atomic_fetch_add(&state->refused, 1);
        atomic_fetch_add(&harness_refusal_count, 1);
        if (atomic_load(&state->refuses_once))
            atomic_store(&state->until_failure, FAILING_NEVER);
        return false;
    }
    atomic_store(&state->until_failure, left - 1);
    return true;
}

/* What stands behind a block of so many bytes. */
static inline uint64_t failing_mark(size_t bytes)
{
    return (bytes + 1) * 0x9e3779b97f4a7c15u;
}

static inline void *failing_allocate(void *state_in, size_t bytes, size_t alignment, bool zeroed)
{
    failing *state = state_in;
    if (bytes > atomic_load(&state->block_most) || !failing_grants(state))
        return NULL;
    const uint64_t mark = failing_mark(bytes);
    void *block = aligned_alloc(alignment, (bytes + sizeof mark + alignment - 1) / alignment * alignment);
    if (block == NULL)
        return NULL;
    memset(block, zeroed ? 0 : 0xa5, bytes);
    memcpy((char *)block + bytes, &mark, sizeof mark);
    atomic_fetch_add(&state->alive, 1);
    return block;
}

static inline void failing_release(void *state_in, void *block, size_t bytes)
{
    failing *state = state_in;
    uint64_t mark = failing_mark(bytes);
    if (!atomic_load(&state->has_foreign))
        memcpy(&mark, (char *)block + bytes, sizeof mark);
    /* Given back as large as it was asked for, and nothing was written behind it. */
    EXPECT(mark == failing_mark(bytes));
    memset(block, 0x5a, bytes);
    atomic_fetch_sub(&state->alive, 1);
    free(block);
}

static inline bool failing_may(void *state_in, size_t bytes)
{
    (void)bytes;
    return failing_grants(state_in);
}

static inline bool failing_may_reserve(void *state_in, size_t bytes)
{
    (void)bytes;
    return !atomic_load(&((failing *)state_in)->refuses_ranges);
}

static inline iam_allocator failing_allocator(failing *state)
{
    atomic_store(&state->until_failure, FAILING_NEVER);
    atomic_store(&state->refused, 0);
    atomic_store(&state->alive, 0);
    atomic_store(&state->refuses_ranges, false);
    atomic_store(&state->refuses_once, false);
    atomic_store(&state->block_most, SIZE_MAX);
    atomic_store(&state->has_foreign, false);
    return (iam_allocator){state, failing_allocate, failing_release, failing_may_reserve, failing_may};
}

/* ---- A reference: every key in an array, found by looking at all of them through a plain table ------------------ */

#define REFERENCE_PLACES 4096
typedef struct reference_row {
    int64_t key;
    double first;
    struct reference_row *next;
} reference_row;

typedef struct reference {
    reference_row *places[REFERENCE_PLACES];
    uint64_t count;
} reference;

static inline reference_row **reference_place(reference *model, int64_t key)
{
    reference_row **place = &model->places[((uint64_t)key * 0x9e3779b97f4a7c15u) >> 52];
    while (*place != NULL && (*place)->key != key)
        place = &(*place)->next;
    return place;
}

static inline void reference_put(reference *model, int64_t key, double first)
{
    reference_row **place = reference_place(model, key);
    if (*place == NULL) {
        *place = calloc(1, sizeof **place);
        (*place)->key = key;
        model->count++;
    }
    (*place)->first = first;
}

static inline bool reference_remove(reference *model, int64_t key)
{
    reference_row **place = reference_place(model, key);
    if (*place == NULL)
        return false;
    reference_row *gone = *place;
    *place = gone->next;
    free(gone);
    model->count--;
    return true;
}

static inline void reference_clear(reference *model)
{
    for (int place = 0; place < REFERENCE_PLACES; place++)
        while (model->places[place] != NULL)
            reference_remove(model, model->places[place]->key);
}

static inline void harness_validate(const iam_map *map)
{
    char reason[200] = "";
    if (iam_map_validate(map, reason, sizeof reason) != IAM_OK) {
        fprintf(stderr, "invariant broken: %s\n", reason);
        exit(1);
    }
}

/* The map has exactly the reference's keys and rows, and keeps its invariants. */
static inline void reference_compare(reference *model, const iam_map *map)
{
    harness_validate(map);
    EXPECT(iam_map_count(map) == model->count);
    for (int place = 0; place < REFERENCE_PLACES; place++)
        for (reference_row *row = model->places[place]; row != NULL; row = row->next) {
            const double *found = iam_map_find(map, row->key, NULL);
            EXPECT(found != NULL && found[0] == row->first);
        }
}

#endif
