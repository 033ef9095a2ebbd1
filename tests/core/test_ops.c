/* test_ops.c: every kind and operation against arithmetic written out plainly, item by item; and the same through a
 * map. */
#include "harness.h"

#include "ops.h"

#include <math.h>

/* ---- A plain reference ------------------------------------------------------------------------------------------- */

static bool is_signed(iam_kind kind)
{
    return (kind >= IAM_INT8 && kind <= IAM_INT64) || kind == IAM_DATETIME64 || kind == IAM_TIMEDELTA64;
}

static bool is_time(iam_kind kind)
{
    return kind == IAM_DATETIME64 || kind == IAM_TIMEDELTA64;
}

static bool is_integer(iam_kind kind)
{
    return kind <= IAM_UINT64 || is_time(kind);
}

static bool is_complex(iam_kind kind)
{
    return kind == IAM_COMPLEX64 || kind == IAM_COMPLEX128;
}

static __int128 integer_of(iam_kind kind, const void *item)
{
    uint64_t bits = 0;
    memcpy(&bits, item, iam_kind_bytes(kind));
    unsigned width = 8 * (unsigned)iam_kind_bytes(kind);
    if (is_signed(kind) && bits >> (width - 1))
        return (__int128)bits - ((__int128)1 << width);
    return bits;
}

/* Written without its high bits: wraps. */
static void write_integer(iam_kind kind, __int128 value, void *item_out)
{
    uint64_t bits = (uint64_t)value;
    memcpy(item_out, &bits, iam_kind_bytes(kind));
}

static void expected_integer(iam_kind kind, iam_op op, const void *left, const void *right, void *item_out)
{
    __int128 a = integer_of(kind, left), b = integer_of(kind, right), result = b;
    bool nat = is_time(kind) && (a == INT64_MIN || b == INT64_MIN);
    switch (op) {
    case IAM_ADD:
        result = kind == IAM_BOOL ? (a | b) : a + b;
        break;
    case IAM_SUB:
        result = a - b;
        break;
    case IAM_MUL:
        result = (__int128)((unsigned __int128)a * (unsigned __int128)b);
        break;
    case IAM_MIN:
        result = a < b ? a : b;
        break;
    case IAM_MAX:
        result = a > b ? a : b;
        break;
    case IAM_AND:
        result = a & b;
        break;
    case IAM_OR:
        result = a | b;
        break;
    case IAM_XOR:
        result = a ^ b;
        break;
    default:
        break;
    }
    write_integer(kind, nat && op != IAM_SET ? INT64_MIN : result, item_out);
}

static double power_of_two(int exponent)
{
    double power = 1;
    for (; exponent > 0; exponent--)
        power *= 2;
    for (; exponent < 0; exponent++)
        power /= 2;
    return power;
}

/* IEEE 754 binary16, from its definition. */
static double double_of_half(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    double sign = bits >> 15 ? -1 : 1;
    if (exponent == 31)
        return fraction == 0 ? sign * (1.0 / 0.0) : 0.0 / 0.0;
    if (exponent == 0)
        return sign * fraction * power_of_two(-24);
    return sign * (1024 + fraction) * power_of_two(exponent - 25);
}

/* To the nearest, ties to even; `number` is exact and not NaN. */
static uint16_t half_of_double(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 63 << 15);
    double magnitude = number < 0 ? -number : number;
    if (magnitude >= 65520)
        return (uint16_t)(sign | 0x7c00);
    int exponent = 1; /* of the half, biased; subnormals have the step of exponent 1 */
    while (exponent < 30 && magnitude >= power_of_two(exponent - 14))
        exponent++;
    double steps = magnitude / power_of_two(exponent - 25);
    uint32_t whole = (uint32_t)steps;
    double rest = steps - whole;
    if (rest > 0.5 || (rest == 0.5 && (whole & 1)))
        whole++;
    /* 1024 steps are a bit of the exponent: carries fall into their place. */
    return (uint16_t)(sign | (uint16_t)(((uint32_t)(exponent - 1) << 10) + whole));
}

