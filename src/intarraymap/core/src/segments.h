/* segments.h: an array that grows and never moves. Floor 0: used by rows, the hash table and the direct index.
 *
 *        item 0            low_count                                     item_count        item_count_max
 *   low  |seg 0|seg 1|seg 2|                                               |                 |
 *                    high  |======= the last segment =====================|-- reserved ------|
 *
 * Small arrays are plain blocks, each as large as all before it. When an array passes SEGMENTS_SMALL_BYTES it reserves
 * address space for all that it can ever hold and goes on there: that range is then its last segment and the items in
 * the plain blocks stay where they are. Where address space is refused, it goes on in blocks that double.
 *
 * The last segment is reached without a table, so that an array made at one go (and a small one, which has one block)
 * pays one compare for the promise never to move: contiguous ranges beat doubling segments by 2-26 % (figures in
 * DESIGN.md, "Segments").
 *
 * S1: blocks cover [0, low_count) without a gap, block k > 0 starts at 2^(first_log2 + k - 1).
 * S2: item_count <= item_count_max, and item_count is what is committed.
 */
#ifndef IAM_SEGMENTS_H
#define IAM_SEGMENTS_H

#include "alloc.h"
#include "check.h"

#define SEGMENTS_MOST 40
/* Below this an array is a plain block: reserving costs 10 us and a mapping (a process has 65,530 of them). */
#define SEGMENTS_SMALL_BYTES (64u << 10)
/* Pieces in which large arrays are touched: they fit the cache. */
#define SEGMENTS_TOUCH_BYTES (2u << 20)

typedef struct segments {
    uintptr_t high;          /* item i >= low_count is at high + i * item_bytes */
    uint64_t low_count;      /* items before the last segment */
    size_t item_bytes;       /* item = key, row, bucket, word ... */
    uint64_t item_count;     /* items that may be used */
    uint64_t item_count_max; /* items there is address space for */
    uint32_t first_log2;     /* the first block has 2^first_log2 items */
    uint32_t block_count;    /* plain blocks */
    char *range;             /* the reserved range, or NULL */
    size_t range_bytes;
    uint64_t reserve_count; /* items to reserve address space for when it comes to that */
    uint64_t asked_count;   /* the most that was asked for at one go: EXACT or TOUCH */
    uint64_t touched_count; /* the same, TOUCH only */
    uint64_t warm_count;    /* items whose pages are known to be present */
    bool zeroed;            /* items must be zeros when first used */
    uintptr_t low[SEGMENTS_MOST];
} segments;

/* How room is made: AHEAD = one by one, so commit a little ahead, on small pages; EXACT = that much, promised but maybe
 * never touched, on huge pages where it is used; TOUCH = that much, and all of it is about to be written: the pages are
 * asked for at one go, which saves most of the cost of a page fault each; what is larger than the cache by whoever
 * writes to it, piece by piece (segments_touch), so that pages the system has just cleared are still in the cache. */
typedef enum segments_how { SEGMENTS_AHEAD, SEGMENTS_EXACT, SEGMENTS_TOUCH } segments_how;

/* `zeroed`: whether items must be zeros when first used; else they may be whatever another map left there. */
void segments_begin(segments *array, size_t item_bytes, uint64_t reserve_count, bool zeroed);
void segments_end(segments *array, alloc *memory);
/* Makes items [0, item_count) usable: false = out of memory, nothing changed. */
bool segments_reserve(segments *array, alloc *memory, uint64_t item_count, segments_how how);
/* Makes the pages of items [begin, end), which lie side by side, present; a hint. */
void segments_touch(const segments *array, uint64_t begin, uint64_t end);
/* End of the run of items that lies side by side with item `i`. */
uint64_t segments_run_end(const segments *array, uint64_t i);
/* Gives back the memory of usable items [begin, end), as far as whole pages go; they are zeros then. Returns the bytes.
 * They still count as committed. */
size_t segments_give_back(segments *array, uint64_t begin, uint64_t end);
/* S1 and S2; false with the reason, which calls the array `name`. */
bool segments_validate(const segments *array, const char *name, char *reason_out, size_t reason_bytes);
bool segments_overlaps(const segments *array, const char *begin, const char *end);
uint64_t segments_bytes(const segments *array);
/* Bytes of the last block that nobody asked for and that no item below `used_count` lies in: a block doubles what is
 * there, and what of it was never touched the system has never given. 0 for a range, which commits little ahead. */
uint64_t segments_untouched(const segments *array, uint64_t used_count);

static inline uint32_t segments_block_of(const segments *array, uint64_t i)
{
    uint64_t folded = i >> array->first_log2;
    return folded == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(folded);
}

static inline void *segments_at(const segments *array, uint64_t i)
{
    CHECK(i < array->item_count);
    uintptr_t base = LIKELY(i >= array->low_count) ? array->high : array->low[segments_block_of(array, i)];
    return (void *)(base + i * array->item_bytes);
}

#endif
