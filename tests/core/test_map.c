/* test_map.c: random operations on every kind of map against a reference, validated as they go. */
#include "harness.h"

#include "map.h"

enum { ROW = 8 };

static iam_options options_of(iam_index index, iam_switch reserve, uint64_t seed)
{
    return (iam_options){.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .seed = seed, .reserve = reserve};
}

/* Keys of several shapes, so that maps start direct, leave it, and come back. */
static int64_t key_of(uint64_t random, int shape)
{
    switch (shape) {
    case 0: /* dense around zero */
        return (int64_t)(random % 3000) - 1500;
    case 1: /* sparse */
        return (int64_t)((random % 3000) * 0x9e3779b97f4a7c15u);
    case 2: /* dense mostly, with far ones */
        return random % 64 == 0 ? (int64_t)((random >> 8) % 50) << 40 : (int64_t)(random >> 8) % 4000;
    default: /* clusters */
        return (int64_t)((random % 20) * 100000 + (random >> 20) % 100);
    }
}

typedef struct held_view {
    iam_view view;
    double *row;
    double expected;
    int64_t key;
} held_view;

static void random_walk(iam_options options, int shape, uint64_t seed, int step_count)
{
    failing memory;
    options.allocator = failing_allocator(&memory);
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    static reference model;
    reference_clear(&model);
    uint64_t state = seed;
    for (int step = 0; step < step_count; step++) {
        uint64_t random = harness_random(&state);
        int64_t key = key_of(harness_random(&state), shape);
        double row[ROW] = {(double)(random >> 40), 1, 2, 3, 4, 5, 6, 7};
        /* Long stretches that grow and long ones that shrink. */
        int removing = (step / 2000) % 3 == 2;
        if (random % 100 < (removing ? 20u : 60u)) {
            EXPECT(iam_map_put(map, key, row) == IAM_OK);
            reference_put(&model, key, row[0]);
        } else if (random % 100 < 95) {
            bool was_there = reference_remove(&model, key);
            EXPECT(iam_map_remove(map, key) == (was_there ? IAM_OK : IAM_MISSING));
        } else if (random % 100 < 98) {
            enum { BATCH = 300 };
            static int64_t keys[BATCH];
            static double rows[BATCH][ROW];
            static uint8_t removed[BATCH];
            for (int i = 0; i < BATCH; i++) {
                keys[i] = key_of(harness_random(&state), shape);
                rows[i][0] = (double)i;
            }
            if (removing) {
                iam_map_delete_many(map, keys, BATCH, removed);
                for (int i = 0; i < BATCH; i++)
                    EXPECT(reference_remove(&model, keys[i]) == (removed[i] != 0));
            } else {
                EXPECT(iam_map_update_many(map, keys, BATCH, rows, sizeof rows[0], IAM_SET) == IAM_OK);
                for (int i = 0; i < BATCH; i++)
                    reference_put(&model, keys[i], rows[i][0]);
            }
        } else if (random % 1000 == 990) {
            EXPECT(iam_map_compact(map) == IAM_OK);
        } else if (random % 1000 == 991) {
            EXPECT(iam_map_clear(map) == IAM_OK);
            reference_clear(&model);
        }
        if (step % 500 == 0)
            reference_compare(&model, map);
    }
    reference_compare(&model, map);
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == 0);
}

static void test_random_walks(void)
{
    for (int shape = 0; shape < 4; shape++)
        for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_HASH; index++)
            for (int reserve = IAM_AUTO; reserve <= IAM_OFF; reserve++)
                random_walk(options_of((iam_index)index, (iam_switch)reserve, 7), shape, (uint64_t)(shape * 10 + index),
                            20000);
    random_walk(options_of(IAM_INDEX_DIRECT, IAM_AUTO, 7), 0, 5, 20000);
    random_walk(options_of(IAM_INDEX_DIRECT, IAM_OFF, 7), 3, 6, 20000);
}

