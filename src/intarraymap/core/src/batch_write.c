/* batch_write.c: many keys at once, writing. Floor 4.
 *
 * Every writer goes twice over its keys: first to their row numbers, inserting what is missing, which is all that can
 * fail; then to the rows, which cannot fail. If the first pass fails its insertions are taken back, and nothing has
 * happened. So a batch is all or nothing, and the second pass knows all its addresses beforehand.
 *
 * A batch into an empty map needs no list of what to take back (all of it), so there the two passes take turns, a CHUNK
 * of keys at a time, while bucket lines and keys are warm.
 */
#include "build.h"
#include "ops.h"
#include "pipeline.h"

#include <string.h>

#define CHUNK 1024
/* Rows ahead that the second pass prefetches. */
#define ROWS_AHEAD 12
/* Up to here row numbers and marks live on the stack. */
#define STACK_KEYS 512

/* ---- The first pass: keys to row numbers ---------------------------------------------------------------------------
 */

/* Each sets numbers[i] and created[i] for keys from `i` on, and returns how far it came: to the end, or to where the
 * map changed its state, or to where an insertion failed (*status then). */

static size_t ensure_hash(iam_map *map, const int64_t *keys, size_t i, size_t count, uint32_t *numbers,
                          uint8_t *created, iam_status *status)
{
    table *index = &map->hash;
    struct {
        uint64_t hash;
        int64_t key;
    } ring[PIPELINE_RING];
    enum { D = PIPELINE_DISTANCE, MASK = PIPELINE_RING - 1 };
    if (!table_reserve_first(index, &map->memory)) {
        *status = IAM_NO_MEMORY;
        return i;
    }
    for (size_t ahead = i; ahead < count + D; ahead++) {
        if (LIKELY(ahead < count)) {
            int64_t key = pipeline_read(&keys[ahead]);
            uint64_t hash = hash_key(&index->secret, key);
            ring[ahead & MASK].hash = hash;
            ring[ahead & MASK].key = key;
            /* Both lines: the next free slot of a bucket is as often in the second. */
            const char *home = (const char *)table_bucket(index, table_home(index, hash));
            __builtin_prefetch(home, 1, 3);
            __builtin_prefetch(home + LINE_BYTES, 1, 3);
        }
        if (ahead < i + D)
            continue;
        /* Earlier insertions may have split the bucket since it was prefetched: it is looked up anew. */
        size_t done = ahead - D;
        bool fresh;
        *status = map_find_or_insert_hashed(map, ring[done & MASK].hash, ring[done & MASK].key, &numbers[done], &fresh);
        if (UNLIKELY(*status != IAM_OK))
            return done;
        created[done] = fresh;
    }
    return count;
}

static size_t ensure_direct(iam_map *map, const int64_t *keys, size_t i, size_t count, uint32_t *numbers,
                            uint8_t *created, iam_status *status)
{
    iam_rows *rows = map->rows;
    enum { D = PIPELINE_DISTANCE };
    for (; i < count; i++) {
        if (LIKELY(i + D < count)) {
            uint32_t ahead = direct_number(&map->direct, keys[i + D]); /* a hint: read again when its turn comes */
            if (LIKELY(ahead != IAM_ROW_NONE))
                __builtin_prefetch(rows_word(rows, ahead), 1, 3);
        }
        bool fresh;
        *status = map_find_or_insert(map, pipeline_read(&keys[i]), &numbers[i], &fresh);
        if (UNLIKELY(*status != IAM_OK))
            return i;
        created[i] = fresh;
        if (UNLIKELY(map->state != MAP_DIRECT))
            return i + 1;
    }
    return count;
}

static size_t ensure_leaving(iam_map *map, const int64_t *keys, size_t i, size_t count, uint32_t *numbers,
                             uint8_t *created, iam_status *status)
{
    for (; i < count && map->state == MAP_LEAVING; i++) {
        map_leave_step(map);
        bool fresh;
        *status = map_find_or_insert(map, pipeline_read(&keys[i]), &numbers[i], &fresh);
        if (UNLIKELY(*status != IAM_OK))
            return i;
        created[i] = fresh;
    }
    return i;
}

/* All keys; returns how many were done, fewer than count if *status is not IAM_OK. */
static size_t ensure(iam_map *map, const int64_t *keys, size_t count, uint32_t *numbers, uint8_t *created,
                     iam_status *status)
{
    size_t i = 0;
    *status = IAM_OK;
    while (i < count && *status == IAM_OK) {
        if (map->state == MAP_DIRECT)
            i = ensure_direct(map, keys, i, count, numbers, created, status);
        else if (map->state == MAP_HASH)
            i = ensure_hash(map, keys, i, count, numbers, created, status);
        else
            i = ensure_leaving(map, keys, i, count, numbers, created, status);
    }
    return i;
}

