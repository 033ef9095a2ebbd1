/* rows.h: row numbers: where rows lie, whose they are, which are free. Floor 1.
 *
 *   number        0     1     2     3    ...                 used_count
 *   rows        |r0   |r1   |r2   |r3   | row_bytes each         |
 *   keys        |k0   |k1   |k2   |k3   | int64; hash index only: the direct index computes them
 *   presence    | 1     0     1     1   | a bit each: key present
 *   holds       | chunks of 128, made when a first view is taken there: how many views, and what became of the row
 *
 * A row never moves. The storage belongs to the map and to every view of it alike (`refs`): a view outlives its key,
 * the map, and clear(). What a row can be:
 *
 *   FREE      absent, in the free list (hash), or at its place in a page (direct)
 *   LIVE      present; `views` >= 0
 *   HELD      absent, DEAD set, views > 0: kept back until the last view goes
 *   RETURNED  absent, DEAD and QUEUED set, views = 0: the last view's release put it on a stack that needs no lock; the
 *             next writer takes it from there and makes it FREE
 *
 * Views are released by any thread without the map's lock (deallocation must never wait), so the hold word is atomic
 * and the stack is a push-only list that writers take whole. A direct row may become LIVE again while it is HELD or
 * QUEUED: DEAD is cleared, QUEUED stays until it is drained, and the drain looks at DEAD.
 *
 * R1: live_count = number of presence bits, all below used_count and last_bound.
 * R2: free + deferred rows are absent, not held, listed once.
 * R3: held_count = rows with DEAD and views > 0; no row is present and DEAD. (Views go without the lock, so while some
 * live rows_validate asks that there are no more such rows than counted; test_rows.c and fuzz_ops.c for the sum.)
 */
#ifndef IAM_ROWS_H
#define IAM_ROWS_H

#include "check.h"
#include "poison.h"
#include "segments.h"

/* Rows per chunk of hold words: 1 KiB, so that one view of a tiny map costs little. */
#define HOLD_CHUNK_LOG2 7
#define HOLD_CHUNK_ROWS (1u << HOLD_CHUNK_LOG2)
#define HOLD_DEAD (1u << 31)
#define HOLD_QUEUED (1u << 30)
#define HOLD_VIEWS (HOLD_QUEUED - 1)

typedef struct iam_hold {
    _Atomic uint32_t state; /* DEAD | QUEUED | number of views */
    uint32_t next;          /* QUEUED: the next returned row. Written by the releasing thread before it is published */
} hold;

struct iam_rows {
    alloc memory;
    _Atomic uint64_t refs;        /* the map, each view, each block */
    _Atomic uint64_t block_holds; /* while > 0 freed rows are not used again */
    _Atomic uint64_t held_count;
    _Atomic bool is_written; /* somebody holds the map's lock exclusively (old rows of a map: for ever) */
    bool serial_views;       /* see iam_options */
    _Atomic bool shows_all;  /* builds that poison: a block has been taken, and no write came since the last one went */
    _Atomic uint32_t returned; /* top of the stack of RETURNED rows, IAM_ROW_NONE = empty */
    size_t row_bytes;
    segments row_store, key_store, presence_store, hold_store;
    uint64_t used_count;   /* rows [0, used_count) have been handed out */
    uint64_t insert_limit; /* rows with a key that there is room for: the least of the four arrays */
    uint64_t live_count;
    uint64_t last_bound; /* every present row is below it */
    uint64_t free_count; /* in the free list and deferred */
    uint32_t free_head;  /* linked through the keys */
    uint32_t drained;    /* RETURNED rows taken from the stack, not yet made free, linked by hold.next */
    uint32_t deferred_head, deferred_tail; /* freed while a block was held */
    iam_mapping mapping;                   /* an opened image: goes with the storage */
    uint64_t given_back_bytes; /* of committed rows: pages of the direct index that went back to the system */
};

/* New storage with one reference, or NULL. `row_count_max` bounds the address space. */
iam_rows *rows_create(const iam_options *options, size_t row_bytes, uint64_t row_count_max);
void rows_release(iam_rows *rows);
/* The map lets go: memory of rows that no view holds goes back to the system at once. */
void rows_abandon(iam_rows *rows);

