/* test_memory.c: the n-th request for memory is refused, for every n, in every operation that asks for any, on a map in
 * every state: IAM_NO_MEMORY and the map exactly as before, nothing leaked, and the same call works afterwards. What
 * lies below a map's allocator is refused in test_system.c. */
#include "image_bytes.h"

#include "map.h"

enum { ROW = 8, FEW = 40, MANY = 1100, HUGE = 17000 };
#define FAR ((int64_t)1 << 40)

/* ---- States of a map --------------------------------------------------------------------------------------------- */

static void put_keys(iam_map *map, int64_t first, int64_t stride, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double row[ROW] = {(double)(first + i * stride), 1, 2, 3, 4, 5, 6, (double)i};
        EXPECT(iam_map_put(map, first + i * stride, row) == IAM_OK);
    }
}

static void nothing(iam_map *map)
{
    (void)map;
}

static void empty_with_a_past(iam_map *map)
{
    put_keys(map, 0, 1, 300);
    for (int64_t key = 0; key < 300; key++)
        EXPECT(iam_map_remove(map, key) == IAM_OK);
}

static void empty_that_left(iam_map *map)
{
    put_keys(map, 0, FAR, 3);
    for (int64_t key = 0; key < 3; key++)
        EXPECT(iam_map_remove(map, key * FAR) == IAM_OK);
}

static void dense(iam_map *map)
{
    put_keys(map, 0, 1, 400);
}

static void leaving(iam_map *map)
{
    put_keys(map, 0, 1, 300);
    put_keys(map, FAR, 1, 2);
    EXPECT(map->state == MAP_LEAVING);
}

static void sparse(iam_map *map)
{
    put_keys(map, 0, 1000003, 509); /* the next rows need memory */
}

static void sparse_with_holes(iam_map *map)
{
    put_keys(map, 0, 1000003, 600);
    for (int64_t i = 0; i < 600; i += 3)
        EXPECT(iam_map_remove(map, i * 1000003) == IAM_OK);
}

/* Overflow buckets in chains and free ones, rows freed and to be used again, half of a doubling behind it. */
static void growing(iam_map *map)
{
    put_keys(map, 0, 1000003, 1000);
    for (int64_t i = 0; i < 1000; i += 7)
        EXPECT(iam_map_remove(map, i * 1000003) == IAM_OK);
    EXPECT(map->hash.overflow_count > 0 && map->hash.bucket_count > map->hash.level + map->hash.level / 8);
}

/* Pages out of line, one of them free, a hole in the directory. */
static void pages_out_of_line(iam_map *map)
{
    put_keys(map, 0, 1, 700);
    put_keys(map, -300, 1, 50);
    for (int64_t key = 256; key < 384; key++)
        EXPECT(iam_map_remove(map, key) == IAM_OK);
    EXPECT(map->state == MAP_DIRECT && !map->direct.linear && map->direct.id_free != 0);
}

/* Where all hashes are the same: one chain, as long as there are keys, with a free overflow bucket beside it. */
static void one_chain(iam_map *map)
{
    put_keys(map, 0, 1000003, 200);
    for (int64_t i = 0; i < 200; i += 7)
        EXPECT(iam_map_remove(map, i * 1000003) == IAM_OK);
    EXPECT(map->state == MAP_HASH && map->hash.overflow_count > 20 && map->hash.overflow_free != BUCKET_NONE);
}

static void image_of(const iam_map *map, char **bytes_out, uint64_t *byte_count_out);

/* A map over the image of a small one, verified and writable: its first items are not its own. The system's allocator
 * gave it what it has; from here on it is this one. */