/* Backwards: the free list gives out last what was freed first, and keys that come later come in the order in which
 * they would have come without the failure. */
static void take_back(iam_map *map, const uint32_t *numbers, const uint8_t *created, size_t count)
{
    for (size_t i = count; i-- > 0;)
        if (created[i])
            map_erase(map, map_key(map, numbers[i]), numbers[i]);
}

static void take_back_all(iam_map *map)
{
    for (uint64_t number = rows_last(map->rows, UINT64_MAX); number != UINT64_MAX;
         number = rows_last(map->rows, number))
        map_erase(map, map_key(map, (uint32_t)number), (uint32_t)number);
}

/* ---- The second pass: rows ------------------------------------------------------------------------------------------
 */

/* What is done with the rows of keys [first, first + count): numbers and created are of that chunk. */
typedef void write_rows(iam_map *map, void *job, size_t first, size_t count, const uint32_t *numbers,
                        const uint8_t *created);

/* Row i belongs to key i and is new, as build_index leaves them. */
static void write_consecutive(iam_map *map, size_t count, write_rows *write, void *job)
{
    uint32_t numbers[CHUNK];
    uint8_t created[CHUNK];
    memset(created, 1, sizeof created);
    for (size_t first = 0; first < count; first += CHUNK) {
        size_t chunk = count - first < CHUNK ? count - first : CHUNK;
        for (size_t i = 0; i < chunk; i++)
            numbers[i] = (uint32_t)(first + i);
        write(map, job, first, chunk, numbers, created);
    }
}

PIPELINE_INLINE void prefetch_row(const iam_map *map, const uint32_t *numbers, size_t i, size_t count)
{
    if (LIKELY(i + ROWS_AHEAD < count)) {
        char *row = rows_at(map->rows, numbers[i + ROWS_AHEAD]);
        __builtin_prefetch(row, 1, 3);
        /* A row that begins inside a line ends in the next one. */
        __builtin_prefetch(row + map->row_bytes - 1, 1, 3);
    }
}

typedef struct update_job {
    const char *rows;
    size_t row_stride, row_items;
    ops_kernel *apply, *create;
    bool is_set;
} update_job;

/* How many rows from `i` on have consecutive numbers and lie side by side: they can be copied in one piece. */
static size_t run_length(const iam_map *map, const uint32_t *numbers, size_t i, size_t count)
{
    size_t length = 1;
    uint64_t end = segments_run_end(&map->rows->row_store, numbers[i]);
    while (i + length < count && numbers[i + length] == numbers[i] + length && numbers[i] + length < end)
        length++;
    return length;
}

static void write_set(iam_map *map, void *job_in, size_t first, size_t count, const uint32_t *numbers,
                      const uint8_t *created)
{
    const update_job *job = job_in;
    (void)created;
    size_t row_bytes = map->row_bytes;
    for (size_t i = 0; i < count;) {
        const char *source = job->rows + (first + i) * job->row_stride;
        char *row = rows_at(map->rows, numbers[i]);
        if (job->row_stride == row_bytes && i + 1 < count && numbers[i + 1] == numbers[i] + 1) {
            size_t length = run_length(map, numbers, i, count);
            memcpy(row, source, length * row_bytes);
            i += length;
            continue;
        }
        prefetch_row(map, numbers, i, count);
        if (row_bytes == 64)
            memcpy(row, source, 64);
        else
            memcpy(row, source, row_bytes);
        i++;
    }
}

/* The same after build_index: one copy, as long as it can be. */
static void write_set_consecutive(iam_map *map, const update_job *job, size_t count)
{
    if (job->row_stride != map->row_bytes) {
        write_consecutive(map, count, write_set, (void *)(uintptr_t)job);
        return;
    }
    const segments *rows = &map->rows->row_store;
    const uint64_t piece = SEGMENTS_TOUCH_BYTES / map->row_bytes + 1;
    for (uint64_t first = 0, end; first < count; first = end) {
        end = segments_run_end(rows, first);
        end = end < first + piece ? end : first + piece;
        end = end < count ? end : count;
        segments_touch(rows, first, end);
        memcpy(rows_at(map->rows, first), job->rows + first * map->row_bytes, (end - first) * map->row_bytes);
    }
}

