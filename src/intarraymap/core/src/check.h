/* check.h: assertions of the core. Floor 0: everybody includes it, it includes nothing of ours.
 *
 * CHECK states what the code around it relies on. Checked builds (INTARRAYMAP_CHECKED) abort where it does not hold;
 * release builds let the compiler assume nothing and spend nothing. Public input is never judged by CHECK: it gets a
 * status. CHECK_MAP (map.h) does the same for a whole map after a write.
 */
#ifndef IAM_CHECK_H
#define IAM_CHECK_H

#include <assert.h>

#ifdef INTARRAYMAP_CHECKED
#include <stdio.h>
#include <stdlib.h>
#define CHECK(condition) ((condition) ? (void)0 : abort())

/* The only words that the core ever says: its last ones, in checked builds. */
static inline void check_failed(const char *reason)
{
    fputs(reason, stderr);
    fputc('\n', stderr);
    abort();
}
#else
#define CHECK(condition) ((void)0)
#endif

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* The presence bitmap and the fork count of the lock are laid out for little-endian machines. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "intarraymap needs a little-endian machine");
static_assert(sizeof(void *) == 8, "intarraymap needs a 64-bit machine");

#endif
