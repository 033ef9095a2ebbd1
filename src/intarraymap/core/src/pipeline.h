/* pipeline.h: finding the rows of many keys, so that the memory latency of one is spent on the others. Floor 4: for
 * batch_read.c and batch_write.c.
 *
 *   key i           : hash, prefetch the first line of the home bucket
 *   key i - D       : match the tophash, prefetch the line that holds the candidate's key, or the overflow bucket
 *   key i - 2 D     : check the key, prefetch the row (or what else the caller wants of it)
 *   key i - 3 D     : hand the row to the caller
 *
 * One rolling pass; nothing is kept but a ring of what is in flight. Measured before: rolling beats groups of 32 by
 * 2-38 % and state machines by 14-27 %; keeping the bucket pointer in the ring, not the hash, is worth 2.4 ns a key
 * (DESIGN.md, "Pipeline"). Prefetch does nothing for a pure gather; it pays where a second access depends on the first.
 *
 * The functions are inlined into their few callers with `visit` known, so that it costs no call.
 */
#ifndef IAM_PIPELINE_H
#define IAM_PIPELINE_H

#include "map.h"

#define PIPELINE_INLINE static inline __attribute__((always_inline))
/* Keys between two stages, and a ring that holds three of that (a power of two). bench/native prints the curve: flat
 * from 12 to 24. */
#define PIPELINE_DISTANCE 16
#define PIPELINE_RING 64
static_assert(PIPELINE_RING >= 3 * PIPELINE_DISTANCE + 1, "all that is in flight has its place");
/* Memory of a map from which the pipeline pays: about the size of a second-level cache. Below, a plain loop is faster.
 */
#define PIPELINE_BYTES (512u << 10)

typedef struct in_flight {
    const bucket *home;
    int64_t key;
    uint32_t row; /* slots whose tag matches until the key is checked, then the row number */
    uint8_t tophash;
} in_flight;

static inline bool pipeline_pays(const iam_map *map)
{
    if (map->options.pipeline != IAM_AUTO)
        return map->options.pipeline == IAM_ON;
    return map->rows->live_count * (map->row_bytes + 24) >= PIPELINE_BYTES;
}

PIPELINE_INLINE void pipeline_start(const table *index, in_flight *flight, int64_t key)
{
    uint64_t hash = hash_key(&index->secret, key);
    const bucket *home = table_bucket(index, table_home(index, hash));
    __builtin_prefetch(home, 0, 3);
    flight->home = home;
    flight->key = key;
    flight->tophash = hash_tophash(hash);
}

PIPELINE_INLINE uint32_t pipeline_slots(const bucket *home, uint8_t tophash)
{
#if BUCKET_HAS_SIMD
    return bucket_match_simd(home, tophash);
#else
    return (uint32_t)(((bucket_match_scalar(home, tophash) >> 7) * 0x0102040810204081u) >> 56);
#endif
}

PIPELINE_INLINE void pipeline_match(const table *index, in_flight *flight)
{
    const bucket *home = flight->home;
    uint32_t slots = pipeline_slots(home, flight->tophash);
    flight->row = slots;
    const void *next = &home->key[slots == 0 ? 0 : __builtin_ctz(slots)];
    if (slots == 0 && home->overflow != BUCKET_NONE)
        next = table_next(index, home);
    __builtin_prefetch(next, 0, 3);
}

/* The row number, or IAM_ROW_NONE. */
PIPELINE_INLINE uint32_t pipeline_check(const table *index, const in_flight *flight)
{
    const bucket *home = flight->home;
    uint32_t slots = flight->row;
    unsigned slot = (unsigned)__builtin_ctz(slots | 1u << BUCKET_SLOTS) & (BUCKET_SLOTS - 1);
    bool hit = slots != 0 && home->key[slot] == flight->key;
    if (LIKELY(hit))
        return bucket_row(home, slot);
    if (LIKELY((slots & (slots - 1)) == 0 && home->overflow == BUCKET_NONE))
        return IAM_ROW_NONE;
    return table_find_hashed(index, home, flight->tophash, flight->key);
}

/* What the caller does with each key: `row` is NULL where it is missing. In order of i. */
typedef void pipeline_visit(void *context, size_t i, int64_t key, uint32_t number, void *row);

PIPELINE_INLINE void *pipeline_row(const iam_map *map, uint32_t number)
{
    return number == IAM_ROW_NONE ? NULL : rows_at(map->rows, number);
}

