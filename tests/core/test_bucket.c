/* test_bucket.c: one bucket: matching tags with and without SIMD, the places of rows. (test_bucket_scalar.c is the same
 * room as machines without SSE2 see it.) */
#include "harness.h"

#include "bucket.h"

static uint64_t expected_scalar(const bucket *home, uint8_t tophash)
{
    uint64_t expected = 0;
    for (int slot = 0; slot < BUCKET_SLOTS; slot++)
        if (home->tophash[slot] == tophash)
            expected |= (uint64_t)0x80 << (8 * slot);
    return expected;
}

static uint32_t expected_mask(const bucket *home, uint8_t tophash)
{
    uint32_t expected = 0;
    for (int slot = 0; slot < BUCKET_SLOTS; slot++)
        expected |= (uint32_t)(home->tophash[slot] == tophash) << slot;
    return expected;
}

static void expect_matches(const bucket *home, uint8_t tophash)
{
    EXPECT(bucket_match_scalar(home, tophash) == expected_scalar(home, tophash));
#if BUCKET_HAS_SIMD
    EXPECT(bucket_match_simd(home, tophash) == expected_mask(home, tophash));
#else
    (void)expected_mask;
#endif
}

/* Every tag, every fill count, with neighbours that are the likeliest to be mistaken for it. */
static void test_matches_agree(void)
{
    uint64_t state = 1;
    for (unsigned tag = 0; tag < 256; tag++)
        for (unsigned fill = 0; fill <= BUCKET_SLOTS; fill++)
            for (int round = 0; round < 40; round++) {
                bucket home = {0};
                for (unsigned slot = 0; slot < fill; slot++) {
                    uint64_t random = harness_random(&state);
                    const uint8_t like[] = {(uint8_t)tag,          (uint8_t)(tag ^ 1),      (uint8_t)(tag + 1),
                                            (uint8_t)(tag ^ 0x80), (uint8_t)(random >> 16), (uint8_t)(tag - 1)};
                    home.tophash[slot] = like[random % sizeof like];
                }
                expect_matches(&home, (uint8_t)tag);
            }
}

/* The classic way to find a zero byte, (x - 0x01..) & ~x & 0x80.., also flags a byte of 1 above a zero: a tag that
 * differs from the wanted one in its lowest bit, in the slot after a match. */
static void test_zero_byte_trap(void)
{
    for (unsigned tag = 5; tag < 256; tag++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
            for (unsigned other = 0; other < 256; other++) {
                bucket home;
                memset(&home, (int)other, sizeof home);
                home.tophash[slot] = (uint8_t)tag;
                expect_matches(&home, (uint8_t)tag);
            }
}

static void test_find_looks_at_keys(void)
{
    bucket home = {0};
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
        bucket_write(&home, slot, slot < 6 ? 77 : 78, 1000 + (int64_t)slot, slot);
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
        EXPECT(bucket_find(&home, slot < 6 ? 77 : 78, 1000 + (int64_t)slot) == (int)slot);
    EXPECT(bucket_find(&home, 77, 1006) == -1); /* the key is there under another tag */
    EXPECT(bucket_find(&home, 77, 999) == -1);
    EXPECT(bucket_find(&home, 79, 1000) == -1);
}

/* Rows 0-3 in the first line behind the tags, 4-7 at the end of the keys: where bucket.h draws them. */
static void test_row_places(void)
{
    bucket home = {0};
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
        char *place = (char *)bucket_row_place(&home, slot);
        EXPECT(place - (char *)&home == (slot < 4 ? 16 + 4 * (int)slot : 96 + 4 * ((int)slot - 4)));
        bucket_write(&home, slot, 200, -1 - (int64_t)slot, 0xfffffff0u + slot);
    }
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
        EXPECT(bucket_row(&home, slot) == 0xfffffff0u + slot);
        EXPECT((slot < 4 ? home.row_low[slot] : home.row_high[slot - 4]) == 0xfffffff0u + slot);
        EXPECT(home.key[slot] == -1 - (int64_t)slot && home.tophash[slot] == 200);
    }
    EXPECT(home.overflow == 0 && home.slot_count == 0);
}

/* Sixteen bits, each for every sixteenth tag. */
static void test_filter_bits(void)
{
    for (unsigned tag = 1; tag < 256; tag++)
        EXPECT(bucket_filter_bit((uint8_t)tag) == 1u << tag % 16);
}

int main(void)
{
    RUN(test_matches_agree);
    RUN(test_zero_byte_trap);
    RUN(test_find_looks_at_keys);
    RUN(test_row_places);
    RUN(test_filter_bits);
    return harness_end();
}
