/* map.c: see map.h for the states and I1-I2. Life cycle, the choice of the index, one key. */
#include "map.h"

#include <string.h>

/* The rule of auto: direct stays while its memory is at most twice what hash would need, or below this. */
#define AUTO_FREE_BYTES (256u << 10)
#define AUTO_TIMES 2
/* index="direct" was asked for: far more is allowed, but not without end. */
#define FORCED_FREE_BYTES ((uint64_t)64 << 20)
#define FORCED_TIMES 64
/* What the hash index takes for a key beside key and row: a home bucket of 128 bytes per 6.5 keys, and its overflow
 * (measured: bench memory). */
#define HASH_BYTES_PER_KEY 24

/* Rows and row numbers looked at in one step of leaving: 16 insertions take some 2 us. */
#define LEAVE_ROWS_PER_STEP 16
#define LEAVE_NUMBERS_PER_STEP 256
/* Rows whose last view has gone, and pages that went while a block was held, taken back in one write beside one for
 * each key that it writes: more than can have come since the last write, so that none pile up. */
#define DRAIN_PER_WRITE 16
#define TIDY_PER_WRITE 16

static iam_index wanted(const iam_map *map)
{
    return map->options.index;
}

/* ---- Life cycle -------------------------------------------------------------------------------------------------- */

/* Address space is reserved for all rows that physical memory could hold. */
static uint64_t row_count_max(size_t bytes_each)
{
    uint64_t most = alloc_physical_bytes() / bytes_each;
    return most < 64 ? 64 : (most > IAM_ROWS_MAX ? IAM_ROWS_MAX : most);
}

static void begin_indexes(iam_map *map)
{
    const iam_options *options = &map->options;
    table_begin(&map->hash, hash_begin(options->seed, options->hash_and, options->hash_or),
                options->growth == IAM_GROWTH_STOP,
                row_count_max(map->row_bytes + sizeof(int64_t) + HASH_BYTES_PER_KEY));
    direct_begin(&map->direct, map->row_bytes, row_count_max(map->row_bytes));
    map->state = wanted(map) == IAM_INDEX_HASH ? MAP_HASH : MAP_DIRECT;
    map->leave_cursor = map->leave_end = 0;
    map->promised_rows = map->promised_pages = 0;
}

static void end_indexes(iam_map *map)
{
    table_end(&map->hash, &map->memory);
    direct_end(&map->direct, &map->rows->memory);
}

iam_status iam_map_create(const iam_options *options, iam_map **map_out)
{
    alloc memory;
    alloc_begin(&memory, options);
    if (options->capacity > IAM_ROWS_MAX)
        return IAM_TOO_MANY_ROWS;
    iam_map *map = alloc_block(&memory, 1, sizeof *map, true);
    if (map == NULL)
        return IAM_NO_MEMORY;
    map->memory = memory;
    map->options = *options;
    map->item_bytes = iam_kind_bytes(options->kind);
    map->row_bytes = options->row_items * map->item_bytes;
    map->rows = rows_create(options, map->row_bytes, row_count_max(map->row_bytes));
    if (map->rows == NULL) {
        alloc_release(&memory, map, 1, sizeof *map);
        return IAM_NO_MEMORY;
    }
    begin_indexes(map);
    iam_status status = options->capacity == 0 ? IAM_OK : iam_map_reserve(map, options->capacity);
    if (status != IAM_OK) {
        iam_map_destroy(map);
        return status;
    }
    *map_out = map;
    return IAM_OK;
}

void iam_map_destroy(iam_map *map)
{
    if (map == NULL)
        return;
    end_indexes(map);
    rows_abandon(map->rows);
    alloc memory = map->memory;
    alloc_release(&memory, map, 1, sizeof *map);
}