PIPELINE_INLINE void pipeline_hash(const iam_map *map, const int64_t *keys, size_t count, bool wants_rows,
                                   pipeline_visit *visit, void *context)
{
    const table *index = &map->hash;
    in_flight ring[PIPELINE_RING];
    enum { D = PIPELINE_DISTANCE, MASK = PIPELINE_RING - 1 };
    for (size_t i = 0; i < count + 3 * D; i++) {
        if (LIKELY(i < count))
            pipeline_start(index, &ring[i & MASK], keys[i]);
        if (LIKELY(i - D < count))
            pipeline_match(index, &ring[(i - D) & MASK]);
        if (LIKELY(i - 2 * D < count)) {
            in_flight *flight = &ring[(i - 2 * D) & MASK];
            flight->row = pipeline_check(index, flight);
            if (!wants_rows) {
                visit(context, i - 2 * D, flight->key, flight->row, NULL);
                continue;
            }
            if (LIKELY(flight->row != IAM_ROW_NONE))
                __builtin_prefetch(rows_at(map->rows, flight->row), 0, 3);
        }
        if (wants_rows && LIKELY(i - 3 * D < count)) {
            const in_flight *flight = &ring[(i - 3 * D) & MASK];
            visit(context, i - 3 * D, flight->key, flight->row, pipeline_row(map, flight->row));
        }
    }
}

/* Direct: the row's address comes without a look at memory but the directory, so two stages do. */
PIPELINE_INLINE void pipeline_direct(const iam_map *map, const int64_t *keys, size_t count, bool wants_rows,
                                     pipeline_visit *visit, void *context)
{
    const direct *index = &map->direct;
    const iam_rows *rows = map->rows;
    struct {
        int64_t key;
        uint32_t number;
    } ring[PIPELINE_RING];
    enum { D = PIPELINE_DISTANCE, MASK = PIPELINE_RING - 1 };
    for (size_t i = 0; i < count + D; i++) {
        if (LIKELY(i < count)) {
            int64_t key = keys[i];
            uint32_t number = direct_number(index, key);
            ring[i & MASK].key = key;
            ring[i & MASK].number = number;
            if (LIKELY(number != IAM_ROW_NONE)) {
                __builtin_prefetch(rows_word(rows, number), 0, 3);
                if (wants_rows)
                    __builtin_prefetch(rows_at(rows, number), 0, 3);
            }
        }
        if (LIKELY(i - D < count)) {
            uint32_t number = ring[(i - D) & MASK].number;
            if (number != IAM_ROW_NONE && !rows_present(rows, number))
                number = IAM_ROW_NONE;
            visit(context, i - D, ring[(i - D) & MASK].key, number, wants_rows ? pipeline_row(map, number) : NULL);
        }
    }
}

/* Every key by itself: small maps, and maps that are leaving the direct index. */
PIPELINE_INLINE void pipeline_none(const iam_map *map, const int64_t *keys, size_t count, bool wants_rows,
                                   pipeline_visit *visit, void *context)
{
    if (LIKELY(map->state == MAP_HASH && map->hash.bucket_count > 0)) {
        for (size_t i = 0; i < count; i++) {
            in_flight flight;
            uint64_t hash = hash_key(&map->hash.secret, flight.key = keys[i]);
            flight.home = table_bucket(&map->hash, table_home(&map->hash, hash));
            flight.row = pipeline_slots(flight.home, flight.tophash = hash_tophash(hash));
            uint32_t number = pipeline_check(&map->hash, &flight);
            visit(context, i, flight.key, number, wants_rows ? pipeline_row(map, number) : NULL);
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t key = keys[i];
        uint32_t number = map_locate(map, key);
        visit(context, i, key, number, wants_rows ? pipeline_row(map, number) : NULL);
    }
}

/* Visits all keys in order by whichever way is fastest. The map must not change meanwhile. */
PIPELINE_INLINE void pipeline_run(const iam_map *map, const int64_t *keys, size_t count, bool wants_rows,
                                  pipeline_visit *visit, void *context)
{
    if (!pipeline_pays(map) || map->state == MAP_LEAVING || (map->state == MAP_HASH && map->hash.bucket_count == 0))
        pipeline_none(map, keys, count, wants_rows, visit, context);
    else if (map->state == MAP_DIRECT)
        pipeline_direct(map, keys, count, wants_rows, visit, context);
    else
        pipeline_hash(map, keys, count, wants_rows, visit, context);
}

#endif
