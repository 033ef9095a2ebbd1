/* test_batch.c: many keys at once say what the keys say one by one: reads of every size in every state, missing keys
 * and defaults, duplicates in every writer, the way an index is built at one go. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "harness.h"

#include "build.h"
#include "map.h"

#include <sys/mman.h>

#define FAR ((int64_t)1 << 40)

/* A row is filled with bytes that tell its key. */
static void write_row(size_t row_bytes, int64_t key, uint8_t *row_out)
{
    for (size_t i = 0; i < row_bytes; i++)
        row_out[i] = (uint8_t)((uint64_t)key >> (8 * (i % 8)) ^ i);
}

/* ZEROS and ONES: all hashes are, so that all keys stand in one chain, under one tag. */
typedef enum shape { EMPTY, EMPTY_HASH, DIRECT, LEAVING, SMALL_HASH, FLAT_HASH, GROWN_HASH, ZEROS, ONES, SHAPES } shape;

static const int64_t strides[SHAPES] = {1, 1, 1, 1, 1000003, 1000003, 1000003, 1000003, 1000003};
static const int64_t counts[SHAPES] = {0, 0, 900, 900, 100, 1200, 1200, 200, 200};

static iam_map *create(shape kind, size_t row_bytes, iam_switch pipeline, iam_simd simd)
{
    iam_options options = {.row_items = row_bytes, .kind = IAM_UINT8, .pipeline = pipeline, .simd = simd, .seed = 4};
    options.index = kind == EMPTY_HASH || kind >= SMALL_HASH ? IAM_INDEX_HASH : IAM_INDEX_AUTO;
    options.capacity = kind == FLAT_HASH ? 1200 : 0;
    options.hash_and = kind == ZEROS ? (uint64_t)1 << 45 : 0; /* a bit that decides neither bucket nor tag */
    options.hash_or = kind == ONES ? UINT64_MAX : 0;
    iam_map *map;
    uint8_t row[512];
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    for (int64_t i = 0; i < counts[kind]; i++) {
        write_row(row_bytes, i * strides[kind], row);
        EXPECT(iam_map_put(map, i * strides[kind], row) == IAM_OK);
    }
    if (kind == LEAVING) { /* the cursor in the midst of its way */
        write_row(row_bytes, FAR, row);
        for (int write = 0; write < 25; write++)
            EXPECT(iam_map_put(map, FAR, row) == IAM_OK);
        EXPECT(map->state == MAP_LEAVING && map->leave_cursor > 300);
    }
    EXPECT(kind != DIRECT || map->state == MAP_DIRECT);
    EXPECT(kind < SMALL_HASH || map->state == MAP_HASH);
    return map;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

enum { READ_MOST = 700, ROW_MOST = 300, GUARD = 16 };
static int64_t keys[READ_MOST], numbers[READ_MOST];
static uint8_t rows[READ_MOST * ROW_MOST + GUARD], defaults[READ_MOST * ROW_MOST], found[1100 + GUARD];

static void read_batch(const iam_map *map, shape kind, size_t row_bytes, size_t count, int missing_of_ten,
                       uint64_t seed)
{
    uint64_t state = seed;
    iam_missing missing, expected = {0};
    uint8_t row[ROW_MOST];
    for (size_t i = 0; i < count; i++) {
        uint64_t random = harness_random(&state);
        bool is_missing = counts[kind] == 0 || (int)(random % 10) < missing_of_ten;
        keys[i] = (int64_t)(random >> 8) % (counts[kind] + 1000) * strides[kind];
        keys[i] = is_missing ? -1 - keys[i] : (int64_t)(random >> 8) % (counts[kind] + !counts[kind]) * strides[kind];
        if (is_missing && expected.count++ == 0) {
            expected.position = i;
            expected.key = keys[i];
        }
        memset(defaults + i * row_bytes, (int)(i % 251), row_bytes);
    }
    /* Required. */
    memset(rows, 0xcc, count * row_bytes + GUARD);
    iam_status status = iam_map_get_many(map, keys, count, rows, NULL, 0, NULL, &missing);
    EXPECT(status == (expected.count > 0 ? IAM_MISSING : IAM_OK) && missing.count == expected.count);
    EXPECT(expected.count == 0 || (missing.position == expected.position && missing.key == expected.key));
    for (size_t i = 0; i < count && expected.count == 0; i++) {
        write_row(row_bytes, keys[i], row);
        EXPECT(memcmp(rows + i * row_bytes, row, row_bytes) == 0);
    }
    for (int guard = 0; guard < GUARD; guard++)
        EXPECT(rows[count * row_bytes + (size_t)guard] == 0xcc);
    /* One default for all, one for each, with and without the mask. */
    for (int how = 0; how < 4; how++) {
        size_t stride = how % 2 ? row_bytes : 0;
        uint8_t *mask = how / 2 ? found : NULL;
        memset(rows, 0xcc, count * row_bytes + GUARD);
        memset(found, 0xcc, count + GUARD);
        EXPECT(iam_map_get_many(map, keys, count, rows, defaults, stride, mask, NULL) == IAM_OK);
        for (size_t i = 0; i < count; i++) {
            write_row(row_bytes, keys[i], row);
            bool is_there = iam_map_find(map, keys[i], NULL) != NULL;
            EXPECT(memcmp(rows + i * row_bytes, is_there ? row : defaults + i * stride, row_bytes) == 0);
            EXPECT(mask == NULL || found[i] == is_there);
        }
        EXPECT(rows[count * row_bytes] == 0xcc && found[count] == 0xcc);
    }
    iam_map_contains_many(map, keys, count, found);
    iam_map_index_many(map, keys, count, numbers);
    for (size_t i = 0; i < count; i++) {
        uint32_t number;
        bool is_there = iam_map_find(map, keys[i], &number) != NULL;
        EXPECT(found[i] == is_there && numbers[i] == (is_there ? (int64_t)number : -1));
    }
}

static void test_reads_of_every_size(void)
{
    const size_t row_sizes[] = {1, 8, 32, 64, 100, ROW_MOST};
    /* Around the distances of the pipeline. */
    const size_t batch_sizes[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 50, 64, 65, 129, READ_MOST};
    uint64_t seed = 0;
    for (int kind = 0; kind < SHAPES; kind++)
        for (size_t size = 0; size < sizeof row_sizes / sizeof *row_sizes; size++)
            for (int how = 0; how < 4; how++) {
                iam_map *map = create((shape)kind, row_sizes[size], how % 2 ? IAM_ON : IAM_OFF,
                                      how / 2 ? IAM_SIMD_SCALAR : IAM_SIMD_AUTO);
                for (size_t batch = 0; batch < sizeof batch_sizes / sizeof *batch_sizes; batch++)
                    read_batch(map, (shape)kind, row_sizes[size], batch_sizes[batch], (int)(batch % 3) * 5, ++seed);
                iam_map_destroy(map);
            }
}

/* Results of 8 MiB and more of rows of 64 bytes go past the caches, if their memory is aligned to 16. */
static void test_large_results_are_streamed(void)
{
    enum { STORED = 3000, COUNT = (8 << 20) / 64 + 5, ROW_BYTES = 64 };
    iam_map *map = create(FLAT_HASH, ROW_BYTES, IAM_ON, IAM_SIMD_AUTO);
    EXPECT(map->hash.buckets.low_count == 0 && map->rows->row_store.low_count == 0);
    int64_t *asked = malloc(COUNT * sizeof *asked);
    uint8_t *out = aligned_alloc(64, COUNT * ROW_BYTES + 64), *mask = malloc(COUNT);
    uint8_t row[ROW_BYTES], instead[ROW_BYTES];
    memset(instead, 0x5e, sizeof instead);
    uint64_t state = 3;
    for (int some_missing = 0; some_missing < 2; some_missing++)
        for (int offset = 0; offset <= 8; offset += 8)
            for (int shorter = 0; shorter <= 6; shorter += 6) {
                size_t count = COUNT - (size_t)shorter; /* one less than is streamed */
                uint8_t *start = out + offset;
                for (size_t i = 0; i < count; i++)
                    asked[i] =
                        (int64_t)(harness_random(&state) % 1200) * strides[FLAT_HASH] - (some_missing && i % 7 == 0);
                memset(out, 0xcc, COUNT * ROW_BYTES + 64);
                memset(mask, 0xcc, COUNT);
                iam_missing missing;
                iam_status status = iam_map_get_many(map, asked, count, start, some_missing ? instead : NULL, 0,
                                                     shorter ? NULL : mask, &missing);
                EXPECT(status == IAM_OK && missing.count == 0);
                for (size_t i = 0; i < count; i++) {
                    write_row(ROW_BYTES, asked[i], row);
                    bool is_there = !some_missing || i % 7 != 0;
                    EXPECT(memcmp(start + i * ROW_BYTES, is_there ? row : instead, ROW_BYTES) == 0);
                    EXPECT(shorter || mask[i] == is_there);
                }
                EXPECT(start[count * ROW_BYTES] == 0xcc && (offset == 0 || out[offset - 1] == 0xcc));
            }
    free(mask);
    free(out);
    free(asked);
    iam_map_destroy(map);
}

/* The mask of a batch whose keys are required is all ones, or not written to. */
static void test_mask_of_required_keys(void)
{
    for (int kind = DIRECT; kind < SHAPES; kind++) {
        iam_map *map = create((shape)kind, 8, IAM_ON, IAM_SIMD_AUTO);
        for (size_t i = 0; i < 50; i++)
            keys[i] = (int64_t)i * strides[kind];
        memset(found, 0xcc, 51);
        EXPECT(iam_map_get_many(map, keys, 50, rows, NULL, 0, found, NULL) == IAM_OK);
        for (size_t i = 0; i < 50; i++)
            EXPECT(found[i] == 1);
        EXPECT(found[50] == 0xcc);
        memset(found, 0xcc, 51);
        keys[49] = -1;
        EXPECT(iam_map_get_many(map, keys, 50, rows, NULL, 0, found, NULL) == IAM_MISSING);
        EXPECT(found[0] == 0xcc && found[49] == 0xcc);
        iam_map_destroy(map);
    }
}

/* Absent rows in pages that are there, and pages that are not. */
static void test_holes_in_pages(void)
{
    for (int pipeline = IAM_OFF; pipeline <= IAM_ON; pipeline++) {
        iam_map *map = create(DIRECT, 8, (iam_switch)pipeline, IAM_SIMD_AUTO);
        for (int64_t key = 0; key < 900; key += 3)
            EXPECT(iam_map_remove(map, key) == IAM_OK);
        int64_t asked[1100];
        uint8_t out[1100 * 8], mask[1100], instead[8] = {9, 9, 9, 9, 9, 9, 9, 9}, row[8];
        for (int64_t i = 0; i < 1100; i++)
            asked[i] = i * 7 % 1100 - 100;
        EXPECT(iam_map_get_many(map, asked, 1100, out, instead, 0, mask, NULL) == IAM_OK);
        iam_map_contains_many(map, asked, 1100, found);
        iam_map_index_many(map, asked, READ_MOST, numbers);
        for (int64_t i = 0; i < 1100; i++) {
            bool is_there = asked[i] >= 0 && asked[i] < 900 && asked[i] % 3 != 0;
            write_row(8, asked[i], row);
            EXPECT(mask[i] == is_there && memcmp(out + i * 8, is_there ? row : instead, 8) == 0);
            EXPECT(i >= READ_MOST || (found[i] == is_there && (numbers[i] >= 0) == is_there));
        }
        iam_missing missing;
        EXPECT(iam_map_get_many(map, asked, 1100, out, NULL, 0, NULL, &missing) == IAM_MISSING);
        EXPECT(missing.position == 0 && missing.count == 1100 - 600 && missing.key == -100);
        iam_map_destroy(map);
    }
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

enum { ROW = 4, WRITE_MOST = 40000 };
static int64_t written[WRITE_MOST], items[WRITE_MOST], row_numbers[WRITE_MOST];
static double values[WRITE_MOST][ROW], popped[WRITE_MOST][ROW];
static uint8_t flags[WRITE_MOST];

static iam_map *create_doubles(iam_index index, iam_growth growth)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .growth = growth, .seed = 8};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static double total(const iam_map *map)
{
    double sum = 0;
    uint64_t position = 0;
    uint32_t number;
    while (iam_map_walk(map, false, &position, 1, NULL, &number) == 1)
        sum += *(const double *)iam_map_row(map, number);
    return sum;
}

/* A batch of distinct keys into an empty hash map is built part by part; rows stand in the order of the keys. A key
 * that comes twice sends it the general way, wherever it stands. */
static void test_building_at_one_go(void)
{
    const size_t sizes[] = {BUILD_KEYS_LEAST - 1, BUILD_KEYS_LEAST, 20011, 26624, WRITE_MOST};
    const int64_t duplicates[] = {-1, 0, 1, 9000, 16000};
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++)
        for (size_t twice = 0; twice < sizeof duplicates / sizeof *duplicates; twice++)
            for (int growth = IAM_GROWTH_STEPS; growth <= IAM_GROWTH_STOP; growth++) {
                size_t count = sizes[size];
                for (size_t i = 0; i < count; i++) {
                    written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
                    values[i][0] = (double)i;
                }
                if (duplicates[twice] >= 0)
                    written[count - 3] = written[duplicates[twice]];
                iam_map *map = create_doubles(IAM_INDEX_HASH, (iam_growth)growth);
                EXPECT(iam_map_update_many(map, written, count, values, sizeof values[0], IAM_SET) == IAM_OK);
                EXPECT(iam_map_count(map) == count - (duplicates[twice] >= 0));
                harness_validate(map);
                for (size_t i = 0; i < count; i++) {
                    uint32_t number;
                    const double *row = iam_map_find(map, written[i], &number);
                    bool is_twice = duplicates[twice] >= 0 && written[i] == written[count - 3];
                    EXPECT(row != NULL && row[0] == (is_twice ? (double)(count - 3) : (double)i)); /* the last wins */
                    EXPECT(is_twice || i >= count - 3 || number == i);
                }
                for (size_t i = 0; i < 2000; i++) /* and it grows from there */
                    EXPECT(iam_map_put(map, -(int64_t)i, values[i]) == IAM_OK);
                harness_validate(map);
                iam_map_destroy(map);
            }
}

