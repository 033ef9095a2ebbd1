/* test_table.c: the hash index alone: keys in chains, the overflow pool, room that was promised, refusals. Growth is
 * test_growth.c. */
#include "harness.h"

#include "table.h"

typedef struct room {
    failing state;
    alloc memory;
    table index;
} room;

static void room_begin(room *r, hash_secret secret)
{
    iam_options options = {.allocator = failing_allocator(&r->state)};
    alloc_begin(&r->memory, &options);
    table_begin(&r->index, secret, false, 1 << 20);
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
    EXPECT(table_find(&r->index, 1) == IAM_ROW_NONE);
}

static bool insert(room *r, int64_t key, uint32_t row)
{
    return table_insert(&r->index, &r->memory, hash_key(&r->index.secret, key), key, row);
}

static uint32_t erase(room *r, int64_t key)
{
    return table_erase(&r->index, hash_key(&r->index.secret, key), key);
}

static void test_empty(void)
{
    room r;
    room_begin(&r, hash_begin(1, 0, 0));
    EXPECT(table_find(&r.index, 0) == IAM_ROW_NONE);
    EXPECT(erase(&r, 0) == IAM_ROW_NONE);
    EXPECT(table_longest_chain(&r.index) == 0);
    EXPECT(atomic_load(&r.memory.request_count) == 0);
    EXPECT(insert(&r, 0, 7) && table_find(&r.index, 0) == 7 && table_find(&r.index, 1) == IAM_ROW_NONE);
    EXPECT(erase(&r, 1) == IAM_ROW_NONE && erase(&r, 0) == 7 && table_find(&r.index, 0) == IAM_ROW_NONE);
    EXPECT(r.index.key_count == 0);
    room_end(&r);
}

/* Against an array that knows the row of each of a few keys. */
static void random_operations(hash_secret secret, int step_count)
{
    enum { KEYS = 700 };
    static uint32_t rows[KEYS];
    room r;
    uint64_t state = 3, count = 0;
    room_begin(&r, secret);
    for (int i = 0; i < KEYS; i++)
        rows[i] = IAM_ROW_NONE;
    for (int step = 0; step < step_count; step++) {
        uint64_t random = harness_random(&state);
        uint64_t i = random % KEYS;
        int64_t key = (int64_t)(i * 0x9e3779b97f4a7c15u);
        bool growing = (step / 1500) % 2 == 0;
        EXPECT(table_find(&r.index, key) == rows[i]);
        if ((random >> 32) % 4 != 0 ? growing : !growing) {
            if (rows[i] == IAM_ROW_NONE) {
                rows[i] = (uint32_t)(random >> 40);
                EXPECT(insert(&r, key, rows[i]));
                count++;
            }
        } else {
            EXPECT(erase(&r, key) == rows[i]);
            count -= rows[i] != IAM_ROW_NONE;
            rows[i] = IAM_ROW_NONE;
        }
        EXPECT(r.index.key_count == count);
        if (step % 100 == 0)
            expect_valid(&r);
    }
    room_end(&r);
}

static void test_random_operations(void)
{
    random_operations(hash_begin(5, 0, 0), 20000);
    random_operations(hash_begin(5, 0, UINT64_MAX), 6000);             /* one hash for all: one chain, one tag */
    random_operations(hash_begin(5, 0xff, 0), 10000);                  /* all tags the same */
    random_operations(hash_begin(5, 0xff00000000000000u, 0), 6000);    /* one bucket, tags differ */
    random_operations(hash_begin(5, 0, (uint64_t)1 << 63), 6000);      /* one bucket, one tag */
    random_operations(hash_begin(5, UINT64_MAX, 0x1000000f0u), 10000); /* a few buckets */
}

/* Eight keys with one tag in one bucket: only the keys tell them apart. */
static void test_one_tag_eight_keys(void)
{
    room r;
    room_begin(&r, hash_begin(9, 0, 0));
    EXPECT(table_reserve(&r.index, &r.memory, 100, SEGMENTS_EXACT));
    EXPECT(r.index.bucket_count == 16);
    int64_t tried = 0, keys[10];
    for (int i = 0; i < 10; i++)
        keys[i] = harness_key_for(&r.index.secret, 15, 11, 200, &tried);
    for (uint32_t i = 0; i < 8; i++)
        EXPECT(insert(&r, keys[i], 100 + i));
    const bucket *home = table_bucket(&r.index, 11);
    EXPECT(home->slot_count == 8 && home->overflow == BUCKET_NONE);
    for (uint32_t i = 0; i < 8; i++)
        EXPECT(home->tophash[i] == 200 && table_find(&r.index, keys[i]) == 100 + i);
    EXPECT(table_find(&r.index, keys[8]) == IAM_ROW_NONE);
    EXPECT(insert(&r, keys[8], 108) && insert(&r, keys[9], 109));
    EXPECT(home->overflow != BUCKET_NONE && r.index.overflow_count == 1 && table_longest_chain(&r.index) == 2);
    /* The last slot of the chain moves into the hole: row 109 to slot 2 of the home bucket. */
    EXPECT(erase(&r, keys[2]) == 102 && bucket_row(home, 2) == 109 && home->slot_count == 8);
    EXPECT(table_next(&r.index, home)->slot_count == 1);
    expect_valid(&r);
    EXPECT(erase(&r, keys[8]) == 108 && home->overflow == BUCKET_NONE && r.index.overflow_count == 0);
    EXPECT(r.index.overflow_top == 1 && r.index.overflow_free != BUCKET_NONE);
    for (uint32_t i = 0; i < 10; i++)
        EXPECT(table_find(&r.index, keys[i]) == (i == 2 || i == 8 ? IAM_ROW_NONE : 100 + i));
    room_end(&r);
}

