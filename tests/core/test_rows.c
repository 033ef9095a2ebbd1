/* test_rows.c: row numbers: what becomes of a row (FREE, LIVE, HELD, RETURNED as rows.h draws them), views from any
 * thread, blocks, walking, R1-R3. */
#include "harness.h"

#include "rows.h"

#include <pthread.h>

enum { ROW_BYTES = 64 };

typedef struct room {
    failing state;
    iam_rows *rows;
} room;

static void room_begin(room *r)
{
    iam_options options = {.allocator = failing_allocator(&r->state)};
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

/* ---- Views and blocks -------------------------------------------------------------------------------------------- */

static void test_views_outlive_the_map(void)
{
    enum { ROWS = 4000 };
    room r;
    room_begin(&r);
    for (uint32_t i = 0; i < ROWS; i++)
        memset(rows_at(r.rows, insert(&r, i)), 0xff, ROW_BYTES);
    /* A row that ends where a page of memory does, and one that begins there, among them. */
    uint32_t in_range = (uint32_t)r.rows->row_store.low_count, page_rows = PAGE_BYTES / ROW_BYTES;
    iam_view kept[] = {take(&r, 0), take(&r, in_range + 10 * page_rows - 1), take(&r, in_range + 15 * page_rows),
                       take(&r, in_range + 10 * page_rows - 1)};
    const uint8_t *address[4];
    for (int i = 0; i < 4; i++)
        address[i] = rows_at(r.rows, kept[i].number);
    const uint8_t *unheld = rows_at(r.rows, 3000);
    EXPECT(r.rows->row_store.range != NULL);
    rows_abandon(r.rows);
    EXPECT(*unheld == 0); /* the memory between went back to the system */
    for (int i = 0; i < 4; i++) {
        for (int other = i; other < 4; other++)
            EXPECT(address[other][0] == 0xff && address[other][ROW_BYTES - 1] == 0xff);
        iam_view_release(&kept[i]);
    }
    EXPECT(atomic_load(&r.state.alive) == 0);
}

/* A second reader that comes in just when the first is making the chunk of hold words: the allocator plays it. */
typedef struct second_reader {
    failing state;
    iam_rows *rows; /* where it takes a view, once */
    iam_view view;
} second_reader;

static void *allocate_and_take(void *state_in, size_t bytes, size_t alignment, bool zeroed)
{
    second_reader *reader = state_in;
    iam_rows *rows = reader->rows;
    reader->rows = NULL;
    if (rows != NULL)
        EXPECT(rows_view_take(rows, 7, &reader->view) == IAM_OK);
    return failing_allocate(&reader->state, bytes, alignment, zeroed);
}

static void release_block(void *state_in, void *block, size_t bytes)
{
    failing_release(&((second_reader *)state_in)->state, block, bytes);
}

static void test_two_readers_make_the_same_chunk(void)
{
    second_reader reader = {.rows = NULL};
    failing_allocator(&reader.state);
    iam_options options = {.allocator = {.state = &reader, .allocate = allocate_and_take, .release = release_block}};
    iam_rows *rows = rows_create(&options, ROW_BYTES, 1 << 20);
    EXPECT(rows != NULL);
    for (int64_t key = 0; key < 10; key++) {
        EXPECT(rows_room(rows) == IAM_OK);
        rows_insert(rows, key);
    }
    reader.rows = rows;
    iam_view view;
    EXPECT(rows_view_take(rows, 5, &view) == IAM_OK && reader.rows == NULL);
    /* One chunk, both views in it. */
    EXPECT(view.hold == rows_hold(rows, 5) && reader.view.hold == rows_hold(rows, 7));
    EXPECT(atomic_load(&rows_hold(rows, 5)->state) == 1 && atomic_load(&rows_hold(rows, 7)->state) == 1);
    iam_view_release(&view);
    iam_view_release(&reader.view);
    rows_release(rows);
    EXPECT(atomic_load(&reader.state.alive) == 0);
}

static void test_refused_view(void)
{
    room r;
    room_begin(&r);
    uint32_t number = insert(&r, 1);
    iam_view view;
    atomic_store(&r.state.until_failure, 0);
    EXPECT(rows_view_take(r.rows, number, &view) == IAM_NO_MEMORY);
    atomic_store(&r.state.until_failure, FAILING_NEVER);
    EXPECT(atomic_load(&r.rows->refs) == 1 && remove_row(&r, number));
    number = insert(&r, 2);
    view = take(&r, number);
    atomic_store(&r.state.until_failure, 0);
    iam_view second = take(&r, number); /* its chunk is there: needs no memory */
    atomic_store(&r.state.until_failure, FAILING_NEVER);
    /* The count of views cannot run into the marks above it. */
    hold *holds = rows_hold(r.rows, number);
    atomic_fetch_add(&holds->state, HOLD_VIEWS / 2);
    iam_view third;
    EXPECT(rows_view_take(r.rows, number, &third) == IAM_NO_MEMORY);
    atomic_fetch_sub(&holds->state, HOLD_VIEWS / 2);
    iam_view_release(&view);
    iam_view_release(&second);
    EXPECT(atomic_load(&r.rows->refs) == 1);
    room_end(&r);
}

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

static void test_block_keeps_storage(void)
{
    room r;
    room_begin(&r);
    memset(rows_at(r.rows, insert(&r, 1)), 0xee, ROW_BYTES);
    hold_block(&r);
    const uint8_t *row = rows_at(r.rows, 0);
    iam_rows *rows = r.rows;
    rows_abandon(rows);
    EXPECT(row[0] == 0xee && row[63] == 0xee);
    iam_blocks_release(rows);
    EXPECT(atomic_load(&r.state.alive) == 0);
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
    EXPECT(rows_last(r.rows, UINT64_MAX) == KEPT - 1);
    for (uint32_t i = 0; i < KEPT / 16; i++)
        EXPECT(rows_unmark(r.rows, i));
    EXPECT(r.rows->last_bound == KEPT);
    expect_valid_as(&r, false);
    room_end(&r);
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, SHARE = 2000, ROWS_OF_ALL = THREADS / 2 * SHARE };

typedef struct worker {
    pthread_t thread;
    iam_rows *rows;
    iam_view *views;
    uint32_t failures;
} worker;

static void *release_all(void *state)
{
    worker *self = state;
    for (int i = 0; i < SHARE; i++)
        iam_view_release(&self->views[i]);
    return NULL;
}

static void *take_all(void *state)
{
    worker *self = state;
    for (uint32_t number = 0; number < SHARE; number++) {
        iam_view view;
        if (rows_view_take(self->rows, number, &view) != IAM_OK)
            self->failures++;
        else if (number % 3 != 0) /* every third view stays */
            iam_view_release(&view);
    }
    return NULL;
}

static iam_view views_of[THREADS][SHARE];

static void start_all(room *r, worker *workers, void *(*run)(void *))
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.rows = r->rows, .views = views_of[i]};
        EXPECT(pthread_create(&workers[i].thread, NULL, run, &workers[i]) == 0);
    }
}

