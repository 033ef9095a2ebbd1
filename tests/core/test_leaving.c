/* test_leaving.c: the choice between the two indexes, and the way from the direct one to the hash in small steps. */
#include "harness.h"

#include "map.h"

enum { ROW = 8, MOVED_PER_WRITE = 16 /* LEAVE_ROWS_PER_STEP in map.c */ };
#define FAR ((int64_t)1 << 40)

static failing memory;
static reference model;

static iam_map *create(iam_index index)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .seed = 5};
    options.allocator = failing_allocator(&memory);
    reference_clear(&model);
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void destroy(iam_map *map)
{
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == 0);
}

static void put(iam_map *map, int64_t key, double first)
{
    double row[ROW] = {first};
    EXPECT(iam_map_put(map, key, row) == IAM_OK);
    reference_put(&model, key, first);
}

static void take_away(iam_map *map, int64_t key)
{
    EXPECT(iam_map_remove(map, key) == (reference_remove(&model, key) ? IAM_OK : IAM_MISSING));
}

/* A map that has just begun to leave: `key_count` dense keys and one far away. */
static iam_map *create_leaving(int64_t key_count)
{
    iam_map *map = create(IAM_INDEX_AUTO);
    for (int64_t key = 0; key < key_count; key++)
        put(map, key, (double)key);
    EXPECT(map->state == MAP_DIRECT);
    put(map, FAR, -1);
    EXPECT(map->state == MAP_LEAVING && iam_map_index(map) == IAM_INDEX_HASH);
    return map;
}

/* Keys that went over to the hash index with this write, told from the cursor. */
static uint64_t moved_since(const iam_map *map, uint64_t cursor)
{
    uint64_t moved = 0, end = map->state == MAP_LEAVING ? map->leave_cursor : map->rows->used_count;
    for (uint64_t number = cursor; number < end && map->state == MAP_LEAVING; number++)
        moved += rows_present(map->rows, number);
    return moved;
}

/* ---- In small steps ---------------------------------------------------------------------------------------------- */

static void test_rows_stay_where_they_are(void)
{
    enum { KEYS = 5000 };
    static const double *address[KEYS];
    iam_map *map = create(IAM_INDEX_AUTO);
    for (int64_t key = 0; key < KEYS; key++)
        put(map, key, (double)key);
    for (int64_t key = 0; key < KEYS; key++)
        address[key] = iam_map_find(map, key, NULL);
    uint64_t writes = 0, cursor = 0, in_hash = 0;
    double evacuated = 0;
    for (put(map, FAR, -1); map->state == MAP_LEAVING; put(map, FAR, -(double)writes)) {
        EXPECT(moved_since(map, cursor) <= MOVED_PER_WRITE && map->leave_cursor > cursor);
        EXPECT(map->hash.key_count <= in_hash + MOVED_PER_WRITE + (writes == 0));
        cursor = map->leave_cursor;
        in_hash = map->hash.key_count;
        iam_stats stats;
        iam_map_stats(map, &stats);
        EXPECT(stats.leaving_direct && stats.evacuated >= evacuated && stats.evacuated <= 1);
        evacuated = stats.evacuated;
        for (int64_t key = (int64_t)(writes % 7); key < KEYS; key += 7)
            EXPECT(iam_map_find(map, key, NULL) == address[key] && address[key][0] == (double)key);
        EXPECT(iam_map_find(map, KEYS, NULL) == NULL && iam_map_find(map, -1, NULL) == NULL);
        if (writes % 20 == 0)
            reference_compare(&model, map);
        writes++;
    }
    EXPECT(map->state == MAP_HASH && writes >= KEYS / MOVED_PER_WRITE && writes < KEYS / MOVED_PER_WRITE + 20);
    for (int64_t key = 0; key < KEYS; key++)
        EXPECT(iam_map_find(map, key, NULL) == address[key]);
    reference_compare(&model, map);
    destroy(map);
}

