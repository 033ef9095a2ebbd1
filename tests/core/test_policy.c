/* test_policy.c: what maps cost, to the byte and to the step. When tables grow and by how much, what reserve sets
 * aside, when auto leaves the direct index, how far a write moves on what waits: no contents depend on it, so that no
 * other test would notice a change. Every figure is pinned in policy_figures.h; one that changes on purpose comes from
 *
 *     build/core/checked/test_policy print > tests/core/policy_figures.h
 *
 * and what has changed is to be read before it is committed. */
#include "image_bytes.h"

#include "map.h"

typedef struct figure {
    const char *what;
    uint64_t values[16];
} figure;

/* clang-format off */
static const figure figures[] = {
#include "policy_figures.h"
    {NULL, {0}},
};
/* clang-format on */

static bool prints;
static size_t noted;
static char place[120];

/* One line of figures, compared with the table in the order in which they come. */
static void note(const char *what, const uint64_t *values, size_t count)
{
    char name[200];
    snprintf(name, sizeof name, "%s: %s", place, what);
    if (prints) {
        printf("    {\"%s\", {", name);
        for (size_t i = 0; i < count; i++)
            printf("%s%llu", i == 0 ? "" : ", ", (unsigned long long)values[i]);
        printf("}},\n");
        return;
    }
    const figure *expected = &figures[noted++];
    EXPECT(expected->what != NULL && strcmp(expected->what, name) == 0);
    for (size_t i = 0; i < count; i++) {
        if (expected->values[i] != values[i])
            fprintf(stderr, "%s: value %zu was %llu, is %llu\n", name, i, (unsigned long long)expected->values[i],
                    (unsigned long long)values[i]);
        EXPECT(expected->values[i] == values[i]);
    }
}

static void note_number(const char *what, uint64_t value)
{
    note(what, &value, 1);
}

/* Count, index, home and overflow buckets, longest chain, millionths of this doubling or of leaving, splits, pages,
 * rows used and free, bytes of rows, keys, presence and views, buckets, directory; requests. */
static void note_map(const char *what, const iam_map *map)
{
    iam_stats is;
    iam_map_stats(map, &is);
    harness_validate(map);
    const uint64_t values[] = {is.count,
                               (uint64_t)is.index * 10 + is.leaving_direct,
                               is.bucket_count,
                               is.overflow_count,
                               is.longest_chain,
                               (uint64_t)(is.evacuated * 1e6),
                               is.growths,
                               is.page_count,
                               is.rows_used,
                               is.rows_free,
                               is.bytes_rows,
                               is.bytes_keys,
                               is.bytes_presence + is.bytes_views,
                               is.bytes_buckets + is.bytes_overflow,
                               is.bytes_directory,
                               is.allocations};
    note(what, values, sizeof values / sizeof *values);
}

/* Blocks begin at page borders: what of their pages goes back would depend on chance. */
static void *allocate_pages(void *state, size_t bytes, size_t alignment, bool zeroed)
{
    (void)state, (void)alignment;
    void *block = NULL;
    if (posix_memalign(&block, 4096, bytes) != 0)
        return NULL;
    if (zeroed)
        memset(block, 0, bytes);
    return block;
}

static void release_pages(void *state, void *block, size_t bytes)
{
    (void)state, (void)bytes;
    free(block);
}

