/* steps.c: how much work the longest insert and the longest delete do, counted and not timed.
 *
 * Where a machine has no instruction counter a timer only says how long an operation took, its page faults and its
 * neighbours included. So the core is compiled with -fsanitize-coverage=trace-pc (one call per basic block) and with
 * memset, memcpy and memmove wrapped: both counts are exact and the same in every run.
 *
 * Usage: steps COUNT. Prints for each pattern and verb: the operation with the most steps (blocks + bytes / 32; a
 * block is about five instructions), and the mean.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "intarraymap.h"
#include "keys.h"

static uint64_t block_count, byte_count;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    block_count++;
}

void *__real_memset(void *to, int byte, size_t bytes);
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__real_memmove(void *to, const void *from, size_t bytes);
void *__wrap_memset(void *to, int byte, size_t bytes);
void *__wrap_memcpy(void *to, const void *from, size_t bytes);
void *__wrap_memmove(void *to, const void *from, size_t bytes);

void *__wrap_memset(void *to, int byte, size_t bytes)
{
    byte_count += bytes;
    return __real_memset(to, byte, bytes);
}
void *__wrap_memcpy(void *to, const void *from, size_t bytes)
{
    byte_count += bytes;
    return __real_memcpy(to, from, bytes);
}
void *__wrap_memmove(void *to, const void *from, size_t bytes)
{
    byte_count += bytes;
    return __real_memmove(to, from, bytes);
}

enum { BYTES_A_STEP = 32, WORST_COUNT = 3 };

typedef struct worst {
    uint64_t operation, blocks, bytes, steps;
} worst;

typedef struct tally {
    worst worst[WORST_COUNT];
    double total;
} tally;

static void begin_count(void)
{
    block_count = byte_count = 0;
}

static void end_count(tally *t, uint64_t operation)
{
    worst now = {operation, block_count, byte_count, block_count + byte_count / BYTES_A_STEP};
    t->total += (double)now.steps;
    for (int i = 0; i < WORST_COUNT; i++) {
        if (now.steps > t->worst[i].steps) {
            worst pushed = t->worst[i];
            t->worst[i] = now;
            now = pushed;
        }
    }
}

static void print(const char *what, const tally *t, uint64_t count)
{
    printf("%s\t%.1f", what, t->total / (double)count);
    for (int i = 0; i < WORST_COUNT; i++) {
        const worst *w = &t->worst[i];
        printf("\t%llu\t%llu\t%llu\t%llu", (unsigned long long)w->operation, (unsigned long long)w->steps,
               (unsigned long long)w->blocks, (unsigned long long)w->bytes);
    }
    printf("\n");
}

/* Key number i: the first half dense where leaving_direct, random otherwise. */
static int64_t key_of(uint64_t i, uint64_t count, bool leaving_direct)
{
    if (!leaving_direct)
        return splitmix64(i);
    return i < count / 2 ? (int64_t)i : splitmix64(i - count / 2);
}

static void run(uint64_t count, bool leaving_direct)
{
    iam_options options = {.row_items = ROW_ITEMS, .kind = IAM_FLOAT64, .index = IAM_INDEX_AUTO, .seed = 12345};
    iam_map *map;
    double row[ROW_ITEMS] = {0};
    tally inserts = {0}, deletes = {0};
    if (iam_map_create(&options, &map) != IAM_OK)
        abort();
    for (uint64_t i = 0; i < count; i++) {
        begin_count();
        if (iam_map_put(map, key_of(i, count, leaving_direct), row) != IAM_OK)
            abort();
        end_count(&inserts, i);
    }
    /* In an order of its own: stepping by a number that shares no factor with the count. */
    uint64_t step = 7919;
    while (count % step == 0)
        step += 2;
    for (uint64_t i = 0, at = 0; i < count; i++, at = (at + step) % count) {
        begin_count();
        if (iam_map_remove(map, key_of(at, count, leaving_direct)) != IAM_OK)
            abort();
        end_count(&deletes, i);
    }
    print(leaving_direct ? "insert, leaving direct" : "insert, random keys", &inserts, count);
    print(leaving_direct ? "delete, leaving direct" : "delete, random keys", &deletes, count);
    iam_map_destroy(map);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: steps COUNT\n"), 2;
    uint64_t count = strtoull(argv[1], NULL, 10);
    printf("what\tmean\tworst\tsteps\tblocks\tbytes\tsecond\tsteps\tblocks\tbytes\tthird\tsteps\tblocks\tbytes\n");
    run(count, false);
    run(count, true);
    return 0;
}
