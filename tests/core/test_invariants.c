/* test_invariants.c: every numbered invariant broken on purpose, caught, and called by its number. What is broken is
 * mended again, so that the map can go its way. */
#define _GNU_SOURCE /* fork */
#include "harness.h"

#include "map.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROW = 8 };
#define FAR ((int64_t)1 << 40)
#define STRIDE ((int64_t)1000003)

/* ---- Poking, and taking it back ---------------------------------------------------------------------------------- */

typedef struct poke {
    void *place;
    size_t bytes;
    uint8_t before[16];
} poke;

static poke pokes[32];
static int poke_count;

static void poke_bytes(void *place, const void *value, size_t bytes)
{
    EXPECT(poke_count < 32 && bytes <= sizeof pokes[0].before);
    poke *p = &pokes[poke_count++];
    p->place = place;
    p->bytes = bytes;
    memcpy(p->before, place, bytes);
    EXPECT(memcmp(p->before, value, bytes) != 0); /* a poke that changes nothing proves nothing */
    memcpy(place, value, bytes);
}

#define POKE(place, value)                                                                                             \
    do {                                                                                                               \
        __typeof__(place) poked = (value);                                                                             \
        poke_bytes((void *)&(place), &poked, sizeof poked);                                                            \
    } while (0)

static void mend(void)
{
    while (poke_count > 0) {
        poke *p = &pokes[--poke_count];
        memcpy(p->place, p->before, p->bytes);
    }
}

/* ---- Three maps with something of everything --------------------------------------------------------------------- */

static void put_keys(iam_map *map, int64_t first, int64_t stride, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double row[ROW] = {(double)i};
        EXPECT(iam_map_put(map, first + i * stride, row) == IAM_OK);
    }
}

static void remove_keys(iam_map *map, int64_t first, int64_t stride, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        EXPECT(iam_map_remove(map, first + i * stride) == IAM_OK);
}

/* Chains, free overflow buckets, free rows; row storage in blocks and a range. */
static void make_hash(iam_map *map)
{
    put_keys(map, 0, STRIDE, 4000);
    remove_keys(map, 0, 3 * STRIDE, 800);
    EXPECT(map->state == MAP_HASH && map->hash.overflow_count > 0 && map->hash.overflow_free != BUCKET_NONE);
    EXPECT(map->rows->free_count > 0 && map->rows->row_store.range != NULL && map->rows->row_store.block_count > 0);
}

/* The same, emptied: all overflow buckets are free. */
static void make_hash_emptied(iam_map *map)
{
    put_keys(map, 0, STRIDE, 4000);
    remove_keys(map, 0, STRIDE, 4000);
    EXPECT(map->state == MAP_HASH && map->hash.overflow_count == 0 && map->hash.overflow_top > 2);
}

/* Pages out of line, a page that is free, a hole in the directory. */
static void make_direct(iam_map *map)
{
    put_keys(map, 0, 1, 1280);
    put_keys(map, -128, 1, 5);
    remove_keys(map, 256, 1, 128);
    EXPECT(map->state == MAP_DIRECT && !map->direct.linear && map->direct.id_free != 0);
}

static void make_linear(iam_map *map)
{
    put_keys(map, 0, 1, 1280);
    EXPECT(map->state == MAP_DIRECT && map->direct.linear);
}

static void make_leaving(iam_map *map)
{
    put_keys(map, 0, 1, 1280);
    put_keys(map, FAR, 1, 20);
    EXPECT(map->state == MAP_LEAVING && map->leave_cursor > 100);
}

/* ---- What to break ----------------------------------------------------------------------------------------------- */

static uint32_t number_of(const iam_map *map, int64_t key)
{
    uint32_t number;
    EXPECT(iam_map_find(map, key, &number) != NULL);
    return number;
}

/* A home bucket with an overflow bucket; or one without, some of whose slots are in use. */
static bucket *home_with(const iam_map *map, bool overflow)
{
    for (uint64_t home = 0; home < map->hash.bucket_count; home++) {
        bucket *found = table_bucket(&map->hash, home);
        if (found->slot_count > 2 && found->slot_count < BUCKET_SLOTS && !overflow)
            return found;
        if (found->overflow != BUCKET_NONE && overflow)
            return found;
    }
    EXPECT(false);
    return NULL;
}

static void s1_block_out_of_place(iam_map *map)
{
    POKE(map->rows->row_store.low[1], map->rows->row_store.low[1] + 8);
}

static void s1_gap_before_the_range(iam_map *map)
{
    POKE(map->rows->row_store.low_count, map->rows->row_store.low_count + 8);
}

