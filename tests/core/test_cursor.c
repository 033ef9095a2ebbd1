/* test_cursor.c: walking while the map changes, blocks, and what else shows a map from outside: export, last, overlaps,
 * scans that hold compact back. */
#include "harness.h"

#include "map.h"

enum { ROW = 3, KEYS = 1500 };
#define FAR ((int64_t)1 << 40)

static iam_map *create(iam_index index, iam_switch ranges)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .reserve = ranges, .seed = 2};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void put(iam_map *map, int64_t key)
{
    double row[ROW] = {(double)key, 1, 2};
    EXPECT(iam_map_put(map, key, row) == IAM_OK);
}

/* DIRECT with holes, LEAVING, HASH with holes, by turns. */
static iam_map *create_with_holes(int state, iam_switch ranges)
{
    iam_map *map = create(state == 2 ? IAM_INDEX_HASH : IAM_INDEX_AUTO, ranges);
    int64_t stride = state == 2 ? 1000003 : 1;
    for (int64_t i = 0; i < 3 * KEYS; i++)
        put(map, (i - KEYS) * stride);
    for (int64_t i = 0; i < 3 * KEYS; i += i % 700 < 300 ? 1 : 5)
        EXPECT(iam_map_remove(map, (i - KEYS) * stride) == IAM_OK);
    if (state == 1)
        for (int64_t i = 0; i < 40; i++)
            put(map, FAR + i);
    EXPECT(map->state == (state == 0 ? MAP_DIRECT : (state == 1 ? MAP_LEAVING : MAP_HASH)));
    return map;
}

/* ---- Walking ----------------------------------------------------------------------------------------------------- */

/* Forward and backward, in pieces of any size: all keys, in row order. */
static void test_walks_both_ways(void)
{
    static int64_t forward[3 * KEYS + 50], backward[3 * KEYS + 50], exported[3 * KEYS + 50];
    static uint32_t numbers[3 * KEYS + 50];
    static double rows[3 * KEYS + 50][ROW];
    for (int state = 0; state < 3; state++) {
        iam_map *map = create_with_holes(state, IAM_AUTO);
        uint64_t count = iam_map_count(map);
        for (size_t piece = 1; piece < 5000; piece = piece * 7 + 1) {
            uint64_t position = 0, walked = 0;
            for (size_t got;
                 (got = iam_map_walk(map, false, &position, piece, forward + walked, numbers + walked)) > 0;)
                walked += got;
            EXPECT(walked == count);
            position = UINT64_MAX, walked = 0;
            for (size_t got; (got = iam_map_walk(map, true, &position, piece, backward + walked, NULL)) > 0;)
                walked += got;
            EXPECT(walked == count);
            for (uint64_t i = 0; i < count; i++) {
                EXPECT(forward[i] == backward[count - 1 - i] && (i == 0 || numbers[i] > numbers[i - 1]));
                EXPECT(*(const double *)iam_map_row(map, numbers[i]) == (double)forward[i]);
            }
            EXPECT(iam_map_walk(map, false, &(uint64_t){UINT64_MAX}, 1, forward, NULL) == 0);
        }
        iam_map_export(map, exported, rows);
        EXPECT(memcmp(exported, forward, count * sizeof *exported) == 0);
        for (uint64_t i = 0; i < count; i++)
            EXPECT(rows[i][0] == (double)exported[i] && rows[i][2] == 2);
        memset(rows, 0, sizeof rows);
        iam_map_export(map, NULL, rows);
        iam_map_export(map, backward, NULL);
        EXPECT(rows[count - 1][0] == (double)exported[count - 1] && backward[0] == exported[0]);
        int64_t key;
        void *row;
        EXPECT(iam_map_last(map, &key, &row) && key == forward[count - 1] && *(double *)row == (double)key);
        iam_map_destroy(map);
    }
    iam_map *map = create(IAM_INDEX_AUTO, IAM_AUTO);
    EXPECT(iam_map_walk(map, false, &(uint64_t){0}, 1, NULL, NULL) == 0);
    EXPECT(iam_map_walk(map, true, &(uint64_t){UINT64_MAX}, 1, NULL, NULL) == 0);
    EXPECT(!iam_map_last(map, &(int64_t){0}, &(void *){NULL}));
    iam_map_destroy(map);
}

