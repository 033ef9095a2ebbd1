/* image.h: the map as bytes in a file, version 1. Floor 4: image.c reads, image_save.c writes. docs/format.md tells the
 * same in words, for those who write a reader in another language.
 *
 *   byte 0      4096
 *        |header|rows ....|keys ....|presence|buckets|overflow|directory|pages|checksums|
 *               |======== blocks of 64 KiB, one checksum each ==================|
 *
 * Every section begins at a multiple of 4096 and what lies between them is zero. Where a section lies follows from the
 * counts in the header; the header says it all the same, and both must agree: so no two sections overlap and none is
 * missing. All numbers are little-endian.
 *
 * Rows are those of a map without holes: row i is that of key i (hash), or pages in order of their ids (direct). The
 * index is one that the code of a live map can read as it lies:
 *  - hash: buckets as in bucket.h, row numbers below row_count, keyed by a seed of the image's own. The overflow
 * buckets of a chain lie side by side, so links only go forward, by one.
 *  - direct: the directory's ring as in direct.h, with direct_image_entries entries, and the page of every id.
 */
#ifndef IAM_IMAGE_H
#define IAM_IMAGE_H

#include "map.h"

#include <stddef.h>

#define IMAGE_VERSION 1u
#define IMAGE_BYTE_ORDER 0x0a0b0c0du
#define IMAGE_HEADER_BYTES 4096
#define IMAGE_SECTION_ALIGN 4096
#define IMAGE_BLOCK_BYTES (64u << 10)
/* Overflow buckets in a chain: at the fullest, home buckets have 13 keys on average, and more than 8 + 16 * 8 come by
 * chance never (Poisson: 1e-88). An index that has more is built anew with another seed. */
#define IMAGE_CHAIN_MOST 16

typedef enum image_part {
    IMAGE_ROWS,
    IMAGE_KEYS,
    IMAGE_PRESENCE,
    IMAGE_BUCKETS,
    IMAGE_OVERFLOW,
    IMAGE_DIRECTORY,
    IMAGE_PAGES,
    IMAGE_CHECKSUMS,
    IMAGE_PART_COUNT
} image_part;

typedef struct image_section {
    uint64_t offset, bytes;
} image_section;

typedef struct image_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t file_bytes;
    uint64_t key_count;
    uint64_t row_count; /* row numbers: key_count with the hash index, pages << page_log2 with the direct one */
    uint64_t row_bytes;
    uint32_t kind;        /* iam_kind */
    uint32_t index;       /* iam_index: HASH or DIRECT */
    uint32_t index_asked; /* iam_index */
    uint32_t axis_count;
    uint64_t time_multiple;
    char time_unit[8];
    uint64_t seed; /* hash index, and 0 otherwise */
    uint64_t bucket_count;
    uint64_t overflow_count;
    uint64_t page_log2; /* direct index, and 0 otherwise */
    uint64_t page_low;
    uint64_t page_span;
    uint64_t page_count;
    uint64_t linear;
    image_section sections[IMAGE_PART_COUNT];
    uint64_t axes[IAM_IMAGE_AXES];
    uint8_t zeros[IMAGE_HEADER_BYTES - 792];
    uint64_t checksum; /* of all bytes before it */
} image_header;

static_assert(sizeof(image_header) == IMAGE_HEADER_BYTES, "as docs/format.md says");
static_assert(offsetof(image_header, kind) == 48 && offsetof(image_header, time_unit) == 72, "likewise");
static_assert(offsetof(image_header, seed) == 80 && offsetof(image_header, sections) == 144, "likewise");
static_assert(offsetof(image_header, axes) == 272 && offsetof(image_header, zeros) == 784, "likewise");
static_assert(offsetof(image_header, checksum) == IMAGE_HEADER_BYTES - 8, "likewise");

extern const uint8_t image_magic[8];

/* Of `bytes` bytes, a multiple of 8. A change of a single word always changes it. */
uint64_t image_checksum(const void *start, uint64_t bytes, uint64_t seed);
uint64_t image_header_checksum(const image_header *header);
/* Of block `block` of an image whose header has this checksum: blocks cannot change places, nor come from another
 * image. */
uint64_t image_block_checksum(const void *start, uint64_t bytes, uint64_t header_checksum, uint64_t block);
/* Writes sections and file_bytes from the counts, which are within their limits. */
void image_lay_out(image_header *header);
/* Blocks between the header and the checksums. */
uint64_t image_block_count(const image_header *header);

#endif
