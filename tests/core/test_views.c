/* test_views.c: views of rows: storage that outlives its map, hold words and their lack of memory, release from any
 * thread with no lock. What becomes of a single row is test_rows.c. */
#include "harness.h"

#include "rows.h"

#include <pthread.h>

enum { ROW_BYTES = 64 };

static bool serial_views; /* by plain instructions */

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

static void room_end(room *r)
{
    char reason[200] = "";
    EXPECT(rows_validate(r->rows, true, reason, sizeof reason));
    rows_release(r->rows);
    EXPECT(atomic_load(&r->state.alive) == 0);
}

static uint32_t insert(room *r, int64_t key)
{
    EXPECT(rows_room(r->rows) == IAM_OK);
    return rows_insert(r->rows, key);
}

static iam_view take(room *r, uint32_t number)
{
    iam_view view;
    EXPECT(rows_view_take(r->rows, number, &view) == IAM_OK);
    return view;
}

static uint32_t state_of(const room *r, uint32_t number)
{
    return atomic_load(&rows_hold(r->rows, number)->state);
}

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

/* ---- One thread -------------------------------------------------------------------------------------------------- */

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
    poison_lift(unheld, 1); /* nobody may look there, but for this: */
    EXPECT(*unheld == 0);   /* the memory between went back to the system */
    for (int i = 0; i < 4; i++) {
        for (int other = i; other < 4; other++)
            EXPECT(address[other][0] == 0xff && address[other][ROW_BYTES - 1] == 0xff);
        iam_view_release(&kept[i]);
    }
    EXPECT(atomic_load(&r.state.alive) == 0);
}

/* A view of one of the first rows, among whole pages that go back to the system. */
static void test_views_of_the_first_rows(void)
{
    for (uint32_t held = 0; held < 3 * HOLD_CHUNK_ROWS; held += HOLD_CHUNK_ROWS / 2 - 3) {
        room r;
        room_begin(&r);
        EXPECT(rows_reserve(r.rows, 8000, true, SEGMENTS_EXACT) && r.rows->row_store.low_count == 0);
        for (uint32_t i = 0; i < 8000; i++)
            memset(rows_at(r.rows, insert(&r, i)), 0xff, ROW_BYTES);
        iam_view view = take(&r, held);
        const uint8_t *row = rows_at(r.rows, held), *other = rows_at(r.rows, held ^ HOLD_CHUNK_ROWS / 2);
        rows_abandon(r.rows);
        for (int i = 0; i < ROW_BYTES; i++)
            EXPECT(row[i] == 0xff);
        poison_lift(other, 1); /* nobody may look there, but for this: */
        EXPECT(*other == 0);   /* a page of the same hold chunk, all of whose rows nobody holds, went back */
        iam_view_release(&view);
        EXPECT(atomic_load(&r.state.alive) == 0);
    }
}

static void test_block_keeps_storage(void)
{
    room r;
    room_begin(&r);
    memset(rows_at(r.rows, insert(&r, 1)), 0xee, ROW_BYTES);
    atomic_fetch_add(&r.rows->refs, 1);
    atomic_fetch_add(&r.rows->block_holds, 1);
    const uint8_t *row = rows_at(r.rows, 0);
    iam_rows *rows = r.rows;
    rows_abandon(rows);
    EXPECT(row[0] == 0xee && row[63] == 0xee);
    iam_blocks_release(rows);
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
    uint32_t before = atomic_load(&holds->state);
    atomic_store(&holds->state, HOLD_VIEWS / 2 - 1);
    iam_view third = take(&r, number);
    EXPECT(atomic_load(&holds->state) == HOLD_VIEWS / 2);
    for (uint32_t count = HOLD_VIEWS / 2; count <= HOLD_VIEWS / 2 + 1; count++) {
        iam_view fourth;
        atomic_store(&holds->state, count);
        EXPECT(rows_view_take(r.rows, number, &fourth) == IAM_NO_MEMORY && atomic_load(&holds->state) == count);
    }
    atomic_store(&holds->state, before + 1);
    iam_view_release(&third);
    EXPECT(atomic_load(&holds->state) == before && atomic_load(&r.rows->refs) == 3);
    iam_view_release(&view);
    iam_view_release(&second);
    EXPECT(atomic_load(&r.rows->refs) == 1);
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
    for (int turn = 0; turn < 2; turn++) {
        serial_views = turn == 1;
        RUN(test_views_outlive_the_map);
        RUN(test_views_of_the_first_rows);
        RUN(test_block_keeps_storage);
    }
    serial_views = false; /* threads from here on */
    RUN(test_two_readers_make_the_same_chunk);
    RUN(test_refused_view);
    serial_views = true;
    RUN(test_refused_view);
    serial_views = false;
    RUN(test_release_needs_no_lock);
    RUN(test_readers_make_chunks_at_the_same_time);
    return harness_end();
}
