/* intarraymap.h: the front door of the core.
 *
 * The one door between Python and C. Everything above it (binding, mapping) sees only this header; everything
 * below it knows neither Python nor NumPy. A map goes from an int64 key to a row: a fixed number of bytes that never
 * moves while its key is present.
 *
 * Rules that hold for every function here:
 *  - A function that returns iam_status leaves the map as it was unless it returns IAM_OK.
 *  - A map pointer is not locked by these functions: the caller holds the map's lock (iam_map_try_lock): shared for
 *    `const iam_map *`, exclusive for `iam_map *`. Exceptions say so (view_release, blocks_release).
 *  - `keys` are read exactly once each, so a caller's array that another thread writes to meanwhile can give a wrong
 *    answer, never a broken map.
 *  - Nothing here calls back, prints, opens a file, reads a clock or keeps process-wide state.
 */
#ifndef INTARRAYMAP_H
#define INTARRAYMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Words ------------------------------------------------------------------------------------------------------ */

typedef enum iam_status {
    IAM_OK = 0,
    IAM_MISSING,       /* the key is not there; batches: see iam_missing */
    IAM_NO_MEMORY,     /* an allocation failed */
    IAM_TOO_MANY_ROWS, /* more than IAM_ROWS_MAX rows */
    IAM_TOO_SPARSE,    /* index = IAM_INDEX_DIRECT and the keys are too sparse for it */
    IAM_HELD,          /* compact: a view, a block or a scan is alive */
    IAM_LOCKED,        /* try_lock: somebody else holds the lock */
    IAM_FORKED,        /* try_lock: the holder was a thread of the process that this one was forked from */
    IAM_BROKEN,        /* validate: an invariant does not hold */
    IAM_DAMAGED,       /* an image says what no map says of itself */
} iam_status;

/* Largest number of rows in a map: row numbers are uint32, the last two are marks. */
#define IAM_ROWS_MAX 4294967294u
#define IAM_ROW_NONE 4294967295u

/* What the items of a row are: decides the arithmetic of batches (ops.c). */
typedef enum iam_kind {
    IAM_BOOL,
    IAM_INT8,
    IAM_INT16,
    IAM_INT32,
    IAM_INT64,
    IAM_UINT8,
    IAM_UINT16,
    IAM_UINT32,
    IAM_UINT64,
    IAM_FLOAT16,
    IAM_FLOAT32,
    IAM_FLOAT64,
    IAM_COMPLEX64,
    IAM_COMPLEX128,
    IAM_DATETIME64,  /* int64 whose smallest value is NaT, which min and max propagate: set, min, max */
    IAM_TIMEDELTA64, /* likewise, and add and sub propagate NaT too */
    IAM_KIND_COUNT
} iam_kind;

typedef enum iam_op {
    IAM_SET,
    IAM_ADD,
    IAM_SUB,
    IAM_MUL,
    IAM_MIN,
    IAM_MAX,
    IAM_AND,
    IAM_OR,
    IAM_XOR,
    IAM_OP_COUNT
} iam_op;

typedef enum iam_index { IAM_INDEX_AUTO, IAM_INDEX_HASH, IAM_INDEX_DIRECT } iam_index;

/* ---- Creation --------------------------------------------------------------------------------------------------- */

/* Where memory comes from. All may be called from several threads at once. `state` is handed through and must outlive
 * the map and every view and block of it. Blocks must be private memory: whole pages inside them go back to the system
 * (MADV_DONTNEED) when nothing lives there. Zero-initialise the struct for malloc/calloc/free and mmap. A test's
 * allocator fails on purpose. */
typedef struct iam_allocator {
    void *state;
    void *(*allocate)(void *state, size_t bytes, size_t alignment, bool zeroed); /* NULL: out of memory */
    void (*release)(void *state, void *block, size_t bytes);
    /* Called before address space is reserved; false refuses it (the map then falls back to segments). May be NULL. */
    bool (*may_reserve)(void *state, size_t bytes);
    /* Called before `bytes` more of a reserved range are put to use; false = out of memory. May be NULL. */
    bool (*may_commit)(void *state, size_t bytes);
} iam_allocator;

/* Pages of maps that are gone, kept for the next one that is made by a batch: as much as malloc would keep, 32 MiB.
 * Shared by any maps, from any threads; lives as long as the longest of them and their views and blocks. */
typedef struct iam_spare iam_spare;
iam_spare *iam_spare_create(void);
void iam_spare_destroy(iam_spare *spare);

typedef enum iam_switch { IAM_AUTO, IAM_OFF, IAM_ON } iam_switch;