iam_status iam_map_clear(iam_map *map)
{
    iam_rows *fresh = rows_create(&map->options, map->row_bytes, row_count_max(map->row_bytes));
    if (fresh == NULL)
        return IAM_NO_MEMORY;
    end_indexes(map);
    map->past_requests += atomic_load(&map->rows->memory.request_count);
    atomic_store(&fresh->is_written, atomic_load(&map->rows->is_written));
    rows_abandon(map->rows);
    map->rows = fresh;
    begin_indexes(map);
    map->version++;
    map->epoch++;
    return map_written(map, WHOLE_MAP, IAM_OK);
}

/* All rows lie side by side and there are no holes: they can be copied as one batch. */
static bool is_one_run(const iam_map *map)
{
    return map->rows->live_count == map->rows->used_count && map->rows->row_store.low_count == 0;
}

/* Adds all rows of `source` to `map`, which is empty. */
static iam_status fill(iam_map *map, const iam_map *source)
{
    size_t count = source->rows->live_count;
    if (count == 0)
        return IAM_OK;
    int64_t *keys = alloc_block(&map->memory, count, sizeof *keys, false);
    if (keys == NULL)
        return IAM_NO_MEMORY;
    iam_status status = iam_map_export(source, keys, NULL) ? IAM_OK : IAM_DAMAGED;
    uint64_t from = rows_first(source->rows, 0);
    size_t i = 0;
    if (status == IAM_OK && is_one_run(source) && wanted(map) != IAM_INDEX_DIRECT) {
        status = iam_map_update_many(map, keys, count, rows_at(source->rows, 0), map->row_bytes, IAM_SET);
        i = count;
    } else if (status == IAM_OK) {
        status = map_begin_batch(map, keys, count);
    }
    if (wanted(map) == IAM_INDEX_DIRECT)
        map->judged_count = IAM_ROWS_MAX; /* what the source came to hold is not too sparse for its copy */
    for (; i < count && status == IAM_OK; i++) {
        if (UNLIKELY(from == UINT64_MAX)) {
            status = IAM_DAMAGED; /* a mapped file that changes under us */
            break;
        }
        uint32_t number;
        bool created;
        status = map_find_or_insert(map, keys[i], &number, &created);
        if (status == IAM_OK)
            memcpy(rows_at(map->rows, number), rows_at(source->rows, from), map->row_bytes);
        from = rows_first(source->rows, from + 1);
    }
    alloc_release(&map->memory, keys, count, sizeof *keys);
    return status;
}

static iam_status rebuild(const iam_map *source, uint64_t seed, iam_map **map_out)
{
    iam_options options = source->options;
    options.capacity = 0;
    options.seed = seed;
    iam_map *map;
    iam_status status = iam_map_create(&options, &map);
    if (status != IAM_OK)
        return status;
    status = fill(map, source);
    if (status != IAM_OK)
        iam_map_destroy(map);
    else
        *map_out = map;
    return status;
}

iam_status iam_map_copy(const iam_map *map, uint64_t seed, iam_map **map_out)
{
    iam_status status = rebuild(map, seed, map_out);
    return status == IAM_OK ? map_written(*map_out, WHOLE_MAP, status) : status;
}

iam_status iam_map_compact(iam_map *map)
{
    if (atomic_load(&map->rows->refs) > 1 || atomic_load(&map->scans) > 0)
        return IAM_HELD;
    iam_map *fresh;
    iam_status status = rebuild(map, map->options.seed, &fresh);
    if (status != IAM_OK)
        return status;
    end_indexes(map);
    map->past_requests += atomic_load(&map->rows->memory.request_count);
    atomic_store(&fresh->rows->is_written, atomic_load(&map->rows->is_written));
    rows_abandon(map->rows);
    map->rows = fresh->rows;
    map->hash = fresh->hash;
    map->direct = fresh->direct;
    map->state = fresh->state;
    map->leave_cursor = fresh->leave_cursor;
    map->leave_end = fresh->leave_end;
    map->promised_rows = map->promised_pages = 0;
    atomic_fetch_add(&map->memory.request_count, atomic_load(&fresh->memory.request_count));
    /* The hash index is the only thing of `fresh` beside the struct itself that its allocator counted. */
    atomic_fetch_add(&map->memory.bytes, atomic_load(&fresh->memory.bytes) - sizeof *fresh);
    alloc memory = fresh->memory;
    alloc_release(&memory, fresh, 1, sizeof *fresh);
    map->version++;
    map->epoch++;
    return map_written(map, WHOLE_MAP, IAM_OK);
}