/* A walk that has come to its end stays there, whatever comes to lie beyond. */
static void test_the_end_is_the_end(void)
{
    iam_map *map = create(IAM_INDEX_HASH, IAM_AUTO);
    for (int64_t key = 0; key < 10; key++)
        put(map, key);
    EXPECT(iam_map_remove(map, 0) == IAM_OK); /* whose row, the first, is free */
    uint64_t forward = 0, backward = UINT64_MAX;
    int64_t keys[20];
    EXPECT(iam_map_walk(map, false, &forward, 20, keys, NULL) == 9);
    EXPECT(iam_map_walk(map, true, &backward, 20, keys, NULL) == 9 && keys[8] == 1);
    for (int64_t key = 20; key < 40; key++)
        put(map, key);
    uint32_t number;
    EXPECT(iam_map_find(map, 20, &number) != NULL && number == 0);
    EXPECT(iam_map_walk(map, false, &forward, 20, keys, NULL) == 0);
    EXPECT(iam_map_walk(map, true, &backward, 20, keys, NULL) == 0);
    iam_map_destroy(map);
}

/* Go's rules: while the map changes at will, growth and change of index included, a key that is there throughout comes
 * exactly once, none comes twice unless it was deleted and put again, a deleted one does not come. */
static void test_walking_a_map_that_changes(void)
{
    enum { PLACES = 3 * KEYS };
    static bool stays[PLACES], was_touched[PLACES], came[PLACES];
    /* Of the rounds with the hash index every second has good hashes, the others all zeros, all ones, one bucket. */
    const uint64_t masks[][2] = {{(uint64_t)1 << 45, 0}, {0, UINT64_MAX}, {0xff00000000000000u, 0}};
    for (uint64_t round = 0; round < 24; round++) {
        iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .seed = 2};
        options.index = round % 3 == 2 ? IAM_INDEX_HASH : IAM_INDEX_AUTO;
        if (round % 6 == 5 || round % 6 == 3) { /* the second of them comes to the hash index in the midst of it */
            options.hash_and = masks[round / 6 % 3][0];
            options.hash_or = masks[round / 6 % 3][1];
        }
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        uint64_t random_state = round;
        memset(stays, 0, sizeof stays), memset(was_touched, 0, sizeof was_touched), memset(came, 0, sizeof came);
        for (int64_t key = 0; key < PLACES; key += 2) {
            put(map, key);
            stays[key] = true;
        }
        bool backward = round % 2;
        uint64_t position = backward ? UINT64_MAX : 0;
        iam_scans_take(map);
        int64_t key;
        uint32_t number;
        for (int step = 0; iam_map_walk(map, backward, &position, 1, &key, &number) == 1; step++) {
            if (key < PLACES) {
                EXPECT(iam_map_find(map, key, NULL) != NULL && (!came[key] || was_touched[key]));
                came[key] = true;
            }
            for (int change = 0; change < 3 && step < 1000; change++) {
                int64_t other = (int64_t)(harness_random(&random_state) % PLACES);
                if (iam_map_remove(map, other) != IAM_OK)
                    put(map, other);
                stays[other] = false;
                was_touched[other] = true;
            }
            if (step == 500 && round % 3 == 0)
                put(map, FAR); /* leaves direct in the midst of it */
            if (step == 700)
                EXPECT(iam_map_compact(map) == IAM_HELD);
        }
        for (int64_t place = 0; place < PLACES; place++)
            EXPECT(!stays[place] || came[place]);
        iam_scans_release(map);
        EXPECT(iam_map_compact(map) == IAM_OK);
        iam_map_destroy(map);
    }
}

static void test_clear_and_compact_change_the_epoch(void)
{
    iam_map *map = create(IAM_INDEX_AUTO, IAM_AUTO);
    put(map, 1);
    uint64_t epoch = iam_map_epoch(map), version = iam_map_version(map);
    put(map, 1);
    EXPECT(iam_map_version(map) == version); /* overwriting is no change */
    put(map, 2);
    EXPECT(iam_map_version(map) != version && iam_map_epoch(map) == epoch);
    EXPECT(iam_map_compact(map) == IAM_OK && iam_map_epoch(map) != epoch);
    epoch = iam_map_epoch(map);
    iam_scans_take(map);
    EXPECT(iam_map_clear(map) == IAM_OK && iam_map_epoch(map) != epoch); /* ends the scan, is not held back by it */
    iam_scans_release(map);
    iam_map_destroy(map);
}

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */

/* The blocks of a map are all its row numbers, each once; what they show is what lookups say. */
static void expect_blocks(const iam_map *map)
{
    static int64_t keys[8 * KEYS];
    uint64_t next = 0, present = 0, block_count = iam_map_block_count(map);
    for (uint64_t i = 0; i < block_count; i++) {
        iam_block block;
        iam_map_block(map, i, &block);
        EXPECT(block.first_row == next && block.row_count > 0 && block.first_row % 8 == 0);
        EXPECT((block.keys != NULL) == (map->state == MAP_HASH));
        iam_map_block_keys(map, &block, keys);
        for (uint64_t j = 0; j < block.row_count; j++) {
            bool is_there = block.present[j / 8] >> (j % 8) & 1;
            double *row = (double *)block.rows + j * ROW;
            EXPECT(row == iam_map_row(map, (uint32_t)(block.first_row + j)));
            if (!is_there) {
                EXPECT(keys[j] == 0);
                continue;
            }
            uint32_t number;
            EXPECT(iam_map_find(map, keys[j], &number) == row && number == block.first_row + j);
            EXPECT(row[0] == (double)keys[j] && (block.keys == NULL || block.keys[j] == keys[j]));
            present++;
        }
        next += block.row_count;
    }
    EXPECT(next == map->rows->used_count && present == iam_map_count(map));
}

static void test_blocks_cover_all_rows(void)
{
    for (int state = 0; state < 3; state++)
        for (int ranges = 0; ranges < 2; ranges++) {
            iam_map *map = create_with_holes(state, ranges ? IAM_AUTO : IAM_OFF);
            expect_blocks(map);
            EXPECT(iam_map_block_count(map) > 2); /* it grew step by step */
            EXPECT(iam_map_compact(map) == IAM_OK);
            expect_blocks(map);
            EXPECT(iam_map_block_count(map) <= 2); /* it was made at one go */
            iam_map_destroy(map);
        }
    iam_map *map = create(IAM_INDEX_AUTO, IAM_AUTO);
    EXPECT(iam_map_block_count(map) == 0);
    iam_map_destroy(map);
}

static void test_a_block_of_one_row(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_HASH; index++) {
        iam_map *map = create((iam_index)index, IAM_AUTO);
        EXPECT(iam_map_block_count(map) == 0);
        put(map, 12);
        EXPECT(iam_map_block_count(map) == 1);
        expect_blocks(map);
        iam_map_destroy(map);
    }
}

static void test_blocks_hold_compact_back(void)
{
    iam_map *map = create_with_holes(2, IAM_AUTO);
    iam_blocks_take(map);
    iam_rows *rows = iam_map_rows(map);
    EXPECT(iam_map_compact(map) == IAM_HELD);
    EXPECT(iam_map_clear(map) == IAM_OK && iam_map_rows(map) != rows);
    iam_blocks_release(rows);
    EXPECT(iam_map_compact(map) == IAM_OK);
    iam_map_destroy(map);
}

static void test_overlaps(void)
{
    iam_map *map = create_with_holes(2, IAM_AUTO);
    iam_block block;
    iam_map_block(map, iam_map_block_count(map) - 1, &block);
    char elsewhere[64];
    EXPECT(iam_map_overlaps(map, block.rows, 1) && iam_map_overlaps(map, block.keys, 8));
    EXPECT(iam_map_overlaps(map, block.present, 1));
    EXPECT(iam_map_overlaps(map, (char *)block.rows - 63, 64));
    EXPECT(!iam_map_overlaps(map, elsewhere, sizeof elsewhere));
    iam_map_destroy(map);
}

int main(void)
{
    RUN(test_walks_both_ways);
    RUN(test_the_end_is_the_end);
    RUN(test_walking_a_map_that_changes);
    RUN(test_clear_and_compact_change_the_epoch);
    RUN(test_blocks_cover_all_rows);
    RUN(test_a_block_of_one_row);
    RUN(test_blocks_hold_compact_back);
    RUN(test_overlaps);
    return harness_end();
}