static double real_of(iam_kind kind, const void *item)
{
    double wide;
    float narrow;
    uint16_t half;
    switch (kind) {
    case IAM_FLOAT16:
        memcpy(&half, item, sizeof half);
        return double_of_half(half);
    case IAM_FLOAT32:
    case IAM_COMPLEX64:
        memcpy(&narrow, item, sizeof narrow);
        return narrow;
    default:
        memcpy(&wide, item, sizeof wide);
        return wide;
    }
}

static void write_real(iam_kind kind, double number, void *item_out)
{
    if (kind == IAM_FLOAT16) {
        uint16_t half = number != number ? 0x7e00 : half_of_double(number);
        memcpy(item_out, &half, sizeof half);
    } else if (kind == IAM_FLOAT32 || kind == IAM_COMPLEX64) {
        float narrow = (float)number; /* rounding twice does no harm: double has more than twice the digits */
        memcpy(item_out, &narrow, sizeof narrow);
    } else {
        memcpy(item_out, &number, sizeof number);
    }
}

static void expected_real(iam_kind kind, iam_op op, const void *left, const void *right, void *item_out)
{
    double a = real_of(kind, left), b = real_of(kind, right);
    const void *chosen = right;
    switch (op) {
    case IAM_ADD:
        write_real(kind, a + b, item_out);
        return;
    case IAM_SUB:
        write_real(kind, a - b, item_out);
        return;
    case IAM_MUL:
        write_real(kind, a * b, item_out);
        return;
    case IAM_MIN:
        chosen = a != a || (b == b && a <= b) ? left : right;
        break;
    case IAM_MAX:
        chosen = a != a || (b == b && a >= b) ? left : right;
        break;
    default:
        break;
    }
    memcpy(item_out, chosen, iam_kind_bytes(kind));
}

/* In the precision of the kind, as written in any textbook. */
static void expected_complex(iam_kind kind, iam_op op, const void *left, const void *right, void *item_out)
{
    if (op == IAM_SET) {
        memcpy(item_out, right, iam_kind_bytes(kind));
        return;
    }
#define TEXTBOOK(type)                                                                                                 \
    do {                                                                                                               \
        type a[2], b[2], result[2];                                                                                    \
        memcpy(a, left, sizeof a);                                                                                     \
        memcpy(b, right, sizeof b);                                                                                    \
        volatile type rr = a[0] * b[0], ii = a[1] * b[1], ri = a[0] * b[1], ir = a[1] * b[0];                          \
        result[0] = op == IAM_ADD ? a[0] + b[0] : (op == IAM_SUB ? a[0] - b[0] : rr - ii);                             \
        result[1] = op == IAM_ADD ? a[1] + b[1] : (op == IAM_SUB ? a[1] - b[1] : ri + ir);                             \
        memcpy(item_out, result, sizeof result);                                                                       \
    } while (0)
    if (kind == IAM_COMPLEX64)
        TEXTBOOK(float);
    else
        TEXTBOOK(double);
}

static void expected_item(iam_kind kind, iam_op op, const void *left, const void *right, void *item_out)
{
    if (is_integer(kind))
        expected_integer(kind, op, left, right, item_out);
    else if (is_complex(kind))
        expected_complex(kind, op, left, right, item_out);
    else
        expected_real(kind, op, left, right, item_out);
}

/* What a missing key gets. */
static void expected_created(iam_kind kind, iam_op op, const void *item, void *item_out)
{
    size_t item_bytes = iam_kind_bytes(kind);
    memcpy(item_out, item, item_bytes);
    if (op != IAM_SUB)
        return;
    if (is_integer(kind))
        write_integer(kind, -integer_of(kind, item), item_out);
    else
        for (size_t part = item_bytes / (is_complex(kind) ? 2 : 1); part <= item_bytes; part += part) /* sign bits */
            ((uint8_t *)item_out)[part - 1] ^= 0x80;
}