static void s1_range_elsewhere(iam_map *map)
{
    POKE(map->hash.buckets.high, map->hash.buckets.high + 128);
}

static void s1_too_many_blocks(iam_map *map)
{
    POKE(map->rows->key_store.block_count, SEGMENTS_MOST + 1);
}

static void s2_more_items_than_memory(iam_map *map)
{
    POKE(map->rows->presence_store.item_count, map->rows->presence_store.item_count + 1);
}

static void s2_beyond_the_range(iam_map *map)
{
    POKE(map->rows->row_store.item_count, map->rows->row_store.item_count_max + 1);
}

static void s2_range_larger_than_it_is(iam_map *map)
{
    segments *array = &map->rows->row_store;
    POKE(array->item_count_max, array->low_count + array->range_bytes / array->item_bytes + 1);
}

static void s2_fewer_items_than_blocks(iam_map *map)
{
    POKE(map->rows->row_store.item_count, map->rows->row_store.low_count - 1);
}

static void s2_holds(iam_map *map)
{
    POKE(map->rows->hold_store.item_count, map->rows->hold_store.item_count_max + 1);
}

static void s2_keys(iam_map *map)
{
    POKE(map->rows->key_store.item_count, map->rows->key_store.item_count_max + 1);
}

static void s2_buckets(iam_map *map)
{
    POKE(map->hash.buckets.item_count, map->hash.buckets.item_count_max + 1);
}

static void s2_overflow(iam_map *map)
{
    POKE(map->hash.overflow.item_count, map->hash.overflow.item_count_max + 1);
}

static void s2_page_ids(iam_map *map)
{
    POKE(map->direct.page_of.item_count, map->direct.page_of.item_count_max + 1);
}

static void s1_block_of_no_memory(iam_map *map)
{
    POKE(map->rows->row_store.low[0], 0);
}

static void b1_unused_slot_has_a_tag(iam_map *map)
{
    bucket *home = home_with(map, false);
    POKE(home->tophash[home->slot_count], 77);
}

static void b1_tag_of_another_key(iam_map *map)
{
    bucket *home = home_with(map, false);
    POKE(home->tophash[0], home->tophash[0] ^ 1);
}

static void b1_tag_is_zero(iam_map *map)
{
    POKE(home_with(map, false)->tophash[1], 0);
}

static void b2_more_slots_than_there_are(iam_map *map)
{
    POKE(home_with(map, false)->slot_count, 9);
}

static void b2_hole_before_an_overflow_bucket(iam_map *map)
{
    bucket *home = home_with(map, true);
    POKE(home->slot_count, 7);
}

static void b2_empty_overflow_bucket(iam_map *map)
{
    bucket *home = home_with(map, true);
    bucket *link = table_overflow_at(&map->hash, home->overflow);
    POKE(link->slot_count, 0);
}

static void b3_filter_lacks_a_tag(iam_map *map)
{
    POKE(home_with(map, true)->filter, 0);
}

static void t1_key_in_a_foreign_bucket(iam_map *map)
{
    bucket *home = home_with(map, false);
    int64_t stranger = 5;
    while (table_bucket(&map->hash, table_home(&map->hash, hash_key(&map->hash.secret, stranger))) == home)
        stranger++;
    POKE(home->key[0], stranger);
    POKE(home->tophash[0], hash_tophash(hash_key(&map->hash.secret, stranger)));
}

static void t1_key_twice(iam_map *map)
{
    bucket *home = home_with(map, false);
    POKE(home->key[1], home->key[0]);
    POKE(home->tophash[1], home->tophash[0]);
}

static void t1_key_twice_with_one_row(iam_map *map)
{
    bucket *home = home_with(map, false);
    POKE(home->key[1], home->key[0]);
    POKE(home->tophash[1], home->tophash[0]);
    POKE(*bucket_row_place(home, 1), bucket_row(home, 0));
}

static void repeat_in_overflow(iam_map *map, unsigned slot)
{
    const bucket *home = home_with(map, true);
    bucket *link = table_overflow_at(&map->hash, home->overflow);
    POKE(link->key[0], home->key[slot]);
    POKE(link->tophash[0], home->tophash[slot]);
}

static void t1_first_key_again_in_overflow(iam_map *map)
{
    repeat_in_overflow(map, 0);
}

static void t1_last_key_again_in_overflow(iam_map *map)
{
    repeat_in_overflow(map, BUCKET_SLOTS - 1);
}

static void t2_miscounted(iam_map *map)
{
    POKE(map->hash.overflow_count, map->hash.overflow_count + 1);
}

static void t2_free_list_lost(iam_map *map)
{
    POKE(map->hash.overflow_free, BUCKET_NONE);
}