static iam_map *create(iam_options options)
{
    iam_map *map = NULL;
    options.allocator = (iam_allocator){.allocate = allocate_pages, .release = release_pages};
    options.seed = 77;
    options.kind = IAM_FLOAT64;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static int64_t scattered(uint64_t i)
{
    return (int64_t)(i * 0x9e3779b97f4a7c15u);
}

enum { ROWS_MOST = 1 << 16 };
static double values_of_rows[ROWS_MOST];
static int64_t batch[ROWS_MOST], numbers[ROWS_MOST];
static uint8_t flags[ROWS_MOST];

static void put(iam_map *map, int64_t key)
{
    EXPECT(iam_map_put(map, key, values_of_rows) == IAM_OK);
}

/* ---- Scenes ------------------------------------------------------------------------------------------------------ */

static const uint64_t row_items[] = {1, 8, 1500};

static iam_options options_of(uint64_t items, iam_index index, bool in_blocks, bool at_once)
{
    return (iam_options){.row_items = items,
                         .index = index,
                         .reserve = in_blocks ? IAM_OFF : IAM_AUTO,
                         .growth = at_once ? IAM_GROWTH_STOP : IAM_GROWTH_STEPS};
}

static void test_key_by_key(void)
{
    for (int shape = 0; shape < 6; shape++) {
        uint64_t items = row_items[shape % 3], most = items > 1000 ? 2000 : 9000;
        bool in_blocks = shape == 3 || shape == 4, at_once = shape > 3;
        for (int dense = 0; dense < 2; dense++) {
            snprintf(place, sizeof place, "%llu items%s%s%s", (unsigned long long)items, in_blocks ? ", blocks" : "",
                     at_once ? ", at once" : "", dense ? ", dense" : "");
            iam_map *map = create(options_of(items, dense ? IAM_INDEX_AUTO : IAM_INDEX_HASH, in_blocks, at_once));
            uint64_t next = 1;
            for (uint64_t i = 0; i < most; i++) {
                put(map, dense ? (int64_t)i : scattered(i));
                if (i + 1 == next) {
                    note_map("keys come", map);
                    next = next * 3 + 4;
                }
            }
            for (uint64_t i = 0; i < most; i += 2)
                EXPECT(iam_map_remove(map, dense ? (int64_t)i : scattered(i)) == IAM_OK);
            note_map("half of them go", map);
            iam_map *copy = NULL;
            EXPECT(iam_map_copy(map, 5, &copy) == IAM_OK);
            note_map("copied", copy);
            iam_map_destroy(copy);
            for (uint64_t i = 0; i < most / 3; i++)
                put(map, dense ? (int64_t)i : scattered(i));
            note_map("some come back", map);
            EXPECT(iam_map_compact(map) == IAM_OK);
            note_map("compacted", map);
            put(map, INT64_MIN);
            note_map("one far key", map);
            for (int step = 0; step < 4; step++)
                put(map, INT64_MIN + step);
            note_map("four more", map);
            EXPECT(iam_map_clear(map) == IAM_OK);
            note_map("cleared", map);
            EXPECT(iam_map_compact(map) == IAM_OK);
            put(map, 5);
            note_map("compacted, and one key", map);
            iam_map_destroy(map);
        }
    }
}

static void test_room_ahead(void)
{
    const uint64_t counts[] = {1, 60, 250, 300, 7001};
    for (int shape = 0; shape < 9; shape++) {
        uint64_t items = row_items[shape % 3];
        iam_index index = (iam_index)(shape / 3);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            snprintf(place, sizeof place, "%llu items, index %d, %llu rows", (unsigned long long)items, (int)index,
                     (unsigned long long)counts[i]);
            for (int before = 0; before < 3; before++) {
                iam_map *map = create(options_of(items, index, false, false));
                for (int64_t key = 0; key < before * 40; key++)
                    put(map, key);
                for (int64_t key = 0; key < before * 40; key += 4)
                    EXPECT(iam_map_remove(map, key) == IAM_OK);
                EXPECT(iam_map_reserve(map, counts[i]) == IAM_OK);
                note_map("reserved", map);
                if (before == 2 && index != IAM_INDEX_DIRECT) {
                    put(map, (int64_t)1 << 50);
                    note_map("one far key", map);
                }
                iam_map_destroy(map);
            }
        }
    }
}