static iam_map *create_ready_to_build(uint64_t hash_and, size_t count)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH, .seed = 8};
    options.hash_and = hash_and;
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    EXPECT(map_begin_batch(map, written, count) == IAM_OK && map->hash.bucket_count > 1);
    return map;
}

/* Distinct keys are built at one go, whatever share of this doubling is split; twins anywhere in a bucket are found,
 * and twin tags of different keys are no twins. */
static void test_what_is_built_at_one_go(void)
{
    const size_t sizes[] = {BUILD_KEYS_LEAST, 20000, 20031, 26624, 26625, 33333, WRITE_MOST};
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        size_t count = sizes[size];
        for (size_t i = 0; i < count; i++)
            written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
        iam_map *map = create_ready_to_build(0, count);
        uint64_t version = iam_map_version(map);
        EXPECT(build_index(map, written, count));
        EXPECT(iam_map_count(map) == count && iam_map_version(map) == version + count);
        harness_validate(map);
        for (size_t i = 0; i < count; i++)
            EXPECT(table_find(&map->hash, written[i]) == i && *rows_key(map->rows, i) == written[i]);
        iam_map_destroy(map);
        /* A twin, at distances that put it in every slot. */
        for (size_t distance = 1; distance < count; distance = distance * 3 + 1) {
            int64_t before = written[count - 1];
            written[count - 1] = written[count - 1 - distance];
            map = create_ready_to_build(0, count);
            EXPECT(!build_index(map, written, count));
            EXPECT(map->hash.key_count == 0 && map->hash.overflow_count == 0 && map->hash.overflow_top == 0);
            EXPECT(iam_map_count(map) == 0 && iam_map_find(map, written[0], NULL) == NULL);
            harness_validate(map);
            for (uint64_t home = 0; home < map->hash.bucket_count; home++)
                EXPECT(table_bucket(&map->hash, home)->slot_count == 0);
            iam_map_destroy(map);
            written[count - 1] = before;
        }
    }
    /* Sixteen tags for all keys, and one: any two slots of a bucket agree. */
    const uint64_t poor[] = {0xf0ffffffffffffffu, 0x00ffffffffffffffu};
    for (int which = 0; which < 2; which++) {
        iam_map *map = create_ready_to_build(poor[which], 20000);
        EXPECT(build_index(map, written, 20000));
        harness_validate(map);
        iam_map_destroy(map);
        for (size_t twin = 1; twin < 20000; twin += 1777) {
            int64_t before = written[twin];
            written[twin] = written[0];
            map = create_ready_to_build(poor[which], 20000);
            EXPECT(!build_index(map, written, 20000));
            iam_map_destroy(map);
            written[twin] = before;
        }
    }
    /* One key less than pays; more than the table was made for. */
    iam_map *map = create_ready_to_build(0, BUILD_KEYS_LEAST);
    EXPECT(!build_index(map, written, BUILD_KEYS_LEAST - 1));
    EXPECT(!build_index(map, written, growth_limit(&map->hash) + 1));
    EXPECT(iam_map_count(map) == 0 && build_index(map, written, BUILD_KEYS_LEAST));
    iam_map_destroy(map);
}