/* Bit by bit, but that the result of arithmetic with NaN is any NaN. */
static bool same_item(iam_kind kind, iam_op op, const void *left, const void *right)
{
    size_t item_bytes = iam_kind_bytes(kind);
    if (memcmp(left, right, item_bytes) == 0)
        return true;
    if (is_integer(kind) || op < IAM_ADD || op > IAM_MUL)
        return false;
    size_t part_bytes = item_bytes / (is_complex(kind) ? 2 : 1);
    for (size_t part = 0; part < item_bytes; part += part_bytes) {
        const char *a = (const char *)left + part, *b = (const char *)right + part;
        bool both_nan = real_of(kind, a) != real_of(kind, a) && real_of(kind, b) != real_of(kind, b);
        if (memcmp(a, b, part_bytes) != 0 && !both_nan)
            return false;
    }
    return true;
}

/* ---- Items ------------------------------------------------------------------------------------------------------- */

/* Bits that are likely to go wrong, in the width of the kind or of a part of it, or random ones. */
static void write_random_item(iam_kind kind, uint64_t *state, void *item_out)
{
    static const uint64_t integers[] = {0,      1,      2,      3,           UINT64_MAX, UINT64_MAX - 1,    0x80,
                                        0x7f,   0x8000, 0x7fff, 0x80000000u, 0x7fffffff, (uint64_t)1 << 63, INT64_MAX,
                                        0xffff, 0xff,   46341,  3037000500u};
    static const uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x7bff,
                                      0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfe55, 0x4c00, 0x1400};
    static const uint32_t floats[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000,
                                      0x3f800000, 0xbf800000, 0x7f7fffff, 0xff7fffff, 0x7f800000,
                                      0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345};
    static const uint64_t doubles[] = {0,
                                       (uint64_t)1 << 63,
                                       1,
                                       0x8000000000000001u,
                                       0x0010000000000000u,
                                       0x3ff0000000000000u,
                                       0xbff0000000000000u,
                                       0x7fefffffffffffffu,
                                       0x7ff0000000000000u,
                                       0xfff0000000000000u,
                                       0x7ff8000000000000u,
                                       0x7ff0000000000001u,
                                       0xfff8000000012345u};
    size_t item_bytes = iam_kind_bytes(kind), part_bytes = item_bytes / (is_complex(kind) ? 2 : 1);
    for (size_t part = 0; part < item_bytes; part += part_bytes) {
        uint64_t random = harness_random(state), bits = harness_random(state);
        if (random % 2 == 0) {
            random >>= 8;
            if (is_integer(kind))
                bits = integers[random % (sizeof integers / sizeof *integers)];
            else if (part_bytes == 2)
                bits = halves[random % (sizeof halves / sizeof *halves)];
            else if (part_bytes == 4)
                bits = floats[random % (sizeof floats / sizeof *floats)];
            else
                bits = doubles[random % (sizeof doubles / sizeof *doubles)];
        } else if (random % 8 == 1 && part_bytes == 8 && !is_integer(kind)) {
            double near = (double)(int64_t)(bits >> 40) / 16; /* numbers that meet */
            memcpy(&bits, &near, sizeof bits);
        }
        if (kind == IAM_BOOL)
            bits &= 1;
        memcpy((char *)item_out + part, &bits, part_bytes);
    }
}

/* ---- Tests ------------------------------------------------------------------------------------------------------- */

