/* test_hash.c: hash.h: the values it promises to keep, tags, and that no regular pattern of keys crowds a bucket. */
#include "harness.h"

#include "table.h"

/* Computed by an independent implementation in Python's integers: a change of these values changes which bucket every
 * key lives in. (Nothing stored depends on them: images keep keys, not buckets.) */
static const struct {
    uint64_t seed;
    int64_t key;
    uint64_t hash;
} pinned[] = {
    {0, 0, 0x7fdc5a79caa89fdbu},
    {0, 1, 0x4607e76d5c0fa6e4u},
    {0, -1, 0x3cd28b39abf42d54u},
    {0, 42, 0xd325f0c702f0d701u},
    {0, INT64_MIN, 0x67e1974dcf895634u},
    {0, INT64_MAX, 0x019ea540f801b342u},
    {1, 0, 0x6501d860ec06c1ddu},
    {1, 42, 0xac937573405b197bu},
    {1, INT64_MIN, 0xf7804476f7f55c58u},
    {0x0123456789abcdefu, 0, 0xe932226cccd194a1u},
    {0x0123456789abcdefu, -1, 0x0aa79ca3b6c62a77u},
    {0x0123456789abcdefu, INT64_MAX, 0x2fa40b46e906c587u},
    {UINT64_MAX, 0, 0x92abc823ef2d5d69u},
    {UINT64_MAX, 42, 0x0c5b184db395be7cu},
    {UINT64_MAX, INT64_MAX, 0xe6645a18771ab5c9u},
};

static void test_pinned_values(void)
{
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) {
        hash_secret secret = hash_begin(pinned[i].seed, 0, 0);
        EXPECT(hash_key(&secret, pinned[i].key) == pinned[i].hash);
    }
}

static void test_masks_make_hashes_degenerate(void)
{
    hash_secret plain = hash_begin(7, 0, 0), masked = hash_begin(7, 0xff00, 0x8001), all_one = hash_begin(7, 0, 0x10);
    for (int64_t key = -1000; key < 1000; key++) {
        EXPECT(hash_key(&masked, key) == ((hash_key(&plain, key) & 0xff00) | 0x8001));
        EXPECT(hash_key(&all_one, key) == 0x10);
    }
}

static void test_tophash_is_never_below_five(void)
{
    for (uint64_t top = 0; top < 256; top++)
        for (int low = 0; low < 2; low++) {
            uint64_t hash = top << 56 | (low ? (UINT64_MAX >> 8) : 0);
            EXPECT(hash_tophash(hash) == (top < 5 ? top + 5 : top));
            EXPECT(hash_tophash(hash) >= 5);
        }
}

/* Every bit of the key flips every bit of the hash in half of the cases: 0.5 give or take six standard deviations. */
static void test_every_bit_of_the_key_counts(void)
{
    enum { SAMPLES = 4096, SIX_SIGMA = 6 * 32 };
    hash_secret secret = hash_begin(12345, 0, 0);
    uint64_t state = 1;
    static int flips[64][64];
    for (int sample = 0; sample < SAMPLES; sample++) {
        uint64_t key = harness_random(&state);
        uint64_t hash = hash_key(&secret, (int64_t)key);
        for (int in = 0; in < 64; in++) {
            uint64_t changed = hash ^ hash_key(&secret, (int64_t)(key ^ (uint64_t)1 << in));
            for (int out = 0; out < 64; out++)
                flips[in][out] += changed >> out & 1;
        }
    }
    for (int in = 0; in < 64; in++)
        for (int out = 0; out < 64; out++)
            EXPECT(abs(flips[in][out] - SAMPLES / 2) < SIX_SIGMA);
}

/* ---- Clean on patterns ------------------------------------------------------------------------------------------- */

static uint64_t inverse_of(uint64_t odd) /* modulo 2^64, by Newton's iteration */
{
    uint64_t inverse = odd;
    for (int step = 0; step < 6; step++)
        inverse *= 2 - odd * inverse;
    return inverse;
}

static uint64_t undo_xorshift(uint64_t mixed, int shift) /* x from x ^ x >> shift */
{
    uint64_t plain = mixed;
    for (int known = shift; known < 64; known += shift)
        plain = mixed ^ plain >> shift;
    return plain;
}

