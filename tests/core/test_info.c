/* test_info.c: what a map says of itself, held against what can be counted without asking it. */
#include "harness.h"

#include "map.h"

enum { ROW = 8 };
#define FAR ((int64_t)1 << 40)
#define STRIDE ((int64_t)1000003)

static iam_map *create(iam_index index, failing *memory)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .seed = 21};
    if (memory != NULL)
        options.allocator = failing_allocator(memory);
    iam_map *map = NULL;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void put_keys(iam_map *map, int64_t first, int64_t stride, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double row[ROW] = {(double)i};
        EXPECT(iam_map_put(map, first + i * stride, row) == IAM_OK);
    }
}

static iam_stats stats_of(const iam_map *map)
{
    iam_stats stats;
    memset(&stats, 0xcc, sizeof stats);
    iam_map_stats(map, &stats);
    return stats;
}

/* What holds in every state. The parts add up: what is committed lies in one of the arrays, or is a fixed struct. */
static void expect_sums(const iam_map *map, const iam_stats *stats)
{
    EXPECT(stats->count == iam_map_count(map) && stats->index == iam_map_index(map));
    EXPECT(stats->bytes == iam_map_bytes(map) && stats->allocations == iam_map_allocations(map));
    uint64_t parts = stats->bytes_rows + stats->bytes_keys + stats->bytes_presence + stats->bytes_views +
                     stats->bytes_buckets + stats->bytes_overflow + stats->bytes_directory;
    uint64_t fixed = sizeof(iam_map) + sizeof(iam_rows);
    EXPECT(stats->bytes == parts + fixed);
}

static void test_a_new_map(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++) {
        iam_map *map = create((iam_index)index, NULL);
        iam_stats stats = stats_of(map);
        expect_sums(map, &stats);
        EXPECT(iam_map_index_asked(map) == (iam_index)index && iam_map_kind(map) == IAM_FLOAT64);
        EXPECT(stats.index == (index == IAM_INDEX_HASH ? IAM_INDEX_HASH : IAM_INDEX_DIRECT));
        EXPECT(stats.count == 0 && stats.bucket_count == 0 && stats.load == 0 && stats.longest_chain == 0);
        EXPECT(stats.evacuated == 0 && !stats.leaving_direct && stats.page_count == 0 && stats.growths == 0);
        EXPECT(stats.page_rows == (index == IAM_INDEX_HASH ? 0 : 128)); /* 8 KiB of rows of 64 bytes */
        EXPECT(stats.rows_used == 0 && stats.rows_free == 0 && stats.rows_held == 0);
        EXPECT(stats.views == 0 && stats.scans == 0 && stats.bytes_rows == 0 && stats.bytes_keys == 0);
        EXPECT(stats.allocations == 2); /* the map and its rows */
        iam_map_destroy(map);
    }
}

