/* test_direct.c: the direct index through a map that has it: keys of every sign, pages that come and go at either end,
 * the directory as a ring, what views and blocks keep, D1-D4. */
#define _DEFAULT_SOURCE
#include "harness.h"

#include "map.h"

#include <sys/mman.h>

typedef struct room {
    failing state;
    iam_map *map;
    uint64_t *row; /* a row to put */
    uint64_t row_items;
} room;

static void room_begin(room *r, size_t row_bytes, iam_index index, bool ranges)
{
    iam_options options = {
        .row_items = row_bytes / 8, .kind = IAM_UINT64, .index = index, .allocator = failing_allocator(&r->state)};
    atomic_store(&r->state.refuses_ranges, !ranges);
    r->row_items = options.row_items;
    r->row = calloc(1, row_bytes);
    EXPECT(r->row != NULL && iam_map_create(&options, &r->map) == IAM_OK);
}

static void room_end(room *r)
{
    harness_validate(r->map);
    iam_map_destroy(r->map);
    free(r->row);
    EXPECT(atomic_load(&r->state.alive) == 0);
}

/* A key's row begins and ends with the key. */
static iam_status try_put(room *r, int64_t key)
{
    r->row[0] = r->row[r->row_items - 1] = (uint64_t)key;
    return iam_map_put(r->map, key, r->row);
}

static void put(room *r, int64_t key)
{
    EXPECT(try_put(r, key) == IAM_OK);
}

static void expect_there(const room *r, int64_t key)
{
    uint32_t number;
    const uint64_t *row = iam_map_find(r->map, key, &number);
    EXPECT(row != NULL && row[0] == (uint64_t)key && row[r->row_items - 1] == (uint64_t)key);
    EXPECT(map_key(r->map, number) == key);
}

static void expect_missing(const room *r, int64_t key)
{
    EXPECT(iam_map_find(r->map, key, NULL) == NULL);
}

static void take_away(room *r, int64_t key)
{
    EXPECT(iam_map_remove(r->map, key) == IAM_OK);
    expect_missing(r, key);
}

static int64_t plus(int64_t key, int64_t step) /* wraps */
{
    return (int64_t)((uint64_t)key + (uint64_t)step);
}

/* ---- Keys and places --------------------------------------------------------------------------------------------- */

static void test_keys_of_every_sign(void)
{
    enum { KEYS = 1000 };
    const int64_t bases[] = {INT64_MIN, INT64_MIN / 2, -KEYS, -KEYS / 2, -1, 0, 1, 1 << 20, INT64_MAX - KEYS + 1};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++)
        for (int descending = 0; descending < 2; descending++) {
            room r;
            room_begin(&r, 64, IAM_INDEX_AUTO, true);
            for (int64_t step = 0; step < KEYS; step++) {
                int64_t key = plus(bases[i], descending ? KEYS - 1 - step : step);
                expect_missing(&r, key);
                put(&r, key);
            }
            EXPECT(r.map->state == MAP_DIRECT && iam_map_count(r.map) == KEYS);
            EXPECT(r.map->direct.linear == !descending);
            for (int64_t step = 0; step < KEYS; step++)
                expect_there(&r, plus(bases[i], step));
            for (int64_t step = 1; step < 3000; step++) { /* over the ends of the pages and around the end of int64 */
                expect_missing(&r, plus(bases[i], -step));
                expect_missing(&r, plus(bases[i], KEYS - 1 + step));
            }
            room_end(&r);
        }
}

/* Holes within a page, pages that are not there between pages that are. */
static void test_holes(void)
{
    for (int ranges = 0; ranges < 2; ranges++) {
        room r;
        room_begin(&r, 64, IAM_INDEX_DIRECT, ranges);
        for (int64_t key = -9000; key < 9000; key += key % 900 == 0 ? 300 : 3)
            put(&r, key);
        uint64_t there = 0;
        for (int64_t key = -10000, next = -9000; key < 10000; key++) {
            if (key == next && key < 9000) {
                expect_there(&r, key);
                next += key % 900 == 0 ? 300 : 3;
                there++;
            } else {
                expect_missing(&r, key);
            }
        }
        EXPECT(there == iam_map_count(r.map) && r.map->direct.page_count < r.map->direct.page_span);
        room_end(&r);
    }
}