typedef enum iam_growth {
    IAM_GROWTH_STEPS, /* a bucket or two split per insert */
    IAM_GROWTH_STOP,  /* stop the world: all buckets split at once, as most tables do. For measurement. */
} iam_growth;

/* AVX2 is accepted and does what BASELINE does: translated for it, lookups took as many instructions and no less time.
 */
typedef enum iam_simd { IAM_SIMD_AUTO, IAM_SIMD_SCALAR, IAM_SIMD_BASELINE, IAM_SIMD_AVX2 } iam_simd;

typedef struct iam_options {
    uint64_t row_items; /* items in a row, 1 .. 2^31 - 1 */
    iam_kind kind;
    iam_index index;
    uint64_t seed;     /* of the hash; any value */
    uint64_t capacity; /* the first `capacity` insertions allocate nothing (index DIRECT: of keys side by side) */
    iam_growth growth;
    iam_switch huge_pages; /* AUTO = ON: batches and reserve ask for huge pages */
    iam_switch pipeline;   /* AUTO: batches overlap memory latency when the map is larger than the cache */
    iam_switch reserve;    /* AUTO = ON: reserve address space for large maps; OFF: segments */
    iam_simd simd;
    /* Tests only: hash = (hash & hash_and) | hash_or; 0 / 0 means "leave the hash alone". */
    uint64_t hash_and, hash_or;
    /* Views and blocks are taken and released by one thread at a time, as under Python's GIL, and never by whoever
     * holds the lock exclusively by try_lock: plain instructions do then. */
    bool serial_views;
    iam_spare *spare; /* or NULL: all memory goes back to the system at once */
    iam_allocator allocator;
} iam_options;

typedef struct iam_map iam_map;
typedef struct iam_rows iam_rows; /* the storage of a map's rows; views keep it alive after the map is gone */

/* Bytes of one item of a kind. */
size_t iam_kind_bytes(iam_kind kind);
/* Whether `op` is defined on items of `kind`. */
bool iam_op_defined(iam_op op, iam_kind kind);

/* A new, empty map, or IAM_NO_MEMORY / IAM_TOO_MANY_ROWS / IAM_TOO_SPARSE (never for an empty map). */
iam_status iam_map_create(const iam_options *options, iam_map **map_out);
/* Frees everything but the storage that views still hold. Takes no lock. NULL is fine. */
void iam_map_destroy(iam_map *map);
/* An independent map with the same rows, index chosen anew if `map` was created with AUTO, and its own `seed`; in the
 * same order unless that is another index than before. O(n). */
iam_status iam_map_copy(const iam_map *map, uint64_t seed, iam_map **map_out);

/* ---- The lock --------------------------------------------------------------------------------------------------- */

/* A reader-writer lock inside each map. `fork_count` is any number that the caller changes in the child after a fork:
 * a lock held under another number is reported as IAM_FORKED and never waited for.
 * try_lock: IAM_OK, IAM_LOCKED or IAM_FORKED, at once. A shared lock is not granted while a writer waits.
 * wait: blocks until the lock seems free or `timeout_milliseconds` passed; grants nothing: call try_lock again. */
iam_status iam_map_try_lock(const iam_map *map, bool exclusive, uint32_t fork_count);
/* Whether try_lock would grant it, without taking anything: for a caller before whose next step nobody can take it,
 * because whoever wants to must first have something that the caller has (Python's GIL). A shared lock is then granted
 * though a writer waits. */
iam_status iam_map_look(const iam_map *map, bool exclusive, uint32_t fork_count);
void iam_map_wait(const iam_map *map, bool exclusive, uint32_t timeout_milliseconds);
void iam_map_unlock(const iam_map *map, bool exclusive);

/* ---- What a map is now ------------------------------------------------------------------------------------------- */

typedef struct iam_stats {
    uint64_t count;          /* keys present */
    iam_index index;         /* IAM_INDEX_HASH or IAM_INDEX_DIRECT, as it is now */
    bool leaving_direct;     /* keys are on their way from the direct to the hash index */
    uint64_t bucket_count;   /* home buckets */
    uint64_t overflow_count; /* overflow buckets in chains */
    double load;             /* keys per home bucket */
    uint64_t longest_chain;  /* buckets in the longest chain: O(buckets) to find */
    double evacuated; /* share of this doubling's home buckets that have been evacuated, 0 .. 1; while leaving direct,
                         the share of pages left */
    uint64_t page_count; /* direct: pages in use */
    uint64_t page_rows;  /* direct: rows in a page */
    uint64_t bytes;      /* all memory committed */
    uint64_t bytes_rows, bytes_keys, bytes_presence, bytes_views, bytes_buckets, bytes_overflow, bytes_directory;
    uint64_t rows_used;   /* row numbers ever handed out and not given back */
    uint64_t rows_free;   /* of them, free for reuse */
    uint64_t rows_held;   /* deleted rows kept back by a live view */
    uint64_t views;       /* live views, blocks count as one each */
    uint64_t scans;       /* live scans */
    uint64_t growths;     /* splits of a bucket, in all */
    uint64_t allocations; /* requests to the allocator and commits, in all */
} iam_stats;