/* Which operation is defined on what, as the promise has it. */
static void test_what_is_defined(void)
{
    uint32_t defined = 0;
    for (int kind = 0; kind < IAM_KIND_COUNT; kind++)
        for (int op = 0; op < IAM_OP_COUNT; op++) {
            bool expected = true;
            if (kind == IAM_BOOL)
                expected = op == IAM_SET || op == IAM_ADD || op >= IAM_AND;
            else if (kind == IAM_DATETIME64)
                expected = op == IAM_SET || op == IAM_MIN || op == IAM_MAX;
            else if (kind == IAM_TIMEDELTA64)
                expected = op != IAM_MUL && op < IAM_AND;
            else if (is_complex((iam_kind)kind))
                expected = op <= IAM_MUL;
            else if (kind >= IAM_FLOAT16)
                expected = op < IAM_AND;
            EXPECT(iam_op_defined((iam_op)op, (iam_kind)kind) == expected);
            EXPECT((ops_find((iam_op)op, (iam_kind)kind) != NULL) == expected);
            if (op == IAM_SUB)
                EXPECT((ops_find_negate((iam_kind)kind) != NULL) == expected);
            defined += expected;
        }
    EXPECT(defined == 5 + 8 * 9 + 3 * 6 + 2 * 4 + 3 + 5);
    const size_t bytes[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 8, 16, 8, 8};
    for (int kind = 0; kind < IAM_KIND_COUNT; kind++)
        EXPECT(iam_kind_bytes((iam_kind)kind) == bytes[kind]);
}

enum { ITEMS = 20000 };
static uint8_t left[ITEMS * 16 + 16], right[ITEMS * 16 + 16], result[ITEMS * 16 + 16];
_Alignas(64) static uint8_t row[ITEMS * 16];

static void fill_items(iam_kind kind, uint64_t *state, uint8_t *items_out)
{
    for (size_t i = 0; i < ITEMS; i++)
        write_random_item(kind, state, items_out + i * iam_kind_bytes(kind));
}

/* Lengths around vector widths, the other operand unaligned; nothing beyond the end is touched. */
static void test_every_kind_and_op(void)
{
    const size_t lengths[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, ITEMS - 1};
    for (int kind = 0; kind < IAM_KIND_COUNT; kind++)
        for (int op = 0; op <= IAM_OP_COUNT; op++) {
            bool negates = op == IAM_OP_COUNT;
            ops_kernel *kernel = negates ? ops_find_negate((iam_kind)kind) : ops_find((iam_op)op, (iam_kind)kind);
            if (kernel == NULL)
                continue;
            size_t item_bytes = iam_kind_bytes((iam_kind)kind);
            uint64_t state = (uint64_t)(kind * 100 + op);
            uint8_t *other = right + 1;
            fill_items((iam_kind)kind, &state, left);
            fill_items((iam_kind)kind, &state, other);
            for (size_t i = 0; i < ITEMS; i++)
                if (negates)
                    expected_created((iam_kind)kind, IAM_SUB, other + i * item_bytes, result + i * item_bytes);
                else
                    expected_item((iam_kind)kind, (iam_op)op, left + i * item_bytes, other + i * item_bytes,
                                  result + i * item_bytes);
            for (size_t length = 0; length < sizeof lengths / sizeof *lengths; length++) {
                size_t item_count = lengths[length];
                memcpy(row, left, ITEMS * item_bytes);
                kernel(row, other, item_count);
                for (size_t i = 0; i < item_count; i++)
                    EXPECT(same_item((iam_kind)kind, negates ? IAM_SET : (iam_op)op, row + i * item_bytes,
                                     result + i * item_bytes));
                EXPECT(memcmp(row + item_count * item_bytes, left + item_count * item_bytes, item_bytes) == 0);
            }
        }
}

