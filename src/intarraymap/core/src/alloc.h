/* alloc.h: the allocator a map carries. Floor 0.
 *
 * Every byte that the core owns passes here, so that it is counted, can be refused by a test, and cannot overflow a
 * size. Address space is reserved and put to use ("committed") here too: see segments.h for what is done with it.
 */
#ifndef IAM_ALLOC_H
#define IAM_ALLOC_H

#include "intarraymap.h"

#include <stdatomic.h>

/* Bytes of a cache line, of a small and of a huge page on the machines we build for. */
#define LINE_BYTES 64
#define PAGE_BYTES 4096
#define HUGE_BYTES (2u << 20)
/* Blocks from this size on come from mmap: zeroed for nothing, touched page by page, back to the system at once.
 * glibc's own threshold starts at the same figure. */
#define ALLOC_MAPPED_BYTES (128u << 10)

typedef struct alloc {
    iam_allocator given;
    iam_spare *spare;
    bool reserve_allowed;
    bool huge_allowed;
    _Atomic uint64_t request_count; /* blocks asked for and commits, granted */
    _Atomic uint64_t bytes;         /* blocks alive and committed parts of ranges */
} alloc;

void alloc_begin(alloc *memory, const iam_options *options);
/* count * item_bytes bytes, aligned to a cache line; NULL when refused or when the product does not fit. */
void *alloc_block(alloc *memory, size_t count, size_t item_bytes, bool zeroed);
void alloc_release(alloc *memory, void *block, size_t count, size_t item_bytes);

/* Address space of `bytes`, aligned to a huge page, all zeros when first touched, costing nothing until then. NULL
 * where the system or the options refuse: callers fall back to blocks. */
void *alloc_reserve(alloc *memory, size_t bytes);
void alloc_unreserve(void *range, size_t bytes);
/* Counts `bytes` more of a range as in use; false = out of memory, nothing counted. */
bool alloc_commit(alloc *memory, size_t bytes);
void alloc_uncommit(alloc *memory, size_t bytes);
/* Asks for huge pages in the whole huge pages inside [begin, end); a hint. */
void alloc_advise_huge(alloc *memory, char *begin, char *end);
/* Makes the pages of [begin, end) present at one go, where the system knows how; a hint. */
void alloc_populate(char *begin, char *end);
/* Gives the whole small pages inside [begin, end) of a range back; they read as zeros afterwards. Returns the bytes
 * given back. */
size_t alloc_give_back(char *begin, char *end);
/* Bytes of physical memory: the most that it makes sense to reserve. */
uint64_t alloc_physical_bytes(void);

#endif
