/* build.h: a hash index from many distinct keys at one go. Floor 4. */
#ifndef IAM_BUILD_H
#define IAM_BUILD_H

#include "map.h"

/* Below this many keys the index fits the cache, and dealing them out first costs more than it saves. */
#define BUILD_KEYS_LEAST 16384

/* For an empty map in state HASH that map_begin_batch has made room in: key i gets row i, its contents whatever they
 * were. false: a key comes twice, or this way does not pay or has no memory: the map is empty as before. */
bool build_index(iam_map *map, const int64_t *keys, size_t key_count);

#endif