/* Every kind of write moves it on, and it comes to an end by deletes alone. */
static void test_every_write_moves_it_on(void)
{
    for (int how = 0; how < 5; how++) {
        enum { KEYS = 3000 };
        iam_map *map = create_leaving(KEYS);
        int64_t batch[] = {FAR + how};
        double rows[ROW] = {7}, out[ROW];
        uint8_t flags[1];
        int64_t numbers[1];
        uint64_t writes = 0;
        for (; map->state == MAP_LEAVING; writes++) {
            uint64_t cursor = map->leave_cursor;
            if (how == 0) {
                take_away(map, (int64_t)writes);
            } else if (how == 1) {
                EXPECT(iam_map_remove(map, -5) == IAM_MISSING);
            } else if (how == 2) {
                batch[0] = KEYS - 1 - (int64_t)writes;
                iam_map_delete_many(map, batch, 1, flags);
                EXPECT(flags[0] == 1 && reference_remove(&model, batch[0]));
            } else if (how == 3) {
                EXPECT(iam_map_ensure_many(map, batch, 1, rows, numbers, flags) == IAM_OK);
                reference_put(&model, batch[0], 7);
            } else {
                iam_missing missing;
                EXPECT(iam_map_pop_many(map, (int64_t[]){-7}, 1, out, rows, 0, &missing) == IAM_OK && out[0] == 7);
            }
            EXPECT(map->state == MAP_HASH || map->leave_cursor > cursor);
        }
        EXPECT(writes >= KEYS / MOVED_PER_WRITE / 3 && writes <= KEYS / MOVED_PER_WRITE + 2);
        reference_compare(&model, map);
        destroy(map);
    }
}

/* A batch moves it on by each of its keys, also where they are missing. */
static void test_a_batch_moves_it_on_by_each_key(void)
{
    enum { KEYS = 3000, BATCH = KEYS / MOVED_PER_WRITE + 2 };
    int64_t missing[BATCH];
    uint8_t removed[BATCH];
    for (int i = 0; i < BATCH; i++)
        missing[i] = -5 - i;
    iam_map *map = create_leaving(KEYS);
    iam_map_delete_many(map, missing, BATCH / 2, removed);
    EXPECT(map->state == MAP_LEAVING && map->leave_cursor > KEYS / 3);
    iam_map_delete_many(map, missing + BATCH / 2, BATCH - BATCH / 2, removed);
    EXPECT(map->state == MAP_HASH);
    reference_compare(&model, map);
    destroy(map);

    static double rows[BATCH][ROW];
    int64_t present[BATCH];
    for (int i = 0; i < BATCH; i++)
        present[i] = i;
    map = create_leaving(KEYS);
    EXPECT(iam_map_update_many(map, present, BATCH / 2, rows, sizeof rows[0], IAM_ADD) == IAM_OK);
    EXPECT(map->state == MAP_LEAVING && map->leave_cursor > KEYS / 3);
    EXPECT(iam_map_update_many(map, present, BATCH, rows, sizeof rows[0], IAM_ADD) == IAM_OK);
    EXPECT(map->state == MAP_HASH);
    reference_compare(&model, map);
    destroy(map);
}

/* Anything may happen on the way: against the reference, with batches, and every key walked once. */
static void test_anything_in_the_midst_of_it(void)
{
    uint64_t leaving_steps = 0;
    for (uint64_t round = 0; round < 40; round++) {
        enum { KEYS = 4000, BATCH = 20 };
        iam_map *map = create_leaving(KEYS);
        uint64_t state = round;
        for (int step = 0; map->state == MAP_LEAVING; step++, leaving_steps++) {
            uint64_t random = harness_random(&state);
            int64_t key =
                random % 8 == 0 ? FAR + (int64_t)(random >> 32) % 100 : (int64_t)(random >> 32) % (KEYS + 1000);
            int64_t keys[BATCH];
            double rows[BATCH][ROW] = {{0}};
            uint8_t flags[BATCH];
            for (int i = 0; i < BATCH; i++) {
                keys[i] = (int64_t)(harness_random(&state) % (KEYS + 500));
                rows[i][0] = (double)(step * BATCH + i);
            }
            switch (random >> 8 & 7) {
            case 0:
            case 1:
            case 2:
                put(map, key, (double)step);
                break;
            case 3:
            case 4:
                take_away(map, key);
                break;
            case 5:
                EXPECT(iam_map_update_many(map, keys, BATCH, rows, sizeof rows[0], IAM_SET) == IAM_OK);
                for (int i = 0; i < BATCH; i++)
                    reference_put(&model, keys[i], rows[i][0]);
                break;
            case 6:
                iam_map_delete_many(map, keys, BATCH, flags);
                for (int i = 0; i < BATCH; i++)
                    EXPECT(reference_remove(&model, keys[i]) == flags[i]);
                break;
            default: {
                static double popped[BATCH][ROW];
                const double missing_row[ROW] = {-9};
                EXPECT(iam_map_pop_many(map, keys, BATCH, popped, missing_row, 0, NULL) == IAM_OK);
                for (int i = 0; i < BATCH; i++) {
                    reference_row *there = *reference_place(&model, keys[i]);
                    EXPECT(popped[i][0] == (there == NULL ? -9 : there->first));
                    reference_remove(&model, keys[i]);
                }
            }
            }
            if (step % 10 == 0) {
                reference_compare(&model, map);
                uint64_t position = 0, walked = 0;
                int64_t last_number = -1;
                uint32_t number;
                for (int64_t at; iam_map_walk(map, false, &position, 1, &at, &number) == 1; walked++) {
                    EXPECT(*reference_place(&model, at) != NULL && (int64_t)number > last_number);
                    last_number = number;
                }
                EXPECT(walked == model.count);
            }
        }
        reference_compare(&model, map);
        destroy(map);
    }
    EXPECT(leaving_steps > 1000);
}