static void t2_free_list_goes_in_circles(iam_map *map)
{
    bucket *first = table_overflow_at(&map->hash, map->hash.overflow_free);
    POKE(first->overflow, map->hash.overflow_free);
}

/* As long as it must be, and goes on. */
static void t2_all_are_free_in_a_circle(iam_map *map)
{
    uint32_t last = map->hash.overflow_free;
    while (table_overflow_at(&map->hash, last)->overflow != BUCKET_NONE)
        last = table_overflow_at(&map->hash, last)->overflow;
    POKE(table_overflow_at(&map->hash, last)->overflow, map->hash.overflow_free);
}

static void t2_link_out_of_the_pool(iam_map *map)
{
    bucket *home = home_with(map, true);
    POKE(home->overflow, map->hash.overflow_top + 1);
}

static void t3_miscounted(iam_map *map)
{
    POKE(map->hash.key_count, map->hash.key_count + 1);
}

static void t2_free_list_leaves_the_pool(iam_map *map)
{
    bucket *first = table_overflow_at(&map->hash, map->hash.overflow_free);
    POKE(first->overflow, map->hash.overflow_top + 1);
}

static void t2_chain_lost(iam_map *map)
{
    POKE(home_with(map, true)->overflow, BUCKET_NONE); /* its keys are in no chain, its overflow bucket in no list */
}

static void t4_keys_without_buckets(iam_map *map)
{
    POKE(map->hash.bucket_count, 0);
    POKE(map->hash.level, 0);
}

static void t4_level_twice_as_high(iam_map *map)
{
    POKE(map->hash.level, map->hash.level * 2);
}

static void t4_no_power_of_two(iam_map *map)
{
    POKE(map->hash.level, map->hash.level - 1);
}

static void t4_level_too_low(iam_map *map)
{
    POKE(map->hash.level, map->hash.level / 2);
}

static void t4_buckets_without_memory(iam_map *map)
{
    POKE(map->hash.level, (uint64_t)1 << 30);
    POKE(map->hash.bucket_count, (uint64_t)1 << 30);
}

static void r1_miscounted(iam_map *map)
{
    POKE(map->rows->live_count, map->rows->live_count - 1);
}

static void r1_presence_of_a_free_row(iam_map *map)
{
    uint32_t free_row = map->rows->free_head;
    POKE(*rows_word(map->rows, free_row), *rows_word(map->rows, free_row) | (uint64_t)1 << (free_row & 63));
}

static void r1_bound_too_low(iam_map *map)
{
    POKE(map->rows->last_bound, rows_last(map->rows, UINT64_MAX) - 500);
}

static void r1_one_present_too_many(iam_map *map)
{
    POKE(map->rows->live_count, map->rows->live_count + 1);
}

static void r1_bound_just_too_low(iam_map *map)
{
    POKE(map->rows->last_bound, rows_last(map->rows, UINT64_MAX));
}

/* One key goes without its row, and another row is there that nobody has handed out: the sums agree. */
static void r1_present_instead(iam_map *map, uint64_t number)
{
    uint32_t lost = number_of(map, map->state == MAP_HASH ? STRIDE : 1);
    uint64_t cleared = *rows_word(map->rows, lost) & ~((uint64_t)1 << (lost & 63));
    POKE(*rows_word(map->rows, lost), cleared);
    POKE(*rows_word(map->rows, number), *rows_word(map->rows, number) | (uint64_t)1 << (number & 63));
}

static void r1_row_never_used_is_present(iam_map *map)
{
    r1_present_instead(map, map->rows->used_count);
}

static void r1_row_far_beyond_is_present(iam_map *map)
{
    POKE(*rows_word(map->rows, map->rows->presence_store.item_count * 64 - 1), (uint64_t)1 << 63);
}

static void r1_bound_too_high(iam_map *map)
{
    POKE(map->rows->last_bound, map->rows->used_count + 1);
}

static void r2_row_never_used(iam_map *map)
{
    POKE(map->rows->free_head, (uint32_t)map->rows->used_count);
}

/* The first row that was never used, with room for its key, ends the list. */
static void r2_row_never_used_comes_last(iam_map *map)
{
    iam_rows *rows = map->rows;
    EXPECT(rows->key_store.item_count > rows->used_count && rows->used_count % 64 != 0);
    uint32_t last = rows->free_head;
    while (*rows_key(rows, last) != IAM_ROW_NONE)
        last = (uint32_t)*rows_key(rows, last);
    *rows_key(rows, rows->used_count) = IAM_ROW_NONE; /* nobody's: not mended */
    POKE(*rows_key(rows, last), (int64_t)rows->used_count);
    POKE(rows->free_count, rows->free_count + 1);
}