static void test_hash(void)
{
    enum { COUNT = 3000 };
    iam_map *map = create(IAM_INDEX_HASH, NULL);
    uint64_t before = iam_map_allocations(map);
    put_keys(map, 0, STRIDE, COUNT);
    iam_stats stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(stats.index == IAM_INDEX_HASH && stats.count == COUNT && stats.page_count == 0 && stats.page_rows == 0);
    EXPECT(stats.bucket_count == map->hash.bucket_count && stats.growths == stats.bucket_count - 1);
    EXPECT(stats.load == (double)COUNT / (double)stats.bucket_count && stats.load <= 6.5 && stats.load > 6);
    uint64_t level = 1, overflow = 0, longest = 0, fill[40];
    while (level * 2 <= stats.bucket_count)
        level *= 2;
    EXPECT(stats.evacuated == (double)(stats.bucket_count - level) / (double)level && stats.evacuated > 0);
    uint64_t expected[40] = {0};
    for (uint64_t home = 0; home < stats.bucket_count; home++) {
        uint64_t length = 1;
        const bucket *link = table_bucket(&map->hash, home);
        uint64_t keys = link->slot_count;
        for (; link->overflow != BUCKET_NONE; length++) {
            link = table_next(&map->hash, link);
            keys += link->slot_count;
        }
        overflow += length - 1;
        longest = length > longest ? length : longest;
        expected[keys]++;
    }
    EXPECT(overflow > 0 && stats.overflow_count == overflow && stats.longest_chain == longest && longest > 1);
    iam_map_fill(map, fill, 40);
    EXPECT(memcmp(fill, expected, sizeof fill) == 0);
    iam_map_fill(map, fill, 9);
    EXPECT(memcmp(fill, expected, 8 * sizeof *fill) == 0 && fill[8] > expected[8]);
    for (int i = 9; i < 40; i++)
        expected[8] += expected[i];
    EXPECT(fill[8] == expected[8]);
    EXPECT(stats.bytes_buckets >= stats.bucket_count * sizeof(bucket) && stats.bytes_directory == 0);
    EXPECT(stats.bytes_overflow >= overflow * sizeof(bucket) && stats.bytes_rows >= COUNT * ROW * sizeof(double));
    EXPECT(stats.bytes_keys >= COUNT * sizeof(int64_t) && stats.bytes_presence >= COUNT / 8);
    EXPECT(stats.rows_used == COUNT && stats.rows_free == 0 && stats.allocations > before);
    /* Rows that are free, held and looked at. */
    uint32_t number;
    iam_view views[3];
    for (int i = 0; i < 3; i++) {
        EXPECT(iam_map_find(map, i * STRIDE, &number) != NULL);
        EXPECT(iam_view_take(map, number, &views[i]) == IAM_OK);
    }
    for (int i = 0; i < 10; i++)
        EXPECT(iam_map_remove(map, (i + 1) * STRIDE) == IAM_OK);
    iam_scans_take(map);
    iam_scans_take(map);
    iam_blocks_take(map);
    stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(stats.count == COUNT - 10 && stats.rows_used == COUNT && stats.rows_held == 2 && stats.rows_free == 8);
    EXPECT(stats.views == 4 && stats.scans == 2 && stats.bytes_views > 0);
    iam_scans_release(map);
    EXPECT(stats_of(map).scans == 1);
    iam_scans_release(map);
    iam_blocks_release(iam_map_rows(map));
    for (int i = 0; i < 3; i++)
        iam_view_release(&views[i]);
    stats = stats_of(map);
    EXPECT(stats.views == 0 && stats.scans == 0 && stats.rows_held == 0);
    harness_validate(map);
    /* Requests of storage that is gone are remembered. */
    uint64_t requests = iam_map_allocations(map);
    uint64_t version = iam_map_version(map), epoch = iam_map_epoch(map);
    EXPECT(iam_map_clear(map) == IAM_OK && iam_map_allocations(map) == requests + 1);
    EXPECT(iam_map_version(map) == version + 1 && iam_map_epoch(map) == epoch + 1);
    put_keys(map, 0, STRIDE, 100);
    requests = iam_map_allocations(map);
    version = iam_map_version(map), epoch = iam_map_epoch(map);
    EXPECT(iam_map_compact(map) == IAM_OK && iam_map_allocations(map) > requests);
    EXPECT(iam_map_version(map) == version + 1 && iam_map_epoch(map) == epoch + 1); /* rows have moved */
    stats = stats_of(map);
    expect_sums(map, &stats);
    iam_map_destroy(map);
}

static void test_direct(void)
{
    iam_map *map = create(IAM_INDEX_AUTO, NULL);
    put_keys(map, 0, 1, 128 * 3 + 64);
    put_keys(map, 128 * 9, 1, 16);
    iam_stats stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(stats.index == IAM_INDEX_DIRECT && !stats.leaving_direct && stats.evacuated == 0);
    EXPECT(stats.page_count == 5 && stats.page_rows == 128 && stats.rows_used == 5 * 128);
    EXPECT(stats.bucket_count == 0 && stats.overflow_count == 0 && stats.load == 0 && stats.bytes_buckets == 0);
    EXPECT(stats.bytes_keys == 0 && stats.bytes_rows >= 5 * 8192);
    /* A ring of 64 entries and the page of each id, in blocks of eight at least. */
    EXPECT(stats.bytes_directory == 64 * 4 + 8 * 8);
    uint64_t fill[9];
    iam_map_fill(map, fill, 9); /* eighths of pages */
    EXPECT(fill[8] == 3 && fill[4] == 1 && fill[1] == 1 && fill[0] == 0);
    EXPECT(fill[2] + fill[3] + fill[5] + fill[6] + fill[7] == 0);
    /* A page that goes gives its memory back. */
    uint64_t bytes = iam_map_bytes(map);
    for (int64_t key = 128; key < 256; key++)
        EXPECT(iam_map_remove(map, key) == IAM_OK);
    stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(stats.page_count == 4 && stats.bytes < bytes && map->rows->given_back_bytes == bytes - stats.bytes);
    iam_map_fill(map, fill, 9);
    EXPECT(fill[8] == 2 && fill[4] == 1 && fill[1] == 1 && fill[0] == 0);
    put_keys(map, 128 * 20, 1, 1); /* the next new page takes its place */
    EXPECT(iam_map_bytes(map) == bytes && map->rows->given_back_bytes == 0);
    stats = stats_of(map);
    expect_sums(map, &stats);
    iam_map_destroy(map);
}

/* A directory over so many pages that it is a reserved range: what it spans is counted, by pages of memory. */
static void test_a_large_directory(void)
{
    failing memory;
    iam_map *map = create(IAM_INDEX_DIRECT, &memory);
    put_keys(map, 0, 128 * 20000, 2);
    EXPECT(map->direct.ring_reserved);
    iam_stats stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(stats.bytes_directory >= 20001 * 4 && stats.bytes_directory <= 20001 * 4 + 3 * PAGE_BYTES);
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == 0);
}

