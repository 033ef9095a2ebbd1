/* spare.c: see spare.h. */
#define _GNU_SOURCE
#include "spare.h"

#include "alloc.h"

#include <stdlib.h>
#include <sys/mman.h>

/* As much as malloc keeps (the largest threshold from which it gives a block back at once: DEFAULT_MMAP_THRESHOLD_MAX,
 * 32 MiB). */
#define SPARE_BYTES_MOST ((size_t)32 << 20)
/* Less is not worth two system calls. */
#define SPARE_BYTES_LEAST ((size_t)256 << 10)
#define SPARE_BLOCKS 8

struct iam_spare {
    /* Whoever finds it taken does without: nobody waits, and a child forked at that moment just has no spare. */
    atomic_flag busy;
    int count;
    size_t bytes; /* of all */
    struct {
        char *start;
        size_t bytes;
    } kept[SPARE_BLOCKS]; /* the latest first */
};

iam_spare *iam_spare_create(void)
{
    iam_spare *spare = calloc(1, sizeof *spare);
    if (spare != NULL)
        atomic_flag_clear(&spare->busy);
    return spare;
}

void iam_spare_destroy(iam_spare *spare)
{
    for (int block = 0; spare != NULL && block < spare->count; block++)
        munmap(spare->kept[block].start, spare->kept[block].bytes);
    free(spare);
}

#ifdef MREMAP_FIXED

static bool enter(iam_spare *spare)
{
    return spare != NULL && !atomic_flag_test_and_set_explicit(&spare->busy, memory_order_acquire);
}

static void leave(iam_spare *spare)
{
    atomic_flag_clear_explicit(&spare->busy, memory_order_release);
}

static void forget(iam_spare *spare, int block)
{
    spare->bytes -= spare->kept[block].bytes;
    spare->count--;
    for (; block < spare->count; block++)
        spare->kept[block] = spare->kept[block + 1];
}

/* The smallest block that is large enough, or the largest; -1 where that one is far too large. */
static int best_block(const iam_spare *spare, size_t bytes)
{
    int best = -1;
    size_t best_bytes = 0;
    for (int block = 0; block < spare->count; block++) {
        size_t has = spare->kept[block].bytes;
        if (best < 0 || (has >= bytes ? best_bytes < bytes || has < best_bytes : has > best_bytes)) {
            best = block;
            best_bytes = has;
        }
    }
    return best_bytes / 4 <= bytes ? best : -1;
}

bool spare_take(iam_spare *spare, char *to, size_t bytes, size_t *warm_out)
{
    *warm_out = 0;
    bytes &= ~(size_t)(PAGE_BYTES - 1);
    if (bytes < SPARE_BYTES_LEAST || !enter(spare))
        return true;
    int block = best_block(spare, bytes);
    char *start = block < 0 ? NULL : spare->kept[block].start;
    size_t whole = block < 0 ? 0 : spare->kept[block].bytes;
    if (block >= 0)
        forget(spare, block);
    leave(spare);
    if (start == NULL)
        return true;
    size_t moved = whole < bytes ? whole : bytes;
    if (whole > moved)
        munmap(start + moved, whole - moved);
    if (mremap(start, moved, moved, MREMAP_MAYMOVE | MREMAP_FIXED, to) == (void *)to) {
        *warm_out = moved;
        return true;
    }
    munmap(start, moved);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return mmap(to, moved, PROT_READ | PROT_WRITE, flags, -1, 0) == (void *)to;
}

size_t spare_give(iam_spare *spare, char *from, size_t bytes)
{
    bytes &= ~(size_t)(PAGE_BYTES - 1);
    if (bytes < SPARE_BYTES_LEAST || bytes > SPARE_BYTES_MOST || !enter(spare))
        return 0;
    while (spare->count == SPARE_BLOCKS || spare->bytes + bytes > SPARE_BYTES_MOST) {
        int oldest = spare->count - 1;
        munmap(spare->kept[oldest].start, spare->kept[oldest].bytes);
        forget(spare, oldest);
    }
    for (int block = spare->count++; block > 0; block--)
        spare->kept[block] = spare->kept[block - 1];
    spare->kept[0].start = from;
    spare->kept[0].bytes = bytes;
    spare->bytes += bytes;
    leave(spare);
    return bytes;
}

#else

bool spare_take(iam_spare *spare, char *to, size_t bytes, size_t *warm_out)
{
    (void)spare, (void)to, (void)bytes;
    *warm_out = 0;
    return true;
}

size_t spare_give(iam_spare *spare, char *from, size_t bytes)
{
    (void)spare, (void)from, (void)bytes;
    return 0;
}

#endif
