/* image_save.c: see image.h for the drawing. Writing: the bytes of an image, one piece after the other, from a map that
 * stands still. Floor 4.
 *
 * An index is built first (prepare), with a seed of its own and over rows without holes. Then the file is given out
 * from its first byte to its last, so that it can go anywhere: nothing is written twice and nothing is looked up again.
 * Memory: the new index (24 bytes a key; direct: a directory), never a copy of the rows.
 */
#include "image.h"

#include <string.h>

/* Keys looked at in one step of preparing: some milliseconds, between which the caller may think better of it. */
#define PREPARE_KEYS 65536
#define GROUP_KEYS 32

typedef enum save_step { SAVE_SPAN, SAVE_PAGES, SAVE_HASH, SAVE_READY } save_step;

struct iam_save {
    const iam_map *map;
    alloc memory;
    image_header header;
    save_step step;
    uint64_t walk; /* row number of the map from which on keys have yet to be looked at in this step */
    uint64_t walked_count;
    table index;                   /* hash */
    uint64_t place_low, place_top; /* direct: of all keys */
    uint32_t *ring;                /* direct: the directory */
    segments pages;                /* direct: page of each id */
    uint64_t *sums;
    uint64_t position;   /* bytes given out */
    uint64_t row_at;     /* rows: the one being given out, */
    uint64_t row_done;   /* how many bytes of it have been, */
    uint64_t row_from;   /* and (hash) its number in the map */
    uint64_t key_from;   /* keys: likewise */
    uint64_t link_count; /* overflow buckets that chains given out so far have */
    uint64_t home;       /* the chain being given out */
    const bucket *link;  /* the next of its overflow buckets, or NULL: the chain of `home` has yet to begin */
};

static bool is_hash(const iam_save *save)
{
    return save->header.index == IAM_INDEX_HASH;
}

/* ---- Preparing ----------------------------------------------------------------------------------------------------
 */

iam_status iam_save_begin(const iam_map *map, uint64_t seed, const iam_about *about, iam_save **save_out)
{
    alloc memory;
    alloc_begin(&memory, &map->options);
    iam_save *save = alloc_block(&memory, 1, sizeof *save, true);
    if (save == NULL)
        return IAM_NO_MEMORY;
    save->map = map;
    save->memory = memory;
    segments_begin(&save->pages, sizeof(uint64_t), map->rows->live_count + 1, false);
    save->place_low = UINT64_MAX;
    image_header *header = &save->header;
    memcpy(header->magic, image_magic, sizeof header->magic);
    header->version = IMAGE_VERSION;
    header->byte_order = IMAGE_BYTE_ORDER;
    header->key_count = map->rows->live_count;
    header->row_bytes = map->row_bytes;
    header->kind = map->options.kind;
    header->index_asked = map->options.index;
    header->axis_count = about->axis_count;
    memcpy(header->axes, about->axes, sizeof header->axes);
    header->time_multiple = about->time_multiple;
    memcpy(header->time_unit, about->time_unit, sizeof header->time_unit);
    header->seed = seed;
    save->step = map->options.index == IAM_INDEX_HASH ? SAVE_HASH : SAVE_SPAN;
    *save_out = save;
    return IAM_OK;
}

void iam_save_end(iam_save *save)
{
    if (save == NULL)
        return;
    table_end(&save->index, &save->memory);
    segments_end(&save->pages, &save->memory);
    alloc_release(&save->memory, save->ring, direct_image_entries(save->header.page_span), sizeof *save->ring);
    alloc_release(&save->memory, save->sums, image_block_count(&save->header) + 1, sizeof *save->sums);
    alloc memory = save->memory;
    alloc_release(&memory, save, 1, sizeof *save);
}

/* The next key in row order; false: that was the last, or there are more than were counted (a damaged opened image). */
static bool next_key(iam_save *save, int64_t *key_out)
{
    uint64_t number = rows_first(save->map->rows, save->walk);
    if (number == UINT64_MAX || save->walked_count == save->header.key_count)
        return false;
    save->walk = number + 1;
    save->walked_count++;
    *key_out = map_key(save->map, (uint32_t)number);
    return true;
}