iam_status iam_map_reserve(iam_map *map, uint64_t row_count)
{
    if (row_count > IAM_ROWS_MAX)
        return IAM_TOO_MANY_ROWS;
    if (row_count == 0)
        return IAM_OK;
    iam_rows *rows = map->rows;
    bool hash = map->state != MAP_DIRECT || wanted(map) != IAM_INDEX_DIRECT;
    uint64_t number_count = row_count, page_count = 0;
    if (map->state == MAP_DIRECT) {
        /* Whole pages, what auto may use of them before it leaves, and rows for the keys that come while the cursor of
         * leaving meets nothing but rows that are present. (Rows that the pages wasted are freed as it passes them.) */
        uint64_t more = row_count > rows->live_count ? row_count - rows->live_count : 0;
        uint64_t free_rows = hash ? AUTO_FREE_BYTES / map->row_bytes : 0;
        page_count = map->direct.id_count + ((more + free_rows) >> map->direct.page_log2) + 2;
        number_count = (page_count << map->direct.page_log2) + (hash ? row_count / LEAVE_ROWS_PER_STEP + 1 : 0);
    } else {
        number_count += rows->used_count - rows->live_count - rows->free_count;
    }
    if (number_count > IAM_ROWS_MAX)
        number_count = IAM_ROWS_MAX;
    /* The largest first: where it is refused nothing is left behind. */
    bool room = rows_reserve(rows, number_count, hash, SEGMENTS_EXACT) &&
                (!hash || table_reserve(&map->hash, &map->memory, row_count, SEGMENTS_EXACT)) &&
                (page_count == 0 || direct_reserve(&map->direct, rows, page_count));
    if (room && row_count > map->promised_rows) {
        map->promised_rows = row_count;
        map->promised_pages = page_count;
    }
    return map_written(map, WHOLE_MAP, room ? IAM_OK : IAM_NO_MEMORY);
}

/* ---- The choice of the index --------------------------------------------------------------------------------------
 */

static uint64_t hash_bytes(const iam_map *map, uint64_t key_count)
{
    return key_count * (map->row_bytes + sizeof(int64_t) + HASH_BYTES_PER_KEY);
}

bool map_direct_allowed(const iam_map *map, uint64_t direct_bytes, uint64_t key_count)
{
    bool forced = wanted(map) == IAM_INDEX_DIRECT;
    uint64_t free_bytes = forced ? FORCED_FREE_BYTES : AUTO_FREE_BYTES;
    uint64_t times = forced ? FORCED_TIMES : AUTO_TIMES;
    return direct_bytes <= free_bytes || direct_bytes / times <= hash_bytes(map, key_count);
}

/* After this the direct index only empties. Needs the keys of its rows written, so room for them first. */
static iam_status begin_leaving(iam_map *map)
{
    iam_rows *rows = map->rows;
    if (rows->used_count > 0 && !rows_reserve(rows, rows->used_count, true, SEGMENTS_AHEAD))
        return IAM_NO_MEMORY;
    map->state = MAP_LEAVING;
    map->leave_cursor = 0;
    map->leave_end = rows->used_count;
    map_leave_step(map);
    return IAM_OK;
}

static void finish_leaving(iam_map *map)
{
    direct_end(&map->direct, &map->rows->memory);
    map->rows->given_back_bytes = 0;
    map->state = MAP_HASH;
}