static iam_map *open_image(const iam_options *options, bool is_dense)
{
    iam_options plain = {.row_items = ROW, .kind = IAM_FLOAT64, .seed = 11};
    plain.index = is_dense ? IAM_INDEX_AUTO : IAM_INDEX_HASH;
    iam_map *source, *map = NULL;
    EXPECT(iam_map_create(&plain, &source) == IAM_OK);
    put_keys(source, 0, is_dense ? 1 : 1000003, 500);
    char *bytes, reason[200];
    uint64_t byte_count;
    image_of(source, &bytes, &byte_count);
    iam_map_destroy(source);
    iam_mapping mapping = image_copy(bytes, byte_count);
    iam_about about;
    free(bytes);
    EXPECT(iam_image_open(&mapping, 9, &map, &about, reason, sizeof reason) == IAM_OK);
    EXPECT(iam_image_verify(map, reason, sizeof reason) == IAM_OK);
    iam_image_trust(map);
    map->options.allocator = map->memory.given = map->rows->memory.given = options->allocator;
    return map;
}

typedef struct situation {
    const char *name;
    iam_index index;
    void (*prepare)(iam_map *map); /* NULL: an opened image */
    uint64_t hash_and, hash_or;
} situation;

static const situation situations[] = {
    {"empty auto", IAM_INDEX_AUTO, nothing, 0, 0},
    {"empty hash", IAM_INDEX_HASH, nothing, 0, 0},
    {"empty direct", IAM_INDEX_DIRECT, nothing, 0, 0},
    {"empty with a past", IAM_INDEX_AUTO, empty_with_a_past, 0, 0},
    {"empty that left direct", IAM_INDEX_AUTO, empty_that_left, 0, 0},
    {"dense auto", IAM_INDEX_AUTO, dense, 0, 0},
    {"dense direct", IAM_INDEX_DIRECT, dense, 0, 0},
    {"leaving", IAM_INDEX_AUTO, leaving, 0, 0},
    {"sparse", IAM_INDEX_HASH, sparse, 0, 0},
    {"sparse with holes", IAM_INDEX_AUTO, sparse_with_holes, 0, 0},
    {"growing", IAM_INDEX_HASH, growing, 0, 0},
    {"pages out of line", IAM_INDEX_AUTO, pages_out_of_line, 0, 0},
    {"image, hash", IAM_INDEX_HASH, NULL, 0, 0},
    {"image, direct", IAM_INDEX_AUTO, NULL, 0, 0},
    {"all hashes zero", IAM_INDEX_HASH, one_chain, (uint64_t)1 << 45, 0},
    {"all hashes one", IAM_INDEX_AUTO, one_chain, 0, UINT64_MAX},
};

/* ---- Operations -------------------------------------------------------------------------------------------------- */

static int64_t keys[HUGE], items[HUGE], numbers[HUGE];
static double rows[HUGE][ROW], rows_out[HUGE][ROW];
static uint8_t flags[HUGE];

static void fill_keys(int64_t first, int64_t stride, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        keys[i] = first + (i * 7919 % count) * stride; /* 7919 is prime: a permutation */
        items[i] = i % ROW;
        rows[i][0] = (double)i;
        rows[i][ROW - 1] = -1;
    }
}

static iam_status put_near(iam_map *map)
{
    return iam_map_put(map, 512, rows[0]);
}

static iam_status put_far(iam_map *map)
{
    return iam_map_put(map, map->options.index == IAM_INDEX_DIRECT ? 128 * 30000 : FAR * 5, rows[0]);
}

static iam_status ensure(iam_map *map)
{
    void *row;
    bool created;
    iam_status status = iam_map_ensure(map, 2048, &row, NULL, &created);
    EXPECT(status != IAM_OK || (created && *(double *)row == 0));
    return status;
}

static iam_status update_few(iam_map *map)
{
    fill_keys(390, 1, FEW);
    return iam_map_update_many(map, keys, FEW, rows, sizeof rows[0], IAM_SUB);
}

static iam_status update_near(iam_map *map)
{
    fill_keys(200, 1, MANY);
    return iam_map_update_many(map, keys, MANY, rows, sizeof rows[0], IAM_SET);
}

