/* rows.c: see rows.h for the drawing, the states of a row and R1-R3. */
#include "rows.h"

#include <stdio.h>
#include <string.h>

iam_rows *rows_create(const iam_options *options, size_t row_bytes, uint64_t row_count_max)
{
    alloc memory;
    alloc_begin(&memory, options);
    iam_rows *rows = alloc_block(&memory, 1, sizeof *rows, true);
    if (rows == NULL)
        return NULL;
    rows->memory = memory;
    atomic_init(&rows->refs, 1);
    atomic_init(&rows->returned, IAM_ROW_NONE);
    rows->row_bytes = row_bytes;
    rows->serial_views = options->serial_views;
    rows->free_head = rows->drained = rows->deferred_head = rows->deferred_tail = IAM_ROW_NONE;
    segments_begin(&rows->row_store, row_bytes, row_count_max, false);
    segments_begin(&rows->key_store, sizeof(int64_t), row_count_max, false);
    segments_begin(&rows->presence_store, sizeof(uint64_t), (row_count_max >> 6) + 1, true);
    segments_begin(&rows->hold_store, sizeof(hold *), (row_count_max >> HOLD_CHUNK_LOG2) + 1, true);
    return rows;
}

static hold *chunk_at(const iam_rows *rows, uint64_t chunk_index)
{
    hold *_Atomic *place = segments_at(&rows->hold_store, chunk_index);
    return atomic_load_explicit(place, memory_order_acquire);
}

static uint64_t chunk_count(const iam_rows *rows)
{
    uint64_t chunks = (rows->used_count + HOLD_CHUNK_ROWS - 1) >> HOLD_CHUNK_LOG2;
    return chunks < rows->hold_store.item_count ? chunks : rows->hold_store.item_count;
}

static void destroy(iam_rows *rows)
{
    for (uint64_t chunk = 0; chunk < chunk_count(rows); chunk++)
        alloc_release(&rows->memory, chunk_at(rows, chunk), HOLD_CHUNK_ROWS, sizeof(hold));
    segments_end(&rows->hold_store, &rows->memory);
    segments_end(&rows->presence_store, &rows->memory);
    segments_end(&rows->key_store, &rows->memory);
    segments_end(&rows->row_store, &rows->memory);
    if (rows->mapping.release != NULL)
        rows->mapping.release(rows->mapping.state, rows->mapping.bytes, rows->mapping.byte_count);
    alloc memory = rows->memory;
    alloc_release(&memory, rows, 1, sizeof *rows);
}

void rows_release(iam_rows *rows)
{
    if (atomic_fetch_sub_explicit(&rows->refs, 1, memory_order_acq_rel) == 1)
        destroy(rows);
}

/* ---- Poison ----------------------------------------------------------------------------------------------------- */

#if POISON_BITES

/* Whether free rows are shown: a mapped image has them as they are in the file, a block as they are in memory. */
static bool shows_free_rows(const iam_rows *rows)
{
    return rows->row_store.borrowed_count > 0 || atomic_load_explicit(&rows->block_holds, memory_order_acquire) > 0;
}

static void lay_row(iam_rows *rows, uint64_t number)
{
    if (!shows_free_rows(rows))
        poison_lay(rows_at(rows, number), rows->row_bytes);
}

typedef void poison_call(const void *start, size_t bytes);

static void for_run(iam_rows *rows, uint64_t begin, uint64_t end, poison_call *call)
{
    for (uint64_t run_end; begin < end; begin = run_end) {
        run_end = segments_run_end(&rows->row_store, begin);
        run_end = run_end < end ? run_end : end;
        call(rows_at(rows, begin), (run_end - begin) * rows->row_bytes);
    }
}

void rows_lift_run(iam_rows *rows, uint64_t begin, uint64_t end)
{
    for_run(rows, begin, end, poison_lift);
}

void rows_lay_run(iam_rows *rows, uint64_t begin, uint64_t end)
{
    if (shows_free_rows(rows))
        return;
    for (; begin < end && begin < rows->used_count; begin++)
        if (!rows_present(rows, begin) && !rows_any_held(rows, begin, begin + 1))
            lay_row(rows, begin);
    for_run(rows, begin, end, poison_lay);
}

