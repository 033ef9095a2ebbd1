/* lock.h: the reader-writer lock inside each map. Floor 0.
 *
 *   word   63 ............ 32 | 31      | 30 .......... 0
 *          fork count          | writer  | readers
 *
 * One word holds everything, so that taking the lock is one compare-and-swap, and a lock that a fork caught in the
 * hands of a thread that does not exist in the child is known by its fork count and never waited for. There is no mutex
 * to be left locked.
 *
 * L1: writer and readers are never both non-zero.
 */
#ifndef IAM_LOCK_H
#define IAM_LOCK_H

#include "intarraymap.h"

#include <stdatomic.h>

typedef struct lock {
    _Atomic uint64_t word;
    _Atomic uint32_t waiting;         /* threads in lock_wait */
    _Atomic uint32_t writers_waiting; /* of them, for exclusive use: new readers stand back while others read */
} lock;

/* IAM_OK, IAM_LOCKED or IAM_FORKED, at once. */
iam_status lock_try(lock *gate, bool exclusive, uint32_t fork_count);
/* The same without taking it: for who has that without which nobody takes it. Waiting writers don't count. */
iam_status lock_look(const lock *gate, bool exclusive, uint32_t fork_count);
/* Sleeps until the lock is given back or the time is over. */
void lock_wait(lock *gate, bool exclusive, uint32_t timeout_milliseconds);
void lock_release(lock *gate, bool exclusive);
/* L1; false with the reason. May be asked while others take and give back the lock. */
bool lock_validate(const lock *gate, char *reason_out, size_t reason_bytes);

#endif
