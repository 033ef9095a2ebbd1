/* ops.c: see ops.h. One line per kind and operation; the loops are plain, so that the compiler vectorises them. */
#include "ops.h"

#include <math.h>
#include <string.h>

/* ---- float16 as bits (IEEE 754 binary16), by way of float ------------------------------------------------------- */

typedef struct half {
    uint16_t bits;
} half;

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float half_to_float(half value)
{
    uint32_t sign = (uint32_t)(value.bits & 0x8000) << 16;
    uint32_t exponent = (value.bits >> 10) & 31, fraction = value.bits & 0x3ff;
    if (exponent == 31) /* infinity, NaN with its payload */
        return float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) /* zero and subnormals: fraction * 2^-24, exact in float */
        return float_of_bits(sign | bits_of_float((float)fraction * 0x1p-24f));
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static half float_to_half(float value)
{
    uint32_t bits = bits_of_float(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) /* NaN: keep the payload's top, and quiet, as results of arithmetic are: never infinity */
        return (half){(uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff))};
    if (bits >= 0x477ff000) /* rounds to 65536 or beyond */
        return (half){(uint16_t)(sign | 0x7c00)};
    if (bits < 0x38800000) { /* subnormal or zero: the addition of 0.5 rounds to a multiple of 2^-24, ties to even */
        float scaled = float_of_bits(bits) + 0.5f;
        return (half){(uint16_t)(sign | (uint16_t)(bits_of_float(scaled) - bits_of_float(0.5f)))};
    }
    uint32_t rounded = bits + 0xfff + (bits >> 13 & 1); /* ties to even */
    return (half){(uint16_t)(sign | (uint16_t)((rounded - (112u << 23)) >> 13))};
}

/* ---- Loops ------------------------------------------------------------------------------------------------------ */

typedef struct complex_float {
    float real, imaginary;
} complex_float;
typedef struct complex_double {
    double real, imaginary;
} complex_double;

/* A loop over items: `a` is the row's item, `b` the other's; `expression` is the result. Eight items, the commonest
 * row, have a loop of their own: one of known length becomes a few vector instructions and no counting. */
#define LOOP_OF(count, type, expression)                                                                               \
    for (size_t i = 0; i < (count); i++) {                                                                             \
        type a = items[i], b;                                                                                          \
        memcpy(&b, source + i * sizeof b, sizeof b);                                                                   \
        (void)a;                                                                                                       \
        items[i] = (expression);                                                                                       \
    }

#define LOOP(name, type, expression)                                                                                   \
    static void name(void *row, const void *other, size_t item_count)                                                  \
    {                                                                                                                  \
        type *restrict items = row;                                                                                    \
        const char *restrict source = other;                                                                           \
        if (item_count == 8)                                                                                           \
            LOOP_OF(8, type, expression)                                                                               \
        else                                                                                                           \
            LOOP_OF(item_count, type, expression)                                                                      \
    }

/* Arithmetic that wraps: in the unsigned type `wide`, which is at least int (small types promote to int and could
 * overflow in mul). */
