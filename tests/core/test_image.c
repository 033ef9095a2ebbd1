/* test_image.c: a map as bytes and back; then bytes that lie, with wrong checksums and with right ones. */
#include "image_bytes.h"

typedef struct image_bytes {
    char *bytes;
    uint64_t count;
} image_bytes;

static iam_map *new_map(iam_index index, uint64_t row_items, iam_kind kind)
{
    iam_options options = {.row_items = row_items, .kind = kind, .index = index, .seed = 12345, .pipeline = IAM_ON};
    iam_map *map = NULL;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void put(iam_map *map, int64_t key, double first)
{
    void *row;
    EXPECT(iam_map_ensure(map, key, &row, NULL, NULL) == IAM_OK);
    *(double *)row = first;
}

static int64_t scattered(uint64_t i)
{
    uint64_t state = i * 77 + 5;
    return (int64_t)harness_random(&state);
}

/* `far`: keys that only a hash index can hold. */
static iam_map *filled(iam_index index, uint64_t count, bool far)
{
    iam_map *map = new_map(index, 3, IAM_FLOAT64);
    for (uint64_t i = 0; i < count; i++)
        put(map, far ? scattered(i) : (int64_t)i - 7, (double)i);
    return map;
}

static iam_save *begun(const iam_map *map)
{
    const iam_about about = {.axis_count = 1, .axes = {map->options.row_items}};
    iam_save *save = NULL;
    bool ready = false;
    EXPECT(iam_save_begin(map, 777, &about, &save) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
    return save;
}

static image_bytes saved(const iam_map *map, size_t room)
{
    iam_save *save = begun(map);
    image_bytes image = {.bytes = malloc(iam_save_bytes(save) + room)};
    size_t more;
    while ((more = iam_save_next(save, image.bytes + image.count, room)) != 0)
        image.count += more;
    EXPECT(image.count == iam_save_bytes(save));
    iam_save_end(save);
    return image;
}

static iam_map *opened(image_bytes image)
{
    char reason[256] = "";
    iam_about about;
    iam_map *map = NULL;
    iam_mapping mapping = image_copy(image.bytes, image.count);
    iam_status status = iam_image_open(&mapping, 99, &map, &about, reason, sizeof reason);
    if (status != IAM_OK)
        fprintf(stderr, "%s\n", reason);
    EXPECT(status == IAM_OK);
    return map;
}

static void expect_same(const iam_map *map, const iam_map *other)
{
    harness_validate(other);
    EXPECT(iam_map_count(map) == iam_map_count(other));
    uint64_t position = 0;
    int64_t key;
    uint32_t number;
    while (iam_map_walk(map, false, &position, 1, &key, &number) == 1) {
        const void *found = iam_map_find(other, key, NULL);
        EXPECT(found != NULL && memcmp(found, iam_map_row(map, number), map->row_bytes) == 0);
    }
}

/* Through a file and back; the map goes. */
static void expect_comes_back(iam_map *map, size_t room)
{
    image_bytes image = saved(map, room);
    iam_map *back = opened(image);
    expect_same(map, back);
    iam_map_destroy(back);
    iam_map_destroy(map);
    free(image.bytes);
}

/* The maps that all tests see: empty, small, with holes, growing, leaving, direct in and out of line, crowded. */
enum { MAPS = 9 };
static iam_map *nth_map(int which)
{
    iam_map *map;
    switch (which) {
    case 0:
        return new_map(IAM_INDEX_AUTO, 3, IAM_FLOAT64);
    case 1:
        return new_map(IAM_INDEX_HASH, 3, IAM_FLOAT64);
    case 2:
        return filled(IAM_INDEX_HASH, 200, true);
    case 3: /* holes */
        map = filled(IAM_INDEX_HASH, 3000, true);
        for (uint64_t i = 0; i < 3000; i += 3)
            EXPECT(iam_map_remove(map, scattered(i)) == IAM_OK);
        return map;
    case 4: /* direct, one page after the other */
        return filled(IAM_INDEX_AUTO, 3000, false);
    case 5: /* direct, out of line, with holes */
        map = filled(IAM_INDEX_DIRECT, 1000, false);
        put(map, -5000, 1);
        put(map, 5000, 1);
        put(map, 9000, 2);
        for (int64_t key = 0; key < 700; key++)
            EXPECT(iam_map_remove(map, key) == IAM_OK);
        EXPECT(iam_map_remove(map, 5000) == IAM_OK); /* a free page between two that are not */
        return map;
    case 6: /* on its way from direct to hash */
        map = filled(IAM_INDEX_AUTO, 20000, false);
        put(map, (int64_t)1 << 40, 3);
        return map;
    case 7: /* dense keys in a map that had to leave direct: direct again in the image */
        map = filled(IAM_INDEX_AUTO, 20000, false);
        put(map, (int64_t)1 << 40, 3);
        for (int64_t key = 0; key < 2000; key++)
            put(map, key, 4);
        EXPECT(iam_map_remove(map, (int64_t)1 << 40) == IAM_OK);
        return map;
    default:
        return filled(IAM_INDEX_HASH, 40000, true);
    }
}

static void test_round_trip(void)
{
    for (int which = 0; which < MAPS; which++) {
        iam_map *map = nth_map(which);
        for (size_t room = IAM_SAVE_ROOM_LEAST; room <= 1 << 20; room *= 4) {
            image_bytes image = saved(map, room);
            bool sound;
            EXPECT(image_try(image.bytes, image.count, &sound) && sound);
            iam_map *back = opened(image);
            expect_same(map, back);
            expect_same(back, map);
            iam_map *copy = NULL;
            EXPECT(iam_map_copy(back, 5, &copy) == IAM_OK);
            expect_same(map, copy);
            /* An image of an image is the same but for nothing: same seed, same order. */
            image_bytes again = saved(back, room);
            EXPECT(again.count == image.count);
            EXPECT(iam_map_index(map) != iam_map_index(back) || memcmp(again.bytes, image.bytes, image.count) == 0);
            free(again.bytes);
            iam_map_destroy(copy);
            iam_map_destroy(back);
            free(image.bytes);
        }
        iam_map_destroy(map);
    }
}

static void test_index_is_chosen_anew(void)
{
    iam_map *map = nth_map(7);
    EXPECT(map->state != MAP_DIRECT);
    image_bytes image = saved(map, 1 << 20);
    iam_map *back = opened(image);
    EXPECT(iam_map_index(back) == IAM_INDEX_DIRECT && iam_map_index_asked(back) == IAM_INDEX_AUTO);
    iam_map_destroy(back);
    iam_map_destroy(map);
    free(image.bytes);
}

/* What the rows are said to be comes back as it was said. */
static void test_what_is_said_of_rows_comes_back(void)
{
    const iam_about about = {.axis_count = 3, .axes = {1, 3, 1}, .time_multiple = 25, .time_unit = "ms"};
    iam_map *map = new_map(IAM_INDEX_HASH, 3, IAM_DATETIME64), *back = NULL;
    iam_save *save = NULL;
    bool ready = false;
    EXPECT(iam_save_begin(map, 777, &about, &save) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
    image_bytes image = {.bytes = malloc(iam_save_bytes(save) + IAM_SAVE_ROOM_LEAST)};
    for (size_t more; (more = iam_save_next(save, image.bytes + image.count, IAM_SAVE_ROOM_LEAST)) != 0;)
        image.count += more;
    iam_save_end(save);
    iam_mapping mapping = image_copy(image.bytes, image.count);
    iam_about said;
    char reason[256] = "";
    EXPECT(iam_image_open(&mapping, 99, &back, &said, reason, sizeof reason) == IAM_OK);
    EXPECT(memcmp(&said, &about, sizeof about) == 0);
    iam_map_destroy(back);
    iam_map_destroy(map);
    free(image.bytes);
}

static void test_seed_is_not_written(void)
{
    iam_map *map = nth_map(2);
    const uint64_t secrets[] = {12345, map->hash.secret.first, map->hash.secret.second};
    image_bytes image = saved(map, 1 << 20);
    for (uint64_t at = 0; at + 8 <= image.count; at += 8)
        for (int i = 0; i < 3; i++)
            EXPECT(memcmp(image.bytes + at, &secrets[i], 8) != 0);
    iam_map_destroy(map);
    free(image.bytes);
}

/* Rows larger than a piece are given out in parts. */
static void test_large_rows(void)
{
    for (int dense = 0; dense < 2; dense++) {
        iam_map *map = new_map(dense ? IAM_INDEX_DIRECT : IAM_INDEX_HASH, 50001, IAM_UINT8);
        for (int64_t key = 0; key < 9; key++) {
            uint8_t *row;
            EXPECT(iam_map_ensure(map, key, (void **)&row, NULL, NULL) == IAM_OK);
            for (int i = 0; i < 50001; i++)
                row[i] = (uint8_t)(i * 7 + key);
        }
        EXPECT(iam_map_remove(map, 4) == IAM_OK);
        expect_comes_back(map, IAM_SAVE_ROOM_LEAST);
    }
}

/* A file that is too short says so, if what is there of it begins like one of ours. */
static void test_a_short_file_says_how_short(void)
{
    iam_map *map = nth_map(2);
    image_bytes image = saved(map, IAM_SAVE_ROOM_LEAST);
    for (uint64_t count = 1; count < IMAGE_HEADER_BYTES; count = count * 2 + 1) {
        char reason[256] = "", expected[256];
        iam_about about;
        iam_map *other = NULL;
        iam_mapping mapping = image_copy(image.bytes, count);
        snprintf(expected, sizeof expected, "it ends within the header, after %llu bytes", (unsigned long long)count);
        EXPECT(iam_image_open(&mapping, 1, &other, &about, reason, sizeof reason) == IAM_DAMAGED);
        EXPECT(strcmp(reason, expected) == 0);
        *(char *)mapping.bytes ^= 1;
        EXPECT(iam_image_open(&mapping, 1, &other, &about, reason, sizeof reason) == IAM_DAMAGED);
        EXPECT(strstr(reason, "does not begin like") != NULL);
        free(mapping.bytes);
    }
    free(image.bytes);
    iam_map_destroy(map);
}

/* A row of a gigabyte, which is the most: of a map that has none yet. */
static void test_the_largest_row(void)
{
    iam_map *map = new_map(IAM_INDEX_AUTO, (1 << 30) / sizeof(double), IAM_FLOAT64);
    image_bytes image = saved(map, IAM_SAVE_ROOM_LEAST);
    iam_map *other = opened(image);
    EXPECT(other->row_bytes == 1 << 30 && iam_map_count(other) == 0);
    iam_map_destroy(other);
    iam_map_destroy(map);
    free(image.bytes);
}

/* So large that not even its checksums fit into one piece. */
static void test_checksums_in_pieces(void)
{
    const iam_about about = {.axis_count = 1, .axes = {600 << 20}};
    iam_map *map = new_map(IAM_INDEX_HASH, about.axes[0], IAM_UINT8);
    uint8_t *row;
    EXPECT(iam_map_ensure(map, 5, (void **)&row, NULL, NULL) == IAM_OK);
    for (uint64_t at = 0; at < about.axes[0]; at += 1 << 20)
        row[at] = (uint8_t)(at >> 20);
    iam_save *save = NULL;
    bool ready = false;
    EXPECT(iam_save_begin(map, 777, &about, &save) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
    void *bytes = NULL;
    EXPECT(posix_memalign(&bytes, 4096, iam_save_bytes(save) + IAM_SAVE_ROOM_LEAST) == 0);
    uint64_t done = 0, block = 0;
    for (size_t more; (more = iam_save_next(save, (char *)bytes + done, IAM_SAVE_ROOM_LEAST)) != 0;)
        done += more;
    EXPECT(done == iam_save_bytes(save));
    iam_save_end(save);
    iam_map_destroy(map);
    const image_header *header = bytes;
    EXPECT(header->sections[IMAGE_CHECKSUMS].bytes > IAM_SAVE_ROOM_LEAST);
    char reason[256] = "";
    while (block != UINT64_MAX)
        EXPECT(iam_image_verify_blocks(bytes, &block, UINT64_MAX, reason, sizeof reason) == IAM_OK);
    free(bytes);
}

/* The header says whether pages stand in line; then their directory is not read. */
static void test_pages_in_line(void)
{
    for (int gap = 0; gap < 2; gap++) {
        iam_map *map = filled(IAM_INDEX_AUTO, 2000, false);
        if (gap)
            put(map, 100000, 1);
        EXPECT(map->state == MAP_DIRECT);
        image_bytes image = saved(map, IAM_SAVE_ROOM_LEAST);
        EXPECT(((const image_header *)(const void *)image.bytes)->linear == !gap);
        iam_map *other = opened(image);
        EXPECT(other->direct.linear == !gap);
        expect_same(map, other);
        iam_map_destroy(other);
        iam_map_destroy(map);
        free(image.bytes);
    }
}

static void test_views_keep_the_mapping(void)
{
    iam_map *map = nth_map(2);
    image_bytes image = saved(map, 1 << 20);
    iam_map *back = opened(image);
    uint32_t number;
    const double *row = iam_map_find(back, scattered(5), &number);
    iam_view view;
    EXPECT(iam_view_take(back, number, &view) == IAM_OK);
    int before = image_releases;
    iam_map_destroy(back);
    EXPECT(image_releases == before && row[0] == 5);
    iam_view_release(&view);
    EXPECT(image_releases == before + 1);
    iam_map_destroy(map);
    free(image.bytes);
}

/* Once verified, a map over private memory is a map like any other: it grows beyond the image, and rows stay. */
static void test_written_to_after_trust(void)
{
    for (int which = 0; which < MAPS; which++) {
        iam_map *map = nth_map(which);
        image_bytes image = saved(map, 1 << 20);
        iam_map *back = opened(image);
        char reason[256] = "";
        EXPECT(iam_image_verify(back, reason, sizeof reason) == IAM_OK);
        EXPECT(iam_image_trust(back) == IAM_OK);
        const double *row = iam_map_find(back, scattered(1), NULL);
        for (uint64_t i = 100000; i < 103000; i++) {
            int64_t key = iam_map_index(map) == IAM_INDEX_DIRECT ? (int64_t)i - 97000 : scattered(i);
            put(map, key, (double)i);
            put(back, key, (double)i);
            if (i % 100 == 0)
                harness_validate(back);
        }
        EXPECT(row == iam_map_find(back, scattered(1), NULL));
        uint64_t position = 0;
        int64_t key;
        for (int i = 0; i < 1500 && iam_map_walk(map, false, &position, 1, &key, NULL) == 1; i++) {
            EXPECT(iam_map_remove(map, key) == IAM_OK);
            EXPECT(iam_map_remove(back, key) == IAM_OK);
        }
        expect_same(map, back);
        EXPECT(iam_map_compact(back) == IAM_OK);
        expect_same(map, back);
        EXPECT(iam_map_clear(back) == IAM_OK);
        harness_validate(back);
        iam_map_destroy(back);
        iam_map_destroy(map);
        free(image.bytes);
    }
}

/* A chain in a file has a limit; one that grows in a map that may be written to has none. */
static void test_long_chains_after_trust(void)
{
    enum { KEYS = 400 };
    iam_map *map = filled(IAM_INDEX_HASH, 10, true);
    image_bytes image = saved(map, 1 << 20);
    iam_map *back = opened(image);
    EXPECT(iam_image_trust(back) == IAM_OK);
    int64_t keys[KEYS];
    int count = 0;
    for (int64_t key = 0; count < KEYS; key++)
        if ((hash_key(&back->hash.secret, key) & 0xfff) == 0) { /* the same home for as many buckets as these make */
            keys[count++] = key;
            put(back, key, (double)key);
        }
    EXPECT(table_longest_chain(&back->hash) > IMAGE_CHAIN_MOST);
    harness_validate(back);
    EXPECT(iam_map_count(back) == KEYS + 10);
    for (int i = 0; i < KEYS; i++) {
        const double *row = iam_map_find(back, keys[i], NULL);
        EXPECT(row != NULL && *row == (double)keys[i]);
    }
    iam_map_destroy(back);
    iam_map_destroy(map);
    free(image.bytes);
}

/* What lay in a row before its key was deleted is not in the file. */
static void test_rows_without_a_key_are_zeros(void)
{
    iam_map *map = filled(IAM_INDEX_DIRECT, 3000, false);
    for (int64_t i = 0; i < 3000; i++)
        if (i % 7 < 3 || (i > 300 && i < 900 && i != 500))
            EXPECT(iam_map_remove(map, i - 7) == IAM_OK);
    image_bytes image = saved(map, 1 << 20);
    const image_header *header = (const image_header *)(const void *)image.bytes;
    EXPECT(header->index == IAM_INDEX_DIRECT && header->row_count > iam_map_count(map));
    const char *rows = image.bytes + header->sections[IMAGE_ROWS].offset;
    const uint64_t *presence = (const uint64_t *)(const void *)(image.bytes + header->sections[IMAGE_PRESENCE].offset);
    uint64_t zeros = 0, others = 0;
    for (uint64_t number = 0; number < header->row_count; number++) {
        bool is_zero = true;
        for (uint64_t i = 0; i < header->row_bytes; i++)
            is_zero &= rows[number * header->row_bytes + i] == 0;
        if ((presence[number / 64] >> (number % 64) & 1) == 0) {
            EXPECT(is_zero);
            zeros++;
        }
        others += !is_zero;
    }
    EXPECT(zeros == header->row_count - iam_map_count(map) && others + 1 >= iam_map_count(map));
    iam_map_destroy(map);
    free(image.bytes);
}

/* Damage that comes after trust is no fault of the core: checked builds don't end the program over it. */
static void test_a_mapped_file_that_changes_ends_nothing(void)
{
    for (int far = 0; far < 2; far++) {
        iam_map *map = filled(IAM_INDEX_AUTO, 300, far);
        image_bytes image = saved(map, IAM_SAVE_ROOM_LEAST);
        iam_map *other = opened(image);
        char reason[256];
        EXPECT(iam_image_verify(other, reason, sizeof reason) == IAM_OK && iam_image_trust(other) == IAM_OK);
        uint32_t number;
        EXPECT(iam_map_find(other, far ? scattered(100) : 100, &number) != NULL);
        *rows_word(other->rows, number) = 0;
        put(other, 7, 1);
        put(other, -1, 2);
        EXPECT(*(const double *)iam_map_find(other, -1, NULL) == 2);
        EXPECT(iam_map_validate(other, reason, sizeof reason) == IAM_BROKEN);
        iam_map_destroy(other);
        iam_map_destroy(map);
        free(image.bytes);
    }
}

/* Blocks have a bit a row, in bytes: with 21 rows in the file, that of row 21 was taken for that of row 16. */
static void test_blocks_of_an_image_that_grew(void)
{
    for (uint64_t count = 0; count < 30; count++)
        for (int hash = 0; hash < 2; hash++) {
            /* Rows of 2,400 bytes: pages of the direct index have two. */
            iam_options options = {
                .row_items = 300, .kind = IAM_FLOAT64, .index = hash ? IAM_INDEX_HASH : IAM_INDEX_DIRECT};
            iam_map *map = NULL;
            EXPECT(iam_map_create(&options, &map) == IAM_OK);
            const double row[300] = {1};
            for (uint64_t i = 0; i < count; i++)
                EXPECT(iam_map_put(map, (int64_t)i, row) == IAM_OK);
            image_bytes image = saved(map, 1 << 20);
            iam_map *back = opened(image);
            EXPECT(iam_image_trust(back) == IAM_OK);
            harness_validate(back);
            for (uint64_t i = 0; i < 100; i++)
                EXPECT(iam_map_put(back, (int64_t)i * 2, row) == IAM_OK);
            for (uint64_t i = 30; i < 60; i += 3)
                iam_map_remove(back, (int64_t)i * 2);
            harness_validate(back);
            uint64_t present = 0;
            for (uint64_t at = 0; at < iam_map_block_count(back); at++) {
                iam_block block;
                int64_t keys[400];
                iam_map_block(back, at, &block);
                EXPECT(block.first_row % 8 == 0 && block.row_count < 400);
                iam_map_block_keys(back, &block, keys);
                for (uint64_t i = 0; i < block.row_count; i++)
                    if (block.present[i / 8] >> (i % 8) & 1) {
                        present++;
                        EXPECT(iam_map_find(back, keys[i], NULL) == (char *)block.rows + i * sizeof row);
                    }
            }
            EXPECT(present == iam_map_count(back));
            iam_map_destroy(back);
            iam_map_destroy(map);
            free(image.bytes);
        }
}

/* ---- Distrust ---------------------------------------------------------------------------------------------------- */

static void test_every_byte_flipped(void)
{
    const int which[] = {2, 5};
    for (int i = 0; i < 2; i++) {
        iam_map *map = nth_map(which[i]);
        image_bytes image = saved(map, 1 << 20);
        uint64_t header_found = 0;
        /* One copy that is changed in place; the map over it is let go without it. */
        iam_mapping mapping = image_copy(image.bytes, image.count);
        mapping.release = NULL;
        char *bytes = mapping.bytes;
        for (uint64_t at = 0; at < image.count; at++) {
            bytes[at] = (char)(bytes[at] ^ (1 << at % 8));
            char reason[256] = "";
            iam_about about;
            iam_map *back = NULL;
            iam_status status = iam_image_open(&mapping, 1, &back, &about, reason, sizeof reason);
            EXPECT(at >= IMAGE_HEADER_BYTES || status == IAM_DAMAGED);
            header_found += status == IAM_DAMAGED;
            uint64_t block = 0;
            while (status == IAM_OK && block != UINT64_MAX)
                status = iam_image_verify_blocks(bytes, &block, UINT64_MAX, reason, sizeof reason);
            EXPECT(status == IAM_DAMAGED && reason[0] != '\0');
            iam_map_destroy(back);
            bytes[at] = image.bytes[at];
        }
        EXPECT(header_found >= IMAGE_HEADER_BYTES);
        free(bytes);
        free(image.bytes);
        iam_map_destroy(map);
    }
}

static void test_every_truncation(void)
{
    iam_map *map = nth_map(2);
    image_bytes image = saved(map, 1 << 20);
    bool sound;
    for (uint64_t count = 1; count < image.count; count += count < 5000 ? 1 : 97)
        EXPECT(!image_try(image.bytes, count, &sound));
    char *longer = calloc(1, image.count + 8);
    memcpy(longer, image.bytes, image.count);
    EXPECT(!image_try(longer, image.count + 8, &sound));
    free(longer);
    free(image.bytes);
    iam_map_destroy(map);
}

/* Numbers in the header that lie, with a checksum that does not. */
static void test_lying_headers(void)
{
    const uint64_t lies[] = {0,
                             1,
                             2,
                             7,
                             63,
                             64,
                             255,
                             4096,
                             65536,
                             1u << 31,
                             UINT32_MAX - 1,
                             UINT32_MAX,
                             (uint64_t)1 << 40,
                             INT64_MAX,
                             (uint64_t)1 << 63,
                             UINT64_MAX - 1,
                             UINT64_MAX};
    const int which[] = {0, 2, 5};
    uint64_t accepted = 0;
    for (int i = 0; i < 3; i++) {
        iam_map *map = nth_map(which[i]);
        image_bytes image = saved(map, 1 << 20);
        for (size_t at = 0; at < 800; at += 4)
            for (size_t lie = 0; lie < sizeof lies / sizeof *lies; lie++)
                for (int width = 4; width <= 8; width += 4) {
                    char *bytes = malloc(image.count);
                    memcpy(bytes, image.bytes, image.count);
                    memcpy(bytes + at, &lies[lie], (size_t)width);
                    image_header *header = (image_header *)(void *)bytes;
                    header->checksum = image_header_checksum(header);
                    bool sound;
                    bool is_open = image_try(bytes, image.count, &sound);
                    accepted += is_open;
                    /* Blocks are tied to the header: whatever was changed, they no longer fit. */
                    EXPECT(!sound || memcmp(bytes, image.bytes, image.count) == 0);
                    free(bytes);
                }
        free(image.bytes);
        iam_map_destroy(map);
    }
    EXPECT(accepted > 0);
}

/* One number of the header changed, everything else as it was: why the image is refused, or that it is not. */
typedef struct header_lie {
    size_t offset;
    uint64_t value;
    const char *reason; /* NULL: accepted, if all else fits */
} header_lie;

#define FIELD(name) offsetof(image_header, name)
#define AXIS(i) (offsetof(image_header, axes) + (i) * sizeof(uint64_t))

static void expect_refused(const image_bytes *image, const header_lie *told)
{
    iam_mapping mapping = image_copy(image->bytes, image->count);
    image_header *header = mapping.bytes;
    bool narrow = told->offset >= FIELD(kind) && told->offset <= FIELD(axis_count);
    memcpy((char *)mapping.bytes + told->offset, &told->value, narrow ? 4 : 8);
    header->checksum = image_header_checksum(header);
    char reason[256] = "";
    iam_about about;
    iam_map *map = NULL;
    iam_status status = iam_image_open(&mapping, 1, &map, &about, reason, sizeof reason);
    if (status != IAM_DAMAGED || strstr(reason, told->reason) == NULL) {
        fprintf(stderr, "field at %zu = %llu: expected \"%s\", got status %d, \"%s\"\n", told->offset,
                (unsigned long long)told->value, told->reason, status, reason);
        EXPECT(false);
    }
    free(mapping.bytes);
}

static void test_each_lie_is_called_by_its_name(void)
{
    const header_lie both[] = {
        {FIELD(kind), IAM_KIND_COUNT, "unknown kind"},
        {FIELD(kind), IAM_FLOAT32, "bytes, their shape says"},
        {FIELD(axis_count), 0, "0 axes"},
        {FIELD(axis_count), IAM_IMAGE_AXES + 1, "65 axes"},
        {FIELD(axis_count), 2, "axis 1 of its rows has length 0"},
        {AXIS(0), 0, "axis 0 of its rows has length 0"},
        {AXIS(0), 2, "bytes, their shape says 16"},
        {AXIS(0), (uint64_t)1 << 31, "axis 0"},
        {AXIS(0), ((uint64_t)1 << 31) - 1, "bytes, their shape says"},
        {AXIS(1), 1, "axis 1 of its rows has length 1"},
        {AXIS(63), 1, "axis 63"},
        {FIELD(row_count), (uint64_t)IAM_ROWS_MAX + 1, "rows"},
        {FIELD(index), IAM_INDEX_AUTO, "unknown kind, 0"},
        {FIELD(index), IAM_INDEX_DIRECT + 1, "unknown kind, 3"},
        {FIELD(index_asked), IAM_INDEX_DIRECT + 1, "unknown kind"},
        {FIELD(zeros), 1, "where version 1 has nothing"},
        {FIELD(checksum) - 8, 1, "where version 1 has nothing"},
        {FIELD(file_bytes), 4096, "sections are not where"},
        {FIELD(sections), 8192, "sections are not where"},
    };
    const header_lie hashed[] = {
        {FIELD(page_log2), 1, "both indexes"},
        {FIELD(page_low), 1, "both indexes"},
        {FIELD(page_span), 1, "both indexes"},
        {FIELD(page_count), 1, "both indexes"},
        {FIELD(linear), 1, "both indexes"},
        {FIELD(index_asked), IAM_INDEX_DIRECT, "both indexes"},
        {FIELD(row_count), 201, "201 rows for 200 keys"},
        {FIELD(key_count), 199, "200 rows for 199 keys"},
        {FIELD(bucket_count), 0, "0 buckets"},
        {FIELD(bucket_count), (uint64_t)IAM_ROWS_MAX + 1, "buckets"},
        {FIELD(overflow_count), (uint64_t)IAM_ROWS_MAX + 1, "overflow buckets"},
        {FIELD(bucket_count), 100, "sections are not where"},
    };
    const header_lie paged[] = {
        {FIELD(seed), 1, "both indexes"},
        {FIELD(bucket_count), 1, "both indexes"},
        {FIELD(overflow_count), 1, "both indexes"},
        {FIELD(index_asked), IAM_INDEX_HASH, "both indexes"},
        {FIELD(page_log2), DIRECT_PAGE_LOG2_MAX + 1, "keys in"},
        {FIELD(page_log2), 7, "keys in"},
        {FIELD(linear), 2, "keys in"},
        {FIELD(linear), 1, "its directory spans"},
        {FIELD(page_count), 1, "keys in"},
        {FIELD(key_count), 1 << 20, "keys in"},
        {FIELD(row_count), 256, "keys in"},
        {FIELD(page_span), 1, "its directory spans"},
        {FIELD(page_span), (uint64_t)1 << 28, "its directory spans"},
        {FIELD(page_low), UINT64_MAX, "its directory spans"},
        {FIELD(page_low), (UINT64_MAX >> 8) + 1, "its directory spans"},
        {FIELD(page_low), (UINT64_MAX >> 8), "its directory spans"}, /* and the span goes beyond the last */
    };
    for (int dense = 0; dense < 2; dense++) {
        iam_map *map = nth_map(dense ? 5 : 2);
        image_bytes image = saved(map, 1 << 20);
        for (size_t i = 0; i < sizeof both / sizeof *both; i++)
            expect_refused(&image, &both[i]);
        for (size_t i = 0; i < sizeof hashed / sizeof *hashed && !dense; i++)
            expect_refused(&image, &hashed[i]);
        for (size_t i = 0; i < sizeof paged / sizeof *paged && dense; i++)
            expect_refused(&image, &paged[i]);
        free(image.bytes);
        iam_map_destroy(map);
    }
    /* An empty one of either index has nothing at all. */
    const header_lie empty_hash = {FIELD(bucket_count), 1, "1 buckets and 0 overflow buckets for 0 keys"};
    const header_lie empty_overflow = {FIELD(overflow_count), 1, "0 buckets and 1 overflow buckets for 0 keys"};
    const header_lie empty_direct[] = {{FIELD(page_span), 1, "its directory spans"},
                                       {FIELD(page_low), 1, "its directory spans"},
                                       {FIELD(linear), 1, "its directory spans"}};
    iam_map *map = nth_map(1);
    image_bytes image = saved(map, 1 << 20);
    expect_refused(&image, &empty_hash);
    expect_refused(&image, &empty_overflow);
    free(image.bytes);
    iam_map_destroy(map);
    map = nth_map(0);
    image = saved(map, 1 << 20);
    for (int i = 0; i < 3; i++)
        expect_refused(&image, &empty_direct[i]);
    free(image.bytes);
    iam_map_destroy(map);
}

/* Axes whose product is too large, or just not; 64 of them. */
static void test_shapes_of_rows(void)
{
    iam_map *map = new_map(IAM_INDEX_HASH, 6, IAM_UINT8);
    image_bytes image = saved(map, 1 << 20);
    image_header *header = (image_header *)(void *)image.bytes;
    header->axis_count = IAM_IMAGE_AXES;
    for (int axis = 0; axis < IAM_IMAGE_AXES; axis++)
        header->axes[axis] = 1;
    header->axes[0] = 2, header->axes[63] = 3;
    image_seal(image.bytes);
    bool sound;
    EXPECT(image_try(image.bytes, image.count, &sound) && sound);
    header->axes[62] = (uint64_t)1 << 30;
    image_seal(image.bytes);
    const header_lie too_many = {FIELD(seed), 5, "too many items"};
    expect_refused(&image, &too_many);
    free(image.bytes);
    iam_map_destroy(map);
}

/* Presence that ends where its section does, before other bytes. */
static void test_whole_words_of_presence(void)
{
    for (uint64_t count = 64; count <= 2048; count += count < 512 ? 64 : 512) {
        iam_map *map = filled(IAM_INDEX_HASH, count, true);
        expect_comes_back(map, 1 << 20);
    }
}

/* The word of presence that the rows end in says nothing of those beyond. */
static void test_no_keys_beyond_the_last_row(void)
{
    for (uint64_t count = 1; count <= 200; count++) {
        iam_map *map = filled(IAM_INDEX_HASH, count, true);
        image_bytes image = saved(map, 1 << 20);
        const image_header *header = (const image_header *)(const void *)image.bytes;
        uint64_t *words = (uint64_t *)(void *)(image.bytes + header->sections[IMAGE_PRESENCE].offset);
        for (uint64_t number = count; number < (count + 63) / 64 * 64; number++) {
            words[number / 64] ^= (uint64_t)1 << number % 64;
            image_seal(image.bytes);
            const header_lie beyond = {FIELD(seed), header->seed, "keys beyond its last row"};
            expect_refused(&image, &beyond);
            words[number / 64] ^= (uint64_t)1 << number % 64;
        }
        free(image.bytes);
        iam_map_destroy(map);
    }
}

/* A bit that goes and another that comes beyond the last row, when it is too late to refuse the file: as many as there
 * should be, and none is taken from outside. */
static void test_no_rows_beyond_the_last_are_exported(void)
{
    enum { COUNT = 100 };
    iam_map *map = filled(IAM_INDEX_HASH, COUNT, true);
    image_bytes image = saved(map, 1 << 20);
    iam_map *back = opened(image);
    int64_t keys[COUNT];
    double rows[COUNT][3];
    EXPECT(iam_map_export(back, keys, rows));
    *rows_word(back->rows, 70) ^= (uint64_t)1 << 70 % 64;
    for (int beyond = COUNT; beyond < 128; beyond++) {
        *rows_word(back->rows, 70) ^= (uint64_t)1 << beyond % 64;
        EXPECT(!iam_map_export(back, keys, rows));
        *rows_word(back->rows, 70) ^= (uint64_t)1 << beyond % 64;
    }
    iam_map_destroy(back);
    iam_map_destroy(map);
    free(image.bytes);
}

/* Half a million rows have more bits than one piece of the file holds. */
static void test_presence_in_pieces(void)
{
    enum { COUNT = 8 * IAM_SAVE_ROOM_LEAST + 5000 };
    iam_map *map = new_map(IAM_INDEX_DIRECT, 1, IAM_UINT8);
    int64_t *keys = malloc(COUNT * sizeof *keys);
    uint8_t *rows = malloc(COUNT);
    uint8_t *removed = malloc(COUNT);
    for (int64_t i = 0; i < COUNT; i++)
        keys[i] = i - 777, rows[i] = (uint8_t)(i * 11);
    EXPECT(iam_map_update_many(map, keys, COUNT, rows, 1, IAM_SET) == IAM_OK);
    for (int64_t i = 0; i < COUNT / 7; i++)
        keys[i] = i * 7 + i % 5;
    iam_map_delete_many(map, keys, COUNT / 7, removed);
    expect_comes_back(map, IAM_SAVE_ROOM_LEAST);
    free(keys), free(rows), free(removed);
}

/* A bool that is neither 0 nor 1 is found by those who ask. */
static void test_bools(void)
{
    iam_map *map = new_map(IAM_INDEX_HASH, 5, IAM_BOOL);
    for (int64_t key = 0; key < 100; key++) {
        const uint8_t row[5] = {1, 0, 1, 0, key % 2 == 0};
        EXPECT(iam_map_put(map, key, row) == IAM_OK);
    }
    image_bytes image = saved(map, 1 << 20);
    bool sound;
    EXPECT(image_try(image.bytes, image.count, &sound) && sound);
    const image_header *header = (const image_header *)(const void *)image.bytes;
    const uint64_t places[] = {0, 254, 499};
    for (int i = 0; i < 3; i++) {
        char *item = image.bytes + header->sections[IMAGE_ROWS].offset + places[i], before = *item;
        *item = 2;
        image_seal(image.bytes);
        iam_map *back = opened(image);
        char reason[256] = "", expected[64];
        snprintf(expected, sizeof expected, "row %d has a bool that is 2", (int)places[i] / 5);
        EXPECT(iam_image_verify(back, reason, sizeof reason) == IAM_DAMAGED && strcmp(reason, expected) == 0);
        iam_map_destroy(back);
        *item = before;
    }
    free(image.bytes);
    iam_map_destroy(map);
    map = new_map(IAM_INDEX_HASH, 5, IAM_BOOL); /* no rows at all */
    image = saved(map, 1 << 20);
    EXPECT(image_try(image.bytes, image.count, &sound) && sound);
    free(image.bytes);
    iam_map_destroy(map);
}

/* Whatever a view of another type left in a row of bool: the file could not be loaded. */
static void test_bools_are_saved_as_such(void)
{
    for (int dense = 0; dense < 2; dense++) {
        iam_map *map = new_map(dense ? IAM_INDEX_DIRECT : IAM_INDEX_HASH, 3, IAM_BOOL);
        for (int64_t key = 0; key < 200; key++) {
            const uint8_t row[3] = {(uint8_t)key, 0, 0x80};
            EXPECT(iam_map_put(map, key, row) == IAM_OK);
        }
        image_bytes image = saved(map, 1 << 20);
        bool sound;
        EXPECT(image_try(image.bytes, image.count, &sound) && sound);
        iam_map *back = opened(image);
        for (int64_t key = 0; key < 200; key++) {
            const uint8_t *row = iam_map_find(back, key, NULL);
            EXPECT(row[0] == (key != 0) && row[1] == 0 && row[2] == 1);
        }
        iam_map_destroy(back);
        iam_map_destroy(map);
        free(image.bytes);
    }
}

/* A piece is what fits into the room for it, whatever of the map it is. */
static void test_nothing_is_written_beyond_the_room(void)
{
    for (int which = 0; which <= MAPS; which++) {
        iam_map *map = which < MAPS ? nth_map(which) : new_map(IAM_INDEX_DIRECT, 1, IAM_BOOL);
        for (int64_t key = 0; which == MAPS && key < 200000; key++)
            EXPECT(iam_map_put(map, key, &(uint8_t){0xff}) == IAM_OK);
        iam_save *save = begun(map);
        enum { GUARD = 64 };
        static uint8_t piece[IAM_SAVE_ROOM_LEAST + GUARD];
        memset(piece, 0xcc, sizeof piece);
        uint64_t count = 0;
        for (size_t more; (more = iam_save_next(save, piece, IAM_SAVE_ROOM_LEAST)) != 0; count += more)
            for (int i = 0; i < GUARD; i++)
                EXPECT(piece[IAM_SAVE_ROOM_LEAST + i] == 0xcc);
        EXPECT(count == iam_save_bytes(save));
        iam_save_end(save);
        iam_map_destroy(map);
    }
}

static void test_info_says_what_is_there(void)
{
    for (int which = 0; which < MAPS; which++) {
        iam_map *map = nth_map(which);
        image_bytes image = saved(map, 1 << 20);
        iam_image_info info;
        iam_image_info_read(image.bytes, &info);
        iam_map *back = opened(image);
        iam_stats stats;
        iam_map_stats(back, &stats);
        EXPECT(stats.evacuated >= 0 && stats.evacuated < 1 && (stats.bucket_count > 0 || stats.load == 0));
        bool hash = stats.index == IAM_INDEX_HASH;
        uint64_t row_count = hash ? stats.count : stats.page_count * (stats.count > 0 ? stats.page_rows : 0);
        EXPECT(info.version == 1 && info.file_bytes == image.count);
        EXPECT(info.bytes_rows == row_count * 24 && info.bytes_keys == (hash ? stats.count * 8 : 0));
        EXPECT(info.bytes_presence == (row_count + 63) / 64 * 8);
        EXPECT(info.bytes_buckets == stats.bucket_count * 128 && info.bytes_overflow == stats.overflow_count * 128);
        EXPECT((info.bytes_directory > 0) == (!hash && stats.count > 0));
        EXPECT(info.bytes_directory % 8 == 0 && info.bytes_directory <= 4 * 64 * (stats.page_count + 1) * 16);
        uint64_t blocks = image_block_count((const image_header *)(const void *)image.bytes);
        EXPECT(info.bytes_checksums == (blocks + 1) * 8);
        EXPECT(image.count + IMAGE_BLOCK_BYTES >= 4096 + blocks * IMAGE_BLOCK_BYTES + info.bytes_checksums);
        iam_map_destroy(back);
        free(image.bytes);
        iam_map_destroy(map);
    }
}

/* Preparing goes in steps of 65,536 keys, between which the caller may think better of it. */
static void test_preparing_in_steps(void)
{
    const iam_about about = {.axis_count = 1, .axes = {1}};
    for (int kind = 0; kind < 3; kind++) {
        enum { COUNT = 65536 * 2 + 40 };
        iam_map *map = new_map(kind == 0 ? IAM_INDEX_HASH : IAM_INDEX_AUTO, 1, IAM_UINT8);
        for (int64_t i = 0; i < COUNT; i++) {
            const uint8_t row = (uint8_t)i;
            /* Dense; and side by side but with a page for every second key, which no directory pays for. */
            EXPECT(iam_map_put(map, kind == 2 && i < 1000 ? i * 8192 : i - (kind == 2) * ((int64_t)1 << 40), &row) ==
                   IAM_OK);
        }
        for (int steps_least = 0; steps_least < 9; steps_least++) { /* given up after so many steps */
            iam_save *save = NULL;
            EXPECT(iam_save_begin(map, 777, &about, &save) == IAM_OK);
            bool ready = false;
            int steps = 0;
            for (; steps < steps_least && !ready; steps++) {
                ready = true; /* it is told each time */
                EXPECT(iam_save_prepare(save, &ready) == IAM_OK);
            }
            EXPECT(!ready ||
                   steps == (kind == 0 ? 3 : 6)); /* 65,536 keys each, over the keys twice where pages are tried */
            iam_save_end(save);
        }
        image_bytes image = saved(map, 1 << 20);
        bool sound;
        EXPECT(image_try(image.bytes, image.count, &sound) && sound);
        iam_map *back = opened(image);
        expect_same(map, back);
        EXPECT(iam_map_index(back) == (kind == 1 ? IAM_INDEX_DIRECT : IAM_INDEX_HASH));
        iam_map_destroy(back);
        free(image.bytes);
        iam_map_destroy(map);
    }
}

/* Pages side by side for so few keys each that the directory pays and the pages do not: hash after all. */
static void test_pages_that_do_not_pay(void)
{
    iam_map *map = new_map(IAM_INDEX_AUTO, 3, IAM_FLOAT64);
    for (int64_t i = 0; i < 300; i++)
        put(map, i * 256, (double)i);
    EXPECT(iam_map_index(map) == IAM_INDEX_HASH);
    image_bytes image = saved(map, 1 << 20);
    iam_map *back = opened(image);
    EXPECT(iam_map_index(back) == IAM_INDEX_HASH && iam_map_index_asked(back) == IAM_INDEX_AUTO);
    expect_same(map, back);
    iam_map_destroy(back);
    free(image.bytes);
    iam_map_destroy(map);
}

/* Sections lie at multiples of 4096, one after the other, with no more between them than that asks for. */
static void test_layout(void)
{
    for (int which = 0; which < MAPS; which++) {
        iam_map *map = nth_map(which);
        image_bytes image = saved(map, 1 << 20);
        const image_header *header = (const image_header *)(const void *)image.bytes;
        uint64_t end = 4096;
        for (int part = 0; part < IMAGE_PART_COUNT; part++) {
            const image_section *where = &header->sections[part];
            EXPECT(where->offset == (end + 4095) / 4096 * 4096);
            for (uint64_t at = end; at < where->offset; at++)
                EXPECT(image.bytes[at] == 0);
            end = where->offset + where->bytes;
        }
        uint64_t blocks = (header->sections[IMAGE_CHECKSUMS].offset - 4096 + 65535) / 65536;
        EXPECT(end == image.count && header->sections[IMAGE_CHECKSUMS].bytes == (blocks + 1) * 8);
        free(image.bytes);
        iam_map_destroy(map);
    }
}

/* Three pages far apart: the directory between them is longer than a piece of the file. */
static void test_directory_in_pieces(void)
{
    iam_map *map = new_map(IAM_INDEX_DIRECT, 3, IAM_FLOAT64);
    const int64_t keys[] = {0, 5000000, 9999999};
    for (int i = 0; i < 3; i++)
        put(map, keys[i], i);
    image_bytes image = saved(map, IAM_SAVE_ROOM_LEAST);
    const image_header *header = (const image_header *)(const void *)image.bytes;
    EXPECT(header->sections[IMAGE_DIRECTORY].bytes > 2 * IAM_SAVE_ROOM_LEAST);
    iam_map *back = opened(image);
    expect_same(map, back);
    iam_map_destroy(back);
    iam_map_destroy(map);
    free(image.bytes);
}

/* A directory that ends where all numbers end. */
static void test_the_first_and_the_last_keys(void)
{
    for (int side = 0; side < 2; side++)
        for (int64_t keys = 1; keys < 4000; keys = keys * 9 + 3) {
            iam_map *map = new_map(IAM_INDEX_DIRECT, 3, IAM_FLOAT64);
            for (int64_t i = 0; i < keys; i++)
                put(map, side ? INT64_MAX - i : INT64_MIN + i, 1);
            expect_comes_back(map, 1 << 20);
        }
}

/* A page id at its limit is followed, one beyond is not. */
static void test_limits_of_a_directory(void)
{
    iam_map *map = nth_map(5);
    image_bytes image = saved(map, 1 << 20);
    const image_header *header = (const image_header *)(const void *)image.bytes;
    uint32_t *ring = (uint32_t *)(void *)(image.bytes + header->sections[IMAGE_DIRECTORY].offset);
    uint64_t entries = header->sections[IMAGE_DIRECTORY].bytes / sizeof *ring, page = header->page_low;
    for (uint64_t told = 0; told <= header->page_count + 2; told++) {
        uint32_t *entry = &ring[page & (entries - 1)], before = *entry;
        *entry = (uint32_t)told;
        image_seal(image.bytes);
        iam_map *back = opened(image);
        int64_t key = (int64_t)((page << header->page_log2) ^ (uint64_t)1 << 63);
        uint32_t number = direct_number(&back->direct, key);
        EXPECT((number != IAM_ROW_NONE) == (told >= 1 && told <= header->page_count));
        EXPECT(number == IAM_ROW_NONE || number == (told - 1) << header->page_log2);
        iam_map_find(back, key, NULL);
        iam_map_destroy(back);
        *entry = before;
    }
    free(image.bytes);
    iam_map_destroy(map);
}

/* A link and a row number at their limits are followed, one beyond is not, whatever the file says. */
static void test_limits_of_trust(void)
{
    iam_map *map = nth_map(2);
    image_bytes image = saved(map, 1 << 20);
    const image_header *header = (const image_header *)(const void *)image.bytes;
    bucket *homes = (bucket *)(void *)(image.bytes + header->sections[IMAGE_BUCKETS].offset);
    for (uint64_t lie = header->row_count - 1; lie <= header->row_count + 1; lie++) {
        int64_t key = homes[0].key[0];
        uint32_t before = bucket_row(&homes[0], 0), number;
        *bucket_row_place(&homes[0], 0) = (uint32_t)lie;
        image_seal(image.bytes);
        iam_map *back = opened(image);
        uint8_t found;
        int64_t many;
        iam_map_contains_many(back, &key, 1, &found);
        iam_map_index_many(back, &key, 1, &many);
        EXPECT((iam_map_find(back, key, &number) != NULL) == (lie < header->row_count));
        EXPECT(found == (lie < header->row_count) && many == (found ? (int64_t)lie : -1));
        iam_map_destroy(back);
        *bucket_row_place(&homes[0], 0) = before;
    }
    free(image.bytes);
    iam_map_destroy(map);
}

/* Anything anywhere, all checksums right: opened, read and verified without harm, and never taken for sound unless only
 * rows were changed. */
static void test_lies_under_right_checksums(void)
{
    const int which[] = {2, 3, 4, 5};
    uint64_t random = 4711, opens = 0, refused = 0;
    for (int i = 0; i < 4; i++) {
        iam_map *map = nth_map(which[i]);
        image_bytes image = saved(map, 1 << 20);
        for (int round = 0; round < 600; round++) {
            char *bytes = malloc(image.count);
            memcpy(bytes, image.bytes, image.count);
            const image_header *header = (const image_header *)(const void *)bytes;
            int changes = 1 + (int)(harness_random(&random) % 4);
            bool only_padding = true;
            for (int change = 0; change < changes; change++) {
                int part = (int)(harness_random(&random) % IMAGE_CHECKSUMS);
                image_section where = header->sections[part];
                if (where.bytes == 0)
                    continue;
                uint64_t at = where.offset + harness_random(&random) % where.bytes / 4 * 4;
                uint64_t kind = harness_random(&random) % 4;
                uint32_t lie = (uint32_t)harness_random(&random);
                lie = kind == 0 ? lie : kind == 1 ? lie % 64 : kind == 2 ? UINT32_MAX - lie % 3 : 0;
                only_padding = only_padding && memcmp(bytes + at, &lie, 4) == 0;
                memcpy(bytes + at, &lie, 4);
            }
            image_seal(bytes);
            bool sound;
            bool is_open = image_try(bytes, image.count, &sound);
            opens += is_open;
            refused += !sound;
            /* Sound: then index, keys and presence are as they were, but for bytes that nothing reads. */
            if (sound) {
                iam_map *back = opened((image_bytes){bytes, image.count});
                EXPECT(iam_map_count(back) == iam_map_count(map));
                harness_validate(back);
                iam_map_destroy(back);
            }
            free(bytes);
        }
        free(image.bytes);
        iam_map_destroy(map);
    }
    EXPECT(opens > 500 && refused > 500);
}

/* A chain that bites its tail, and one through all of the pool: a lookup ends. */
static void test_cycles_end(void)
{
    iam_map *map = nth_map(8);
    image_bytes image = saved(map, 1 << 20);
    const image_header *header = (const image_header *)(const void *)image.bytes;
    EXPECT(header->overflow_count > 100);
    bucket *homes = (bucket *)(void *)(image.bytes + header->sections[IMAGE_BUCKETS].offset);
    bucket *pool = (bucket *)(void *)(image.bytes + header->sections[IMAGE_OVERFLOW].offset);
    for (uint64_t home = 0; home < header->bucket_count; home++) {
        homes[home].overflow = (uint32_t)(1 + home % header->overflow_count);
        homes[home].filter = UINT16_MAX;
    }
    for (uint64_t at = 0; at < header->overflow_count; at++)
        pool[at].overflow = (uint32_t)(at % 2 ? at + 1 : (at + 1) % header->overflow_count + 1);
    image_seal(image.bytes);
    bool sound;
    EXPECT(image_try(image.bytes, image.count, &sound) && !sound);
    /* Each walk goes as far as the longest chain that a file may have. */
    iam_map *back = opened(image);
    enum { MOST = 8 * (IMAGE_CHAIN_MOST + 2) };
    uint64_t fill[MOST], expected[MOST] = {0};
    iam_map_fill(back, fill, MOST);
    for (uint64_t home = 0; home < header->bucket_count; home++) {
        const bucket *link = &homes[home];
        uint64_t keys = link->slot_count;
        for (int length = 0; length < IMAGE_CHAIN_MOST; length++) {
            link = &pool[link->overflow - 1];
            keys += link->slot_count;
        }
        expected[keys]++;
    }
    EXPECT(memcmp(fill, expected, sizeof fill) == 0);
    EXPECT(table_longest_chain(&back->hash) == IMAGE_CHAIN_MOST + 1);
    iam_map_destroy(back);
    free(image.bytes);
    iam_map_destroy(map);
}

static void test_other_machines_and_versions(void)
{
    iam_map *map = nth_map(2);
    image_bytes image = saved(map, 1 << 20);
    image_header *header = (image_header *)(void *)image.bytes;
    bool sound;
    header->byte_order = __builtin_bswap32(IMAGE_BYTE_ORDER);
    EXPECT(!image_try(image.bytes, image.count, &sound));
    header->byte_order = IMAGE_BYTE_ORDER;
    header->version = 2;
    image_seal(image.bytes);
    EXPECT(!image_try(image.bytes, image.count, &sound));
    header->version = 1;
    image_seal(image.bytes);
    EXPECT(image_try(image.bytes, image.count, &sound) && sound);
    free(image.bytes);
    iam_map_destroy(map);
}

/* ---- The rest ---------------------------------------------------------------------------------------------------- */

/* Pinned: docs/format.md gives the same numbers to those who write a reader of their own. */
static void test_checksum_is_pinned(void)
{
    uint64_t words[21];
    for (uint64_t i = 0; i < 21; i++)
        words[i] = i * i + 1;
    EXPECT(image_checksum(words, 0, 1) == 0xe3ddbc9858eaad5bu);
    EXPECT(image_checksum(words, 64, 1) == 0xe94e8060246e299fu);
    EXPECT(image_checksum(words, 168, 2) == 0x93cbb9e15292c8f1u);
    EXPECT(image_checksum(words, 168, UINT64_MAX) == 0xa6c0b3d2b15a5299u);
}

/* The n-th request for memory fails, for every n: no leak, no half map, and the next try works. */
static void test_memory_runs_out(void)
{
    const iam_about about = {.axis_count = 1, .axes = {3}};
    for (int which = 2; which < 9; which++) {
        iam_map *map = nth_map(which);
        failing state;
        memset(&state, 0, sizeof state);
        atomic_store(&state.block_most, SIZE_MAX);
        iam_allocator normal = map->options.allocator;
        map->options.allocator = failing_allocator(&state);
        bool done = false;
        for (int64_t n = 0; !done; n++) {
            atomic_store(&state.until_failure, n);
            iam_save *save = NULL;
            bool ready = false;
            iam_status status = iam_save_begin(map, 5, &about, &save);
            while (status == IAM_OK && !ready)
                status = iam_save_prepare(save, &ready);
            EXPECT(status == IAM_OK || status == IAM_NO_MEMORY);
            done = status == IAM_OK;
            iam_save_end(save);
            EXPECT(atomic_load(&state.alive) == 0);
            EXPECT(n < 10000);
        }
        map->options.allocator = normal;
        iam_map_destroy(map);
    }
}

int main(void)
{
    RUN(test_checksum_is_pinned);
    RUN(test_round_trip);
    RUN(test_index_is_chosen_anew);
    RUN(test_what_is_said_of_rows_comes_back);
    RUN(test_seed_is_not_written);
    RUN(test_large_rows);
    RUN(test_a_short_file_says_how_short);
    RUN(test_the_largest_row);
    RUN(test_checksums_in_pieces);
    RUN(test_pages_in_line);
    RUN(test_views_keep_the_mapping);
    RUN(test_written_to_after_trust);
    RUN(test_long_chains_after_trust);
    RUN(test_rows_without_a_key_are_zeros);
    RUN(test_a_mapped_file_that_changes_ends_nothing);
    RUN(test_blocks_of_an_image_that_grew);
    RUN(test_every_byte_flipped);
    RUN(test_every_truncation);
    RUN(test_lying_headers);
    RUN(test_each_lie_is_called_by_its_name);
    RUN(test_shapes_of_rows);
    RUN(test_whole_words_of_presence);
    RUN(test_no_keys_beyond_the_last_row);
    RUN(test_no_rows_beyond_the_last_are_exported);
    RUN(test_presence_in_pieces);
    RUN(test_bools);
    RUN(test_bools_are_saved_as_such);
    RUN(test_nothing_is_written_beyond_the_room);
    RUN(test_info_says_what_is_there);
    RUN(test_preparing_in_steps);
    RUN(test_pages_that_do_not_pay);
    RUN(test_layout);
    RUN(test_the_first_and_the_last_keys);
    RUN(test_directory_in_pieces);
    RUN(test_limits_of_a_directory);
    RUN(test_limits_of_trust);
    RUN(test_lies_under_right_checksums);
    RUN(test_cycles_end);
    RUN(test_other_machines_and_versions);
    RUN(test_memory_runs_out);
    return harness_end();
}
