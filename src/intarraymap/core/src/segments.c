/* segments.c: see segments.h for the drawing. */
#include "segments.h"

#include "poison.h"
#include "spare.h"

#include <stdio.h>
#include <string.h>

/* A reserved range is committed a little ahead of its use: at least COMMIT_BYTES and a 64th of what is there, so that a
 * map of 1e6 rows commits some 400 times (0.0004 a row) and `nbytes` stays within 2 % of what is touched. */
#define COMMIT_BYTES (128u << 10)
#define COMMIT_SHARE 64
/* Poisoned beyond what is committed, in builds that poison: no more, as a byte in eight of it is memory. */
#define GUARD_BYTES (64u << 10)

void segments_begin(segments *array, size_t item_bytes, uint64_t reserve_count, bool zeroed)
{
    memset(array, 0, sizeof *array);
    array->item_bytes = item_bytes;
    array->reserve_count = reserve_count;
    array->zeroed = zeroed;
}

static uint64_t block_first(const segments *array, uint32_t block)
{
    return block == 0 ? 0 : (uint64_t)1 << (array->first_log2 + block - 1);
}

static uint64_t block_items(const segments *array, uint32_t block)
{
    if (block == 0 && array->borrowed_count > 0)
        return array->borrowed_count;
    return (uint64_t)1 << (array->first_log2 + (block == 0 ? 0 : block - 1));
}

static void *block_start(const segments *array, uint32_t block)
{
    return (void *)(array->low[block] + block_first(array, block) * array->item_bytes);
}

#if POISON_BITES

/* Bytes of the range that are in use or poisoned. */
static size_t guarded_bytes(const segments *array)
{
    size_t bytes = (array->item_count - array->low_count) * array->item_bytes + GUARD_BYTES;
    return bytes < array->range_bytes ? bytes : array->range_bytes;
}

/* Items from `old_count` on have been committed. */
static void guard(const segments *array, uint64_t old_count)
{
    size_t old_bytes = (old_count - array->low_count) * array->item_bytes;
    size_t used_bytes = (array->item_count - array->low_count) * array->item_bytes;
    poison_lift(array->range + old_bytes, used_bytes - old_bytes);
    poison_lay(array->range + used_bytes, guarded_bytes(array) - used_bytes);
}

static void lift_all(const segments *array)
{
    for (uint32_t block = array->borrowed_count > 0; block < array->block_count; block++)
        poison_lift(block_start(array, block), block_items(array, block) * array->item_bytes);
    if (array->range != NULL)
        poison_lift(array->range, guarded_bytes(array));
}

#endif

void segments_end(segments *array, alloc *memory)
{
    POISON(lift_all(array));
    for (uint32_t block = array->borrowed_count > 0; block < array->block_count; block++)
        alloc_release(memory, block_start(array, block), block_items(array, block), array->item_bytes);
    if (array->range != NULL) {
        alloc_uncommit(memory, (array->item_count - array->low_count) * array->item_bytes);
        size_t touched_bytes = 0;
        if (array->low_count == 0 && array->touched_count == array->item_count)
            touched_bytes = spare_give(memory->spare, array->range, array->item_count * array->item_bytes);
        alloc_unreserve(array->range + touched_bytes, array->range_bytes - touched_bytes);
    }
    segments_begin(array, array->item_bytes, array->reserve_count, array->zeroed);
}

/* The last plain block is the last segment (again). */
static void end_in_blocks(segments *array)
{
    bool none = array->block_count == 0;
    uint32_t last = none ? 0 : array->block_count - 1;
    array->high = none ? 0 : array->low[last];
    array->low_count = none ? 0 : block_first(array, last);
    array->item_count = array->item_count_max = none ? 0 : array->low_count + block_items(array, last);
}

void segments_borrow(segments *array, void *items, uint64_t item_count)
{
    CHECK(array->item_count == 0);
    if (item_count == 0)
        return;
    /* The first block as segments_at finds it, but filled to borrowed_count only. */
    array->first_log2 = 3;
    while (((uint64_t)1 << array->first_log2) < item_count)
        array->first_log2++;
    array->low[0] = (uintptr_t)items;
    array->block_count = 1;
    array->borrowed_count = item_count;
    end_in_blocks(array);
    if (array->reserve_count < 2 * item_count)
        array->reserve_count = 2 * item_count;
}