/* What an ensure at one go says of new keys are bools. */
static void test_ensuring_at_one_go(void)
{
    static int64_t new_rows[BUILD_KEYS_LEAST];
    static uint8_t are_new[BUILD_KEYS_LEAST];
    for (size_t i = 0; i < BUILD_KEYS_LEAST; i++)
        written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
    iam_map *map = create_doubles(IAM_INDEX_HASH, IAM_GROWTH_STEPS);
    for (int again = 0; again < 2; again++) {
        EXPECT(iam_map_ensure_many(map, written, BUILD_KEYS_LEAST, values[0], new_rows, are_new) == IAM_OK);
        for (size_t i = 0; i < BUILD_KEYS_LEAST; i++)
            EXPECT(new_rows[i] == (int64_t)i && are_new[i] == !again);
    }
    iam_map_destroy(map);
}

/* Twins in any two slots of a bucket whose other keys all have tags of their own. */
static void test_twins_in_any_two_slots(void)
{
    enum { COUNT = BUILD_KEYS_LEAST };
    for (size_t i = 0; i < COUNT; i++)
        written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
    iam_map *map = create_ready_to_build(0, COUNT);
    EXPECT(build_index(map, written, COUNT));
    uint64_t home = 0;
    bool is_full = false, has_own_tags = false;
    for (; !is_full || !has_own_tags; home += !is_full || !has_own_tags) {
        EXPECT(home < map->hash.bucket_count);
        const bucket *looked_at = table_bucket(&map->hash, home);
        is_full = looked_at->slot_count == BUCKET_SLOTS;
        has_own_tags = true;
        for (unsigned slot = 1; slot < BUCKET_SLOTS; slot++)
            for (unsigned other = 0; other < slot; other++)
                has_own_tags = has_own_tags && looked_at->tophash[slot] != looked_at->tophash[other];
    }
    const bucket full = *table_bucket(&map->hash, home);
    iam_map_destroy(map);
    for (unsigned slot = 1; slot < BUCKET_SLOTS; slot++)
        for (unsigned other = 0; other < slot; other++) {
            int64_t before = written[bucket_row(&full, slot)];
            written[bucket_row(&full, slot)] = written[bucket_row(&full, other)];
            map = create_ready_to_build(0, COUNT);
            EXPECT(!build_index(map, written, COUNT));
            iam_map_destroy(map);
            written[bucket_row(&full, slot)] = before;
        }
}