static iam_status update_scattered(iam_map *map)
{
    fill_keys(-7000, map->options.index == IAM_INDEX_DIRECT ? 9 : 1000003, MANY);
    return iam_map_update_many(map, keys, MANY, rows, sizeof rows[0], IAM_ADD);
}

static iam_status update_huge(iam_map *map)
{
    fill_keys(3, map->options.index == IAM_INDEX_DIRECT ? 2 : 777777, HUGE);
    return iam_map_update_many(map, keys, HUGE, rows, sizeof rows[0], IAM_MAX);
}

static iam_status update_repeated(iam_map *map)
{
    fill_keys(390, 1, MANY);
    for (int i = 0; i < MANY; i++)
        keys[i] = 390 + i % 30;
    return iam_map_update_many(map, keys, MANY, rows, sizeof rows[0], IAM_ADD);
}

static iam_status add_at(iam_map *map)
{
    fill_keys(300, 3, MANY);
    return iam_map_add_at(map, keys, MANY, items, 1, rows, sizeof rows[0]);
}

static iam_status ensure_many(iam_map *map)
{
    fill_keys(100, 2, MANY);
    return iam_map_ensure_many(map, keys, MANY, rows[3], numbers, flags);
}

static iam_status pop_many(iam_map *map)
{
    fill_keys(0, 1, MANY);
    return iam_map_pop_many(map, keys, MANY, rows_out, rows[1], 0, NULL);
}

static iam_status reserve(iam_map *map)
{
    return iam_map_reserve(map, 3000);
}

static iam_status clear(iam_map *map)
{
    return iam_map_clear(map);
}

static iam_status compact(iam_map *map)
{
    return iam_map_compact(map);
}

static void expect_same_rows(const iam_map *map, const iam_map *other);

static iam_status copy(iam_map *map)
{
    iam_map *made = NULL;
    iam_status status = iam_map_copy(map, 99, &made);
    EXPECT((made != NULL) == (status == IAM_OK));
    if (made != NULL)
        expect_same_rows(made, map);
    iam_map_destroy(made);
    return status;
}

static iam_status view_take(iam_map *map)
{
    uint64_t last = rows_last(map->rows, UINT64_MAX);
    if (last == UINT64_MAX)
        return IAM_OK;
    iam_view view;
    iam_status status = iam_view_take(map, (uint32_t)last, &view);
    if (status == IAM_OK)
        iam_view_release(&view);
    return status;
}

/* All pages of a map in many blocks: each has holds of its own. */
static iam_status view_each(iam_map *map)
{
    enum { MOST = 64 };
    iam_view views[MOST];
    int taken = 0;
    iam_status status = IAM_OK;
    uint64_t number = rows_first(map->rows, 0);
    for (; taken < MOST && number != UINT64_MAX && status == IAM_OK; number = rows_first(map->rows, number + 20)) {
        status = iam_view_take(map, (uint32_t)number, &views[taken]);
        taken += status == IAM_OK;
    }
    while (taken > 0)
        iam_view_release(&views[--taken]);
    return status;
}

static const iam_about about_rows = {.axis_count = 1, .axes = {ROW}};

