/* build.c: a hash index from many distinct keys at one go. Floor 4, called by batch_write.c.
 *
 * Inserting keys in the order they come touches bucket lines at random, and each insertion must look at the bucket
 * before it writes: a miss of cache and of the address translation each (45-63 ns a key at 1e6). So the keys are first
 * dealt into PARTs by where their home bucket lies, in order; then each part's buckets are filled while they are in the
 * second-level cache, by stores alone (the slots taken are counted beside); then each bucket is looked at once, in
 * order, for keys that came twice:
 *
 *   keys   k0 k1 k2 k3 ...  --deal-->  part 0: (k2,2) (k7,7) ...   part 1: (k0,0) (k3,3) ...   --fill-->  buckets
 *                                      keys beyond the eighth of a bucket are put aside and inserted one by one
 *
 * The row of key i is row i: rows, keys and presence are then plain copies. That holds only while no key comes twice
 * and no part overflows its share; else the table is emptied and the caller goes the general way.
 */
#include "build.h"

#include "pipeline.h"

#include <string.h>

/* Bucket memory of a part: half of a small second-level cache. */
#define PART_BYTES (256u << 10)
#define PART_COUNT_MOST 512
/* Keys ahead whose bucket is prefetched while a part is filled. */
#define FILL_AHEAD 16
/* Places ahead in a part that are prefetched while keys are dealt: two lines. */
#define DEAL_AHEAD 8

typedef struct dealt {
    int64_t key;
    uint32_t number;
    uint32_t place; /* home bucket, from the first of the part, << 8 | tophash */
} dealt;

typedef struct parts {
    dealt *keys;
    uint64_t begin[PART_COUNT_MOST + 1]; /* of each part's share */
    uint64_t end[PART_COUNT_MOST];       /* of what it has got */
    uint32_t part_count;
    uint32_t homes_log2; /* home buckets in a part */
} parts;

static uint64_t square_root(uint64_t square)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 31; bit != 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= square)
            root += bit;
    return root;
}

/* Shares: a bucket that this doubling has not split yet gets twice the keys of one that it has. Eight standard
 * deviations of room are never used up by a keyed hash. */
static uint64_t plan_shares(const table *index, uint64_t key_count, parts *plan)
{
    uint64_t split = index->bucket_count - index->level;
    plan->homes_log2 = 0;
    while ((sizeof(bucket) << (plan->homes_log2 + 1)) <= PART_BYTES ||
           index->bucket_count >> plan->homes_log2 >= PART_COUNT_MOST)
        plan->homes_log2++;
    uint64_t homes = (uint64_t)1 << plan->homes_log2;
    plan->part_count = (uint32_t)((index->bucket_count + homes - 1) >> plan->homes_log2);
    uint64_t total = 0;
    for (uint32_t part = 0; part < plan->part_count; part++) {
        uint64_t first = part * homes, last = first + homes < index->bucket_count ? first + homes : index->bucket_count;
        uint64_t whole_first = first > split ? first : split, whole_last = last < index->level ? last : index->level;
        uint64_t weight = last - first + (whole_last > whole_first ? whole_last - whole_first : 0);
        uint64_t expected = (uint64_t)((double)key_count * (double)weight / (double)(2 * index->level)) + 1;
        plan->begin[part] = plan->end[part] = total;
        total += expected + 8 * square_root(expected) + 64;
    }
    plan->begin[plan->part_count] = total;
    return total;
}

/* Each key is read here once and never again. false: a part would overflow. */
static bool deal_keys(const table *index, const int64_t *keys, size_t key_count, parts *plan, int64_t *keys_out)
{
    /* Copies: the compiler must suppose that what is stored below could be these. */
    const hash_secret secret = index->secret;
    const uint64_t level = index->level, bucket_count = index->bucket_count;
    const uint32_t homes_log2 = plan->homes_log2;
    dealt *const places = plan->keys;
    for (size_t i = 0; i < key_count; i++) {
        int64_t key = pipeline_read(&keys[i]);
        uint64_t hash = hash_key(&secret, key);
        uint64_t home = hash & (2 * level - 1);
        home -= level & -(uint64_t)(home >= bucket_count);
        uint64_t part = home >> homes_log2;
        uint64_t at = plan->end[part]++;
        if (UNLIKELY(at == plan->begin[part + 1]))
            return false;
        uint32_t local = (uint32_t)(home & (((uint64_t)1 << homes_log2) - 1));
        __builtin_prefetch(&places[at + DEAL_AHEAD], 1, 3);
        places[at] = (dealt){key, (uint32_t)i, local << 8 | hash_tophash(hash)};
        keys_out[i] = key;
    }
    return true;
}

/* Whether two of the bucket's keys are the same. Tags first, all pairs at once: each beside its four neighbours, round
 * the eight. */