void rows_lift_for_block(iam_rows *rows)
{
    atomic_store_explicit(&rows->shows_all, true, memory_order_relaxed);
    rows_lift_run(rows, 0, rows->used_count);
}

/* The map has gone: what a view holds may be looked at and nothing else. */
static void lay_all_but_held(iam_rows *rows)
{
    for (uint64_t number = 0; number < rows->used_count; number++) {
        const hold *holds = rows_hold(rows, number);
        if (holds == NULL || (atomic_load_explicit(&holds->state, memory_order_acquire) & HOLD_VIEWS) == 0)
            lay_row(rows, number);
    }
}

static void lay_after_blocks(iam_rows *rows)
{
    if (atomic_load_explicit(&rows->shows_all, memory_order_relaxed) && !shows_free_rows(rows)) {
        atomic_store_explicit(&rows->shows_all, false, memory_order_relaxed);
        rows_lay_run(rows, 0, rows->row_store.item_count);
    }
}

#endif

void rows_abandon(iam_rows *rows)
{
    /* With blocks alive anything may be looked at. Views can only go from here on, none can come. */
    if (atomic_load(&rows->refs) > 1 && atomic_load(&rows->block_holds) == 0) {
        uint64_t begin = 0;
        for (uint64_t chunk = 0; chunk < chunk_count(rows); chunk++) {
            const hold *holds = chunk_at(rows, chunk);
            for (uint64_t i = 0; holds != NULL && i < HOLD_CHUNK_ROWS; i++) {
                if ((atomic_load_explicit(&holds[i].state, memory_order_acquire) & HOLD_VIEWS) == 0)
                    continue;
                uint64_t number = (chunk << HOLD_CHUNK_LOG2) + i;
                segments_give_back(&rows->row_store, begin, number);
                begin = number + 1;
            }
        }
        segments_give_back(&rows->row_store, begin, rows->used_count);
        POISON(lay_all_but_held(rows));
    }
    rows_release(rows);
}

/* ---- Room ------------------------------------------------------------------------------------------------------- */

static uint64_t insert_limit(const iam_rows *rows)
{
    uint64_t limit = IAM_ROWS_MAX;
    uint64_t counts[] = {rows->row_store.item_count, rows->key_store.item_count, rows->presence_store.item_count << 6,
                         rows->hold_store.item_count << HOLD_CHUNK_LOG2};
    for (int array = 0; array < 4; array++)
        limit = counts[array] < limit ? counts[array] : limit;
    return limit;
}

bool rows_reserve(iam_rows *rows, uint64_t row_count, bool with_keys, segments_how how)
{
    alloc *memory = &rows->memory;
    uint64_t old_count = rows->row_store.item_count;
    bool room = segments_reserve(&rows->row_store, memory, row_count, how) &&
                segments_reserve(&rows->presence_store, memory, (row_count + 63) >> 6, how) &&
                segments_reserve(&rows->hold_store, memory, (row_count + HOLD_CHUNK_ROWS - 1) >> HOLD_CHUNK_LOG2,
                                 how == SEGMENTS_AHEAD ? how : SEGMENTS_EXACT) &&
                (!with_keys || segments_reserve(&rows->key_store, memory, row_count, how));
    rows->insert_limit = insert_limit(rows);
    (void)old_count;
    POISON(rows_lay_run(rows, old_count, rows->row_store.item_count));
    return room;
}

uint64_t rows_take_run(iam_rows *rows, uint64_t row_count)
{
    uint64_t first = rows->used_count;
    rows->used_count += row_count;
    CHECK(rows->used_count <= rows->row_store.item_count);
    return first;
}

void rows_take_all(iam_rows *rows, uint64_t row_count)
{
    CHECK(rows->used_count == 0 && row_count <= rows->insert_limit);
    for (uint64_t number = 0; number + 64 <= row_count; number += 64)
        *rows_word(rows, number) = UINT64_MAX;
    if (row_count % 64 != 0)
        *rows_word(rows, row_count - 1) = ((uint64_t)1 << (row_count % 64)) - 1;
    rows->used_count = rows->live_count = rows->last_bound = row_count;
    POISON(rows_lift_run(rows, 0, row_count));
}