static void image_of(const iam_map *map, char **bytes_out, uint64_t *byte_count_out)
{
    iam_save *save = NULL;
    bool ready = false;
    EXPECT(iam_save_begin(map, 777, &about_rows, &save) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
    *byte_count_out = iam_save_bytes(save);
    *bytes_out = malloc(*byte_count_out + IAM_SAVE_ROOM_LEAST);
    uint64_t done = 0;
    for (size_t more; (more = iam_save_next(save, *bytes_out + done, IAM_SAVE_ROOM_LEAST)) != 0;)
        done += more;
    EXPECT(done == *byte_count_out);
    iam_save_end(save);
}

/* Refused while it prepares, and not asked for anything after that. */
static iam_status save(iam_map *map)
{
    iam_save *saving = NULL;
    bool ready = false;
    iam_status status = iam_save_begin(map, 777, &about_rows, &saving);
    EXPECT((saving != NULL) == (status == IAM_OK));
    while (status == IAM_OK && !ready)
        status = iam_save_prepare(saving, &ready);
    EXPECT(ready == (status == IAM_OK));
    if (ready) {
        uint64_t done = 0;
        char *piece = malloc(IAM_SAVE_ROOM_LEAST);
        for (size_t more; (more = iam_save_next(saving, piece, IAM_SAVE_ROOM_LEAST)) != 0;)
            done += more;
        EXPECT(done == iam_save_bytes(saving));
        free(piece);
    }
    iam_save_end(saving);
    return status;
}

typedef struct operation {
    const char *name;
    iam_status (*run)(iam_map *map);
    bool is_huge;
} operation;

static const operation operations[] = {
    {"put near", put_near, false},
    {"put far", put_far, false},
    {"ensure", ensure, false},
    {"update_many few", update_few, false},
    {"update_many near", update_near, false},
    {"update_many scattered", update_scattered, false},
    {"update_many huge", update_huge, true},
    {"update_many repeated", update_repeated, false},
    {"add_at", add_at, false},
    {"ensure_many", ensure_many, false},
    {"pop_many", pop_many, false},
    {"reserve", reserve, false},
    {"clear", clear, false},
    {"compact", compact, false},
    {"copy", copy, false},
    {"view_take", view_take, false},
    {"view_each", view_each, false},
    {"save", save, false},
};

/* Every function of the front door: the operations above in which it is refused memory, or the test, here or of another
 * program; or that it asks for none: then a test with "none" in its name calls it while everything is refused.
 * tests/floors/test_core_tests.py holds the list against the header and the tests. */
static const struct {
    const char *function, *operations[5];
} front_door[] = {
    {"iam_spare_create", {"test_system"}},
    {"iam_spare_destroy", {"test_system"}},
    {"iam_kind_bytes", {"none"}},
    {"iam_op_defined", {"none"}},
    {"iam_map_create", {"test_create_with_capacity"}},
    {"iam_map_destroy", {"none"}},
    {"iam_map_copy", {"copy"}},
    {"iam_map_try_lock", {"none"}},
    {"iam_map_look", {"none"}},
    {"iam_map_prefetch", {"none"}},
    {"iam_map_prefetch_view", {"none"}},
    {"iam_map_wait", {"none"}},
    {"iam_map_unlock", {"none"}},
    {"iam_map_count", {"none"}},
    {"iam_map_index", {"none"}},
    {"iam_map_index_asked", {"none"}},
    {"iam_map_kind", {"none"}},
    {"iam_map_bytes", {"none"}},
    {"iam_map_allocations", {"none"}},
    {"iam_map_version", {"none"}},
    {"iam_map_epoch", {"none"}},
    {"iam_map_rows", {"none"}},
    {"iam_map_stats", {"none"}},
    {"iam_map_validate", {"none"}},
    {"iam_map_overlaps", {"none"}},
    {"iam_map_find", {"none"}},
    {"iam_map_put", {"put near", "put far"}},
    {"iam_map_ensure", {"ensure"}},
    {"iam_map_remove", {"none"}},
    {"iam_map_last", {"none"}},
    {"iam_view_take", {"view_take", "view_each"}},
    {"iam_view_release", {"none"}},
    {"iam_map_block_count", {"none"}},
    {"iam_map_block", {"none"}},
    {"iam_map_block_keys", {"none"}},
    {"iam_blocks_take", {"none"}},
    {"iam_blocks_release", {"none"}},
    {"iam_map_clear", {"clear"}},
    {"iam_map_reserve", {"reserve"}},
    {"iam_map_compact", {"compact"}},
    {"iam_map_walk", {"none"}},
    {"iam_scans_take", {"none"}},
    {"iam_scans_release", {"none"}},
    {"iam_map_row", {"none"}},
    {"iam_map_get_many", {"none"}},
    {"iam_map_contains_many", {"none"}},
    {"iam_map_index_many", {"none"}},
    {"iam_map_update_many",
     {"update_many few", "update_many near", "update_many scattered", "update_many huge", "update_many repeated"}},
    {"iam_map_add_at", {"add_at"}},
    {"iam_map_ensure_many", {"ensure_many"}},
    {"iam_map_delete_many", {"none"}},
    {"iam_map_pop_many", {"pop_many"}},
    {"iam_map_export", {"none"}},
    {"iam_save_begin", {"save"}},
    {"iam_save_prepare", {"save"}},
    {"iam_save_bytes", {"save"}},
    {"iam_save_next", {"save"}},
    {"iam_save_end", {"save"}},
    {"iam_image_open", {"test_system"}},
    {"iam_image_verify_blocks", {"none"}},
    {"iam_image_verify", {"none"}},
    {"iam_image_trust", {"test_system"}},
    {"iam_image_info_read", {"none"}},
    {"iam_map_fill", {"none"}},
    {"iam_result_allocate", {"test_system"}},
    {"iam_result_release", {"test_system"}},
};

/* ---- As before --------------------------------------------------------------------------------------------------- */

/* All that can be seen of a map but how much memory it has and which way it finds its keys. */
typedef struct snapshot {
    uint64_t count, version, epoch;
    int64_t *keys;
    double (*rows)[ROW];
} snapshot;

static snapshot snapshot_take(const iam_map *map)
{
    snapshot taken = {.count = iam_map_count(map), .version = iam_map_version(map), .epoch = iam_map_epoch(map)};
    taken.keys = malloc((taken.count + 1) * sizeof *taken.keys);
    taken.rows = malloc((taken.count + 1) * sizeof *taken.rows);
    EXPECT(taken.keys != NULL && taken.rows != NULL);
    iam_map_export(map, taken.keys, taken.rows);
    return taken;
}

static void snapshot_drop(snapshot *taken)
{
    free(taken->keys);
    free(taken->rows);
}

static void expect_unchanged(const iam_map *map, const snapshot *before)
{
    snapshot now = snapshot_take(map);
    EXPECT(now.count == before->count && now.version == before->version && now.epoch == before->epoch);
    EXPECT(memcmp(now.keys, before->keys, now.count * sizeof *now.keys) == 0); /* in the same order */
    EXPECT(memcmp(now.rows, before->rows, now.count * sizeof *now.rows) == 0);
    snapshot_drop(&now);
    harness_validate(map);
}

/* In any order. */
static void expect_rows(const iam_map *map, const snapshot *expected)
{
    EXPECT(iam_map_count(map) == expected->count);
    for (uint64_t i = 0; i < expected->count; i++) {
        const double *found = iam_map_find(map, expected->keys[i], NULL);
        EXPECT(found != NULL && memcmp(found, expected->rows[i], sizeof *expected->rows) == 0);
    }
    harness_validate(map);
}

static void expect_same_rows(const iam_map *map, const iam_map *other)
{
    snapshot expected = snapshot_take(other);
    expect_rows(map, &expected);
    snapshot_drop(&expected);
}

static iam_map *create(const situation *where, failing *memory, bool ranges)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = where->index, .seed = 11};
    options.hash_and = where->hash_and;
    options.hash_or = where->hash_or;
    options.allocator = failing_allocator(memory);
    atomic_store(&memory->refuses_ranges, !ranges);
    iam_map *map;
    atomic_store(&memory->has_foreign, where->prepare == NULL);
    if (where->prepare == NULL)
        return open_image(&options, where->index != IAM_INDEX_HASH);
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    where->prepare(map);
    return map;
}