/* In any bucket, the first of a part included. */
static void test_twins_in_any_bucket(void)
{
    enum { COUNT = 20000 };
    for (size_t i = 0; i < COUNT; i++)
        written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
    iam_map *built = create_ready_to_build(0, COUNT);
    EXPECT(build_index(built, written, COUNT));
    uint64_t buckets = built->hash.bucket_count;
    for (uint64_t home = 0; home < buckets; home += home < 8 || home + 8 > buckets ? 1 : 61) {
        const bucket *first = table_bucket(&built->hash, home);
        if (first->slot_count == 0 || first->slot_count == BUCKET_SLOTS)
            continue;
        size_t other = bucket_row(first, 0) == COUNT - 1 ? COUNT - 2 : COUNT - 1;
        int64_t before = written[other];
        written[other] = first->key[0];
        iam_map *map = create_ready_to_build(0, COUNT);
        EXPECT(!build_index(map, written, COUNT));
        written[other] = before;
        iam_map_destroy(map);
    }
    iam_map_destroy(built);
}

/* Regression: room was made for the length of a first batch where its keys were few, or came again at regular
 * distances; and where there was no room for as many as were guessed, there was none for those that came. */
static void test_room_is_for_distinct_keys(void)
{
    enum { ITEMS = 1 << 12, COUNT = 1 << 12 };
    static char zeros[ITEMS * 8];
    for (int way = 0; way < 3; way++)
        for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_HASH; index++) {
            iam_map *map;
            iam_options options = {.row_items = ITEMS, .kind = IAM_FLOAT64, .index = (iam_index)index, .seed = 8};
            failing state;
            options.allocator = failing_allocator(&state);
            EXPECT(iam_map_create(&options, &map) == IAM_OK);
            size_t count = way == 0 ? 255 : way == 1 ? COUNT : 300, distinct = 0;
            for (size_t i = 0; i < count; i++) {
                written[i] = way == 1 && i % 16 != 0 ? 7 : (int64_t)((i % 100) * 0x9e3779b97f4a7c15u);
                if (way == 0)
                    written[i] = i == 254 ? (int64_t)1 << 40 : 5;
            }
            if (way == 2) {
                atomic_store(&state.refuses_ranges, true);
                atomic_store(&state.block_most, (size_t)200 * ITEMS * 8);
            }
            EXPECT(iam_map_update_many(map, written, count, zeros, 0, IAM_SET) == IAM_OK);
            harness_validate(map);
            distinct = iam_map_count(map);
            EXPECT(distinct == (way == 0 ? 2u : way == 1 ? 26u : 100u));
            EXPECT(way == 2 || map->rows->row_store.item_count <= 8 * distinct);
            iam_map_destroy(map);
            EXPECT(atomic_load(&state.alive) == 0);
        }
}

/* Where it cannot be built at one go it is built the general way, with the same keys in the same rows. */
static void test_building_that_gives_up(void)
{
    enum { COUNT = 20000 };
    typedef struct way {
        uint64_t hash_and, capacity, row_items;
        bool ranges;
        size_t block_most;
    } way;
    const way ways[] = {
        {0, 0, 1, true, SIZE_MAX},                         /* rows too small to deal the keys into */
        {0xff000000000000ffu, 0, ROW, true, SIZE_MAX},     /* hashes so poor that few distinct keys are guessed */
        {0xff000000000000ffu, COUNT, ROW, true, SIZE_MAX}, /* and that a part would overflow */
        {0, 100, ROW, true, SIZE_MAX},                     /* keys, buckets and rows begin in blocks */
        {0, 0, ROW, false, SIZE_MAX},                      /* all of them in one block each, no range */
        {0, 0, 1, true, 128 << 10},                        /* no memory to deal the keys into */
        {0, COUNT / 2, ROW, true, SIZE_MAX},               /* too little of everything was reserved */
    };
    for (size_t i = 0; i < COUNT; i++) {
        written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
        for (int item = 0; item < ROW; item++)
            values[i][item] = (double)i + item;
    }
    for (size_t which = 0; which < sizeof ways / sizeof *ways; which++) {
        const way *how = &ways[which];
        failing memory;
        iam_options options = {.row_items = how->row_items, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH, .seed = 8};
        options.allocator = failing_allocator(&memory);
        options.hash_and = how->hash_and;
        options.capacity = how->capacity;
        atomic_store(&memory.refuses_ranges, !how->ranges);
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        atomic_store(&memory.block_most, how->block_most);
        EXPECT(iam_map_update_many(map, written, COUNT, values, sizeof values[0], IAM_SET) == IAM_OK);
        EXPECT(iam_map_count(map) == COUNT);
        harness_validate(map);
        for (size_t i = 0; i < COUNT; i++) {
            uint32_t number;
            const double *row = iam_map_find(map, written[i], &number);
            EXPECT(row != NULL && memcmp(row, values[i], how->row_items * sizeof *row) == 0 && number == i);
        }
        iam_map_destroy(map);
        EXPECT(atomic_load(&memory.alive) == 0);
    }
}