/* Pages are as many rows as fit 8 KiB: from one row to 4096. */
static void test_page_sizes(void)
{
    const struct {
        size_t row_bytes;
        uint32_t page_log2;
    } expected[] = {{8, 10}, {24, 8}, {64, 7}, {4096, 1}, {8192, 0}, {8200, 0}, {40000, 0}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        room r;
        room_begin(&r, expected[i].row_bytes, IAM_INDEX_DIRECT, true);
        EXPECT(r.map->direct.page_log2 == expected[i].page_log2);
        for (int64_t key = -40; key < 40; key++)
            put(&r, key * 3);
        for (int64_t key = -130; key < 130; key++)
            if (key % 3 == 0 && key >= -120 && key < 120)
                expect_there(&r, key);
            else
                expect_missing(&r, key);
        for (int64_t key = -40; key < 39; key++)
            take_away(&r, key * 3);
        for (int write = 0; write < 3; write++)
            put(&r, 39 * 3);
        EXPECT(r.map->direct.page_count == 1 && r.map->direct.page_span == 1);
        room_end(&r);
    }
    direct tiny; /* a row of one byte */
    direct_begin(&tiny, 1, 1000);
    EXPECT(tiny.page_log2 == DIRECT_PAGE_LOG2_MAX);
}

/* While pages come one after the other the directory is not read; it is right all the same when that ends. */
static void test_linear_ends_when_a_page_comes_out_of_line(void)
{
    for (int how = 0; how < 3; how++) {
        room r;
        room_begin(&r, 64, IAM_INDEX_AUTO, true);
        for (int64_t key = 0; key < 1024; key++)
            put(&r, key);
        EXPECT(r.map->direct.linear);
        if (how == 0)
            put(&r, -1);
        else if (how == 1)
            put(&r, 1024 + 128 * 2);
        else
            for (int64_t key = 256; key < 384; key++)
                take_away(&r, key);
        EXPECT(!r.map->direct.linear && r.map->state == MAP_DIRECT);
        harness_validate(r.map);
        for (int64_t key = 0; key < 1024; key++)
            if (how == 2 && key >= 256 && key < 384)
                expect_missing(&r, key);
            else
                expect_there(&r, key);
        room_end(&r);
    }
}

/* ---- Windows ----------------------------------------------------------------------------------------------------- */

static uint64_t ring_pages_resident(const direct *index)
{
    enum { PAGES = 1 << 18 };
    static unsigned char resident[PAGES];
    uint64_t count = 0;
    EXPECT(index->ring_reserved && (index->ring_mask + 1) * sizeof *index->ring == (uint64_t)PAGES * PAGE_BYTES);
    EXPECT(mincore(index->ring, (size_t)PAGES * PAGE_BYTES, resident) == 0);
    for (int page = 0; page < PAGES; page++)
        count += resident[page] & 1;
    return count;
}

/* A key far away for a moment makes the directory span so many pages that it becomes a reserved range. */
static void make_ring_reserved(room *r, int64_t near)
{
    int64_t far = plus(near, (int64_t)(near > 0 ? -20000 : 20000) * (1 << r->map->direct.page_log2));
    put(r, near);
    put(r, far);
    EXPECT(r->map->state == MAP_DIRECT && r->map->direct.ring_reserved);
    expect_there(r, near);
    expect_there(r, far);
    take_away(r, far);
}

