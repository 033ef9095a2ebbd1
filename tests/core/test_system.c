/* test_system.c: the system itself refuses: the n-th mmap, mremap or aligned_alloc fails, for every n, beneath the
 * core's own allocator. What test_memory.c does with a map's allocator is done here with what lies below it, where
 * images are opened, results are made and spare pages change hands. */
#define _GNU_SOURCE
#include "image_bytes.h"

#include "spare.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(__linux__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

int main(void)
{
    printf("SKIPPED: THIS PROGRAM HAS ITS OWN MMAP, WHICH A SANITIZER NEEDS FOR ITSELF\n");
    return 77;
}

#else

/* ---- The system, which refuses when it is told to -----------------------------------------------------------------
 */

typedef enum { ANY, MMAP, MREMAP, ALIGNED_ALLOC } request;

static _Atomic int64_t until_refusal = -1; /* requests that still succeed; negative: all do */
static _Atomic int64_t refusals, asked;
static _Atomic request refusable = ANY; /* the others are always granted */
static _Atomic bool refuses_once;       /* after one refusal all requests succeed again */

static bool system_grants(request what)
{
    request only = atomic_load(&refusable);
    if (only != ANY && only != what)
        return true;
    atomic_fetch_add(&asked, 1);
    int64_t left = atomic_load(&until_refusal);
    if (left > 0 || (left == 0 && atomic_load(&refuses_once)))
        atomic_store(&until_refusal, left - 1);
    if (left != 0)
        return true;
    atomic_fetch_add(&refusals, 1);
    harness_refusal_count++;
    errno = ENOMEM;
    return false;
}

static _Atomic bool beside_huge_pages; /* large mappings begin a page after where a huge one could */

/* These take the place of the C library's own in this program. */
void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    if (!system_grants(MMAP))
        return MAP_FAILED;
    if (atomic_load(&beside_huge_pages) && address == NULL && bytes >= HUGE_BYTES) {
        size_t room = bytes + 2 * HUGE_BYTES;
        char *free_place = (char *)syscall(SYS_mmap, NULL, room, protection, flags, file, offset);
        if (free_place == MAP_FAILED)
            return MAP_FAILED;
        syscall(SYS_munmap, free_place, room);
        address = free_place + (size_t)(-(uintptr_t)free_place % HUGE_BYTES) + 4096; /* a hint, which is followed */
    }
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
}

static size_t unmapped_bytes; /* by the last call */

int munmap(void *address, size_t bytes)
{
    unmapped_bytes = bytes;
    return (int)syscall(SYS_munmap, address, bytes);
}

void *mremap(void *old, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    void *to = va_arg(rest, void *);
    va_end(rest);
    if (!system_grants(MREMAP))
        return MAP_FAILED;
    return (void *)syscall(SYS_mremap, old, old_bytes, new_bytes, flags, to);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *block = NULL;
    return system_grants(ALIGNED_ALLOC) && posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}

static void refuse_from(int64_t n)
{
    atomic_store(&refusals, 0);
    atomic_store(&until_refusal, n);
}

static int64_t refuse_no_more(void)
{
    atomic_store(&until_refusal, -1);
    return atomic_load(&refusals);
}

/* Addresses that the process has, used or not: what a map leaves behind shows here, as its ranges are large. */
static uint64_t address_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file != NULL && fscanf(file, "%llu", &pages) == 1);
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define SLACK_BYTES ((uint64_t)48 << 20) /* what the C library keeps for itself */

/* ---- Maps ----------------------------------------------------------------------------------------------------------
 */

enum { ROW = 8, COUNT = 20000 };
static int64_t keys[COUNT];
static double rows[COUNT][ROW], rows_out[COUNT][ROW];

static void fill(int64_t stride)
{
    for (int64_t i = 0; i < COUNT; i++) {
        keys[i] = i * stride;
        for (int item = 0; item < ROW; item++)
            rows[i][item] = (double)(i * ROW + item);
    }
}

static iam_status create(iam_index index, iam_spare *spare, iam_map **map_out)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .seed = 5, .spare = spare};
    return iam_map_create(&options, map_out);
}

static void expect_all(const iam_map *map)
{
    harness_validate(map);
    EXPECT(iam_map_count(map) == COUNT);
    EXPECT(iam_map_get_many(map, keys, COUNT, rows_out, NULL, 0, NULL, NULL) == IAM_OK);
    EXPECT(memcmp(rows_out, rows, sizeof rows) == 0);
}

