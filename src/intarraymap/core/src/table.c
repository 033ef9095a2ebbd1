/* table.c: see table.h for the drawing and T1-T4, bucket.h for B1-B2. */
#include "table.h"

#include <stdio.h>

/* Overflow buckets set aside per 16 home buckets when room for all keys is promised. Chance asks for 3.3 to 4.3
 * (growth.c), give or take 0.42 * sqrt(bucket_count): the spare buckets are five times that until the sixteenths are.
 */
#define TABLE_OVERFLOW_SIXTEENTHS 5
#define TABLE_OVERFLOW_SPARE_MOST 48

void table_begin(table *index, hash_secret secret, bool stop_the_world, uint64_t key_count_max)
{
    memset(index, 0, sizeof *index);
    uint64_t bucket_count_max = key_count_max * 2 / TABLE_LOAD_HALVES + 1;
    segments_begin(&index->buckets, sizeof(bucket), bucket_count_max * 5 / 4 + BUCKET_SLOTS, true);
    /* All keys in one chain is what a degenerate hash asks for. */
    segments_begin(&index->overflow, sizeof(bucket), key_count_max / BUCKET_SLOTS + bucket_count_max, true);
    index->row_limit = IAM_ROW_NONE;
    index->chain_limit = UINT32_MAX;
    index->secret = secret;
    index->stop_the_world = stop_the_world;
}

void table_end(table *index, alloc *memory)
{
    segments_end(&index->buckets, memory);
    segments_end(&index->overflow, memory);
    index->bucket_count = index->level = index->key_count = index->grow_at = 0;
    index->overflow_top = index->overflow_count = index->split_count = 0;
    index->overflow_free = BUCKET_NONE;
}

void table_clear(table *index)
{
    for (uint64_t home = 0; home < index->bucket_count; home++)
        memset(table_bucket(index, home), 0, sizeof(bucket));
    for (uint64_t link = 1; link <= index->overflow_top; link++)
        memset(table_overflow_at(index, (uint32_t)link), 0, sizeof(bucket));
    index->key_count = index->overflow_top = index->overflow_count = 0;
    index->overflow_free = BUCKET_NONE;
    index->grow_at = growth_limit(index);
}

/* ---- The overflow pool ------------------------------------------------------------------------------------------ */

bucket *table_overflow_at(const table *index, uint32_t link)
{
    return segments_at(&index->overflow, link - 1);
}

static uint32_t overflow_take(table *index)
{
    uint32_t link = index->overflow_free;
    if (link != BUCKET_NONE) {
        bucket *taken = table_overflow_at(index, link);
        index->overflow_free = taken->overflow;
        memset(taken, 0, sizeof *taken);
    } else {
        CHECK(index->overflow_top < index->overflow.item_count);
        link = (uint32_t)++index->overflow_top;
    }
    index->overflow_count++;
    return link;
}

bucket *table_extend(table *index, bucket *last)
{
    uint32_t link = overflow_take(index);
    last->overflow = link;
    if (UNLIKELY(growth_crowded(index)))
        index->grow_at = 0; /* the append that follows takes the step */
    return table_overflow_at(index, link);
}

void table_overflow_free(table *index, uint32_t link)
{
    bucket *freed = table_overflow_at(index, link);
    memset(freed, 0, sizeof *freed);
    freed->overflow = index->overflow_free;
    index->overflow_free = link;
    index->overflow_count--;
}

bool table_reserve_overflow(table *index, alloc *memory)
{
    return index->overflow_free != BUCKET_NONE || index->overflow_top < index->overflow.item_count ||
           segments_reserve(&index->overflow, memory, index->overflow_top + 1, SEGMENTS_AHEAD);
}

/* ---- Room ------------------------------------------------------------------------------------------------------- */

static bool shape(table *index, alloc *memory, uint64_t bucket_count, segments_how how)
{
    if (!segments_reserve(&index->buckets, memory, bucket_count, how))
        return false;
    index->level = 1;
    while (index->level * 2 <= bucket_count)
        index->level *= 2;
    index->bucket_count = bucket_count;
    index->grow_at = growth_limit(index);
    return true;
}

