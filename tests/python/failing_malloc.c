/*
 * failing_malloc.c: an allocator whose n-th request fails, put in front of the C library's by LD_PRELOAD.
 *
 * Compiled and used by test_no_memory.py. fail_arm(n, count): of this thread's requests, n more are granted, then
 * `count` are refused, then all are granted again; fail_disarm() ends it and returns how many were refused.
 * fail_requests() is how many came since fail_arm. mmap counts as a request where it asks for memory (anonymous).
 * fail_alive() is how many blocks of malloc and its like are in use in the whole process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HERE static __thread __attribute__((tls_model("initial-exec")))

HERE int armed;
HERE long left;
HERE long to_refuse;
HERE long refused;
HERE long requests;

static _Atomic long alive;

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

static int is_refused(void)
{
    if (!armed)
        return 0;
    requests++;
    if (left > 0) {
        left--;
        return 0;
    }
    if (to_refuse <= 0)
        return 0;
    to_refuse--;
    refused++;
    errno = ENOMEM;
    return 1;
}

void fail_arm(long granted, long count)
{
    left = granted;
    to_refuse = count;
    refused = 0;
    requests = 0;
    armed = 1;
}

long fail_disarm(void)
{
    armed = 0;
    return refused;
}

long fail_requests(void)
{
    return requests;
}

long fail_alive(void)
{
    return alive;
}

static void *counted(void *block)
{
    if (block != NULL)
        alive++;
    return block;
}

void *malloc(size_t bytes)
{
    return is_refused() ? NULL : counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return is_refused() ? NULL : counted(__libc_calloc(count, bytes));
}

void *realloc(void *block, size_t bytes)
{
    if (block == NULL)
        return malloc(bytes);
    if (is_refused())
        return NULL;
    if (bytes == 0) /* which frees it */
        alive--;
    return __libc_realloc(block, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    return is_refused() ? NULL : counted(__libc_memalign(alignment, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

int posix_memalign(void **block_out, size_t alignment, size_t bytes)
{
    void *block = memalign(alignment, bytes);
    if (block == NULL)
        return ENOMEM;
    *block_out = block;
    return 0;
}

void free(void *block)
{
    if (block != NULL)
        alive--;
    __libc_free(block);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
    if ((flags & MAP_ANONYMOUS) && is_refused())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, descriptor, offset);
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
    return mmap(address, bytes, protection, flags, descriptor, offset);
}