/* Blocks that the map of a situation had from elsewhere, and so gives back more than it took: an opened image. */
static int64_t foreign_blocks(const situation *where)
{
    failing memory;
    iam_map_destroy(create(where, &memory, true));
    return atomic_load(&memory.alive);
}

/* ---- Tests ------------------------------------------------------------------------------------------------------- */

/* What the operation comes to where nothing is refused. */
static snapshot outcome(const situation *where, const operation *what)
{
    failing memory;
    iam_map *map = create(where, &memory, true);
    EXPECT(what->run(map) == IAM_OK);
    snapshot after = snapshot_take(map);
    iam_map_destroy(map);
    return after;
}

/* Refuses the n-th request, and all after it or none. Returns how many were refused: 0 = n is beyond the last. */
static int64_t refuse(const situation *where, const operation *what, bool ranges, bool once, int64_t n,
                      const snapshot *after, int64_t foreign)
{
    failing memory;
    iam_map *map = create(where, &memory, ranges);
    snapshot before = snapshot_take(map);
    atomic_store(&memory.refuses_once, once);
    atomic_store(&memory.until_failure, n);
    iam_status status = what->run(map);
    atomic_store(&memory.until_failure, FAILING_NEVER);
    int64_t refused = atomic_load(&memory.refused);
    EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && refused > 0));
    if (status != IAM_OK) {
        expect_unchanged(map, &before);
        EXPECT(what->run(map) == IAM_OK);
    }
    expect_rows(map, after);
    put_keys(map, -20, 1, 20);
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == foreign);
    snapshot_drop(&before);
    return refused;
}

