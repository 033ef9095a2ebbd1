/* growth.c: evacuation in place, one bucket at a time.
 *
 * The table grows by splitting the bucket at `split` = bucket_count - level: its keys either stay (X) or move to the
 * new bucket split + level (Y), as one more bit of their hash says. No second array, no copy of the table, no moment at
 * which more than two buckets and their chains are touched: linear hashing (Litwin, 1980) with the X and Y of Go's
 * evacuation.
 *
 * States of a table
 *   EMPTY      bucket_count = 0
 *   EVEN       bucket_count = level (split = 0)
 *   GROWING    level < bucket_count < 2 * level
 *   EVEN again at bucket_count = 2 * level, when level doubles
 *
 * States of a home bucket b < level
 *   WHOLE      b >= split: its chain has all keys with hash % level = b
 *   EVACUATED  b <  split: X kept in b, Y in b + level
 * and of b >= level
 *   ABSENT     b >= bucket_count: not yet used
 *   Y          b <  bucket_count
 *
 * A lookup needs no case for any of these: table_home folds the hash back where the Y bucket is ABSENT.
 *
 * No memory is needed for a split. A chain of c buckets holds at most 8 c keys; X and Y need at most c + 1 buckets for
 * them, and the new home bucket is the one more. Each source bucket is copied out before its place is dealt anew.
 */
#include "table.h"

/* Go evacuates up to two buckets per write as well (runtime/map.go, growWork). One split adds room for 6.5 keys, so one
 * in 6.5 insertions splits; the second lets a table catch up where growth had to wait for memory. */
#define GROWTH_SPLITS_PER_WRITE 2

static bool growth_due(const table *index)
{
    return index->key_count > growth_limit(index) || growth_crowded(index);
}

/* Where keys are dealt to: a chain being built from buckets that the source chain gives up. */
typedef struct dealer {
    bucket *home, *last;
    uint32_t link; /* of `last`, BUCKET_NONE for a home bucket */
} dealer;

static void deal(table *index, dealer *chain, uint32_t *spare, uint8_t tophash, int64_t key, uint32_t row)
{
    if (chain->last->slot_count == BUCKET_SLOTS) {
        CHECK(*spare != BUCKET_NONE);
        uint32_t link = *spare;
        bucket *fresh = table_overflow_at(index, link);
        *spare = fresh->overflow;
        memset(fresh, 0, sizeof *fresh);
        chain->last->overflow = link;
        chain->last = fresh;
        chain->link = link;
    }
    if (chain->last != chain->home)
        chain->home->filter |= bucket_filter_bit(tophash);
    bucket_write(chain->last, chain->last->slot_count++, tophash, key, row);
}

/* Splits the next WHOLE bucket. The new home bucket is committed. */
static void evacuate(table *index)
{
    uint64_t from = index->bucket_count - index->level;
    uint64_t evacuation_bit = index->level;
    dealer stay = {.home = table_bucket(index, from)};
    dealer move = {.home = table_bucket(index, index->bucket_count)};
    stay.last = stay.home;
    move.last = move.home;
    uint32_t spare = BUCKET_NONE; /* source buckets that are free to be dealt anew, linked */
    bucket source = *stay.last;
    memset(stay.last, 0, sizeof *stay.last);
    memset(move.last, 0, sizeof *move.last);
    for (;;) {
        for (uint32_t slot = 0; slot < source.slot_count; slot++) {
            bool moves = (hash_key(&index->secret, source.key[slot]) & evacuation_bit) != 0;
            deal(index, moves ? &move : &stay, &spare, source.tophash[slot], source.key[slot],
                 bucket_row(&source, slot));
        }
        if (source.overflow == BUCKET_NONE)
            break;
        uint32_t link = source.overflow;
        bucket *next = table_overflow_at(index, link);
        source = *next;
        next->overflow = spare;
        spare = link;
    }
    while (spare != BUCKET_NONE) {
        uint32_t link = spare;
        spare = table_overflow_at(index, link)->overflow;
        table_overflow_free(index, link);
    }
    index->bucket_count++;
    index->split_count++;
    index->grow_at = growth_limit(index);
    if (index->bucket_count == 2 * index->level)
        index->level *= 2;
}

bool growth_finish(table *index, alloc *memory, uint64_t bucket_count)
{
    if (bucket_count <= index->bucket_count)
        return true;
    if (!segments_reserve(&index->buckets, memory, bucket_count, SEGMENTS_EXACT))
        return false;
    while (index->bucket_count < bucket_count)
        evacuate(index);
    return true;
}

void growth_step(table *index, alloc *memory)
{
    index->grow_at = growth_limit(index);
    if (index->stop_the_world && growth_due(index)) {
        growth_finish(index, memory, 2 * index->bucket_count);
        return;
    }
    for (int step = 0; step < GROWTH_SPLITS_PER_WRITE && growth_due(index); step++) {
        if (index->bucket_count == index->buckets.item_count &&
            !segments_reserve(&index->buckets, memory, index->bucket_count + 1, SEGMENTS_AHEAD))
            return;
        evacuate(index);
    }
}
