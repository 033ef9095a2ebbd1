/* test_segments.c: arrays that grow and never move: blocks, the reserved range, every refusal; and the sizes and large
 * results of alloc.h beneath them. */
#define _DEFAULT_SOURCE /* mincore */
#include "harness.h"

#include "segments.h"

#include <sys/mman.h>

/* An array of uint64 groups and the allocator it lives on. */
typedef struct room {
    failing state;
    alloc memory;
    segments array;
} room;

static void room_begin(room *r, size_t item_bytes, uint64_t reserve_count, bool ranges)
{
    iam_options options = {.allocator = failing_allocator(&r->state)};
    atomic_store(&r->state.refuses_ranges, !ranges);
    alloc_begin(&r->memory, &options);
    segments_begin(&r->array, item_bytes, reserve_count, true);
}

static void expect_valid(const room *r)
{
    char reason[200] = "";
    if (!segments_validate(&r->array, "array", reason, sizeof reason)) {
        fprintf(stderr, "%s\n", reason);
        exit(1);
    }
    EXPECT(segments_bytes(&r->array) == atomic_load(&r->memory.bytes));
}

static void room_end(room *r)
{
    segments_end(&r->array, &r->memory);
    EXPECT(atomic_load(&r->state.alive) == 0);
    EXPECT(atomic_load(&r->memory.bytes) == 0);
    EXPECT(r->array.item_count == 0 && r->array.range == NULL && r->array.block_count == 0);
}

static void reserve(room *r, uint64_t item_count, segments_how how)
{
    EXPECT(segments_reserve(&r->array, &r->memory, item_count, how));
    EXPECT(r->array.item_count >= item_count);
    expect_valid(r);
}

/* ---- Growing ----------------------------------------------------------------------------------------------------- */

/* Every item is zero when it first comes, keeps its address and what was written to it, and overlaps no other. */
static void grow_item_by_item(size_t item_bytes, bool ranges, bool expect_range)
{
    enum { ITEMS = 6000 };
    static void *address[ITEMS];
    room r;
    room_begin(&r, item_bytes, 1 << 20, ranges);
    for (uint64_t i = 0; i < ITEMS; i++) {
        reserve(&r, i + 1, SEGMENTS_AHEAD);
        unsigned char *item = segments_at(&r.array, i);
        address[i] = item;
        EXPECT(item[0] == 0 && memcmp(item, item + 1, item_bytes - 1) == 0);
        memset(item, 0xff, item_bytes);
        memcpy(item, &i, sizeof i);
    }
    for (uint64_t i = 0; i < ITEMS; i++)
        EXPECT(segments_at(&r.array, i) == address[i] && memcmp(address[i], &i, sizeof i) == 0);
    EXPECT((r.array.range != NULL) == expect_range);
    room_end(&r);
}

static void test_items_never_move(void)
{
    grow_item_by_item(8, true, false); /* 48,000 bytes: stays in blocks */
    grow_item_by_item(24, true, true);
    grow_item_by_item(128, true, true);
    grow_item_by_item(128, false, false);
    grow_item_by_item(4096, true, true);
}

/* Whole huge pages, and none more than it takes. */
static void test_a_range_is_as_large_as_it_must_be(void)
{
    enum { ITEM = 128, ITEMS_OF_A_HUGE_PAGE = HUGE_BYTES / ITEM };
    uint64_t first = 0;
    for (int64_t more = -1; more <= 1; more++) {
        room r;
        room_begin(&r, ITEM, first == 0 ? 1 << 20 : first + 3 * ITEMS_OF_A_HUGE_PAGE + (uint64_t)more, true);
        for (uint64_t i = 0; r.array.range == NULL; i += 16)
            reserve(&r, i + 16, SEGMENTS_AHEAD);
        if (first == 0)
            first = r.array.low_count, more--; /* where the range begins hangs on nothing but the item */
        else
            EXPECT(r.array.low_count == first && r.array.range_bytes == (more <= 0 ? 3 : 4) * (size_t)HUGE_BYTES);
        room_end(&r);
    }
}