void rows_mark(iam_rows *rows, uint32_t number)
{
    CHECK(!rows_present(rows, number));
    POISON(poison_lift(rows_at(rows, number), rows->row_bytes));
    *rows_word(rows, number) |= (uint64_t)1 << (number & 63);
    rows->live_count++;
    if (number >= rows->last_bound)
        rows->last_bound = (uint64_t)number + 1;
    hold *holds = rows_hold(rows, number);
    if (UNLIKELY(holds != NULL)) {
        /* A direct row that comes back while a view holds it. */
        uint32_t before = atomic_fetch_and_explicit(&holds->state, ~HOLD_DEAD, memory_order_acq_rel);
        if ((before & HOLD_DEAD) && (before & HOLD_VIEWS))
            atomic_fetch_sub_explicit(&rows->held_count, 1, memory_order_relaxed);
    }
}

iam_status rows_reserve_next(iam_rows *rows)
{
    if (rows->used_count >= IAM_ROWS_MAX)
        return IAM_TOO_MANY_ROWS;
    return rows_reserve(rows, rows->used_count + 1, true, SEGMENTS_AHEAD) ? IAM_OK : IAM_NO_MEMORY;
}

/* ---- Letting go ------------------------------------------------------------------------------------------------- */

/* Presence words that the bound goes down over with each row that goes: it catches up with any pattern of deletes, and
 * the last row is found without a long walk. */
#define BOUND_WORDS_PER_ROW 64

static void lower_bound(iam_rows *rows, uint64_t number)
{
    uint64_t bound = rows->last_bound;
    if (number + 1 == bound)
        bound--;
    for (int step = 0; step < BOUND_WORDS_PER_ROW && bound > 0 && *rows_word(rows, bound - 1) == 0; step++)
        bound = (bound - 1) & ~(uint64_t)63;
    rows->last_bound = bound;
}

bool rows_unmark(iam_rows *rows, uint32_t number)
{
    CHECK(rows_present(rows, number));
    *rows_word(rows, number) &= ~((uint64_t)1 << (number & 63));
    rows->live_count--;
    lower_bound(rows, number);
    hold *holds = rows_hold(rows, number);
    if (LIKELY(holds == NULL)) {
        POISON(lay_row(rows, number));
        return true;
    }
    /* Nobody can take a view of an absent row, so a count of zero stays zero: no DEAD is needed then. */
    uint32_t before = atomic_fetch_or_explicit(&holds->state, HOLD_DEAD, memory_order_acq_rel);
    if (before & HOLD_VIEWS) {
        atomic_fetch_add_explicit(&rows->held_count, 1, memory_order_relaxed);
        return false;
    }
    if (before & HOLD_QUEUED)
        return false;
    atomic_fetch_and_explicit(&holds->state, ~HOLD_DEAD, memory_order_acq_rel);
    POISON(lay_row(rows, number));
    return true;
}

void rows_make_free(iam_rows *rows, uint32_t number)
{
    CHECK(!rows_present(rows, number));
    rows->free_count++;
    if (UNLIKELY(atomic_load_explicit(&rows->block_holds, memory_order_acquire) > 0)) {
        *rows_key(rows, number) = IAM_ROW_NONE;
        if (rows->deferred_head == IAM_ROW_NONE)
            rows->deferred_head = number;
        else
            *rows_key(rows, rows->deferred_tail) = number;
        rows->deferred_tail = number;
        return;
    }
    *rows_key(rows, number) = rows->free_head;
    rows->free_head = number;
}

void rows_settle(iam_rows *rows)
{
    POISON(lay_after_blocks(rows));
    if (rows->deferred_head == IAM_ROW_NONE || atomic_load_explicit(&rows->block_holds, memory_order_acquire) > 0)
        return;
    *rows_key(rows, rows->deferred_tail) = rows->free_head;
    rows->free_head = rows->deferred_head;
    rows->deferred_head = rows->deferred_tail = IAM_ROW_NONE;
}

