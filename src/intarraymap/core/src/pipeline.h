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

#ifdef INTARRAYMAP_COVERAGE /* a function each, so that a branch is counted once and not for every caller */
#define PIPELINE_INLINE static inline
#else
#define PIPELINE_INLINE static inline __attribute__((always_inline))
#endif
/* Keys between two stages, and a ring that holds three of that (a power of two). bench/native prints the curve: flat
 * from 12 to 24. */
#define PIPELINE_DISTANCE 16
#define PIPELINE_RING 64
static_assert(PIPELINE_RING >= 3 * PIPELINE_DISTANCE + 1, "all that is in flight has its place");
/* Results from this size on are written past the caches (non-temporal stores): nobody could find them there anyway, and
 * a line that is written whole need not be read first. */
#define STREAM_BYTES ((size_t)8 << 20)
/* Memory of a map from which the pipeline pays: about the size of a second-level cache. Below, a plain loop is faster.
 */
#define PIPELINE_BYTES (512u << 10)

/* What a pass over many keys needs of the map, copied out so that it stays in registers: the compiler must suppose that
 * each row written could be the map itself. `flat`: buckets and rows lie in one run each, as they do in a map made at
 * one go. */
typedef struct probe {
    const iam_map *map;
    hash_secret secret;
    uintptr_t buckets, rows;
    uint64_t bucket_count, level;
    size_t row_bytes;
    uint32_t row_limit; /* see table.h */
    bool flat, scalar;
} probe;

/* One read of a caller's key, whatever the compiler would like: another thread may be writing to it, and a key hashed
 * as one number and stored as another would break the index. */
PIPELINE_INLINE int64_t pipeline_read(const int64_t *key)
{
    return *(const volatile int64_t *)key;
}

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

static inline bool pipeline_flat(const iam_map *map)
{
    return map->hash.buckets.low_count == 0 && map->rows->row_store.low_count == 0;
}

/* `flat` and `row_bytes` are constants where the caller can make them so. */
PIPELINE_INLINE probe pipeline_probe(const iam_map *map, bool flat, bool scalar, size_t row_bytes)
{
    return (probe){.map = map,
                   .secret = map->hash.secret,
                   .buckets = map->hash.buckets.high,
                   .rows = map->rows->row_store.high,
                   .bucket_count = map->hash.bucket_count,
                   .level = map->hash.level,
                   .row_bytes = row_bytes,
                   .row_limit = map->hash.row_limit,
                   .flat = flat,
                   .scalar = scalar};
}

PIPELINE_INLINE const bucket *probe_home(const probe *look, uint64_t hash)
{
    uint64_t home = hash & (2 * look->level - 1);
    home -= look->level & -(uint64_t)(home >= look->bucket_count);
    return look->flat ? (const bucket *)(look->buckets + home * sizeof(bucket)) : table_bucket(&look->map->hash, home);
}

PIPELINE_INLINE void *probe_row(const probe *look, uint32_t number)
{
    return look->flat ? (void *)(look->rows + number * look->row_bytes) : rows_at(look->map->rows, number);
}

/* Slots whose tag matches, a bit each; `scalar` without SIMD, which every machine can and tests compare. */
PIPELINE_INLINE uint32_t pipeline_slots(const bucket *home, uint8_t tophash, bool scalar)
{
#if BUCKET_HAS_SIMD
    if (!scalar)
        return bucket_match_simd(home, tophash);
#endif
    (void)scalar;
    return (uint32_t)(((bucket_match_scalar(home, tophash) >> 7) * 0x0102040810204080u) >> 56);
}

PIPELINE_INLINE void pipeline_start(const probe *look, in_flight *flight, int64_t key)
{
    uint64_t hash = hash_key(&look->secret, key);
    const bucket *home = probe_home(look, hash);
    __builtin_prefetch(home, 0, 3);
    flight->home = home;
    flight->key = key;
    flight->tophash = hash_tophash(hash);
}

PIPELINE_INLINE void pipeline_match(const probe *look, in_flight *flight)
{
    const bucket *home = flight->home;
    uint32_t slots = pipeline_slots(home, flight->tophash, look->scalar);
    flight->row = slots;
    const void *next = &home->key[(unsigned)__builtin_ctz(slots | 1u << BUCKET_SLOTS) & (BUCKET_SLOTS - 1)];
    uint32_t link = home->overflow;
    /* One branch, seldom taken: whether a tag matches at all is what nobody can guess when half of the keys are
     * missing. */
    uint32_t beyond = home->filter & bucket_filter_bit(flight->tophash);
    if (UNLIKELY(beyond & -(uint32_t)(slots == 0)) && LIKELY(link - 1 < look->map->hash.overflow_top))
        next = segments_at(&look->map->hash.overflow, link - 1);
    __builtin_prefetch(next, 0, 3);
}

/* The row number, or IAM_ROW_NONE. Branches on purpose: a branch that is guessed right lets the processor go on without
 * waiting for the key; computing the answer without branches took 15 ns instead of 10 at 1e3 keys, and more at half
 * missing too. */
PIPELINE_INLINE uint32_t pipeline_check(const probe *look, const in_flight *flight)
{
    const bucket *home = flight->home;
    uint32_t slots = flight->row;
    unsigned slot = (unsigned)__builtin_ctz(slots | 1u << BUCKET_SLOTS) & (BUCKET_SLOTS - 1);
    if (LIKELY(slots != 0 && home->key[slot] == flight->key)) {
        uint32_t number = bucket_row(home, slot);
        return LIKELY(number < look->row_limit) ? number : IAM_ROW_NONE;
    }
    if (LIKELY((slots & (slots - 1)) == 0 && !bucket_has_beyond(home, flight->tophash)))
        return IAM_ROW_NONE;
    return table_find_hashed(&look->map->hash, home, flight->tophash, flight->key);
}