/* The keys that MurmurHash3's finaliser maps to `hash`: an attacker's collisions for a table that uses it unkeyed. */
static uint64_t murmur3_inverse(uint64_t hash)
{
    hash = undo_xorshift(hash, 33) * inverse_of(0xc4ceb9fe1a85ec53u);
    hash = undo_xorshift(hash, 33) * inverse_of(0xff51afd7ed558ccdu);
    return undo_xorshift(hash, 33);
}

static uint64_t splitmix64_inverse(uint64_t hash)
{
    hash = undo_xorshift(hash, 31) * inverse_of(0x94d049bb133111ebu);
    hash = undo_xorshift(hash, 27) * inverse_of(0xbf58476d1ce4e5b9u);
    return undo_xorshift(hash, 30) - 0x9e3779b97f4a7c15u;
}

static uint64_t bit_reversed(uint64_t word)
{
    uint64_t reversed = 0;
    for (int bit = 0; bit < 64; bit++)
        reversed |= (word >> bit & 1) << (63 - bit);
    return reversed;
}

static uint64_t double_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

enum { PATTERN_RANDOM, PATTERN_MULTIPLES, PATTERN_MULTIPLES_MOST = PATTERN_MULTIPLES + 56, PATTERN_OTHERS };
enum { OTHER_COUNT = 24, PATTERN_COUNT = PATTERN_OTHERS + OTHER_COUNT };

static uint64_t other_pattern(int other, uint64_t i)
{
    switch (other) {
    case 0:
        return -i;
    case 1: /* the same low 32 bits */
        return i << 32 | 0x12345678;
    case 2: /* the same high 32 bits */
        return 0x12345678ull << 32 | i * 65537;
    case 3: /* timestamps: seconds in nanoseconds */
        return 1600000000000000000u + i * 1000000000u;
    case 4: /* days in nanoseconds */
        return 86400000000000u * i;
    case 5: /* minutes in milliseconds */
        return 1600000000000u + i * 60000u;
    case 6: /* pointers to small blocks */
        return 0x00007f3a40000000u + i * 16;
    case 7: /* pointers to pages */
        return 0x00007f3a40000000u + i * 4096;
    case 8:
        return bit_reversed(i);
    case 9:
        return bit_reversed(i) >> 1;
    case 10:
        return murmur3_inverse(i);
    case 11:
        return murmur3_inverse(i << 40);
    case 12:
        return splitmix64_inverse(i);
    case 13:
        return splitmix64_inverse(i << 40);
    case 14: /* all in one bucket of a table that multiplies by the golden ratio and takes top bits */
        return i * inverse_of(0x9e3779b97f4a7c15u);
    case 15: /* ... and low bits */
        return (i << 40) * inverse_of(0x9e3779b97f4a7c15u);
    case 16: /* a grid: x and y in halves */
        return (i % 160) << 32 | i / 160;
    case 17: /* Gray code */
        return i ^ i >> 1;
    case 18: /* doubles that are whole numbers, as bits */
        return double_bits((double)i);
    case 19:
        return i * 1000000007u;
    case 20: /* pairs far apart */
        return (i >> 1) + ((i & 1) << 62);
    case 21: /* squares */
        return i * i;
    case 22: /* low byte constant, the rest in order, negative */
        return ~(i << 8);
    default: /* six bits spread over the word */
        return (i & 63) | (i >> 6 & 63) << 29 | (i >> 12) << 58 >> 1;
    }
}

static int64_t pattern_key(int pattern, uint64_t i, uint64_t *state)
{
    if (pattern == PATTERN_RANDOM)
        return (int64_t)harness_random(state);
    if (pattern <= PATTERN_MULTIPLES_MOST)
        return (int64_t)(i << (pattern - PATTERN_MULTIPLES));
    return (int64_t)other_pattern(pattern - PATTERN_OTHERS, i);
}

typedef struct spread {
    uint64_t keys, in_overflow;
    uint64_t tags[256];
} spread;

