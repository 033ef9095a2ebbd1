/* image.c: see image.h for the drawing. Reading: a map over the bytes of an image, and distrust of them.
 *
 * What is trusted when: iam_image_open checks the header alone, whose every number must follow from the counts in it,
 * so all arrays lie inside the file. From then on lookups take nothing for granted that a file can say: row numbers and
 * links are compared with their limits (table.h, direct.h), chains are followed IMAGE_CHAIN_MOST times, presence bits
 * beyond the last row are not seen (rows_first, iam_map_export). iam_image_verify checks all the rest. Only then may
 * the map be written to, if its pages are private.
 */
#include "image.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const uint8_t image_magic[8] = {0x89, 'I', 'A', 'M', '\r', '\n', 0x1a, '\n'};

#define ROW_ITEMS_MOST (((uint64_t)1 << 31) - 1)
#define ROW_BYTES_MOST ((uint64_t)1 << 30)

/* ---- Checksums ----------------------------------------------------------------------------------------------------
 */

#define CHECKSUM_LANES 8
#define CHECKSUM_FACTOR 0x9fb21c651e98df25u /* odd, with balanced bits: the second multiplier of rrmxmx (Evensen) */
#define CHECKSUM_STEP 0x9e3779b97f4a7c15u

static uint64_t rotated(uint64_t word, unsigned by)
{
    return word << by | word >> (64 - by);
}

/* lane = (lane xor word) * odd, rotated: one to one in both, so one changed word always shows. Eight lanes hide the
 * latency of the multiplication: about as fast as memory. */
static uint64_t checksum_step(uint64_t lane, uint64_t word)
{
    return rotated((lane ^ word) * CHECKSUM_FACTOR, 29);
}

uint64_t image_checksum(const void *start, uint64_t bytes, uint64_t seed)
{
    uint64_t lanes[CHECKSUM_LANES], line[CHECKSUM_LANES];
    const char *at = start;
    for (int lane = 0; lane < CHECKSUM_LANES; lane++)
        lanes[lane] = seed + CHECKSUM_STEP * (uint64_t)(lane + 1);
    uint64_t left = bytes;
    for (; left >= sizeof line; left -= sizeof line, at += sizeof line) {
        memcpy(line, at, sizeof line);
        for (int lane = 0; lane < CHECKSUM_LANES; lane++)
            lanes[lane] = checksum_step(lanes[lane], line[lane]);
    }
    for (int lane = 0; left >= sizeof line[0]; lane++, left -= sizeof line[0], at += sizeof line[0]) {
        memcpy(line, at, sizeof line[0]);
        lanes[lane] = checksum_step(lanes[lane], line[0]);
    }
    uint64_t sum = seed ^ bytes;
    for (int lane = 0; lane < CHECKSUM_LANES; lane++)
        sum = checksum_step(sum, lanes[lane]);
    return sum ^ sum >> 32;
}

uint64_t image_header_checksum(const image_header *header)
{
    return image_checksum(header, offsetof(image_header, checksum), IMAGE_VERSION);
}

uint64_t image_block_checksum(const void *start, uint64_t bytes, uint64_t header_checksum, uint64_t block)
{
    return image_checksum(start, bytes, header_checksum + block * CHECKSUM_FACTOR);
}

/* ---- Layout --------------------------------------------------------------------------------------------------------
 */

static uint64_t next_section(uint64_t offset)
{
    return (offset + IMAGE_SECTION_ALIGN - 1) & ~(uint64_t)(IMAGE_SECTION_ALIGN - 1);
}