/* Views keep their rows whether the cursor has passed them or not, and give them back afterwards. */
static void test_views_on_the_way(void)
{
    enum { KEYS = 4000, HELD = 40 };
    for (int released_early = 0; released_early < 2; released_early++) {
        iam_map *map = create(IAM_INDEX_AUTO);
        iam_view views[HELD];
        const double *rows[HELD];
        for (int64_t key = 0; key < KEYS; key++)
            put(map, key, (double)key);
        for (int i = 0; i < HELD; i++) {
            uint32_t number;
            rows[i] = iam_map_find(map, i * 100, &number);
            EXPECT(iam_view_take(map, number, &views[i]) == IAM_OK);
            if (i % 2 == 0)
                take_away(map, i * 100); /* HELD when it begins */
        }
        put(map, FAR, -1);
        for (int step = 0; step < 100; step++)
            put(map, FAR + step, -1);
        EXPECT(map->state == MAP_LEAVING && map->leave_cursor > 500 && map->leave_cursor < 3000);
        for (int i = 1; i < HELD; i += 2)
            take_away(map, i * 100); /* on both sides of the cursor */
        for (int i = 0; i < HELD && released_early; i++)
            iam_view_release(&views[i]);
        for (int64_t key = 0; key < 3000; key++) { /* ends the leaving and uses what rows are free */
            put(map, FAR - 1 - key, -2);
            if (key % 500 == 0)
                reference_compare(&model, map);
        }
        EXPECT(map->state == MAP_HASH);
        for (int i = 0; i < HELD && !released_early; i++) {
            EXPECT(rows[i][0] == i * 100);
            EXPECT(atomic_load(&map->rows->held_count) == (uint64_t)(HELD - i));
            iam_view_release(&views[i]);
        }
        uint64_t used_count = map->rows->used_count;
        for (int step = 0; step < 5; step++)
            put(map, FAR, -3); /* drains */
        EXPECT(map->rows->used_count == used_count && map->rows->free_count + iam_map_count(map) == used_count);
        EXPECT(released_early || map->rows->free_count >= HELD);
        reference_compare(&model, map);
        destroy(map);
    }
}

static void test_clear_and_compact_on_the_way(void)
{
    iam_map *map = create_leaving(3000);
    take_away(map, FAR);
    EXPECT(map->state == MAP_LEAVING && iam_map_compact(map) == IAM_OK);
    EXPECT(map->state == MAP_DIRECT); /* chosen anew: the keys are dense again */
    reference_compare(&model, map);
    put(map, FAR, 1);
    EXPECT(map->state == MAP_LEAVING && iam_map_clear(map) == IAM_OK);
    reference_clear(&model);
    EXPECT(map->state == MAP_DIRECT);
    reference_compare(&model, map);
    put(map, 3, 1);
    reference_compare(&model, map);
    destroy(map);
    map = create_leaving(3000);
    iam_map *copy;
    EXPECT(iam_map_copy(map, 1, &copy) == IAM_OK && copy->state == MAP_HASH && map->state == MAP_LEAVING);
    reference_compare(&model, copy);
    iam_map_destroy(copy);
    destroy(map);
}

/* Without memory for the hash index the move waits; keys already there are found, written and deleted all the while. */
static void test_no_memory_on_the_way(void)
{
    iam_map *map = create_leaving(6000);
    for (int step = 0; step < 10; step++)
        put(map, FAR + step, 1);
    atomic_store(&memory.until_failure, 0);
    for (int64_t key = 0; key < 2000; key++) {
        put(map, key * 2, (double)-key); /* present: needs no memory */
        if (key % 5 == 0)
            take_away(map, key * 2 + 1);
    }
    EXPECT(map->state == MAP_LEAVING && atomic_load(&memory.refused) > 0);
    reference_compare(&model, map);
    atomic_store(&memory.until_failure, FAILING_NEVER);
    for (int step = 0; step < 400 && map->state == MAP_LEAVING; step++)
        put(map, FAR, (double)step);
    EXPECT(map->state == MAP_HASH);
    reference_compare(&model, map);
    destroy(map);
}