static void test_degenerate_hashes(void)
{
    /* A bit that decides neither bucket nor tag: all zeros. The top bit alone; all ones; low bits; high bits; two tags;
     * one bucket of the first four; every second bucket. */
    const uint64_t masks[][2] = {
        {(uint64_t)1 << 45, 0},   {0, 0x8000000000000000u}, {0, UINT64_MAX}, {0xff, 0},
        {0xff00000000000000u, 0}, {0x80ffffffffffffffu, 0}, {UINT64_MAX, 3}, {~(uint64_t)1, 0}};
    for (int shape = 0; shape < 4; shape++)
        for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
            for (int growth = IAM_GROWTH_STEPS; growth <= IAM_GROWTH_STOP; growth++) {
                /* Keys that come and go; auto: those that leave the direct index for such a hash. */
                iam_options options = options_of(shape == 2 ? IAM_INDEX_AUTO : IAM_INDEX_HASH, IAM_AUTO, 1);
                options.hash_and = masks[i][0];
                options.hash_or = masks[i][1];
                options.growth = (iam_growth)growth;
                options.pipeline = growth == IAM_GROWTH_STOP ? IAM_ON : IAM_AUTO;
                random_walk(options, shape, (uint64_t)(shape * 10) + i, shape == 1 ? 2500 : 800);
            }
}

static iam_map *new_map(iam_options options, failing *memory)
{
    options.allocator = failing_allocator(memory);
    iam_map *map = NULL;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void put_keys(iam_map *map, int64_t first, int64_t stride, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double row[ROW] = {(double)(first + i * stride)};
        EXPECT(iam_map_put(map, first + i * stride, row) == IAM_OK);
    }
}

/* The first `count` insertions after a reserve ask for nothing, with any index and whatever was there before. */
static void test_reserve_is_a_promise(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++)
        for (int64_t before = 0; before <= 700; before += 350)
            for (int64_t more = 1; more < 5000; more = more * 7 + 1) {
                failing memory;
                iam_map *map = new_map(options_of((iam_index)index, IAM_AUTO, 3), &memory);
                int64_t stride = index == IAM_INDEX_HASH ? 1000003 : 1;
                put_keys(map, 0, stride, before);
                for (int64_t i = 0; i < before; i += 5)
                    EXPECT(iam_map_remove(map, i * stride) == IAM_OK);
                uint64_t count = iam_map_count(map), requests;
                EXPECT(iam_map_reserve(map, 0) == IAM_OK && iam_map_reserve(map, count / 2) == IAM_OK);
                EXPECT(iam_map_reserve(map, count + (uint64_t)more) == IAM_OK);
                EXPECT(iam_map_reserve(map, count + (uint64_t)more - 1) == IAM_OK);
                requests = iam_map_allocations(map);
                atomic_store(&memory.until_failure, 0);
                put_keys(map, before * stride, stride, more);
                EXPECT(iam_map_allocations(map) == requests);
                EXPECT(iam_map_count(map) == count + (uint64_t)more && atomic_load(&memory.refused) == 0);
                atomic_store(&memory.until_failure, FAILING_NEVER);
                harness_validate(map);
                iam_map_destroy(map);
                EXPECT(atomic_load(&memory.alive) == 0);
            }
}

/* An emptied map is judged anew by its next batch, unless somebody looks at its rows, or there is no memory for it. */
static void test_the_past_is_forgotten_or_not(void)
{
    enum { BATCH = 500 };
    static int64_t dense[BATCH], sparse[BATCH];
    static double rows[BATCH][ROW];
    for (int64_t i = 0; i < BATCH; i++) {
        dense[i] = i;
        sparse[i] = i * ((int64_t)1 << 33);
        rows[i][0] = (double)i;
    }
    for (int to_hash = 0; to_hash < 2; to_hash++)
        for (int who = 0; who < 4; who++) {
            failing memory;
            iam_map *map = new_map(options_of(IAM_INDEX_AUTO, IAM_AUTO, 3), &memory);
            const int64_t *first = to_hash ? dense : sparse, *second = to_hash ? sparse : dense;
            EXPECT(iam_map_update_many(map, first, BATCH, rows, sizeof rows[0], IAM_SET) == IAM_OK);
            uint32_t number;
            iam_view view;
            EXPECT(iam_map_find(map, first[7], &number) != NULL && iam_view_take(map, number, &view) == IAM_OK);
            for (int i = 0; i < BATCH; i++)
                EXPECT(iam_map_remove(map, first[i]) == IAM_OK);
            if (who != 1)
                iam_view_release(&view);
            if (who == 2)
                iam_scans_take(map);
            if (who == 3)
                atomic_store(&memory.until_failure, 0), atomic_store(&memory.refuses_once, true);
            iam_rows *old_rows = iam_map_rows(map);
            uint64_t version = iam_map_version(map), epoch = iam_map_epoch(map);
            EXPECT(iam_map_update_many(map, second, BATCH, rows, sizeof rows[0], IAM_SET) == IAM_OK);
            EXPECT(iam_map_version(map) == version + BATCH && iam_map_epoch(map) == epoch);
            EXPECT((iam_map_rows(map) != old_rows) == (who == 0));
            if (who == 0)
                EXPECT(iam_map_index(map) == (to_hash ? IAM_INDEX_HASH : IAM_INDEX_DIRECT));
            else if (!to_hash)
                EXPECT(iam_map_index(map) == IAM_INDEX_HASH); /* there is no other way back */
            for (int i = 0; i < BATCH; i++) {
                const double *row = iam_map_find(map, second[i], NULL);
                EXPECT(row != NULL && row[0] == (double)i);
            }
            harness_validate(map);
            if (who == 1)
                iam_view_release(&view);
            if (who == 2)
                iam_scans_release(map);
            iam_map_destroy(map);
            EXPECT(atomic_load(&memory.alive) == 0);
        }
}