/* Rows of every length end where the next one begins: some lengths are copied by instructions of their own. */
static void test_neighbours_of_written_rows(void)
{
    enum { PAIRS = 40 };
    for (size_t row_bytes = 1; row_bytes <= ROW_MOST; row_bytes++)
        for (int kind = DIRECT; kind <= FLAT_HASH; kind++) {
            iam_map *map = create((shape)kind, row_bytes, IAM_AUTO, IAM_SIMD_AUTO);
            int64_t odd[PAIRS];
            uint8_t row[ROW_MOST];
            for (int i = 0; i < PAIRS; i++) { /* none next to another, nor in order */
                odd[i] = (2 * ((i * 7) % PAIRS) + 1) * strides[kind];
                write_row(row_bytes, ~odd[i], rows + (size_t)i * row_bytes);
            }
            EXPECT(iam_map_update_many(map, odd, PAIRS, rows, row_bytes, IAM_SET) == IAM_OK);
            for (int64_t i = 0; i < 2 * PAIRS; i++) {
                int64_t key = i * strides[kind];
                write_row(row_bytes, i % 2 ? ~key : key, row);
                EXPECT(memcmp(iam_map_find(map, key, NULL), row, row_bytes) == 0);
            }
            iam_map_destroy(map);
        }
}

/* Every addition counts, in empty maps and full ones, by batches of a few keys and of many. */
static void test_duplicates_count_in_order(void)
{
    const size_t sizes[] = {1, 2, 100, 512, 1023, 1024, 1025, 5000, 30000};
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++)
        for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
            size_t count = sizes[size];
            iam_map *map = create_doubles((iam_index)index, IAM_GROWTH_STEPS);
            uint64_t state = count;
            for (int round = 1; round <= 4; round++) {
                for (size_t i = 0; i < count; i++) {
                    written[i] = (int64_t)(harness_random(&state) % (count / 3 + 1));
                    written[i] *= index == IAM_INDEX_HASH ? 1000003 : 1;
                    items[i] = 0;
                    values[i][0] = 1;
                }
                if (round % 2)
                    EXPECT(iam_map_update_many(map, written, count, values, sizeof values[0], IAM_ADD) == IAM_OK);
                else
                    EXPECT(iam_map_add_at(map, written, count, items, 1, values[0], 0) == IAM_OK);
                EXPECT(total(map) == (double)(count * (size_t)round));
                harness_validate(map);
            }
            /* SUB from a missing key stores the negative; the next one subtracts. */
            const int64_t thrice[] = {-5, -5, -5};
            EXPECT(iam_map_update_many(map, thrice, 3, values[0], 0, IAM_SUB) == IAM_OK);
            EXPECT(*(const double *)iam_map_find(map, -5, NULL) == -3);
            iam_map_destroy(map);
        }
}

static void test_add_at_outside_the_row_adds_nothing(void)
{
    iam_map *map = create_doubles(IAM_INDEX_AUTO, IAM_GROWTH_STEPS);
    const int64_t same[] = {1, 1, 1}, outside[] = {-1, ROW, INT64_MAX};
    EXPECT(iam_map_add_at(map, same, 3, outside, 1, values[0], 0) == IAM_OK);
    const double *row = iam_map_find(map, 1, NULL);
    for (int item = 0; item < ROW; item++)
        EXPECT(row[item] == 0);
    harness_validate(map);
    iam_map_destroy(map);
}

static void test_ensure_tells_what_it_made(void)
{
    const double fill[ROW] = {7, 8, 9, 10};
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++)
        for (size_t count = 10; count <= 20000; count = count * 9 + 7) {
            iam_map *map = create_doubles((iam_index)index, IAM_GROWTH_STEPS);
            for (int64_t key = 0; key < 5; key++)
                EXPECT(iam_map_put(map, key, values[0]) == IAM_OK);
            for (size_t i = 0; i < count; i++)
                written[i] = (int64_t)(i * 7919 % (count - count / 4));
            EXPECT(iam_map_ensure_many(map, written, count, fill, row_numbers, flags) == IAM_OK);
            uint64_t made = 0;
            for (size_t i = 0; i < count; i++) {
                uint32_t number;
                const double *row = iam_map_find(map, written[i], &number);
                EXPECT(row != NULL && row_numbers[i] == (int64_t)number);
                EXPECT(written[i] < 5 || memcmp(row, fill, sizeof fill) == 0);
                EXPECT(written[i] >= 5 || (row[0] == values[0][0] && flags[i] == 0));
                made += flags[i];
            }
            EXPECT(made + 5 == iam_map_count(map));
            EXPECT(iam_map_ensure_many(map, written, count, fill, row_numbers, flags) == IAM_OK);
            for (size_t i = 0; i < count; i++)
                EXPECT(flags[i] == 0);
            harness_validate(map);
            iam_map_destroy(map);
        }
}

