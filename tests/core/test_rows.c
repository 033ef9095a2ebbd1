/* test_rows.c: row numbers: what becomes of a row (FREE, LIVE, HELD, RETURNED as rows.h draws them), blocks, walking,
 * R1-R3. Views and threads are test_views.c. */
#include "harness.h"

#include "rows.h"

enum { ROW_BYTES = 64 };

/* Every test runs twice: views taken and released by atomic instructions, and by plain ones. */
static bool serial_views;

typedef struct room {
    failing state;
    iam_rows *rows;
} room;

static void room_begin(room *r)
{
    iam_options options = {.allocator = failing_allocator(&r->state), .serial_views = serial_views};
    r->rows = rows_create(&options, ROW_BYTES, 1 << 20);
    EXPECT(r->rows != NULL);
}

/* R3 as a sum, which rows_validate cannot ask for while other threads release views. */
static uint64_t count_held(const iam_rows *rows)
{
    uint64_t held = 0;
    for (uint64_t number = 0; number < rows->used_count; number++) {
        const hold *holds = rows_hold(rows, number);
        uint32_t state = holds == NULL ? 0 : atomic_load(&holds->state);
        held += (state & HOLD_DEAD) != 0 && (state & HOLD_VIEWS) != 0;
    }
    return held;
}

static void expect_valid_as(const room *r, bool with_keys)
{
    char reason[200] = "";
    if (!rows_validate(r->rows, with_keys, reason, sizeof reason)) {
        fprintf(stderr, "%s\n", reason);
        exit(1);
    }
    EXPECT(atomic_load(&r->rows->held_count) == count_held(r->rows));
}

static void expect_valid(const room *r)
{
    expect_valid_as(r, true);
}

static void room_end(room *r)
{
    rows_release(r->rows);
    EXPECT(atomic_load(&r->state.alive) == 0);
}

static uint32_t insert(room *r, int64_t key)
{
    EXPECT(rows_room(r->rows) == IAM_OK);
    uint32_t number = rows_insert(r->rows, key);
    EXPECT(rows_present(r->rows, number) && *rows_key(r->rows, number) == key);
    return number;
}

static iam_view take(room *r, uint32_t number)
{
    iam_view view;
    EXPECT(rows_view_take(r->rows, number, &view) == IAM_OK);
    EXPECT(view.number == number && view.rows == r->rows && view.hold == rows_hold(r->rows, number));
    return view;
}

static uint32_t state_of(const room *r, uint32_t number)
{
    const hold *holds = rows_hold(r->rows, number);
    return holds == NULL ? 0 : atomic_load(&holds->state);
}

/* Takes the row's key away; FREE at once if nothing holds it back. */
static bool remove_row(room *r, uint32_t number)
{
    bool is_free = rows_unmark(r->rows, number);
    if (is_free)
        rows_make_free(r->rows, number);
    return is_free;
}