void image_lay_out(image_header *header)
{
    bool hash = header->index == IAM_INDEX_HASH;
    uint64_t bytes[IMAGE_PART_COUNT] = {
        [IMAGE_ROWS] = header->row_count * header->row_bytes,
        [IMAGE_KEYS] = hash ? header->key_count * sizeof(int64_t) : 0,
        [IMAGE_PRESENCE] = (header->row_count + 63) / 64 * sizeof(uint64_t),
        [IMAGE_BUCKETS] = header->bucket_count * sizeof(bucket),
        [IMAGE_OVERFLOW] = header->overflow_count * sizeof(bucket),
        [IMAGE_DIRECTORY] = header->page_count == 0 ? 0 : direct_image_entries(header->page_span) * sizeof(uint32_t),
        [IMAGE_PAGES] = header->page_count * sizeof(uint64_t),
    };
    uint64_t offset = IMAGE_HEADER_BYTES;
    for (int part = 0; part < IMAGE_PART_COUNT; part++) {
        if (part == IMAGE_CHECKSUMS)
            bytes[part] =
                ((offset - IMAGE_HEADER_BYTES + IMAGE_BLOCK_BYTES - 1) / IMAGE_BLOCK_BYTES + 1) * sizeof(uint64_t);
        header->sections[part] = (image_section){offset, bytes[part]};
        offset += part == IMAGE_CHECKSUMS ? bytes[part] : next_section(bytes[part]);
    }
    header->file_bytes = offset;
}

uint64_t image_block_count(const image_header *header)
{
    return header->sections[IMAGE_CHECKSUMS].bytes / sizeof(uint64_t) - 1;
}

/* ---- Distrust of the header -------------------------------------------------------------------------------------- */

static iam_status damaged(char *reason, size_t reason_bytes, const char *words, ...)
{
    va_list arguments;
    va_start(arguments, words);
    vsnprintf(reason, reason_bytes, words, arguments);
    va_end(arguments);
    return IAM_DAMAGED;
}

#define DAMAGED(...) damaged(reason, reason_bytes, __VA_ARGS__)
#define LONG(number) ((unsigned long long)(number))

static iam_status check_frame(const image_header *header, uint64_t byte_count, char *reason, size_t reason_bytes)
{
    uint64_t known = byte_count < sizeof image_magic ? byte_count : sizeof image_magic;
    if (known == 0 || memcmp(header->magic, image_magic, known) != 0)
        return DAMAGED("it does not begin like an image of an IntArrayMap");
    if (byte_count < IMAGE_HEADER_BYTES)
        return DAMAGED("it ends within the header, after %llu bytes", LONG(byte_count));
    if (header->byte_order == __builtin_bswap32(IMAGE_BYTE_ORDER))
        return DAMAGED("it was made on a big-endian machine");
    if (header->byte_order != IMAGE_BYTE_ORDER)
        return DAMAGED("the header is damaged (byte order)");
    if (header->version != IMAGE_VERSION)
        return DAMAGED("it has version %u, this package reads version %u", header->version, IMAGE_VERSION);
    if (header->checksum != image_header_checksum(header))
        return DAMAGED("the header is damaged (checksum)");
    for (size_t i = 0; i < sizeof header->zeros; i++)
        if (header->zeros[i] != 0)
            return DAMAGED("the header has something where version %u has nothing", IMAGE_VERSION);
    return IAM_OK;
}

static iam_status check_row(const image_header *header, char *reason, size_t reason_bytes)
{
    if (header->kind >= IAM_KIND_COUNT)
        return DAMAGED("its rows are of an unknown kind, %u", header->kind);
    if (header->axis_count < 1 || header->axis_count > IAM_IMAGE_AXES)
        return DAMAGED("its rows have %u axes", header->axis_count);
    uint64_t items = 1;
    for (uint32_t axis = 0; axis < IAM_IMAGE_AXES; axis++) {
        bool is_used = axis < header->axis_count;
        if (header->axes[axis] < is_used || header->axes[axis] > (is_used ? ROW_ITEMS_MOST : 0))
            return DAMAGED("axis %u of its rows has length %llu", axis, LONG(header->axes[axis]));
        items *= is_used ? header->axes[axis] : 1;
        if (items > ROW_ITEMS_MOST)
            return DAMAGED("its rows have too many items");
    }
    uint64_t bytes = items * iam_kind_bytes((iam_kind)header->kind);
    if (bytes > ROW_BYTES_MOST || header->row_bytes != bytes)
        return DAMAGED("its rows have %llu bytes, their shape says %llu", LONG(header->row_bytes), LONG(bytes));
    return IAM_OK;
}