/* ---- The choice -------------------------------------------------------------------------------------------------- */

static void test_far_apart_keys_cost_little(void)
{
    const int64_t pairs[][2] = {{0, FAR}, {FAR, 0}, {INT64_MIN, INT64_MAX}, {0, INT64_MIN}, {-1, INT64_MAX}};
    for (int i = 0; i < 5; i++) {
        iam_map *map = create(IAM_INDEX_AUTO);
        put(map, pairs[i][0], 1);
        put(map, pairs[i][1], 2);
        EXPECT(iam_map_bytes(map) < 40000);
        reference_compare(&model, map);
        put(map, pairs[i][0] / 2 + 12345, 3);
        reference_compare(&model, map);
        EXPECT(map->state == MAP_HASH);
        destroy(map);
    }
}

/* Regular keys so far apart that direct would take more than twice the memory; and just less. */
static void test_the_rule_of_two(void)
{
    const struct {
        int64_t stride;
        bool stays;
    } cases[] = {{1, true}, {2, true}, {4, false}, {16, false}, {128, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            iam_map *map = create(IAM_INDEX_AUTO);
            for (int64_t key = 0; key < 20000; key++) {
                put(map, sign * key * cases[i].stride, (double)key);
                /* Below 256 KiB it stays in any case. */
                EXPECT(key * cases[i].stride * 64 > 240000 || map->state == MAP_DIRECT || cases[i].stride == 128);
            }
            EXPECT((map->state == MAP_DIRECT) == cases[i].stays);
            reference_compare(&model, map);
            destroy(map);
        }
}

/* A page that was given back before the direct index was left: its rows are the first that the hash index fills. */
static void test_rows_of_a_page_that_went(void)
{
    enum { KEYS = 5000, LEFT = 100 };
    iam_map *map = create(IAM_INDEX_AUTO);
    for (int64_t key = 0; key < KEYS; key++)
        put(map, key, (double)key);
    for (int64_t key = 0; key < KEYS; key++)
        if (key % LEFT != 0)
            take_away(map, key);
    EXPECT(map->state == MAP_DIRECT && map->direct.id_free != 0);
    for (int64_t key = 0; map->state != MAP_HASH; key++) {
        put(map, FAR + key, (double)key);
        char reason[256];
        EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_OK);
    }
    reference_compare(&model, map);
    destroy(map);
}

/* Once left, it stays left until the map is built anew, whatever comes and goes. */
static void test_no_pattern_flips_it_back_and_forth(void)
{
    iam_map *map = create(IAM_INDEX_AUTO);
    int changes = 0;
    map_state before = map->state;
    for (int round = 0; round < 50; round++) {
        put(map, FAR * (round + 1), 1); /* sparse */
        for (int64_t key = 0; key < 400; key++)
            put(map, key, (double)round); /* dense */
        take_away(map, FAR * (round + 1));
        for (int64_t key = 0; key < 400; key += 1 + round % 3)
            take_away(map, key);
        changes += map->state != before;
        before = map->state;
    }
    EXPECT(changes <= 2 && map->state == MAP_HASH);
    reference_compare(&model, map);
    EXPECT(iam_map_compact(map) == IAM_OK && map->state == MAP_DIRECT);
    reference_compare(&model, map);
    destroy(map);
}

enum batch_shape {
    ASCENDING,
    DESCENDING,
    SHUFFLED,
    CLUSTERS,
    SPARSE,
    FEW_SPARSE,
    MANY_TIMES,
    MANY_TIMES_SPARSE,
    SHAPES
};
enum { BATCH = 30000 };

static int64_t batch_key(enum batch_shape shape, uint64_t i, uint64_t *state)
{
    uint64_t random = harness_random(state);
    switch (shape) {
    case ASCENDING:
        return (int64_t)i - 1000;
    case DESCENDING:
        return -(int64_t)i;
    case SHUFFLED: /* a permutation of [0, BATCH) */
        return (int64_t)(i * 7919 % BATCH);
    case CLUSTERS: /* 20 runs of 1500, taken in turns */
        return (int64_t)(i % 20) * 1000000 + (int64_t)(i / 20);
    case SPARSE:
        return (int64_t)random;
    case FEW_SPARSE: /* dense but for one */
        return i == BATCH / 2 ? FAR : (int64_t)i;
    case MANY_TIMES:
        return (int64_t)(random % 500);
    default:
        return (int64_t)(random % 500) * 1000003;
    }
}

