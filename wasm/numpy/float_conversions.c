/* Scalars, products of arrays, and conversions: what does not go through the loops of ufuncs. */
#define NPY_NO_DEPRECATED_API NPY_API_VERSION
#include <Python.h>

#include <fenv.h>
#include <wasm_simd128.h>

#include "float_rules.h"

/* Raise what an operation of two scalars raises. */
void cloche_float_scalar(cloche_float_rule rule, cloche_underflow_rule underflow, int type, const void *first, const void *second,
                         const void *out) {
    static const npy_intp still[3] = {0, 0, 0};
    const char *at[3] = {first, second, out};
    cloche_float_plan plan = {
        .rule = (npy_uint8)rule,
        .underflow = (npy_uint8)underflow,
        .nin = 2,
        .nout = 1,
        .type = {(npy_int8)type, (npy_int8)type, (npy_int8)type},
        .sums = underflow == UNDERFLOW_NEVER,
    };
    cloche_float_watch(1);
    if (!cloche_float_unsuspicious(&plan, at, still, 1)) cloche_float_judge(&plan, at, still, 1);
}

static int classes_of_view(int type, const cloche_float_view *view) {
    return cloche_float_classes(type, view->data, view->ndim, view->shape, view->strides);
}

/* Raise what a product of arrays raises. */
void cloche_float_product(int type, const cloche_float_view *first, const cloche_float_view *second, const cloche_float_view *out) {
    if (size_of(type) == 0) return;
    int results = classes_of_view(type, out);
    if (results) feraiseexcept(cloche_float_judge_whole(classes_of_view(type, first) | classes_of_view(type, second), results));
}

#define FITS(T, SHAPE) \
    static int T##s_fit(const T *at, npy_intp n, T under, T over) { \
        enum { LANES = 16 / sizeof(T) }; \
        const v128_t low = SHAPE##_splat(under), high = SHAPE##_splat(over); \
        v128_t inside = wasm_i8x16_const_splat(-1); \
        npy_intp k = 0; \
        _Pragma("clang loop unroll_count(4)") for (; k + LANES <= n; k += LANES) { \
            v128_t numbers = wasm_v128_load(at + k); \
            inside = wasm_v128_and(inside, wasm_v128_and(SHAPE##_gt(numbers, low), SHAPE##_lt(numbers, high))); \
        } \
        int fits = wasm_i8x16_all_true(inside); \
        for (; k < n; k++) fits &= at[k] > under && at[k] < over; \
        return fits; \
    }

FITS(float, wasm_f32x4)
FITS(double, wasm_f64x2)

/* Raise invalid if a floating-point number does not fit the integer that x86-64 converts it to. Types narrower than 32
 * bits are converted by way of int32, and by way of int16 from `long double`. */
void cloche_float_to_integer(int from, int to, const char *data, npy_intp stride, npy_intp n) {
    int part = part_of(from), bits;
    npy_intp vectors = 0; /* how many are converted by SIMD instructions, which differ for uint32 */
    switch (to) {
    case NPY_BYTE:
    case NPY_UBYTE:
    case NPY_SHORT: bits = part == NPY_LONGDOUBLE ? 15 : 31; break;
    case NPY_USHORT:
    case NPY_INT: bits = 31; break;
    case NPY_LONG: bits = sizeof(npy_long) == 4 ? 31 : 63; break;
    case NPY_UINT: bits = 32; break;
    case NPY_ULONG: bits = sizeof(npy_long) == 4 ? 32 : 64; break;
    case NPY_LONGLONG: bits = 63; break;
    case NPY_ULONGLONG: bits = 64; break;
    default: return;
    }
    /* what lies strictly between these two fits, once its fraction is cut off */
    double under = bits == 15 ? -0x1p15 - 1 : bits == 31 ? -0x1p31 - 1 : -0x1.0000000000001p63;
    double over = bits == 15 ? 0x1p15 : bits == 31 ? 0x1p31 : bits == 64 ? 0x1p64 : 0x1p63;
    int fits = 1, side_by_side = stride == (npy_intp)size_of(from);
    if (bits == 32 && part != NPY_LONGDOUBLE && part != NPY_HALF && side_by_side) vectors = n & ~(npy_intp)3;
    if (vectors == 0 && from == NPY_DOUBLE && side_by_side) {
        fits = doubles_fit((const double *)data, n, under, over);
    } else if (vectors == 0 && from == NPY_FLOAT && side_by_side) {
        fits = floats_fit((const float *)data, n, bits == 31 ? -0x1.000002p31F : -0x1.000002p63F, (float)over);
    } else {
        for (npy_intp k = 0; k < n; k++) {
            long double number = value_of(part, data + k * stride);
            if (k < vectors) fits &= number > -0x1p31L - 1 && number < 0x1p32L;
            else fits &= number < over && (bits < 32 ? number > under : number >= -0x1p63L);
        }
    }
    if (!fits) feraiseexcept(FE_INVALID);
}

/* Raise what a conversion to a narrower floating-point type raises. */
void cloche_float_narrowed(int from, int to, const char *data, npy_intp stride, const char *out, npy_intp out_stride, npy_intp n) {
    int parts = is_complex(from) && is_complex(to) ? 2 : 1;
    from = part_of(from), to = part_of(to);
    size_t size = size_of(from), out_size = size_of(to);
    for (int part = 0; part < parts; part++, data += size, out += out_size) {
        if (!cloche_float_underflow_states && cloche_float_all_finite(to, out, out_stride, n, 0)) continue;
        int status = 0;
        for (npy_intp k = 0; k < n; k++) {
            int before = class_of_part(from, data + k * stride), after = class_of_part(to, out + k * out_stride);
            if ((after & IS_INF) && !(before & IS_INF)) status |= FE_OVERFLOW;
            if ((after & (IS_ZERO | IS_SUBNORMAL)) && !(before & IS_ZERO) && to != NPY_HALF &&
                value_of(from, data + k * stride) != value_of(to, out + k * out_stride)) {
                status |= FE_UNDERFLOW;
            }
        }
        feraiseexcept(status);
    }
}
