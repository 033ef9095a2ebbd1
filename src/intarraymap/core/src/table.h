/* table.h: the hash index: key -> row number. Floor 2; growth.c is the other half of it.
 *
 *   home buckets  [0 ....... split) [split ..... level) [level ... level + split)      bucket_count = level + split
 *                  evacuated: X      not yet evacuated   evacuated: Y
 *   overflow pool [bucket][bucket]...   linked by index + 1, free ones in a list
 *
 * Any bucket count is possible, not only powers of two: the table grows by one bucket at a time (growth.c), so that its
 * load stays at LOAD_FACTOR and its memory at some 24 bytes a key. A key's home is its hash modulo 2 * level, folded
 * back by `level` where that bucket does not exist yet.
 *
 * T1: every key stands in the chain of its home bucket, once.
 * T2: every overflow bucket is in one chain or in the free list.
 * T3: key_count = sum of slots in use.
 * T4: level is a power of two, level <= bucket_count < 2 * level.
 */
#ifndef IAM_TABLE_H
#define IAM_TABLE_H

#include "bucket.h"
#include "hash.h"
#include "segments.h"

/* Keys per home bucket at which it grows: Go's figure (runtime/map.go: 6.5 balances overflow against waste). In halves.
 */
#define TABLE_LOAD_HALVES 13

typedef struct table {
    segments buckets;
    segments overflow;
    hash_secret secret;
    uint64_t bucket_count; /* home buckets in use */
    uint64_t level;        /* power of two: buckets before this doubling */
    uint64_t key_count;
    uint64_t grow_at;        /* more keys than this make it grow: bucket_count * load factor */
    uint64_t overflow_top;   /* pool buckets ever used */
    uint64_t overflow_count; /* pool buckets in chains */
    uint32_t overflow_free;  /* head of the free list: index + 1, linked by `overflow` */
    uint64_t split_count;    /* evacuations of a bucket so far */
    /* What lookups trust links and row numbers with. Only a mapped file can hold others, and only there are these
     * smaller than the largest there are: a lookup gives up then, so that any bytes do no harm. */
    uint32_t row_limit;   /* a row number from here on is none */
    uint32_t chain_limit; /* overflow buckets that a lookup follows */
    bool stop_the_world;
} table;

/* An empty table; allocates nothing before the first reserve. `key_count_max` bounds the address space asked for. */
void table_begin(table *index, hash_secret secret, bool stop_the_world, uint64_t key_count_max);
void table_end(table *index, alloc *memory);
/* Takes all keys out and keeps room and shape. O(buckets). */
void table_clear(table *index);
/* Room for `key_count` keys in all: commits buckets and pool; an empty table takes its final shape at once. `how` as
 * in segments.h. false = out of memory. */
bool table_reserve(table *index, alloc *memory, uint64_t key_count, segments_how how);
/* Row of `key` or IAM_ROW_NONE. Changes nothing. */
static inline uint32_t table_find(const table *index, int64_t key);
static inline uint32_t table_find_hashed(const table *index, const bucket *home, uint8_t tophash, int64_t key);
/* The same, and the last bucket of the chain, where a key that is not there belongs. */
static inline uint32_t table_find_or_last(const table *index, uint64_t hash, int64_t key, bucket **last_out);
/* Room for one more key in that chain: false = out of memory, nothing changed. */
static inline bool table_room(table *index, alloc *memory, const bucket *last);
/* Adds a key known to be absent to the chain that ends in `last`, after table_room, and takes a step of growth if one
 * is due. Cannot fail. */
static inline void table_append(table *index, alloc *memory, bucket *last, uint64_t hash, int64_t key, uint32_t row);
/* table_room and table_append for a key whose chain is yet to be found. false = out of memory. */
bool table_insert(table *index, alloc *memory, uint64_t hash, int64_t key, uint32_t row);
/* Makes an empty table ready for its first key. */
bool table_reserve_first(table *index, alloc *memory);
/* Removes a key; its row, or IAM_ROW_NONE where it was not. Cannot fail. */
uint32_t table_erase(table *index, uint64_t hash, int64_t key);
uint64_t table_longest_chain(const table *index);
/* T1-T4 and B1-B2; false with the reason. Keys against rows is map.c's business. */
bool table_validate(const table *index, char *reason_out, size_t reason_bytes);

/* Hangs an overflow bucket from the pool behind `last`, after table_room. */
bucket *table_extend(table *index, bucket *last);
/* For table.c and growth.c. */
bool table_reserve_overflow(table *index, alloc *memory);
bucket *table_overflow_at(const table *index, uint32_t link);
void table_overflow_free(table *index, uint32_t link);

/* ---- Growth (growth.c) --------------------------------------------------------------------------------------------
 */