/* Insert in front, delete behind, through 2^16 pages and more: direct throughout, nothing grows. */
static void slide(size_t row_bytes, int64_t start, int64_t direction, int64_t window, int64_t distance, bool ranges)
{
    room r;
    room_begin(&r, row_bytes, IAM_INDEX_AUTO, ranges);
    if (ranges)
        make_ring_reserved(&r, start);
    else
        put(&r, start);
    uint64_t rows_used = 0, bytes = 0;
    for (int64_t step = 1; step < distance; step++) {
        put(&r, plus(start, step * direction));
        if (step >= window)
            take_away(&r, plus(start, (step - window) * direction));
        if (step == 4 * window + 3000) {
            rows_used = r.map->rows->used_count;
            bytes = iam_map_bytes(r.map);
        }
        if (step > 4 * window + 3000 && step % 20000 == 19999) {
            EXPECT(r.map->state == MAP_DIRECT && iam_map_count(r.map) == (uint64_t)window);
            EXPECT(r.map->rows->used_count == rows_used);
            EXPECT(iam_map_bytes(r.map) <= bytes + 4 * PAGE_BYTES + 4 * row_bytes);
            EXPECT(r.map->direct.page_span == r.map->direct.page_count);
            EXPECT(!ranges || ring_pages_resident(&r.map->direct) <= 2); /* validate would touch more by looking */
            for (int64_t i = 0; i < window; i++)
                expect_there(&r, plus(start, (step - i) * direction));
            expect_missing(&r, plus(start, (step - window) * direction));
            expect_missing(&r, plus(start, (step + 1) * direction));
        }
    }
    room_end(&r);
}

/* A first batch whose pages span 64 a key and 64 more may pay, and one more does not; looking at them takes a bit a
 * page. */
static void test_a_batch_is_judged_by_its_span(void)
{
    enum { KEYS = 10, SPAN_MOST = KEYS * 64 + 64 };
    for (int64_t span = SPAN_MOST; span <= SPAN_MOST + 1; span++) {
        room r;
        room_begin(&r, 64, IAM_INDEX_AUTO, true);
        atomic_store(&r.state.block_most, 200000);
        int64_t keys[KEYS];
        for (int64_t i = 0; i < KEYS; i++)
            keys[i] = i * (span - 1) / (KEYS - 1) * (1 << r.map->direct.page_log2);
        EXPECT(iam_map_update_many(r.map, keys, KEYS, r.row, 0, IAM_SET) == IAM_OK);
        EXPECT(r.map->state == (span == SPAN_MOST ? MAP_DIRECT : MAP_HASH) && iam_map_count(r.map) == KEYS);
        EXPECT(r.map->state == MAP_HASH || r.map->direct.page_span == (uint64_t)span);
        room_end(&r);
    }
}

static void test_sliding_windows(void)
{
    slide(8192, -35000, 1, 20, 70000, true); /* a row a page: 70,000 pages, across zero */
    slide(8192, 35000, -1, 20, 70000, true);
    slide(4096, 0, 1, 50, 40000, true); /* two rows a page */
    slide(64, INT64_MIN, 1, 1000, 60000, true);
    slide(64, INT64_MAX, -1, 1000, 60000, true);
    slide(64, 0, 1, 1000, 60000, false);
    slide(64, 0, -1, 1000, 60000, false);
    slide(64, 0, 1, 1, 60000, true); /* each page is empty before the next one comes */
}

/* Regression: the directory's ends moved on by at most 64 pages per call, so that a window sliding by large batches
 * left its beginning behind. */
static void test_window_sliding_by_batches(void)
{
    enum { BATCH = 20000, ROUNDS = 30 };
    static int64_t keys[BATCH];
    static uint8_t removed[BATCH];
    room r;
    room_begin(&r, 64, IAM_INDEX_AUTO, true);
    uint64_t rows_used = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BATCH; i++)
            keys[i] = (int64_t)round * BATCH + i;
        EXPECT(iam_map_update_many(r.map, keys, BATCH, r.row, 0, IAM_SET) == IAM_OK);
        if (round == 0)
            continue;
        for (int i = 0; i < BATCH; i++)
            keys[i] -= BATCH;
        iam_map_delete_many(r.map, keys, BATCH, removed);
        EXPECT(r.map->direct.page_span == r.map->direct.page_count && iam_map_count(r.map) == BATCH);
        if (round == 2)
            rows_used = r.map->rows->used_count;
        EXPECT(round < 2 || r.map->rows->used_count <= rows_used + 2 * 128);
        EXPECT(r.map->state == MAP_DIRECT);
    }
    room_end(&r);
}