static void test_every_operation_in_every_state(void)
{
    enum { SITUATIONS = sizeof situations / sizeof *situations, OPERATIONS = sizeof operations / sizeof *operations };
    uint64_t refusals = 0, asking = 0;
    for (int where = 0; where < SITUATIONS; where++)
        for (int what = 0; what < OPERATIONS; what++) {
            /* What a batch of this size does differently it does in an empty hash index. */
            bool is_poor = (situations[where].hash_and | situations[where].hash_or) != 0;
            if (operations[what].is_huge && (situations[where].index != IAM_INDEX_HASH || is_poor))
                continue;
            bool is_image = situations[where].prepare == NULL;
            snapshot after = outcome(&situations[where], &operations[what]);
            int64_t foreign = foreign_blocks(&situations[where]);
            EXPECT((foreign < 0) == is_image);
            for (int how = 0; how < 3; how++) {
                if (is_image && how == 1) /* grows in a reserved range or not at all: test_system.c */
                    continue;
                bool ranges = how != 1, once = how == 2;
                int64_t n = 0;
                while (refuse(&situations[where], &operations[what], ranges, once, n, &after, foreign) > 0) {
                    refusals++;
                    n++;
                    EXPECT(n < 1000);
                }
                asking += n > 0;
            }
            snapshot_drop(&after);
        }
    printf("   %d states, %d operations: %llu requests refused\n", SITUATIONS, OPERATIONS,
           (unsigned long long)refusals);
    EXPECT(refusals > 1500 && asking > SITUATIONS * OPERATIONS * 2);
}

static void test_every_function_is_listed(void)
{
    for (size_t i = 0; i < sizeof front_door / sizeof *front_door; i++)
        for (int j = 0; j < 5 && front_door[i].operations[j] != NULL; j++) {
            const char *name = front_door[i].operations[j];
            bool known = strcmp(name, "none") == 0 || strncmp(name, "test_", 5) == 0; /* see tests/floors */
            for (size_t what = 0; what < sizeof operations / sizeof *operations; what++)
                known |= strcmp(name, operations[what].name) == 0;
            EXPECT(known);
        }
}