static uint32_t drain_all(room *r)
{
    uint32_t count = 0;
    for (uint32_t number; (number = rows_drain(r->rows)) != IAM_ROW_NONE; count++)
        rows_make_free(r->rows, number);
    return count;
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static void test_numbers_are_handed_out_in_order_and_again(void)
{
    room r;
    room_begin(&r);
    for (uint32_t i = 0; i < 1000; i++)
        EXPECT(insert(&r, i * 10) == i);
    EXPECT(r.rows->used_count == 1000 && r.rows->live_count == 1000);
    EXPECT(remove_row(&r, 17) && remove_row(&r, 900) && remove_row(&r, 3));
    EXPECT(r.rows->free_count == 3);
    expect_valid(&r);
    EXPECT(insert(&r, -1) == 3 && insert(&r, -2) == 900 && insert(&r, -3) == 17); /* last freed, first used */
    EXPECT(insert(&r, -4) == 1000);
    EXPECT(r.rows->free_count == 0 && r.rows->used_count == 1001);
    expect_valid(&r);
    room_end(&r);
}

static void test_no_memory_and_too_many(void)
{
    room r;
    room_begin(&r);
    for (uint64_t used = 0; used < 3000; used++) {
        /* rows, presence, holds and keys grow one after the other: each is refused in turn. */
        for (int64_t granted = 0;; granted++) {
            atomic_store(&r.state.until_failure, granted);
            iam_status status = rows_room(r.rows);
            atomic_store(&r.state.until_failure, FAILING_NEVER);
            EXPECT(r.rows->used_count == used);
            if (status == IAM_OK)
                break;
            EXPECT(status == IAM_NO_MEMORY);
            expect_valid(&r);
        }
        EXPECT(insert(&r, 5) == used);
    }
    EXPECT(atomic_load(&r.state.refused) >= 20);
    /* The last two row numbers are marks. */
    uint64_t used_count = r.rows->used_count;
    r.rows->used_count = IAM_ROWS_MAX;
    EXPECT(rows_room(r.rows) == IAM_TOO_MANY_ROWS);
    r.rows->used_count = used_count;
    room_end(&r);
}

/* ---- States ------------------------------------------------------------------------------------------------------ */

/* LIVE -> FREE; LIVE with views -> HELD -> RETURNED -> FREE. */
static void test_a_row_with_views_is_held_until_the_last_goes(void)
{
    room r;
    room_begin(&r);
    uint32_t number = insert(&r, 1);
    iam_view first = take(&r, number), second = take(&r, number);
    EXPECT(state_of(&r, number) == 2);
    EXPECT(!remove_row(&r, number)); /* HELD */
    EXPECT(state_of(&r, number) == (HOLD_DEAD | 2) && atomic_load(&r.rows->held_count) == 1);
    expect_valid(&r);
    EXPECT(insert(&r, 2) != number);
    iam_view_release(&first);
    EXPECT(state_of(&r, number) == (HOLD_DEAD | 1) && rows_drain(r.rows) == IAM_ROW_NONE);
    iam_view_release(&second); /* RETURNED */
    EXPECT(state_of(&r, number) == (HOLD_DEAD | HOLD_QUEUED) && atomic_load(&r.rows->held_count) == 0);
    EXPECT(rows_any_held(r.rows, number, number + 1)); /* not to be used before it is drained */
    EXPECT(insert(&r, 3) != number);
    EXPECT(rows_drain(r.rows) == number && state_of(&r, number) == 0); /* FREE */
    rows_make_free(r.rows, number);
    EXPECT(!rows_any_held(r.rows, 0, 3) && rows_drain(r.rows) == IAM_ROW_NONE);
    EXPECT(insert(&r, 4) == number);
    expect_valid(&r);
    room_end(&r);
}

/* One row is held, and looked for over any stretch: holds stand in chunks, most of which were never made. */
static void test_a_held_row_among_many_is_found(void)
{
    enum { COUNT = 5 * HOLD_CHUNK_ROWS };
    for (uint32_t held = 0; held < COUNT; held += held % HOLD_CHUNK_ROWS == 1 ? HOLD_CHUNK_ROWS - 2 : 1) {
        room r;
        room_begin(&r);
        for (int64_t key = 0; key < COUNT; key++)
            insert(&r, key);
        iam_view view = take(&r, held);
        for (uint64_t begin = 0; begin < COUNT; begin += 7)
            for (uint64_t end = begin; end < COUNT; end += 31)
                EXPECT(rows_any_held(r.rows, begin, end) == (begin <= held && held < end));
        EXPECT(rows_any_held(r.rows, held, held + 1) && !rows_any_held(r.rows, held + 1, COUNT));
        iam_view_release(&view);
        EXPECT(!rows_any_held(r.rows, 0, COUNT));
        room_end(&r);
    }
}

static void test_views_released_before_the_key_goes(void)
{
    room r;
    room_begin(&r);
    uint32_t number = insert(&r, 1);
    iam_view view = take(&r, number);
    iam_view_release(&view);
    EXPECT(rows_drain(r.rows) == IAM_ROW_NONE && remove_row(&r, number) && insert(&r, 2) == number);
    room_end(&r);
}

/* A page of 128 rows as the direct index has them: a row can come back to life at its place while it is held or queued.
 */
static void page_begin(room *r)
{
    room_begin(r);
    EXPECT(rows_reserve(r->rows, 128, false, SEGMENTS_AHEAD) && rows_take_run(r->rows, 128) == 0);
}

static void test_direct_row_comes_back_while_held(void)
{
    room r;
    page_begin(&r);
    rows_mark(r.rows, 5);
    iam_view view = take(&r, 5);
    EXPECT(!rows_unmark(r.rows, 5) && atomic_load(&r.rows->held_count) == 1); /* HELD */
    rows_mark(r.rows, 5);                                                     /* LIVE again */
    EXPECT(state_of(&r, 5) == 1 && atomic_load(&r.rows->held_count) == 0);
    expect_valid_as(&r, false);
    iam_view_release(&view);
    EXPECT(state_of(&r, 5) == 0 && rows_drain(r.rows) == IAM_ROW_NONE);
    EXPECT(rows_unmark(r.rows, 5));
    room_end(&r);
}

static void test_direct_row_comes_back_while_queued(void)
{
    room r;
    page_begin(&r);
    rows_mark(r.rows, 5);
    iam_view view = take(&r, 5);
    EXPECT(!rows_unmark(r.rows, 5));
    iam_view_release(&view); /* RETURNED */
    rows_mark(r.rows, 5);    /* LIVE, still in the stack */
    EXPECT(state_of(&r, 5) == HOLD_QUEUED);
    EXPECT(rows_drain(r.rows) == IAM_ROW_NONE && state_of(&r, 5) == 0); /* the drain sees that it lives */
    EXPECT(rows_present(r.rows, 5) && rows_unmark(r.rows, 5));
    expect_valid_as(&r, false);
    room_end(&r);
}

/* ... and is held anew before the drain: it is in the stack once, and comes out of it once. */
static void test_direct_row_held_anew_while_queued(void)
{
    for (int drained_early = 0; drained_early < 2; drained_early++) {
        room r;
        page_begin(&r);
        rows_mark(r.rows, 5);
        iam_view view = take(&r, 5);
        EXPECT(!rows_unmark(r.rows, 5));
        iam_view_release(&view);
        rows_mark(r.rows, 5);
        view = take(&r, 5);
        EXPECT(!rows_unmark(r.rows, 5)); /* HELD and QUEUED */
        EXPECT(state_of(&r, 5) == (HOLD_DEAD | HOLD_QUEUED | 1) && atomic_load(&r.rows->held_count) == 1);
        expect_valid_as(&r, false);
        if (drained_early) {
            EXPECT(rows_drain(r.rows) == IAM_ROW_NONE);
            EXPECT(state_of(&r, 5) == (HOLD_DEAD | 1));
        }
        iam_view_release(&view);
        EXPECT(state_of(&r, 5) == (HOLD_DEAD | HOLD_QUEUED) && atomic_load(&r.rows->held_count) == 0);
        EXPECT(rows_drain(r.rows) == 5 && rows_drain(r.rows) == IAM_ROW_NONE && state_of(&r, 5) == 0);
        room_end(&r);
    }
}

/* QUEUED, alive again and deleted again without a view: not free before the drain, free after it. */
static void test_direct_row_deleted_again_while_queued(void)
{
    room r;
    page_begin(&r);
    rows_mark(r.rows, 5);
    iam_view view = take(&r, 5);
    EXPECT(!rows_unmark(r.rows, 5));
    iam_view_release(&view);
    rows_mark(r.rows, 5);
    EXPECT(!rows_unmark(r.rows, 5) && atomic_load(&r.rows->held_count) == 0);
    EXPECT(rows_drain(r.rows) == 5 && rows_drain(r.rows) == IAM_ROW_NONE);
    EXPECT(state_of(&r, 5) == 0);
    room_end(&r);
}

static void test_drain_empties_the_stack_in_pieces(void)
{
    enum { ROWS = 300 };
    static iam_view views[ROWS];
    room r;
    room_begin(&r);
    for (uint32_t i = 0; i < ROWS; i++)
        insert(&r, i);
    for (uint32_t i = 0; i < ROWS; i++) {
        views[i] = take(&r, i);
        EXPECT(!remove_row(&r, i));
    }
    EXPECT(atomic_load(&r.rows->held_count) == ROWS);
    for (uint32_t i = 0; i < 100; i++)
        iam_view_release(&views[i]);
    for (uint32_t i = 0; i < 10; i++)
        rows_make_free(r.rows, rows_drain(r.rows));
    for (uint32_t i = 100; i < ROWS; i++) /* more come while some that were taken are not yet drained */
        iam_view_release(&views[i]);
    EXPECT(drain_all(&r) == ROWS - 10);
    EXPECT(r.rows->free_count == ROWS && atomic_load(&r.rows->held_count) == 0);
    expect_valid(&r);
    for (uint32_t i = 0; i < ROWS; i++)
        EXPECT(insert(&r, i) < ROWS);
    room_end(&r);
}

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */

static void hold_block(room *r)
{
    atomic_fetch_add(&r->rows->refs, 1);
    atomic_fetch_add(&r->rows->block_holds, 1);
}

static void test_rows_freed_under_a_block_wait(void)
{
    room r;
    room_begin(&r);
    for (uint32_t i = 0; i < 10; i++)
        insert(&r, i);
    EXPECT(remove_row(&r, 8) && remove_row(&r, 0));
    hold_block(&r);
    hold_block(&r);
    EXPECT(insert(&r, 100) == 0 && insert(&r, 108) == 8); /* freed before the block came */
    for (uint32_t i = 2; i < 6; i++)
        EXPECT(remove_row(&r, i));
    EXPECT(r.rows->free_count == 4);
    expect_valid(&r);
    rows_settle(r.rows);
    EXPECT(insert(&r, 101) == 10); /* still held */
    iam_blocks_release(r.rows);
    rows_settle(r.rows);
    EXPECT(insert(&r, 102) == 11); /* by another one */
    iam_blocks_release(r.rows);
    EXPECT(insert(&r, 103) == 12); /* nobody has settled it yet */
    rows_settle(r.rows);
    expect_valid(&r);
    for (uint32_t i = 2; i < 6; i++) {
        uint32_t number = insert(&r, 200 + (int64_t)i);
        EXPECT(number >= 2 && number < 6);
    }
    EXPECT(insert(&r, 300) == 13 && r.rows->free_count == 0);
    /* Those that wait go before those that were free all along; none is forgotten. */
    EXPECT(remove_row(&r, 1) && remove_row(&r, 9));
    hold_block(&r);
    EXPECT(remove_row(&r, 6) && remove_row(&r, 7));
    iam_blocks_release(r.rows);
    rows_settle(r.rows);
    expect_valid(&r);
    EXPECT(insert(&r, 1) == 6 && insert(&r, 2) == 7 && insert(&r, 3) == 9 && insert(&r, 4) == 1);
    EXPECT(insert(&r, 5) == 14);
    room_end(&r);
}

/* ---- Walking ----------------------------------------------------------------------------------------------------- */

static void test_first_and_last_walk_across_words(void)
{
    enum { ROWS = 1000 };
    const uint32_t marked[] = {0, 1, 63, 64, 127, 128, 500, 511, 512, 640, 998};
    enum { MARKED = sizeof marked / sizeof *marked };
    room r;
    room_begin(&r);
    EXPECT(rows_first(r.rows, 0) == UINT64_MAX && rows_last(r.rows, UINT64_MAX) == UINT64_MAX);
    EXPECT(rows_reserve(r.rows, ROWS, false, SEGMENTS_AHEAD));
    rows_take_run(r.rows, ROWS);
    EXPECT(rows_first(r.rows, 0) == UINT64_MAX && rows_last(r.rows, ROWS) == UINT64_MAX);
    for (int i = 0; i < MARKED; i++)
        rows_mark(r.rows, marked[i]);
    for (uint64_t from = 0; from <= ROWS + 70; from++) {
        uint64_t first = UINT64_MAX, last = UINT64_MAX;
        for (int i = MARKED - 1; i >= 0; i--)
            first = marked[i] >= from ? marked[i] : first;
        for (int i = 0; i < MARKED; i++)
            last = marked[i] < from ? marked[i] : last;
        EXPECT(rows_first(r.rows, from) == first && rows_last(r.rows, from) == last);
    }
    EXPECT(rows_last(r.rows, UINT64_MAX) == 998);
    for (int i = MARKED - 1; i >= 0; i--) {
        EXPECT(rows_last(r.rows, UINT64_MAX) == marked[i]);
        EXPECT(rows_unmark(r.rows, marked[i]));
        expect_valid_as(&r, false);
    }
    EXPECT(rows_last(r.rows, UINT64_MAX) == UINT64_MAX);
    room_end(&r);
}

/* Regression: the bound below which rows are present stayed up when rows went in ascending order, and each look for the
 * last row walked over all the empty words. */
static void test_bound_comes_down(void)
{
    enum { ROWS = 1 << 18, KEPT = 1 << 12 };
    room r;
    room_begin(&r);
    EXPECT(rows_reserve(r.rows, ROWS, false, SEGMENTS_EXACT));
    rows_take_run(r.rows, ROWS);
    for (uint32_t i = 0; i < ROWS; i++)
        rows_mark(r.rows, i);
    for (uint32_t i = KEPT; i < ROWS; i++)
        EXPECT(rows_unmark(r.rows, i));
    EXPECT(r.rows->last_bound == ROWS - 64 * 64); /* 64 words of presence for the last of them */
    EXPECT(rows_last(r.rows, UINT64_MAX) == KEPT - 1);
    for (uint32_t i = 0; i < KEPT / 16; i++)
        EXPECT(rows_unmark(r.rows, i));
    EXPECT(r.rows->last_bound == KEPT);
    for (uint32_t i = KEPT; i-- > KEPT - 40;) { /* row by row where they go from the end */
        EXPECT(rows_unmark(r.rows, i) && r.rows->last_bound == i);
        if (i % 3 == 0) {
            rows_mark(r.rows, i);
            EXPECT(r.rows->last_bound == i + 1 && rows_unmark(r.rows, i));
        }
    }
    expect_valid_as(&r, false);
    room_end(&r);
}

int main(void)
{
    for (int turn = 0; turn < 2; turn++) {
        serial_views = turn == 1;
        RUN(test_numbers_are_handed_out_in_order_and_again);
        RUN(test_no_memory_and_too_many);
        RUN(test_a_row_with_views_is_held_until_the_last_goes);
        RUN(test_a_held_row_among_many_is_found);
        RUN(test_views_released_before_the_key_goes);
        RUN(test_direct_row_comes_back_while_held);
        RUN(test_direct_row_comes_back_while_queued);
        RUN(test_direct_row_held_anew_while_queued);
        RUN(test_direct_row_deleted_again_while_queued);
        RUN(test_drain_empties_the_stack_in_pieces);
        RUN(test_rows_freed_under_a_block_wait);
        RUN(test_first_and_last_walk_across_words);
        RUN(test_bound_comes_down);
    }
    return harness_end();
}
