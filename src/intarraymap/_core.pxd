# _core.pxd: the front header (core/include/intarraymap.h) as Cython sees it, nothing more. Promises, ownership and
# status codes are written there.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "intarraymap.h" nogil:
    ctypedef enum iam_status:
        IAM_OK
        IAM_MISSING
        IAM_NO_MEMORY
        IAM_TOO_MANY_ROWS
        IAM_TOO_SPARSE
        IAM_HELD
        IAM_LOCKED
        IAM_FORKED
        IAM_BROKEN
        IAM_DAMAGED

    uint32_t IAM_ROWS_MAX

    ctypedef enum iam_kind:
        IAM_BOOL
        IAM_INT8
        IAM_INT16
        IAM_INT32
        IAM_INT64
        IAM_UINT8
        IAM_UINT16
        IAM_UINT32
        IAM_UINT64
        IAM_FLOAT16
        IAM_FLOAT32
        IAM_FLOAT64
        IAM_COMPLEX64
        IAM_COMPLEX128
        IAM_DATETIME64
        IAM_TIMEDELTA64
        IAM_KIND_COUNT

    ctypedef enum iam_op:
        IAM_SET
        IAM_ADD
        IAM_SUB
        IAM_MUL
        IAM_MIN
        IAM_MAX
        IAM_AND
        IAM_OR
        IAM_XOR
        IAM_OP_COUNT

    ctypedef enum iam_index:
        IAM_INDEX_AUTO
        IAM_INDEX_HASH
        IAM_INDEX_DIRECT

    ctypedef struct iam_allocator:
        void *state
        void *(*allocate)(void *state, size_t bytes, size_t alignment, c_bool zeroed) noexcept nogil
        void (*release)(void *state, void *block, size_t bytes) noexcept nogil
        c_bool (*may_reserve)(void *state, size_t bytes) noexcept nogil
        c_bool (*may_commit)(void *state, size_t bytes) noexcept nogil

    ctypedef enum iam_switch:
        IAM_AUTO
        IAM_OFF
        IAM_ON

    ctypedef enum iam_growth:
        IAM_GROWTH_STEPS
        IAM_GROWTH_STOP

    ctypedef enum iam_simd:
        IAM_SIMD_AUTO
        IAM_SIMD_SCALAR
        IAM_SIMD_BASELINE
        IAM_SIMD_AVX2

    ctypedef struct iam_spare:
        pass
    iam_spare *iam_spare_create()

    ctypedef struct iam_options:
        uint64_t row_items
        iam_kind kind
        iam_index index
        uint64_t seed
        uint64_t capacity
        iam_growth growth
        iam_switch huge_pages
        iam_switch pipeline
        iam_switch reserve
        iam_simd simd
        uint64_t hash_and
        uint64_t hash_or
        c_bool serial_views
        iam_spare *spare
        iam_allocator allocator

    ctypedef struct iam_map:
        pass
    ctypedef struct iam_rows:
        pass

    size_t iam_kind_bytes(iam_kind kind)
    c_bool iam_op_defined(iam_op op, iam_kind kind)

    iam_status iam_map_create(const iam_options *options, iam_map **map_out)
    void iam_map_destroy(iam_map *map)
    iam_status iam_map_copy(const iam_map *map, uint64_t seed, iam_map **map_out)

    iam_status iam_map_look(const iam_map *map, c_bool exclusive, uint32_t fork_count)
    iam_status iam_map_try_lock(const iam_map *map, c_bool exclusive, uint32_t fork_count)
    void iam_map_wait(const iam_map *map, c_bool exclusive, uint32_t timeout_milliseconds)
    void iam_map_unlock(const iam_map *map, c_bool exclusive)

    ctypedef struct iam_stats:
        uint64_t count
        iam_index index
        c_bool leaving_direct
        uint64_t bucket_count
        uint64_t overflow_count
        double load
        uint64_t longest_chain
        double evacuated
        uint64_t page_count
        uint64_t page_rows
        uint64_t bytes
        uint64_t bytes_rows
        uint64_t bytes_keys
        uint64_t bytes_presence
        uint64_t bytes_views
        uint64_t bytes_buckets
        uint64_t bytes_overflow
        uint64_t bytes_directory
        uint64_t rows_used
        uint64_t rows_free
        uint64_t rows_held
        uint64_t views
        uint64_t scans
        uint64_t growths
        uint64_t allocations

    uint64_t iam_map_count(const iam_map *map)
    iam_index iam_map_index(const iam_map *map)
    iam_index iam_map_index_asked(const iam_map *map)
    iam_kind iam_map_kind(const iam_map *map)
    uint64_t iam_map_bytes(const iam_map *map)
    uint64_t iam_map_allocations(const iam_map *map)
    uint64_t iam_map_version(const iam_map *map)
    uint64_t iam_map_epoch(const iam_map *map)
    iam_rows *iam_map_rows(const iam_map *map)
    void iam_map_stats(const iam_map *map, iam_stats *stats_out)
    iam_status iam_map_validate(const iam_map *map, char *reason_out, size_t reason_bytes)
    c_bool iam_map_overlaps(const iam_map *map, const void *block, size_t bytes)

    void *iam_map_find(const iam_map *map, int64_t key, uint32_t *row_out)
    bint iam_map_prefetch(const iam_map *map, int64_t key)
    bint iam_map_prefetch_view(const iam_map *map, int64_t key)
    iam_status iam_map_put(iam_map *map, int64_t key, const void *row_bytes_in)
    iam_status iam_map_ensure(iam_map *map, int64_t key, void **row_out, uint32_t *number_out, c_bool *created_out)
    iam_status iam_map_remove(iam_map *map, int64_t key)
    c_bool iam_map_last(const iam_map *map, int64_t *key_out, void **row_out)

    ctypedef struct iam_view:
        iam_rows *rows
        uint32_t number

    iam_status iam_view_take(const iam_map *map, uint32_t number, iam_view *view_out)
    void iam_view_release(const iam_view *view)

    ctypedef struct iam_block:
        uint64_t first_row
        uint64_t row_count
        void *rows
        const int64_t *keys
        const uint8_t *present

    uint64_t iam_map_block_count(const iam_map *map)
    void iam_map_block(const iam_map *map, uint64_t block_index, iam_block *block_out)
    void iam_map_block_keys(const iam_map *map, const iam_block *block, int64_t *keys_out)
    void iam_blocks_take(const iam_map *map)
    void iam_blocks_release(iam_rows *rows)

    iam_status iam_map_clear(iam_map *map)
    iam_status iam_map_reserve(iam_map *map, uint64_t row_count)
    iam_status iam_map_compact(iam_map *map)

    size_t iam_map_walk(const iam_map *map, c_bool backward, uint64_t *position_io, size_t most, int64_t *keys_out,
                        uint32_t *rows_out)
    void iam_scans_take(const iam_map *map)
    void iam_scans_release(const iam_map *map)
    void *iam_map_row(const iam_map *map, uint32_t number)

    ctypedef struct iam_missing:
        uint64_t position
        uint64_t count
        int64_t key

    iam_status iam_map_get_many(const iam_map *map, const int64_t *keys, size_t count, void *rows_out,
                                const void *defaults, size_t default_stride, uint8_t *found_out,
                                iam_missing *missing_out)
    void iam_map_contains_many(const iam_map *map, const int64_t *keys, size_t count, uint8_t *found_out)
    void iam_map_index_many(const iam_map *map, const int64_t *keys, size_t count, int64_t *numbers_out)
    iam_status iam_map_update_many(iam_map *map, const int64_t *keys, size_t count, const void *rows,
                                   size_t row_stride, iam_op op)
    iam_status iam_map_add_at(iam_map *map, const int64_t *keys, size_t count, const int64_t *items,
                              size_t item_stride, const void *values, size_t value_stride)
    iam_status iam_map_ensure_many(iam_map *map, const int64_t *keys, size_t count, const void *fill,
                                   int64_t *numbers_out, uint8_t *created_out)
    void iam_map_delete_many(iam_map *map, const int64_t *keys, size_t count, uint8_t *removed_out)
    iam_status iam_map_pop_many(iam_map *map, const int64_t *keys, size_t count, void *rows_out,
                                const void *defaults, size_t default_stride, iam_missing *missing_out)
    c_bool iam_map_export(const iam_map *map, int64_t *keys_out, void *rows_out)

    size_t IAM_IMAGE_AXES
    size_t IAM_SAVE_ROOM_LEAST

    ctypedef struct iam_about:
        uint32_t axis_count
        uint64_t axes[64]
        uint64_t time_multiple
        char time_unit[8]

    ctypedef struct iam_save:
        pass

    iam_status iam_save_begin(const iam_map *map, uint64_t seed, const iam_about *about, iam_save **save_out)
    iam_status iam_save_prepare(iam_save *save, c_bool *ready_out)
    uint64_t iam_save_bytes(const iam_save *save)
    size_t iam_save_next(iam_save *save, void *out, size_t room_bytes)
    void iam_save_end(iam_save *save)

    ctypedef struct iam_mapping:
        void *state
        void *bytes
        uint64_t byte_count
        void (*release)(void *state, void *bytes, uint64_t byte_count) noexcept nogil

    ctypedef struct iam_image_info:
        uint32_t version
        uint64_t file_bytes
        uint64_t bytes_rows
        uint64_t bytes_keys
        uint64_t bytes_presence
        uint64_t bytes_buckets
        uint64_t bytes_overflow
        uint64_t bytes_directory
        uint64_t bytes_checksums

    iam_status iam_image_open(const iam_mapping *mapping, uint64_t seed, iam_map **map_out, iam_about *about_out,
                              char *reason_out, size_t reason_bytes)
    iam_status iam_image_verify_blocks(const void *bytes, uint64_t *block_io, uint64_t most_bytes, char *reason_out,
                                       size_t reason_bytes)
    iam_status iam_image_verify(const iam_map *map, char *reason_out, size_t reason_bytes)
    iam_status iam_image_trust(iam_map *map)
    void iam_image_info_read(const void *bytes, iam_image_info *info_out)
    void iam_map_fill(const iam_map *map, uint64_t *counts_out, size_t fill_count)

    void *iam_result_allocate(size_t bytes)
    void iam_result_release(void *block, size_t bytes)
