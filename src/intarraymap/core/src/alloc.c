/* alloc.c: see alloc.h. */
#define _GNU_SOURCE
#include "alloc.h"

#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

static void *map_anonymous(size_t bytes, int flags)
{
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void *system_allocate(void *state, size_t bytes, size_t alignment, bool zeroed)
{
    (void)state;
    if (bytes >= ALLOC_MAPPED_BYTES)
        return map_anonymous(bytes, 0);
    void *block = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (block != NULL && zeroed)
        memset(block, 0, bytes);
    return block;
}

static void system_release(void *state, void *block, size_t bytes)
{
    (void)state;
    if (bytes >= ALLOC_MAPPED_BYTES)
        munmap(block, bytes);
    else
        free(block);
}

void alloc_begin(alloc *memory, const iam_options *options)
{
    memory->given = options->allocator;
    memory->spare = options->spare;
    if (memory->given.allocate == NULL) {
        memory->given.allocate = system_allocate;
        memory->given.release = system_release;
    }
    memory->reserve_allowed = options->reserve != IAM_OFF;
    memory->huge_allowed = options->huge_pages != IAM_OFF;
    atomic_init(&memory->request_count, 0);
    atomic_init(&memory->bytes, 0);
}

void *alloc_block(alloc *memory, size_t count, size_t item_bytes, bool zeroed)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, item_bytes, &bytes) || bytes > PTRDIFF_MAX || bytes == 0)
        return NULL;
    void *block = memory->given.allocate(memory->given.state, bytes, LINE_BYTES * 2, zeroed);
    if (block == NULL)
        return NULL;
    atomic_fetch_add_explicit(&memory->request_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&memory->bytes, bytes, memory_order_relaxed);
    return block;
}

void alloc_release(alloc *memory, void *block, size_t count, size_t item_bytes)
{
    if (block == NULL)
        return;
    atomic_fetch_sub_explicit(&memory->bytes, count * item_bytes, memory_order_relaxed);
    memory->given.release(memory->given.state, block, count * item_bytes);
}

void *alloc_reserve(alloc *memory, size_t bytes)
{
    if (!memory->reserve_allowed || bytes > (SIZE_MAX >> 2))
        return NULL;
    if (memory->given.may_reserve != NULL && !memory->given.may_reserve(memory->given.state, bytes))
        return NULL;
    /* MAP_NORESERVE: nothing is charged before it is touched; where the system insists on charging (strict overcommit)
     * or limits addresses (RLIMIT_AS) the call fails and the caller takes segments, which are charged honestly. */
    size_t padded = bytes + HUGE_BYTES;
    char *range = map_anonymous(padded, MAP_NORESERVE);
    if (range == NULL)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)range % HUGE_BYTES);
    if (before != 0)
        munmap(range, before);
    munmap(range + before + bytes, padded - before - bytes);
    return range + before;
}

void alloc_unreserve(void *range, size_t bytes)
{
    munmap(range, bytes);
}

bool alloc_commit(alloc *memory, size_t bytes)
{
    if (memory->given.may_commit != NULL && !memory->given.may_commit(memory->given.state, bytes))
        return false;
    atomic_fetch_add_explicit(&memory->request_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&memory->bytes, bytes, memory_order_relaxed);
    return true;
}

void alloc_uncommit(alloc *memory, size_t bytes)
{
    atomic_fetch_sub_explicit(&memory->bytes, bytes, memory_order_relaxed);
}

void alloc_advise_huge(alloc *memory, char *begin, char *end)
{
#ifdef MADV_HUGEPAGE
    if (!memory->huge_allowed)
        return;
    uintptr_t first = ((uintptr_t)begin + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1);
    uintptr_t last = (uintptr_t)end & ~(uintptr_t)(HUGE_BYTES - 1);
    if (first < last)
        madvise((void *)first, last - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)begin, (void)end;
#endif
}

void alloc_populate(char *begin, char *end)
{
#if defined(__linux__) && !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older kernels answer EINVAL */
#endif
#ifdef MADV_POPULATE_WRITE
    uintptr_t first = (uintptr_t)begin & ~(uintptr_t)(PAGE_BYTES - 1);
    uintptr_t last = ((uintptr_t)end + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);
    madvise((void *)first, last - first, MADV_POPULATE_WRITE);
#else
    (void)begin, (void)end;
#endif
}

size_t alloc_give_back(char *begin, char *end)
{
#ifdef __linux__
    uintptr_t first = ((uintptr_t)begin + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);
    uintptr_t last = (uintptr_t)end & ~(uintptr_t)(PAGE_BYTES - 1);
    if (first < last && madvise((void *)first, last - first, MADV_DONTNEED) == 0)
        return last - first;
#else
    (void)begin, (void)end;
#endif
    return 0;
}

uint64_t alloc_physical_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : (uint64_t)8 << 30;
}

void *iam_result_allocate(size_t bytes)
{
    if (bytes == 0 || bytes > (SIZE_MAX >> 2))
        return NULL;
    alloc memory = {.reserve_allowed = true, .huge_allowed = true};
    /* Charged like any mapping: an impossible size fails here and not by a signal later. */
    size_t padded = bytes + HUGE_BYTES;
    char *range = map_anonymous(padded, 0);
    if (range == NULL)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)range % HUGE_BYTES);
    if (before != 0)
        munmap(range, before);
    size_t kept = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    if (padded - before > kept)
        munmap(range + before + kept, padded - before - kept);
    alloc_advise_huge(&memory, range + before, range + before + kept);
    return range + before;
}

void iam_result_release(void *block, size_t bytes)
{
    if (block != NULL)
        munmap(block, (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1));
}