static void test_a_map_from_nothing(void)
{
    int64_t refused_in_all = 0;
    for (int sparse = 0; sparse < 2; sparse++) {
        fill(sparse ? 1000003 : 1);
        for (int64_t n = 0, refused = 1; refused > 0; n++) {
            iam_map *map = NULL;
            refuse_from(n);
            iam_status status = create(IAM_INDEX_AUTO, NULL, &map);
            EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && map == NULL));
            if (status == IAM_OK) {
                status = iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET);
                EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && iam_map_count(map) == 0));
            }
            refused = refuse_no_more();
            EXPECT(refused > 0 || status == IAM_OK);
            refused_in_all += refused > 0;
            if (map != NULL) {
                EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
                expect_all(map);
            }
            iam_map_destroy(map);
        }
    }
    EXPECT(refused_in_all > 10);
}

static void test_a_map_leaves_no_address_behind(void)
{
    fill(1000003);
    uint64_t before = 0;
    atomic_store(&beside_huge_pages, true); /* ranges are cut at both ends */
    for (int round = 0; round < 100; round++) {
        if (round == 10)
            before = address_bytes();
        iam_map *map = NULL;
        EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
        EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        EXPECT(map->rows->row_store.range != NULL && map->hash.buckets.range != NULL);
        iam_map_destroy(map);
        iam_result_release(iam_result_allocate(3 << 20), 3 << 20);
    }
    atomic_store(&beside_huge_pages, false);
    EXPECT(address_bytes() < before + SLACK_BYTES);
    for (size_t round = 0; round < 150; round++) { /* what is cut off behind is long here */
        iam_map *map = NULL;
        EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
        EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        iam_map_destroy(map);
        size_t bytes = ((size_t)3 << 20) + round % 32 * (64 << 10);
        char *result = iam_result_allocate(bytes);
        EXPECT(result != NULL);
        iam_result_release(result, bytes);
    }
    EXPECT(address_bytes() < before + SLACK_BYTES);
}

/* Where no address space is to be had but blocks are, a map is made all the same. */
static void test_one_refusal_alone_is_survived_or_told(void)
{
    fill(1000003);
    int64_t survived = 0;
    for (int64_t n = 0, refused = 1; refused > 0; n++) {
        iam_map *map = NULL;
        EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
        refuse_from(n);
        iam_status status = IAM_OK;
        int64_t done = 0;
        for (; done < COUNT && status == IAM_OK; done++) {
            status = iam_map_put(map, keys[done], rows[done]);
            if (atomic_load(&refusals) > 0)
                atomic_store(&until_refusal, -1);
        }
        refused = refuse_no_more();
        EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && refused > 0));
        survived += refused > 0 && status == IAM_OK;
        for (done -= status != IAM_OK; done < COUNT; done++)
            EXPECT(iam_map_put(map, keys[done], rows[done]) == IAM_OK);
        expect_all(map);
        iam_map_destroy(map);
    }
    EXPECT(survived > 0);
}

/* An array begins in a block while it is small, or as its range is refused, and goes on in a range, each at another
 * number of keys: a batch is built in whatever way it can be. */
static void test_each_array_alone_in_blocks(void)
{
    fill(1000003);
    atomic_store(&refusable, MMAP);
    atomic_store(&refuses_once, true);
    int64_t refused_in_all = 0;
    bool keys_alone = false, buckets_alone = false;
    for (uint64_t room = 500; room <= COUNT; room += 1500)
        for (int64_t n = 0, refused = 1; refused > 0; n++) {
            iam_map *map = NULL;
            EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
            refuse_from(n);
            EXPECT(iam_map_reserve(map, room) == IAM_OK);
            refused = refuse_no_more();
            refused_in_all += refused;
            EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
            bool in_keys = map->rows->key_store.low_count != 0, in_buckets = map->hash.buckets.low_count != 0;
            keys_alone |= in_keys && !in_buckets;
            buckets_alone |= in_buckets && !in_keys;
            expect_all(map);
            iam_map_destroy(map);
        }
    EXPECT(refused_in_all > 10 && keys_alone && buckets_alone);
    atomic_store(&refusable, ANY);
    atomic_store(&refuses_once, false);
}

/* ---- Images ---------------------------------------------------------------------------------------------------------
 */