/* Room for rows [0, row_count), with keys or without. `how` as in segments.h. */
bool rows_reserve(iam_rows *rows, uint64_t row_count, bool with_keys, segments_how how);
/* Makes sure that rows_insert finds a row: IAM_OK, IAM_NO_MEMORY, IAM_TOO_MANY_ROWS. */
static inline iam_status rows_room(iam_rows *rows);
iam_status rows_reserve_next(iam_rows *rows);
/* A free row, or a fresh one, for `key` (hash index), after rows_room: LIVE then. Contents are whatever they were. */
static inline uint32_t rows_insert(iam_rows *rows, int64_t key);
/* `row_count` fresh rows in one run, absent yet: a page of the direct index. Reserved before. */
uint64_t rows_take_run(iam_rows *rows, uint64_t row_count);
/* Makes rows [0, row_count) of unused storage LIVE; their keys are written. */
void rows_take_all(iam_rows *rows, uint64_t row_count);
/* Builds that poison only (poison.h): called through POISON. Rows [begin, end) may all be looked at; those
 * that are free, or have never been handed out, may not; a block was taken, which shows free rows too. */
void rows_lift_run(iam_rows *rows, uint64_t begin, uint64_t end);
void rows_lay_run(iam_rows *rows, uint64_t begin, uint64_t end);
void rows_lift_for_block(iam_rows *rows);
/* Makes the absent row at `number` LIVE (direct index): it may come back from HELD or RETURNED. */
void rows_mark(iam_rows *rows, uint32_t number);
/* The row's key goes: true = it is free now, false = a view holds it (HELD) or it is still queued. */
bool rows_unmark(iam_rows *rows, uint32_t number);
/* Puts a free row on the free list. */
void rows_make_free(iam_rows *rows, uint32_t number);
/* A row whose last view has gone since its key went: free now. IAM_ROW_NONE = there is none. */
uint32_t rows_drain(iam_rows *rows);
/* Rows freed while a block was held join the free list once none is. */
void rows_settle(iam_rows *rows);
/* Whether a row in [begin, end) is kept by a view or queued. */
bool rows_any_held(const iam_rows *rows, uint64_t begin, uint64_t end);

iam_status rows_view_take(iam_rows *rows, uint32_t number, iam_view *view_out);
/* Number of the last present row below `below`, or of the first one from `from`; UINT64_MAX where there is none. */
uint64_t rows_last(const iam_rows *rows, uint64_t below);
uint64_t rows_first(const iam_rows *rows, uint64_t from);
bool rows_validate(const iam_rows *rows, bool with_keys, char *reason_out, size_t reason_bytes);
uint64_t rows_hold_bytes(const iam_rows *rows);

static inline void *rows_at(const iam_rows *rows, uint64_t number)
{
    return segments_at(&rows->row_store, number);
}

static inline int64_t *rows_key(const iam_rows *rows, uint64_t number)
{
    return segments_at(&rows->key_store, number);
}

static inline uint64_t *rows_word(const iam_rows *rows, uint64_t number)
{
    return segments_at(&rows->presence_store, number >> 6);
}

static inline bool rows_present(const iam_rows *rows, uint64_t number)
{
    return (*rows_word(rows, number) >> (number & 63)) & 1;
}

static inline hold *rows_hold(const iam_rows *rows, uint64_t number)
{
    uint64_t chunk_index = number >> HOLD_CHUNK_LOG2;
    if (chunk_index >= rows->hold_store.item_count)
        return NULL;
    hold *_Atomic *place = segments_at(&rows->hold_store, chunk_index);
    hold *chunk = atomic_load_explicit(place, memory_order_acquire);
    return chunk == NULL ? NULL : chunk + (number & (HOLD_CHUNK_ROWS - 1));
}

static inline iam_status rows_room(iam_rows *rows)
{
    if (LIKELY(rows->used_count < rows->insert_limit || rows->free_head != IAM_ROW_NONE))
        return IAM_OK;
    return rows_reserve_next(rows);
}

/* No look at holds: a row that was never used, or that is free, has none. */
static inline uint32_t rows_insert(iam_rows *rows, int64_t key)
{
    uint32_t number = rows->free_head;
    if (UNLIKELY(number != IAM_ROW_NONE)) {
        rows->free_head = (uint32_t)*rows_key(rows, number);
        rows->free_count--;
    } else {
        number = (uint32_t)rows->used_count++;
    }
    POISON(poison_lift(rows_at(rows, number), rows->row_bytes));
    *rows_key(rows, number) = key;
    *rows_word(rows, number) |= (uint64_t)1 << (number & 63);
    rows->live_count++;
    if (number >= rows->last_bound)
        rows->last_bound = (uint64_t)number + 1;
    return number;
}

#endif
