/* test_growth.c: evacuation: every state that growth.c names, splits that need no memory, growth that has to wait for
 * it, the two triggers, and churn. */
#include "table.h"

#include "harness.h"

typedef struct room {
    failing state;
    alloc memory;
    table index;
} room;

static void room_begin(room *r, hash_secret secret, bool stop_the_world)
{
    iam_options options = {.allocator = failing_allocator(&r->state)};
    alloc_begin(&r->memory, &options);
    table_begin(&r->index, secret, stop_the_world, 1 << 22);
}

static void expect_valid(const room *r)
{
    char reason[200] = "";
    if (!table_validate(&r->index, reason, sizeof reason)) {
        fprintf(stderr, "%s\n", reason);
        exit(1);
    }
}

static void room_end(room *r)
{
    expect_valid(r);
    table_end(&r->index, &r->memory);
    EXPECT(atomic_load(&r->state.alive) == 0 && atomic_load(&r->memory.bytes) == 0);
}

/* Row numbers are key numbers; keys are far apart. */
static int64_t key_of(uint64_t i)
{
    return (int64_t)(i * 0x9e3779b97f4a7c15u);
}

static bool insert(room *r, int64_t key, uint64_t row)
{
    return table_insert(&r->index, &r->memory, hash_key(&r->index.secret, key), key, (uint32_t)row);
}

static void expect_keys(const room *r, uint64_t key_count)
{
    for (uint64_t i = 0; i < key_count; i++)
        EXPECT(table_find(&r->index, key_of(i)) == i);
    EXPECT(table_find(&r->index, key_of(key_count)) == IAM_ROW_NONE);
}

/* ---- States ------------------------------------------------------------------------------------------------------ */

enum { WHOLE, EVACUATED, ABSENT, Y, STATES };

static int state_of(const table *index, uint64_t b)
{
    if (b < index->level)
        return b < index->bucket_count - index->level ? EVACUATED : WHOLE;
    return b < index->bucket_count ? Y : ABSENT;
}

static bool chain_has(const table *index, uint64_t home, int64_t key)
{
    for (const bucket *link = table_bucket(index, home);; link = table_next(index, link)) {
        for (unsigned slot = 0; slot < link->slot_count; slot++)
            if (link->key[slot] == key)
                return true;
        if (link->overflow == BUCKET_NONE)
            return false;
    }
}

/* Where each key stands, told from the drawing in growth.c and not by table_home. */
static void expect_places(const room *r, uint64_t key_count, uint64_t *seen_io)
{
    const table *index = &r->index;
    for (uint64_t i = 0; i < key_count; i++) {
        uint64_t b = hash_key(&index->secret, key_of(i)) % (2 * index->level);
        int state = state_of(index, b);
        EXPECT(chain_has(index, state == ABSENT ? b - index->level : b, key_of(i)));
        if (state == ABSENT)
            EXPECT(state_of(index, b - index->level) == WHOLE);
        seen_io[state]++;
    }
}

/* From EMPTY through EVEN and GROWING to 300 buckets, split by split. */
static void test_every_bucket_count(void)
{
    room r;
    room_begin(&r, hash_begin(1, 0, 0), false);
    uint64_t seen[STATES] = {0}, even = 0, growing = 0, steps = 0;
    EXPECT(r.index.bucket_count == 0 && table_find(&r.index, key_of(0)) == IAM_ROW_NONE); /* EMPTY */
    for (uint64_t i = 0, bucket_count = 0; bucket_count < 300; i++) {
        EXPECT(insert(&r, key_of(i), i));
        EXPECT(r.index.key_count * 2 <= r.index.bucket_count * TABLE_LOAD_HALVES);
        if (r.index.bucket_count == bucket_count)
            continue;
        EXPECT(r.index.bucket_count == bucket_count + 1); /* one bucket at a time */
        bucket_count = r.index.bucket_count;
        bool is_power = (bucket_count & (bucket_count - 1)) == 0;
        EXPECT((bucket_count == r.index.level) == is_power);
        even += is_power;
        growing += !is_power;
        steps++;
        expect_valid(&r);
        expect_keys(&r, i + 1);
        expect_places(&r, i + 1, seen);
    }
    EXPECT(steps == 300 && even == 9 && growing == 291);
    for (int state = 0; state < STATES; state++)
        EXPECT(seen[state] > 10000);
    room_end(&r);
}