static char *save(const iam_map *map, uint64_t *byte_count_out)
{
    const iam_about about = {.axis_count = 1, .axes = {map->row_bytes / sizeof(double)}};
    iam_save *saving = NULL;
    bool ready = false;
    EXPECT(iam_save_begin(map, 777, &about, &saving) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(saving, &ready) == IAM_OK);
    *byte_count_out = iam_save_bytes(saving);
    char *bytes = malloc(*byte_count_out + IAM_SAVE_ROOM_LEAST);
    uint64_t done = 0;
    for (size_t more; (more = iam_save_next(saving, bytes + done, IAM_SAVE_ROOM_LEAST)) != 0;)
        done += more;
    iam_save_end(saving);
    return bytes;
}

static void test_images_are_opened_or_refused(void)
{
    int64_t refused_in_all = 0;
    for (int sparse = 0; sparse < 2; sparse++) {
        iam_map *map = NULL;
        fill(sparse ? 1000003 : 1);
        EXPECT(create(IAM_INDEX_AUTO, NULL, &map) == IAM_OK);
        EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        uint64_t byte_count;
        char *bytes = save(map, &byte_count);
        uint64_t before = address_bytes();
        for (int64_t n = 0, refused = 1; refused > 0; n++) {
            iam_mapping mapping = image_copy(bytes, byte_count);
            iam_map *opened = NULL;
            iam_about about;
            char reason[200] = "";
            int releases = image_releases;
            refuse_from(n);
            iam_status status = iam_image_open(&mapping, 9, &opened, &about, reason, sizeof reason);
            refused = refuse_no_more();
            EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && opened == NULL && refused > 0));
            refused_in_all += status == IAM_NO_MEMORY;
            if (status != IAM_OK) {
                EXPECT(image_releases == releases); /* still the caller's */
                EXPECT(iam_image_open(&mapping, 9, &opened, &about, reason, sizeof reason) == IAM_OK);
            }
            expect_all(opened);
            iam_map_destroy(opened);
            EXPECT(image_releases == releases + 1);
        }
        EXPECT(address_bytes() < before + SLACK_BYTES);
        free(bytes);
        iam_map_destroy(map);
    }
    EXPECT(refused_in_all > 1);
}

/* A writable opened map grows behind the file in a reserved range, and nowhere else. */
static void test_an_opened_map_needs_a_range_to_grow(void)
{
    iam_map *map = NULL, *opened = NULL;
    fill(1000003);
    EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
    EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
    uint64_t byte_count;
    char *bytes = save(map, &byte_count), reason[200] = "";
    iam_mapping mapping = image_copy(bytes, byte_count);
    iam_about about;
    EXPECT(iam_image_open(&mapping, 9, &opened, &about, reason, sizeof reason) == IAM_OK);
    EXPECT(iam_image_verify(opened, reason, sizeof reason) == IAM_OK);
    iam_image_trust(opened);
    refuse_from(0);
    EXPECT(iam_map_put(opened, -1, rows[0]) == IAM_NO_MEMORY);
    EXPECT(refuse_no_more() > 0);
    expect_all(opened);
    EXPECT(iam_map_put(opened, -1, rows[0]) == IAM_OK && iam_map_remove(opened, -1) == IAM_OK);
    expect_all(opened);
    iam_map_destroy(opened);
    free(bytes);
    iam_map_destroy(map);
}

/* Nothing borrowed is gone on with in blocks, however little there is of it: of few rows the one word of presence. */
static void test_a_small_opened_map_needs_ranges_too(void)
{
    enum { FEW = 5, MORE = 200 };
    iam_map *map = NULL, *opened = NULL;
    fill(1000003);
    EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
    EXPECT(iam_map_update_many(map, keys, FEW, rows, sizeof rows[0], IAM_SET) == IAM_OK);
    uint64_t byte_count;
    char *bytes = save(map, &byte_count), reason[200] = "";
    iam_mapping mapping = image_copy(bytes, byte_count);
    iam_about about;
    EXPECT(iam_image_open(&mapping, 9, &opened, &about, reason, sizeof reason) == IAM_OK);
    EXPECT(iam_image_trust(opened) == IAM_OK);
    atomic_store(&refusable, MMAP);
    refuse_from(0);
    int64_t count = FEW;
    while (count < MORE && iam_map_put(opened, keys[count], rows[count]) == IAM_OK)
        count++;
    EXPECT(refuse_no_more() > 0 && count < MORE);
    atomic_store(&refusable, ANY);
    harness_validate(opened);
    for (; count < MORE; count++)
        EXPECT(iam_map_put(opened, keys[count], rows[count]) == IAM_OK);
    EXPECT(iam_map_get_many(opened, keys, MORE, rows_out, NULL, 0, NULL, NULL) == IAM_OK);
    EXPECT(memcmp(rows_out, rows, MORE * sizeof rows[0]) == 0);
    harness_validate(opened);
    iam_map_destroy(opened);
    free(bytes);
    iam_map_destroy(map);
}