static void test_delete_and_pop(void)
{
    for (int kind = DIRECT; kind < SHAPES; kind++)
        for (int pipeline = IAM_OFF; pipeline <= IAM_ON; pipeline++) {
            size_t row_bytes = 32;
            iam_map *map = create((shape)kind, row_bytes, (iam_switch)pipeline, IAM_SIMD_AUTO);
            int64_t stride = strides[kind], count = counts[kind];
            uint8_t row[32];
            /* Thrice each, among others that are not there. */
            for (size_t i = 0; i < 60; i++)
                keys[i] = i % 4 == 3 ? -1 - (int64_t)i : (int64_t)(i % 5) * stride;
            iam_map_delete_many(map, keys, 60, found);
            for (size_t i = 0; i < 60; i++) {
                bool first = keys[i] >= 0;
                for (size_t before = 0; before < i; before++)
                    first &= keys[before] != keys[i];
                EXPECT(found[i] == first);
            }
            harness_validate(map);
            /* Pop: the second of a duplicate is missing; without defaults nothing goes then. */
            int64_t key = (count - 1) * stride, asked[] = {key, key - stride, key};
            iam_missing missing;
            uint64_t version = iam_map_version(map);
            EXPECT(iam_map_pop_many(map, asked, 3, rows, NULL, 0, &missing) == IAM_MISSING);
            EXPECT(missing.position == 2 && missing.count == 1 && missing.key == key);
            EXPECT(iam_map_version(map) == version && iam_map_find(map, key, NULL) != NULL);
            EXPECT(iam_map_pop_many(map, asked, 2, rows, NULL, 0, &missing) == IAM_OK && missing.count == 0);
            write_row(row_bytes, key - stride, row);
            EXPECT(memcmp(rows + row_bytes, row, row_bytes) == 0 && iam_map_find(map, key, NULL) == NULL);
            memset(defaults, 0x55, 3 * row_bytes);
            asked[0] = key - 2 * stride, asked[1] = key, asked[2] = key - 2 * stride;
            EXPECT(iam_map_pop_many(map, asked, 3, rows, defaults, row_bytes, &missing) == IAM_OK);
            EXPECT(missing.count == 2 && rows[row_bytes] == 0x55 && rows[2 * row_bytes] == 0x55);
            write_row(row_bytes, key - 2 * stride, row);
            EXPECT(memcmp(rows, row, row_bytes) == 0);
            EXPECT(iam_map_pop_many(map, asked, 0, rows, NULL, 0, &missing) == IAM_OK);
            harness_validate(map);
            iam_map_destroy(map);
        }
    /* All keys of a large map, in two halves. */
    iam_map *map = create_doubles(IAM_INDEX_HASH, IAM_GROWTH_STEPS);
    for (size_t i = 0; i < WRITE_MOST; i++) {
        written[i] = (int64_t)(i * 0x9e3779b97f4a7c15u);
        values[i][0] = (double)i;
    }
    EXPECT(iam_map_update_many(map, written, WRITE_MOST, values, sizeof values[0], IAM_SET) == IAM_OK);
    EXPECT(iam_map_pop_many(map, written, WRITE_MOST / 2, popped, NULL, 0, NULL) == IAM_OK);
    EXPECT(memcmp(popped, values, WRITE_MOST / 2 * sizeof values[0]) == 0);
    iam_map_delete_many(map, written, WRITE_MOST, flags);
    for (size_t i = 0; i < WRITE_MOST; i++)
        EXPECT(flags[i] == (i >= WRITE_MOST / 2));
    EXPECT(iam_map_count(map) == 0);
    harness_validate(map);
    iam_map_destroy(map);
}

/* ---- Keys that are told apart by nothing but themselves -------------------------------------------------------------
 */

/* So many keys of one home bucket and one tag; every second is in the map at first, in a chain among 1,200 others. */
enum { TWINS = 20, OTHERS = 1200, BATCH_MOST = 1500, UNTOLD = -7 };

typedef struct twins {
    iam_map *map;
    int64_t keys[TWINS];
    bool is_there[TWINS];
    double first[TWINS];        /* the first item of each row that is there */
    unsigned which[BATCH_MOST]; /* of the twins is key i of the batch; TWINS: another key */
    int64_t batch[BATCH_MOST];
} twins;

static void twins_begin(twins *t, iam_switch pipeline, iam_simd simd)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH, .seed = 4};
    options.pipeline = pipeline;
    options.simd = simd;
    EXPECT(iam_map_create(&options, &t->map) == IAM_OK);
    const double other[ROW] = {UNTOLD, UNTOLD, UNTOLD, UNTOLD};
    for (int64_t i = 0; i < OTHERS; i++)
        EXPECT(iam_map_put(t->map, i * 1000003, other) == IAM_OK);
    static int64_t found_keys[TWINS]; /* the search takes a while, and the seed is always the same */
    int64_t last_tried = -((int64_t)1 << 40);
    for (int i = 0; i < TWINS && found_keys[TWINS - 1] == 0; i++)
        found_keys[i] = harness_key_for(&t->map->hash.secret, 1023, 77, 200, &last_tried);
    memcpy(t->keys, found_keys, sizeof t->keys);
    for (int i = 0; i < TWINS; i++) {
        t->is_there[i] = i % 2;
        t->first[i] = i;
        const double row[ROW] = {i, 1, 2, 3};
        if (t->is_there[i])
            EXPECT(iam_map_put(t->map, t->keys[i], row) == IAM_OK);
    }
    EXPECT(t->map->hash.bucket_count > 100 && t->map->hash.bucket_count < 1024);
}

/* Twins over and over, with one of the others between them now and then. */
static void twins_choose(twins *t, size_t count, unsigned from, bool with_others)
{
    for (size_t i = 0; i < count; i++) {
        bool is_other = with_others && i % 11 == 10;
        t->which[i] = is_other ? TWINS : (unsigned)(i * 7 + from) % TWINS;
        t->batch[i] = is_other ? (int64_t)(i % OTHERS) * 1000003 : t->keys[t->which[i]];
    }
}

static bool twin_is_there(const twins *t, size_t i)
{
    return t->which[i] == TWINS || t->is_there[t->which[i]];
}

static void twins_compare(const twins *t)
{
    harness_validate(t->map);
    uint64_t count = OTHERS;
    for (int i = 0; i < TWINS; i++) {
        const double *row = iam_map_find(t->map, t->keys[i], NULL);
        EXPECT((row != NULL) == t->is_there[i] && (row == NULL || row[0] == t->first[i]));
        count += t->is_there[i];
    }
    EXPECT(iam_map_count(t->map) == count);
    for (int64_t i = 0; i < OTHERS; i++)
        EXPECT(*(const double *)iam_map_find(t->map, i * 1000003, NULL) == UNTOLD);
}