/* Rows that wait for their views are no room. */
static void test_room_beside_held_rows(void)
{
    enum { HELD = 220 };
    snprintf(place, sizeof place, "held rows");
    iam_map *map = create(options_of(8, IAM_INDEX_HASH, false, false));
    iam_view views[HELD];
    for (int64_t key = 0; key < HELD + 40; key++)
        put(map, -1 - key);
    for (int64_t key = 0; key < HELD; key++) {
        uint32_t number;
        EXPECT(iam_map_find(map, -1 - key, &number) != NULL);
        EXPECT(iam_view_take(map, number, &views[key]) == IAM_OK && iam_map_remove(map, -1 - key) == IAM_OK);
    }
    EXPECT(iam_map_reserve(map, 1000) == IAM_OK);
    note_map("reserved", map);
    uint64_t requests = iam_map_allocations(map);
    for (int64_t key = 100; key < 100 + 1000 - 40; key++)
        put(map, key);
    EXPECT(iam_map_count(map) == 1000 && iam_map_allocations(map) == requests);
    note_map("filled", map);
    for (int64_t i = 0; i < HELD; i++)
        iam_view_release(&views[i]);
    const int64_t known = 100; /* writing to it takes no row */
    double row[8];
    iam_missing missing;
    for (int round = 0; round < 8; round++) {
        if (round == 0)
            put(map, known);
        else if (round == 1)
            EXPECT(iam_map_ensure(map, known, NULL, NULL, NULL) == IAM_OK);
        else if (round == 2)
            EXPECT(iam_map_remove(map, known) == IAM_OK);
        else if (round == 3)
            EXPECT(iam_map_update_many(map, &known, 1, row, 0, IAM_SET) == IAM_OK);
        else if (round == 4)
            iam_map_delete_many(map, &known, 1, flags);
        else if (round == 5)
            EXPECT(iam_map_ensure_many(map, &known, 1, row, numbers, flags) == IAM_OK);
        else if (round == 6)
            EXPECT(iam_map_pop_many(map, &known, 1, row, NULL, 0, &missing) == IAM_OK);
        else
            EXPECT(iam_map_add_at(map, &known, 1, &(int64_t){3}, 1, row, 8) == IAM_OK);
        note_map("rows come back", map);
    }
    iam_map_destroy(map);
}

/* The cursor of leaving frees a row that nobody looks at, whoever looks at the one beside it. */
static void test_leaving_beside_held_rows(void)
{
    snprintf(place, sizeof place, "leaving beside held rows");
    iam_map *map = create(options_of(8, IAM_INDEX_AUTO, false, false));
    iam_view views[10];
    for (int64_t key = 0; key < 1000; key++)
        put(map, key);
    for (int64_t i = 0; i < 10; i++) {
        uint32_t number;
        EXPECT(iam_map_find(map, i * 37 + 5, &number) != NULL && iam_view_take(map, number, &views[i]) == IAM_OK);
        for (int64_t key = i * 37 + 3; key < i * 37 + 8; key++)
            EXPECT(iam_map_remove(map, key) == IAM_OK);
    }
    note_map("before", map);
    put(map, (int64_t)1 << 50);
    while (map->state == MAP_LEAVING)
        put(map, (int64_t)1 << 50);
    note_map("after", map);
    for (int i = 0; i < 10; i++)
        iam_view_release(&views[i]);
    put(map, 0);
    note_map("views gone", map);
    iam_map_destroy(map);
}

/* A directory of whole pages of memory. */
static void test_large_directory(void)
{
    for (int64_t pages = 20479; pages <= 20481; pages++) {
        snprintf(place, sizeof place, "directory of %lld pages", (long long)pages);
        iam_map *map = create(options_of(8, IAM_INDEX_DIRECT, false, false));
        put(map, 0);
        put(map, 128 * (pages - 1));
        note_map("two keys", map);
        iam_map_destroy(map);
    }
}

static void test_batches(void)
{
    const size_t counts[] = {40, 1023, 20031, ROWS_MOST};
    for (int shape = 0; shape < 12; shape++) {
        iam_index index = (iam_index)(shape % 3);
        int kind = shape / 3; /* distinct, dense, each four times, all the same */
        uint64_t items = kind % 2 ? 8 : 1;
        for (size_t which = 0; which < sizeof counts / sizeof *counts; which++) {
            size_t count = counts[which];
            if (index == IAM_INDEX_DIRECT && kind != 1)
                continue;
            const char *kinds[] = {"distinct", "dense", "four times", "one key"};
            snprintf(place, sizeof place, "%zu keys, %s, %llu items, index %d", count, kinds[kind],
                     (unsigned long long)items, (int)index);
            for (size_t i = 0; i < count; i++)
                batch[i] = kind == 0 ? scattered(i) : (kind == 1 ? (int64_t)i : (kind == 2 ? scattered(i / 4) : 12));
            if (count < ROWS_MOST)
                batch[count] = INT64_MAX / 2; /* not of the batch: would be too far for direct */
            iam_map *map = create(options_of(items, index, false, false));
            EXPECT(iam_map_update_many(map, batch, count, values_of_rows, 0, IAM_SET) == IAM_OK);
            note_map("set", map);
            for (size_t i = 0; i < count; i++)
                batch[i] += kind == 1 ? (int64_t)(count / 2) : 1;
            EXPECT(iam_map_ensure_many(map, batch, count, values_of_rows, numbers, flags) == IAM_OK);
            note_map("and as many beside", map);
            iam_map_delete_many(map, batch, count, flags);
            note_map("deleted", map);
            iam_map_destroy(map);
        }
    }
}