/* Regression: a directory that had become empty kept the memory it had touched: a small page of it for every jump. */
static void test_jumping_leaves_no_directory_behind(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_AUTO, true);
    make_ring_reserved(&r, 0);
    take_away(&r, 0);
    for (int64_t jump = 1; jump < 3000; jump++) {
        put(&r, jump * 128 * 5000);
        take_away(&r, jump * 128 * 5000);
    }
    EXPECT(ring_pages_resident(&r.map->direct) == 0);
    EXPECT(r.map->state == MAP_DIRECT && r.map->direct.page_count == 0 && iam_map_count(r.map) == 0);
    room_end(&r);
}

/* Regression: with nearly as many pages spanned as the ring has entries its two ends shared a small page of memory, and
 * when the low end left it the entries of the high end went with it. The key was lost. */
static void test_the_ends_of_the_ring_never_meet(void)
{
    enum { KEYS = 6000, PAGE_ROWS = 2 };
    const int64_t entries = (int64_t)1 << 28, ring_page = PAGE_BYTES / sizeof(uint32_t);
    for (int high_goes = 0; high_goes < 2; high_goes++) {
        room r;
        room_begin(&r, 4096, IAM_INDEX_DIRECT, true);
        int64_t first = (7 * ring_page + 5) * PAGE_ROWS;
        int64_t near = high_goes ? first + (entries - ring_page - KEYS / PAGE_ROWS) * PAGE_ROWS : first;
        int64_t far = high_goes ? first : first + (entries - ring_page - 1) * PAGE_ROWS;
        for (int64_t i = 0; i < KEYS; i++)
            put(&r, near + i);
        EXPECT(try_put(&r, high_goes ? near + KEYS - entries * PAGE_ROWS : near + (entries - 1) * PAGE_ROWS) ==
               IAM_TOO_SPARSE);
        put(&r, far);
        EXPECT(r.map->direct.page_span == (uint64_t)(entries - ring_page));
        for (int64_t i = 0; i < KEYS; i++)
            take_away(&r, near + (high_goes ? KEYS - 1 - i : i));
        expect_there(&r, far);
        EXPECT(r.map->direct.page_count == 1);
        for (int write = 0; write < 200; write++)
            put(&r, far);
        expect_there(&r, far);
        take_away(&r, far);
        EXPECT(r.map->direct.page_span == 0);
        room_end(&r);
    }
}

/* Where address space is refused the ring doubles by copying. */
static void test_ring_without_a_range(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_DIRECT, false);
    for (int64_t page = 0; page < 40000; page = page * 2 + 1) {
        put(&r, page * 128);
        put(&r, -page * 128);
        harness_validate(r.map);
    }
    EXPECT(!r.map->direct.ring_reserved && r.map->direct.ring_mask + 1 >= 65536);
    for (int64_t page = 0; page < 40000; page = page * 2 + 1) {
        expect_there(&r, page * 128);
        expect_there(&r, -page * 128);
        expect_missing(&r, page * 128 + 5);
    }
    room_end(&r);
}

/* ---- What keeps a page ------------------------------------------------------------------------------------------- */

static void test_a_view_keeps_its_page(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_AUTO, true);
    for (int64_t key = 0; key < 1280; key++)
        put(&r, key);
    uint32_t number;
    const uint64_t *row = iam_map_find(r.map, 200, &number);
    iam_view view;
    EXPECT(iam_view_take(r.map, number, &view) == IAM_OK);
    for (int64_t key = 0; key < 1280; key++)
        take_away(&r, key);
    EXPECT(r.map->direct.page_count == 1 && atomic_load(&r.map->rows->held_count) == 1);
    for (int64_t key = 5000; key < 7000; key++) /* none of which gets the row */
        put(&r, key);
    EXPECT(row[0] == 200 && row[7] == 200);
    put(&r, 201); /* a neighbour comes to the same page and goes */
    take_away(&r, 201);
    EXPECT(row[0] == 200);
    uint64_t pages = r.map->direct.page_count;
    iam_view_release(&view);
    EXPECT(r.map->direct.page_count == pages); /* release touches nothing but the hold */
    put(&r, 5000);
    EXPECT(r.map->direct.page_count == pages - 1);
    expect_missing(&r, 200);
    room_end(&r);
}