static void next_step(iam_save *save, save_step step)
{
    save->step = step;
    save->walk = save->walked_count = 0;
}

static bool begin_hash(iam_save *save)
{
    image_header *header = &save->header;
    header->index = IAM_INDEX_HASH;
    header->row_count = header->key_count;
    header->page_log2 = header->page_low = header->page_span = header->page_count = header->linear = 0;
    table_begin(&save->index, hash_begin(header->seed, 0, 0), false, header->key_count * 2 + 64);
    return header->key_count == 0 || table_reserve(&save->index, &save->memory, header->key_count, SEGMENTS_TOUCH);
}

/* Keys go in by groups: the home buckets of a group are on their way while the first of them are written. (An image of
 * 1e6 keys took 240 ms of processor time one by one, 85 by groups.) */
static iam_status step_hash(iam_save *save)
{
    if (save->walked_count == 0 && !begin_hash(save))
        return IAM_NO_MEMORY;
    table *index = &save->index;
    int64_t keys[GROUP_KEYS];
    uint64_t hashes[GROUP_KEYS];
    for (int done = 0; done < PREPARE_KEYS; done += GROUP_KEYS) {
        uint64_t number = save->walked_count;
        int count = 0;
        for (; count < GROUP_KEYS && next_key(save, &keys[count]); count++) {
            hashes[count] = hash_key(&index->secret, keys[count]);
            const char *home = (const char *)table_bucket(index, table_home(index, hashes[count]));
            __builtin_prefetch(home, 1, 3);
            __builtin_prefetch(home + LINE_BYTES, 1, 3);
        }
        for (int i = 0; i < count; i++)
            if (!table_insert(index, &save->memory, hashes[i], keys[i], (uint32_t)number++))
                return IAM_NO_MEMORY;
        if (count < GROUP_KEYS) {
            next_step(save, SAVE_READY);
            return number == save->header.key_count ? IAM_OK : IAM_DAMAGED;
        }
    }
    return IAM_OK;
}

/* Lowest and highest place of all keys: whether a directory can span them. */
static iam_status step_span(iam_save *save)
{
    image_header *header = &save->header;
    int64_t key;
    for (int i = 0; i < PREPARE_KEYS; i++) {
        if (next_key(save, &key)) {
            uint64_t place = direct_place(key);
            save->place_low = place < save->place_low ? place : save->place_low;
            save->place_top = place > save->place_top ? place : save->place_top;
            continue;
        }
        if (save->walked_count != header->key_count)
            return IAM_DAMAGED;
        header->page_log2 = save->map->direct.page_log2;
        next_step(save, SAVE_PAGES);
        if (header->key_count == 0)
            return IAM_OK;
        header->page_low = save->place_low >> header->page_log2;
        header->page_span = (save->place_top >> header->page_log2) - header->page_low + 1;
        uint64_t least = direct_bytes_of(&save->map->direct, save->map->rows, 1, header->page_span);
        bool is_possible = header->page_span != 0 && direct_may_span(header->page_span);
        if (!is_possible ||
            (header->index_asked == IAM_INDEX_AUTO && !map_direct_allowed(save->map, least, header->key_count))) {
            next_step(save, SAVE_HASH);
            return IAM_OK;
        }
        save->ring = alloc_block(&save->memory, direct_image_entries(header->page_span), sizeof *save->ring, true);
        return save->ring == NULL ? IAM_NO_MEMORY : IAM_OK;
    }
    return IAM_OK;
}

static void give_up_pages(iam_save *save)
{
    alloc_release(&save->memory, save->ring, direct_image_entries(save->header.page_span), sizeof *save->ring);
    save->ring = NULL;
    segments_end(&save->pages, &save->memory);
    next_step(save, SAVE_HASH);
}

