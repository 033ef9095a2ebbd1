/* test_spare.c: pages of maps that are gone, kept for the next one: never more than promised, never a wrong byte. */
#define _GNU_SOURCE
#include "harness.h"

#include "map.h"
#include "spare.h"

#include <pthread.h>
#include <sys/mman.h>

enum { ROW = 8 };
#define MIB ((size_t)1 << 20)
#define LEAST ((size_t)256 << 10)

static char *mapping(size_t bytes, int fill)
{
    char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(start != MAP_FAILED);
    if (fill != 0)
        memset(start, fill, bytes);
    return start;
}

/* How many bytes come back for `bytes`, all of them `fill`, and zeros behind them. */
static size_t take(iam_spare *spare, size_t bytes, int fill)
{
    char *to = mapping(bytes, 0);
    size_t warm = 1;
    EXPECT(spare_take(spare, to, bytes, &warm) && warm <= bytes);
    for (size_t i = 0; i < bytes; i += 512)
        EXPECT(to[i] == (i < warm ? fill : 0));
    memset(to, 1, bytes);
    munmap(to, bytes);
    return warm;
}

static void test_what_is_kept_comes_back(void)
{
    iam_spare *spare = iam_spare_create();
    EXPECT(take(spare, 4 * MIB, 0) == 0);
    EXPECT(spare_give(spare, mapping(4 * MIB, 7), 4 * MIB) == 4 * MIB);
    EXPECT(take(spare, 4 * MIB, 7) == 4 * MIB);
    EXPECT(take(spare, 4 * MIB, 0) == 0);
    /* Larger: a part of what is wanted; smaller: the rest goes back; far smaller: it is left alone. */
    EXPECT(spare_give(spare, mapping(4 * MIB, 7), 4 * MIB) == 4 * MIB);
    EXPECT(take(spare, 16 * MIB, 7) == 4 * MIB);
    EXPECT(spare_give(spare, mapping(4 * MIB, 7), 4 * MIB) == 4 * MIB);
    EXPECT(take(spare, MIB / 2, 0) == 0 && take(spare, 2 * MIB, 7) == 2 * MIB);
    EXPECT(take(spare, 2 * MIB, 0) == 0);
    /* The least there is. */
    EXPECT(spare_give(spare, mapping(LEAST, 7), LEAST) == LEAST && take(spare, LEAST - 4096, 0) == 0);
    EXPECT(take(spare, LEAST, 7) == LEAST);
    iam_spare_destroy(spare);
}

/* Of a larger block the rest is unmapped, and nothing before it. */
static void test_the_rest_goes_back(void)
{
    iam_spare *spare = iam_spare_create();
    char *start = mapping(8 * MIB, 9), *kept = start + 4 * MIB;
    EXPECT(spare_give(spare, kept, 4 * MIB) == 4 * MIB);
    char *to = mapping(2 * MIB, 0);
    size_t warm;
    EXPECT(spare_take(spare, to, 2 * MIB, &warm) && warm == 2 * MIB && to[2 * MIB - 1] == 9);
    for (size_t at = 0; at < 4 * MIB; at += 4096)
        EXPECT(start[at] == 9);
    /* Where nothing is mapped, the system follows a hint. */
    EXPECT(mmap(kept + 2 * MIB, 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == kept + 2 * MIB);
    munmap(kept + 2 * MIB, 2 * MIB);
    munmap(start, 4 * MIB);
    munmap(to, 2 * MIB);
    iam_spare_destroy(spare);
}

static void test_the_best_block_is_taken(void)
{
    iam_spare *spare = iam_spare_create();
    for (size_t size = 1; size <= 4; size++)
        EXPECT(spare_give(spare, mapping(size * MIB, (int)size), size * MIB) == size * MIB);
    EXPECT(take(spare, 3 * MIB, 3) == 3 * MIB);
    EXPECT(take(spare, 3 * MIB, 4) == 3 * MIB);
    EXPECT(take(spare, 3 * MIB, 2) == 2 * MIB);
    EXPECT(take(spare, 3 * MIB, 1) == 1 * MIB);
    EXPECT(take(spare, 3 * MIB, 0) == 0);
    iam_spare_destroy(spare);
}

/* Little and much are the caller's to give back; the oldest goes when there is no room. */
static void test_no_more_than_promised(void)
{
    iam_spare *spare = iam_spare_create();
    char *little = mapping(128 * 1024, 1), *much = mapping(33 * MIB, 1);
    EXPECT(spare_give(spare, little, 128 * 1024) == 0 && spare_give(spare, much, 33 * MIB) == 0);
    EXPECT(spare_give(NULL, much, 4 * MIB) == 0);
    munmap(little, 128 * 1024);
    munmap(much, 33 * MIB);
    EXPECT(spare_give(spare, mapping(20 * MIB, 1), 20 * MIB) == 20 * MIB);
    EXPECT(spare_give(spare, mapping(10 * MIB, 2), 10 * MIB) == 10 * MIB);
    EXPECT(spare_give(spare, mapping(8 * MIB, 3), 8 * MIB) == 8 * MIB); /* 20 goes */
    EXPECT(take(spare, 20 * MIB, 2) == 10 * MIB);
    EXPECT(take(spare, 20 * MIB, 3) == 8 * MIB);
    EXPECT(take(spare, 20 * MIB, 0) == 0);
    for (int round = 0; round < 40; round++)
        EXPECT(spare_give(spare, mapping(MIB, round + 1), MIB) == MIB);
    for (int round = 39; round >= 32; round--)
        EXPECT(take(spare, MIB, round + 1) == MIB);
    EXPECT(take(spare, MIB, 0) == 0);
    iam_spare_destroy(spare);
}

/* Parts of pages are nobody's but the caller's. */
static void test_whole_pages(void)
{
    iam_spare *spare = iam_spare_create();
    char *start = mapping(2 * MIB, 5);
    EXPECT(spare_give(spare, start, MIB + 100) == MIB);
    EXPECT(start[MIB] == 5);
    munmap(start + MIB, MIB);
    EXPECT(take(spare, 2 * MIB, 5) == MIB);
    iam_spare_destroy(spare);
}

/* ---- Maps one after the other ------------------------------------------------------------------------------------ */

static iam_map *create(iam_spare *spare, iam_index index)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .seed = 3, .spare = spare};
    iam_map *map = NULL;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void expect_rows(const iam_map *map, const int64_t *keys, size_t count, double first)
{
    char reason[200] = "";
    EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_OK);
    EXPECT(iam_map_count(map) == count);
    for (size_t i = 0; i < count; i++) {
        const double *row = iam_map_find(map, keys[i], NULL);
        EXPECT(row != NULL && row[0] == first + (double)i && row[ROW - 1] == first + (double)i);
    }
}