static bool add_block(segments *array, alloc *memory, uint64_t item_count)
{
    if (array->borrowed_count > 0)
        return false; /* the next block would have to begin at a power of two */
    if (array->block_count == 0) {
        /* At least eight items, so that runs start at multiples of eight (blocks hand out bitmaps by the byte). */
        array->first_log2 = 3;
        while (((uint64_t)1 << array->first_log2) < item_count)
            array->first_log2++;
    }
    uint32_t block = array->block_count;
    if (block == SEGMENTS_MOST)
        return false;
    char *start = alloc_block(memory, block_items(array, block), array->item_bytes, true);
    if (start == NULL)
        return false;
    array->low[block] = (uintptr_t)start - block_first(array, block) * array->item_bytes;
    array->block_count++;
    end_in_blocks(array);
    return true;
}

/* Moves on to a reserved range; false: refused, go on in blocks. */
static bool add_range(segments *array, alloc *memory)
{
    uint64_t first = array->item_count;
    if (array->reserve_count <= first)
        return false;
    size_t bytes;
    if (__builtin_mul_overflow(array->reserve_count - first, array->item_bytes, &bytes))
        return false;
    bytes = (bytes + HUGE_BYTES - 1) & ~(size_t)(HUGE_BYTES - 1);
    char *range = alloc_reserve(memory, bytes);
    if (range == NULL)
        return false;
    array->range = range;
    array->range_bytes = bytes;
    array->low_count = first;
    array->high = (uintptr_t)range - first * array->item_bytes;
    array->item_count_max = array->reserve_count;
    return true;
}

static bool commit(segments *array, alloc *memory, uint64_t item_count, segments_how how)
{
    if (item_count > array->item_count_max)
        return false;
    uint64_t old_count = array->item_count;
    if (how == SEGMENTS_AHEAD) {
        uint64_t ahead_bytes = (old_count - array->low_count) * array->item_bytes / COMMIT_SHARE;
        uint64_t ahead = (ahead_bytes > COMMIT_BYTES ? ahead_bytes : COMMIT_BYTES) / array->item_bytes;
        if (item_count < old_count + ahead)
            item_count = old_count + ahead;
        if (item_count > array->item_count_max)
            item_count = array->item_count_max;
    }
    if (!alloc_commit(memory, (item_count - old_count) * array->item_bytes))
        return false;
    if (how != SEGMENTS_AHEAD) {
        char *begin = (char *)(array->high + old_count * array->item_bytes);
        char *end = (char *)(array->high + item_count * array->item_bytes);
        size_t warm_bytes = 0;
        if (how == SEGMENTS_TOUCH && old_count == 0 &&
            !spare_take(memory->spare, begin, (size_t)(end - begin), &warm_bytes)) {
            alloc_uncommit(memory, (size_t)(end - begin));
            return false;
        }
        if (array->zeroed)
            memset(begin, 0, warm_bytes);
        alloc_advise_huge(memory, begin, end);
        if (how == SEGMENTS_TOUCH && (size_t)(end - begin) <= SEGMENTS_TOUCH_BYTES) {
            alloc_populate(begin + warm_bytes, end);
            warm_bytes = (size_t)(end - begin);
        }
        array->warm_count = old_count + warm_bytes / array->item_bytes;
    }
    array->item_count = item_count;
    POISON(guard(array, old_count));
    return true;
}

static bool make_room(segments *array, alloc *memory, uint64_t item_count, segments_how how)
{
    if (item_count <= array->item_count)
        return true;
    size_t bytes;
    if (__builtin_mul_overflow(item_count, array->item_bytes, &bytes) || bytes > PTRDIFF_MAX)
        return false;
    if (array->range != NULL)
        return commit(array, memory, item_count, how);
    bool is_large = bytes > SEGMENTS_SMALL_BYTES || array->borrowed_count > 0;
    if (is_large && item_count <= array->reserve_count && add_range(array, memory)) {
        if (commit(array, memory, item_count, how))
            return true;
        /* Back to where it was: nothing of the range was used. */
        alloc_unreserve(array->range, array->range_bytes);
        array->range = NULL;
        end_in_blocks(array);
        return false;
    }
    uint32_t block_count = array->block_count;
    while (array->item_count < item_count)
        if (!add_block(array, memory, item_count)) {
            while (array->block_count > block_count) {
                uint32_t block = --array->block_count;
                alloc_release(memory, block_start(array, block), block_items(array, block), array->item_bytes);
            }
            end_in_blocks(array);
            return false;
        }
    return true;
}