void map_leave_step(iam_map *map)
{
    iam_rows *rows = map->rows;
    uint32_t moved = 0;
    for (uint32_t looked = 0; looked < LEAVE_NUMBERS_PER_STEP && moved < LEAVE_ROWS_PER_STEP; looked++) {
        if (map->leave_cursor == map->leave_end) {
            finish_leaving(map);
            return;
        }
        uint32_t number = (uint32_t)map->leave_cursor;
        if (rows_present(rows, number)) {
            int64_t key = direct_key(&map->direct, number);
            if (!table_insert(&map->hash, &map->memory, hash_key(&map->hash.secret, key), key, number))
                return; /* no memory now: the next write tries again */
            *rows_key(rows, number) = key;
            moved++;
        } else if (!rows_any_held(rows, number, (uint64_t)number + 1)) {
            rows_make_free(rows, number);
        }
        map->leave_cursor++;
    }
}

/* A page for `key`: made, or the direct index is left. */
static iam_status admit_page(iam_map *map, int64_t key)
{
    uint64_t bytes = direct_bytes_with(&map->direct, map->rows, key);
    uint64_t key_count = map->rows->live_count + 1;
    /* A batch that was judged as a whole is not judged again by each of its keys, in whatever order they come. */
    if (key_count < map->judged_count)
        key_count = map->judged_count;
    /* Rather than allocate what reserve promised not to, auto goes on in the hash index, for which there is room. */
    bool has_room = wanted(map) == IAM_INDEX_DIRECT || map->rows->live_count >= map->promised_rows ||
                    direct_has_room(&map->direct, key, map->promised_pages);
    if (has_room && map_direct_allowed(map, bytes, key_count)) {
        iam_status status = direct_add_page(&map->direct, map->rows, key, SEGMENTS_AHEAD);
        if (status != IAM_TOO_MANY_ROWS || wanted(map) == IAM_INDEX_DIRECT)
            return status;
    } else if (wanted(map) == IAM_INDEX_DIRECT) {
        return IAM_TOO_SPARSE;
    }
    return begin_leaving(map);
}

/* How many distinct keys there are among `count`: few are all looked at; of many, from the pairs that agree in a sample
 * (the birthday problem turned round). A guess to size the table by; being wrong costs speed or spare room, nothing
 * else. */
static uint64_t guess_distinct(const hash_secret *secret, const int64_t *keys, size_t count)
{
    enum { FEW = 256, SAMPLE_MOST = 4096, PLACES = 8192 };
    const bool is_few = count < FEW;
    uint64_t sample = is_few ? count : count / 16 < SAMPLE_MOST ? count / 16 : SAMPLE_MOST;
    uint64_t stride = count / sample, places = is_few ? 2 * FEW : PLACES;
    uint32_t seen[PLACES]; /* half a hash each; 0 = empty */
    memset(seen, 0, places * sizeof *seen);
    uint64_t agreeing = 0;
    for (uint64_t i = 0; i < sample; i++) {
        /* Somewhere in its stride, so that keys which come back at regular distances are seen as well as others. */
        uint64_t within = ((i * 0x9e3779b97f4a7c15u) >> 32) * stride >> 32;
        uint64_t hash = hash_key(secret, keys[i * stride + within]);
        uint32_t mark = (uint32_t)(hash >> 32) | 1;
        uint64_t place = hash % places;
        while (seen[place] != 0 && seen[place] != mark)
            place = (place + 1) % places;
        agreeing += seen[place] == mark;
        seen[place] = mark;
    }
    if (is_few)
        return sample - agreeing;
    /* Two may be chance even if nearly all keys are distinct: size for all of them. */
    if (agreeing <= 2)
        return count;
    /* Pairs: s^2 / 2D - s^3 / 6D^2 of s samples agree, for D distinct keys. Where most agree, all have been seen. */
    uint64_t guess = agreeing > sample * 3 / 4 ? sample - agreeing : sample * sample / 2 / agreeing - sample / 3;
    return guess < count ? guess : count;
}

/* An empty map that has a past starts afresh if nobody looks at its rows, so that its first batch can be judged. */
static bool forget_past(iam_map *map)
{
    if (map->rows->used_count == 0)
        return true;
    uint64_t version = map->version, epoch = map->epoch;
    if (atomic_load(&map->rows->refs) > 1 || atomic_load(&map->scans) > 0 || iam_map_clear(map) != IAM_OK)
        return false;
    map->version = version; /* there was no key to go and no row to become invalid */
    map->epoch = epoch;
    return true;
}

