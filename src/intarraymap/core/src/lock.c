/* lock.c: see lock.h for the word and L1. */
#define _GNU_SOURCE
#include "lock.h"

#include "check.h"

#include <stdio.h>
#include <time.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define LOCK_WRITER ((uint64_t)1 << 31)
#define LOCK_HOLDERS (((uint64_t)1 << 32) - 1)

/* The first to take it after a fork: those who waited for it then are not in this process, and are waited for no more.
 * Until they are forgotten all holders' bits are set, which nobody waits on. */
static bool take_after_fork(lock *gate, uint64_t *before_io, uint64_t after)
{
    if (!atomic_compare_exchange_strong(&gate->word, before_io, after | LOCK_HOLDERS))
        return false;
    atomic_store(&gate->waiting, 0);
    atomic_store(&gate->writers_waiting, 0);
    atomic_store(&gate->word, after);
    return true;
}

iam_status lock_try(lock *gate, bool exclusive, uint32_t fork_count)
{
    uint64_t before = atomic_load_explicit(&gate->word, memory_order_relaxed);
    for (;;) {
        const uint64_t holders = before & LOCK_HOLDERS;
        const bool is_now = before >> 32 == fork_count;
        uint64_t after = before + 1;
        if (holders == 0)
            after = (uint64_t)fork_count << 32 | (exclusive ? LOCK_WRITER : 1);
        else if (!is_now)
            return IAM_FORKED;
        else if (UNLIKELY(holders == LOCK_HOLDERS)) {
            before = atomic_load_explicit(&gate->word, memory_order_relaxed);
            continue;
        } else if (exclusive || (holders & LOCK_WRITER) != 0 ||
                   atomic_load_explicit(&gate->writers_waiting, memory_order_relaxed) > 0)
            return IAM_LOCKED;
        if (UNLIKELY(!is_now)) {
            if (take_after_fork(gate, &before, after))
                return IAM_OK;
        } else if (atomic_compare_exchange_weak_explicit(&gate->word, &before, after, memory_order_acquire,
                                                         memory_order_relaxed))
            return IAM_OK;
    }
}

iam_status lock_look(const lock *gate, bool exclusive, uint32_t fork_count)
{
    uint64_t now = atomic_load_explicit(&gate->word, memory_order_acquire);
    if (LIKELY((now & LOCK_HOLDERS) == 0))
        return IAM_OK;
    if (now >> 32 != fork_count)
        return IAM_FORKED;
    return exclusive || (now & LOCK_WRITER) != 0 ? IAM_LOCKED : IAM_OK;
}

#ifdef __linux__
/* The low half of the word, which is all that waiting is about. */
static uint32_t *futex_word(lock *gate)
{
    return (uint32_t *)(void *)&gate->word;
}

static void sleep_on(lock *gate, uint32_t seen, uint32_t timeout_milliseconds)
{
    struct timespec timeout = {timeout_milliseconds / 1000, (long)(timeout_milliseconds % 1000) * 1000000};
    syscall(SYS_futex, futex_word(gate), FUTEX_WAIT_PRIVATE, seen, &timeout, NULL, 0);
}

static void wake_all(lock *gate)
{
    syscall(SYS_futex, futex_word(gate), FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
#else
static void sleep_on(lock *gate, uint32_t seen, uint32_t timeout_milliseconds)
{
    (void)gate, (void)seen, (void)timeout_milliseconds;
    struct timespec pause = {0, 200000};
    nanosleep(&pause, NULL);
}

static void wake_all(lock *gate)
{
    (void)gate;
}
#endif

void lock_wait(lock *gate, bool exclusive, uint32_t timeout_milliseconds)
{
    atomic_fetch_add(&gate->waiting, 1);
    if (exclusive)
        atomic_fetch_add(&gate->writers_waiting, 1);
    uint64_t seen = atomic_load(&gate->word);
    if ((seen & LOCK_HOLDERS) != 0)
        sleep_on(gate, (uint32_t)(seen & LOCK_HOLDERS), timeout_milliseconds);
    if (exclusive)
        atomic_fetch_sub(&gate->writers_waiting, 1);
    atomic_fetch_sub(&gate->waiting, 1);
}

void lock_release(lock *gate, bool exclusive)
{
    CHECK((atomic_load(&gate->word) & LOCK_HOLDERS) != 0);
    uint64_t before = atomic_fetch_sub(&gate->word, exclusive ? LOCK_WRITER : 1);
    bool free_now = (before & LOCK_HOLDERS) == (exclusive ? LOCK_WRITER : 1);
    if (free_now && UNLIKELY(atomic_load(&gate->waiting) > 0))
        wake_all(gate);
}

bool lock_validate(const lock *gate, char *reason, size_t bytes)
{
    uint64_t word = atomic_load(&gate->word);
    if ((word & LOCK_WRITER) == 0 || (word & (LOCK_WRITER - 1)) == 0 || (word & LOCK_HOLDERS) == LOCK_HOLDERS)
        return true;
    snprintf(reason, bytes, "L1: a writer and %llu readers hold the lock",
             (unsigned long long)(word & (LOCK_WRITER - 1)));
    return false;
}
