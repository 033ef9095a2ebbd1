/* direct.c: see direct.h for the drawing and D1-D4. */
#include "direct.h"

#include <stdio.h>
#include <string.h>

/* Entries of the first ring, and of the largest that is a plain block and doubles by copying (64 KiB, 2 us). A larger
 * one is reserved for good: 2^28 entries are 1 GiB of addresses, touched page by page. */
#define RING_FIRST 64
#define RING_PLAIN_MOST (16u << 10)
#define RING_RESERVED_MOST ((uint64_t)1 << 28)
/* Ring entries in a small page of memory: what is given back at a time. */
#define RING_PAGE_ENTRIES (PAGE_BYTES / sizeof(uint32_t))
/* Pages that the directory may span: so many fewer than there are entries that its two ends never share a small page of
 * memory, which goes back whole when one of them has left it. */
#define RING_SPAN_MOST (RING_RESERVED_MOST - RING_PAGE_ENTRIES)

void direct_begin(direct *index, size_t row_bytes, uint64_t row_count_max)
{
    memset(index, 0, sizeof *index);
    while (index->page_log2 < DIRECT_PAGE_LOG2_MAX && (row_bytes << (index->page_log2 + 1)) <= DIRECT_PAGE_BYTES)
        index->page_log2++;
    segments_begin(&index->page_of, sizeof(uint64_t), (row_count_max >> index->page_log2) + 1, true);
}

static void release_ring(direct *index, alloc *memory)
{
    if (index->ring == NULL || index->ring_borrowed)
        return;
    uint64_t entries = index->ring_mask + 1;
    if (index->ring_reserved)
        alloc_unreserve(index->ring, entries * sizeof *index->ring);
    else
        alloc_release(memory, index->ring, entries, sizeof *index->ring);
}

uint64_t direct_image_entries(uint64_t page_span)
{
    uint64_t entries = RING_FIRST;
    while (entries < page_span)
        entries *= 2;
    return entries;
}

bool direct_may_span(uint64_t page_span)
{
    return page_span <= RING_SPAN_MOST;
}

void direct_borrow(direct *index, uint32_t *ring, uint64_t *pages, uint64_t page_low, uint64_t page_span,
                   uint64_t page_count)
{
    CHECK(index->id_count == 0 && index->ring == NULL);
    if (page_count == 0)
        return;
    segments_borrow(&index->page_of, pages, page_count);
    index->ring = ring;
    index->ring_mask = direct_image_entries(page_span) - 1;
    index->ring_borrowed = true;
    index->page_low = page_low;
    index->page_span = page_span;
    index->page_count = index->id_count = page_count;
}

void direct_end(direct *index, alloc *memory)
{
    release_ring(index, memory);
    segments_end(&index->page_of, memory);
    *index = (direct){.page_log2 = index->page_log2, .page_of = index->page_of};
}

static uint64_t *page_of(const direct *index, uint64_t id)
{
    return segments_at(&index->page_of, id);
}

/* Free ids link to others by `next id + 1`; an id is in use if the directory says so at its page. */
bool direct_page_used(const direct *index, uint64_t id)
{
    if (id >= index->id_count)
        return false;
    uint64_t page = *page_of(index, id);
    return page - index->page_low < index->page_span && index->ring[page & index->ring_mask] == id + 1;
}

/* ---- Size ------------------------------------------------------------------------------------------------------- */

static uint64_t page_bytes(const direct *index, const iam_rows *rows)
{
    uint64_t page_rows = (uint64_t)1 << index->page_log2;
    return page_rows * rows->row_bytes + page_rows / 8 + sizeof(uint64_t);
}

uint64_t direct_bytes_of(const direct *index, const iam_rows *rows, uint64_t page_count, uint64_t page_span)
{
    uint64_t bytes;
    if (page_span > RING_SPAN_MOST || __builtin_mul_overflow(page_count, page_bytes(index, rows), &bytes))
        return UINT64_MAX;
    return bytes + page_span * sizeof(uint32_t);
}

static void span_with(const direct *index, uint64_t page, uint64_t *low_out, uint64_t *span_out)
{
    uint64_t low = index->page_low, last = low + index->page_span - 1;
    if (index->page_span == 0)
        low = last = page;
    *low_out = page < low ? page : low;
    *span_out = (page > last ? page : last) - *low_out + 1;
    if (*span_out == 0)
        *span_out = UINT64_MAX; /* all 2^64 pages */
}