static void join_all(worker *workers)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        EXPECT(workers[i].failures == 0);
    }
}

/* Views go in four threads while the only writer drains, deletes and inserts. Every row is held by two threads. */
static void test_release_needs_no_lock(void)
{
    room r;
    worker workers[THREADS];
    room_begin(&r);
    for (uint32_t i = 0; i < ROWS_OF_ALL; i++)
        insert(&r, i);
    for (uint32_t i = 0; i < THREADS * SHARE; i++)
        views_of[i / SHARE][i % SHARE] = take(&r, i % ROWS_OF_ALL);
    start_all(&r, workers, release_all);
    uint32_t freed = 0;
    for (uint32_t i = 0; i < ROWS_OF_ALL; i++) {
        freed += remove_row(&r, i);
        uint32_t number = rows_drain(r.rows);
        if (number != IAM_ROW_NONE) {
            rows_make_free(r.rows, number);
            freed++;
        }
    }
    join_all(workers);
    EXPECT(freed + drain_all(&r) == ROWS_OF_ALL && r.rows->free_count == ROWS_OF_ALL);
    EXPECT(atomic_load(&r.rows->held_count) == 0 && atomic_load(&r.rows->refs) == 1);
    expect_valid(&r);
    room_end(&r);
}

/* Readers side by side make the chunks of hold words: one of each survives. */
static void test_readers_make_chunks_at_the_same_time(void)
{
    room r;
    worker workers[THREADS];
    room_begin(&r);
    for (uint32_t i = 0; i < SHARE; i++)
        insert(&r, i);
    start_all(&r, workers, take_all);
    join_all(workers);
    for (uint32_t number = 0; number < SHARE; number++) {
        EXPECT(state_of(&r, number) == (number % 3 == 0 ? THREADS : 0));
        for (uint32_t view = state_of(&r, number); view > 0; view--)
            iam_view_release(&(iam_view){r.rows, rows_hold(r.rows, number), number});
    }
    EXPECT(rows_hold_bytes(r.rows) ==
           segments_bytes(&r.rows->hold_store) + (SHARE + 127) / 128 * HOLD_CHUNK_ROWS * sizeof(hold));
    room_end(&r);
}

int main(void)
{
    RUN(test_numbers_are_handed_out_in_order_and_again);
    RUN(test_no_memory_and_too_many);
    RUN(test_a_row_with_views_is_held_until_the_last_goes);
    RUN(test_views_released_before_the_key_goes);
    RUN(test_direct_row_comes_back_while_held);
    RUN(test_direct_row_comes_back_while_queued);
    RUN(test_direct_row_held_anew_while_queued);
    RUN(test_direct_row_deleted_again_while_queued);
    RUN(test_drain_empties_the_stack_in_pieces);
    RUN(test_views_outlive_the_map);
    RUN(test_two_readers_make_the_same_chunk);
    RUN(test_refused_view);
    RUN(test_rows_freed_under_a_block_wait);
    RUN(test_block_keeps_storage);
    RUN(test_first_and_last_walk_across_words);
    RUN(test_bound_comes_down);
    RUN(test_release_needs_no_lock);
    RUN(test_readers_make_chunks_at_the_same_time);
    return harness_end();
}