uint32_t rows_drain(iam_rows *rows)
{
    if (rows->drained == IAM_ROW_NONE) {
        if (LIKELY(atomic_load_explicit(&rows->returned, memory_order_relaxed) == IAM_ROW_NONE))
            return IAM_ROW_NONE;
        rows->drained = atomic_exchange_explicit(&rows->returned, IAM_ROW_NONE, memory_order_acq_rel);
    }
    while (rows->drained != IAM_ROW_NONE) {
        uint32_t number = rows->drained;
        hold *holds = rows_hold(rows, number);
        rows->drained = holds->next;
        uint32_t before = atomic_fetch_and_explicit(&holds->state, ~HOLD_QUEUED, memory_order_acq_rel);
        if (!(before & HOLD_DEAD) || (before & HOLD_VIEWS))
            continue; /* it came back to life meanwhile; its next last view sees to it */
        atomic_fetch_and_explicit(&holds->state, ~HOLD_DEAD, memory_order_acq_rel);
        POISON(lay_row(rows, number));
        return number;
    }
    return IAM_ROW_NONE;
}

bool rows_any_held(const iam_rows *rows, uint64_t begin, uint64_t end)
{
    for (uint64_t number = begin; number < end;) {
        const hold *holds = rows_hold(rows, number);
        if (holds == NULL)
            number = (number | (HOLD_CHUNK_ROWS - 1)) + 1;
        else if (atomic_load_explicit(&holds->state, memory_order_acquire) != 0)
            return true;
        else
            number++;
    }
    return false;
}

/* ---- Views ------------------------------------------------------------------------------------------------------ */

/* Whether nobody else can be changing holds and refs now: locked instructions cost a third of a view's time, and wait
 * for the hold word, which is a cache miss in a large map, where plain ones go on. */
static bool is_serial(const iam_rows *rows)
{
    return rows->serial_views && !atomic_load_explicit(&rows->is_written, memory_order_acquire);
}

/* Chunks are made under a shared lock: two threads may make the same one, and one of them throws its own away. */
static hold *make_chunk(iam_rows *rows, uint64_t chunk_index)
{
    hold *fresh = alloc_block(&rows->memory, HOLD_CHUNK_ROWS, sizeof(hold), true);
    if (fresh == NULL)
        return NULL;
    hold *_Atomic *place = segments_at(&rows->hold_store, chunk_index);
    hold *expected = NULL;
    if (atomic_compare_exchange_strong_explicit(place, &expected, fresh, memory_order_acq_rel, memory_order_acquire))
        return fresh;
    alloc_release(&rows->memory, fresh, HOLD_CHUNK_ROWS, sizeof(hold));
    return expected;
}

iam_status rows_view_take(iam_rows *rows, uint32_t number, iam_view *view_out)
{
    hold *holds = rows_hold(rows, number);
    if (UNLIKELY(holds == NULL)) {
        hold *chunk = make_chunk(rows, number >> HOLD_CHUNK_LOG2);
        if (chunk == NULL)
            return IAM_NO_MEMORY;
        holds = chunk + (number & (HOLD_CHUNK_ROWS - 1));
    }
    if (is_serial(rows)) {
        uint32_t before = atomic_load_explicit(&holds->state, memory_order_relaxed);
        if (UNLIKELY((before & HOLD_VIEWS) >= HOLD_VIEWS / 2))
            return IAM_NO_MEMORY;
        atomic_store_explicit(&holds->state, before + 1, memory_order_relaxed);
        uint64_t refs = atomic_load_explicit(&rows->refs, memory_order_relaxed);
        atomic_store_explicit(&rows->refs, refs + 1, memory_order_relaxed);
        *view_out = (iam_view){.rows = rows, .hold = holds, .number = number};
        return IAM_OK;
    }
    if (UNLIKELY((atomic_fetch_add_explicit(&holds->state, 1, memory_order_relaxed) & HOLD_VIEWS) >= HOLD_VIEWS / 2)) {
        atomic_fetch_sub_explicit(&holds->state, 1, memory_order_relaxed);
        return IAM_NO_MEMORY;
    }
    atomic_fetch_add_explicit(&rows->refs, 1, memory_order_relaxed);
    *view_out = (iam_view){.rows = rows, .hold = holds, .number = number};
    return IAM_OK;
}