uint64_t direct_bytes_with(const direct *index, const iam_rows *rows, int64_t key)
{
    uint64_t low, span;
    span_with(index, direct_place(key) >> index->page_log2, &low, &span);
    return direct_bytes_of(index, rows, index->page_count + 1, span);
}

uint64_t direct_bytes_for(const direct *index, const iam_rows *rows, const int64_t *keys, size_t count,
                          uint64_t *page_count_out)
{
    alloc scratch;
    alloc_begin(&scratch, &(iam_options){.allocator = rows->memory.given});
    /* A directory of more than 64 pages a key cannot pay; nor can one that no ring could hold. Scattered keys show it
     * soon. */
    uint64_t span_most = (uint64_t)count * 64 + 64 < RING_SPAN_MOST ? (uint64_t)count * 64 + 64 : RING_SPAN_MOST;
    int64_t least = INT64_MAX, most = INT64_MIN;
    uint64_t low = 0, span = 0;
    for (size_t i = 0; i < count;) {
        for (size_t end = count - i < 1024 ? count : i + 1024; i < end; i++) {
            int64_t key = keys[i];
            least = key < least ? key : least;
            most = key > most ? key : most;
        }
        low = direct_place(least) >> index->page_log2;
        span = (direct_place(most) >> index->page_log2) - low + 1;
        if (span == 0 || span > span_most)
            return UINT64_MAX;
    }
    uint64_t word_count = (span + 63) / 64;
    uint64_t *touched = alloc_block(&scratch, word_count, sizeof *touched, true);
    if (touched == NULL)
        return UINT64_MAX;
    uint64_t page_count = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t page = (direct_place(keys[i]) >> index->page_log2) - low;
        if (page < span) /* another thread may be writing to keys */
            touched[page >> 6] |= (uint64_t)1 << (page & 63);
    }
    for (uint64_t word = 0; word < word_count; word++)
        page_count += (uint64_t)__builtin_popcountll(touched[word]);
    alloc_release(&scratch, touched, word_count, sizeof *touched);
    *page_count_out = page_count;
    return direct_bytes_of(index, rows, page_count, span);
}

uint64_t direct_directory_bytes(const direct *index)
{
    uint64_t ring_bytes =
        index->ring_reserved
            ? (index->page_span * sizeof(uint32_t) + 2 * PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1)
            : (index->ring == NULL || index->ring_borrowed ? 0 : (index->ring_mask + 1) * sizeof(uint32_t));
    return ring_bytes + segments_bytes(&index->page_of);
}

/* ---- The directory ---------------------------------------------------------------------------------------------- */

static bool grow_ring(direct *index, alloc *memory, uint64_t span)
{
    if (index->ring != NULL && span <= index->ring_mask + 1)
        return true;
    if (index->ring_reserved)
        return false;
    uint64_t entries = RING_FIRST;
    while (entries < span)
        entries *= 2;
    bool reserved = false;
    uint32_t *ring = NULL;
    if (entries > RING_PLAIN_MOST) {
        ring = alloc_reserve(memory, RING_RESERVED_MOST * sizeof *ring);
        reserved = ring != NULL;
    }
    if (reserved)
        entries = RING_RESERVED_MOST;
    else
        ring = alloc_block(memory, entries, sizeof *ring, true);
    if (ring == NULL)
        return false;
    for (uint64_t page = index->page_low; page - index->page_low < index->page_span; page++)
        ring[page & (entries - 1)] = index->ring[page & index->ring_mask];
    release_ring(index, memory);
    index->ring = ring;
    index->ring_mask = entries - 1;
    index->ring_borrowed = false;
    index->ring_reserved = reserved;
    return true;
}

bool direct_reserve(direct *index, iam_rows *rows, uint64_t page_count)
{
    return segments_reserve(&index->page_of, &rows->memory, page_count, SEGMENTS_EXACT) &&
           (page_count > RING_SPAN_MOST || grow_ring(index, &rows->memory, page_count));
}

bool direct_has_room(const direct *index, int64_t key, uint64_t page_count)
{
    uint64_t low, span;
    span_with(index, direct_place(key) >> index->page_log2, &low, &span);
    return index->ring != NULL && span <= index->ring_mask + 1 && (index->id_free != 0 || index->id_count < page_count);
}