/* ---- Spare pages ----------------------------------------------------------------------------------------------------
 */

/* Where pages do not move, others come in their place: warm or not, all of it can be written to. */
static void test_pages_that_do_not_move_are_replaced(void)
{
    const size_t bytes = 2 << 20;
    iam_spare *spare = iam_spare_create();
    for (int refused = 0; refused < 2; refused++) {
        char *kept = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(kept != MAP_FAILED && to != MAP_FAILED);
        memset(kept, 7, bytes);
        EXPECT(spare_give(spare, kept, bytes) == bytes);
        atomic_store(&refusable, MREMAP);
        refuse_from(refused ? 0 : -1);
        size_t warm = 1;
        EXPECT(spare_take(spare, to, bytes, &warm) && warm == (refused ? 0 : bytes));
        EXPECT(refuse_no_more() == refused);
        atomic_store(&refusable, ANY);
        for (size_t i = 0; i < bytes; i += 512) {
            EXPECT(to[i] == (refused ? 0 : 7));
            to[i] = 1;
        }
        munmap(to, bytes);
    }
    iam_spare_destroy(spare);
}

/* What a hash map says that it has, without its arrays: the same whatever was asked for, granted and refused. */
static uint64_t bytes_beside_arrays(const iam_map *map)
{
    const iam_rows *own = map->rows;
    const segments *arrays[] = {&own->row_store,  &own->key_store,    &own->presence_store,
                                &own->hold_store, &map->hash.buckets, &map->hash.overflow};
    uint64_t bytes = atomic_load(&map->memory.bytes) + atomic_load(&own->memory.bytes);
    for (int i = 0; i < 6; i++)
        bytes -= arrays[i]->item_count * arrays[i]->item_bytes;
    return bytes;
}

/* Pages that cannot be moved are given up, and the map is made without them, or refused. */
static void test_spare_pages_that_do_not_move(void)
{
    fill(1000003);
    for (int hole = 0; hole < 2; hole++) {
        iam_spare *spare = iam_spare_create();
        iam_map *map = NULL;
        for (int round = 0; round < 2; round++) {
            EXPECT(create(IAM_INDEX_HASH, spare, &map) == IAM_OK);
            EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
            iam_map_destroy(map);
        }
        EXPECT(create(IAM_INDEX_HASH, spare, &map) == IAM_OK);
        const uint64_t beside = bytes_beside_arrays(map);
        atomic_store(&refusable, hole ? ANY : MREMAP);
        int64_t refused = 0;
        if (!hole) {
            refuse_from(0);
            EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
            refused = refuse_no_more();
        } else {
            /* The n-th request and all after it: somewhere among them mremap fails and the mmap that mends it too. */
            for (int64_t n = 0, again = 1; again > 0; n++) {
                refuse_from(n);
                iam_status status = iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET);
                again = refuse_no_more();
                EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && again > 0 && iam_map_count(map) == 0));
                harness_validate(map);
                EXPECT(bytes_beside_arrays(map) == beside);
                refused += again;
                EXPECT(iam_map_clear(map) == IAM_OK);
                /* Pages to be moved in the next round. */
                iam_map *other = NULL;
                EXPECT(create(IAM_INDEX_HASH, spare, &other) == IAM_OK);
                EXPECT(iam_map_update_many(other, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
                iam_map_destroy(other);
            }
            EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        }
        EXPECT(refused > 0);
        atomic_store(&refusable, ANY);
        expect_all(map);
        iam_map_destroy(map);
        iam_spare_destroy(spare);
    }
    iam_spare_destroy(NULL);
}