static void test_a_key_comes_back_to_its_held_row(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_AUTO, true);
    uint32_t number, again;
    put(&r, 5);
    iam_map_find(r.map, 5, &number);
    iam_view view;
    EXPECT(iam_view_take(r.map, number, &view) == IAM_OK);
    take_away(&r, 5);
    put(&r, 5);
    iam_map_find(r.map, 5, &again);
    EXPECT(again == number && atomic_load(&r.map->rows->held_count) == 0);
    iam_view_release(&view);
    take_away(&r, 5);
    EXPECT(r.map->direct.page_count == 0);
    room_end(&r);
}

/* A window slides while views of deleted rows are held for a while: memory follows what is held. */
static void test_window_with_views(void)
{
    enum { HELD = 64, WINDOW = 256 };
    iam_view views[HELD];
    uint64_t taken = 0, rows_used = 0;
    room r;
    room_begin(&r, 1024, IAM_INDEX_AUTO, true); /* eight rows a page */
    for (int64_t key = 0; key < 40000; key++) {
        put(&r, key);
        if (key < WINDOW)
            continue;
        uint32_t number;
        EXPECT(iam_map_find(r.map, key - WINDOW, &number) != NULL);
        if (taken >= HELD) {
            EXPECT(*(uint64_t *)iam_map_row(r.map, views[taken % HELD].number) == taken - HELD);
            iam_view_release(&views[taken % HELD]);
        }
        EXPECT(iam_view_take(r.map, number, &views[taken++ % HELD]) == IAM_OK);
        take_away(&r, key - WINDOW);
        if (key == 5000)
            rows_used = r.map->rows->used_count;
        EXPECT(key < 5000 || r.map->rows->used_count <= rows_used + 16);
    }
    EXPECT(r.map->state == MAP_DIRECT && atomic_load(&r.map->rows->held_count) == HELD);
    harness_validate(r.map);
    for (int i = 0; i < HELD; i++)
        iam_view_release(&views[i]);
    for (int write = 0; write < HELD / 16; write++) /* each takes back some */
        put(&r, 40000);
    EXPECT(r.map->direct.page_count <= WINDOW / 8 + 2);
    room_end(&r);
}

/* Regression: pages emptied under a block were looked for by a sweep over all pages, which a window outran; it left the
 * direct index in the end. */
static void test_blocks_keep_pages_for_as_long_as_they_live(void)
{
    enum { BATCH = 4000, ROUNDS = 40 };
    static int64_t keys[BATCH];
    static uint8_t removed[BATCH];
    room r;
    room_begin(&r, 64, IAM_INDEX_AUTO, true);
    uint64_t rows_used = 0, bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BATCH; i++)
            put(&r, (int64_t)round * BATCH + i);
        if (round == 0)
            continue;
        const uint64_t *row = iam_map_find(r.map, (int64_t)(round - 1) * BATCH, NULL);
        iam_blocks_take(r.map);
        for (int i = 0; i < BATCH; i++)
            keys[i] = (int64_t)(round - 1) * BATCH + i;
        iam_map_delete_many(r.map, keys, BATCH, removed);
        for (int i = 0; i < BATCH / 4; i++) /* new keys while it is held get other rows */
            put(&r, (int64_t)(round + 1) * BATCH + i);
        EXPECT(row[0] == (uint64_t)(round - 1) * BATCH);
        harness_validate(r.map);
        iam_blocks_release(iam_map_rows(r.map));
        EXPECT(r.map->state == MAP_DIRECT);
        if (round == 3) {
            rows_used = r.map->rows->used_count;
            bytes = iam_map_bytes(r.map);
        }
        EXPECT(round < 3 || r.map->rows->used_count <= rows_used + 2 * 128);
        EXPECT(round < 3 || iam_map_bytes(r.map) <= bytes + 4 * DIRECT_PAGE_BYTES);
    }
    room_end(&r);
}

/* However far apart its pages were, a write moves the directory's ends over 64 pages at most, and few writes catch up.
 */