/* Pages get their ids in the order in which keys first need them, as in a map. */
static iam_status step_pages(iam_save *save)
{
    image_header *header = &save->header;
    uint64_t mask = save->ring == NULL ? 0 : direct_image_entries(header->page_span) - 1;
    int64_t key;
    for (int i = 0; i < PREPARE_KEYS; i++) {
        if (!next_key(save, &key)) {
            header->index = IAM_INDEX_DIRECT;
            header->row_count = header->page_count << header->page_log2;
            header->seed = 0;
            if (header->page_count == 0)
                header->page_log2 = 0;
            next_step(save, SAVE_READY);
            return IAM_OK;
        }
        uint64_t page = direct_place(key) >> header->page_log2;
        if (page - header->page_low >= header->page_span)
            return IAM_DAMAGED; /* an opened file that changes under us */
        if (save->ring[page & mask] != 0)
            continue;
        uint64_t id = header->page_count;
        uint64_t bytes = direct_bytes_of(&save->map->direct, save->map->rows, id + 1, header->page_span);
        bool is_auto = header->index_asked == IAM_INDEX_AUTO;
        if ((is_auto && !map_direct_allowed(save->map, bytes, header->key_count)) ||
            (id + 1) << header->page_log2 > IAM_ROWS_MAX) {
            give_up_pages(save);
            return IAM_OK;
        }
        if (!segments_reserve(&save->pages, &save->memory, id + 1, SEGMENTS_AHEAD))
            return IAM_NO_MEMORY;
        *(uint64_t *)segments_at(&save->pages, id) = page;
        header->linear = (id == 0 || header->linear) && page == header->page_low + id;
        save->ring[page & mask] = (uint32_t)++header->page_count;
    }
    return IAM_OK;
}

static iam_status finish(iam_save *save)
{
    image_header *header = &save->header;
    if (is_hash(save) && header->key_count > 0) {
        if (table_longest_chain(&save->index) > IMAGE_CHAIN_MOST + 1)
            return IAM_TOO_SPARSE; /* for prepare alone: another seed */
        header->bucket_count = save->index.bucket_count;
        header->overflow_count = save->index.overflow_count;
    }
    image_lay_out(header);
    header->checksum = image_header_checksum(header);
    save->sums = alloc_block(&save->memory, image_block_count(header) + 1, sizeof *save->sums, false);
    return save->sums == NULL ? IAM_NO_MEMORY : IAM_OK;
}

iam_status iam_save_prepare(iam_save *save, bool *ready_out)
{
    iam_status status = IAM_OK;
    *ready_out = false;
    if (save->step == SAVE_SPAN)
        status = step_span(save);
    else if (save->step == SAVE_PAGES)
        status = step_pages(save);
    else if (save->step == SAVE_HASH)
        status = step_hash(save);
    if (status != IAM_OK || save->step != SAVE_READY)
        return status;
    status = finish(save);
    if (status == IAM_TOO_SPARSE) {
        table_end(&save->index, &save->memory);
        save->header.seed = hash_expand(&save->header.seed);
        save->step = SAVE_HASH;
        return IAM_OK;
    }
    *ready_out = status == IAM_OK;
    return status;
}