static void release_serially(iam_rows *rows, hold *holds, uint32_t number)
{
    uint32_t before = atomic_load_explicit(&holds->state, memory_order_relaxed);
    uint32_t after = before - 1;
    bool was_last = (before & HOLD_DEAD) && (before & HOLD_VIEWS) == 1;
    if (UNLIKELY(was_last && !(before & HOLD_QUEUED))) {
        after |= HOLD_QUEUED;
        holds->next = atomic_load_explicit(&rows->returned, memory_order_relaxed);
        atomic_store_explicit(&rows->returned, number, memory_order_release);
    }
    atomic_store_explicit(&holds->state, after, memory_order_relaxed);
    if (UNLIKELY(was_last))
        atomic_fetch_sub_explicit(&rows->held_count, 1, memory_order_release);
    uint64_t refs = atomic_load_explicit(&rows->refs, memory_order_relaxed);
    atomic_store_explicit(&rows->refs, refs - 1, memory_order_release);
    if (UNLIKELY(refs == 1))
        destroy(rows);
}

/* Looks at the hold word and the stack only: the arrays of `rows` may be growing under a writer at this moment. */
void iam_view_release(const iam_view *view)
{
    iam_rows *rows = view->rows;
    hold *holds = view->hold;
    if (is_serial(rows)) {
        release_serially(rows, holds, view->number);
        return;
    }
    uint32_t before = atomic_load_explicit(&holds->state, memory_order_relaxed);
    uint32_t after;
    bool returns;
    do {
        after = before - 1;
        returns = (before & HOLD_DEAD) && (before & HOLD_VIEWS) == 1 && !(before & HOLD_QUEUED);
        if (returns)
            after |= HOLD_QUEUED;
    } while (!atomic_compare_exchange_weak_explicit(&holds->state, &before, after, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if ((before & HOLD_DEAD) && (before & HOLD_VIEWS) == 1)
        atomic_fetch_sub_explicit(&rows->held_count, 1, memory_order_release);
    if (returns) {
        uint32_t top = atomic_load_explicit(&rows->returned, memory_order_relaxed);
        do
            holds->next = top;
        while (!atomic_compare_exchange_weak_explicit(&rows->returned, &top, view->number, memory_order_acq_rel,
                                                      memory_order_relaxed));
    }
    rows_release(rows);
}

void iam_blocks_release(iam_rows *rows)
{
    atomic_fetch_sub_explicit(&rows->block_holds, 1, memory_order_acq_rel);
    rows_release(rows);
}

uint64_t rows_hold_bytes(const iam_rows *rows)
{
    uint64_t bytes = segments_bytes(&rows->hold_store);
    for (uint64_t chunk = 0; chunk < chunk_count(rows); chunk++)
        bytes += chunk_at(rows, chunk) == NULL ? 0 : HOLD_CHUNK_ROWS * sizeof(hold);
    return bytes;
}

/* ---- Walking ---------------------------------------------------------------------------------------------------- */

uint64_t rows_last(const iam_rows *rows, uint64_t below)
{
    if (below > rows->last_bound)
        below = rows->last_bound;
    if (below == 0)
        return UINT64_MAX;
    uint64_t word_index = (below - 1) >> 6;
    uint64_t word = *rows_word(rows, below - 1) & (UINT64_MAX >> (63 - ((below - 1) & 63)));
    while (word == 0) {
        if (word_index == 0)
            return UINT64_MAX;
        word = *(uint64_t *)segments_at(&rows->presence_store, --word_index);
    }
    return word_index * 64 + 63 - (uint64_t)__builtin_clzll(word);
}

uint64_t rows_first(const iam_rows *rows, uint64_t from)
{
    if (from >= rows->last_bound)
        return UINT64_MAX;
    uint64_t word_index = from >> 6;
    uint64_t word = *rows_word(rows, from) & (UINT64_MAX << (from & 63));
    while (word == 0) {
        if (++word_index * 64 >= rows->last_bound)
            return UINT64_MAX;
        word = *(uint64_t *)segments_at(&rows->presence_store, word_index);
    }
    uint64_t number = word_index * 64 + (uint64_t)__builtin_ctzll(word);
    return number < rows->last_bound ? number : UINT64_MAX; /* a mapped file may say anything */
}

/* ---- Validation -------------------------------------------------------------------------------------------------- */

static bool presence_validate(const iam_rows *rows, char *reason, size_t bytes)
{
    uint64_t present = 0, word_count = rows->presence_store.item_count;
    for (uint64_t number = 0; number < rows->used_count; number += 64)
        present += (uint64_t)__builtin_popcountll(*rows_word(rows, number));
    if (present != rows->live_count || rows->last_bound > rows->used_count) {
        snprintf(reason, bytes, "R1: %llu presence bits, %llu rows counted, all below %llu of %llu",
                 (unsigned long long)present, (unsigned long long)rows->live_count,
                 (unsigned long long)rows->last_bound, (unsigned long long)rows->used_count);
        return false;
    }
    for (uint64_t number = rows->last_bound; number >> 6 < word_count; number = (number | 63) + 1)
        if (*rows_word(rows, number) >> (number & 63) != 0) {
            snprintf(reason, bytes, "R1: a row from %llu on is present, beyond the bound %llu",
                     (unsigned long long)number, (unsigned long long)rows->last_bound);
            return false;
        }
    return true;
}

static bool free_lists_validate(const iam_rows *rows, char *reason, size_t bytes)
{
    uint32_t heads[] = {rows->free_head, rows->deferred_head};
    uint64_t listed = 0;
    for (int list = 0; list < 2; list++)
        for (uint32_t number = heads[list]; number != IAM_ROW_NONE; number = (uint32_t)*rows_key(rows, number)) {
            if (number >= rows->used_count || rows_present(rows, number) ||
                rows_any_held(rows, number, (uint64_t)number + 1) || ++listed > rows->free_count) {
                snprintf(reason, bytes, "R2: row %u is listed as free and is not, or the list is longer than its count",
                         number);
                return false;
            }
        }
    if (listed != rows->free_count) {
        snprintf(reason, bytes, "R2: %llu rows listed as free, %llu counted", (unsigned long long)listed,
                 (unsigned long long)rows->free_count);
        return false;
    }
    return true;
}

/* Views go without the lock while we look, so a row may leave the sum before it leaves the count, never the other way
 * round. Where no view or block is left none can go (and no dead row gets a new one): the count is zero then. */
static bool holds_validate(const iam_rows *rows, char *reason, size_t bytes)
{
    bool has_views = atomic_load_explicit(&rows->refs, memory_order_acquire) > 1;
    uint64_t counted = atomic_load_explicit(&rows->held_count, memory_order_acquire), held = 0;
    for (uint64_t number = 0; number < rows->used_count; number++) {
        const hold *holds = rows_hold(rows, number);
        if (holds == NULL) {
            number |= HOLD_CHUNK_ROWS - 1;
            continue;
        }
        uint32_t state = atomic_load_explicit(&holds->state, memory_order_acquire);
        held += (state & HOLD_DEAD) && (state & HOLD_VIEWS);
        if ((state & HOLD_DEAD) && rows_present(rows, number)) {
            snprintf(reason, bytes, "R3: row %llu is present and dead", (unsigned long long)number);
            return false;
        }
    }
    if (held > counted || (counted > 0 && !has_views)) {
        snprintf(reason, bytes, "R3: %llu dead rows have views, %llu counted", (unsigned long long)held,
                 (unsigned long long)counted);
        return false;
    }
    return true;
}

bool rows_validate(const iam_rows *rows, bool with_keys, char *reason, size_t bytes)
{
    return segments_validate(&rows->row_store, "rows", reason, bytes) &&
           segments_validate(&rows->key_store, "keys", reason, bytes) &&
           segments_validate(&rows->presence_store, "presence", reason, bytes) &&
           segments_validate(&rows->hold_store, "holds", reason, bytes) && presence_validate(rows, reason, bytes) &&
           (!with_keys || free_lists_validate(rows, reason, bytes)) && holds_validate(rows, reason, bytes);
}