static void test_ensure_gives_what_is_asked_for(void)
{
    failing memory;
    iam_map *map = new_map(options_of(IAM_INDEX_AUTO, IAM_AUTO, 3), &memory);
    uint32_t number, found;
    bool created;
    void *row;
    EXPECT(iam_map_ensure(map, 5, NULL, NULL, NULL) == IAM_OK && iam_map_count(map) == 1);
    EXPECT(iam_map_ensure(map, 5, NULL, NULL, &created) == IAM_OK && !created);
    EXPECT(iam_map_ensure(map, 6, NULL, &number, &created) == IAM_OK && created);
    EXPECT(iam_map_ensure(map, 6, &row, &found, NULL) == IAM_OK && found == number && row == iam_map_row(map, number));
    int64_t key = -1;
    EXPECT(iam_map_last(map, &key, &row) && key == 6 && row == iam_map_row(map, number));
    iam_map_destroy(map);
}

/* A copy of one key, of a map whose rows are one run, and of one with a hole: row by row the same. */
static void test_copies(void)
{
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++)
        for (int64_t count = 1; count < 3000; count = count * 5 + 2)
            for (int hole = 0; hole < 3; hole++) { /* none, at the end, in the middle */
                failing memory;
                iam_options options = options_of((iam_index)index, IAM_AUTO, 3);
                options.capacity = (uint64_t)count; /* in one run */
                iam_map *map = new_map(options, &memory), *copy = NULL;
                int64_t stride = index == IAM_INDEX_HASH ? 77777 : 1;
                put_keys(map, 0, stride, count);
                if (hole > 0)
                    EXPECT(iam_map_remove(map, (hole == 1 ? count - 1 : count / 2) * stride) == IAM_OK);
                EXPECT(iam_map_copy(map, 9, &copy) == IAM_OK);
                EXPECT(iam_map_count(copy) == iam_map_count(map) && iam_map_index(copy) == iam_map_index(map));
                harness_validate(copy);
                for (int64_t i = 0; i < count; i++) {
                    const double *row = iam_map_find(copy, i * stride, NULL);
                    EXPECT((row != NULL) == (iam_map_find(map, i * stride, NULL) != NULL));
                    EXPECT(row == NULL || row[0] == (double)(i * stride));
                }
                EXPECT(copy->hash.secret.first != map->hash.secret.first);
                iam_map_destroy(map);
                iam_map_destroy(copy);
                EXPECT(atomic_load(&memory.alive) == 0);
            }
}

