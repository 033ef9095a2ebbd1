/* growth.h: evacuation, by which the hash index grows. Floor 2, beside table.h, called by table.c alone. */
#ifndef IAM_GROWTH_H
#define IAM_GROWTH_H

#include "table.h"

/* Whether the table has more keys, or more overflow buckets, than its home buckets should bear. */
bool growth_due(const table *index);
/* One step of growth for one insertion: evacuates up to GROWTH_SPLITS_PER_WRITE buckets. Needs no memory but the new
 * home bucket; where that cannot be had the table just stays fuller. */
void growth_step(table *index, alloc *memory);
/* Evacuates until there are `bucket_count` home buckets; false = out of memory, the table is whole and as large as it
 * got. */
bool growth_finish(table *index, alloc *memory, uint64_t bucket_count);

#endif