uint64_t iam_map_count(const iam_map *map);
iam_index iam_map_index(const iam_map *map);
/* As the map was created. */
iam_index iam_map_index_asked(const iam_map *map);
iam_kind iam_map_kind(const iam_map *map);
/* All memory committed, in bytes. O(1). */
uint64_t iam_map_bytes(const iam_map *map);
/* Requests to the allocator so far (blocks and commits of a reserved range). O(1). */
uint64_t iam_map_allocations(const iam_map *map);
/* Changes whenever a key is added or removed, never when a row is overwritten. */
uint64_t iam_map_version(const iam_map *map);
/* Changes when every row at once became invalid: clear and compact. */
uint64_t iam_map_epoch(const iam_map *map);
/* The storage of the rows now; clear and compact replace it. Argument of blocks_release. */
iam_rows *iam_map_rows(const iam_map *map);
void iam_map_stats(const iam_map *map, iam_stats *stats_out);
/* Checks every invariant (DESIGN.md numbers them): IAM_OK, or IAM_BROKEN with the reason in words. O(n). */
iam_status iam_map_validate(const iam_map *map, char *reason_out, size_t reason_bytes);
/* Whether [block, block + bytes) touches memory of the map's rows, keys or presence. */
bool iam_map_overlaps(const iam_map *map, const void *block, size_t bytes);

/* ---- One key ----------------------------------------------------------------------------------------------------- */

/* The row of `key`, or NULL; its number in *row_out (may be NULL). The pointer is good while the lock is held, or as
 * long as a view is taken of the row. O(1). */
void *iam_map_find(const iam_map *map, int64_t key, uint32_t *row_out);
/* Under the lock: fetches what iam_map_find will look at first, for a caller who has other work to do before that.
 * false: not worth it, the map is small or finds rows without looking. */
bool iam_map_prefetch(const iam_map *map, int64_t key);
/* The next thing after that: the row, and what iam_view_take will look at. false: the key is missing. */
bool iam_map_prefetch_view(const iam_map *map, int64_t key);
/* Insert or replace: copies the row's bytes from `row_bytes_in`, which may be a row of this very map. */
iam_status iam_map_put(iam_map *map, int64_t key, const void *row_bytes_in);
/* Get or insert: a new row is all zeros. Outputs may be NULL. */
iam_status iam_map_ensure(iam_map *map, int64_t key, void **row_out, uint32_t *number_out, bool *created_out);
/* IAM_OK or IAM_MISSING; never needs memory. */
iam_status iam_map_remove(iam_map *map, int64_t key);
/* Key and row of the last row in row order; false when empty. */
bool iam_map_last(const iam_map *map, int64_t *key_out, void **row_out);

/* ---- Views ------------------------------------------------------------------------------------------------------- */

/* A hold on one row and on the storage it lies in. */
typedef struct iam_view {
    iam_rows *rows;
    struct iam_hold *hold;
    uint32_t number;
} iam_view;

/* Holds row `number` (of a present key): IAM_OK or IAM_NO_MEMORY. Shared lock is enough. */
iam_status iam_view_take(const iam_map *map, uint32_t number, iam_view *view_out);
/* Gives the hold back, from any thread, with no lock. The storage goes with its last holder. */
void iam_view_release(const iam_view *view);

/* A run of rows that lie side by side. */
typedef struct iam_block {
    uint64_t first_row;     /* number of its first row, a multiple of 8 */
    uint64_t row_count;     /* row numbers in it, present or not */
    void *rows;             /* row_count rows, writable */
    const int64_t *keys;    /* row_count keys, or NULL: computed (direct): use iam_map_block_keys */
    const uint8_t *present; /* ceil(row_count / 8) bytes, bit i % 8 of byte i / 8 */
} iam_block;