/* Spelled out once, so that the reference above is not the only witness. */
static void test_examples(void)
{
    int8_t small = 127;
    ops_find(IAM_ADD, IAM_INT8)(&small, &(int8_t){1}, 1);
    EXPECT(small == -128);
    uint16_t product = 65535; /* promotes to int: signed overflow if done carelessly */
    ops_find(IAM_MUL, IAM_UINT16)(&product, &(uint16_t){65535}, 1);
    EXPECT(product == 1);
    int64_t least = INT64_MIN;
    ops_find(IAM_SUB, IAM_INT64)(&least, &(int64_t){1}, 1);
    EXPECT(least == INT64_MAX);
    ops_find_negate(IAM_INT64)(&least, &(int64_t){INT64_MIN}, 1);
    EXPECT(least == INT64_MIN);
    uint8_t flag = 1;
    ops_find(IAM_ADD, IAM_BOOL)(&flag, &(uint8_t){1}, 1);
    EXPECT(flag == 1);
    double number = 1;
    ops_find(IAM_MIN, IAM_FLOAT64)(&number, &(double){0.0 / 0.0}, 1);
    EXPECT(number != number);
    ops_find(IAM_MAX, IAM_FLOAT64)(&number, &(double){5}, 1);
    EXPECT(number != number);
    number = 0;
    ops_find_negate(IAM_FLOAT64)(&number, &(double){0}, 1);
    EXPECT(number == 0 && 1 / number < 0); /* minus zero */
    ops_find(IAM_ADD, IAM_FLOAT64)(&number, &(double){-0.0}, 1);
    EXPECT(1 / number < 0);
    int64_t time = INT64_MIN;
    ops_find(IAM_MAX, IAM_DATETIME64)(&time, &(int64_t){5}, 1);
    EXPECT(time == INT64_MIN);
    time = 5;
    ops_find(IAM_SUB, IAM_TIMEDELTA64)(&time, &(int64_t){INT64_MIN}, 1);
    EXPECT(time == INT64_MIN);
    float pair[2] = {1, 2};
    ops_find(IAM_MUL, IAM_COMPLEX64)(pair, (float[]){3, 4}, 1);
    EXPECT(pair[0] == -5 && pair[1] == 10);
}

/* All 65,536 halves to float and back, through an addition that changes nothing. */
/* A row of bool whose bytes are other than 0 and 1, as a view of another type leaves them: true and true was false. */
static void test_any_byte_but_zero_is_true(void)
{
    const iam_op ops[] = {IAM_ADD, IAM_AND, IAM_OR, IAM_XOR};
    for (int which = 0; which < 4; which++)
        for (int a = 0; a < 256; a += 3)
            for (int b = 0; b < 256; b += 5) {
                uint8_t there = (uint8_t)a, other = (uint8_t)b;
                bool is_a = a != 0, is_b = b != 0;
                const bool expected[] = {is_a || is_b, is_a && is_b, is_a || is_b, is_a != is_b};
                ops_find(ops[which], IAM_BOOL)(&there, &other, 1);
                EXPECT(there == expected[which]);
            }
}

static void test_every_half_survives(void)
{
    ops_kernel *add = ops_find(IAM_ADD, IAM_FLOAT16);
    for (uint32_t bits = 0; bits < 65536; bits++) {
        bool is_nan = (bits & 0x7fff) > 0x7c00;
        uint16_t half = (uint16_t)bits;
        add(&half, &(uint16_t){0x8000}, 1); /* -0 */
        EXPECT(half == (is_nan ? (bits | 0x200) : bits));
        half = (uint16_t)bits;
        add(&half, &(uint16_t){0}, 1);
        EXPECT(half == (is_nan ? (bits | 0x200) : (bits == 0x8000 ? 0 : bits)));
        half = 0;
        ops_find_negate(IAM_FLOAT16)(&half, &(uint16_t){(uint16_t)bits}, 1);
        EXPECT(half == (bits ^ 0x8000));
        if (!is_nan) {
            EXPECT(half_of_double(double_of_half((uint16_t)bits)) == bits); /* the reference itself */
            half = (uint16_t)bits;
            ops_find(IAM_MUL, IAM_FLOAT16)(&half, &(uint16_t){0x3800}, 1); /* a half: rounds subnormals */
            EXPECT(half == half_of_double(double_of_half((uint16_t)bits) / 2));
            half = (uint16_t)bits;
            add(&half, &(uint16_t){(uint16_t)bits}, 1); /* twice: overflows */
            EXPECT(half == half_of_double(2 * double_of_half((uint16_t)bits)));
        }
    }
}

