/* cursor.c: walking rows in row order, one by one or in blocks, while the map may change between calls. Floor 4.
 *
 * Rows never move and have one number while their key lives. So a walk is a row number that only goes one way, and Go's
 * rules for iteration under change come for nothing: a key present throughout comes exactly once, growth or not; a
 * deleted key never comes; a new one may or may not; no key comes twice unless it was deleted and inserted again.
 */
#include "map.h"

#include <string.h>

size_t iam_map_walk(const iam_map *map, bool backward, uint64_t *position_io, size_t most, int64_t *keys_out,
                    uint32_t *rows_out)
{
    const iam_rows *rows = map->rows;
    size_t count = 0;
    while (count < most) {
        uint64_t number = backward ? rows_last(rows, *position_io) : rows_first(rows, *position_io);
        if (number == UINT64_MAX) {
            *position_io = backward ? 0 : UINT64_MAX;
            break;
        }
        *position_io = backward ? number : number + 1;
        if (keys_out != NULL)
            keys_out[count] = map_key(map, (uint32_t)number);
        if (rows_out != NULL)
            rows_out[count] = (uint32_t)number;
        count++;
    }
    return count;
}

void *iam_map_row(const iam_map *map, uint32_t number)
{
    return rows_at(map->rows, number);
}

/* Copies the present rows of one presence word; returns how many. Whole words go in one piece. */
static size_t export_word(const iam_map *map, uint64_t first, uint64_t word, int64_t *keys_out, char *rows_out)
{
    const iam_rows *rows = map->rows;
    size_t row_bytes = map->row_bytes;
    if (word == UINT64_MAX && rows_out != NULL && segments_run_end(&rows->row_store, first) >= first + 64) {
        memcpy(rows_out, rows_at(rows, first), 64 * row_bytes);
        rows_out = NULL;
    }
    size_t count = 0;
    for (; word != 0; word &= word - 1, count++) {
        uint32_t number = (uint32_t)(first + (uint64_t)__builtin_ctzll(word));
        if (keys_out != NULL)
            keys_out[count] = map_key(map, number);
        if (rows_out != NULL)
            memcpy(rows_out + count * row_bytes, rows_at(rows, number), row_bytes);
    }
    return count;
}

bool iam_map_export(const iam_map *map, int64_t *keys_out, void *rows_out)
{
    const iam_rows *rows = map->rows;
    size_t count = 0;
    for (uint64_t first = 0; first < rows->last_bound; first += 64) {
        uint64_t word = *(const volatile uint64_t *)rows_word(rows, first);
        /* There is room for live_count rows below last_bound; a mapped file may have more bits. */
        if (rows->last_bound - first < 64)
            word &= ((uint64_t)1 << (rows->last_bound - first)) - 1;
        if (UNLIKELY((uint64_t)__builtin_popcountll(word) > rows->live_count - count))
            return false;
        count += export_word(map, first, word, keys_out == NULL ? NULL : keys_out + count,
                             rows_out == NULL ? NULL : (char *)rows_out + count * map->row_bytes);
    }
    return count == rows->live_count;
}

/* ---- Blocks ---------------------------------------------------------------------------------------------------------
 */

static uint64_t block_end(const iam_map *map, uint64_t first)
{
    const iam_rows *rows = map->rows;
    uint64_t end = segments_run_end(&rows->row_store, first);
    uint64_t presence_end = segments_run_end(&rows->presence_store, first >> 6) << 6;
    end = presence_end < end ? presence_end : end;
    if (map->state == MAP_HASH) {
        uint64_t keys_end = segments_run_end(&rows->key_store, first);
        end = keys_end < end ? keys_end : end;
    }
    return end < rows->used_count ? end : rows->used_count;
}

uint64_t iam_map_block_count(const iam_map *map)
{
    uint64_t count = 0;
    for (uint64_t first = 0; first < map->rows->used_count; first = block_end(map, first))
        count++;
    return count;
}

void iam_map_block(const iam_map *map, uint64_t block_index, iam_block *block_out)
{
    uint64_t first = 0;
    while (block_index-- > 0)
        first = block_end(map, first);
    block_out->first_row = first;
    block_out->row_count = block_end(map, first) - first;
    block_out->rows = rows_at(map->rows, first);
    block_out->keys = map->state == MAP_HASH ? rows_key(map->rows, first) : NULL;
    block_out->present = (const uint8_t *)rows_word(map->rows, first) + (first & 63) / 8;
}

void iam_map_block_keys(const iam_map *map, const iam_block *block, int64_t *keys_out)
{
    for (uint64_t i = 0; i < block->row_count; i++) {
        uint64_t number = block->first_row + i;
        keys_out[i] = rows_present(map->rows, number) ? map_key(map, (uint32_t)number) : 0;
    }
}