/* The first batch is judged as a whole. Regression: it was, and then judged again key by key, so that a shuffled one
 * left the direct index after the first few keys. */
static void test_the_first_batch_is_judged_as_a_whole(void)
{
    static int64_t keys[BATCH], numbers[BATCH];
    static uint8_t created[BATCH];
    const double row[ROW] = {1};
    for (int shape = 0; shape < SHAPES; shape++)
        for (int how = 0; how < 3; how++) {
            bool dense = shape == ASCENDING || shape == DESCENDING || shape == SHUFFLED || shape == CLUSTERS ||
                         shape == MANY_TIMES;
            iam_map *map = create(IAM_INDEX_AUTO);
            uint64_t state = 1;
            for (uint64_t i = 0; i < BATCH; i++) {
                keys[i] = batch_key((enum batch_shape)shape, i, &state);
                reference_put(&model, keys[i], 1);
            }
            if (how == 0) {
                EXPECT(iam_map_update_many(map, keys, BATCH, row, 0, IAM_SET) == IAM_OK);
            } else if (how == 1) {
                EXPECT(iam_map_ensure_many(map, keys, BATCH, row, numbers, created) == IAM_OK);
            } else { /* into a map that is empty again and had gone to the other index */
                const int64_t past[] = {dense ? 0 : 1, dense ? FAR : 2};
                EXPECT(iam_map_put(map, past[0], row) == IAM_OK && iam_map_put(map, past[1], row) == IAM_OK);
                EXPECT(iam_map_index(map) == (dense ? IAM_INDEX_HASH : IAM_INDEX_DIRECT));
                EXPECT(iam_map_remove(map, past[0]) == IAM_OK && iam_map_remove(map, past[1]) == IAM_OK);
                EXPECT(iam_map_update_many(map, keys, BATCH, row, 0, IAM_MAX) == IAM_OK);
            }
            EXPECT(map->state == (dense ? MAP_DIRECT : MAP_HASH));
            reference_compare(&model, map);
            /* Room is made for distinct keys: within twice of what the rows and keys need. */
            EXPECT(iam_map_bytes(map) < 2 * model.count * (ROW * 8 + 8 + 24) + 512 * 1024);
            /* The judgement ends with the batch: what is left of its keys does not pay for a page each. */
            for (uint64_t i = 0; i < BATCH && dense; i++)
                if (keys[i] > 100 || keys[i] < -100)
                    take_away(map, keys[i]);
            for (int64_t page = 0; page < 300 && dense; page++)
                put(map, 1000 + page * 128, 5);
            EXPECT(map->state != MAP_DIRECT);
            destroy(map);
        }
}

static void test_asked_for_hash_stays_hash(void)
{
    iam_map *map = create(IAM_INDEX_HASH);
    int64_t keys[1000];
    const double row[ROW] = {1};
    for (int64_t i = 0; i < 1000; i++) {
        keys[i] = i;
        reference_put(&model, i, 1);
    }
    EXPECT(iam_map_update_many(map, keys, 1000, row, 0, IAM_SET) == IAM_OK && map->state == MAP_HASH);
    EXPECT(iam_map_compact(map) == IAM_OK && map->state == MAP_HASH);
    reference_compare(&model, map);
    EXPECT(iam_map_clear(map) == IAM_OK && map->state == MAP_HASH);
    destroy(map);
}

/* The rule itself: so much is free, and beyond it so many times what hash would need. */
static void test_the_rule_to_the_byte(void)
{
    for (int forced = 0; forced < 2; forced++) {
        iam_map *map = create(forced ? IAM_INDEX_DIRECT : IAM_INDEX_AUTO);
        const uint64_t is_free = forced ? 64 << 20 : 256 << 10, times = forced ? 64 : 2, count = 1000000;
        const uint64_t hash_bytes = count * (ROW * sizeof(double) + sizeof(int64_t) + 24);
        EXPECT(map_direct_allowed(map, is_free, 0) && !map_direct_allowed(map, is_free + 1, 0));
        EXPECT(map_direct_allowed(map, hash_bytes * times, count));
        EXPECT(!map_direct_allowed(map, (hash_bytes + 1) * times, count));
        destroy(map);
    }
}