/* A view keeps its row's numbers for as long as it lives, whatever becomes of the key and of the map. */
static void test_views_hold_their_row(void)
{
    for (int shape = 0; shape < 4; shape++) {
        failing memory;
        iam_options options = options_of(IAM_INDEX_AUTO, IAM_AUTO, 3);
        options.allocator = failing_allocator(&memory);
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        enum { HELD = 200 };
        static held_view held[HELD];
        memset(held, 0, sizeof held);
        uint64_t state = (uint64_t)shape;
        for (int step = 0; step < 30000; step++) {
            uint64_t random = harness_random(&state);
            int64_t key = key_of(harness_random(&state), shape);
            held_view *slot = &held[random % HELD];
            double row[ROW] = {(double)(random >> 32)};
            switch (random % 5) {
            case 0:
            case 1:
                if (iam_map_find(map, key, NULL) != NULL)
                    break;
                EXPECT(iam_map_put(map, key, row) == IAM_OK);
                /* A direct row may come back to its own key: the view shows that key's numbers again. */
                for (int i = 0; i < HELD; i++)
                    if (held[i].row != NULL && held[i].row == iam_map_find(map, key, NULL)) {
                        EXPECT(held[i].key == key);
                        held[i].expected = row[0];
                    }
                break;
            case 2: /* take */
                if (slot->row == NULL) {
                    uint32_t number;
                    double *found = iam_map_find(map, key, &number);
                    if (found != NULL && iam_view_take(map, number, &slot->view) == IAM_OK) {
                        slot->row = found;
                        slot->expected = found[0];
                        slot->key = key;
                    }
                }
                break;
            case 3: /* release */
                if (slot->row != NULL) {
                    iam_view_release(&slot->view);
                    slot->row = NULL;
                }
                break;
            default:
                iam_map_remove(map, key);
            }
            for (int i = 0; i < HELD && step % 50 == 0; i++)
                EXPECT(held[i].row == NULL || held[i].row[0] == held[i].expected);
            if (step % 1000 == 0) {
                char reason[200];
                EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_OK);
            }
        }
        bool any = false;
        for (int i = 0; i < HELD; i++)
            any |= held[i].row != NULL;
        EXPECT(any && iam_map_compact(map) == IAM_HELD);
        iam_map_destroy(map);
        for (int i = 0; i < HELD; i++)
            if (held[i].row != NULL)
                iam_view_release(&held[i].view);
        EXPECT(atomic_load(&memory.alive) == 0);
    }
}

/* A thousand keys come, are looked at through views, and go, over and over: rows are used again as soon as their views
 * have gone. Regression: a batch took back no more returned rows than a single write, and rows piled up. */
static void test_prefetches_are_hints(void)
{
    enum { SMALL = 100, LARGE = 20000 };
    iam_options options = options_of(IAM_INDEX_HASH, IAM_AUTO, 3);
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    EXPECT(!iam_map_prefetch(map, 0) && !iam_map_prefetch_view(map, 0));
    double row[ROW] = {0};
    for (int64_t key = 0; key < LARGE; key++) {
        EXPECT(iam_map_put(map, key * key, row) == IAM_OK);
        if (key == SMALL)
            EXPECT(!iam_map_prefetch(map, key * key) && iam_map_prefetch_view(map, key * key));
    }
    EXPECT(iam_map_prefetch(map, 4) && iam_map_prefetch_view(map, 4));
    EXPECT(iam_map_prefetch(map, 5) && !iam_map_prefetch_view(map, 5));
    uint32_t number;
    EXPECT(iam_map_find(map, 4, &number) != NULL);
    iam_view view;
    EXPECT(iam_view_take(map, number, &view) == IAM_OK);
    EXPECT(iam_map_prefetch_view(map, 4));
    iam_view_release(&view);
    iam_map_clear(map);
    EXPECT(!iam_map_prefetch(map, 4) && !iam_map_prefetch_view(map, 4));
    iam_map_destroy(map);
    /* The other index finds rows without a look at memory that could be fetched. */
    options.index = IAM_INDEX_DIRECT;
    options.pipeline = IAM_ON;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    EXPECT(!iam_map_prefetch(map, 4));
    iam_map_destroy(map);
}