bool segments_reserve(segments *array, alloc *memory, uint64_t item_count, segments_how how)
{
    if (!make_room(array, memory, item_count, how))
        return false;
    if (how != SEGMENTS_AHEAD && item_count > array->asked_count)
        array->asked_count = item_count;
    if (how == SEGMENTS_TOUCH && item_count > array->touched_count)
        array->touched_count = item_count;
    return true;
}

void segments_touch(const segments *array, uint64_t begin, uint64_t end)
{
    if (begin < array->warm_count)
        begin = array->warm_count;
    if (begin < end)
        alloc_populate(segments_at(array, begin), (char *)segments_at(array, end - 1) + array->item_bytes);
}

uint64_t segments_run_end(const segments *array, uint64_t i)
{
    if (i >= array->low_count)
        return array->item_count;
    uint32_t block = segments_block_of(array, i);
    return block_first(array, block) + block_items(array, block);
}

size_t segments_give_back(segments *array, uint64_t begin, uint64_t end)
{
    size_t bytes = 0;
    if (begin < array->borrowed_count)
        begin = array->borrowed_count; /* pages of a file would come back as they are in the file */
    while (begin < end) {
        uint64_t run_end = segments_run_end(array, begin);
        if (run_end > end)
            run_end = end;
        char *start = segments_at(array, begin);
        bytes += alloc_give_back(start, start + (run_end - begin) * array->item_bytes);
        begin = run_end;
    }
    return bytes;
}

bool segments_overlaps(const segments *array, const char *begin, const char *end)
{
    for (uint32_t block = 0; block < array->block_count; block++) {
        const char *start = block_start(array, block);
        if (begin < start + block_items(array, block) * array->item_bytes && start < end)
            return true;
    }
    return array->range != NULL && begin < array->range + array->range_bytes && array->range < end;
}

uint64_t segments_bytes(const segments *array)
{
    return (array->item_count - array->borrowed_count) * array->item_bytes;
}

uint64_t segments_untouched(const segments *array, uint64_t used_count)
{
    if (array->range != NULL || array->block_count == 0 || array->borrowed_count > 0)
        return 0;
    uint64_t touched = used_count > array->asked_count ? used_count : array->asked_count;
    if (touched < array->low_count)
        touched = array->low_count;
    size_t block_bytes = (array->item_count - array->low_count) * array->item_bytes;
    size_t touched_bytes = (touched - array->low_count) * array->item_bytes + PAGE_BYTES - 1;
    touched_bytes &= ~(size_t)(PAGE_BYTES - 1);
    return block_bytes < ALLOC_MAPPED_BYTES || block_bytes < touched_bytes ? 0 : block_bytes - touched_bytes;
}

/* ---- Validation -------------------------------------------------------------------------------------------------- */

static bool blocks_in_line(const segments *array)
{
    for (uint32_t block = 0; block < array->block_count; block++)
        if (array->low[block] == 0 || (uintptr_t)block_start(array, block) % LINE_BYTES != 0)
            return false;
    return true;
}

bool segments_validate(const segments *array, const char *name, char *reason, size_t bytes)
{
    if (array->block_count > SEGMENTS_MOST || !blocks_in_line(array)) {
        snprintf(reason, bytes, "S1: %s: one of %u blocks is out of place", name, array->block_count);
        return false;
    }
    segments expected = *array;
    end_in_blocks(&expected);
    if (array->range != NULL) {
        expected.low_count = expected.item_count;
        expected.high = (uintptr_t)array->range - expected.low_count * array->item_bytes;
        expected.item_count_max = expected.low_count + array->range_bytes / array->item_bytes;
    }
    if (array->low_count != expected.low_count || array->high != expected.high) {
        snprintf(reason, bytes, "S1: %s: the last segment begins at item %llu, the blocks end at %llu", name,
                 (unsigned long long)array->low_count, (unsigned long long)expected.low_count);
        return false;
    }
    if (array->item_count < array->low_count || array->item_count > array->item_count_max ||
        array->item_count_max > expected.item_count_max ||
        (array->range == NULL && array->item_count != expected.item_count)) {
        snprintf(reason, bytes, "S2: %s: %llu items of at most %llu, memory for %llu", name,
                 (unsigned long long)array->item_count, (unsigned long long)array->item_count_max,
                 (unsigned long long)expected.item_count_max);
        return false;
    }
    return true;
}