/* Sizes and indexes follow each other at random; nothing of an old map shows in a new one. */
static void test_maps_follow_each_other(void)
{
    enum { MOST = 60000 };
    iam_spare *spare = iam_spare_create();
    int64_t *keys = malloc(MOST * sizeof *keys);
    double (*rows)[ROW] = malloc(MOST * sizeof *rows);
    uint64_t state = 11;
    for (int round = 0; round < 40; round++) {
        bool dense = harness_random(&state) % 2;
        size_t count = 1 + harness_random(&state) % MOST;
        for (size_t i = 0; i < count; i++) {
            keys[i] = dense ? (int64_t)i : (int64_t)(i * 0x9e3779b97f4a7c15u);
            for (int item = 0; item < ROW; item++)
                rows[i][item] = (double)(round * 1000000) + (double)i;
        }
        iam_map *map = create(round % 5 == 4 ? NULL : spare, dense && round % 3 ? IAM_INDEX_AUTO : IAM_INDEX_HASH);
        EXPECT(iam_map_update_many(map, keys, count, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        expect_rows(map, keys, count, (double)(round * 1000000));
        /* Rows made without a value start at zero, whatever lies there. */
        for (int64_t key = -100; key < 0; key++) {
            void *row;
            bool created;
            EXPECT(iam_map_ensure(map, key - ((int64_t)1 << 50), &row, NULL, &created) == IAM_OK && created);
            for (int item = 0; item < ROW; item++)
                EXPECT(((double *)row)[item] == 0);
        }
        if (round % 4 == 0)
            EXPECT(iam_map_clear(map) == IAM_OK && iam_map_count(map) == 0);
        iam_map_destroy(map);
    }
    free(keys);
    free(rows);
    iam_spare_destroy(spare);
}

/* Only pages that a batch has had made present are kept: others would come back no warmer than new ones. */
static void test_what_is_kept_was_touched(void)
{
    enum { COUNT = 40000 };
    static int64_t keys[COUNT];
    const double row[ROW] = {0};
    for (int by_key = 0; by_key < 2; by_key++) {
        iam_spare *spare = iam_spare_create();
        iam_map *map = create(spare, IAM_INDEX_HASH);
        for (int64_t i = 0; i < COUNT; i++) {
            keys[i] = i;
            EXPECT(!by_key || iam_map_put(map, i, row) == IAM_OK);
        }
        EXPECT(!by_key || iam_map_reserve(map, 2 * COUNT) == IAM_OK);
        EXPECT(by_key || iam_map_update_many(map, keys, COUNT, row, 0, IAM_SET) == IAM_OK);
        iam_map_destroy(map);
        char *to = mapping(2 * MIB, 0);
        size_t warm;
        EXPECT(spare_take(spare, to, 2 * MIB, &warm) && (warm == 0) == by_key);
        munmap(to, 2 * MIB);
        iam_spare_destroy(spare);
    }
}

typedef struct maker {
    pthread_t thread;
    iam_spare *spare;
    int number;
} maker;

static void *make_maps(void *context)
{
    enum { COUNT = 30000 };
    const maker *self = context;
    int64_t *keys = malloc(COUNT * sizeof *keys);
    double (*rows)[ROW] = malloc(COUNT * sizeof *rows);
    for (int round = 0; round < 12; round++) {
        double first = self->number * 1e6 + round * 1e5;
        for (size_t i = 0; i < COUNT; i++) {
            keys[i] = (int64_t)((i + 1) * 0x9e3779b97f4a7c15u);
            for (int item = 0; item < ROW; item++)
                rows[i][item] = first + (double)i;
        }
        iam_map *map = create(self->spare, IAM_INDEX_HASH);
        EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        expect_rows(map, keys, COUNT, first);
        iam_map_destroy(map);
    }
    free(keys);
    free(rows);
    return NULL;
}

static void test_threads_share_it(void)
{
    maker makers[4];
    iam_spare *spare = iam_spare_create();
    for (int i = 0; i < 4; i++) {
        makers[i].spare = spare;
        makers[i].number = i;
        EXPECT(pthread_create(&makers[i].thread, NULL, make_maps, &makers[i]) == 0);
    }
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_join(makers[i].thread, NULL) == 0);
    iam_spare_destroy(spare);
}

int main(void)
{
    RUN(test_what_is_kept_comes_back);
    RUN(test_the_rest_goes_back);
    RUN(test_the_best_block_is_taken);
    RUN(test_no_more_than_promised);
    RUN(test_whole_pages);
    RUN(test_maps_follow_each_other);
    RUN(test_what_is_kept_was_touched);
    RUN(test_threads_share_it);
    return harness_end();
}