static void twins_read(twins *t, size_t count)
{
    static double out[BATCH_MOST][ROW];
    const double absent[ROW] = {-1, -1, -1, -1};
    static int64_t at[BATCH_MOST];
    static uint8_t mask[BATCH_MOST];
    iam_missing missing;
    uint64_t missing_count = 0, position = 0;
    EXPECT(iam_map_get_many(t->map, t->batch, count, out, absent, 0, mask, NULL) == IAM_OK);
    iam_map_contains_many(t->map, t->batch, count, flags);
    iam_map_index_many(t->map, t->batch, count, at);
    for (size_t i = 0; i < count; i++) {
        bool is_there = twin_is_there(t, i);
        double first = t->which[i] == TWINS ? UNTOLD : t->first[t->which[i]];
        uint32_t number;
        EXPECT(mask[i] == is_there && flags[i] == is_there && out[i][0] == (is_there ? first : -1));
        EXPECT((iam_map_find(t->map, t->batch[i], &number) != NULL) == is_there);
        EXPECT(at[i] == (is_there ? (int64_t)number : -1));
        if (!is_there && missing_count++ == 0)
            position = i;
    }
    iam_status status = iam_map_get_many(t->map, t->batch, count, out, NULL, 0, NULL, &missing);
    EXPECT(status == (missing_count > 0 ? IAM_MISSING : IAM_OK) && missing.count == missing_count);
    EXPECT(missing_count == 0 || (missing.position == position && missing.key == t->batch[position]));
}

/* The others are given what they have. */
static void twins_write(twins *t, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i][0] = t->which[i] == TWINS ? UNTOLD : 100 + (double)i;
    EXPECT(iam_map_update_many(t->map, t->batch, count, values, sizeof values[0], IAM_SET) == IAM_OK);
    for (size_t i = 0; i < count; i++)
        if (t->which[i] < TWINS) {
            t->is_there[t->which[i]] = true;
            t->first[t->which[i]] = values[i][0];
        }
}

static void twins_ensure(twins *t, size_t count)
{
    const double fill[ROW] = {0.5};
    EXPECT(iam_map_ensure_many(t->map, t->batch, count, fill, row_numbers, flags) == IAM_OK);
    for (size_t i = 0; i < count; i++) {
        bool was_there = twin_is_there(t, i);
        uint32_t number;
        EXPECT(flags[i] == !was_there && iam_map_find(t->map, t->batch[i], &number) != NULL);
        EXPECT(row_numbers[i] == (int64_t)number);
        if (!was_there) {
            t->is_there[t->which[i]] = true;
            t->first[t->which[i]] = 0.5;
        }
    }
}

/* The others stay: the batch must have none. */
static void twins_delete(twins *t, size_t count)
{
    iam_map_delete_many(t->map, t->batch, count, flags);
    for (size_t i = 0; i < count; i++) {
        EXPECT(flags[i] == t->is_there[t->which[i]]);
        t->is_there[t->which[i]] = false;
    }
}

static void twins_pop(twins *t, size_t count)
{
    const double absent[ROW] = {-1, -1, -1, -1};
    iam_missing missing;
    uint64_t missing_count = 0;
    EXPECT(iam_map_pop_many(t->map, t->batch, count, popped, absent, 0, &missing) == IAM_OK);
    for (size_t i = 0; i < count; i++) {
        bool *is_there = &t->is_there[t->which[i]];
        EXPECT(popped[i][0] == (*is_there ? t->first[t->which[i]] : -1));
        missing_count += !*is_there;
        *is_there = false;
    }
    EXPECT(missing.count == missing_count);
}

static void test_twin_buckets_and_tags(void)
{
    const size_t sizes[] = {1, 2, 9, 16, 17, 33, 49, 65, 500, 1024, 1025, BATCH_MOST};
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++)
        for (int way = 0; way < 4; way++) {
            static twins t;
            size_t count = sizes[size];
            twins_begin(&t, way % 2 ? IAM_ON : IAM_OFF, way / 2 ? IAM_SIMD_SCALAR : IAM_SIMD_AUTO);
            for (unsigned from = 0; from < 4; from++) {
                twins_choose(&t, count, from, true);
                twins_read(&t, count);
                if (from % 2)
                    twins_write(&t, count);
                else
                    twins_ensure(&t, count);
                twins_compare(&t);
                twins_read(&t, count);
                /* By turns all of them and ten at most, so that what goes lies beside what stays. */
                twins_choose(&t, from % 2 ? count : count % 11, from, false);
                twins_delete(&t, from % 2 ? count : count % 11);
                twins_compare(&t);
                twins_choose(&t, count, from + 5, false);
                twins_ensure(&t, count / 2);
                twins_pop(&t, from % 2 ? count % 11 : count);
                twins_compare(&t);
            }
            iam_map_destroy(t.map);
        }
}

/* ---- Where the caller's memory ends ------------------------------------------------------------------------------ */

/* A block that ends where nobody may read, or begins after such a place. */
typedef struct fenced {
    char *mapping, *block;
    size_t mapped_bytes;
} fenced;

