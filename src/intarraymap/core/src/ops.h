/* ops.h: arithmetic on items: row = row op other. Floor 0.
 *
 * Integers wrap as NumPy's do; min and max propagate NaN and NaT; bool adds by or. float16 is computed in float32, as
 * NumPy does.
 */
#ifndef IAM_OPS_H
#define IAM_OPS_H

#include "intarraymap.h"

/* row[i] = row[i] op other[i] for i < item_count; the two do not overlap. Items may be unaligned in `other` only. */
typedef void ops_kernel(void *row, const void *other, size_t item_count);

/* The kernel, or NULL where op is not defined on the kind. SET copies. */
ops_kernel *ops_find(iam_op op, iam_kind kind);
/* row[i] = -other[i]: what subtracting from a missing key stores. NULL where SUB is not defined. */
ops_kernel *ops_find_negate(iam_kind kind);

#endif
