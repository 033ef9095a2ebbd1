/* growth.h: evacuation, by which the hash index grows. Floor 2, beside table.h, called by table.c alone. */
#ifndef IAM_GROWTH_H
#define IAM_GROWTH_H

#include "table.h"

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

#endif