#define INTEGER_LOOPS(kind, type, wide)                                                                                \
    LOOP(add_##kind, type, (type)((wide)a + (wide)b))                                                                  \
    LOOP(sub_##kind, type, (type)((wide)a - (wide)b))                                                                  \
    LOOP(mul_##kind, type, (type)((wide)a * (wide)b))                                                                  \
    LOOP(min_##kind, type, b < a ? b : a)                                                                              \
    LOOP(max_##kind, type, b > a ? b : a)                                                                              \
    LOOP(and_##kind, type, (type)(a & b))                                                                              \
    LOOP(or_##kind, type, (type)(a | b))                                                                               \
    LOOP(xor_##kind, type, (type)(a ^ b))                                                                              \
    LOOP(negate_##kind, type, (type)(0 - (wide)b))

/* a != a: NaN. An item that is NaN stays, a NaN that comes is taken. */
#define FLOAT_LOOPS(kind, type)                                                                                        \
    LOOP(add_##kind, type, a + b)                                                                                      \
    LOOP(sub_##kind, type, a - b)                                                                                      \
    LOOP(mul_##kind, type, a *b)                                                                                       \
    LOOP(min_##kind, type, (a <= b || a != a) ? a : b)                                                                 \
    LOOP(max_##kind, type, (a >= b || a != a) ? a : b)                                                                 \
    LOOP(negate_##kind, type, -b)

#define COMPLEX_LOOPS(kind, type)                                                                                      \
    LOOP(add_##kind, type, ((type){a.real + b.real, a.imaginary + b.imaginary}))                                       \
    LOOP(sub_##kind, type, ((type){a.real - b.real, a.imaginary - b.imaginary}))                                       \
    LOOP(mul_##kind, type,                                                                                             \
         ((type){a.real * b.real - a.imaginary * b.imaginary, a.real * b.imaginary + a.imaginary * b.real}))           \
    LOOP(negate_##kind, type, ((type){-b.real, -b.imaginary}))

INTEGER_LOOPS(int8, int8_t, uint32_t)
INTEGER_LOOPS(int16, int16_t, uint32_t)
INTEGER_LOOPS(int32, int32_t, uint32_t)
INTEGER_LOOPS(int64, int64_t, uint64_t)
INTEGER_LOOPS(uint8, uint8_t, uint32_t)
INTEGER_LOOPS(uint16, uint16_t, uint32_t)
INTEGER_LOOPS(uint32, uint32_t, uint32_t)
INTEGER_LOOPS(uint64, uint64_t, uint64_t)
FLOAT_LOOPS(float32, float)
FLOAT_LOOPS(float64, double)
COMPLEX_LOOPS(complex64, complex_float)
COMPLEX_LOOPS(complex128, complex_double)

/* A view of other type over a row of bool can leave any byte there: what is not zero is true, and one comes out. */
LOOP(and_bool, uint8_t, (uint8_t)((a != 0) & (b != 0)))
LOOP(or_bool, uint8_t, (uint8_t)((a | b) != 0))
LOOP(xor_bool, uint8_t, (uint8_t)((a != 0) != (b != 0)))

LOOP(add_float16, half, float_to_half(half_to_float(a) + half_to_float(b)))
LOOP(sub_float16, half, float_to_half(half_to_float(a) - half_to_float(b)))
LOOP(mul_float16, half, float_to_half(half_to_float(a) * half_to_float(b)))
LOOP(min_float16, half, (half_to_float(a) <= half_to_float(b) || isnan(half_to_float(a))) ? a : b)
LOOP(max_float16, half, (half_to_float(a) >= half_to_float(b) || isnan(half_to_float(a))) ? a : b)
LOOP(negate_float16, half, ((half){b.bits ^ 0x8000}))

/* NaT is the smallest int64, so min propagates it by itself. */
#define NAT INT64_MIN
LOOP(max_time, int64_t, (a == NAT || b == NAT) ? NAT : (b > a ? b : a))
LOOP(add_time, int64_t, (a == NAT || b == NAT) ? NAT : (int64_t)((uint64_t)a + (uint64_t)b))
LOOP(sub_time, int64_t, (a == NAT || b == NAT) ? NAT : (int64_t)((uint64_t)a - (uint64_t)b))
LOOP(negate_time, int64_t, (int64_t)(0 - (uint64_t)b)) /* NaT is its own negative */

/* ---- The table --------------------------------------------------------------------------------------------------- */

/* Row of 8 doubles by far the commonest; memcpy of a length the compiler knows is a few vector moves. */
#define SET_LOOP(bytes)                                                                                                \
    static void set_##bytes(void *row, const void *other, size_t item_count)                                           \
    {                                                                                                                  \
        memcpy(row, other, item_count * bytes);                                                                        \
    }
SET_LOOP(1)
SET_LOOP(2)
SET_LOOP(4)
SET_LOOP(8)
SET_LOOP(16)

#define INTEGER_ROW(kind, set)                                                                                         \
    {set, add_##kind, sub_##kind, mul_##kind, min_##kind, max_##kind, and_##kind, or_##kind, xor_##kind, negate_##kind}
#define FLOAT_ROW(kind, set)                                                                                           \
    {set, add_##kind, sub_##kind, mul_##kind, min_##kind, max_##kind, NULL, NULL, NULL, negate_##kind}
#define COMPLEX_ROW(kind, set) {set, add_##kind, sub_##kind, mul_##kind, NULL, NULL, NULL, NULL, NULL, negate_##kind}

/* By kind, then by op in the order of iam_op; negate stands last. */
static ops_kernel *const kernels[IAM_KIND_COUNT][IAM_OP_COUNT + 1] = {
    [IAM_BOOL] = {set_1, or_bool, NULL, NULL, NULL, NULL, and_bool, or_bool, xor_bool, NULL},
    [IAM_INT8] = INTEGER_ROW(int8, set_1),
    [IAM_INT16] = INTEGER_ROW(int16, set_2),
    [IAM_INT32] = INTEGER_ROW(int32, set_4),
    [IAM_INT64] = INTEGER_ROW(int64, set_8),
    [IAM_UINT8] = INTEGER_ROW(uint8, set_1),
    [IAM_UINT16] = INTEGER_ROW(uint16, set_2),
    [IAM_UINT32] = INTEGER_ROW(uint32, set_4),
    [IAM_UINT64] = INTEGER_ROW(uint64, set_8),
    [IAM_FLOAT16] = FLOAT_ROW(float16, set_2),
    [IAM_FLOAT32] = FLOAT_ROW(float32, set_4),
    [IAM_FLOAT64] = FLOAT_ROW(float64, set_8),
    [IAM_COMPLEX64] = COMPLEX_ROW(complex64, set_8),
    [IAM_COMPLEX128] = COMPLEX_ROW(complex128, set_16),
    [IAM_DATETIME64] = {set_8, NULL, NULL, NULL, min_int64, max_time, NULL, NULL, NULL, NULL},
    [IAM_TIMEDELTA64] = {set_8, add_time, sub_time, NULL, min_int64, max_time, NULL, NULL, NULL, negate_time},
};

static const uint8_t kind_bytes[IAM_KIND_COUNT] = {
    [IAM_BOOL] = 1,      [IAM_INT8] = 1,        [IAM_INT16] = 2,      [IAM_INT32] = 4,
    [IAM_INT64] = 8,     [IAM_UINT8] = 1,       [IAM_UINT16] = 2,     [IAM_UINT32] = 4,
    [IAM_UINT64] = 8,    [IAM_FLOAT16] = 2,     [IAM_FLOAT32] = 4,    [IAM_FLOAT64] = 8,
    [IAM_COMPLEX64] = 8, [IAM_COMPLEX128] = 16, [IAM_DATETIME64] = 8, [IAM_TIMEDELTA64] = 8,
};

ops_kernel *ops_find(iam_op op, iam_kind kind)
{
    return kernels[kind][op];
}

ops_kernel *ops_find_negate(iam_kind kind)
{
    return kernels[kind][IAM_OP_COUNT];
}

size_t iam_kind_bytes(iam_kind kind)
{
    return kind_bytes[kind];
}

bool iam_op_defined(iam_op op, iam_kind kind)
{
    return kernels[kind][op] != NULL;
}