static void r2_one_too_few(iam_map *map)
{
    POKE(map->rows->free_count, map->rows->free_count - 1);
}

static void r2_deferred_row_is_present(iam_map *map)
{
    POKE(map->rows->deferred_head, number_of(map, STRIDE));
}

static void r2_free_row_is_present(iam_map *map)
{
    POKE(map->rows->free_head, number_of(map, STRIDE));
}

static void r2_miscounted(iam_map *map)
{
    POKE(map->rows->free_count, map->rows->free_count + 1);
}

static void r2_list_goes_in_circles(iam_map *map)
{
    POKE(*rows_key(map->rows, map->rows->free_head), map->rows->free_head);
}

static void r2_free_row_is_held(iam_map *map)
{
    hold *holds = rows_hold(map->rows, map->rows->free_head);
    EXPECT(holds != NULL);
    POKE(holds->state, HOLD_DEAD | 1);
}

/* The views of the test: one is of a row whose key has gone. */
static void r3_one_held_is_not_counted(iam_map *map)
{
    POKE(map->rows->held_count, 0);
}

static void r3_counted_without_a_view(iam_map *map)
{
    EXPECT(atomic_load(&map->rows->refs) == 1);
    POKE(map->rows->held_count, 1);
}

static void r3_present_and_dead(iam_map *map)
{
    hold *holds = rows_hold(map->rows, number_of(map, STRIDE * 2));
    EXPECT(holds != NULL);
    POKE(holds->state, HOLD_DEAD);
}

static void d1_two_pages_of_one_id(iam_map *map)
{
    direct *index = &map->direct;
    POKE(index->ring[(index->page_low + 5) & index->ring_mask], index->ring[index->page_low & index->ring_mask]);
}

static void d1_id_never_used(iam_map *map)
{
    direct *index = &map->direct;
    POKE(index->ring[(index->page_low + 5) & index->ring_mask], index->id_count + 1);
}

static void d2_page_lost(iam_map *map)
{
    POKE(map->direct.ring[(map->direct.page_low + 4) & map->direct.ring_mask],
         0); /* its rows are in no page then: D2 */
}

static void d1_miscounted(iam_map *map)
{
    POKE(map->direct.page_count, map->direct.page_count + 1);
}

static void d1_free_id_lost(iam_map *map)
{
    POKE(map->direct.id_free, 0);
}

static void d1_one_page_too_few(iam_map *map)
{
    POKE(map->direct.page_count, map->direct.page_count - 1);
}

static void d1_free_ids_go_in_circles(iam_map *map)
{
    uint64_t *next = segments_at(&map->direct.page_of, map->direct.id_free - 1);
    POKE(*next, map->direct.id_free);
}

static void d1_free_id_never_used(iam_map *map)
{
    POKE(map->direct.id_free, map->direct.id_count + 1);
}

static void d1_used_id_is_free(iam_map *map)
{
    uint64_t *next = segments_at(&map->direct.page_of, map->direct.id_free - 1);
    POKE(*next, 1);
}

static void d1_deferred_id_is_used(iam_map *map)
{
    POKE(map->direct.id_deferred, 2);
}

static void d2_row_in_a_free_page(iam_map *map)
{
    uint64_t number = (map->direct.id_free - 1) << map->direct.page_log2;
    POKE(*rows_word(map->rows, number), 1);
    POKE(map->rows->live_count, map->rows->live_count + 1);
}

static void d3_out_of_line(iam_map *map)
{
    POKE(map->direct.linear, true);
}

static void d3_line_begins_elsewhere(iam_map *map)
{
    POKE(map->direct.linear_base, map->direct.linear_base + 128);
}

static void d4_entry_below(iam_map *map)
{
    POKE(map->direct.ring[(map->direct.page_low - 1) & map->direct.ring_mask], 1);
}

static void d4_entry_above(iam_map *map)
{
    uint64_t above = map->direct.page_low + map->direct.page_span + 7;
    POKE(map->direct.ring[above & map->direct.ring_mask], 2);
}

static void l1_writer_and_reader(iam_map *map)
{
    POKE(map->gate.word, (uint64_t)1 << 31 | 1);
}

static void i1_keys_swapped(iam_map *map)
{
    int64_t *first = rows_key(map->rows, number_of(map, STRIDE));
    int64_t *second = rows_key(map->rows, number_of(map, 2 * STRIDE));
    int64_t key = *first;
    POKE(*first, *second);
    POKE(*second, key);
}

static void i1_row_of_another_key(iam_map *map)
{
    bucket *home = home_with(map, false);
    POKE(*bucket_row_place(home, 0), bucket_row(home, 1));
}