iam_status map_begin_batch(iam_map *map, const int64_t *keys, size_t count)
{
    if (map->rows->live_count > 0 || count == 0)
        return IAM_OK;
    uint64_t distinct = guess_distinct(&map->hash.secret, keys, count);
    if (distinct > IAM_ROWS_MAX)
        distinct = IAM_ROWS_MAX;
    if (wanted(map) != IAM_INDEX_HASH) {
        uint64_t page_count = 0;
        uint64_t bytes = direct_bytes_for(&map->direct, map->rows, keys, count, &page_count);
        bool fits = map_direct_allowed(map, bytes, distinct);
        if (wanted(map) == IAM_INDEX_AUTO && fits != (map->state == MAP_DIRECT)) {
            if (!forget_past(map))
                return IAM_OK; /* a view or scan holds on to the old rows: key by key, by the rule for single inserts */
            map->state = fits ? MAP_DIRECT : MAP_HASH;
        }
        if (fits && map->state == MAP_DIRECT)
            map->judged_count = distinct;
        if (fits && map->state == MAP_DIRECT && map->rows->used_count == 0)
            return rows_reserve(map->rows, page_count << map->direct.page_log2, false,
                                distinct * 2 > page_count << map->direct.page_log2 ? SEGMENTS_TOUCH : SEGMENTS_EXACT)
                       ? IAM_OK
                       : IAM_NO_MEMORY;
    }
    if (map->state != MAP_HASH || map->rows->used_count > 0)
        return IAM_OK;
    /* Spare room that is not needed is only committed, not touched. */
    segments_how how = distinct == count ? SEGMENTS_TOUCH : SEGMENTS_EXACT;
    /* Where that is refused there may be fewer keys than were guessed, and room for them: the batch grows as it
     * inserts, and tells what it can't have. */
    if (rows_reserve(map->rows, distinct, true, how))
        table_reserve(&map->hash, &map->memory, distinct, how);
    return IAM_OK;
}

/* ---- One key ------------------------------------------------------------------------------------------------------
 */

int64_t map_key(const iam_map *map, uint32_t number)
{
    if (map->state == MAP_HASH || number < map->leave_cursor || (map->state == MAP_LEAVING && number >= map->leave_end))
        return *rows_key(map->rows, number);
    return direct_key(&map->direct, number);
}

static void row_came_free(iam_map *map, uint32_t number)
{
    if (map->state == MAP_DIRECT)
        direct_row_freed(&map->direct, map->rows, number);
    else if (map->state == MAP_HASH || number < map->leave_cursor || number >= map->leave_end)
        rows_make_free(map->rows, number);
    /* else: the cursor has yet to pass it and frees it then */
}

void map_begin_write(iam_map *map, uint64_t key_count)
{
    map->judged_count = 0;
    rows_settle(map->rows);
    for (uint64_t step = 0; step < DRAIN_PER_WRITE + key_count; step++) {
        uint32_t number = rows_drain(map->rows);
        if (LIKELY(number == IAM_ROW_NONE))
            break;
        row_came_free(map, number);
    }
    if (map->state == MAP_DIRECT)
        direct_tidy(&map->direct, map->rows, TIDY_PER_WRITE + key_count);
    else if (UNLIKELY(map->state == MAP_LEAVING))
        map_leave_step(map);
}

/* In state DIRECT: IAM_OK with a number, or with IAM_ROW_NONE where the direct index was left over this key. */
static iam_status insert_direct(iam_map *map, int64_t key, uint32_t *number_out)
{
    uint32_t number = direct_number(&map->direct, key);
    if (UNLIKELY(number == IAM_ROW_NONE)) {
        iam_status status = admit_page(map, key);
        if (status != IAM_OK)
            return status;
        number = map->state == MAP_DIRECT ? direct_number(&map->direct, key) : IAM_ROW_NONE;
    }
    if (LIKELY(number != IAM_ROW_NONE)) {
        rows_mark(map->rows, number);
        map->version++;
    }
    *number_out = number;
    return IAM_OK;
}