/* Keys that the home buckets bear at the load factor. */
static inline uint64_t growth_limit(const table *index)
{
    return index->bucket_count * TABLE_LOAD_HALVES / 2;
}

/* The second trigger: overflow buckets pile up although the load is not at its limit. Overflow buckets per 16 home
 * buckets: by chance alone there are 3.3 at EVEN and up to 4.3 a third into a doubling at full load
 * (tests/core/test_growth.c prints them); 7 is seldom met by chance. However bad the hash, it never grows the table
 * beyond 2 home buckets for 7 keys, as k keys have fewer than k / 8 overflow buckets. */
#define GROWTH_OVERFLOW_SIXTEENTHS 7

static inline bool growth_crowded(const table *index)
{
    return index->overflow_count * 16 > index->bucket_count * GROWTH_OVERFLOW_SIXTEENTHS + 64;
}

/* Evacuates until there are `bucket_count` home buckets; false = out of memory, the table is whole and as large as it
 * got. */
bool growth_finish(table *index, alloc *memory, uint64_t bucket_count);
/* One step of growth for one insertion: evacuates up to GROWTH_SPLITS_PER_WRITE buckets. Needs no memory but the new
 * home bucket; where that cannot be had the table just stays fuller. */
void growth_step(table *index, alloc *memory);

static inline uint64_t table_home(const table *index, uint64_t hash)
{
    uint64_t home = hash & (2 * index->level - 1);
    return home - (index->level & -(uint64_t)(home >= index->bucket_count));
}

static inline bucket *table_bucket(const table *index, uint64_t home)
{
    return segments_at(&index->buckets, home);
}

static inline const bucket *table_next(const table *index, const bucket *link)
{
    return segments_at(&index->overflow, link->overflow - 1);
}

/* The same where nothing is trusted: a mapped file may change at any moment, so the link is read once. NULL: it ends
 * here, or leaves the pool. */
static inline const bucket *table_next_within(const table *index, const bucket *link)
{
    uint32_t place = __atomic_load_n(&link->overflow, __ATOMIC_RELAXED) - 1;
    return place < index->overflow_top ? segments_at(&index->overflow, place) : NULL;
}

static inline uint32_t table_trust_row(const table *index, uint32_t row)
{
    return LIKELY(row < index->row_limit) ? row : IAM_ROW_NONE;
}

static inline uint32_t table_find_hashed(const table *index, const bucket *home, uint8_t tophash, int64_t key)
{
    int slot = bucket_find(home, tophash, key);
    if (slot < 0 && LIKELY(!bucket_has_beyond(home, tophash)))
        return IAM_ROW_NONE;
    for (uint32_t left = index->chain_limit; slot < 0; left--) {
        uint32_t link = home->overflow;
        if (link == BUCKET_NONE || UNLIKELY(link > index->overflow_top || left == 0))
            return IAM_ROW_NONE;
        home = segments_at(&index->overflow, link - 1);
        slot = bucket_find(home, tophash, key);
    }
    return table_trust_row(index, bucket_row(home, (unsigned)slot));
}

static inline uint32_t table_find(const table *index, int64_t key)
{
    if (UNLIKELY(index->bucket_count == 0))
        return IAM_ROW_NONE;
    uint64_t hash = hash_key(&index->secret, key);
    return table_find_hashed(index, table_bucket(index, table_home(index, hash)), hash_tophash(hash), key);
}

static inline uint32_t table_find_or_last(const table *index, uint64_t hash, int64_t key, bucket **last_out)
{
    bucket *link = table_bucket(index, table_home(index, hash));
    uint8_t tophash = hash_tophash(hash);
    for (;;) {
        int slot = bucket_find(link, tophash, key);
        if (slot >= 0)
            return bucket_row(link, (unsigned)slot);
        if (LIKELY(link->overflow == BUCKET_NONE))
            break;
        link = segments_at(&index->overflow, link->overflow - 1);
    }
    *last_out = link;
    return IAM_ROW_NONE;
}

static inline bool table_room(table *index, alloc *memory, const bucket *last)
{
    return LIKELY(last->slot_count < BUCKET_SLOTS) || table_reserve_overflow(index, memory);
}

static inline void table_append(table *index, alloc *memory, bucket *last, uint64_t hash, int64_t key, uint32_t row)
{
    uint8_t tophash = hash_tophash(hash);
    if (UNLIKELY(last->slot_count == BUCKET_SLOTS))
        last = table_extend(index, last);
    bucket *home = table_bucket(index, table_home(index, hash));
    if (UNLIKELY(last != home))
        home->filter |= bucket_filter_bit(tophash);
    bucket_write(last, last->slot_count++, tophash, key, row);
    if (UNLIKELY(++index->key_count > index->grow_at))
        growth_step(index, memory);
}

#endif