static void i1_cursor_went_past_a_row(iam_map *map)
{
    POKE(map->leave_cursor, map->leave_cursor + 1);
}

static void i1_key_in_both_indexes(iam_map *map)
{
    POKE(map->leave_cursor, map->leave_cursor - 1);
    /* The key is found by the direct index again: one key more in the hash index than rows that belong to it. */
}

static void i2_key_without_a_row(iam_map *map)
{
    uint32_t number = number_of(map, STRIDE);
    POKE(*rows_word(map->rows, number), *rows_word(map->rows, number) & ~((uint64_t)1 << (number & 63)));
    POKE(map->rows->live_count, map->rows->live_count - 1);
}

static const struct {
    const char *number; /* what the reason begins with */
    void (*make)(iam_map *map);
    void (*break_it)(iam_map *map);
} cases[] = {
    {"S1", make_hash, s1_block_out_of_place},
    {"S1", make_hash, s1_gap_before_the_range},
    {"S1", make_hash, s1_range_elsewhere},
    {"S1", make_hash, s1_too_many_blocks},
    {"S2", make_hash, s2_more_items_than_memory},
    {"S2", make_hash, s2_beyond_the_range},
    {"S2", make_hash, s2_range_larger_than_it_is},
    {"S1", make_hash, s1_block_of_no_memory},
    {"S2", make_hash, s2_fewer_items_than_blocks},
    {"S2", make_hash, s2_holds},
    {"S2", make_hash, s2_keys},
    {"S2", make_hash, s2_buckets},
    {"S2", make_hash, s2_overflow},
    {"S2", make_direct, s2_page_ids},
    {"B1", make_hash, b1_unused_slot_has_a_tag},
    {"B1", make_hash, b1_tag_of_another_key},
    {"B1", make_hash, b1_tag_is_zero},
    {"B2", make_hash, b2_more_slots_than_there_are},
    {"B2", make_hash, b2_hole_before_an_overflow_bucket},
    {"B2", make_hash, b2_empty_overflow_bucket},
    {"B3", make_hash, b3_filter_lacks_a_tag},
    {"T1", make_hash, t1_key_in_a_foreign_bucket},
    {"T1", make_hash, t1_key_twice},
    {"T1", make_hash, t1_key_twice_with_one_row},
    {"T1", make_hash, t1_first_key_again_in_overflow},
    {"T1", make_hash, t1_last_key_again_in_overflow},
    {"T2", make_hash, t2_miscounted},
    {"T2", make_hash, t2_free_list_lost},
    {"T2", make_hash, t2_free_list_goes_in_circles},
    {"T2", make_hash_emptied, t2_all_are_free_in_a_circle},
    {"T2", make_hash, t2_link_out_of_the_pool},
    {"T2", make_hash, t2_free_list_leaves_the_pool},
    {"T2", make_hash, t2_chain_lost},
    {"T3", make_hash, t3_miscounted},
    {"T4", make_hash, t4_keys_without_buckets},
    {"T4", make_hash, t4_level_twice_as_high},
    {"T4", make_hash, t4_no_power_of_two},
    {"T4", make_hash, t4_level_too_low},
    {"T4", make_hash, t4_buckets_without_memory},
    {"R1", make_hash, r1_miscounted},
    {"R1", make_hash, r1_presence_of_a_free_row},
    {"R1", make_hash, r1_bound_too_low},
    {"R1", make_hash, r1_one_present_too_many},
    {"R1", make_hash, r1_bound_just_too_low},
    {"R1", make_direct, r1_miscounted},
    {"R1", make_hash, r1_row_never_used_is_present},
    {"R1", make_direct, r1_row_never_used_is_present},
    {"R1", make_hash, r1_row_far_beyond_is_present},
    {"R1", make_direct, r1_row_far_beyond_is_present},
    {"R1", make_hash, r1_bound_too_high},
    {"R1", make_direct, r1_bound_too_high},
    {"R2", make_hash, r2_row_never_used},
    {"R2", make_hash, r2_row_never_used_comes_last},
    {"R2", make_hash, r2_one_too_few},
    {"R2", make_hash, r2_deferred_row_is_present},
    {"R2", make_hash, r2_free_row_is_present},
    {"R2", make_hash, r2_miscounted},
    {"R2", make_hash, r2_list_goes_in_circles},
    {"R2", make_hash, r2_free_row_is_held},
    {"R3", make_hash, r3_present_and_dead},
    {"R3", make_hash, r3_one_held_is_not_counted},
    {"R3", make_direct, r3_counted_without_a_view},
    {"D1", make_direct, d1_two_pages_of_one_id},
    {"D1", make_direct, d1_id_never_used},
    {"D2", make_direct, d2_page_lost},
    {"D1", make_direct, d1_miscounted},
    {"D1", make_direct, d1_free_id_lost},
    {"D1", make_direct, d1_one_page_too_few},
    {"D1", make_direct, d1_free_ids_go_in_circles},
    {"D1", make_direct, d1_free_id_never_used},
    {"D1", make_direct, d1_used_id_is_free},
    {"D1", make_direct, d1_deferred_id_is_used},
    {"D2", make_direct, d2_row_in_a_free_page},
    {"D3", make_direct, d3_out_of_line},
    {"D3", make_linear, d3_line_begins_elsewhere},
    {"D4", make_direct, d4_entry_below},
    {"D4", make_direct, d4_entry_above},
    {"D4", make_leaving, d4_entry_above},
    {"L1", make_hash, l1_writer_and_reader},
    {"I1", make_hash, i1_keys_swapped},
    {"I1", make_hash, i1_row_of_another_key},
    {"I1", make_leaving, i1_cursor_went_past_a_row},
    {"I2", make_leaving, i1_key_in_both_indexes},
    {"I2", make_hash, i2_key_without_a_row},
};

