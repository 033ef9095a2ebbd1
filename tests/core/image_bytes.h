/* image_bytes.h: what test_image.c and fuzz_image.c share: an image as bytes in memory, everything that can be read
 * from one, and checksums made right again over whatever was changed. */
#ifndef IAM_IMAGE_BYTES_H
#define IAM_IMAGE_BYTES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* posix_memalign */
#endif

#include "harness.h"
#include "image.h"

static int image_releases; /* mappings given back */

static void image_release(void *state, void *bytes, uint64_t byte_count)
{
    (void)state, (void)byte_count;
    image_releases++;
    free(bytes);
}

/* A block of exactly so many bytes at a page border, so that the address sanitizer sees every step beyond. */
static inline iam_mapping image_copy(const void *bytes, uint64_t byte_count)
{
    void *copy = NULL;
    EXPECT(posix_memalign(&copy, 4096, byte_count) == 0);
    memcpy(copy, bytes, byte_count);
    return (iam_mapping){.bytes = copy, .byte_count = byte_count, .release = image_release};
}

static inline void image_seal(void *bytes)
{
    image_header *header = bytes;
    header->checksum = image_header_checksum(header);
    uint64_t end = header->sections[IMAGE_CHECKSUMS].offset, count = image_block_count(header);
    uint64_t *sums = (uint64_t *)(void *)((char *)bytes + end);
    for (uint64_t block = 0; block < count; block++) {
        uint64_t offset = IMAGE_HEADER_BYTES + block * IMAGE_BLOCK_BYTES;
        uint64_t left = end - offset < IMAGE_BLOCK_BYTES ? end - offset : IMAGE_BLOCK_BYTES;
        sums[block] = image_block_checksum((char *)bytes + offset, left, header->checksum, block);
    }
    sums[count] = image_block_checksum(sums, count * sizeof *sums, header->checksum, count);
}

/* Every way to read a map, whatever it says: no crash, no read outside, an end. */
static inline void image_exercise(const iam_map *map)
{
    enum { KEYS = 200 };
    int64_t keys[KEYS], numbers[KEYS];
    uint8_t found[KEYS];
    uint32_t rows[KEYS];
    iam_stats stats;
    iam_map_stats(map, &stats);
    uint64_t count = iam_map_count(map), position = 0;
    size_t walked = iam_map_walk(map, false, &position, KEYS, keys, rows);
    for (size_t i = walked; i < KEYS; i++)
        keys[i] = (int64_t)i;
    size_t row_bytes = (size_t)(map->row_bytes);
    if (row_bytes <= 4096) {
        char *out = malloc(KEYS * row_bytes), *zero = calloc(1, row_bytes);
        iam_map_get_many(map, keys, KEYS, out, zero, 0, found, NULL);
        free(zero);
        free(out);
    }
    iam_map_contains_many(map, keys, KEYS, found);
    iam_map_index_many(map, keys, KEYS, numbers);
    for (int i = 0; i < KEYS; i++) {
        EXPECT(numbers[i] >= -1 && numbers[i] < (int64_t)map->rows->used_count);
        uint32_t number;
        iam_view view;
        const char *row = iam_map_find(map, keys[i], &number);
        if (row != NULL && iam_view_take(map, number, &view) == IAM_OK) {
            volatile char first = row[0], last = row[row_bytes - 1];
            (void)first, (void)last;
            iam_view_release(&view);
        }
    }
    position = UINT64_MAX;
    iam_map_walk(map, true, &position, KEYS, keys, rows);
    void *last_row;
    int64_t last_key;
    iam_map_last(map, &last_key, &last_row);
    int64_t *all_keys = malloc((count + 1) * sizeof *all_keys);
    char *all_rows = count * row_bytes < 1 << 20 ? malloc(count * row_bytes + 1) : NULL;
    iam_map_export(map, all_keys, all_rows);
    for (uint64_t at = 0; at < iam_map_block_count(map); at++) {
        iam_block block;
        iam_map_block(map, at, &block);
        int64_t *block_keys = malloc((block.row_count + 1) * sizeof *block_keys);
        iam_map_block_keys(map, &block, block_keys);
        free(block_keys);
    }
    uint64_t fill[9];
    iam_map_fill(map, fill, 9);
    char reason[256];
    iam_map_validate(map, reason, sizeof reason);
    iam_map *copy = NULL;
    if (count * row_bytes < 1 << 20 && iam_map_copy(map, 7, &copy) == IAM_OK) {
        harness_validate(copy);
        iam_map_destroy(copy);
    }
    free(all_rows);
    free(all_keys);
}

/* Opens bytes and reads all there is to read. Whether it was opened, and whether all of it was found in order. */
static inline bool image_try(const void *bytes, uint64_t byte_count, bool *sound_out)
{
    char reason[256] = "";
    iam_about about;
    iam_map *map = NULL;
    iam_mapping mapping = image_copy(bytes, byte_count);
    *sound_out = false;
    iam_status status = iam_image_open(&mapping, 99, &map, &about, reason, sizeof reason);
    if (status != IAM_OK) {
        EXPECT(status == IAM_DAMAGED ? reason[0] != '\0' : status == IAM_NO_MEMORY);
        free(mapping.bytes);
        return false;
    }
    image_exercise(map);
    uint64_t block = 0;
    while (status == IAM_OK && block != UINT64_MAX)
        status = iam_image_verify_blocks(mapping.bytes, &block, 1, reason, sizeof reason);
    if (status == IAM_OK)
        status = iam_image_verify(map, reason, sizeof reason);
    EXPECT(status == IAM_OK || (status == IAM_DAMAGED && reason[0] != '\0'));
    *sound_out = status == IAM_OK;
    iam_map_destroy(map);
    return true;
}

#endif