/* How sparse keys may be for the direct index: the first key at which auto goes, and at which direct refuses. */
static void test_when_direct_is_left(void)
{
    for (int shape = 0; shape < 3; shape++)
        for (int64_t stride = 1; stride <= 1 << 14; stride = stride * 2 + stride / 2 + 1) {
            snprintf(place, sizeof place, "%llu items, every %lld-th key", (unsigned long long)row_items[shape],
                     (long long)stride);
            iam_map *map = create(options_of(row_items[shape], IAM_INDEX_AUTO, false, false));
            int64_t i = 0;
            for (; i < 3000 && iam_map_index(map) == IAM_INDEX_DIRECT; i++)
                put(map, i * stride);
            note_number("auto leaves", (uint64_t)i);
            note_map("then", map);
            for (int step = 0; step < 5; step++, i++)
                put(map, i * stride);
            note_map("five writes later", map);
            iam_map_destroy(map);
            for (i = 0; i < 2000; i++)
                batch[i] = i * stride;
            map = create(options_of(row_items[shape], IAM_INDEX_AUTO, false, false));
            EXPECT(iam_map_update_many(map, batch, 2000, values_of_rows, 0, IAM_SET) == IAM_OK);
            note_map("a batch", map);
            iam_map_destroy(map);
        }
    for (int64_t stride = 200; stride <= (int64_t)1 << 40; stride *= 60) {
        snprintf(place, sizeof place, "every %lld-th key", (long long)stride);
        iam_map *map = create(options_of(64, IAM_INDEX_DIRECT, false, false));
        int64_t i = 0;
        while (i < 12000 && iam_map_put(map, i * stride, values_of_rows) == IAM_OK)
            i++;
        note_number("direct refuses", (uint64_t)i);
        note_map("then", map);
        iam_map_destroy(map);
    }
}

/* A hash of few values: chains, and a table that grows for them. */
static void test_poor_hashes(void)
{
    const uint64_t masks[] = {3, 15, 0xff00000000000000u, 0xff00000000000007u, 0x0f0000000000ffffu};
    for (size_t which = 0; which < sizeof masks / sizeof *masks; which++) {
        snprintf(place, sizeof place, "hash & %llx", (unsigned long long)masks[which]);
        iam_options options = options_of(1, IAM_INDEX_HASH, false, false);
        options.hash_and = masks[which];
        iam_map *map = create(options);
        uint64_t next = 10;
        for (uint64_t i = 0; i < 900; i++) {
            put(map, (int64_t)i);
            if (i == next) {
                note_map("keys come", map);
                next = next * 2;
            }
        }
        for (uint64_t i = 0; i < 900; i += 3)
            EXPECT(iam_map_remove(map, (int64_t)i) == IAM_OK);
        note_map("a third goes", map);
        iam_map_destroy(map);
    }
}