static iam_status write_many(iam_map *map, const int64_t *keys, size_t count, write_rows *write, void *job)
{
    if (count == 0)
        return IAM_OK;
    map_begin_write(map, count);
    uint64_t version = map->version;
    iam_status status = map_begin_batch(map, keys, count);
    if (status != IAM_OK)
        return status;
    uint32_t stack_numbers[CHUNK];
    uint8_t stack_created[CHUNK];
    if (map->rows->live_count == 0 || count <= CHUNK) {
        bool was_empty = map->rows->live_count == 0;
        bool fresh = map->state == MAP_HASH && map->rows->used_count == 0;
        if (fresh && build_index(map, keys, count)) {
            if (write == write_set)
                write_set_consecutive(map, job, count);
            else
                write_consecutive(map, count, write, job);
            return IAM_OK;
        }
        for (size_t first = 0; first < count; first += CHUNK) {
            size_t chunk = count - first < CHUNK ? count - first : CHUNK;
            size_t done = ensure(map, keys + first, chunk, stack_numbers, stack_created, &status);
            if (status != IAM_OK) {
                if (was_empty)
                    take_back_all(map);
                else
                    take_back(map, stack_numbers, stack_created, done);
                map->version = version;
                return status;
            }
            write(map, job, first, chunk, stack_numbers, stack_created);
        }
        return IAM_OK;
    }
    uint32_t *numbers = alloc_block(&map->memory, count, sizeof *numbers + 1, false);
    if (numbers == NULL)
        return IAM_NO_MEMORY;
    uint8_t *created = (uint8_t *)(numbers + count);
    size_t done = ensure(map, keys, count, numbers, created, &status);
    if (status == IAM_OK) {
        write(map, job, 0, count, numbers, created);
    } else {
        take_back(map, numbers, created, done);
        map->version = version;
    }
    alloc_release(&map->memory, numbers, count, sizeof *numbers + 1);
    return status;
}

static void write_update(iam_map *map, void *job_in, size_t first, size_t count, const uint32_t *numbers,
                         const uint8_t *created)
{
    const update_job *job = job_in;
    for (size_t i = 0; i < count; i++) {
        prefetch_row(map, numbers, i, count);
        ops_kernel *kernel = created[i] ? job->create : job->apply;
        kernel(rows_at(map->rows, numbers[i]), job->rows + (first + i) * job->row_stride, job->row_items);
    }
}

iam_status iam_map_update_many(iam_map *map, const int64_t *keys, size_t count, const void *rows, size_t row_stride,
                               iam_op op)
{
    iam_kind kind = map->options.kind;
    update_job job = {.rows = rows,
                      .row_stride = row_stride,
                      .row_items = map->options.row_items,
                      .apply = ops_find(op, kind),
                      .create = op == IAM_SUB ? ops_find_negate(kind) : ops_find(IAM_SET, kind)};
    return map_written(map, count, write_many(map, keys, count, op == IAM_SET ? write_set : write_update, &job));
}

typedef struct add_at_job {
    const int64_t *items;
    const char *values;
    size_t item_stride, value_stride;
    ops_kernel *add;
} add_at_job;

static void write_add_at(iam_map *map, void *job_in, size_t first, size_t count, const uint32_t *numbers,
                         const uint8_t *created)
{
    const add_at_job *job = job_in;
    size_t item_bytes = map->item_bytes;
    for (size_t i = 0; i < count; i++) {
        char *row = rows_at(map->rows, numbers[i]);
        if (created[i])
            memset(row, 0, map->row_bytes);
        uint64_t item = (uint64_t)pipeline_read(&job->items[(first + i) * job->item_stride]);
        /* Checked by the caller; asked again because another thread may have written to its array since. */
        if (LIKELY(item < map->options.row_items))
            job->add(row + item * item_bytes, job->values + (first + i) * job->value_stride, 1);
    }
}

iam_status iam_map_add_at(iam_map *map, const int64_t *keys, size_t count, const int64_t *items, size_t item_stride,
                          const void *values, size_t value_stride)
{
    add_at_job job = {.items = items,
                      .item_stride = item_stride,
                      .values = values,
                      .value_stride = value_stride,
                      .add = ops_find(IAM_ADD, map->options.kind)};
    return map_written(map, count, write_many(map, keys, count, write_add_at, &job));
}

typedef struct ensure_job {
    const void *fill;
    int64_t *numbers_out;
    uint8_t *created_out;
} ensure_job;

static void write_ensure(iam_map *map, void *job_in, size_t first, size_t count, const uint32_t *numbers,
                         const uint8_t *created)
{
    const ensure_job *job = job_in;
    for (size_t i = 0; i < count; i++) {
        if (created[i])
            memcpy(rows_at(map->rows, numbers[i]), job->fill, map->row_bytes);
        job->numbers_out[first + i] = numbers[i];
        job->created_out[first + i] = created[i];
    }
}

iam_status iam_map_ensure_many(iam_map *map, const int64_t *keys, size_t count, const void *fill, int64_t *numbers_out,
                               uint8_t *created_out)
{
    ensure_job job = {fill, numbers_out, created_out};
    return map_written(map, count, write_many(map, keys, count, write_ensure, &job));
}

/* ---- Removing -------------------------------------------------------------------------------------------------------
 */