/* What the caller does with each key: `row` is NULL where it is missing. In order of i. */
typedef void pipeline_visit(void *context, size_t i, int64_t key, uint32_t number, const void *row);

PIPELINE_INLINE void *pipeline_row(const probe *look, uint32_t number)
{
    void *row = probe_row(look, number == IAM_ROW_NONE ? 0 : number);
    return number == IAM_ROW_NONE ? NULL : row;
}

PIPELINE_INLINE void pipeline_hash(const probe *look, const int64_t *keys, size_t count, bool wants_rows,
                                   pipeline_visit *visit, void *context)
{
    in_flight ring[PIPELINE_RING];
    enum { D = PIPELINE_DISTANCE, MASK = PIPELINE_RING - 1 };
    for (size_t i = 0; i < count + 3 * D; i++) {
        if (LIKELY(i < count))
            pipeline_start(look, &ring[i & MASK], pipeline_read(&keys[i]));
        if (LIKELY(i - D < count))
            pipeline_match(look, &ring[(i - D) & MASK]);
        if (LIKELY(i - 2 * D < count)) {
            in_flight *flight = &ring[(i - 2 * D) & MASK];
            flight->row = pipeline_check(look, flight);
            if (!wants_rows) {
                visit(context, i - 2 * D, flight->key, flight->row, NULL);
                continue;
            }
            __builtin_prefetch(pipeline_row(look, flight->row), 0, 3);
        }
        if (wants_rows && LIKELY(i - 3 * D < count)) {
            const in_flight *flight = &ring[(i - 3 * D) & MASK];
            visit(context, i - 3 * D, flight->key, flight->row, pipeline_row(look, flight->row));
        }
    }
}

/* Direct: the row's address comes without a look at memory but the directory, so two stages do. */
PIPELINE_INLINE void pipeline_direct(const probe *look, const int64_t *keys, size_t count, bool wants_rows,
                                     pipeline_visit *visit, void *context)
{
    const direct *index = &look->map->direct;
    const iam_rows *rows = look->map->rows;
    struct {
        int64_t key;
        uint32_t number;
    } ring[PIPELINE_RING];
    enum { D = PIPELINE_DISTANCE, MASK = PIPELINE_RING - 1 };
    for (size_t i = 0; i < count + D; i++) {
        if (LIKELY(i < count)) {
            int64_t key = pipeline_read(&keys[i]);
            uint32_t number = direct_number(index, key);
            ring[i & MASK].key = key;
            ring[i & MASK].number = number;
            if (LIKELY(number != IAM_ROW_NONE)) {
                __builtin_prefetch(rows_word(rows, number), 0, 3);
                if (wants_rows)
                    __builtin_prefetch(probe_row(look, number), 0, 3);
            }
        }
        if (LIKELY(i - D < count)) {
            uint32_t number = ring[(i - D) & MASK].number;
            if (UNLIKELY(number != IAM_ROW_NONE && !rows_present(rows, number)))
                number = IAM_ROW_NONE;
            visit(context, i - D, ring[(i - D) & MASK].key, number, wants_rows ? pipeline_row(look, number) : NULL);
        }
    }
}

/* Small maps: every key by itself. */
PIPELINE_INLINE void pipeline_plain(const probe *look, const int64_t *keys, size_t count, bool wants_rows,
                                    pipeline_visit *visit, void *context)
{
    for (size_t i = 0; i < count; i++) {
        in_flight flight;
        uint64_t hash = hash_key(&look->secret, flight.key = pipeline_read(&keys[i]));
        flight.home = probe_home(look, hash);
        flight.row = pipeline_slots(flight.home, flight.tophash = hash_tophash(hash), look->scalar);
        uint32_t number = pipeline_check(look, &flight);
        visit(context, i, flight.key, number, wants_rows ? pipeline_row(look, number) : NULL);
    }
}

/* Any state, leaving included: by the scalar way. */
PIPELINE_INLINE void pipeline_any(const iam_map *map, const int64_t *keys, size_t count, pipeline_visit *visit,
                                  void *context)
{
    for (size_t i = 0; i < count; i++) {
        int64_t key = pipeline_read(&keys[i]);
        uint32_t number = map_locate(map, key);
        visit(context, i, key, number, number == IAM_ROW_NONE ? NULL : rows_at(map->rows, number));
    }
}

/* Visits all keys in order by whichever way is fastest. The map must not change meanwhile. */
PIPELINE_INLINE void pipeline_run(const probe *look, const int64_t *keys, size_t count, bool wants_rows,
                                  pipeline_visit *visit, void *context)
{
    const iam_map *map = look->map;
    bool pays = pipeline_pays(map);
    /* An empty map may have no bucket to look into and no row whose address could be computed beforehand. */
    map_state state = map->rows->live_count > 0 ? map->state : MAP_LEAVING;
    if (state == MAP_HASH && pays)
        pipeline_hash(look, keys, count, wants_rows, visit, context);
    else if (state == MAP_HASH)
        pipeline_plain(look, keys, count, wants_rows, visit, context);
    else if (state == MAP_DIRECT && pays)
        pipeline_direct(look, keys, count, wants_rows, visit, context);
    else
        pipeline_any(map, keys, count, visit, context);
}

#endif
