/* batch_read.c: many keys at once, reading. Floor 4. */
#include "pipeline.h"

#include <string.h>

typedef struct reading {
    char *rows_out;
    const char *defaults;
    size_t default_stride, row_bytes;
    uint8_t *found_out;
    iam_missing missing;
    bool streams;
} reading;

static void note_missing(iam_missing *missing, size_t i, int64_t key)
{
    if (missing->count++ == 0) {
        missing->position = i;
        missing->key = key;
    }
}

/* A row of 64 bytes to memory, past the caches; `to` is aligned to 16. */
PIPELINE_INLINE void stream_row(char *to, const char *from)
{
#if BUCKET_HAS_SIMD
    for (int part = 0; part < 4; part++)
        _mm_stream_si128((__m128i *)(void *)(to + 16 * part),
                         _mm_loadu_si128((const __m128i *)(const void *)(from + 16 * part)));
#else
    memcpy(to, from, 64);
#endif
}

PIPELINE_INLINE void copy_row(const reading *state, size_t i, const void *row)
{
    char *to = state->rows_out + i * state->row_bytes;
    if (state->streams)
        stream_row(to, row);
    else
        memcpy(to, row, state->row_bytes);
}

/* All keys must be there. */
PIPELINE_INLINE void visit_required(void *context, size_t i, int64_t key, uint32_t number, const void *row)
{
    reading *state = context;
    (void)number;
    if (UNLIKELY(row == NULL))
        note_missing(&state->missing, i, key);
    else
        copy_row(state, i, row);
}

/* The row or a default. A select, not a branch: which keys are missing is what nobody can predict. */
PIPELINE_INLINE void visit_default(void *context, size_t i, int64_t key, uint32_t number, const void *row)
{
    reading *state = context;
    (void)key, (void)number;
    const void *instead = state->defaults + i * state->default_stride;
    copy_row(state, i, row != NULL ? row : instead);
}

PIPELINE_INLINE void visit_default_found(void *context, size_t i, int64_t key, uint32_t number, const void *row)
{
    ((reading *)context)->found_out[i] = row != NULL;
    visit_default(context, i, key, number, row);
}

/* `row_bytes` is a constant in the common sizes: copies are then a few vector moves. */
PIPELINE_INLINE void get_rows(const iam_map *map, const int64_t *keys, size_t count, reading *out, bool flat,
                              bool scalar, bool streams, size_t row_bytes)
{
    reading state = *out;
    state.streams = streams;
    state.row_bytes = row_bytes;
    probe look = pipeline_probe(map, flat, scalar, row_bytes);
    if (state.defaults == NULL)
        pipeline_run(&look, keys, count, true, visit_required, &state);
    else if (state.found_out == NULL)
        pipeline_run(&look, keys, count, true, visit_default, &state);
    else
        pipeline_run(&look, keys, count, true, visit_default_found, &state);
    *out = state;
}

static bool streams_pay(const char *rows_out, size_t bytes)
{
    return BUCKET_HAS_SIMD && bytes >= STREAM_BYTES && (uintptr_t)rows_out % 16 == 0;
}

PIPELINE_INLINE void get_many(const iam_map *map, const int64_t *keys, size_t count, reading *state, bool scalar)
{
    bool flat = pipeline_flat(map);
    if (flat && map->row_bytes == 8)
        get_rows(map, keys, count, state, true, scalar, false, 8);
    else if (flat && map->row_bytes == 32)
        get_rows(map, keys, count, state, true, scalar, false, 32);
    else if (flat && map->row_bytes == 64 && streams_pay(state->rows_out, count * 64))
        get_rows(map, keys, count, state, true, scalar, true, 64);
    else if (flat && map->row_bytes == 64)
        get_rows(map, keys, count, state, true, scalar, false, 64);
    else
        get_rows(map, keys, count, state, false, scalar, false, map->row_bytes);
#if BUCKET_HAS_SIMD
    _mm_sfence();
#endif
}

iam_status iam_map_get_many(const iam_map *map, const int64_t *keys, size_t count, void *rows_out, const void *defaults,
                            size_t default_stride, uint8_t *found_out, iam_missing *missing_out)
{
    reading state = {
        .rows_out = rows_out, .defaults = defaults, .default_stride = default_stride, .found_out = found_out};
    if (UNLIKELY(map->options.simd == IAM_SIMD_SCALAR))
        get_many(map, keys, count, &state, true);
    else
        get_many(map, keys, count, &state, false);
    if (defaults == NULL && found_out != NULL && state.missing.count == 0)
        memset(found_out, 1, count);
    if (missing_out != NULL)
        *missing_out = state.missing;
    return state.missing.count > 0 ? IAM_MISSING : IAM_OK;
}

PIPELINE_INLINE void visit_found(void *context, size_t i, int64_t key, uint32_t number, const void *row)
{
    (void)key, (void)row;
    ((uint8_t *)context)[i] = number != IAM_ROW_NONE;
}

void iam_map_contains_many(const iam_map *map, const int64_t *keys, size_t count, uint8_t *found_out)
{
    if (pipeline_flat(map)) {
        probe look = pipeline_probe(map, true, false, map->row_bytes);
        pipeline_run(&look, keys, count, false, visit_found, found_out);
    } else {
        probe look = pipeline_probe(map, false, false, map->row_bytes);
        pipeline_run(&look, keys, count, false, visit_found, found_out);
    }
}

PIPELINE_INLINE void visit_number(void *context, size_t i, int64_t key, uint32_t number, const void *row)
{
    (void)key, (void)row;
    ((int64_t *)context)[i] = number == IAM_ROW_NONE ? -1 : (int64_t)number;
}

void iam_map_index_many(const iam_map *map, const int64_t *keys, size_t count, int64_t *numbers_out)
{
    probe look = pipeline_probe(map, pipeline_flat(map), false, map->row_bytes);
    pipeline_run(&look, keys, count, false, visit_number, numbers_out);
}