/* Spare room is committed, and its pages come when somebody writes to them. */
static void test_what_is_only_reserved_is_not_touched(void)
{
    enum { ITEMS = 100000, PAGES = ITEMS * 8 / PAGE_BYTES };
    unsigned char resident[PAGES] = {0};
    room r;
    room_begin(&r, 8, 1 << 20, true);
    reserve(&r, ITEMS, SEGMENTS_EXACT);
    EXPECT(r.array.range != NULL && r.array.low_count == 0);
    EXPECT(mincore((void *)r.array.high, (size_t)PAGES * PAGE_BYTES, resident) == 0);
    for (int page = 0; page < PAGES; page++)
        EXPECT((resident[page] & 1) == 0);
    room_end(&r);
}

static void test_blocks_are_as_large_as_all_before(void)
{
    room r;
    room_begin(&r, 8, 1 << 20, false);
    reserve(&r, 1, SEGMENTS_AHEAD);
    EXPECT(r.array.item_count == 8 && r.array.block_count == 1); /* so that runs begin at multiples of eight */
    reserve(&r, 9, SEGMENTS_AHEAD);
    EXPECT(r.array.item_count == 16 && r.array.low_count == 8);
    reserve(&r, 100, SEGMENTS_AHEAD);
    EXPECT(r.array.item_count == 128 && r.array.low_count == 64 && r.array.block_count == 5);
    for (uint64_t i = 0; i < 128; i++) {
        uint32_t block = segments_block_of(&r.array, i);
        uint64_t first = block == 0 ? 0 : (uint64_t)8 << (block - 1);
        EXPECT(i >= first && i < (uint64_t)8 << block);
    }
    room_end(&r);
    /* Made at one go, it is one block. */
    room_begin(&r, 8, 1 << 20, false);
    reserve(&r, 100, SEGMENTS_AHEAD);
    EXPECT(r.array.item_count == 128 && r.array.block_count == 1);
    room_end(&r);
}

/* What is small is in blocks, to the byte. */
static void test_a_range_begins_beyond_what_is_small(void)
{
    for (uint64_t more = 0; more < 2; more++) {
        room r;
        room_begin(&r, 8, 1 << 20, true);
        reserve(&r, SEGMENTS_SMALL_BYTES / 8 + more, SEGMENTS_EXACT);
        EXPECT((r.array.range != NULL) == (more > 0) && (r.array.block_count > 0) == (more == 0));
        room_end(&r);
    }
}

static void test_range_commits_a_little_ahead_or_exactly(void)
{
    room r;
    room_begin(&r, 64, 1 << 20, true);
    reserve(&r, 1025, SEGMENTS_AHEAD); /* 64 KiB and an item: the range from the start */
    EXPECT(r.array.range != NULL && r.array.block_count == 0 && r.array.low_count == 0);
    EXPECT(r.array.item_count > 1025 && r.array.item_count <= 1025 + 4096);
    uint64_t requests = atomic_load(&r.memory.request_count);
    reserve(&r, r.array.item_count, SEGMENTS_AHEAD);
    EXPECT(atomic_load(&r.memory.request_count) == requests);
    reserve(&r, 100001, SEGMENTS_EXACT);
    EXPECT(r.array.item_count == 100001);
    reserve(&r, 1 << 20, SEGMENTS_EXACT);
    EXPECT(r.array.item_count == r.array.item_count_max);
    /* The range is all there will ever be. */
    EXPECT(!segments_reserve(&r.array, &r.memory, (1 << 20) + 1, SEGMENTS_AHEAD));
    expect_valid(&r);
    room_end(&r);
}

/* Pages asked for at one go are zeros like any others. */
static void test_touched_room(void)
{
    room r;
    room_begin(&r, 64, 1 << 20, true);
    reserve(&r, 20, SEGMENTS_TOUCH);
    reserve(&r, 100000, SEGMENTS_TOUCH);
    EXPECT(r.array.item_count == 100000 && r.array.range != NULL);
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t *item = segments_at(&r.array, i);
        EXPECT(item[0] == 0 && item[7] == 0);
        item[0] = item[7] = i;
    }
    reserve(&r, 200000, SEGMENTS_TOUCH);
    for (uint64_t i = 0; i < 200000; i++)
        EXPECT(*(uint64_t *)segments_at(&r.array, i) == (i < 100000 ? i : 0));
    room_end(&r);
}

