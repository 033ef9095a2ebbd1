/* batch_read.c: many keys at once, reading. Floor 4. */
#include "pipeline.h"

#include <string.h>

typedef struct reading {
    char *rows_out;
    const char *defaults;
    size_t default_stride, row_bytes;
    uint8_t *found_out;
    iam_missing missing;
} reading;

static void note_missing(iam_missing *missing, size_t i, int64_t key)
{
    if (missing->count++ == 0) {
        missing->position = i;
        missing->key = key;
    }
}

/* `row_bytes` is a constant in the common sizes: the copy is then a few vector moves. */
PIPELINE_INLINE void copy_or_default(reading *state, size_t i, int64_t key, const char *row, size_t row_bytes)
{
    if (state->found_out != NULL)
        state->found_out[i] = row != NULL;
    if (state->defaults == NULL) {
        if (UNLIKELY(row == NULL)) {
            note_missing(&state->missing, i, key);
            return;
        }
    } else {
        /* A select, not a branch: which keys are missing is what nobody can predict. */
        const char *instead = state->defaults + i * state->default_stride;
        row = row != NULL ? row : instead;
    }
    memcpy(state->rows_out + i * row_bytes, row, row_bytes);
}

#define VISIT_COPY(name, row_bytes)                                                                                    \
    PIPELINE_INLINE void name(void *context, size_t i, int64_t key, uint32_t number, void *row)                        \
    {                                                                                                                  \
        (void)number;                                                                                                  \
        copy_or_default(context, i, key, row, row_bytes);                                                              \
    }
VISIT_COPY(visit_copy_8, 8)
VISIT_COPY(visit_copy_16, 16)
VISIT_COPY(visit_copy_32, 32)
VISIT_COPY(visit_copy_64, 64)
VISIT_COPY(visit_copy_any, ((reading *)context)->row_bytes)

iam_status iam_map_get_many(const iam_map *map, const int64_t *keys, size_t count, void *rows_out, const void *defaults,
                            size_t default_stride, uint8_t *found_out, iam_missing *missing_out)
{
    reading state = {.rows_out = rows_out,
                     .defaults = defaults,
                     .default_stride = default_stride,
                     .row_bytes = map->row_bytes,
                     .found_out = found_out};
    switch (map->row_bytes) {
    case 8:
        pipeline_run(map, keys, count, true, visit_copy_8, &state);
        break;
    case 16:
        pipeline_run(map, keys, count, true, visit_copy_16, &state);
        break;
    case 32:
        pipeline_run(map, keys, count, true, visit_copy_32, &state);
        break;
    case 64:
        pipeline_run(map, keys, count, true, visit_copy_64, &state);
        break;
    default:
        pipeline_run(map, keys, count, true, visit_copy_any, &state);
    }
    if (missing_out != NULL)
        *missing_out = state.missing;
    return state.missing.count > 0 ? IAM_MISSING : IAM_OK;
}

PIPELINE_INLINE void visit_found(void *context, size_t i, int64_t key, uint32_t number, void *row)
{
    (void)key, (void)row;
    ((uint8_t *)context)[i] = number != IAM_ROW_NONE;
}

void iam_map_contains_many(const iam_map *map, const int64_t *keys, size_t count, uint8_t *found_out)
{
    pipeline_run(map, keys, count, false, visit_found, found_out);
}

PIPELINE_INLINE void visit_number(void *context, size_t i, int64_t key, uint32_t number, void *row)
{
    (void)key, (void)row;
    ((int64_t *)context)[i] = number == IAM_ROW_NONE ? -1 : (int64_t)number;
}

void iam_map_index_many(const iam_map *map, const int64_t *keys, size_t count, int64_t *numbers_out)
{
    pipeline_run(map, keys, count, false, visit_number, numbers_out);
}