bool table_reserve_first(table *index, alloc *memory)
{
    return index->bucket_count > 0 || shape(index, memory, 1, SEGMENTS_AHEAD);
}

bool table_reserve(table *index, alloc *memory, uint64_t key_count, segments_how how)
{
    uint64_t bucket_count = (key_count * 2 + TABLE_LOAD_HALVES - 1) / TABLE_LOAD_HALVES;
    uint64_t spare =
        bucket_count / 2 + 2 < TABLE_OVERFLOW_SPARE_MOST ? bucket_count / 2 + 2 : TABLE_OVERFLOW_SPARE_MOST;
    if (!segments_reserve(&index->overflow, memory, bucket_count * TABLE_OVERFLOW_SIXTEENTHS / 16 + spare,
                          how == SEGMENTS_AHEAD ? how : SEGMENTS_EXACT))
        return false;
    if (index->key_count == 0)
        return bucket_count <= index->bucket_count || shape(index, memory, bucket_count, how);
    return growth_finish(index, memory, bucket_count);
}

/* ---- Keys ------------------------------------------------------------------------------------------------------- */

bool table_insert(table *index, alloc *memory, uint64_t hash, int64_t key, uint32_t row)
{
    if (!table_reserve_first(index, memory))
        return false;
    bucket *last = table_bucket(index, table_home(index, hash));
    while (last->overflow != BUCKET_NONE)
        last = table_overflow_at(index, last->overflow);
    if (!table_room(index, memory, last))
        return false;
    table_append(index, memory, last, hash, key, row);
    return true;
}

/* The last slot of the chain moves into the hole: chains stay packed, and deletes leave nothing behind. */
uint32_t table_erase(table *index, uint64_t hash, int64_t key)
{
    if (index->bucket_count == 0)
        return IAM_ROW_NONE;
    uint8_t tophash = hash_tophash(hash);
    bucket *home = table_bucket(index, table_home(index, hash));
    bucket *found = home;
    bucket *before = NULL;
    int slot;
    while ((slot = bucket_find(found, tophash, key)) < 0) {
        if (found->overflow == BUCKET_NONE || !bucket_has_beyond(home, tophash))
            return IAM_ROW_NONE;
        before = found;
        found = table_overflow_at(index, found->overflow);
    }
    uint32_t row = bucket_row(found, (unsigned)slot);
    bucket *last = found;
    while (last->overflow != BUCKET_NONE) {
        before = last;
        last = table_overflow_at(index, last->overflow);
    }
    unsigned end = --last->slot_count;
    bucket_write(found, (unsigned)slot, last->tophash[end], last->key[end], bucket_row(last, end));
    bucket_write(last, end, 0, 0, 0);
    if (end == 0 && before != NULL) {
        uint32_t link = before->overflow;
        before->overflow = BUCKET_NONE;
        if (before == home)
            home->filter = 0;
        table_overflow_free(index, link);
    }
    index->key_count--;
    return row;
}

uint64_t table_longest_chain(const table *index)
{
    uint64_t longest = 0;
    for (uint64_t home = 0; home < index->bucket_count; home++) {
        uint64_t length = 0;
        for (const bucket *link = table_bucket(index, home); link != NULL && length <= index->chain_limit;
             link = table_next_within(index, link))
            length++;
        if (length > longest)
            longest = length;
    }
    return longest;
}

/* ---- Validation -------------------------------------------------------------------------------------------------- */

/* Whether a lookup comes to this slot, and not to another one with the same key before it. */
static bool stands_first(const table *index, uint64_t home, const bucket *link, unsigned slot)
{
    const bucket *found = table_bucket(index, home);
    int found_slot = -1;
    for (uint64_t length = 0; found != NULL && length <= index->chain_limit; length++) {
        found_slot = bucket_find(found, link->tophash[slot], link->key[slot]);
        if (found_slot >= 0 || found == link)
            break;
        found = table_next_within(index, found);
    }
    return found == link && found_slot == (int)slot;
}