iam_status map_find_or_insert(iam_map *map, int64_t key, uint32_t *number_out, bool *created_out)
{
    if (map->state != MAP_HASH) {
        uint32_t number = map_locate(map, key);
        *created_out = number == IAM_ROW_NONE;
        if (number == IAM_ROW_NONE && map->state == MAP_DIRECT) {
            iam_status status = insert_direct(map, key, &number);
            if (status != IAM_OK)
                return status;
        }
        *number_out = number;
        if (number != IAM_ROW_NONE)
            return IAM_OK;
    }
    if (UNLIKELY(!table_reserve_first(&map->hash, &map->memory)))
        return IAM_NO_MEMORY;
    return map_find_or_insert_hashed(map, hash_key(&map->hash.secret, key), key, number_out, created_out);
}

static bool is_in_hash(const iam_map *map, uint32_t number)
{
    return map->state == MAP_HASH ||
           (map->state == MAP_LEAVING && (number < map->leave_cursor || number >= map->leave_end));
}

static void row_left(iam_map *map, uint32_t number)
{
    if (rows_unmark(map->rows, number))
        row_came_free(map, number);
    map->version++;
}

void map_erase(iam_map *map, int64_t key, uint32_t number)
{
    if (is_in_hash(map, number))
        table_erase(&map->hash, hash_key(&map->hash.secret, key), key);
    row_left(map, number);
}

uint32_t map_remove_hashed(iam_map *map, uint64_t hash, int64_t key)
{
    uint32_t number = table_erase(&map->hash, hash, key);
    if (number != IAM_ROW_NONE)
        row_left(map, number);
    return number;
}

uint32_t map_remove(iam_map *map, int64_t key)
{
    if (LIKELY(map->state == MAP_HASH))
        return map_remove_hashed(map, hash_key(&map->hash.secret, key), key);
    uint32_t number = map_locate(map, key);
    if (number != IAM_ROW_NONE)
        map_erase(map, key, number);
    return number;
}

void *iam_map_find(const iam_map *map, int64_t key, uint32_t *number_out)
{
    uint32_t number = map_locate(map, key);
    if (number_out != NULL)
        *number_out = number;
    return number == IAM_ROW_NONE ? NULL : rows_at(map->rows, number);
}

iam_status iam_map_put(iam_map *map, int64_t key, const void *row_bytes_in)
{
    map_begin_write(map, 1);
    uint32_t number;
    bool created;
    iam_status status = map_find_or_insert(map, key, &number, &created);
    if (LIKELY(status == IAM_OK))
        memmove(rows_at(map->rows, number), row_bytes_in, map->row_bytes);
    return map_written(map, 1, status);
}

iam_status iam_map_ensure(iam_map *map, int64_t key, void **row_out, uint32_t *number_out, bool *created_out)
{
    map_begin_write(map, 1);
    uint32_t number;
    bool created;
    iam_status status = map_find_or_insert(map, key, &number, &created);
    if (UNLIKELY(status != IAM_OK))
        return map_written(map, 1, status);
    if (created)
        memset(rows_at(map->rows, number), 0, map->row_bytes);
    if (row_out != NULL)
        *row_out = rows_at(map->rows, number);
    if (number_out != NULL)
        *number_out = number;
    if (created_out != NULL)
        *created_out = created;
    return map_written(map, 1, IAM_OK);
}

iam_status iam_map_remove(iam_map *map, int64_t key)
{
    map_begin_write(map, 1);
    iam_status status = map_remove(map, key) == IAM_ROW_NONE ? IAM_MISSING : IAM_OK;
    return map_written(map, 1, status);
}

bool iam_map_last(const iam_map *map, int64_t *key_out, void **row_out)
{
    uint64_t number = rows_last(map->rows, UINT64_MAX);
    if (number == UINT64_MAX)
        return false;
    *key_out = map_key(map, (uint32_t)number);
    *row_out = rows_at(map->rows, number);
    return true;
}