static void test_more_than_was_foreseen_goes_on_in_blocks(void)
{
    room r;
    room_begin(&r, 128, 600, true); /* address space for 75 KiB at most */
    reserve(&r, 700, SEGMENTS_AHEAD);
    EXPECT(r.array.range == NULL && r.array.block_count == 1);
    room_end(&r);
}

static void test_switch_off_ranges(void)
{
    room r;
    room_begin(&r, 128, 1 << 20, true);
    r.memory.reserve_allowed = false; /* options.reserve = IAM_OFF */
    reserve(&r, 5000, SEGMENTS_AHEAD);
    EXPECT(r.array.range == NULL);
    room_end(&r);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void expect_refused(room *r, uint64_t item_count, int64_t until_failure)
{
    segments before = r->array;
    uint64_t bytes = atomic_load(&r->memory.bytes);
    int64_t alive = atomic_load(&r->state.alive);
    atomic_store(&r->state.until_failure, until_failure);
    EXPECT(!segments_reserve(&r->array, &r->memory, item_count, SEGMENTS_AHEAD));
    atomic_store(&r->state.until_failure, FAILING_NEVER);
    EXPECT(r->array.item_count == before.item_count && r->array.item_count_max == before.item_count_max);
    EXPECT(r->array.low_count == before.low_count && r->array.high == before.high);
    EXPECT(r->array.block_count == before.block_count && r->array.range == before.range);
    EXPECT(atomic_load(&r->memory.bytes) == bytes && atomic_load(&r->state.alive) == alive);
    expect_valid(r);
}

static void test_refusals_leave_it_as_it_was(void)
{
    room r;
    room_begin(&r, 64, 1 << 20, true);
    expect_refused(&r, 1, 0);    /* the first block */
    expect_refused(&r, 2000, 0); /* the first commit of a range, nothing before it */
    reserve(&r, 20, SEGMENTS_AHEAD);
    *(uint64_t *)segments_at(&r.array, 19) = 1234;
    expect_refused(&r, 33, 0);   /* a further block */
    expect_refused(&r, 2000, 0); /* the first commit of a range, blocks before it */
    EXPECT(*(uint64_t *)segments_at(&r.array, 19) == 1234);
    reserve(&r, 2000, SEGMENTS_AHEAD);
    EXPECT(r.array.range != NULL && *(uint64_t *)segments_at(&r.array, 19) == 1234);
    expect_refused(&r, 100000, 0); /* a further commit */
    reserve(&r, 100000, SEGMENTS_AHEAD);
    room_end(&r);
}

/* Regression: the blocks that came before the one that was refused used to stay, so that a refused reserve of 2^32 rows
 * left gigabytes committed. */
static void test_blocks_before_the_refused_one_are_given_back(void)
{
    room r;
    room_begin(&r, 64, 1 << 20, false);
    reserve(&r, 8, SEGMENTS_AHEAD);
    for (int granted = 0; granted < 7; granted++)
        expect_refused(&r, 1000, granted); /* 16, 32 ... 1024: seven more blocks */
    reserve(&r, 1000, SEGMENTS_AHEAD);
    room_end(&r);
}

static void test_sizes_do_not_overflow(void)
{
    room r;
    room_begin(&r, 64, UINT64_MAX, true);
    expect_refused(&r, UINT64_MAX, FAILING_NEVER);
    expect_refused(&r, UINT64_MAX / 64, FAILING_NEVER);     /* more than PTRDIFF_MAX bytes */
    expect_refused(&r, UINT64_MAX / 64 + 2, FAILING_NEVER); /* wraps to 64 bytes */
    room_end(&r);
    uint64_t requests = atomic_load(&r.memory.request_count);
    EXPECT(alloc_block(&r.memory, SIZE_MAX / 8, 16, false) == NULL);
    EXPECT(alloc_block(&r.memory, SIZE_MAX, 1, false) == NULL);
    EXPECT(alloc_block(&r.memory, 0, 8, false) == NULL);
    EXPECT(alloc_reserve(&r.memory, SIZE_MAX) == NULL);
    EXPECT(atomic_load(&r.memory.request_count) == requests && atomic_load(&r.memory.bytes) == 0);
}

/* ---- What lies where --------------------------------------------------------------------------------------------- */

static void test_runs_lie_side_by_side(void)
{
    for (int ranges = 0; ranges < 2; ranges++) {
        room r;
        room_begin(&r, 24, 1 << 20, ranges);
        for (uint64_t grown = 5; grown < 5000; grown = grown * 2 + 3)
            reserve(&r, grown, SEGMENTS_AHEAD);
        int run_count = 0;
        for (uint64_t i = 0; i < r.array.item_count;) {
            uint64_t end = segments_run_end(&r.array, i);
            EXPECT(end > i && end <= r.array.item_count && i % 8 == 0);
            for (uint64_t j = i; j < end; j++) {
                EXPECT((char *)segments_at(&r.array, j) == (char *)segments_at(&r.array, i) + (j - i) * 24);
                EXPECT(segments_run_end(&r.array, j) == end);
            }
            i = end;
            run_count++;
        }
        EXPECT(run_count > 5);
        room_end(&r);
    }
}

/* What is given back reads as zeros, whole pages of it: all in [begin, end) but parts of pages at the ends of each run.
 */
static void give_back(room *r, uint64_t item_count, uint64_t begin, uint64_t end, uint64_t run_count)
{
    for (uint64_t i = 0; i < item_count; i++)
        memset(segments_at(&r->array, i), 0xff, 64);
    size_t given = segments_give_back(&r->array, begin, end);
    EXPECT(given % PAGE_BYTES == 0 && given <= (end - begin) * 64);
    EXPECT(given + run_count * 2 * PAGE_BYTES > (end - begin) * 64);
    uint64_t zeros = 0;
    for (uint64_t i = 0; i < item_count; i++) {
        const uint8_t *item = segments_at(&r->array, i);
        EXPECT(item[0] == item[63] && (item[0] == 0xff || (item[0] == 0 && i >= begin && i < end)));
        zeros += item[0] == 0;
    }
    EXPECT(zeros * 64 == given);
    expect_valid(r); /* still committed */
}

static void test_give_back_reads_as_zeros(void)
{
    enum { ITEMS = 6000 };
    for (int ranges = 0; ranges < 2; ranges++) {
        room r;
        room_begin(&r, 64, 1 << 20, ranges);
        reserve(&r, 400, SEGMENTS_AHEAD); /* a block first */
        reserve(&r, 1000, SEGMENTS_AHEAD);
        reserve(&r, ITEMS, SEGMENTS_EXACT);
        EXPECT(r.array.block_count >= 2 && (r.array.range != NULL) == ranges);
        give_back(&r, ITEMS, 3000, 5000, 2);
        give_back(&r, ITEMS, 100, 5000, 6); /* from the midst of the first block on */
        give_back(&r, ITEMS, 0, 512, 1);
        give_back(&r, ITEMS, 1300, 1310, 1);
        give_back(&r, ITEMS, 700, 700, 1);
        if (ranges) { /* to the byte where both ends are those of pages */
            uint64_t low_count = r.array.low_count;
            EXPECT(segments_give_back(&r.array, low_count, low_count + 640) == 10 * PAGE_BYTES);
        }
        room_end(&r);
    }
}

static void test_overlaps(void)
{
    room r;
    char elsewhere[64];
    room_begin(&r, 64, 1 << 20, true);
    EXPECT(!segments_overlaps(&r.array, elsewhere, elsewhere + 64));
    reserve(&r, 100, SEGMENTS_AHEAD);
    reserve(&r, 5000, SEGMENTS_AHEAD);
    const uint64_t probes[] = {0, 5, 127, 128, 4999};
    for (int i = 0; i < 5; i++) {
        char *item = segments_at(&r.array, probes[i]);
        EXPECT(segments_overlaps(&r.array, item, item + 1));
        EXPECT(segments_overlaps(&r.array, item + 63, item + 64));
        EXPECT(segments_overlaps(&r.array, item - 8, item + 1));
    }
    char *block = segments_at(&r.array, 0);
    EXPECT(!segments_overlaps(&r.array, block - 8, block));
    EXPECT(!segments_overlaps(&r.array, elsewhere, elsewhere + 64));
    EXPECT(!segments_overlaps(&r.array, r.array.range - 8, r.array.range));
    EXPECT(!segments_overlaps(&r.array, r.array.range + r.array.range_bytes, r.array.range + r.array.range_bytes + 8));
    room_end(&r);
}

/* ---- Items that lie elsewhere -------------------------------------------------------------------------------------
 */

static void test_borrowed_items(void)
{
    enum { LENT = 1000 };
    _Alignas(64) static uint64_t lent[LENT];
    for (int ranges = 0; ranges < 2; ranges++)
        for (uint64_t foreseen = 0; foreseen <= 1 << 20; foreseen += 1 << 20) {
            room r;
            room_begin(&r, 8, foreseen, ranges);
            segments_borrow(&r.array, lent, 0);
            EXPECT(r.array.item_count == 0 && r.array.block_count == 0 && r.array.borrowed_count == 0);
            segments_borrow(&r.array, lent, LENT);
            expect_valid(&r); /* nothing of its own */
            EXPECT(r.array.item_count == LENT && segments_bytes(&r.array) == 0);
            EXPECT(r.array.reserve_count == (foreseen > 0 ? foreseen : 2 * LENT));
            for (uint64_t i = 0; i < LENT; i++) {
                lent[i] = i + 1;
                EXPECT(segments_at(&r.array, i) == &lent[i]);
            }
            EXPECT(segments_run_end(&r.array, 0) == LENT && segments_untouched(&r.array, 0) == 0);
            EXPECT(segments_overlaps(&r.array, (char *)&lent[LENT - 1], (char *)&lent[LENT]));
            EXPECT(!segments_overlaps(&r.array, (char *)&lent[LENT], (char *)&lent[LENT] + 8));
            /* It grows in a reserved range, one item more than it has at the least, or not at all. */
            EXPECT(segments_reserve(&r.array, &r.memory, LENT, SEGMENTS_AHEAD) && r.array.range == NULL);
            EXPECT(segments_reserve(&r.array, &r.memory, LENT + 1, SEGMENTS_AHEAD) == ranges);
            EXPECT((r.array.range != NULL) == ranges);
            if (ranges) {
                expect_valid(&r);
                uint64_t *own = segments_at(&r.array, LENT);
                EXPECT((own < lent || own >= lent + LENT) && *own == 0);
                EXPECT(segments_run_end(&r.array, 0) == LENT && segments_run_end(&r.array, LENT) >= LENT + 1);
                /* What is not its own does not go back. */
                memset(own, 0xff, 8);
                EXPECT(segments_give_back(&r.array, 0, r.array.item_count) % PAGE_BYTES == 0);
                EXPECT(lent[0] == 1 && lent[LENT - 1] == LENT);
                EXPECT(segments_reserve(&r.array, &r.memory, r.array.item_count_max, SEGMENTS_AHEAD));
                EXPECT(r.array.item_count == r.array.item_count_max && r.array.item_count_max >= 2 * LENT);
                EXPECT(!segments_reserve(&r.array, &r.memory, r.array.item_count_max + 1, SEGMENTS_AHEAD));
                expect_valid(&r);
            }
            room_end(&r);
        }
}

/* Commits ahead stop at the end of the range; the last items are there. */
static void test_the_end_of_the_range(void)
{
    room r;
    room_begin(&r, 64, 6000, true);
    for (uint64_t i = 1; i <= 6000; i++)
        reserve(&r, i, SEGMENTS_AHEAD);
    EXPECT(r.array.item_count == 6000 && r.array.item_count_max == 6000);
    memset(segments_at(&r.array, 5999), 1, 64);
    /* All that was foreseen is in use: not even a range of nothing can be added. */
    EXPECT(!segments_reserve(&r.array, &r.memory, 6001, SEGMENTS_AHEAD) && r.array.item_count == 6000);
    EXPECT(!segments_reserve(&r.array, &r.memory, 6001, SEGMENTS_EXACT) && r.array.item_count == 6000);
    expect_valid(&r);
    room_end(&r);
}

/* Blocks of the allocator from 128 KiB on: what of the last one nobody asked for was never touched. */
static void test_untouched(void)
{
    room r;
    room_begin(&r, 64, 1 << 20, false);
    EXPECT(segments_untouched(&r.array, 0) == 0);
    reserve(&r, 1024, SEGMENTS_AHEAD);
    EXPECT(segments_untouched(&r.array, 10) == 0); /* 64 KiB: malloc's, and small */
    reserve(&r, 1025, SEGMENTS_AHEAD);
    reserve(&r, 2049, SEGMENTS_AHEAD); /* blocks of 64, 64 and 128 KiB */
    EXPECT(r.array.item_count == 4096 && r.array.low_count == 2048);
    EXPECT(segments_untouched(&r.array, 0) == 128 << 10);
    EXPECT(segments_untouched(&r.array, 2048) == 128 << 10);
    EXPECT(segments_untouched(&r.array, 2049) == (128 << 10) - PAGE_BYTES);
    EXPECT(segments_untouched(&r.array, 2048 + 64) == (128 << 10) - PAGE_BYTES);
    EXPECT(segments_untouched(&r.array, 2048 + 65) == (128 << 10) - 2 * PAGE_BYTES);
    EXPECT(segments_untouched(&r.array, 4096) == 0);
    reserve(&r, 3000, SEGMENTS_EXACT); /* asked for by name: 952 items beyond low_count, 15 pages */
    EXPECT(segments_untouched(&r.array, 10) == (128 << 10) - 15 * PAGE_BYTES);
    room_end(&r);
    room_begin(&r, 1, 1 << 22, false); /* items of a byte: pages are touched from their first */
    reserve(&r, (128 << 10) + 1, SEGMENTS_AHEAD);
    EXPECT(r.array.item_count == 256 << 10);
    EXPECT(segments_untouched(&r.array, PAGE_BYTES) == (256 << 10) - PAGE_BYTES);
    EXPECT(segments_untouched(&r.array, PAGE_BYTES + 1) == (256 << 10) - 2 * PAGE_BYTES);
    room_end(&r);
}

static void test_large_results(void)
{
    EXPECT(iam_result_allocate(0) == NULL && iam_result_allocate(SIZE_MAX) == NULL);
    const size_t sizes[] = {1, 100, 4096, 4097, 1 << 20, (2 << 20) + 1, 5 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = iam_result_allocate(sizes[i]);
        EXPECT(block != NULL && (uintptr_t)block % HUGE_BYTES == 0);
        block[0] = block[sizes[i] - 1] = 1;
        iam_result_release(block, sizes[i]);
    }
    iam_result_release(NULL, 5);
}

int main(void)
{
    RUN(test_items_never_move);
    RUN(test_a_range_is_as_large_as_it_must_be);
    RUN(test_what_is_only_reserved_is_not_touched);
    RUN(test_blocks_are_as_large_as_all_before);
    RUN(test_a_range_begins_beyond_what_is_small);
    RUN(test_range_commits_a_little_ahead_or_exactly);
    RUN(test_touched_room);
    RUN(test_more_than_was_foreseen_goes_on_in_blocks);
    RUN(test_switch_off_ranges);
    RUN(test_refusals_leave_it_as_it_was);
    RUN(test_blocks_before_the_refused_one_are_given_back);
    RUN(test_sizes_do_not_overflow);
    RUN(test_runs_lie_side_by_side);
    RUN(test_give_back_reads_as_zeros);
    RUN(test_overlaps);
    RUN(test_borrowed_items);
    RUN(test_the_end_of_the_range);
    RUN(test_untouched);
    RUN(test_large_results);
    return harness_end();
}