/* What is not refused because it never asks: everything is refused, and all of it works. */
static void test_the_others_ask_for_none(void)
{
    for (size_t where = 0; where < sizeof situations / sizeof *situations; where++) {
        failing memory;
        iam_map *map = create(&situations[where], &memory, true);
        char *image, reason[200];
        uint64_t image_bytes, fill[9], position = 0, end = UINT64_MAX;
        image_of(map, &image, &image_bytes);
        uint64_t count = iam_map_count(map), last = rows_last(map->rows, UINT64_MAX);
        iam_view view = {0};
        if (count > 0)
            EXPECT(iam_view_take(map, (uint32_t)last, &view) == IAM_OK);
        atomic_store(&memory.until_failure, 0);
        EXPECT(iam_map_try_lock(map, true, 1) == IAM_OK && iam_map_look(map, true, 1) == IAM_LOCKED);
        iam_map_wait(map, true, 1);
        iam_map_unlock(map, true);
        iam_stats stats;
        iam_map_stats(map, &stats);
        EXPECT(stats.count == count && stats.bytes == iam_map_bytes(map) && stats.index == iam_map_index(map));
        EXPECT(iam_map_index_asked(map) == situations[where].index && iam_map_kind(map) == IAM_FLOAT64);
        EXPECT(iam_map_allocations(map) > 0 && iam_map_rows(map) == map->rows);
        EXPECT(iam_kind_bytes(iam_map_kind(map)) == sizeof(double) && iam_op_defined(IAM_ADD, IAM_FLOAT64));
        EXPECT(iam_map_version(map) == map->version && iam_map_epoch(map) == map->epoch);
        EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_OK);
        EXPECT(!iam_map_overlaps(map, reason, sizeof reason));
        int64_t key;
        void *row;
        EXPECT(iam_map_last(map, &key, &row) == (count > 0));
        EXPECT(count == 0 || iam_map_row(map, (uint32_t)last) == row);
        if (count > 0 && iam_map_prefetch(map, key))
            EXPECT(iam_map_prefetch_view(map, key));
        uint64_t in_blocks = 0;
        iam_blocks_take(map);
        for (uint64_t at = 0; at < iam_map_block_count(map); at++) {
            iam_block block;
            iam_map_block(map, at, &block);
            EXPECT(block.row_count <= HUGE);
            iam_map_block_keys(map, &block, keys);
            for (uint64_t bit = 0; bit < block.row_count; bit++)
                in_blocks += block.present[bit / 8] >> (bit % 8) & 1;
        }
        iam_blocks_release(iam_map_rows(map));
        EXPECT(in_blocks == count);
        iam_scans_take(map);
        uint64_t walked = 0, more;
        while ((more = iam_map_walk(map, false, &position, 50, keys, NULL)) > 0)
            walked += more;
        while ((more = iam_map_walk(map, true, &end, 50, keys, NULL)) > 0)
            walked += more;
        iam_scans_release(map);
        EXPECT(walked == 2 * count && iam_map_export(map, keys, rows_out));
        iam_map_fill(map, fill, 9);
        uint64_t block = 0;
        EXPECT(iam_image_verify_blocks(image, &block, UINT64_MAX, reason, sizeof reason) == IAM_OK);
        iam_image_info info;
        iam_image_info_read(image, &info);
        EXPECT(info.file_bytes == image_bytes && iam_image_verify(map, reason, sizeof reason) == IAM_OK);
        if (count > 0)
            iam_view_release(&view);
        free(image);
        iam_map_destroy(map);
        EXPECT(atomic_load(&memory.refused) == 0);
    }
}