static void test_churn_with_views_stays_flat(void)
{
    enum { KEYS = 1000, ROUNDS = 60 };
    static int64_t keys[KEYS];
    static double rows[KEYS][ROW];
    static uint8_t removed[KEYS];
    static iam_view views[KEYS];
    for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_DIRECT; index++)
        for (int batches = 0; batches < 2; batches++) {
            iam_options options = options_of((iam_index)index, IAM_AUTO, 3);
            iam_map *map;
            EXPECT(iam_map_create(&options, &map) == IAM_OK);
            for (int round = 0; round < ROUNDS; round++) {
                for (int i = 0; i < KEYS; i++)
                    keys[i] = (int64_t)round * KEYS + i;
                if (batches)
                    EXPECT(iam_map_update_many(map, keys, KEYS, rows, sizeof rows[0], IAM_SET) == IAM_OK);
                for (int i = 0; i < KEYS; i++) {
                    uint32_t number;
                    if (!batches)
                        EXPECT(iam_map_put(map, keys[i], rows[i]) == IAM_OK);
                    EXPECT(iam_map_find(map, keys[i], &number) != NULL);
                    EXPECT(iam_view_take(map, number, &views[i]) == IAM_OK);
                    if (!batches)
                        EXPECT(iam_map_remove(map, keys[i]) == IAM_OK);
                }
                if (batches)
                    iam_map_delete_many(map, keys, KEYS, removed);
                iam_stats stats;
                iam_map_stats(map, &stats);
                EXPECT(stats.rows_held == KEYS && stats.views == KEYS && stats.count == 0);
                EXPECT(stats.rows_used <= 3 * KEYS);
                for (int i = 0; i < KEYS; i++)
                    iam_view_release(&views[i]);
            }
            EXPECT(iam_map_compact(map) == IAM_OK);
            iam_map_destroy(map);
        }
}

static void test_batches_agree_with_single_keys(void)
{
    enum { COUNT = 50000 };
    int64_t *keys = malloc(COUNT * sizeof *keys), *numbers = malloc(COUNT * sizeof *numbers);
    double *rows = malloc(COUNT * ROW * sizeof *rows), *out = malloc(COUNT * ROW * sizeof *out);
    uint8_t *found = malloc(COUNT);
    /* Hashes as they are; all zeros, all ones, one bucket, two tags. */
    const uint64_t masks[][2] = {
        {0, 0}, {(uint64_t)1 << 45, 0}, {0, UINT64_MAX}, {0xff00000000000000u, 0}, {0x80ffffffffffffffu, 0}};
    for (int way = 0; way < 4 * 2 * 5; way++) {
        int shape = way % 4, mask = way / 8, count = mask == 0 ? COUNT : COUNT / 25;
        iam_options options = options_of(mask == 0 ? IAM_INDEX_AUTO : IAM_INDEX_HASH, IAM_AUTO, 11);
        options.pipeline = way / 4 % 2 ? IAM_ON : IAM_OFF;
        options.hash_and = masks[mask][0];
        options.hash_or = masks[mask][1];
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        uint64_t state = (uint64_t)shape;
        for (int i = 0; i < count; i++) {
            keys[i] = key_of(harness_random(&state), shape);
            for (int item = 0; item < ROW; item++)
                rows[i * ROW + item] = 1;
        }
        EXPECT(iam_map_update_many(map, keys, count / 2, rows, ROW * sizeof *rows, IAM_ADD) == IAM_OK);
        double total = 0;
        uint64_t position = 0;
        uint32_t number;
        int64_t key;
        while (iam_map_walk(map, false, &position, 1, &key, &number) == 1)
            total += *(double *)iam_map_row(map, number);
        EXPECT(total == count / 2);
        iam_map_contains_many(map, keys, count, found);
        iam_map_index_many(map, keys, count, numbers);
        double zero[ROW] = {-1};
        iam_missing missing;
        iam_map_get_many(map, keys, count, out, zero, 0, NULL, &missing);
        for (int i = 0; i < count; i++) {
            const double *row = iam_map_find(map, keys[i], &number);
            EXPECT(found[i] == (row != NULL));
            EXPECT(numbers[i] == (row == NULL ? -1 : (int64_t)number));
            EXPECT(out[i * ROW] == (row == NULL ? -1 : row[0]));
        }
        iam_map_destroy(map);
    }
    free(keys), free(numbers), free(rows), free(out), free(found);
}

int main(void)
{
    RUN(test_random_walks);
    RUN(test_degenerate_hashes);
    RUN(test_reserve_is_a_promise);
    RUN(test_the_past_is_forgotten_or_not);
    RUN(test_ensure_gives_what_is_asked_for);
    RUN(test_copies);
    RUN(test_views_hold_their_row);
    RUN(test_prefetches_are_hints);
    RUN(test_churn_with_views_stays_flat);
    RUN(test_batches_agree_with_single_keys);
    return harness_end();
}