/* Erasing moves keys within a chain and frees rows, so what is looked at ahead are hints of what to prefetch: the
 * bucket, then the key of the row that its tag points to, where the free list will be linked. */
static void delete_hashed(iam_map *map, const int64_t *keys, size_t count, uint8_t *removed_out)
{
    enum { D = PIPELINE_DISTANCE, MASK = PIPELINE_RING - 1 };
    const table *index = &map->hash;
    struct {
        uint64_t hash;
        int64_t key;
    } ring[PIPELINE_RING];
    for (size_t ahead = 0; ahead < count + 2 * D; ahead++) {
        if (LIKELY(ahead < count)) {
            int64_t key = pipeline_read(&keys[ahead]);
            uint64_t hash = hash_key(&index->secret, key);
            ring[ahead & MASK].hash = hash;
            ring[ahead & MASK].key = key;
            const char *home = (const char *)table_bucket(index, table_home(index, hash));
            __builtin_prefetch(home, 1, 3);
            __builtin_prefetch(home + LINE_BYTES, 1, 3);
        }
        if (LIKELY(ahead - D < count)) {
            uint64_t hash = ring[(ahead - D) & MASK].hash;
            const bucket *home = table_bucket(index, table_home(index, hash));
            /* The last key of the chain moves into the hole. */
            if (home->overflow != BUCKET_NONE)
                __builtin_prefetch(table_next(index, home), 1, 3);
            uint32_t slots = pipeline_slots(home, hash_tophash(hash), false);
            if (LIKELY(slots != 0))
                __builtin_prefetch(rows_key(map->rows, bucket_row(home, (unsigned)__builtin_ctz(slots))), 1, 3);
        }
        if (LIKELY(ahead - 2 * D < count)) {
            size_t done = ahead - 2 * D;
            removed_out[done] = map_remove_hashed(map, ring[done & MASK].hash, ring[done & MASK].key) != IAM_ROW_NONE;
        }
    }
}

void iam_map_delete_many(iam_map *map, const int64_t *keys, size_t count, uint8_t *removed_out)
{
    map_begin_write(map, count);
    if (map->state == MAP_HASH && map->hash.bucket_count > 0) {
        delete_hashed(map, keys, count, removed_out);
    } else {
        for (size_t i = 0; i < count; i++) {
            removed_out[i] = map_remove(map, pipeline_read(&keys[i])) != IAM_ROW_NONE;
            if (UNLIKELY(map->state == MAP_LEAVING))
                map_leave_step(map);
        }
    }
    CHECK_MAP(map, count);
}

static void toggle_presence(iam_map *map, uint32_t number)
{
    *rows_word(map->rows, number) ^= (uint64_t)1 << (number & 63);
}

iam_status iam_map_pop_many(iam_map *map, const int64_t *keys, size_t count, void *rows_out, const void *defaults,
                            size_t default_stride, iam_missing *missing_out)
{
    map_begin_write(map, count);
    size_t row_bytes = map->row_bytes;
    iam_missing missing = {0};
    struct popped {
        int64_t key;
        uint32_t number;
    } *popped = count == 0 ? NULL : alloc_block(&map->memory, count, sizeof *popped, false);
    if (popped == NULL && count > 0)
        return map_written(map, count, IAM_NO_MEMORY);
    /* A presence bit cleared here marks a key that an earlier one of this batch takes; all are set again below. */
    for (size_t i = 0; i < count; i++) {
        popped[i].key = pipeline_read(&keys[i]);
        uint32_t number = map_locate(map, popped[i].key);
        if (number != IAM_ROW_NONE && !rows_present(map->rows, number))
            number = IAM_ROW_NONE;
        popped[i].number = number;
        if (number != IAM_ROW_NONE)
            toggle_presence(map, number);
        else if (missing.count++ == 0)
            missing = (iam_missing){.position = i, .count = 1, .key = popped[i].key};
    }
    for (size_t i = 0; i < count; i++)
        if (popped[i].number != IAM_ROW_NONE)
            toggle_presence(map, popped[i].number);
    bool refused = defaults == NULL && missing.count > 0;
    for (size_t i = 0; i < count && !refused; i++) {
        char *out = (char *)rows_out + i * row_bytes;
        if (popped[i].number == IAM_ROW_NONE) {
            memcpy(out, (const char *)defaults + i * default_stride, row_bytes);
        } else {
            memcpy(out, rows_at(map->rows, popped[i].number), row_bytes);
            map_erase(map, popped[i].key, popped[i].number);
        }
    }
    alloc_release(&map->memory, popped, count, sizeof *popped);
    if (missing_out != NULL)
        *missing_out = missing;
    return map_written(map, count, refused ? IAM_MISSING : IAM_OK);
}