static void test_stop_the_world_doubles_at_once(void)
{
    room r;
    room_begin(&r, hash_begin(1, 0, 0), true);
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t before = r.index.bucket_count, splits = r.index.split_count;
        EXPECT(insert(&r, key_of(i), i));
        uint64_t after = r.index.bucket_count;
        EXPECT(after == r.index.level && (after == before || after == 2 * before || before == 0));
        EXPECT(before == 0 || r.index.split_count - splits == after - before);
    }
    EXPECT(r.index.bucket_count == 1024);
    expect_keys(&r, 5000);
    room_end(&r);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

/* 200 keys in bucket 5 of 64, in a chain of 25 buckets, dealt to two by a bit of which all, none or half of them have:
 * whatever the shares, the source chain and the new home bucket are room enough. */
static void split_long_chain(unsigned ones_of_four)
{
    enum { KEYS = 200, BUCKETS = 64 };
    static int64_t keys[KEYS];
    room r;
    room_begin(&r, hash_begin(4, 0, 0), false);
    EXPECT(table_reserve(&r.index, &r.memory, BUCKETS * TABLE_LOAD_HALVES / 2, SEGMENTS_EXACT));
    EXPECT(r.index.bucket_count == BUCKETS && r.index.level == BUCKETS);
    int64_t tried = 0;
    for (uint64_t i = 0; i < KEYS; i++) {
        uint64_t bit = i % 4 < ones_of_four ? BUCKETS : 0;
        keys[i] = harness_key_for(&r.index.secret, 2 * BUCKETS - 1, 5 | bit, -1, &tried);
        EXPECT(insert(&r, keys[i], i));
    }
    EXPECT(r.index.bucket_count == BUCKETS && table_longest_chain(&r.index) == KEYS / BUCKET_SLOTS);
    EXPECT(segments_reserve(&r.index.buckets, &r.memory, 16 * BUCKETS, SEGMENTS_AHEAD));
    uint64_t top = r.index.overflow_top, requests = atomic_load(&r.memory.request_count);
    atomic_store(&r.state.until_failure, 0);
    for (uint64_t bucket_count = BUCKETS + 1; bucket_count <= 16 * BUCKETS; bucket_count++) {
        EXPECT(growth_finish(&r.index, &r.memory, bucket_count));
        EXPECT(r.index.overflow_top == top && r.index.overflow_count <= top);
        if (bucket_count == BUCKETS + 6) {
            uint64_t moved = ones_of_four * KEYS / 4, chains = 0;
            chains += moved == 0 ? 0 : (moved - 1) / BUCKET_SLOTS;
            chains += moved == KEYS ? 0 : (KEYS - moved - 1) / BUCKET_SLOTS;
            EXPECT(r.index.overflow_count == chains);
        }
        if (bucket_count % 32 == 0 || bucket_count < BUCKETS + 10)
            expect_valid(&r);
        for (uint64_t i = 0; i < KEYS; i++)
            EXPECT(table_find(&r.index, keys[i]) == i);
    }
    EXPECT(atomic_load(&r.state.refused) == 0 && atomic_load(&r.memory.request_count) == requests);
    atomic_store(&r.state.until_failure, FAILING_NEVER);
    room_end(&r);
}

static void test_a_long_chain_splits_without_memory(void)
{
    for (unsigned ones_of_four = 0; ones_of_four <= 4; ones_of_four++)
        split_long_chain(ones_of_four);
}

/* No bit ever tells the keys apart: growth moves the chain as a whole, or leaves it. */
static void test_equal_hashes_split_to_one_side(void)
{
    enum { KEYS = 100 };
    for (int low = 0; low < 2; low++) {
        room r;
        room_begin(&r, hash_begin(4, 0, low ? UINT64_MAX : (uint64_t)1 << 63), false);
        for (uint64_t i = 0; i < KEYS; i++)
            EXPECT(insert(&r, key_of(i), i));
        uint64_t top = r.index.overflow_top;
        EXPECT(growth_finish(&r.index, &r.memory, 100));
        EXPECT(r.index.bucket_count == 100 && r.index.overflow_top == top);
        EXPECT(table_longest_chain(&r.index) == (KEYS + BUCKET_SLOTS - 1) / BUCKET_SLOTS);
        expect_valid(&r);
        expect_keys(&r, KEYS);
        room_end(&r);
    }
}

/* Where memory for a home bucket cannot be had the table gets fuller and stays right; later it catches up, two splits
 * at a time. */