uint64_t iam_map_block_count(const iam_map *map);
void iam_map_block(const iam_map *map, uint64_t block_index, iam_block *block_out);
/* Writes the keys of a block's present rows to keys_out (row_count int64); 0 where no key is present. */
void iam_map_block_keys(const iam_map *map, const iam_block *block, int64_t *keys_out);
/* While a block is held no row that is freed is used again and compact is refused. release: any thread, no
 * lock; with serial_views as views are: one thread at a time. */
void iam_blocks_take(const iam_map *map);
void iam_blocks_release(iam_rows *rows);

/* ---- Whole map --------------------------------------------------------------------------------------------------- */

/* Empties the map; views keep their rows. Gives all memory back. */
iam_status iam_map_clear(iam_map *map);
/* Room for `row_count` rows in all, so that insertions up to there allocate nothing. */
iam_status iam_map_reserve(iam_map *map, uint64_t row_count);
/* Closes holes, gives memory back, chooses the index anew: IAM_HELD while a view, block or scan lives. O(n), needs
 * memory for the new rows while the old ones are still there. */
iam_status iam_map_compact(iam_map *map);

/* ---- Walking ----------------------------------------------------------------------------------------------------- */

/* Walks rows in row order. *position_io starts at 0 (forward) or UINT64_MAX (backward) and is moved on. Writes up to
 * `most` (key, row number) pairs and returns how many; 0 = at the end. Either output may be NULL. */
size_t iam_map_walk(const iam_map *map, bool backward, uint64_t *position_io, size_t most, int64_t *keys_out,
                    uint32_t *rows_out);
/* A scan may go on while the map changes (Go's rules); compact is refused while one lives. Exclusive lock not
 * needed, any thread. */
void iam_scans_take(const iam_map *map);
void iam_scans_release(const iam_map *map);
/* Address of a row by number; no check. */
void *iam_map_row(const iam_map *map, uint32_t number);

/* ---- Many keys --------------------------------------------------------------------------------------------------- */

/* Where the first missing key stood, and how many were missing. */
typedef struct iam_missing {
    uint64_t position;
    uint64_t count;
    int64_t key;
} iam_missing;

/* Copies the rows of `keys` to rows_out (count * row_bytes, C order).
 * defaults == NULL: every key must be there, or IAM_MISSING with *missing_out (rows_out is then undefined).
 * Otherwise a missing key i gets the row at defaults + i * default_stride (0: one row for all).
 * found_out (count bytes, 0 or 1) may be NULL. */
iam_status iam_map_get_many(const iam_map *map, const int64_t *keys, size_t count, void *rows_out, const void *defaults,
                            size_t default_stride, uint8_t *found_out, iam_missing *missing_out);
/* found_out[i] = 1 where keys[i] is present. */
void iam_map_contains_many(const iam_map *map, const int64_t *keys, size_t count, uint8_t *found_out);
/* numbers_out[i] = row number, -1 where missing. */
void iam_map_index_many(const iam_map *map, const int64_t *keys, size_t count, int64_t *numbers_out);
/* row(keys[i]) = row(keys[i]) op rows[i], in order; a missing key takes rows[i] itself (SUB: its negative).
 * Row i is at rows + i * row_stride (0: one row for all). op must be defined for the map's kind. rows must not
 * overlap the map's own memory. All or nothing. */
iam_status iam_map_update_many(iam_map *map, const int64_t *keys, size_t count, const void *rows, size_t row_stride,
                               iam_op op);
/* Item items[i * item_stride] of row(keys[i]) += values[i] (value_stride in bytes; either 0: one for all); a missing
 * key starts at zero. 0 <= items[i] < row_items is the caller's promise. All or nothing. */
iam_status iam_map_add_at(iam_map *map, const int64_t *keys, size_t count, const int64_t *items, size_t item_stride,
                          const void *values, size_t value_stride);
/* Get or insert: numbers_out[i] = row number, created_out[i] = 1 where keys[i] was missing (its first occurrence);
 * created rows become a copy of `fill` (one row). All or nothing. */
iam_status iam_map_ensure_many(iam_map *map, const int64_t *keys, size_t count, const void *fill, int64_t *numbers_out,
                               uint8_t *created_out);
/* Removes keys; removed_out[i] = 1 where keys[i] was there (once for a duplicate). Never needs memory. */
void iam_map_delete_many(iam_map *map, const int64_t *keys, size_t count, uint8_t *removed_out);
/* get_many and delete_many in one: the second of a duplicate is missing. Without defaults a missing key gives
 * IAM_MISSING and nothing is removed. May need memory (IAM_NO_MEMORY). */
iam_status iam_map_pop_many(iam_map *map, const int64_t *keys, size_t count, void *rows_out, const void *defaults,
                            size_t default_stride, iam_missing *missing_out);