static void measure_spread(int pattern, uint64_t seed, uint64_t key_count, spread *sum_io)
{
    alloc memory;
    table index;
    uint64_t state = seed;
    alloc_begin(&memory, &(iam_options){0});
    table_begin(&index, hash_begin(seed, 0, 0), false, 1 << 20);
    EXPECT(table_reserve(&index, &memory, key_count, SEGMENTS_EXACT));
    uint64_t bucket_count = index.bucket_count;
    for (uint64_t i = 0; i < key_count; i++) {
        int64_t key = pattern_key(pattern, i, &state);
        uint64_t hash = hash_key(&index.secret, key);
        EXPECT(table_insert(&index, &memory, hash, key, (uint32_t)i));
        sum_io->tags[hash >> 56]++;
    }
    EXPECT(index.bucket_count == bucket_count); /* else the shares below were not comparable */
    for (uint64_t home = 0; home < index.bucket_count; home++)
        for (const bucket *link = table_bucket(&index, home); link->overflow != BUCKET_NONE;) {
            link = table_next(&index, link);
            sum_io->in_overflow += link->slot_count;
        }
    sum_io->keys += key_count;
    table_end(&index, &memory);
}

/* 4096 buckets at a load of 6.5. Multiples of 2^56 are only 256 keys, so short patterns are measured under many seeds.
 */
static spread measure_pattern(int pattern, uint64_t key_count)
{
    enum { KEYS_IN_ALL = 4 * 26624 };
    spread sum = {0};
    for (uint64_t seed = 1; sum.keys < KEYS_IN_ALL; seed++)
        measure_spread(pattern, seed * 77, key_count, &sum);
    return sum;
}

static uint64_t pattern_length(int pattern)
{
    enum { KEY_COUNT = 26624 };
    int shift = pattern <= PATTERN_MULTIPLES_MOST ? pattern - PATTERN_MULTIPLES : 0;
    return shift > 49 ? (uint64_t)1 << (64 - shift) : KEY_COUNT;
}

static double overflow_percent(const spread *sum)
{
    return 100.0 * (double)sum->in_overflow / (double)sum->keys;
}

/* Chi squared over 256 tags has a mean of 255 and a deviation of 23. */
static double tag_chi_squared(const spread *sum)
{
    double expected = (double)sum->keys / 256, chi_squared = 0;
    for (int tag = 0; tag < 256; tag++) {
        double off = (double)sum->tags[tag] - expected;
        chi_squared += off * off / expected;
    }
    return chi_squared;
}

static void test_patterns_spread_like_random_keys(void)
{
    double worst_points = 0, worst_tags = 0;
    spread random = {0};
    for (int pattern = PATTERN_MULTIPLES; pattern < PATTERN_COUNT; pattern++) {
        uint64_t key_count = pattern_length(pattern);
        if (pattern == PATTERN_MULTIPLES || key_count != pattern_length(pattern - 1))
            random = measure_pattern(PATTERN_RANDOM, key_count);
        spread regular = measure_pattern(pattern, key_count);
        double points = overflow_percent(&regular) - overflow_percent(&random);
        EXPECT(points < 1.5 && points > -1.5);
        EXPECT(tag_chi_squared(&regular) < 255 + 8 * 23);
        worst_points = points > worst_points ? points : worst_points;
        worst_tags = tag_chi_squared(&regular) > worst_tags ? tag_chi_squared(&regular) : worst_tags;
        if (pattern == PATTERN_MULTIPLES)
            printf("   keys in overflow: random %.2f %%, ascending %.2f %%\n", overflow_percent(&random),
                   overflow_percent(&regular));
    }
    printf("   %d patterns: at most %.2f points above random keys; tags: chi squared at most %.0f\n",
           PATTERN_COUNT - PATTERN_MULTIPLES, worst_points, worst_tags);
    printf("%d key patterns counted\n", PATTERN_COUNT - PATTERN_MULTIPLES);
}

int main(void)
{
    RUN(test_pinned_values);
    RUN(test_masks_make_hashes_degenerate);
    RUN(test_tophash_is_never_below_five);
    RUN(test_every_bit_of_the_key_counts);
    RUN(test_patterns_spread_like_random_keys);
    return harness_end();
}