static void test_create_with_capacity(void)
{
    uint64_t refusals = 0;
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++)
        for (uint64_t capacity = 0; capacity < 100000; capacity = capacity * 30 + 10)
            for (int ranges = 0; ranges < 2; ranges++)
                for (int64_t n = 0;; n++) {
                    failing memory;
                    iam_options options = {.row_items = ROW,
                                           .kind = IAM_FLOAT64,
                                           .index = (iam_index)index,
                                           .capacity = capacity,
                                           .allocator = failing_allocator(&memory)};
                    atomic_store(&memory.refuses_ranges, !ranges);
                    atomic_store(&memory.until_failure, n);
                    iam_map *map = NULL;
                    iam_status status = iam_map_create(&options, &map);
                    EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && map == NULL));
                    EXPECT(status != IAM_OK || iam_map_count(map) == 0);
                    iam_map_destroy(map);
                    EXPECT(atomic_load(&memory.alive) == 0);
                    if (status == IAM_OK)
                        break;
                    refusals++;
                }
    EXPECT(refusals > 100);
    iam_map *map = NULL;
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .capacity = (uint64_t)IAM_ROWS_MAX + 1};
    EXPECT(iam_map_create(&options, &map) == IAM_TOO_MANY_ROWS && map == NULL);
}

/* Deletes never need memory, not even in the midst of leaving; nor do reads. */
static void test_deletes_and_reads_need_none(void)
{
    for (size_t where = 0; where < sizeof situations / sizeof *situations; where++) {
        failing memory;
        iam_map *map = create(&situations[where], &memory, true);
        uint64_t count = iam_map_count(map);
        snapshot before = snapshot_take(map);
        atomic_store(&memory.until_failure, 0);
        for (uint64_t i = 0; i < count; i++)
            EXPECT(iam_map_find(map, before.keys[i], NULL) != NULL);
        EXPECT(iam_map_get_many(map, before.keys, count, rows_out, NULL, 0, NULL, NULL) == IAM_OK);
        EXPECT(memcmp(rows_out, before.rows, count * sizeof rows_out[0]) == 0);
        iam_map_contains_many(map, before.keys, count, flags);
        iam_map_index_many(map, before.keys, count, numbers);
        for (uint64_t i = 0; i < count; i++)
            EXPECT(flags[i] == 1 && numbers[i] >= 0);
        for (uint64_t i = 0; i < count / 2; i++)
            EXPECT(iam_map_remove(map, before.keys[i]) == IAM_OK);
        EXPECT(iam_map_remove(map, -77) == IAM_MISSING);
        harness_validate(map);
        iam_map_delete_many(map, before.keys, count, flags);
        for (uint64_t i = 0; i < count; i++)
            EXPECT(flags[i] == (i >= count / 2));
        EXPECT(iam_map_count(map) == 0);
        atomic_store(&memory.until_failure, FAILING_NEVER);
        harness_validate(map);
        put_keys(map, 0, 5, 100);
        harness_validate(map);
        snapshot_drop(&before);
        iam_map_destroy(map);
        EXPECT(atomic_load(&memory.alive) == foreign_blocks(&situations[where]));
    }
}

/* A reserve that comes to a block that no machine could grant. */
static void test_impossible_reserve(void)
{
    for (size_t where = 0; where < sizeof situations / sizeof *situations; where++) {
        if (situations[where].prepare == NULL)
            continue; /* an image grows in a reserved range only */
        failing memory;
        iam_map *map = create(&situations[where], &memory, false);
        snapshot before = snapshot_take(map);
        atomic_store(&memory.block_most, 1 << 20);
        EXPECT(iam_map_reserve(map, 1 << 26) == IAM_NO_MEMORY);
        EXPECT(iam_map_reserve(map, IAM_ROWS_MAX) == IAM_NO_MEMORY);
        EXPECT(iam_map_reserve(map, (uint64_t)IAM_ROWS_MAX + 1) == IAM_TOO_MANY_ROWS);
        expect_unchanged(map, &before);
        put_keys(map, -20, 1, 20);
        harness_validate(map);
        snapshot_drop(&before);
        iam_map_destroy(map);
        EXPECT(atomic_load(&memory.alive) == 0);
    }
}

int main(void)
{
    RUN(test_every_operation_in_every_state);
    RUN(test_every_function_is_listed);
    RUN(test_the_others_ask_for_none);
    RUN(test_create_with_capacity);
    RUN(test_deletes_and_reads_need_none);
    RUN(test_impossible_reserve);
    return harness_end();
}
