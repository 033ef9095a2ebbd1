/* test_poison.c: in builds with the address sanitizer a read of a row that is free ends the program, and no other read
 * does. Each forbidden read is done by a child, whose report is looked at. SKIPPED (77) in all other builds. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fork */
#endif

#include "harness.h"
#include "map.h"

#if POISON_BITES

#include <sys/wait.h>
#include <unistd.h>

enum { ROW_ITEMS = 8, ROWS = 2000 };

/* Whether reading the byte at `place` ends a child with a report of poison. */
static bool bites(const volatile char *place)
{
    int ends[2];
    EXPECT(pipe(ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        char read_there = *place;
        (void)read_there;
        _exit(0);
    }
    close(ends[1]);
    char report[1 << 16];
    size_t bytes = 0;
    for (ssize_t more; bytes < sizeof report - 1; bytes += (size_t)more)
        if ((more = read(ends[0], report + bytes, sizeof report - 1 - bytes)) <= 0)
            break;
    report[bytes] = '\0';
    close(ends[0]);
    int status;
    EXPECT(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    EXPECT(strstr(report, "AddressSanitizer: use-after-poison") != NULL);
    return true;
}

/* Both ends of a row. */
static bool row_bites(const iam_map *map, uint32_t number)
{
    const char *row = iam_map_row(map, number);
    bool first = bites(row), last = bites(row + ROW_ITEMS * sizeof(double) - 1);
    EXPECT(first == last);
    return first;
}

static iam_map *filled(iam_index index, iam_switch reserve)
{
    iam_options options = {.row_items = ROW_ITEMS, .kind = IAM_FLOAT64, .index = index, .seed = 11, .reserve = reserve};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    double row[ROW_ITEMS] = {0};
    for (int64_t key = 0; key < ROWS; key++) {
        row[0] = (double)key;
        EXPECT(iam_map_put(map, key, row) == IAM_OK);
    }
    return map;
}

static uint32_t number_of(const iam_map *map, int64_t key)
{
    uint32_t number = IAM_ROW_NONE;
    iam_map_find(map, key, &number);
    return number;
}

static void freed_row(iam_index index, iam_switch reserve)
{
    iam_map *map = filled(index, reserve);
    for (int64_t key = 0; key < 3; key++) {
        uint32_t number = number_of(map, key * 700), neighbour = number_of(map, key * 700 + 1);
        EXPECT(!row_bites(map, number));
        EXPECT(iam_map_remove(map, key * 700) == IAM_OK);
        EXPECT(row_bites(map, number));
        EXPECT(!row_bites(map, neighbour));
        /* Handed out again, it may be used. */
        EXPECT(iam_map_ensure(map, key * 700, NULL, &number, NULL) == IAM_OK);
        EXPECT(!row_bites(map, number));
    }
    harness_validate(map);
    iam_map_destroy(map);
}

static void test_freed_row_of_the_hash_index(void)
{
    freed_row(IAM_INDEX_HASH, IAM_AUTO);
    freed_row(IAM_INDEX_HASH, IAM_OFF);
}

static void test_freed_row_of_the_direct_index(void)
{
    freed_row(IAM_INDEX_DIRECT, IAM_AUTO);
    freed_row(IAM_INDEX_DIRECT, IAM_OFF);
}

static void test_rows_that_were_never_handed_out(void)
{
    iam_map *map = filled(IAM_INDEX_HASH, IAM_AUTO);
    EXPECT(map->rows->row_store.item_count > map->rows->used_count);
    EXPECT(row_bites(map, (uint32_t)map->rows->used_count));
    EXPECT(row_bites(map, (uint32_t)map->rows->row_store.item_count - 1));
    /* Nor what lies beyond what is committed. */
    const segments *rows = &map->rows->row_store;
    EXPECT(rows->range != NULL);
    EXPECT(bites((const char *)(rows->high + rows->item_count * rows->item_bytes)));
    iam_map_destroy(map);
}

static void test_held_row_until_its_last_view_has_gone(void)
{
    for (int second = 0; second < 2; second++) {
        iam_map *map = filled(second ? IAM_INDEX_DIRECT : IAM_INDEX_HASH, IAM_AUTO);
        uint32_t number = number_of(map, 5);
        iam_view view;
        EXPECT(iam_view_take(map, number, &view) == IAM_OK);
        EXPECT(iam_map_remove(map, 5) == IAM_OK);
        EXPECT(!row_bites(map, number));
        iam_view_release(&view);
        EXPECT(iam_map_remove(map, 6) == IAM_OK); /* any write takes it back */
        EXPECT(row_bites(map, number));
        iam_map_destroy(map);
    }
}

static void test_block_shows_its_free_rows(void)
{
    for (int second = 0; second < 2; second++) {
        iam_map *map = filled(second ? IAM_INDEX_DIRECT : IAM_INDEX_HASH, IAM_AUTO);
        uint32_t before = number_of(map, 5), meanwhile = number_of(map, 6);
        EXPECT(iam_map_remove(map, 5) == IAM_OK);
        EXPECT(row_bites(map, before));
        iam_blocks_take(map);
        EXPECT(!row_bites(map, before));
        EXPECT(iam_map_remove(map, 6) == IAM_OK);
        EXPECT(!row_bites(map, meanwhile));
        iam_blocks_release(iam_map_rows(map));
        EXPECT(iam_map_remove(map, 7) == IAM_OK);
        EXPECT(row_bites(map, before) && row_bites(map, meanwhile));
        EXPECT(!row_bites(map, number_of(map, 8)));
        iam_map_destroy(map);
    }
}

static void test_map_that_was_cleared_under_a_view(void)
{
    iam_map *map = filled(IAM_INDEX_HASH, IAM_AUTO);
    const char *others = iam_map_find(map, 9, NULL), *held = iam_map_find(map, 10, NULL);
    iam_view view;
    EXPECT(iam_view_take(map, number_of(map, 10), &view) == IAM_OK);
    EXPECT(iam_map_clear(map) == IAM_OK);
    EXPECT(bites(others) && !bites(held));
    iam_view_release(&view);
    iam_map_destroy(map);
}

static void test_batches(void)
{
    enum { MANY = 20000 };
    static int64_t keys[MANY];
    static double rows[MANY][ROW_ITEMS];
    static uint8_t removed[MANY];
    iam_options options = {.row_items = ROW_ITEMS, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH, .seed = 11};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    for (int i = 0; i < MANY; i++)
        keys[i] = (int64_t)i * 1000003;
    /* The index is built in the rows' place. */
    EXPECT(iam_map_update_many(map, keys, MANY, rows, sizeof rows[0], IAM_SET) == IAM_OK);
    EXPECT(iam_map_export(map, keys, rows));
    iam_map_delete_many(map, keys, MANY / 2, removed);
    EXPECT(!row_bites(map, number_of(map, keys[MANY - 1])));
    EXPECT(row_bites(map, 0) && row_bites(map, MANY / 2 - 1));
    EXPECT(iam_map_update_many(map, keys, MANY / 2, rows, sizeof rows[0], IAM_ADD) == IAM_OK);
    EXPECT(!row_bites(map, 0));
    harness_validate(map);
    iam_map_destroy(map);
}

int main(void)
{
    RUN(test_freed_row_of_the_hash_index);
    RUN(test_freed_row_of_the_direct_index);
    RUN(test_rows_that_were_never_handed_out);
    RUN(test_held_row_until_its_last_view_has_gone);
    RUN(test_block_shows_its_free_rows);
    RUN(test_map_that_was_cleared_under_a_view);
    RUN(test_batches);
    return harness_end();
}

#else

int main(void)
{
    printf("SKIPPED: FREED ROWS ARE POISONED IN BUILDS WITH THE ADDRESS SANITIZER ONLY\n");
    return 77;
}

#endif
