/* info.c: what a map says of itself: counts, memory, invariants; and its lock and views as the front door has them.
 * Floor 4. */
#include "pipeline.h"

#include <stdio.h>
#include <string.h>

uint64_t iam_map_count(const iam_map *map)
{
    return map->rows->live_count;
}

iam_index iam_map_index(const iam_map *map)
{
    return map->state == MAP_DIRECT ? IAM_INDEX_DIRECT : IAM_INDEX_HASH;
}

iam_index iam_map_index_asked(const iam_map *map)
{
    return map->options.index;
}

iam_kind iam_map_kind(const iam_map *map)
{
    return map->options.kind;
}

uint64_t iam_map_bytes(const iam_map *map)
{
    uint64_t bytes = atomic_load_explicit(&map->memory.bytes, memory_order_relaxed) +
                     atomic_load_explicit(&map->rows->memory.bytes, memory_order_relaxed);
    if (map->direct.ring_reserved)
        bytes += direct_directory_bytes(&map->direct) - segments_bytes(&map->direct.page_of);
    return bytes - map->rows->given_back_bytes - segments_untouched(&map->rows->row_store, map->rows->used_count) -
           segments_untouched(&map->rows->key_store, map->rows->used_count);
}

uint64_t iam_map_allocations(const iam_map *map)
{
    return map->past_requests + atomic_load_explicit(&map->memory.request_count, memory_order_relaxed) +
           atomic_load_explicit(&map->rows->memory.request_count, memory_order_relaxed);
}

uint64_t iam_map_version(const iam_map *map)
{
    return map->version;
}

uint64_t iam_map_epoch(const iam_map *map)
{
    return map->epoch;
}

iam_rows *iam_map_rows(const iam_map *map)
{
    return map->rows;
}

void iam_map_stats(const iam_map *map, iam_stats *stats)
{
    const iam_rows *rows = map->rows;
    const table *hash = &map->hash;
    memset(stats, 0, sizeof *stats);
    stats->count = rows->live_count;
    stats->index = iam_map_index(map);
    stats->leaving_direct = map->state == MAP_LEAVING;
    stats->bucket_count = hash->bucket_count;
    stats->overflow_count = hash->overflow_count;
    stats->load = hash->bucket_count == 0 ? 0 : (double)hash->key_count / (double)hash->bucket_count;
    stats->longest_chain = hash->key_count == 0 ? 0 : table_longest_chain(hash);
    if (map->state == MAP_LEAVING)
        stats->evacuated = (double)map->leave_cursor / (double)map->leave_end;
    else if (hash->level > 0)
        stats->evacuated = (double)(hash->bucket_count - hash->level) / (double)hash->level;
    if (map->state != MAP_HASH) {
        stats->page_count = map->direct.page_count;
        stats->page_rows = (uint64_t)1 << map->direct.page_log2;
    }
    stats->bytes = iam_map_bytes(map);
    stats->bytes_rows = segments_bytes(&rows->row_store) - rows->given_back_bytes -
                        segments_untouched(&rows->row_store, rows->used_count);
    stats->bytes_keys = segments_bytes(&rows->key_store) - segments_untouched(&rows->key_store, rows->used_count);
    stats->bytes_presence = segments_bytes(&rows->presence_store);
    stats->bytes_views = rows_hold_bytes(rows);
    stats->bytes_buckets = segments_bytes(&hash->buckets);
    stats->bytes_overflow = segments_bytes(&hash->overflow);
    stats->bytes_directory = direct_directory_bytes(&map->direct);
    stats->rows_used = rows->used_count;
    stats->rows_free = rows->free_count;
    stats->rows_held = atomic_load_explicit(&rows->held_count, memory_order_relaxed);
    stats->views = atomic_load_explicit(&rows->refs, memory_order_relaxed) - 1;
    stats->scans = atomic_load_explicit(&map->scans, memory_order_relaxed);
    stats->growths = hash->split_count;
    stats->allocations = iam_map_allocations(map);
}

/* Keys in the chain of a home bucket. A mapped file may say anything: what leads nowhere is not followed. */
static uint64_t chain_keys(const table *index, uint64_t home)
{
    uint64_t key_count = 0, length = 0;
    for (const bucket *link = table_bucket(index, home); link != NULL && length <= index->chain_limit; length++) {
        key_count += link->slot_count;
        link = table_next_within(index, link);
    }
    return key_count;
}

void iam_map_fill(const iam_map *map, uint64_t *counts_out, size_t fill_count)
{
    memset(counts_out, 0, fill_count * sizeof *counts_out);
    for (uint64_t home = 0; map->state == MAP_HASH && home < map->hash.bucket_count; home++) {
        uint64_t key_count = chain_keys(&map->hash, home);
        counts_out[key_count < fill_count ? key_count : fill_count - 1]++;
    }
    uint64_t page_rows = (uint64_t)1 << map->direct.page_log2;
    for (uint64_t id = 0; map->state == MAP_DIRECT && id < map->direct.id_count; id++) {
        uint64_t present = 0;
        if (!direct_page_used(&map->direct, id))
            continue;
        for (uint64_t number = id * page_rows; number < (id + 1) * page_rows; number++)
            present += rows_present(map->rows, number);
        counts_out[present * (fill_count - 1) / page_rows]++;
    }
}