static void test_leaving(void)
{
    iam_map *map = create(IAM_INDEX_AUTO, NULL);
    put_keys(map, 0, 1, 2000);
    put_keys(map, FAR, 1, 30);
    EXPECT(map->state == MAP_LEAVING);
    iam_stats stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(stats.index == IAM_INDEX_HASH && stats.leaving_direct && stats.count == 2030);
    EXPECT(stats.evacuated == (double)map->leave_cursor / (double)map->leave_end);
    EXPECT(stats.evacuated > 0 && stats.evacuated < 1 && stats.page_count == 16 && stats.page_rows == 128);
    EXPECT(stats.bucket_count > 0 && stats.load > 0 && stats.longest_chain > 0);
    double last = stats.evacuated;
    while (map->state == MAP_LEAVING) {
        put_keys(map, FAR, 1, 1);
        stats = stats_of(map);
        EXPECT(stats.evacuated > last || !stats.leaving_direct);
        last = stats.evacuated;
    }
    expect_sums(map, &stats);
    EXPECT(stats.page_count == 0 && stats.page_rows == 0 && stats.bytes_directory == 0);
    EXPECT(map->rows->given_back_bytes == 0);
    harness_validate(map);
    iam_map_destroy(map);
}

/* Blocks double: what of the last one was never touched is not counted. */
static void test_untouched_memory_is_not_counted(void)
{
    failing memory;
    iam_map *map = create(IAM_INDEX_HASH, &memory);
    atomic_store(&memory.refuses_ranges, true);
    put_keys(map, 0, STRIDE, 4097); /* rows: blocks for 8192 of 64 bytes */
    iam_stats stats = stats_of(map);
    expect_sums(map, &stats);
    EXPECT(map->rows->row_store.range == NULL && map->rows->row_store.item_count == 8192);
    EXPECT(stats.bytes_rows == 4096 * 64 + PAGE_BYTES);
    put_keys(map, -STRIDE, -STRIDE, 63);
    EXPECT(stats_of(map).bytes_rows == 4096 * 64 + PAGE_BYTES);
    put_keys(map, -64 * STRIDE, -STRIDE, 1);
    EXPECT(stats_of(map).bytes_rows == 4096 * 64 + 2 * PAGE_BYTES);
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == 0);
}

static void test_overlaps(void)
{
    iam_map *map = create(IAM_INDEX_HASH, NULL);
    put_keys(map, 0, STRIDE, 100);
    double elsewhere[2];
    EXPECT(!iam_map_overlaps(map, elsewhere, sizeof elsewhere));
    EXPECT(iam_map_overlaps(map, iam_map_row(map, 5), 1));
    EXPECT(iam_map_overlaps(map, rows_key(map->rows, 5), 8));
    EXPECT(iam_map_overlaps(map, rows_word(map->rows, 5), 1));
    iam_map_destroy(map);
}

/* The lock as the front door has it. */
static void test_lock(void)
{
    iam_map *map = create(IAM_INDEX_HASH, NULL);
    EXPECT(iam_map_look(map, true, 1) == IAM_OK && iam_map_look(map, false, 1) == IAM_OK);
    EXPECT(iam_map_try_lock(map, false, 1) == IAM_OK);
    EXPECT(!atomic_load(&map->rows->is_written));
    EXPECT(iam_map_look(map, true, 1) == IAM_LOCKED && iam_map_look(map, false, 1) == IAM_OK);
    EXPECT(iam_map_try_lock(map, true, 1) == IAM_LOCKED && !atomic_load(&map->rows->is_written));
    iam_map_unlock(map, false);
    EXPECT(iam_map_try_lock(map, true, 1) == IAM_OK && atomic_load(&map->rows->is_written));
    EXPECT(iam_map_look(map, false, 1) == IAM_LOCKED && iam_map_look(map, true, 1) == IAM_LOCKED);
    EXPECT(iam_map_look(map, false, 2) == IAM_FORKED);
    /* Clear and compact hand on that somebody writes. */
    iam_rows *before = iam_map_rows(map);
    EXPECT(iam_map_clear(map) == IAM_OK && iam_map_rows(map) != before && atomic_load(&map->rows->is_written));
    EXPECT(iam_map_compact(map) == IAM_OK && atomic_load(&map->rows->is_written));
    iam_map_unlock(map, true);
    EXPECT(!atomic_load(&map->rows->is_written));
    iam_map_destroy(map);
}

int main(void)
{
    RUN(test_a_new_map);
    RUN(test_hash);
    RUN(test_direct);
    RUN(test_a_large_directory);
    RUN(test_leaving);
    RUN(test_untouched_memory_is_not_counted);
    RUN(test_overlaps);
    RUN(test_lock);
    return harness_end();
}