static void test_growth_waits_for_memory(void)
{
    room r;
    room_begin(&r, hash_begin(6, 0, 0), false);
    uint64_t key_count = 0;
    for (; key_count < 500; key_count++)
        EXPECT(insert(&r, key_of(key_count), key_count));
    EXPECT(table_reserve_overflow(&r.index, &r.memory));
    EXPECT(segments_reserve(&r.index.overflow, &r.memory, 500, SEGMENTS_EXACT));
    atomic_store(&r.state.until_failure, 0);
    while (key_count < 3000) {
        EXPECT(insert(&r, key_of(key_count), key_count));
        key_count++;
    }
    EXPECT(r.index.bucket_count == r.index.buckets.item_count); /* as far as memory went */
    EXPECT(r.index.key_count > r.index.bucket_count * 2 * TABLE_LOAD_HALVES / 2);
    EXPECT(atomic_load(&r.state.refused) > 1000);
    expect_valid(&r);
    expect_keys(&r, key_count);
    atomic_store(&r.state.until_failure, FAILING_NEVER);
    uint64_t caught_up_after = 0;
    for (; r.index.key_count * 2 > r.index.bucket_count * TABLE_LOAD_HALVES; caught_up_after++) {
        uint64_t splits = r.index.split_count;
        EXPECT(insert(&r, key_of(key_count), key_count));
        key_count++;
        EXPECT(r.index.split_count - splits == 2 || r.index.key_count * 2 <= r.index.bucket_count * TABLE_LOAD_HALVES);
    }
    EXPECT(caught_up_after > 50 && caught_up_after < 400);
    expect_keys(&r, key_count);
    room_end(&r);
}

static void test_refused_finish_leaves_it_whole(void)
{
    room r;
    room_begin(&r, hash_begin(6, 0, 0), false);
    for (uint64_t i = 0; i < 1000; i++)
        EXPECT(insert(&r, key_of(i), i));
    uint64_t bucket_count = r.index.bucket_count;
    atomic_store(&r.state.until_failure, 0);
    EXPECT(!growth_finish(&r.index, &r.memory, 100000));
    atomic_store(&r.state.until_failure, FAILING_NEVER);
    EXPECT(r.index.bucket_count == bucket_count);
    expect_valid(&r);
    expect_keys(&r, 1000);
    room_end(&r);
}

/* ---- When it grows ----------------------------------------------------------------------------------------------- */

static void test_at_most_two_splits_per_insert(void)
{
    const uint64_t or_masks[] = {0, 3, 15}; /* the last two crowd their keys into few buckets */
    for (int i = 0; i < 3; i++) {
        room r;
        room_begin(&r, hash_begin(8, UINT64_MAX, or_masks[i]), false);
        uint64_t most = 0;
        for (uint64_t key = 0; key < 50000; key++) {
            uint64_t splits = r.index.split_count;
            EXPECT(insert(&r, key_of(key), key));
            uint64_t made = r.index.split_count - splits;
            EXPECT(made <= 2);
            most = made > most ? made : most;
        }
        EXPECT(most >= 1);
        room_end(&r);
    }
}

/* The first trigger alone: exactly as many buckets as the load factor asks for, whatever the seed. */
static void test_load_factor(void)
{
    for (uint64_t seed = 0; seed < 8; seed++) {
        room r;
        room_begin(&r, hash_begin(seed, 0, 0), false);
        for (uint64_t i = 0; i < 20000; i++)
            EXPECT(insert(&r, key_of(i), i) &&
                   r.index.bucket_count == ((i + 1) * 2 + TABLE_LOAD_HALVES - 1) / TABLE_LOAD_HALVES);
        room_end(&r);
    }
}

/* The second: where overflow buckets pile up it grows at a lower load, until they are few enough for their home
 * buckets. However bad the hash, that is so at 3.5 keys a home bucket. */
static void test_overflow_trigger(void)
{
    enum { KEYS = 20000, BY_LOAD = (KEYS * 2 + TABLE_LOAD_HALVES - 1) / TABLE_LOAD_HALVES };
    for (int bad = 0; bad < 2; bad++) {
        room r;
        /* Keys in a quarter of the buckets; all keys in one. */
        room_begin(&r, hash_begin(8, bad ? 0xff00000000000000u : UINT64_MAX, bad ? 0 : 3), false);
        uint64_t key_count = bad ? 4000 : KEYS, by_load = bad ? BY_LOAD / 5 : BY_LOAD;
        for (uint64_t i = 0; i < key_count; i++)
            EXPECT(insert(&r, key_of(i), i));
        EXPECT(r.index.bucket_count > by_load * 13 / 10 && r.index.bucket_count * 7 <= key_count * 2);
        EXPECT(bad || r.index.overflow_count * 16 <= r.index.bucket_count * GROWTH_OVERFLOW_SIXTEENTHS + 64 + 16);
        /* Each chain that gets longer is an occasion to grow; there is an end to it. */
        for (int round = 0; round < 1000; round++)
            for (uint64_t i = 0; i < 2 * BUCKET_SLOTS; i++)
                if (i < BUCKET_SLOTS)
                    EXPECT(table_erase(&r.index, hash_key(&r.index.secret, key_of(i)), key_of(i)) == i);
                else
                    EXPECT(insert(&r, key_of(i - BUCKET_SLOTS), i - BUCKET_SLOTS));
        EXPECT(r.index.bucket_count * 7 <= key_count * 2 && (!bad || r.index.bucket_count > by_load * 18 / 10));
        expect_keys(&r, key_count);
        room_end(&r);
    }
}