static bool bucket_validate(const table *index, const bucket *link, uint64_t home, bool is_home, char *reason,
                            size_t bytes)
{
    if (link->slot_count > BUCKET_SLOTS || (link->slot_count == 0 && !is_home)) {
        snprintf(reason, bytes, "B2: home bucket %llu: a bucket of its chain has %u slots in use",
                 (unsigned long long)home, link->slot_count);
        return false;
    }
    if (link->overflow != BUCKET_NONE && link->slot_count != BUCKET_SLOTS) {
        snprintf(reason, bytes, "B2: home bucket %llu: a bucket before the last of its chain is not full",
                 (unsigned long long)home);
        return false;
    }
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
        if (slot >= link->slot_count) {
            if (link->tophash[slot] == 0)
                continue;
            snprintf(reason, bytes, "B1: home bucket %llu: unused slot %u has a tophash", (unsigned long long)home,
                     slot);
            return false;
        }
        uint64_t hash = hash_key(&index->secret, link->key[slot]);
        if (link->tophash[slot] != hash_tophash(hash)) {
            snprintf(reason, bytes, "B1: key %lld has tophash %u, expected %u", (long long)link->key[slot],
                     link->tophash[slot], hash_tophash(hash));
            return false;
        }
        if (table_home(index, hash) != home) {
            snprintf(reason, bytes, "T1: key %lld stands in bucket %llu, its home is %llu", (long long)link->key[slot],
                     (unsigned long long)home, (unsigned long long)table_home(index, hash));
            return false;
        }
        if (!stands_first(index, home, link, slot)) {
            snprintf(reason, bytes, "T1: key %lld stands twice in the chain of bucket %llu", (long long)link->key[slot],
                     (unsigned long long)home);
            return false;
        }
    }
    return true;
}

bool table_validate(const table *index, char *reason, size_t bytes)
{
    if (!segments_validate(&index->buckets, "buckets", reason, bytes) ||
        !segments_validate(&index->overflow, "overflow buckets", reason, bytes))
        return false;
    if (index->bucket_count == 0 && index->key_count == 0)
        return true;
    if ((index->level & (index->level - 1)) != 0 || index->level > index->bucket_count ||
        index->bucket_count >= 2 * index->level || index->bucket_count > index->buckets.item_count) {
        snprintf(reason, bytes, "T4: level %llu with %llu buckets", (unsigned long long)index->level,
                 (unsigned long long)index->bucket_count);
        return false;
    }
    uint64_t key_count = 0, overflow_count = 0, free_count = 0;
    for (uint64_t home = 0; home < index->bucket_count; home++) {
        const bucket *link = table_bucket(index, home);
        uint64_t length = 0;
        for (bool is_home = true;; is_home = false) {
            if (!bucket_validate(index, link, home, is_home, reason, bytes))
                return false;
            const bucket *first = table_bucket(index, home);
            for (unsigned slot = 0; slot < BUCKET_SLOTS && slot < link->slot_count && !is_home; slot++)
                if (!bucket_has_beyond(first, link->tophash[slot])) {
                    snprintf(reason, bytes, "B3: home bucket %llu: its filter lacks tag %u of an overflow bucket",
                             (unsigned long long)home, link->tophash[slot]);
                    return false;
                }
            key_count += link->slot_count;
            if (link->overflow == BUCKET_NONE)
                break;
            link = table_next_within(index, link);
            if (link == NULL || ++overflow_count > index->overflow_top || ++length > index->chain_limit) {
                snprintf(reason, bytes, "T2: the chain of bucket %llu leaves the pool", (unsigned long long)home);
                return false;
            }
        }
    }
    for (uint32_t link = index->overflow_free; link != BUCKET_NONE; link = table_overflow_at(index, link)->overflow)
        if (link > index->overflow_top || ++free_count > index->overflow_top)
            break;
    if (overflow_count != index->overflow_count || overflow_count + free_count != index->overflow_top) {
        snprintf(reason, bytes, "T2: %llu overflow buckets in chains and %llu free of %llu used, %llu counted",
                 (unsigned long long)overflow_count, (unsigned long long)free_count,
                 (unsigned long long)index->overflow_top, (unsigned long long)index->overflow_count);
        return false;
    }
    if (key_count != index->key_count) {
        snprintf(reason, bytes, "T3: %llu keys in slots, %llu counted", (unsigned long long)key_count,
                 (unsigned long long)index->key_count);
        return false;
    }
    return true;
}