static void test_ends_move_by_small_steps(void)
{
    for (int side = 0; side < 2; side++) {
        enum { GAP = 1000 };
        room r;
        room_begin(&r, 64, IAM_INDEX_DIRECT, true);
        put(&r, 0);
        put(&r, GAP * 128);
        EXPECT(r.map->direct.page_span == GAP + 1);
        take_away(&r, side ? GAP * 128 : 0);
        uint64_t span = r.map->direct.page_span;
        int writes = 0;
        EXPECT(span < GAP && span >= GAP + 1 - 2 * 64);
        for (; r.map->direct.page_span > 1; writes++) {
            put(&r, side ? 0 : GAP * 128);
            EXPECT(r.map->direct.page_span < span && r.map->direct.page_span + 64 >= span);
            span = r.map->direct.page_span;
            harness_validate(r.map);
        }
        EXPECT(writes >= GAP / 64 - 2 && writes <= GAP / 64 + 1);
        expect_there(&r, side ? 0 : GAP * 128);
        room_end(&r);
    }
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void test_too_sparse_changes_nothing(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_DIRECT, true);
    for (int64_t key = 0; key < 1000; key++)
        put(&r, key * 2);
    direct before = r.map->direct;
    EXPECT(try_put(&r, (int64_t)1 << 40) == IAM_TOO_SPARSE);
    EXPECT(try_put(&r, INT64_MIN) == IAM_TOO_SPARSE);
    int64_t batch[] = {1, 3, INT64_MAX, 5};
    EXPECT(iam_map_update_many(r.map, batch, 4, r.row, 0, IAM_SET) == IAM_TOO_SPARSE);
    EXPECT(r.map->direct.page_count == before.page_count && r.map->direct.page_span == before.page_span);
    EXPECT(iam_map_count(r.map) == 1000);
    expect_missing(&r, 1);
    put(&r, 1);
    room_end(&r);
}

/* Regression: what a map with index = DIRECT had come to hold could be too sparse for its copy. */
static void test_whatever_it_holds_can_be_copied(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_DIRECT, true);
    int64_t far = (int64_t)40000000 * 128; /* a directory of 160 MB: fine beside 300,000 keys */
    for (int64_t key = 0; key < 300000; key++)
        put(&r, key);
    put(&r, far);
    for (int64_t key = 1; key < 300000; key++)
        take_away(&r, key);
    iam_map *copy;
    EXPECT(iam_map_copy(r.map, 1, &copy) == IAM_OK);
    EXPECT(iam_map_count(copy) == 2 && iam_map_find(copy, far, NULL) != NULL && iam_map_find(copy, 0, NULL) != NULL);
    iam_map_destroy(copy);
    EXPECT(iam_map_compact(r.map) == IAM_OK);
    expect_there(&r, 0);
    expect_there(&r, far);
    take_away(&r, far);
    room_end(&r);
}

/* Rows so large that each has a page, and keys at both ends of all there are: 2^64 pages. */
static void test_all_pages_there_could_be(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index += IAM_INDEX_DIRECT) {
        room r;
        room_begin(&r, 8192, (iam_index)index, true);
        EXPECT(r.map->direct.page_log2 == 0);
        const int64_t ends[] = {INT64_MIN, INT64_MAX};
        iam_status expected = index == IAM_INDEX_DIRECT ? IAM_TOO_SPARSE : IAM_OK;
        EXPECT(iam_map_update_many(r.map, ends, 2, r.row, 0, IAM_SET) == expected);
        EXPECT(iam_map_count(r.map) == (expected == IAM_OK ? 2 : 0) && iam_map_clear(r.map) == IAM_OK);
        put(&r, INT64_MIN);
        EXPECT(direct_bytes_with(&r.map->direct, r.map->rows, INT64_MAX) == UINT64_MAX);
        EXPECT(try_put(&r, INT64_MAX) == expected);
        expect_there(&r, INT64_MIN);
        room_end(&r);
    }
}

/* The last page that has row numbers, and one more: told by index = DIRECT, and reason for AUTO to leave. */
static void test_more_pages_than_row_numbers(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index += IAM_INDEX_DIRECT) {
        room r;
        room_begin(&r, 64, (iam_index)index, true);
        for (int64_t key = 0; key < 200; key++)
            put(&r, key);
        uint64_t id_count = r.map->direct.id_count;
        r.map->direct.id_count = ((uint64_t)IAM_ROWS_MAX + 1) >> r.map->direct.page_log2; /* one more does not fit */
        iam_status status = try_put(&r, -300); /* out of line: looked for in the directory */
        r.map->direct.id_count = id_count;
        EXPECT(status == (index == IAM_INDEX_DIRECT ? IAM_TOO_MANY_ROWS : IAM_OK));
        EXPECT((r.map->state == MAP_DIRECT) == (index == IAM_INDEX_DIRECT));
        for (int64_t key = 0; key < 200; key++)
            expect_there(&r, key);
        put(&r, -301);
        room_end(&r);
    }
}