/* Rounding of sums and products: exact in double, then to the nearest half, ties to even. */
static void test_halves_round_correctly(void)
{
    uint64_t state = 9, ties = 0;
    for (int round = 0; round < 300000; round++) {
        uint64_t random = harness_random(&state);
        uint16_t a = (uint16_t)random, b = (uint16_t)(random >> 16);
        if ((a & 0x7c00) == 0x7c00 || (b & 0x7c00) == 0x7c00)
            continue;
        if (round % 2 == 0) /* of like size, so that sums have few digits to lose */
            b = (uint16_t)((b & 0x83ff) | (((a >> 10) + (random >> 32) % 13) & 15) << 10);
        uint16_t sum = a, product = a;
        ops_find(IAM_ADD, IAM_FLOAT16)(&sum, &b, 1);
        ops_find(IAM_MUL, IAM_FLOAT16)(&product, &b, 1);
        double exact = double_of_half(a) + double_of_half(b);
        EXPECT(sum == half_of_double(exact));
        EXPECT(product == half_of_double(double_of_half(a) * double_of_half(b)));
        double error = exact - double_of_half(sum), next = double_of_half((uint16_t)(sum ^ 1));
        ties += error != 0 && (exact - next == error || exact - next == -error);
    }
    EXPECT(ties > 1000);
}

/* Through update_many and add_at: keys that come several times and keys that are missing, in order. */
/* NaN on either side, in rows of eight (which have a loop of their own) and of others; likewise NaT. */
static void test_not_a_number_stays_or_is_taken(void)
{
    const size_t counts[] = {8, 3};
    for (int which = 0; which < 2; which++) {
        size_t count = counts[which];
        for (int side = 0; side < 3; side++) {
            for (int op = IAM_MIN; op <= IAM_MAX; op++) {
                double wide[8], wide_other[8];
                float narrow[8], narrow_other[8];
                uint16_t half[8], half_other[8];
                for (int i = 0; i < 8; i++) {
                    wide[i] = narrow[i] = side != 1 ? NAN : 1;
                    wide_other[i] = narrow_other[i] = side != 0 ? NAN : 1;
                    half[i] = side != 1 ? 0x7e01 : 0x3c00;
                    half_other[i] = side != 0 ? 0xfe02 : 0x3c00;
                }
                ops_find((iam_op)op, IAM_FLOAT64)(wide, wide_other, count);
                ops_find((iam_op)op, IAM_FLOAT32)(narrow, narrow_other, count);
                ops_find((iam_op)op, IAM_FLOAT16)(half, half_other, count);
                for (size_t i = 0; i < 8; i++) {
                    bool is_nan = i < count || side != 1;
                    EXPECT(isnan(wide[i]) == is_nan && isnan(narrow[i]) == is_nan);
                    EXPECT(half[i] == (side != 1 ? 0x7e01 : i < count ? 0xfe02 : 0x3c00));
                }
            }
            const iam_op ops[] = {IAM_MIN, IAM_MAX, IAM_ADD, IAM_SUB};
            for (int op = 0; op < 4; op++) {
                int64_t time[8], other[8];
                for (int i = 0; i < 8; i++) {
                    time[i] = side != 1 ? INT64_MIN : 7;
                    other[i] = side != 0 ? INT64_MIN : 5;
                }
                ops_find(ops[op], IAM_TIMEDELTA64)(time, other, count);
                for (size_t i = 0; i < count; i++)
                    EXPECT(time[i] == INT64_MIN);
                for (size_t i = count; i < 8; i++)
                    EXPECT(time[i] == (side != 1 ? INT64_MIN : 7));
            }
        }
    }
    const int64_t results[] = {5, 7, 12, 2}; /* min, max, add, sub of 7 and 5 */
    const iam_op ops[] = {IAM_MIN, IAM_MAX, IAM_ADD, IAM_SUB};
    for (int op = 0; op < 4; op++) {
        int64_t seven[8] = {7, 7, 7, 7, 7, 7, 7, 7}, five[8] = {5, 5, 5, 5, 5, 5, 5, 5};
        ops_find(ops[op], IAM_TIMEDELTA64)(seven, five, 8);
        EXPECT(seven[0] == results[op] && seven[7] == results[op]);
        int64_t smaller[3] = {5, 5, 5};
        ops_find(ops[op], IAM_TIMEDELTA64)(smaller, seven, 3);
        EXPECT(smaller[1] != INT64_MIN);
    }
}