iam_status direct_add_page(direct *index, iam_rows *rows, int64_t key, segments_how how)
{
    uint64_t page = direct_place(key) >> index->page_log2;
    uint64_t page_rows = (uint64_t)1 << index->page_log2;
    uint64_t low, span;
    span_with(index, page, &low, &span);
    if (span > RING_SPAN_MOST)
        return IAM_NO_MEMORY;
    bool fresh = index->id_free == 0;
    uint64_t id = fresh ? index->id_count : index->id_free - 1;
    if (fresh) {
        if ((id + 1) << index->page_log2 > IAM_ROWS_MAX)
            return IAM_TOO_MANY_ROWS;
        CHECK(rows->used_count == id << index->page_log2);
        if (!segments_reserve(&index->page_of, &rows->memory, id + 1, how) ||
            !rows_reserve(rows, (id + 1) << index->page_log2, false, how))
            return IAM_NO_MEMORY;
    }
    if (!grow_ring(index, &rows->memory, span))
        return IAM_NO_MEMORY;
    if (fresh) {
        index->id_count++;
        rows_take_run(rows, page_rows);
        if (id == 0)
            index->linear = true;
        if (id == 0)
            index->linear_base = page << index->page_log2;
        else if (page << index->page_log2 != index->linear_base + (id << index->page_log2))
            index->linear = false;
    } else {
        index->id_free = *page_of(index, id);
        index->linear = false;
        uint64_t again = page_rows * rows->row_bytes;
        rows->given_back_bytes -= rows->given_back_bytes < again ? rows->given_back_bytes : again;
    }
    index->page_low = low;
    index->page_span = span;
    index->ring[page & index->ring_mask] = (uint32_t)(id + 1);
    *page_of(index, id) = page;
    index->page_count++;
    return IAM_OK;
}

static bool page_empty(const direct *index, const iam_rows *rows, uint64_t first)
{
    uint64_t page_rows = (uint64_t)1 << index->page_log2;
    if (page_rows >= 64) {
        for (uint64_t number = first; number < first + page_rows; number += 64)
            if (*rows_word(rows, number) != 0)
                return false;
        return true;
    }
    uint64_t bits = *rows_word(rows, first) >> (first & 63);
    return (bits & (((uint64_t)1 << page_rows) - 1)) == 0;
}

/* The ring page that the directory's end has just left goes back, so that a window sliding for ever stays small. */
static void leave_ring_page(direct *index, uint64_t page)
{
    if (index->ring_reserved) {
        uint32_t *start = index->ring + ((page & index->ring_mask) & ~(uint64_t)(RING_PAGE_ENTRIES - 1));
        alloc_give_back((char *)start, (char *)(start + RING_PAGE_ENTRIES));
    }
}

/* The directory's ends move over up to 64 pages that are no more: with every page that goes and at every write, so that
 * they never fall behind. */
static void trim(direct *index)
{
    for (int step = 0; step < 64 && index->page_span > 0; step++) {
        uint64_t last = index->page_low + index->page_span - 1;
        if (index->ring[index->page_low & index->ring_mask] == 0) {
            uint64_t left = index->page_low++;
            index->page_span--;
            if (index->page_low % RING_PAGE_ENTRIES == 0)
                leave_ring_page(index, left);
        } else if (index->ring[last & index->ring_mask] == 0) {
            index->page_span--;
            if (last % RING_PAGE_ENTRIES == 0)
                leave_ring_page(index, last);
        } else {
            return;
        }
    }
}

static void free_id(direct *index, iam_rows *rows, uint64_t id)
{
    uint64_t first = id << index->page_log2;
    rows->given_back_bytes += segments_give_back(&rows->row_store, first, first + ((uint64_t)1 << index->page_log2));
    *page_of(index, id) = index->id_free;
    index->id_free = id + 1;
}

void direct_row_freed(direct *index, iam_rows *rows, uint32_t number)
{
    uint64_t id = number >> index->page_log2;
    uint64_t first = id << index->page_log2;
    uint64_t page_rows = (uint64_t)1 << index->page_log2;
    if (LIKELY(!page_empty(index, rows, first)) || !direct_page_used(index, id) ||
        rows_any_held(rows, first, first + page_rows))
        return;
    uint64_t page = *page_of(index, id);
    index->ring[page & index->ring_mask] = 0;
    index->linear = false;
    if (atomic_load_explicit(&rows->block_holds, memory_order_acquire) > 0) {
        *page_of(index, id) = index->id_deferred;
        index->id_deferred = id + 1;
    } else {
        free_id(index, rows, id);
    }
    if (--index->page_count > 0) {
        trim(index);
        return;
    }
    index->page_span = 0;
    if (index->ring_reserved)
        alloc_give_back((char *)index->ring, (char *)(index->ring + index->ring_mask + 1));
}