/* A directory cannot span more than its ring holds: asked for directly, as no rule of the map lets it come to that. */
static void test_a_page_too_far(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_DIRECT, true);
    put(&r, 0);
    direct before = r.map->direct;
    EXPECT(direct_may_span((1 << 28) - 1024) && !direct_may_span((1 << 28) - 1023));
    EXPECT(direct_add_page(&r.map->direct, r.map->rows, ((int64_t)1 << 28) * 128, SEGMENTS_AHEAD) == IAM_NO_MEMORY);
    EXPECT(memcmp(&before, &r.map->direct, sizeof before) == 0);
    EXPECT(direct_image_entries(0) == 64 && direct_image_entries(64) == 64 && direct_image_entries(65) == 128);
    room_end(&r);
}

/* What a page costs, which the choice of an index is made by: its rows, a bit for each of them, where it stands, and
 * its entry in the directory. */
static void test_what_pages_cost(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_DIRECT, true);
    put(&r, 0);
    const direct *index = &r.map->direct;
    const uint64_t page_rows = (uint64_t)1 << index->page_log2, page_bytes = page_rows * 64 + page_rows / 8 + 8;
    EXPECT(direct_bytes_of(index, r.map->rows, 1, 1) == page_bytes + 4);
    EXPECT(direct_bytes_of(index, r.map->rows, 3, 100) == 3 * page_bytes + 400);
    EXPECT(direct_bytes_with(index, r.map->rows, (int64_t)(page_rows * 9)) == 2 * page_bytes + 40);
    EXPECT(direct_bytes_with(index, r.map->rows, -1) == 2 * page_bytes + 8);
    room_end(&r);
}

/* Room for a key: an id for its page, and a directory that goes so far. */
static void test_room_for_a_page(void)
{
    room r;
    room_begin(&r, 64, IAM_INDEX_DIRECT, true);
    const direct *index = &r.map->direct;
    EXPECT(!direct_has_room(index, 0, 10));
    put(&r, 0);
    const int64_t page_rows = (int64_t)1 << index->page_log2, entries = (int64_t)index->ring_mask + 1;
    EXPECT(direct_has_room(index, page_rows, 2) && !direct_has_room(index, page_rows, 1));
    for (int64_t page = -2 * entries; page <= 2 * entries; page++)
        EXPECT(direct_has_room(index, page * page_rows, 2) == (page > -entries && page < entries));
    put(&r, page_rows);
    take_away(&r, 0); /* its id is free for another page */
    EXPECT(direct_has_room(index, 0, 2) && direct_has_room(index, 2 * page_rows, 2));
    room_end(&r);
}

int main(void)
{
    RUN(test_keys_of_every_sign);
    RUN(test_holes);
    RUN(test_page_sizes);
    RUN(test_linear_ends_when_a_page_comes_out_of_line);
    RUN(test_a_batch_is_judged_by_its_span);
    RUN(test_sliding_windows);
    RUN(test_window_sliding_by_batches);
    RUN(test_jumping_leaves_no_directory_behind);
    RUN(test_the_ends_of_the_ring_never_meet);
    RUN(test_ring_without_a_range);
    RUN(test_a_view_keeps_its_page);
    RUN(test_a_key_comes_back_to_its_held_row);
    RUN(test_window_with_views);
    RUN(test_blocks_keep_pages_for_as_long_as_they_live);
    RUN(test_ends_move_by_small_steps);
    RUN(test_all_pages_there_could_be);
    RUN(test_more_pages_than_row_numbers);
    RUN(test_a_page_too_far);
    RUN(test_what_pages_cost);
    RUN(test_room_for_a_page);
    RUN(test_too_sparse_changes_nothing);
    RUN(test_whatever_it_holds_can_be_copied);
    return harness_end();
}
