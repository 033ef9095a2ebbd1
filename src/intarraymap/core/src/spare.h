/* spare.h: pages of maps that are gone, kept for the next map that is made at one go. Floor 0.
 *
 * A map made from a batch writes to all of its memory at once, and fresh pages cost more than what is put there (a row
 * of 64 bytes: 8 to 34 ns, against 5 for its copy). malloc knows that and keeps up to 32 MiB of what a program frees,
 * so that an ndarray of a size that was freed a moment ago costs no fault. We keep as much, by the same reasoning.
 *
 * A NULL spare keeps nothing.
 * What is kept are pages, not addresses: they are moved (mremap) to the start of the new map's range.
 */
#ifndef IAM_SPARE_H
#define IAM_SPARE_H

#include "intarraymap.h"

/* Moves kept pages to `to`, the untouched start of a mapping: up to `bytes`. *warm_out bytes hold whatever they held
 * then. false: the system refused, and there is a hole in the mapping now. */
bool spare_take(iam_spare *spare, char *to, size_t bytes, size_t *warm_out);
/* Takes the whole pages in [from, from + bytes), touched, of a mapping that is no longer used, to keep them or to give
 * them back. Returns the bytes taken: the rest is still the caller's to unmap. `from` is aligned to pages. */
size_t spare_give(iam_spare *spare, char *from, size_t bytes);

#endif