static fenced fence(size_t bytes, bool at_end)
{
    enum { PAGE = 16384 }; /* of any machine at most */
    size_t inner = (bytes + PAGE - 1) / PAGE * PAGE;
    fenced f = {.mapped_bytes = inner + 2 * PAGE};
    f.mapping = mmap(NULL, f.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(f.mapping != MAP_FAILED && mprotect(f.mapping, PAGE, PROT_NONE) == 0);
    EXPECT(mprotect(f.mapping + PAGE + inner, PAGE, PROT_NONE) == 0);
    f.block = f.mapping + PAGE + (at_end ? inner - bytes : 0);
    return f;
}

static void unfence(const fenced *f)
{
    munmap(f->mapping, f->mapped_bytes);
}

/* No batch reads or writes beside what it was given, whichever way it goes. */
static void test_nothing_beside_the_callers_memory(void)
{
    enum { ITEMS = 3, ROW_BYTES = ITEMS * 8 };
    const size_t sizes[] = {1, 2, 7, 8, 9, 63, 65, 255, 1023, 1024, 1025, 17000, 70000};
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++)
        for (int way = 0; way < 16; way++) {
            size_t count = sizes[size];
            bool at_end = way & 1, dense = way & 2, known = way & 8;
            iam_options options = {.row_items = ITEMS, .kind = IAM_FLOAT64, .seed = 4};
            options.pipeline = way & 4 ? IAM_ON : IAM_OFF;
            fenced in = fence(count * 8, at_end), places = fence(count * 8, at_end), out = fence(count * 8, at_end);
            fenced marks = fence(count, at_end), row = fence(ROW_BYTES, at_end);
            fenced given = fence(count * ROW_BYTES, at_end), result = fence(count * ROW_BYTES, at_end);
            int64_t *key = (int64_t *)(void *)in.block, *item = (int64_t *)(void *)places.block;
            for (size_t i = 0; i < count; i++) {
                key[i] = dense ? (int64_t)i : (int64_t)(i * 0x9e3779b97f4a7c15u);
                item[i] = (int64_t)(i % ITEMS);
            }
            double *value = (double *)(void *)given.block;
            for (size_t i = 0; i < count * ITEMS; i++)
                value[i] = (double)i;
            uint8_t *flag = (uint8_t *)marks.block;
            int64_t *number = (int64_t *)(void *)out.block;
            iam_map *map;
            EXPECT(iam_map_create(&options, &map) == IAM_OK);
            for (int64_t i = 0; known && i < 500; i++)
                EXPECT(iam_map_put(map, dense ? i * 2 : i, row.block) == IAM_OK);
            EXPECT(iam_map_update_many(map, key, count, given.block, ROW_BYTES, IAM_SET) == IAM_OK);
            EXPECT(iam_map_get_many(map, key, count, result.block, NULL, 0, flag, NULL) == IAM_OK);
            EXPECT(memcmp(given.block, result.block, count * ROW_BYTES) == 0);
            /* One key less: what the longer batch left on the stack is not part of it. */
            EXPECT(iam_map_update_many(map, key, count - 1, given.block + ROW_BYTES, ROW_BYTES, IAM_SET) == IAM_OK);
            EXPECT(iam_map_update_many(map, key, count, row.block, 0, IAM_ADD) == IAM_OK);
            EXPECT(iam_map_add_at(map, key, count, item, 1, value, 8) == IAM_OK);
            iam_map_contains_many(map, key, count, flag);
            iam_map_index_many(map, key, count, number);
            EXPECT(flag[0] == 1 && flag[count - 1] == 1 && number[0] >= 0 && number[count - 1] >= 0);
            iam_map_delete_many(map, key, count / 2, flag);
            EXPECT(iam_map_get_many(map, key, count, result.block, given.block, ROW_BYTES, flag, NULL) == IAM_OK);
            EXPECT(iam_map_get_many(map, key, count, result.block, row.block, 0, NULL, NULL) == IAM_OK);
            EXPECT(iam_map_ensure_many(map, key, count, row.block, number, flag) == IAM_OK);
            EXPECT(flag[count - 1] == 0 && (count == 1 || flag[0] == 1));
            EXPECT(iam_map_pop_many(map, key, count, result.block, given.block, ROW_BYTES, NULL) == IAM_OK);
            EXPECT(iam_map_pop_many(map, key, count, result.block, given.block, ROW_BYTES, NULL) == IAM_OK);
            EXPECT(memcmp(given.block, result.block, count * ROW_BYTES) == 0);
            harness_validate(map);
            EXPECT(iam_map_update_many(map, key, count, given.block, ROW_BYTES, IAM_SET) == IAM_OK);
            if (iam_map_count(map) == count)
                EXPECT(iam_map_export(map, key, result.block));
            iam_map_destroy(map);
            const fenced *all[] = {&in, &places, &out, &marks, &row, &given, &result};
            for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                unfence(all[i]);
        }
}

static void test_pop_of_one_key_without_memory(void)
{
    failing memory;
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .seed = 8};
    options.allocator = failing_allocator(&memory);
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    double row[ROW] = {7};
    const int64_t key = 3;
    EXPECT(iam_map_put(map, key, row) == IAM_OK);
    atomic_store(&memory.until_failure, 0);
    EXPECT(iam_map_pop_many(map, &key, 1, row, NULL, 0, NULL) == IAM_NO_MEMORY && iam_map_count(map) == 1);
    atomic_store(&memory.until_failure, FAILING_NEVER);
    EXPECT(iam_map_pop_many(map, &key, 1, row, NULL, 0, NULL) == IAM_OK && row[0] == 7 && iam_map_count(map) == 0);
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == 0);
}

static void test_empty_batches_change_nothing(void)
{
    iam_map *map = create_doubles(IAM_INDEX_AUTO, IAM_GROWTH_STEPS);
    EXPECT(iam_map_update_many(map, NULL, 0, NULL, 0, IAM_SET) == IAM_OK);
    EXPECT(iam_map_add_at(map, NULL, 0, NULL, 0, NULL, 0) == IAM_OK);
    EXPECT(iam_map_ensure_many(map, NULL, 0, values, NULL, NULL) == IAM_OK);
    iam_map_delete_many(map, NULL, 0, NULL);
    EXPECT(iam_map_get_many(map, NULL, 0, NULL, NULL, 0, NULL, NULL) == IAM_OK);
    EXPECT(iam_map_count(map) == 0 && iam_map_version(map) == 0);
    iam_map_destroy(map);
}

int main(void)
{
    RUN(test_reads_of_every_size);
    RUN(test_large_results_are_streamed);
    RUN(test_mask_of_required_keys);
    RUN(test_holes_in_pages);
    RUN(test_building_at_one_go);
    RUN(test_what_is_built_at_one_go);
    RUN(test_ensuring_at_one_go);
    RUN(test_twins_in_any_two_slots);
    RUN(test_twins_in_any_bucket);
    RUN(test_room_is_for_distinct_keys);
    RUN(test_building_that_gives_up);
    RUN(test_neighbours_of_written_rows);
    RUN(test_duplicates_count_in_order);
    RUN(test_add_at_outside_the_row_adds_nothing);
    RUN(test_ensure_tells_what_it_made);
    RUN(test_delete_and_pop);
    RUN(test_twin_buckets_and_tags);
    RUN(test_nothing_beside_the_callers_memory);
    RUN(test_pop_of_one_key_without_memory);
    RUN(test_empty_batches_change_nothing);
    return harness_end();
}
