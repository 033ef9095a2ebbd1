/* direct.h: the direct index: key -> row number by arithmetic. Floor 2. Never meets the hash index: only map.c knows
 * both.
 *
 *   place = key with its sign bit flipped (so that order is unsigned order)
 *   page  = place >> page_log2             offset = place & (2^page_log2 - 1)
 *
 *   directory (a ring): page & ring_mask -> page id + 1, 0 = no such page
 *       . . 0 0 [page_low ..... page_low + page_span) 0 0 . .
 *   row number = (page id << page_log2) | offset           present? ask the presence bit of the row
 *
 * The ring grows at either end and slides without copying: a window that moves through all keys only walks around it.
 * While pages came one after the other (`linear`), row = place - linear_base and the directory is not even read: the
 * plain range. A page whose last key and view are gone is given back and its row numbers are used for the next new
 * page.
 *
 * D1: every page id in use stands once in the directory, at its page; the others are in the list of free ids or of
 * deferred ones.
 * D2: presence bits lie in pages in use only, and in rows that leaving has passed: those are the hash index's.
 * D3: linear: page of id i = linear_page + i, for all ids.
 * D4: directory entries outside [page_low, +page_span) are 0.
 */
#ifndef IAM_DIRECT_H
#define IAM_DIRECT_H

#include "rows.h"

typedef struct direct {
    uint32_t *ring;
    uint64_t ring_mask; /* entries - 1 */
    bool ring_reserved; /* the ring is a reserved range, as large as it can ever be */
    uint32_t page_log2; /* rows in a page */
    bool linear;
    uint64_t linear_base; /* place of row 0, while linear */
    uint64_t page_low;    /* lowest page in the directory */
    uint64_t page_span;   /* pages from there to the highest; 0 = empty */
    uint64_t page_count;  /* pages in use */
    uint64_t id_count;    /* page ids ever used */
    uint64_t id_free;     /* head of the free page ids + 1, linked through page_of; 0 = none */
    segments page_of;     /* id -> page; of free ids the next free id + 1 */
    uint64_t id_deferred; /* head of the ids + 1 of pages that went while a block was held, linked likewise */
} direct;

/* Bytes of rows in a page: small enough that a tiny map is small, large enough that the directory of 1e7 rows of 64
 * bytes (312 KB) stays in the second cache. */
#define DIRECT_PAGE_BYTES 8192
#define DIRECT_PAGE_LOG2_MAX 12

void direct_begin(direct *index, size_t row_bytes, uint64_t row_count_max);
void direct_end(direct *index, alloc *memory);

static inline uint64_t direct_place(int64_t key)
{
    return (uint64_t)key ^ ((uint64_t)1 << 63);
}

/* Row number of `key`'s place, present or not, or IAM_ROW_NONE where its page does not exist. */
static inline uint32_t direct_number(const direct *index, int64_t key)
{
    uint64_t place = direct_place(key);
    if (LIKELY(index->linear)) {
        uint64_t number = place - index->linear_base;
        return number < index->id_count << index->page_log2 ? (uint32_t)number : IAM_ROW_NONE;
    }
    uint64_t page = place >> index->page_log2;
    if (page - index->page_low >= index->page_span)
        return IAM_ROW_NONE;
    uint32_t entry = index->ring[page & index->ring_mask];
    if (entry == 0)
        return IAM_ROW_NONE;
    return (uint32_t)((uint64_t)(entry - 1) << index->page_log2 | (place & (((uint64_t)1 << index->page_log2) - 1)));
}

static inline uint32_t direct_find(const direct *index, const iam_rows *rows, int64_t key)
{
    uint32_t number = direct_number(index, key);
    return number != IAM_ROW_NONE && rows_present(rows, number) ? number : IAM_ROW_NONE;
}

/* The key whose place row `number` is; its page must be in use. */
static inline int64_t direct_key(const direct *index, uint32_t number)
{
    uint64_t page = *(uint64_t *)segments_at(&index->page_of, number >> index->page_log2);
    uint64_t place = page << index->page_log2 | (number & (((uint64_t)1 << index->page_log2) - 1));
    return (int64_t)(place ^ ((uint64_t)1 << 63));
}

/* Whether page id `id` is in use. */
bool direct_page_used(const direct *index, uint64_t id);
/* Memory the direct index takes with the page of `key` added, in bytes (UINT64_MAX: no directory could span it). */
uint64_t direct_bytes_with(const direct *index, const iam_rows *rows, int64_t key);
/* Memory an empty index would take for these keys, judged as a whole: pages that they touch, and a directory over them.
 * Memory may be asked for and is given back. UINT64_MAX: too sparse to tell, or no memory to tell. */
uint64_t direct_bytes_for(const direct *index, const iam_rows *rows, const int64_t *keys, size_t count,
                          uint64_t *page_count_out);
/* Whether the page of `key` can be made within what direct_reserve made for `page_count` pages. */
bool direct_has_room(const direct *index, int64_t key, uint64_t page_count);
/* Makes the page of `key`: IAM_OK, IAM_NO_MEMORY, IAM_TOO_MANY_ROWS. Nothing is changed otherwise. */
iam_status direct_add_page(direct *index, iam_rows *rows, int64_t key, segments_how how);
/* Room for directory and page table of `page_count` pages side by side. */
bool direct_reserve(direct *index, iam_rows *rows, uint64_t page_count);
/* After a row of it went: gives the page of row `number` back if it is empty and nobody holds a row of it. */
void direct_row_freed(direct *index, iam_rows *rows, uint32_t number);
/* A step of tidying: the directory's ends move over up to 64 pages that are no more, and up to `page_count` pages that
 * went while a block was held are given back once none is. */
void direct_tidy(direct *index, iam_rows *rows, uint64_t page_count);
uint64_t direct_directory_bytes(const direct *index);
/* Rows below `passed` belong to the hash index. */
bool direct_validate(const direct *index, const iam_rows *rows, uint64_t passed, char *reason_out, size_t reason_bytes);

#endif