uint64_t iam_save_bytes(const iam_save *save)
{
    return save->header.file_bytes;
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------
 */

/* How many present rows lie side by side in the map from `number` on, that one included (in an opened file that changes
 * it may be absent by now), at most 64. */
static uint64_t run_of(const iam_rows *rows, uint64_t number)
{
    uint64_t word = *rows_word(rows, number) >> (number & 63);
    uint64_t run = ~word == 0 ? 64 : (uint64_t)__builtin_ctzll(~word);
    uint64_t side_by_side = segments_run_end(&rows->row_store, number) - number;
    run = run < side_by_side ? run : side_by_side;
    return run > 0 ? run : 1;
}

/* Where row `at` of a direct image is in the map: its number or IAM_ROW_NONE. */
static uint32_t number_of(const iam_save *save, uint64_t at)
{
    uint64_t page_log2 = save->header.page_log2;
    uint64_t page = *(uint64_t *)segments_at(&save->pages, at >> page_log2);
    uint64_t place = page << page_log2 | (at & (((uint64_t)1 << page_log2) - 1));
    return map_locate(save->map, (int64_t)(place ^ (uint64_t)1 << 63));
}

/* The rows of the map that follow, from row_at on: where they are (NULL: absent, zeros) and how many side by side. */
static uint64_t rows_run(iam_save *save, const char **from_out)
{
    const iam_rows *rows = save->map->rows;
    if (is_hash(save)) {
        uint64_t number = rows_first(rows, save->row_from);
        if (number == UINT64_MAX) { /* an opened file that changes under us */
            *from_out = NULL;
            return 1;
        }
        save->row_from = number;
        *from_out = rows_at(rows, number);
        return run_of(rows, number);
    }
    uint32_t number = number_of(save, save->row_at);
    *from_out = number == IAM_ROW_NONE ? NULL : rows_at(rows, number);
    if (number == IAM_ROW_NONE || save->map->state != MAP_DIRECT)
        return 1;
    uint64_t left = ((save->row_at >> save->header.page_log2) + 1) << save->header.page_log2;
    uint64_t run = run_of(rows, number);
    return run < left - save->row_at ? run : left - save->row_at;
}

static void give(char *out, const char *from, uint64_t bytes)
{
    if (from == NULL)
        memset(out, 0, bytes);
    else
        memcpy(out, from, bytes);
}

static void give_rows(iam_save *save, char *out, uint64_t bytes)
{
    uint64_t row_bytes = save->header.row_bytes;
    const bool is_bool = save->map->options.kind == IAM_BOOL;
    while (bytes > 0) {
        const char *from;
        uint64_t run = rows_run(save, &from) * row_bytes - save->row_done;
        if (from != NULL)
            from += save->row_done;
        if (run > bytes)
            run = bytes;
        give(out, from, run);
        for (uint64_t i = 0; is_bool && i < run; i++) /* any other byte would be refused by whoever reads the file */
            out[i] = out[i] != 0;
        out += run;
        bytes -= run;
        uint64_t done = save->row_done + run;
        save->row_at += done / row_bytes;
        save->row_from += done / row_bytes;
        save->row_done = done % row_bytes;
    }
}

/* ---- The other sections: pieces of whole items, as sections begin at multiples of 4096 and so do pieces -----------
 */

static void give_keys(iam_save *save, char *out, uint64_t bytes)
{
    int64_t *keys = (int64_t *)(void *)out;
    for (uint64_t i = 0; i < bytes / sizeof *keys; i++) {
        uint64_t number = rows_first(save->map->rows, save->key_from);
        keys[i] = number == UINT64_MAX ? 0 : map_key(save->map, (uint32_t)number);
        save->key_from = number == UINT64_MAX ? number : number + 1;
    }
}

static void give_presence(const iam_save *save, uint64_t offset, char *out, uint64_t bytes)
{
    uint64_t *words = (uint64_t *)(void *)out;
    for (uint64_t i = 0; i < bytes / sizeof *words; i++) {
        uint64_t first = (offset / sizeof *words + i) * 64, word = 0;
        uint64_t count = save->header.row_count - first < 64 ? save->header.row_count - first : 64;
        for (uint64_t bit = 0; bit < count; bit++)
            word |= (uint64_t)(is_hash(save) || number_of(save, first + bit) != IAM_ROW_NONE) << bit;
        words[i] = word;
    }
}

/* Home buckets: a chain's overflow buckets are numbered in the order in which chains come. */
static void give_buckets(iam_save *save, uint64_t offset, char *out, uint64_t bytes)
{
    bucket *buckets = (bucket *)(void *)out;
    for (uint64_t i = 0; i < bytes / sizeof *buckets; i++) {
        const bucket *link = table_bucket(&save->index, offset / sizeof *buckets + i);
        buckets[i] = *link;
        if (link->overflow == BUCKET_NONE)
            continue;
        buckets[i].overflow = (uint32_t)save->link_count + 1;
        for (; link->overflow != BUCKET_NONE; link = table_next(&save->index, link))
            save->link_count++;
    }
}

static void give_overflow(iam_save *save, uint64_t offset, char *out, uint64_t bytes)
{
    bucket *buckets = (bucket *)(void *)out;
    for (uint64_t i = 0; i < bytes / sizeof *buckets; i++) {
        while (save->link == NULL) {
            const bucket *home = table_bucket(&save->index, save->home++);
            if (home->overflow != BUCKET_NONE)
                save->link = table_next(&save->index, home);
        }
        buckets[i] = *save->link;
        bool is_last = save->link->overflow == BUCKET_NONE;
        if (!is_last)
            buckets[i].overflow = (uint32_t)(offset / sizeof *buckets + i) + 2;
        save->link = is_last ? NULL : table_next(&save->index, save->link);
    }
}

static void give_pages(const iam_save *save, uint64_t offset, char *out, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes; done += sizeof(uint64_t))
        memcpy(out + done, segments_at(&save->pages, (offset + done) / sizeof(uint64_t)), sizeof(uint64_t));
}