static iam_status check_hash(const image_header *header, char *reason, size_t reason_bytes)
{
    bool direct_is_none =
        (header->page_log2 | header->page_low | header->page_span | header->page_count | header->linear) == 0;
    if (!direct_is_none || header->index_asked == IAM_INDEX_DIRECT)
        return DAMAGED("it has both indexes");
    if (header->row_count != header->key_count)
        return DAMAGED("it has %llu rows for %llu keys", LONG(header->row_count), LONG(header->key_count));
    bool empty = header->key_count == 0;
    if ((header->bucket_count == 0) != empty || header->bucket_count > IAM_ROWS_MAX ||
        header->overflow_count > (empty ? 0 : IAM_ROWS_MAX))
        return DAMAGED("it has %llu buckets and %llu overflow buckets for %llu keys", LONG(header->bucket_count),
                       LONG(header->overflow_count), LONG(header->key_count));
    return IAM_OK;
}

static iam_status check_direct(const image_header *header, char *reason, size_t reason_bytes)
{
    if ((header->seed | header->bucket_count | header->overflow_count) != 0 || header->index_asked == IAM_INDEX_HASH)
        return DAMAGED("it has both indexes");
    if (header->page_log2 > DIRECT_PAGE_LOG2_MAX || header->linear > 1 || header->page_count > IAM_ROWS_MAX ||
        header->row_count != header->page_count << header->page_log2 || header->key_count > header->row_count)
        return DAMAGED("it has %llu keys in %llu pages of 2^%llu rows", LONG(header->key_count),
                       LONG(header->page_count), LONG(header->page_log2));
    uint64_t page_total = UINT64_MAX >> header->page_log2; /* one less than there are */
    bool empty = header->page_count == 0;
    if (!direct_may_span(header->page_span) || header->page_span < header->page_count ||
        (empty && (header->page_span | header->page_low | header->linear) != 0) ||
        (!empty && (header->page_low > page_total || header->page_span - 1 > page_total - header->page_low)) ||
        (header->linear && header->page_span != header->page_count))
        return DAMAGED("its directory spans %llu pages from %llu on, and there are %llu", LONG(header->page_span),
                       LONG(header->page_low), LONG(header->page_count));
    return IAM_OK;
}

static iam_status check_layout(const image_header *header, uint64_t byte_count, char *reason, size_t reason_bytes)
{
    image_header expected = *header;
    image_lay_out(&expected);
    if (memcmp(expected.sections, header->sections, sizeof expected.sections) != 0 ||
        expected.file_bytes != header->file_bytes)
        return DAMAGED("its sections are not where its counts put them");
    if (byte_count != header->file_bytes)
        return DAMAGED("it has %llu bytes, its header says %llu", LONG(byte_count), LONG(header->file_bytes));
    return IAM_OK;
}

static iam_status check_header(const image_header *header, uint64_t byte_count, char *reason, size_t reason_bytes)
{
    iam_status status = check_frame(header, byte_count, reason, reason_bytes);
    if (status == IAM_OK)
        status = check_row(header, reason, reason_bytes);
    if (status != IAM_OK)
        return status;
    if (header->row_count > IAM_ROWS_MAX)
        return DAMAGED("it has %llu rows", LONG(header->row_count));
    bool hash = header->index == IAM_INDEX_HASH;
    if ((!hash && header->index != IAM_INDEX_DIRECT) || header->index_asked > IAM_INDEX_DIRECT)
        return DAMAGED("its index is of an unknown kind, %u", header->index);
    status = hash ? check_hash(header, reason, reason_bytes) : check_direct(header, reason, reason_bytes);
    return status == IAM_OK ? check_layout(header, byte_count, reason, reason_bytes) : status;
}

/* ---- Opening -------------------------------------------------------------------------------------------------------
 */

static void *section(const image_header *header, image_part part)
{
    return (char *)(uintptr_t)header + header->sections[part].offset;
}

static void open_rows(iam_rows *rows, const image_header *header)
{
    segments_borrow(&rows->row_store, section(header, IMAGE_ROWS), header->row_count);
    segments_borrow(&rows->presence_store, section(header, IMAGE_PRESENCE), (header->row_count + 63) / 64);
    if (header->index == IAM_INDEX_HASH)
        segments_borrow(&rows->key_store, section(header, IMAGE_KEYS), header->key_count);
    rows->used_count = rows->last_bound = header->row_count;
    rows->live_count = header->key_count;
}