void direct_tidy(direct *index, iam_rows *rows, uint64_t page_count)
{
    if (UNLIKELY(index->id_deferred != 0) && atomic_load_explicit(&rows->block_holds, memory_order_acquire) == 0)
        for (; page_count > 0 && index->id_deferred != 0; page_count--) {
            uint64_t id = index->id_deferred - 1;
            index->id_deferred = *page_of(index, id);
            free_id(index, rows, id);
        }
    trim(index);
}

/* ---- Validation -------------------------------------------------------------------------------------------------- */

/* Of a reserved ring only the small pages of memory are looked at in which the span begins and ends: they are there.
 * Reading all of it would take a quarter of a second and hundreds of MB of page tables, and what is read becomes
 * present, though it was given back a moment ago. */
static bool outside_is_zero(const direct *index)
{
    if (index->ring == NULL)
        return true;
    uint64_t end = index->page_low + index->page_span, outside = index->ring_mask + 1 - index->page_span;
    uint64_t above = outside, below = 0;
    if (index->ring_reserved) {
        uint64_t to_border = -end & (RING_PAGE_ENTRIES - 1);
        above = to_border < outside ? to_border : outside;
        below = index->page_low & (RING_PAGE_ENTRIES - 1);
        below = below < outside ? below : outside;
    }
    for (uint64_t step = 0; step < above; step++)
        if (index->ring[(end + step) & index->ring_mask] != 0)
            return false;
    for (uint64_t step = 1; step <= below; step++)
        if (index->ring[(index->page_low - step) & index->ring_mask] != 0)
            return false;
    return true;
}

/* Ids in a list linked through page_of; more than there are ids where it goes round in circles. */
static uint64_t listed_ids(const direct *index, uint64_t head)
{
    uint64_t count = 0;
    while (head != 0 && head <= index->id_count && count <= index->id_count) {
        head = *page_of(index, head - 1);
        count++;
    }
    return head == 0 ? count : UINT64_MAX / 4;
}

bool direct_validate(const direct *index, const iam_rows *rows, uint64_t passed, char *reason, size_t bytes)
{
    uint64_t pages = 0, ids = 0;
    if (!segments_validate(&index->page_of, "page ids", reason, bytes))
        return false;
    if (!outside_is_zero(index)) {
        snprintf(reason, bytes, "D4: the directory has an entry beyond its %llu pages from %llu on",
                 (unsigned long long)index->page_span, (unsigned long long)index->page_low);
        return false;
    }
    for (uint64_t page = index->page_low; page - index->page_low < index->page_span; page++) {
        uint32_t entry = index->ring[page & index->ring_mask];
        if (entry == 0)
            continue;
        pages++;
        if (entry > index->id_count || *page_of(index, entry - 1) != page) {
            snprintf(reason, bytes, "D1: the directory says page %llu has id %u, which belongs to another page",
                     (unsigned long long)page, entry - 1);
            return false;
        }
    }
    for (uint64_t id = 0; id < index->id_count; id++) {
        uint64_t page_rows = (uint64_t)1 << index->page_log2;
        bool used = direct_page_used(index, id);
        ids += used;
        uint64_t first = id << index->page_log2;
        if (!used && rows_first(rows, first < passed ? passed : first) < first + page_rows) {
            snprintf(reason, bytes, "D2: page id %llu is free and has a row present", (unsigned long long)id);
            return false;
        }
        if (index->linear &&
            (!used || *page_of(index, id) << index->page_log2 != index->linear_base + id * page_rows)) {
            snprintf(reason, bytes, "D3: page id %llu is out of line", (unsigned long long)id);
            return false;
        }
    }
    uint64_t listed = listed_ids(index, index->id_free) + listed_ids(index, index->id_deferred);
    if (pages != index->page_count || ids != pages || ids + listed != index->id_count) {
        snprintf(reason, bytes, "D1: %llu pages in the directory, %llu counted; %llu ids in use and %llu free of %llu",
                 (unsigned long long)pages, (unsigned long long)index->page_count, (unsigned long long)ids,
                 (unsigned long long)listed, (unsigned long long)index->id_count);
        return false;
    }
    return true;
}