static bool has_twins(const bucket *home)
{
#if BUCKET_HAS_SIMD
    __m128i tags = _mm_loadl_epi64((const __m128i *)(const void *)home->tophash);
    __m128i twice = _mm_unpacklo_epi64(tags, tags);
    __m128i equal = _mm_or_si128(
        _mm_or_si128(_mm_cmpeq_epi8(tags, _mm_srli_si128(twice, 1)), _mm_cmpeq_epi8(tags, _mm_srli_si128(twice, 2))),
        _mm_or_si128(_mm_cmpeq_epi8(tags, _mm_srli_si128(twice, 3)), _mm_cmpeq_epi8(tags, _mm_srli_si128(twice, 4))));
    equal = _mm_andnot_si128(_mm_cmpeq_epi8(tags, _mm_setzero_si128()), equal);
    if (LIKELY((_mm_movemask_epi8(equal) & 0xff) == 0))
        return false;
#endif
    for (uint32_t slot = 1; slot < home->slot_count; slot++)
        for (uint32_t other = 0; other < slot; other++)
            if (home->key[slot] == home->key[other])
                return true;
    return false;
}

/* Puts the keys of a part, whose `homes` buckets from `first` on are empty, into their buckets; `taken` is room for a
 * count each. Keys that find their bucket full come to the front of `keys`: how many. */
static uint64_t fill_homes(bucket *first, uint64_t homes, dealt *keys, uint64_t key_count, uint8_t *taken)
{
    uint64_t beyond = 0;
    memset(taken, 0, homes);
    for (uint64_t i = 0; i < key_count; i++) {
        if (LIKELY(i + FILL_AHEAD < key_count)) {
            const char *ahead = (const char *)&first[keys[i + FILL_AHEAD].place >> 8];
            __builtin_prefetch(ahead, 1, 3);
            __builtin_prefetch(ahead + LINE_BYTES, 1, 3);
        }
        dealt key = keys[i];
        uint32_t slot = taken[key.place >> 8];
        if (UNLIKELY(slot == BUCKET_SLOTS)) {
            keys[beyond++] = key;
            continue;
        }
        taken[key.place >> 8] = (uint8_t)(slot + 1);
        bucket_write(&first[key.place >> 8], slot, (uint8_t)key.place, key.key, key.number);
    }
    for (uint64_t home = 0; home < homes; home++)
        first[home].slot_count = taken[home];
    return beyond;
}

/* false: a key comes twice, or there is no memory for its chain. */
static bool fill_part(table *index, alloc *memory, uint64_t first, uint64_t homes, dealt *keys, uint64_t key_count,
                      uint8_t *taken)
{
    bucket *home = table_bucket(index, first);
    uint64_t beyond = fill_homes(home, homes, keys, key_count, taken);
    index->key_count += key_count - beyond;
    for (uint64_t i = 0; i < homes; i++)
        if (UNLIKELY(has_twins(&home[i])))
            return false;
    for (uint64_t i = 0; i < beyond; i++) {
        uint64_t hash = hash_key(&index->secret, keys[i].key);
        bucket *last = NULL;
        if (UNLIKELY(table_find_or_last(index, hash, keys[i].key, &last) != IAM_ROW_NONE) ||
            UNLIKELY(!table_room(index, memory, last)))
            return false;
        table_append(index, memory, last, hash, keys[i].key, keys[i].number);
    }
    return true;
}

bool build_index(iam_map *map, const int64_t *keys, size_t key_count)
{
    table *index = &map->hash;
    iam_rows *rows = map->rows;
    CHECK(map->state == MAP_HASH && rows->used_count == 0 && index->key_count == 0);
    if (key_count < BUILD_KEYS_LEAST || key_count > growth_limit(index) || key_count > rows->insert_limit ||
        rows->key_store.low_count != 0 || index->buckets.low_count != 0)
        return false;
    parts plan;
    uint64_t share_total = plan_shares(index, key_count, &plan);
    /* Rows come last, so the keys are dealt into their place; rows too small for that need memory of their own. */
    bool in_rows = rows->row_store.low_count == 0 &&
                   share_total <= rows->row_store.item_count * map->row_bytes / sizeof *plan.keys;
    plan.keys = in_rows ? rows_at(rows, 0) : alloc_block(&map->memory, share_total, sizeof *plan.keys, false);
    if (in_rows)
        POISON(rows_lift_run(rows, 0, rows->row_store.item_count));
    uint64_t homes = (uint64_t)1 << plan.homes_log2;
    uint8_t *taken = alloc_block(&map->memory, homes, 1, false);
    bool built = plan.keys != NULL && taken != NULL && deal_keys(index, keys, key_count, &plan, rows_key(rows, 0));
    for (uint32_t part = 0; part < plan.part_count && built; part++) {
        uint64_t first = part * homes, left = index->bucket_count - first;
        segments_touch(&index->buckets, first, first + (left < homes ? left : homes));
        built = fill_part(index, &map->memory, first, left < homes ? left : homes, plan.keys + plan.begin[part],
                          plan.end[part] - plan.begin[part], taken);
    }
    alloc_release(&map->memory, taken, homes, 1);
    if (in_rows)
        POISON(rows_lay_run(rows, 0, rows->row_store.item_count));
    if (!in_rows)
        alloc_release(&map->memory, plan.keys, share_total, sizeof *plan.keys);
    if (!built) {
        table_clear(index);
        return false;
    }
    rows_take_all(rows, key_count);
    map->version += key_count;
    return true;
}
