/* map.h: one map: rows, one of the two indexes, and the way from one to the other. Floor 3.
 *
 *   state      where a key is looked for
 *   DIRECT     the direct index
 *   LEAVING    the direct index for rows [leave_cursor, leave_end), the hash index for all others
 *   HASH       the hash index
 *
 * In LEAVING every write moves the cursor on by a few rows, which stay where they are: only the way to them changes.
 *
 * DIRECT -> LEAVING when a new page would cost more than the rule allows; LEAVING -> HASH when the cursor arrives; back
 * to DIRECT only by clear, compact or a batch into an empty map. So no pattern of keys makes a map flip back and forth.
 *
 * I1: every live key is in exactly one index, and its row number is that of a present row.
 * I2: the index has as many keys as there are present rows.
 */
#ifndef IAM_MAP_H
#define IAM_MAP_H

#include "direct.h"
#include "lock.h"
#include "rows.h"
#include "table.h"

typedef enum map_state { MAP_DIRECT, MAP_LEAVING, MAP_HASH } map_state;

struct iam_map {
    lock gate;
    map_state state;
#ifdef INTARRAYMAP_CHECKED
    uint32_t paid_bytes; /* see CHECK_MAP. In a gap: a map is as large as in a release build */
#endif
    iam_rows *rows;
    table hash;
    direct direct;
    uint64_t version, epoch;
    uint64_t leave_cursor, leave_end;
    uint64_t promised_rows, promised_pages; /* reserve in state DIRECT: up to so many rows nothing is allocated */
    uint64_t judged_count; /* distinct keys of the batch in progress if it was judged as a whole, else 0 */
    size_t row_bytes, item_bytes;
    alloc memory; /* of the hash index; rows and the direct index use that of the rows, which may outlive the map */
    iam_options options;
    uint64_t past_requests; /* of storages that are gone */
    _Atomic uint64_t scans;
};

/* Where a fresh map starts: IAM_INDEX_HASH in HASH, all others in DIRECT. */
/* Row number of `key` or IAM_ROW_NONE. Changes nothing. */
static inline uint32_t map_locate(const iam_map *map, int64_t key);
/* Whether the direct index may take so much memory for so many keys, by the rule of the index that was asked for. */
bool map_direct_allowed(const iam_map *map, uint64_t direct_bytes, uint64_t key_count);
/* To be called at the start of every write of `key_count` keys: takes back rows whose last view has gone, more of them
 * than keys, and moves growth on by a step. */
void map_begin_write(iam_map *map, uint64_t key_count);
/* To be called at the start of a batch that may add keys, after map_begin_write. Into an empty map: judges the keys as
 * a whole, chooses the index and makes room; otherwise nothing. IAM_OK or IAM_NO_MEMORY. */
iam_status map_begin_batch(iam_map *map, const int64_t *keys, size_t count);
/* One step of leaving the direct index. */
void map_leave_step(iam_map *map);
/* The row of `key`, inserted if it is absent: a new row's contents are whatever they were. */
iam_status map_find_or_insert(iam_map *map, int64_t key, uint32_t *number_out, bool *created_out);
/* The same in state HASH, with at least one bucket. */
static inline iam_status map_find_or_insert_hashed(iam_map *map, uint64_t hash, int64_t key, uint32_t *number_out,
                                                   bool *created_out);
/* Removes the key of row `number`. Cannot fail. */
void map_erase(iam_map *map, int64_t key, uint32_t number);
/* Removes a key: its row's number, or IAM_ROW_NONE. Cannot fail. */
uint32_t map_remove(iam_map *map, int64_t key);
/* The same in state HASH. */
uint32_t map_remove_hashed(iam_map *map, uint64_t hash, int64_t key);
/* The key of a present row. */
int64_t map_key(const iam_map *map, uint32_t number);

/* Every function of the front door that writes to a map ends with CHECK_MAP, or with map_written, whether it has done
 * anything or not; `key_count` is that of the batch, or WHOLE_MAP. Checked builds ask for every invariant then, and
 * abort with the reason if one is broken. A map of up to CHECKED_BYTES is asked after each write; a larger one when the
 * keys written since have paid for it, so that checking stays linear. (The binding's check_written has a rule of the
 * same kind, and pays more: these figures about double the time of the C tests.) No lock is taken: the writer has it,
 * or nobody else is there. A map over a file is left out. In release builds nothing is left. */
#define WHOLE_MAP UINT64_MAX
#ifdef INTARRAYMAP_CHECKED
#define CHECKED_BYTES (16u << 10)
#define CHECKED_BYTES_PER_WRITE 512u
#define CHECKED_BYTES_PER_KEY 128u
void map_check(iam_map *map, uint64_t key_count);
#define CHECK_MAP(map, key_count) map_check(map, key_count)
#else
#define CHECK_MAP(map, key_count) ((void)(map), (void)(key_count))
#endif

static inline iam_status map_written(iam_map *map, uint64_t key_count, iam_status status)
{
    CHECK_MAP(map, key_count);
    return status;
}

static inline uint32_t map_locate(const iam_map *map, int64_t key)
{
    if (map->state == MAP_DIRECT)
        return direct_find(&map->direct, map->rows, key);
    if (UNLIKELY(map->state == MAP_LEAVING)) {
        uint32_t number = direct_number(&map->direct, key);
        if (number != IAM_ROW_NONE && number >= map->leave_cursor && rows_present(map->rows, number))
            return number;
    }
    return table_find(&map->hash, key);
}

static inline iam_status map_find_or_insert_hashed(iam_map *map, uint64_t hash, int64_t key, uint32_t *number_out,
                                                   bool *created_out)
{
    bucket *last = NULL;
    uint32_t number = table_find_or_last(&map->hash, hash, key, &last);
    *created_out = number == IAM_ROW_NONE;
    if (number == IAM_ROW_NONE) {
        iam_status status = rows_room(map->rows);
        if (UNLIKELY(status != IAM_OK))
            return status;
        if (UNLIKELY(!table_room(&map->hash, &map->memory, last)))
            return IAM_NO_MEMORY;
        number = rows_insert(map->rows, key);
        table_append(&map->hash, &map->memory, last, hash, key, number);
        map->version++;
    }
    *number_out = number;
    return IAM_OK;
}

#endif