static void test_through_a_map(void)
{
    enum { KEYS = 40, COUNT = 400, ITEMS_OF_ROW = 5 };
    for (int kind = 0; kind < IAM_KIND_COUNT; kind++)
        for (int op = 0; op < IAM_OP_COUNT; op++) {
            if (!iam_op_defined((iam_op)op, (iam_kind)kind))
                continue;
            size_t item_bytes = iam_kind_bytes((iam_kind)kind), row_bytes = ITEMS_OF_ROW * item_bytes;
            iam_options options = {.row_items = ITEMS_OF_ROW,
                                   .kind = (iam_kind)kind,
                                   .index = op % 2 ? IAM_INDEX_HASH : IAM_INDEX_AUTO,
                                   .pipeline = op % 3 ? IAM_ON : IAM_OFF};
            iam_map *map;
            EXPECT(iam_map_create(&options, &map) == IAM_OK);
            uint64_t state = (uint64_t)(kind * 16 + op);
            static int64_t keys[COUNT], items[COUNT];
            static uint8_t rows[COUNT * ITEMS_OF_ROW * 16], expected[KEYS][ITEMS_OF_ROW * 16], combined[16];
            bool there[KEYS] = {false};
            for (int round = 0; round < 3; round++) {
                for (int i = 0; i < COUNT; i++) {
                    keys[i] = (int64_t)(harness_random(&state) % (KEYS - 10)) + round * 5;
                    items[i] = (int64_t)(harness_random(&state) % ITEMS_OF_ROW);
                    for (size_t item = 0; item < ITEMS_OF_ROW; item++)
                        write_random_item((iam_kind)kind, &state, rows + (size_t)i * row_bytes + item * item_bytes);
                }
                bool by_item = op == IAM_ADD && round == 1;
                if (by_item)
                    EXPECT(iam_map_add_at(map, keys, COUNT, items, 1, rows, row_bytes) == IAM_OK);
                else
                    EXPECT(iam_map_update_many(map, keys, COUNT, rows, row_bytes, (iam_op)op) == IAM_OK);
                for (int i = 0; i < COUNT; i++) {
                    uint8_t *target = expected[keys[i]], *source = rows + (size_t)i * row_bytes;
                    bool fresh = !there[keys[i]];
                    there[keys[i]] = true;
                    if (fresh && by_item)
                        memset(target, 0, row_bytes);
                    for (size_t item = 0; item < ITEMS_OF_ROW; item++) {
                        uint8_t *place = target + item * item_bytes;
                        if (by_item && item != (size_t)items[i])
                            continue;
                        const uint8_t *with = by_item ? source : source + item * item_bytes;
                        if (fresh && !by_item)
                            expected_created((iam_kind)kind, (iam_op)op, with, combined);
                        else
                            expected_item((iam_kind)kind, (iam_op)op, place, with, combined);
                        memcpy(place, combined, item_bytes);
                    }
                }
                for (int key = 0; key < KEYS; key++) {
                    const uint8_t *found = iam_map_find(map, key, NULL);
                    EXPECT((found != NULL) == there[key]);
                    for (size_t item = 0; found != NULL && item < ITEMS_OF_ROW; item++)
                        EXPECT(same_item((iam_kind)kind, (iam_op)op, found + item * item_bytes,
                                         expected[key] + item * item_bytes));
                }
            }
            harness_validate(map);
            iam_map_destroy(map);
        }
}

int main(void)
{
    RUN(test_what_is_defined);
    RUN(test_examples);
    RUN(test_every_kind_and_op);
    RUN(test_any_byte_but_zero_is_true);
    RUN(test_every_half_survives);
    RUN(test_halves_round_correctly);
    RUN(test_not_a_number_stays_or_is_taken);
    RUN(test_through_a_map);
    return harness_end();
}