static void test_every_invariant_is_watched(void)
{
    char reason[200];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        failing memory;
        iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .seed = 1};
        bool is_hash = cases[i].make == make_hash || cases[i].make == make_hash_emptied;
        options.index = is_hash ? IAM_INDEX_HASH : IAM_INDEX_AUTO;
        options.allocator = failing_allocator(&memory);
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        cases[i].make(map);
        /* Hold words, so that there is something to break. */
        iam_view views[3];
        bool has_views = cases[i].make == make_hash;
        if (has_views) {
            EXPECT(iam_view_take(map, number_of(map, STRIDE * 2), &views[0]) == IAM_OK);
            EXPECT(iam_view_take(map, number_of(map, STRIDE * 2398), &views[1]) == IAM_OK);
            EXPECT(iam_view_take(map, number_of(map, STRIDE * 4), &views[2]) == IAM_OK);
            remove_keys(map, STRIDE * 4, 1, 1);
            EXPECT(atomic_load(&map->rows->held_count) == 1);
        }
        harness_validate(map);
        cases[i].break_it(map);
        EXPECT(iam_map_validate(map, NULL, 0) == IAM_BROKEN);
        reason[0] = '\0';
        EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_BROKEN);
        if (strncmp(reason, cases[i].number, 2) != 0 || reason[2] != ':') {
            fprintf(stderr, "case %zu: expected %s, got: %s\n", i, cases[i].number, reason);
            EXPECT(false);
        }
        EXPECT(strlen(reason) > 10 && strlen(reason) < sizeof reason - 1);
        mend();
        harness_validate(map);
        for (int view = 0; view < 3 && has_views; view++)
            iam_view_release(&views[view]);
        iam_map_destroy(map);
        EXPECT(atomic_load(&memory.alive) == 0);
    }
}

/* Every number that DESIGN.md lists is in the table above. */
static void test_none_is_missing(void)
{
    const char *numbers[] = {"S1", "S2", "B1", "B2", "B3", "T1", "T2", "T3", "T4", "R1",
                             "R2", "R3", "D1", "D2", "D3", "D4", "L1", "I1", "I2"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        bool broken = false;
        for (size_t j = 0; j < sizeof cases / sizeof *cases; j++)
            broken |= strcmp(numbers[i], cases[j].number) == 0;
        EXPECT(broken);
    }
}

/* No bit from the bound on, wherever it stands in its word and its word in what is committed. */
static void test_r1_of_every_bit_beyond(void)
{
    for (int is_hash = 0; is_hash < 2; is_hash++) {
        iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64};
        options.index = is_hash ? IAM_INDEX_HASH : IAM_INDEX_AUTO;
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        put_keys(map, 0, 1, 600);
        EXPECT(iam_map_reserve(map, 1500) == IAM_OK);
        uint64_t bit_count = map->rows->presence_store.item_count * 64;
        EXPECT(bit_count >= map->rows->used_count + 5 * 64);
        char reason[200];
        for (uint64_t number = map->rows->last_bound; number < bit_count; number += number % 64 < 2 ? 1 : 61) {
            uint64_t *word = rows_word(map->rows, number);
            POKE(*word, *word | (uint64_t)1 << (number & 63));
            if (number >> 6 <= (map->rows->used_count - 1) >> 6) /* so that the sum agrees */
                POKE(map->rows->live_count, map->rows->live_count + 1);
            EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_BROKEN && strncmp(reason, "R1:", 3) == 0);
            mend();
        }
        harness_validate(map);
        iam_map_destroy(map);
    }
}