static void open_hash(iam_map *map, const image_header *header)
{
    table *index = &map->hash;
    map->state = MAP_HASH;
    segments_borrow(&index->buckets, section(header, IMAGE_BUCKETS), header->bucket_count);
    segments_borrow(&index->overflow, section(header, IMAGE_OVERFLOW), header->overflow_count);
    index->secret = hash_begin(header->seed, 0, 0);
    index->bucket_count = header->bucket_count;
    for (index->level = 1; index->level * 2 <= header->bucket_count;)
        index->level *= 2;
    if (header->bucket_count == 0)
        index->level = 0;
    index->key_count = header->key_count;
    index->grow_at = growth_limit(index);
    index->overflow_top = index->overflow_count = header->overflow_count;
    index->row_limit = (uint32_t)header->row_count;
    index->chain_limit = IMAGE_CHAIN_MOST;
}

static void open_direct(iam_map *map, const image_header *header)
{
    CHECK(map->state == MAP_DIRECT); /* check_direct refuses an image of a map that was asked to hash */
    direct_borrow(&map->direct, section(header, IMAGE_DIRECTORY), section(header, IMAGE_PAGES), header->page_low,
                  header->page_span, header->page_count);
    map->direct.page_log2 = (uint32_t)header->page_log2;
    map->direct.linear = header->linear;
    map->direct.linear_base = header->page_low << header->page_log2;
}

/* The word of presence that has bits beyond the last row. */
static bool presence_ends(const image_header *header)
{
    const uint64_t *words = section(header, IMAGE_PRESENCE);
    return header->row_count % 64 == 0 || words[header->row_count / 64] >> (header->row_count % 64) == 0;
}

iam_status iam_image_open(const iam_mapping *mapping, uint64_t seed, iam_map **map_out, iam_about *about, char *reason,
                          size_t reason_bytes)
{
    CHECK((uintptr_t)mapping->bytes % LINE_BYTES == 0);
    const image_header *header = mapping->bytes;
    iam_status status = check_header(header, mapping->byte_count, reason, reason_bytes);
    if (status != IAM_OK)
        return status;
    if (!presence_ends(header))
        return DAMAGED("it has keys beyond its last row");
    iam_options options = {.row_items = header->row_bytes / iam_kind_bytes((iam_kind)header->kind),
                           .kind = (iam_kind)header->kind,
                           .index = (iam_index)header->index_asked,
                           .seed = seed};
    iam_map *map;
    status = iam_map_create(&options, &map);
    if (status != IAM_OK)
        return status;
    if (header->index == IAM_INDEX_HASH)
        open_hash(map, header);
    else
        open_direct(map, header);
    open_rows(map->rows, header);
    /* Room for views of all rows: addresses, touched where views are taken, on small pages (clearing a huge one takes
     * longer than all the rest). */
    if (!rows_reserve(map->rows, header->row_count, header->index == IAM_INDEX_HASH, SEGMENTS_AHEAD)) {
        iam_map_destroy(map);
        return IAM_NO_MEMORY;
    }
    map->rows->mapping = *mapping;
    *about = (iam_about){.axis_count = header->axis_count, .time_multiple = header->time_multiple};
    memcpy(about->axes, header->axes, sizeof about->axes);
    memcpy(about->time_unit, header->time_unit, sizeof about->time_unit);
    *map_out = map;
    return IAM_OK;
}

/* ---- Everything checked --------------------------------------------------------------------------------------------
 */