/* ---- Promised room ----------------------------------------------------------------------------------------------- */

static int64_t promised_key(int pattern, uint64_t i, uint64_t capacity, uint64_t *state)
{
    uint64_t random = harness_random(state);
    switch (pattern) {
    case 0:
        return (int64_t)i;
    case 1:
        return -(int64_t)i;
    case 2:
        return 3 * (int64_t)i;
    case 3:
        return 100 * (int64_t)i;
    case 4:
        return (int64_t)random;
    case 5:
        return (int64_t)(random % (capacity * 2));
    case 6: /* dense for long, then a key a page */
        return i < capacity * 9 / 10 ? (int64_t)i : (int64_t)(capacity + (i - capacity * 9 / 10) * 128);
    case 7: /* dense for long, then far away */
        return i < capacity * 9 / 10 ? (int64_t)i : FAR * (int64_t)(i + 1);
    default: /* far apart and dense in turns */
        return i % 2 == 0 ? (int64_t)i : FAR * (int64_t)i;
    }
}

/* The first `capacity` insertions allocate nothing, whatever the keys. Regression: only dense or scattered ones kept to
 * it. */
static void test_capacity_is_a_promise(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_HASH; index++)
        for (int pattern = 0; pattern < 9; pattern++)
            for (uint64_t capacity = 1; capacity < 20000; capacity = capacity * 5 / 2 + 1)
                for (int reserved_later = 0; reserved_later < 2; reserved_later++) {
                    iam_options options = {.row_items = ROW,
                                           .kind = IAM_FLOAT64,
                                           .index = (iam_index)index,
                                           .seed = capacity,
                                           .capacity = reserved_later ? 0 : capacity,
                                           .allocator = failing_allocator(&memory)};
                    iam_map *map;
                    EXPECT(iam_map_create(&options, &map) == IAM_OK);
                    EXPECT(!reserved_later || iam_map_reserve(map, capacity) == IAM_OK);
                    reference_clear(&model);
                    uint64_t state = capacity, requests = iam_map_allocations(map);
                    atomic_store(&memory.until_failure, 0);
                    for (uint64_t i = 0; i < capacity; i++)
                        put(map, promised_key(pattern, i, capacity, &state), (double)i);
                    EXPECT(atomic_load(&memory.refused) == 0 && iam_map_allocations(map) == requests);
                    atomic_store(&memory.until_failure, FAILING_NEVER);
                    reference_compare(&model, map);
                    destroy(map);
                }
}

/* What was promised goes with the storage it was about: keys that need a directory larger than there is are no reason
 * to leave, as they are none in a map of which nothing was asked. */
static void test_promises_end_with_their_storage(void)
{
    for (int how = 0; how < 4; how++) { /* nothing was asked; asked; and compacted; or cleared */
        iam_map *map = create(IAM_INDEX_AUTO);
        EXPECT(how == 0 || iam_map_reserve(map, 2000) == IAM_OK);
        if (how == 2) {
            put(map, 0, 1);
            EXPECT(iam_map_compact(map) == IAM_OK);
        } else if (how == 3) {
            EXPECT(iam_map_clear(map) == IAM_OK);
        }
        put(map, 0, 1);
        put(map, (int64_t)(map->direct.ring_mask + 100) << map->direct.page_log2, 2);
        EXPECT(iam_map_index(map) == (how == 1 ? IAM_INDEX_HASH : IAM_INDEX_DIRECT));
        reference_compare(&model, map);
        destroy(map);
    }
}

int main(void)
{
    RUN(test_rows_stay_where_they_are);
    RUN(test_every_write_moves_it_on);
    RUN(test_a_batch_moves_it_on_by_each_key);
    RUN(test_anything_in_the_midst_of_it);
    RUN(test_views_on_the_way);
    RUN(test_clear_and_compact_on_the_way);
    RUN(test_no_memory_on_the_way);
    RUN(test_far_apart_keys_cost_little);
    RUN(test_the_rule_of_two);
    RUN(test_rows_of_a_page_that_went);
    RUN(test_the_rule_to_the_byte);
    RUN(test_no_pattern_flips_it_back_and_forth);
    RUN(test_the_first_batch_is_judged_as_a_whole);
    RUN(test_asked_for_hash_stays_hash);
    RUN(test_capacity_is_a_promise);
    RUN(test_promises_end_with_their_storage);
    return harness_end();
}