/* Pages that empty, and what of them goes back to the system. */
static void test_pages_that_empty(void)
{
    for (size_t shape = 0; shape < 3; shape++) {
        snprintf(place, sizeof place, "%llu items, pages empty", (unsigned long long)row_items[shape]);
        iam_map *map = create(options_of(row_items[shape], IAM_INDEX_DIRECT, false, false));
        const int64_t most_keys[] = {60000, 20000, 300};
        int64_t most = most_keys[shape];
        EXPECT(iam_map_reserve(map, (uint64_t)most) == IAM_OK); /* page borders are then where they always are */
        for (int64_t key = 0; key < most; key++)
            put(map, key);
        note_map("full", map);
        iam_blocks_take(map);
        for (int64_t key = 0; key < most / 2; key++)
            EXPECT(iam_map_remove(map, key) == IAM_OK);
        note_map("half of it while a block is held", map);
        iam_blocks_release(iam_map_rows(map));
        for (int round = 0; round < 3; round++) {
            put(map, most);
            note_map("tidied", map);
        }
        for (int64_t key = most / 2; key < most - 2; key++)
            EXPECT(iam_map_remove(map, key) == IAM_OK);
        note_map("nearly empty", map);
        for (int64_t key = most; key < most + most / 3; key++)
            put(map, key);
        note_map("pages used again", map);
        iam_map_destroy(map);
    }
}

static void test_files(void)
{
    const iam_about about = {.axis_count = 1, .axes = {8}};
    for (int shape = 0; shape < 9; shape++) {
        const uint64_t counts[] = {0, 1, 9000};
        for (int which = 0; which < 3; which++) {
            snprintf(place, sizeof place, "file of %llu rows, index %d, stride %d", (unsigned long long)counts[which],
                     shape % 3, shape / 3);
            iam_map *map = create(options_of(8, (iam_index)(shape % 3), false, false));
            const int64_t stride = shape / 3 == 0 ? 1 : (shape / 3 == 1 ? 3 : 40);
            for (uint64_t i = 0; i < counts[which]; i++)
                put(map, (int64_t)i * stride - 5);
            iam_save *save;
            EXPECT(iam_save_begin(map, 9, &about, &save) == IAM_OK);
            bool ready = false;
            uint64_t steps = 0;
            for (; !ready; steps++)
                EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
            uint64_t bytes = iam_save_bytes(save);
            const uint64_t cost[] = {steps, bytes};
            note("steps to prepare, bytes", cost, 2);
            char *image = malloc(bytes + IAM_SAVE_ROOM_LEAST);
            size_t at = 0, given;
            while ((given = iam_save_next(save, image + at, bytes + IAM_SAVE_ROOM_LEAST - at)) != 0)
                at += given;
            EXPECT(at == bytes);
            iam_save_end(save);
            iam_mapping mapping = image_copy(image, bytes);
            iam_map *back;
            iam_about found;
            char reason[200];
            EXPECT(iam_image_open(&mapping, 99, &back, &found, reason, sizeof reason) == IAM_OK);
            note_map("opened", back);
            EXPECT(iam_image_trust(back) == IAM_OK);
            for (int64_t key = -40; key < 40; key++)
                put(back, key);
            note_map("written to", back);
            for (uint64_t i = 0; i < counts[which]; i++)
                iam_map_remove(back, (int64_t)i * stride - 5);
            note_map("emptied", back);
            iam_map_destroy(back);
            free(image);
            iam_map_destroy(map);
        }
    }
}

/* Whether the system reserves what the core asks for; without that arrays go on in blocks, and costs are others. */
static bool reserves_addresses(void)
{
    iam_options options = options_of(1500, IAM_INDEX_HASH, false, false);
    iam_map *map = create(options);
    EXPECT(iam_map_reserve(map, 1000) == IAM_OK);
    bool reserved = map->rows->row_store.range != NULL;
    iam_map_destroy(map);
    return reserved;
}

int main(int argument_count, char **arguments)
{
    if (!reserves_addresses()) {
        printf("SKIPPED: THE SYSTEM REFUSES ADDRESS SPACE, AND COSTS ARE OTHERS THEN\n");
        return 77;
    }
    prints = argument_count > 1 && strcmp(arguments[1], "print") == 0;
    if (prints)
        printf(
            "/* policy_figures.h: written by test_policy, which says what the columns are. */\n// clang-format off\n");
    test_key_by_key();
    test_room_ahead();
    test_room_beside_held_rows();
    test_leaving_beside_held_rows();
    test_large_directory();
    test_batches();
    test_when_direct_is_left();
    test_poor_hashes();
    test_pages_that_empty();
    test_files();
    if (prints)
        return 0;
    EXPECT(figures[noted].what == NULL);
    printf("%zu pinned figures counted\n", noted);
    return harness_end();
}