bool iam_map_overlaps(const iam_map *map, const void *block, size_t bytes)
{
    const char *begin = block, *end = begin + bytes;
    const iam_rows *rows = map->rows;
    return segments_overlaps(&rows->row_store, begin, end) || segments_overlaps(&rows->key_store, begin, end) ||
           segments_overlaps(&rows->presence_store, begin, end);
}

/* ---- Invariants ---------------------------------------------------------------------------------------------------
 */

iam_status iam_map_validate(const iam_map *map, char *reason, size_t bytes)
{
    const iam_rows *rows = map->rows;
    if (!lock_validate(&map->gate, reason, bytes) || !rows_validate(rows, map->state != MAP_DIRECT, reason, bytes) ||
        !table_validate(&map->hash, reason, bytes) ||
        (map->state != MAP_HASH && !direct_validate(&map->direct, rows, map->leave_cursor, reason, bytes)))
        return IAM_BROKEN;
    uint64_t in_hash = 0;
    for (uint64_t number = rows_first(rows, 0); number != UINT64_MAX; number = rows_first(rows, number + 1)) {
        int64_t key = map_key(map, (uint32_t)number);
        uint32_t found = map_locate(map, key);
        if (found != number) {
            snprintf(reason, bytes, "I1: key %lld of row %llu is found in row %lld", (long long)key,
                     (unsigned long long)number, found == IAM_ROW_NONE ? -1LL : (long long)found);
            return IAM_BROKEN;
        }
        in_hash += map->state == MAP_HASH ||
                   (map->state == MAP_LEAVING && (number < map->leave_cursor || number >= map->leave_end));
    }
    if (in_hash != map->hash.key_count) {
        snprintf(reason, bytes, "I2: %llu present rows belong to the hash index, which has %llu keys",
                 (unsigned long long)in_hash, (unsigned long long)map->hash.key_count);
        return IAM_BROKEN;
    }
    return IAM_OK;
}

#ifdef INTARRAYMAP_CHECKED
void map_check(iam_map *map, uint64_t key_count)
{
    if (map->rows->mapping.release != NULL)
        return; /* a mapped file may change under us: no fault of the core */
    uint64_t bytes = iam_map_bytes(map), paid = map->paid_bytes + CHECKED_BYTES_PER_WRITE;
    paid = key_count < bytes ? paid + key_count * CHECKED_BYTES_PER_KEY : bytes;
    bool is_due = bytes <= CHECKED_BYTES || paid >= bytes || paid > UINT32_MAX;
    map->paid_bytes = is_due ? 0 : (uint32_t)paid;
    char reason[200] = "";
    if (is_due && iam_map_validate(map, reason, sizeof reason) != IAM_OK)
        check_failed(reason);
}
#endif

/* ---- Lock, views, blocks, scans -------------------------------------------------------------------------------------
 */

/* The lock is the one part of a map that readers change: it is not part of the map's value, so const is cast away. */
static lock *gate_of(const iam_map *map)
{
    return &((iam_map *)(uintptr_t)map)->gate;
}

iam_status iam_map_try_lock(const iam_map *map, bool exclusive, uint32_t fork_count)
{
    iam_status status = lock_try(gate_of(map), exclusive, fork_count);
    if (exclusive && status == IAM_OK)
        atomic_store_explicit(&map->rows->is_written, true, memory_order_relaxed);
    return status;
}

iam_status iam_map_look(const iam_map *map, bool exclusive, uint32_t fork_count)
{
    return lock_look(gate_of(map), exclusive, fork_count);
}

void iam_map_wait(const iam_map *map, bool exclusive, uint32_t timeout_milliseconds)
{
    lock_wait(gate_of(map), exclusive, timeout_milliseconds);
}

void iam_map_unlock(const iam_map *map, bool exclusive)
{
    if (exclusive)
        atomic_store_explicit(&map->rows->is_written, false, memory_order_release);
    lock_release(gate_of(map), exclusive);
}

bool iam_map_prefetch(const iam_map *map, int64_t key)
{
    if (map->state != MAP_HASH || map->hash.bucket_count == 0 || !pipeline_pays(map))
        return false;
    const char *home = (const char *)table_bucket(&map->hash, table_home(&map->hash, hash_key(&map->hash.secret, key)));
    __builtin_prefetch(home, 0, 3);
    __builtin_prefetch(home + LINE_BYTES, 0, 3);
    return true;
}

bool iam_map_prefetch_view(const iam_map *map, int64_t key)
{
    uint32_t number = map_locate(map, key);
    if (number == IAM_ROW_NONE)
        return false;
    __builtin_prefetch(rows_at(map->rows, number), 0, 3);
    const hold *holds = rows_hold(map->rows, number);
    if (LIKELY(holds != NULL))
        __builtin_prefetch(holds, 1, 3);
    return true;
}

iam_status iam_view_take(const iam_map *map, uint32_t number, iam_view *view_out)
{
    return rows_view_take(map->rows, number, view_out);
}

void iam_blocks_take(const iam_map *map)
{
    atomic_fetch_add_explicit(&map->rows->refs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&map->rows->block_holds, 1, memory_order_relaxed);
    POISON(rows_lift_for_block(map->rows));
}

void iam_scans_take(const iam_map *map)
{
    atomic_fetch_add_explicit(&((iam_map *)(uintptr_t)map)->scans, 1, memory_order_relaxed);
}

void iam_scans_release(const iam_map *map)
{
    atomic_fetch_sub_explicit(&((iam_map *)(uintptr_t)map)->scans, 1, memory_order_relaxed);
}