iam_status iam_image_verify_blocks(const void *bytes, uint64_t *block_io, uint64_t most_bytes, char *reason,
                                   size_t reason_bytes)
{
    const image_header *header = bytes;
    uint64_t count = image_block_count(header), end = header->sections[IMAGE_CHECKSUMS].offset;
    const uint64_t *sums = section(header, IMAGE_CHECKSUMS);
    if (*block_io == 0 && sums[count] != image_block_checksum(sums, count * sizeof *sums, header->checksum, count))
        return DAMAGED("its checksums are damaged");
    for (uint64_t done = 0; *block_io < count && done < most_bytes; done += IMAGE_BLOCK_BYTES, ++*block_io) {
        uint64_t offset = IMAGE_HEADER_BYTES + *block_io * IMAGE_BLOCK_BYTES;
        uint64_t left = end - offset < IMAGE_BLOCK_BYTES ? end - offset : IMAGE_BLOCK_BYTES;
        if (image_block_checksum((const char *)bytes + offset, left, header->checksum, *block_io) != sums[*block_io])
            return DAMAGED("the block of %llu bytes from byte %llu on is damaged", LONG(left), LONG(offset));
    }
    if (*block_io >= count)
        *block_io = UINT64_MAX;
    return IAM_OK;
}

iam_status iam_image_verify(const iam_map *map, char *reason, size_t reason_bytes)
{
    if (iam_map_validate(map, reason, reason_bytes) != IAM_OK)
        return IAM_DAMAGED;
    if (map->options.kind != IAM_BOOL)
        return IAM_OK;
    const uint8_t *items = map->rows->used_count == 0 ? NULL : rows_at(map->rows, 0);
    for (uint64_t i = 0; i < map->rows->used_count * map->row_bytes; i++)
        if (items[i] > 1)
            return DAMAGED("row %llu has a bool that is %u", LONG(i / map->row_bytes), items[i]);
    return IAM_OK;
}

/* `fresh_out`: the same items, of which no more than a multiple of eight are borrowed; the rest are copies. There is
 * one at least. */
static bool borrow_whole_eights(const segments *array, alloc *memory, segments *fresh_out)
{
    uint64_t count = array->borrowed_count, whole = count & ~(uint64_t)7;
    segments_begin(fresh_out, array->item_bytes, array->reserve_count, array->zeroed);
    segments_borrow(fresh_out, segments_at(array, 0), whole);
    if (!segments_reserve(fresh_out, memory, count, SEGMENTS_EXACT))
        return false;
    for (uint64_t i = whole; i < count; i++)
        memcpy(segments_at(fresh_out, i), segments_at(array, i), array->item_bytes);
    return true;
}

/* The map may grow from here on, and rows that come lie elsewhere. Blocks have a bit a row, so they begin at multiples
 * of eight: of a last group that is not whole, the rows that are there move to where the others will be, now that
 * nobody has seen them yet. */
iam_status iam_image_trust(iam_map *map)
{
    iam_rows *rows = map->rows;
    if (rows->used_count % 8 != 0) {
        segments row_store, key_store;
        bool has_keys = map->state == MAP_HASH;
        if (!borrow_whole_eights(&rows->row_store, &rows->memory, &row_store))
            return IAM_NO_MEMORY;
        if (has_keys && !borrow_whole_eights(&rows->key_store, &rows->memory, &key_store)) {
            segments_end(&row_store, &rows->memory);
            return IAM_NO_MEMORY;
        }
        rows->row_store = row_store;
        if (has_keys)
            rows->key_store = key_store;
    }
    map->hash.row_limit = IAM_ROW_NONE;
    map->hash.chain_limit = UINT32_MAX;
    return map_written(map, WHOLE_MAP, IAM_OK);
}

void iam_image_info_read(const void *bytes, iam_image_info *info)
{
    const image_header *header = bytes;
    const image_section *sections = header->sections;
    *info = (iam_image_info){
        .version = header->version,
        .file_bytes = header->file_bytes,
        .bytes_rows = sections[IMAGE_ROWS].bytes,
        .bytes_keys = sections[IMAGE_KEYS].bytes,
        .bytes_presence = sections[IMAGE_PRESENCE].bytes,
        .bytes_buckets = sections[IMAGE_BUCKETS].bytes,
        .bytes_overflow = sections[IMAGE_OVERFLOW].bytes,
        .bytes_directory = sections[IMAGE_DIRECTORY].bytes + sections[IMAGE_PAGES].bytes,
        .bytes_checksums = sections[IMAGE_CHECKSUMS].bytes,
    };
}