static void give_part(iam_save *save, image_part part, uint64_t offset, char *out, uint64_t bytes)
{
    if (part == IMAGE_ROWS)
        give_rows(save, out, bytes);
    else if (part == IMAGE_KEYS)
        give_keys(save, out, bytes);
    else if (part == IMAGE_PRESENCE)
        give_presence(save, offset, out, bytes);
    else if (part == IMAGE_BUCKETS)
        give_buckets(save, offset, out, bytes);
    else if (part == IMAGE_OVERFLOW)
        give_overflow(save, offset, out, bytes);
    else if (part == IMAGE_DIRECTORY)
        memcpy(out, (const char *)save->ring + offset, bytes);
    else if (part == IMAGE_PAGES)
        give_pages(save, offset, out, bytes);
}

/* ---- The file, from its first byte to its last --------------------------------------------------------------------
 */

/* Bytes [position, position + bytes), which lie between the header and the checksums. */
static void give_body(iam_save *save, char *out, uint64_t bytes)
{
    uint64_t at = save->position, end = at + bytes;
    for (int part = 0; part < IMAGE_CHECKSUMS; part++) {
        uint64_t first = save->header.sections[part].offset, last = first + save->header.sections[part].bytes;
        uint64_t next = save->header.sections[part + 1].offset;
        if (at >= next || at >= end)
            continue;
        if (at < last) {
            uint64_t most = (last < end ? last : end) - at;
            give_part(save, (image_part)part, at - first, out, most);
            out += most;
            at += most;
        }
        uint64_t padding = (next < end ? next : end) - at;
        memset(out, 0, padding);
        out += padding;
        at += padding;
    }
}

static size_t give_sums(iam_save *save, char *out, size_t room_bytes)
{
    const image_section *where = &save->header.sections[IMAGE_CHECKSUMS];
    uint64_t count = image_block_count(&save->header), offset = save->position - where->offset;
    save->sums[count] = image_block_checksum(save->sums, count * sizeof *save->sums, save->header.checksum, count);
    size_t bytes = where->bytes - offset < room_bytes ? where->bytes - offset : room_bytes;
    memcpy(out, (const char *)save->sums + offset, bytes);
    return bytes;
}

size_t iam_save_next(iam_save *save, void *out, size_t room_bytes)
{
    CHECK(room_bytes >= IAM_SAVE_ROOM_LEAST && save->step == SAVE_READY);
    uint64_t body_end = save->header.sections[IMAGE_CHECKSUMS].offset;
    size_t bytes = 0;
    if (save->position == 0) {
        bytes = sizeof save->header;
        memcpy(out, &save->header, bytes);
    } else if (save->position < body_end) {
        bytes = room_bytes / IMAGE_BLOCK_BYTES * IMAGE_BLOCK_BYTES;
        if (bytes > body_end - save->position)
            bytes = body_end - save->position;
        give_body(save, out, bytes);
        for (size_t done = 0; done < bytes; done += IMAGE_BLOCK_BYTES) {
            uint64_t block = (save->position + done - IMAGE_HEADER_BYTES) / IMAGE_BLOCK_BYTES;
            size_t left = bytes - done < IMAGE_BLOCK_BYTES ? bytes - done : IMAGE_BLOCK_BYTES;
            save->sums[block] = image_block_checksum((char *)out + done, left, save->header.checksum, block);
        }
    } else if (save->position < save->header.file_bytes) {
        bytes = give_sums(save, out, room_bytes);
    }
    save->position += bytes;
    return bytes;
}
