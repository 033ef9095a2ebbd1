/* poison.h: memory that nobody should look at now, told to the address sanitizer. Floor 0: segments.c lays it beyond
 * what is committed, rows.c over rows that are free.
 *
 * A freed row is memory like any other: who reads it through a stale pointer sees old numbers, or another key's, and no
 * tool says a word. In builds with the address sanitizer it is poisoned until it is handed out again, and such a read
 * ends the program with a report (tests/core/test_poison.c). In all other builds POISON_BITES is 0 and nothing is left
 * of any of this.
 *
 * The sanitizer keeps a byte for eight bytes of memory and is told of whole ones: of rows that are no multiple of eight
 * bytes some freed bytes stay readable; never is a live one poisoned.
 */
#ifndef IAM_POISON_H
#define IAM_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define POISON_BITES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON_BITES 1
#endif
#endif
#ifndef POISON_BITES
#define POISON_BITES 0
#endif

#if POISON_BITES
#include <sanitizer/asan_interface.h>
#endif

/* A call that builds without poison leave out. */
#if POISON_BITES
#define POISON(call) call
#else
#define POISON(call) ((void)0)
#endif

/* Nobody may look at [start, start + bytes) from now on. */
static inline void poison_lay(const void *start, size_t bytes)
{
#if POISON_BITES
    __asan_poison_memory_region(start, bytes);
#else
    (void)start, (void)bytes;
#endif
}

/* Everybody may. To be called before memory goes back to where it came from, too. */
static inline void poison_lift(const void *start, size_t bytes)
{
#if POISON_BITES
    __asan_unpoison_memory_region(start, bytes);
#else
    (void)start, (void)bytes;
#endif
}

#endif