/* All keys and rows in row order; room for iam_map_count() of each. Either may be NULL. false: not that many are there,
 * which happens in the damaged image of an opened map only; no more are written. */
bool iam_map_export(const iam_map *map, int64_t *keys_out, void *rows_out);

/* ---- Images ------------------------------------------------------------------------------------------------------ */

/* A map as the bytes of a file, which can be probed as they lie. docs/format.md draws them, image.h has the struct. */

#define IAM_IMAGE_AXES 64
/* What a caller (who knows arrays) puts into the header and gets back. */
typedef struct iam_about {
    uint32_t axis_count; /* 1 .. IAM_IMAGE_AXES */
    uint64_t axes[IAM_IMAGE_AXES];
    uint64_t time_multiple; /* of datetime64 and timedelta64: 25 and "us" in datetime64[25us]; 0 and "" otherwise */
    char time_unit[8];
} iam_about;

/* Writing one: begin; prepare until it is ready; next until it gives 0 bytes; end. The map's lock is held shared from
 * begin to the last next. `seed` is that of the image's own index: the map's is never written. begin, prepare: IAM_OK
 * or IAM_NO_MEMORY. */
typedef struct iam_save iam_save;
iam_status iam_save_begin(const iam_map *map, uint64_t seed, const iam_about *about, iam_save **save_out);
/* Some 65,536 keys more are given their place: a few milliseconds. */
iam_status iam_save_prepare(iam_save *save, bool *ready_out);
/* Bytes of the whole image, once it is ready. */
uint64_t iam_save_bytes(const iam_save *save);
/* The next bytes of the image into `out`, at most room_bytes, which are IAM_SAVE_ROOM_LEAST or more; 0 = that was
 * all. */
#define IAM_SAVE_ROOM_LEAST (64u << 10)
size_t iam_save_next(iam_save *save, void *out, size_t room_bytes);
/* NULL is fine. */
void iam_save_end(iam_save *save);

/* Memory that an opened map reads, on a page border: released when the map and its last view are gone, by whatever
 * thread. */
typedef struct iam_mapping {
    void *state;
    void *bytes;
    uint64_t byte_count;
    void (*release)(void *state, void *bytes, uint64_t byte_count);
} iam_mapping;

/* A map over an image: IAM_OK (it owns the mapping from now on), IAM_NO_MEMORY, or IAM_DAMAGED with the reason in
 * words. O(1): the header is checked and nothing else, so that lookups may find a damaged row, but any bytes do no
 * harm. The map must only be read. `seed` is for what it is copied or compacted to. */
iam_status iam_image_open(const iam_mapping *mapping, uint64_t seed, iam_map **map_out, iam_about *about_out,
                          char *reason_out, size_t reason_bytes);
/* Checksums of blocks from *block_io on, as many as lie in about `most_bytes`; *block_io is moved on; UINT64_MAX = that
 * was all. The bytes are those of an image that iam_image_open has accepted. IAM_OK or IAM_DAMAGED. */
iam_status iam_image_verify_blocks(const void *bytes, uint64_t *block_io, uint64_t most_bytes, char *reason_out,
                                   size_t reason_bytes);
/* Whether keys, presence and index fit together. O(n). IAM_OK or IAM_DAMAGED. */
iam_status iam_image_verify(const iam_map *map, char *reason_out, size_t reason_bytes);
/* After that, if its memory is private and writable and nobody has seen a row yet: the map may be written to. IAM_OK or
 * IAM_NO_MEMORY. */
iam_status iam_image_trust(iam_map *map);

/* What an image's header says of the file, for those who want to look. */
typedef struct iam_image_info {
    uint32_t version;
    uint64_t file_bytes, bytes_rows, bytes_keys, bytes_presence, bytes_buckets, bytes_overflow, bytes_directory,
        bytes_checksums;
} iam_image_info;
/* Of bytes that iam_image_open has accepted. */
void iam_image_info_read(const void *bytes, iam_image_info *info_out);
/* How full the index is: counts_out[k] = home buckets with k keys in their chain (hash), or pages whose rows are k
 * parts in fill_count - 1 present (direct); the last one has all that are fuller. O(n). */
void iam_map_fill(const iam_map *map, uint64_t *counts_out, size_t fill_count);

/* ---- Large results ----------------------------------------------------------------------------------------------- */

/* Memory for a large result, on huge pages where the system has them; 64-byte aligned, contents undefined. NULL: out
 * of memory. */
void *iam_result_allocate(size_t bytes);
void iam_result_release(void *block, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
