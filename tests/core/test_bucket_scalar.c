/* test_bucket_scalar.c: bucket.h and pipeline.h as machines without SSE2 see them. */
#define IAM_NO_SIMD
#include "harness.h"

#include "pipeline.h"

static_assert(!BUCKET_HAS_SIMD, "this program is about the other way");

/* Every set of slots that can match. Regression: a factor with one bit too many lost a bucket whose eight tags were all
 * the same, and took slot 7 for slots 0 and 7. */
static void test_slots_of_every_match(void)
{
    for (unsigned slots = 0; slots < 256; slots++)
        for (unsigned tag = 5; tag < 256; tag += 25) {
            bucket home = {0};
            for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
                home.tophash[slot] = (uint8_t)(slots >> slot & 1 ? tag : tag ^ 1);
            EXPECT(pipeline_slots(&home, (uint8_t)tag, true) == slots);
            EXPECT(pipeline_slots(&home, (uint8_t)tag, false) == slots); /* asked for SIMD, which is not there */
        }
}

static void test_find(void)
{
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
        bucket home = {0};
        for (unsigned other = 0; other < BUCKET_SLOTS; other++)
            bucket_write(&home, other, other <= slot ? 100 : 101, (int64_t)other * 3, other);
        EXPECT(bucket_find(&home, 100, (int64_t)slot * 3) == (int)slot);
        EXPECT(bucket_find(&home, 101, (int64_t)slot * 3) == -1);
        EXPECT(bucket_find(&home, 100, -5) == -1);
    }
}

int main(void)
{
    RUN(test_slots_of_every_match);
    RUN(test_find);
    return harness_end();
}