/* The last rows of an image, where they are no multiple of eight, move when it is trusted, or nothing has happened. */
static void test_trusting_moves_the_last_rows_or_nothing(void)
{
    int64_t refused_in_all = 0;
    for (int index = IAM_INDEX_HASH; index <= IAM_INDEX_DIRECT; index++) {
        enum { ITEMS = 1500, KEYS = 21 }; /* a page of the direct index is one row of such a size */
        static double row[ITEMS], found[ITEMS];
        iam_options options = {.row_items = ITEMS, .kind = IAM_FLOAT64, .index = (iam_index)index, .seed = 5};
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        for (int64_t key = 0; key < KEYS; key++) {
            row[0] = row[ITEMS - 1] = (double)key;
            EXPECT(iam_map_put(map, key, row) == IAM_OK);
        }
        uint64_t byte_count;
        char *bytes = save(map, &byte_count), reason[200] = "";
        uint64_t before = address_bytes();
        for (int64_t n = 0, refused = 1; refused > 0; n++) {
            iam_mapping mapping = image_copy(bytes, byte_count);
            iam_about about;
            iam_map *opened;
            EXPECT(iam_image_open(&mapping, 9, &opened, &about, reason, sizeof reason) == IAM_OK);
            refuse_from(n);
            iam_status status = iam_image_trust(opened);
            refused = refuse_no_more();
            refused_in_all += refused > 0;
            EXPECT(status == IAM_OK || (status == IAM_NO_MEMORY && refused > 0));
            harness_validate(opened);
            EXPECT(status == IAM_OK || iam_image_trust(opened) == IAM_OK);
            EXPECT(iam_map_index(opened) == (iam_index)index && iam_map_put(opened, KEYS, row) == IAM_OK);
            harness_validate(opened);
            for (int64_t key = 0; key < KEYS; key++) {
                EXPECT(iam_map_get_many(opened, &key, 1, found, NULL, 0, NULL, NULL) == IAM_OK);
                EXPECT(found[0] == (double)key && found[ITEMS - 1] == (double)key);
            }
            iam_map_destroy(opened);
        }
        EXPECT(address_bytes() < before + SLACK_BYTES);
        free(bytes);
        iam_map_destroy(map);
    }
    EXPECT(refused_in_all >= 3);
}

/* ---- Results --------------------------------------------------------------------------------------------------------
 */

static void test_results(void)
{
    const size_t bytes = 3 << 20;
    refuse_from(0);
    EXPECT(iam_result_allocate(bytes) == NULL);
    EXPECT(refuse_no_more() == 1);
    char *block = iam_result_allocate(bytes);
    EXPECT(block != NULL && (uintptr_t)block % HUGE_BYTES == 0);
    memset(block, 1, bytes);
    iam_result_release(block, bytes);
    for (size_t odd = 1; odd < 9000; odd = odd * 2 + 1) {
        block = iam_result_allocate(odd);
        block[odd - 1] = 1;
        iam_result_release(block, odd);
        EXPECT(unmapped_bytes == (odd + 4095) / 4096 * 4096);
        iam_result_release(iam_result_allocate(odd + 1), odd + 1);
        EXPECT(unmapped_bytes == (odd + 1 + 4095) / 4096 * 4096);
    }
}

/* The system need not put large mappings where huge pages could be. */
static void test_mappings_beside_huge_pages(void)
{
    fill(1000003);
    atomic_store(&beside_huge_pages, true);
    for (int round = 0; round < 3; round++) {
        char *block = iam_result_allocate(3 << 20);
        EXPECT(block != NULL && (uintptr_t)block % HUGE_BYTES == 0);
        memset(block, 1, 3 << 20);
        iam_result_release(block, 3 << 20);
        iam_map *map = NULL;
        EXPECT(create(IAM_INDEX_HASH, NULL, &map) == IAM_OK);
        EXPECT(iam_map_update_many(map, keys, COUNT, rows, sizeof rows[0], IAM_SET) == IAM_OK);
        EXPECT(map->rows->row_store.range != NULL && (uintptr_t)map->rows->row_store.range % HUGE_BYTES == 0);
        expect_all(map);
        iam_map_destroy(map);
    }
    atomic_store(&beside_huge_pages, false);
}

int main(void)
{
    RUN(test_mappings_beside_huge_pages);
    RUN(test_a_map_leaves_no_address_behind);
    RUN(test_a_map_from_nothing);
    RUN(test_one_refusal_alone_is_survived_or_told);
    RUN(test_each_array_alone_in_blocks);
    RUN(test_images_are_opened_or_refused);
    RUN(test_an_opened_map_needs_a_range_to_grow);
    RUN(test_a_small_opened_map_needs_ranges_too);
    RUN(test_pages_that_do_not_move_are_replaced);
    RUN(test_spare_pages_that_do_not_move);
    RUN(test_trusting_moves_the_last_rows_or_nothing);
    RUN(test_results);
    return harness_end();
}

#endif