/* What chance does: the figures in table.h, table.c and DESIGN.md (Poisson: 3.34 and 4.33). Overflow buckets per 16
 * home buckets in a table that is always at its full load, from 4096 to 8192 home buckets. */
static void test_overflow_by_chance(void)
{
    enum { LEVEL = 4096, SEEDS = 8, PLACES = 64 };
    double share[PLACES + 1] = {0}, most = 0;
    int most_at = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        room r;
        room_begin(&r, hash_begin(seed + 100, 0, 0), false);
        uint64_t key_count = 0;
        for (int place = 0; place <= PLACES; place++) {
            uint64_t bucket_count = LEVEL + LEVEL / PLACES * (uint64_t)place;
            for (; key_count < bucket_count * TABLE_LOAD_HALVES / 2; key_count++)
                EXPECT(insert(&r, key_of(key_count), key_count));
            EXPECT(r.index.bucket_count == bucket_count);
            share[place] += 16.0 * (double)r.index.overflow_count / (double)bucket_count / SEEDS;
        }
        room_end(&r);
    }
    for (int place = 0; place <= PLACES; place++)
        if (share[place] > most) {
            most = share[place];
            most_at = place;
        }
    printf("   overflow buckets per 16 home buckets: %.2f at EVEN, %.2f at most, at %.2f of the doubling, %.2f at EVEN "
           "again\n",
           share[0], most, (double)most_at / PLACES, share[PLACES]);
    EXPECT(share[0] > 3.1 && share[0] < 3.5 && share[PLACES] > 3.1 && share[PLACES] < 3.5);
    EXPECT(most > 4.2 && most < 4.5);
}

/* Keys come and go at a constant count: nothing grows, ever. */
static void test_churn_stays_flat(void)
{
    enum { KEYS = 10000, WARM_UP = 100000, STEPS = 400000 };
    static uint64_t alive[KEYS];
    room r;
    room_begin(&r, hash_begin(3, 0, 0), false);
    uint64_t state = 1, next = 0, top = 0, bucket_count = 0;
    for (; next < KEYS; next++) {
        EXPECT(insert(&r, key_of(next), next));
        alive[next] = next;
    }
    for (int step = 0; step < STEPS; step++) {
        uint64_t *place = &alive[harness_random(&state) % KEYS];
        EXPECT(table_erase(&r.index, hash_key(&r.index.secret, key_of(*place)), key_of(*place)) == *place);
        *place = next++;
        EXPECT(insert(&r, key_of(*place), *place));
        if (step == WARM_UP) {
            top = r.index.overflow_top;
            bucket_count = r.index.bucket_count;
        }
        if (step > WARM_UP && step % 20000 == 0) {
            EXPECT(r.index.bucket_count == bucket_count && bucket_count == (KEYS * 2 + 12) / 13);
            EXPECT(r.index.overflow_top <= top + top / 20);
            EXPECT(table_longest_chain(&r.index) <= 4);
            expect_valid(&r);
        }
    }
    for (int i = 0; i < KEYS; i++)
        EXPECT(table_find(&r.index, key_of(alive[i])) == alive[i]);
    room_end(&r);
}

int main(void)
{
    RUN(test_every_bucket_count);
    RUN(test_stop_the_world_doubles_at_once);
    RUN(test_a_long_chain_splits_without_memory);
    RUN(test_equal_hashes_split_to_one_side);
    RUN(test_growth_waits_for_memory);
    RUN(test_refused_finish_leaves_it_whole);
    RUN(test_at_most_two_splits_per_insert);
    RUN(test_load_factor);
    RUN(test_overflow_trigger);
    RUN(test_overflow_by_chance);
    RUN(test_churn_stays_flat);
    return harness_end();
}