/* Rows at either end of the map and of a chunk of holds: the first and the last chunk have some, or that between. */
static void test_r3_of_every_row(void)
{
    enum { KEYS = 3 * HOLD_CHUNK_ROWS - 40 };
    const uint32_t viewed[][2] = {{5, KEYS - 5}, {HOLD_CHUNK_ROWS + 5, HOLD_CHUNK_ROWS + 6}};
    for (int between = 0; between < 2; between++) {
        iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH};
        iam_map *map;
        iam_view views[2];
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        put_keys(map, 0, 1, KEYS);
        for (int view = 0; view < 2; view++)
            EXPECT(iam_view_take(map, viewed[between][view], &views[view]) == IAM_OK);
        char reason[200];
        for (uint32_t number = 0; number < KEYS; number++) {
            hold *holds = rows_hold(map->rows, number);
            EXPECT((holds != NULL) == ((number / HOLD_CHUNK_ROWS == 1) == (between == 1)));
            if (holds == NULL)
                continue;
            POKE(holds->state, HOLD_DEAD);
            EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_BROKEN && strncmp(reason, "R3:", 3) == 0);
            mend();
        }
        harness_validate(map);
        /* Dead and held, dead and no longer held, free. */
        remove_keys(map, viewed[between][0], 1, 1);
        harness_validate(map);
        iam_view_release(&views[0]);
        EXPECT(atomic_load(&rows_hold(map->rows, viewed[between][0])->state) == (HOLD_DEAD | HOLD_QUEUED));
        harness_validate(map);
        put_keys(map, 0, 1, 1);
        harness_validate(map);
        iam_view_release(&views[1]);
        iam_map_destroy(map);
    }
}

/* A ring that is a reserved range of a gigabyte is looked at where its ends are, in the pages of memory that are there:
 * neither of them lies on a border here. */
static void test_d4_of_a_reserved_ring(void)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    put_keys(map, 128 * 1001, 128 * 20001, 2); /* either end at an odd entry */
    EXPECT(map->state == MAP_DIRECT && map->direct.ring_reserved);
    char reason[200];
    const direct *index = &map->direct;
    uint64_t entries = 4096 / sizeof *index->ring, end = index->page_low + index->page_span;
    EXPECT(index->page_low % entries > 100 && end % entries > 100);
    for (uint64_t page = index->page_low - index->page_low % entries; page < end - end % entries + entries; page++) {
        if (page >= index->page_low && page < end)
            continue;
        POKE(map->direct.ring[page & map->direct.ring_mask], 1);
        EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_BROKEN && strncmp(reason, "D4:", 3) == 0);
        mend();
    }
    harness_validate(map);
    iam_map_destroy(map);
}

/* A ring that is a plain block is looked at all around. */
static void test_d4_of_a_plain_ring(void)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = IAM_INDEX_DIRECT};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    put_keys(map, 0, 128 * 8200, 2);
    EXPECT(map->state == MAP_DIRECT && !map->direct.ring_reserved && map->direct.ring_mask == 16383);
    char reason[200];
    for (uint64_t page = 8201; page < 16384; page += 511) {
        POKE(map->direct.ring[(map->direct.page_low + page) & map->direct.ring_mask], 1);
        EXPECT(iam_map_validate(map, reason, sizeof reason) == IAM_BROKEN && strncmp(reason, "D4:", 3) == 0);
        mend();
        harness_validate(map);
    }
    iam_map_destroy(map);
}

/* ---- Checked builds ask after each write ---------------------------------------------------------------------------
 */

#ifdef INTARRAYMAP_CHECKED

static const int64_t few_keys[] = {3, 4, 5}, no_items[] = {0, 0, 0};
static double few_rows[3][ROW];
static int64_t few_numbers[3];
static uint8_t few_flags[3];

static void write_put(iam_map *map)
{
    iam_map_put(map, 1, few_rows[0]);
}

static void write_ensure(iam_map *map)
{
    iam_map_ensure(map, 2, NULL, NULL, NULL);
}

static void write_remove(iam_map *map)
{
    iam_map_remove(map, 1);
}

static void write_remove_missing(iam_map *map)
{
    iam_map_remove(map, -1);
}

static void write_clear(iam_map *map)
{
    iam_map_clear(map);
}

static void write_reserve(iam_map *map)
{
    iam_map_reserve(map, 30);
}

static void write_compact(iam_map *map)
{
    iam_map_compact(map);
}

static void write_update_many(iam_map *map)
{
    iam_map_update_many(map, few_keys, 3, few_rows, 0, IAM_SET);
}

