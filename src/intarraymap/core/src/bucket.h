/* bucket.h: one bucket, byte by byte. Floor 1.
 *
 * Eight slots as in Go's map, arranged for the cache line: tags, link, count and half of the slots lie in the first
 * line, so that a hit in slots 0-3 and nearly every miss touch one line only; keys are contiguous across the border.
 *
 *    byte 0        8        12       16             32                 64                 96            112     128
 *         |tophash[8]|overflow|slots  |row 0..3      |key 0..3          |key 4..7          |row 4..7     |spare  |
 *         |------------------------ line 0 -----------------------------|------------------ line 1 --------------|
 *
 * Of the layouts measured (DESIGN.md, "Bucket layouts"; batched hit at 1e6 / 1e7 rows, ns) this one takes 15.3 / 25.2;
 * rows beside tags and keys in the other line 17.8 / 31; the classic Go order with rows inline 27 / 57; groups of 16 as
 * in Swiss tables 25 / 56; five slots in a single line, the best possible, 13.9 / 23.6 without tags.
 *
 * B1: slots [0, slot_count) are in use and have a tophash >= 5, the others have tophash 0.
 * B2: only the last bucket of a chain may be less than full, and only the home bucket may be empty.
 * B3: the home bucket's filter has the bit of every tag that is in its overflow buckets.
 *
 * The slots are counted in a byte, and beside it lies the filter: a bit for each of 16 classes of tags. A fifth of all
 * home buckets has an overflow bucket (with 1.6 keys on average), which a miss would have to look into, at the price of
 * another cache miss and a branch that nobody can guess; the filter spares nine tenths of that.
 */
#ifndef IAM_BUCKET_H
#define IAM_BUCKET_H

#include "check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(IAM_NO_SIMD)
#include <emmintrin.h>
#endif

#define BUCKET_SLOTS 8
/* The mark "no overflow bucket". Zero, so that a page never touched is a row of empty buckets. */
#define BUCKET_NONE 0

typedef struct bucket {
    uint8_t tophash[BUCKET_SLOTS];
    uint32_t overflow; /* index in the overflow pool + 1, or BUCKET_NONE */
    uint8_t slot_count;
    uint8_t unused;
    uint16_t filter; /* of a home bucket: bucket_filter_bit of each tag in its overflow buckets, perhaps of others */
    uint32_t row_low[4];
    int64_t key[BUCKET_SLOTS];
    uint32_t row_high[4];
    uint8_t spare[16];
} bucket;

static_assert(sizeof(bucket) == 128, "two cache lines");
static_assert(offsetof(bucket, overflow) == 8 && offsetof(bucket, slot_count) == 12, "as drawn");
static_assert(offsetof(bucket, filter) == 14, "as drawn");
static_assert(offsetof(bucket, row_low) == 16 && offsetof(bucket, key) == 32, "as drawn");
static_assert(offsetof(bucket, key) + 4 * sizeof(int64_t) == 64, "the border lies between key 3 and key 4");
static_assert(offsetof(bucket, row_high) == 96, "as drawn");

/* Where the number of the row of `slot` stands: row_low[0..3] and row_high[0..3] are 80 bytes apart, so it is
 * arithmetic. */
static inline uint32_t *bucket_row_place(const bucket *home, unsigned slot)
{
    return (uint32_t *)((char *)home + offsetof(bucket, row_low) + slot * 4 +
                        (slot >> 2) * (offsetof(bucket, row_high) - offsetof(bucket, row_low) - 16));
}

static inline uint32_t bucket_row(const bucket *home, unsigned slot)
{
    return *bucket_row_place(home, slot);
}

static inline void bucket_write(bucket *home, unsigned slot, uint8_t tophash, int64_t key, uint32_t row)
{
    home->tophash[slot] = tophash;
    home->key[slot] = key;
    *bucket_row_place(home, slot) = row;
}

static inline uint16_t bucket_filter_bit(uint8_t tophash)
{
    return (uint16_t)(1u << (tophash & 15));
}

/* Whether a key with this tag can be in an overflow bucket of `home`. */
static inline bool bucket_has_beyond(const bucket *home, uint8_t tophash)
{
    return (home->filter & bucket_filter_bit(tophash)) != 0;
}

/* Slots whose tag is `tophash`, without SIMD: bit 8 * slot + 7 of the result is set. Exact: the sum cannot carry into
 * the next byte because the top bits are masked off first. */
static inline uint64_t bucket_match_scalar(const bucket *home, uint8_t tophash)
{
    uint64_t tags;
    memcpy(&tags, home->tophash, sizeof tags);
    const uint64_t low_bits = 0x7f7f7f7f7f7f7f7fu;
    uint64_t differing = tags ^ (0x0101010101010101u * tophash);
    return ~(((differing & low_bits) + low_bits) | differing | low_bits);
}

/* The same as a mask of eight bits by SSE2, the baseline of x86-64. */
#if defined(__SSE2__) && !defined(IAM_NO_SIMD)
#define BUCKET_HAS_SIMD 1
static inline uint32_t bucket_match_simd(const bucket *home, uint8_t tophash)
{
    __m128i tags = _mm_loadl_epi64((const __m128i *)(const void *)home->tophash);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tophash))) & 0xff;
}
#else
#define BUCKET_HAS_SIMD 0
#endif

/* Slot of `key` in this bucket alone, or -1. */
static inline int bucket_find(const bucket *home, uint8_t tophash, int64_t key)
{
#if BUCKET_HAS_SIMD
    for (uint32_t match = bucket_match_simd(home, tophash); match != 0; match &= match - 1) {
        int slot = __builtin_ctz(match);
        if (LIKELY(home->key[slot] == key))
            return slot;
    }
#else
    for (uint64_t match = bucket_match_scalar(home, tophash); match != 0; match &= match - 1) {
        int slot = __builtin_ctzll(match) >> 3;
        if (LIKELY(home->key[slot] == key))
            return slot;
    }
#endif
    return -1;
}

#endif