/* A long chain comes and goes: its buckets are used again. Buckets freed in one chain serve another. */
static void test_overflow_buckets_are_used_again(void)
{
    enum { KEYS = 200 };
    room r;
    room_begin(&r, hash_begin(9, 0, 0));
    EXPECT(table_reserve(&r.index, &r.memory, 6 * 64, SEGMENTS_EXACT));
    int64_t tried = 0, keys[2][KEYS];
    for (int bucket_of = 0; bucket_of < 2; bucket_of++)
        for (int i = 0; i < KEYS; i++)
            keys[bucket_of][i] = harness_key_for(&r.index.secret, 0xfff, (uint64_t)bucket_of, -1, &tried);
    uint64_t top = 0;
    for (int round = 0; round < 6; round++) {
        const int64_t *chain = keys[round % 2];
        for (uint32_t i = 0; i < KEYS; i++)
            EXPECT(insert(&r, chain[i], i));
        EXPECT(table_longest_chain(&r.index) == KEYS / BUCKET_SLOTS);
        EXPECT(r.index.overflow_count == KEYS / BUCKET_SLOTS - 1);
        top = round == 0 ? r.index.overflow_top : top;
        EXPECT(r.index.overflow_top == top);
        expect_valid(&r);
        for (uint32_t i = 0; i < KEYS; i++) /* every third from the front, the others from the back */
            if (i % 3 == 0)
                EXPECT(erase(&r, chain[i]) == i);
        for (uint32_t i = KEYS; i-- > 0;)
            EXPECT(erase(&r, chain[i]) == (i % 3 == 0 ? IAM_ROW_NONE : i));
        EXPECT(r.index.overflow_count == 0 && table_longest_chain(&r.index) == 1);
    }
    room_end(&r);
}

/* ---- Room and its lack ------------------------------------------------------------------------------------------- */

/* Regression: small tables had too few overflow buckets set aside; one in some hundred seeds asked for more. */
static void test_reserved_room_needs_no_memory(void)
{
    uint64_t tables = 0;
    for (uint64_t key_count = 1; key_count < 3000; key_count += 1 + key_count / 12)
        for (uint64_t seed = 0; seed < 60; seed++) {
            room r;
            room_begin(&r, hash_begin(seed, 0, 0));
            EXPECT(table_reserve(&r.index, &r.memory, key_count, SEGMENTS_EXACT));
            uint64_t bucket_count = r.index.bucket_count;
            atomic_store(&r.state.until_failure, 0);
            for (uint64_t i = 0; i < key_count; i++)
                EXPECT(insert(&r, (int64_t)i, (uint32_t)i));
            EXPECT(atomic_load(&r.state.refused) == 0 && r.index.bucket_count == bucket_count);
            atomic_store(&r.state.until_failure, FAILING_NEVER);
            if (seed == 0)
                expect_valid(&r);
            table_end(&r.index, &r.memory);
            tables++;
        }
    EXPECT(tables > 3000);
}

static void test_reserve_grows_a_table_in_use(void)
{
    enum { KEYS = 1000 };
    room r;
    room_begin(&r, hash_begin(2, 0, 0));
    for (uint32_t i = 0; i < KEYS; i++)
        EXPECT(insert(&r, i, i));
    uint64_t grown = r.index.bucket_count;
    EXPECT(table_reserve(&r.index, &r.memory, 100, SEGMENTS_EXACT)); /* less than there is: nothing */
    EXPECT(r.index.bucket_count == grown);
    EXPECT(table_reserve(&r.index, &r.memory, 6500, SEGMENTS_EXACT));
    EXPECT(r.index.bucket_count == 1000);
    expect_valid(&r);
    for (uint32_t i = 0; i < KEYS; i++)
        EXPECT(table_find(&r.index, i) == i);
    room_end(&r);
}

static void test_refused_room_changes_nothing(void)
{
    room r;
    room_begin(&r, hash_begin(2, 0, UINT64_MAX)); /* one chain */
    atomic_store(&r.state.until_failure, 0);
    EXPECT(!table_reserve(&r.index, &r.memory, 100, SEGMENTS_EXACT));
    EXPECT(!insert(&r, 1, 1) && r.index.key_count == 0 && r.index.bucket_count == 0);
    atomic_store(&r.state.until_failure, FAILING_NEVER);
    uint32_t key_count = 0;
    for (; key_count < 8; key_count++)
        EXPECT(insert(&r, key_count, key_count));
    /* Without memory it goes on until a bucket is full and the pool is empty. Then again with it, three times over. */
    for (int round = 0; round < 3; round++) {
        atomic_store(&r.state.until_failure, 0);
        while (insert(&r, key_count, key_count))
            key_count++;
        EXPECT(key_count % BUCKET_SLOTS == 0 && r.index.key_count == key_count);
        EXPECT(table_find(&r.index, key_count) == IAM_ROW_NONE);
        expect_valid(&r);
        for (uint32_t i = 0; i < key_count; i++)
            EXPECT(table_find(&r.index, i) == i);
        atomic_store(&r.state.until_failure, FAILING_NEVER);
        EXPECT(insert(&r, key_count, key_count));
        key_count++;
    }
    EXPECT(key_count > 8 * 8);
    room_end(&r);
}

int main(void)
{
    RUN(test_empty);
    RUN(test_random_operations);
    RUN(test_one_tag_eight_keys);
    RUN(test_overflow_buckets_are_used_again);
    RUN(test_reserved_room_needs_no_memory);
    RUN(test_reserve_grows_a_table_in_use);
    RUN(test_refused_room_changes_nothing);
    return harness_end();
}