static void write_nothing(iam_map *map)
{
    iam_map_update_many(map, few_keys, 0, few_rows, 0, IAM_SET);
}

static void write_add_at(iam_map *map)
{
    iam_map_add_at(map, few_keys, 3, no_items, 1, few_rows, 0);
}

static void write_ensure_many(iam_map *map)
{
    iam_map_ensure_many(map, few_keys, 3, few_rows, few_numbers, few_flags);
}

static void write_delete_many(iam_map *map)
{
    iam_map_delete_many(map, few_keys, 3, few_flags);
}

static void write_pop_many(iam_map *map)
{
    iam_map_pop_many(map, few_keys, 3, few_rows, few_rows, 0, NULL);
}

static void write_pop_missing(iam_map *map)
{
    int64_t missing = -1;
    iam_map_pop_many(map, &missing, 1, few_rows, NULL, 0, NULL);
}

static void write_trust(iam_map *map)
{
    EXPECT(iam_image_trust(map) == IAM_OK);
}

/* Whether a child that writes so is ended, and what it said. */
static bool dies_of(void (*write_it)(iam_map *map), iam_map *map, char *said, size_t said_bytes)
{
    int pipe_ends[2], status;
    EXPECT(pipe(pipe_ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        dup2(pipe_ends[1], 2);
        write_it(map);
        _exit(0);
    }
    close(pipe_ends[1]);
    size_t said_count = 0;
    for (ssize_t got; (got = read(pipe_ends[0], said + said_count, said_bytes - 1 - said_count)) > 0;)
        said_count += (size_t)got;
    said[said_count] = '\0';
    close(pipe_ends[0]);
    EXPECT(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* What is broken is the lock: no writer looks at it or makes it anew. */
static void test_a_write_that_leaves_it_broken_ends_the_program(void)
{
    void (*const writers[])(iam_map *map) = {write_put,      write_ensure,      write_remove,      write_remove_missing,
                                             write_clear,    write_reserve,     write_compact,     write_update_many,
                                             write_nothing,  write_add_at,      write_ensure_many, write_delete_many,
                                             write_pop_many, write_pop_missing, write_trust};
    char said[200];
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++)
        for (int index = IAM_INDEX_AUTO; index <= IAM_INDEX_HASH; index++) {
            iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = (iam_index)index};
            iam_map *map;
            EXPECT(iam_map_create(&options, &map) == IAM_OK);
            put_keys(map, 0, 1, 8);
            EXPECT(!dies_of(writers[i], map, said, sizeof said) && said[0] == '\0');
            l1_writer_and_reader(map);
            EXPECT(dies_of(writers[i], map, said, sizeof said));
            EXPECT(strcmp(said, "L1: a writer and 1 readers hold the lock\n") == 0);
            mend();
            iam_map_destroy(map);
        }
}

/* A large map is not asked after each write, but before long, and after a large batch at once. */
static void test_a_large_map_is_checked_now_and_then(void)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64};
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    put_keys(map, 0, 1, 4000);
    uint64_t bytes = iam_map_bytes(map), writes_most = bytes / CHECKED_BYTES_PER_WRITE + 1, writes = 0;
    EXPECT(bytes > 2 * CHECKED_BYTES);
    bool was_reset = false;
    for (; writes < 3 * writes_most && !was_reset; writes++) {
        uint32_t before = map->paid_bytes;
        put_keys(map, 7, 1, 1);
        was_reset = map->paid_bytes < before;
    }
    EXPECT(was_reset && map->paid_bytes == 0 && writes <= writes_most);
    put_keys(map, 7, 1, 1);
    EXPECT(map->paid_bytes == CHECKED_BYTES_PER_WRITE + CHECKED_BYTES_PER_KEY);
    static int64_t many_keys[4000];
    static uint8_t many_flags[4000];
    iam_map_delete_many(map, many_keys, 10, many_flags);
    EXPECT(map->paid_bytes == 2 * CHECKED_BYTES_PER_WRITE + 11 * CHECKED_BYTES_PER_KEY);
    iam_map_delete_many(map, many_keys, 4000, many_flags);
    EXPECT(map->paid_bytes == 0);
    iam_map_destroy(map);
}

#endif

int main(void)
{
    RUN(test_every_invariant_is_watched);
    RUN(test_none_is_missing);
    RUN(test_r1_of_every_bit_beyond);
    RUN(test_r3_of_every_row);
    RUN(test_d4_of_a_reserved_ring);
    RUN(test_d4_of_a_plain_ring);
#ifdef INTARRAYMAP_CHECKED
    RUN(test_a_write_that_leaves_it_broken_ends_the_program);
    RUN(test_a_large_map_is_checked_now_and_then);
#endif
    return harness_end();
}
