/* Tests of many numbers at once: whether they are all finite, and what there is of NaN and infinities. */
#define NPY_NO_DEPRECATED_API NPY_API_VERSION
#include <Python.h>

#include <wasm_simd128.h>

#include "float_rules.h"

/* Whether all of `n` numbers that lie side by side are below 2**`exponent`; NaN is not. `words` of 4 bytes each. */
static int words_below(const char *at, npy_intp bytes, v128_t mask, v128_t limit, npy_uint32 first, npy_uint32 second) {
    const v128_t zero = wasm_i32x4_const_splat(0);
    v128_t most = zero, most_too = zero;
    npy_intp done = 0;
#pragma clang loop unroll_count(4) /* each turn loads from the stop page */
    for (; done + 32 <= bytes; done += 32) {
        most = wasm_i32x4_max(most, wasm_v128_and(wasm_v128_load(at + done), mask));
        most_too = wasm_i32x4_max(most_too, wasm_v128_and(wasm_v128_load(at + done + 16), mask));
    }
    most = wasm_i32x4_max(most, most_too);
    if (wasm_v128_any_true(wasm_i32x4_ge(most, limit))) return 0;
    /* first and second are the limits of the even and odd words; the masks of the SIMD part leave their signs out */
    for (; done < bytes; done += 4) {
        npy_uint32 word, bound = (done & 4) ? second : first;
        memcpy(&word, at + done, sizeof(word));
        if (bound && (word & 0x7fffffff) >= bound) return 0;
    }
    return 1;
}

/* Whether `n` parts of numbers are all finite; if `large`, whether they are all below half of the largest number. */
static int all_finite_parts(int type, const char *at, npy_intp stride, npy_intp n, int large) {
    if (stride == 0 && n > 1) n = 1;
    switch (type) {
    case NPY_DOUBLE: {
        const npy_uint32 limit = large ? 0x7fe00000 : 0x7ff00000;
        if (stride == 8 && n >= 4) {
            return words_below(at, n * 8, wasm_i32x4_const(0, 0x7fffffff, 0, 0x7fffffff),
                               wasm_i32x4_make(INT32_MAX, (int)limit, INT32_MAX, (int)limit), 0, limit);
        }
        for (; n > 0; n--, at += stride) {
            npy_uint32 word;
            memcpy(&word, at + 4, sizeof(word));
            if ((word & 0x7fffffff) >= limit) return 0;
        }
        return 1;
    }
    case NPY_FLOAT: {
        const npy_uint32 limit = large ? 0x7f000000 : 0x7f800000;
        if (stride == 4 && n >= 8) {
            return words_below(at, n * 4, wasm_i32x4_const_splat(0x7fffffff), wasm_i32x4_splat((int)limit), limit, limit);
        }
        for (; n > 0; n--, at += stride) {
            npy_uint32 word;
            memcpy(&word, at, sizeof(word));
            if ((word & 0x7fffffff) >= limit) return 0;
        }
        return 1;
    }
    case NPY_HALF: {
        int finite = 1;
        for (; n > 0; n--, at += stride) finite &= (*(const npy_half *)at & 0x7fff) < 0x7c00;
        return finite;
    }
    default:
        for (; n > 0; n--, at += stride) {
            npy_longdouble number = *(const npy_longdouble *)at;
            if (!isfinite(number) || (large && npy_fabsl(number) >= LDBL_MAX / 2)) return 0;
        }
        return 1;
    }
}

int cloche_float_all_finite(int type, const char *at, npy_intp stride, npy_intp n, int large) {
    if (type < 0) return 1;
    int part = part_of(type);
    if (part == type) return all_finite_parts(type, at, stride, n, large);
    npy_intp size = (npy_intp)size_of(part);
    if (stride == 2 * size) return all_finite_parts(part, at, size, 2 * n, large);
    return all_finite_parts(part, at, stride, n, large) && all_finite_parts(part, at + size, stride, n, large);
}

/* Whether `n` real numbers are all finite, and neither zero nor subnormal. It is asked of results that lie side by side. */
int cloche_float_all_normal(int type, const char *at, npy_intp stride, npy_intp n) {
    if (type != NPY_DOUBLE && type != NPY_FLOAT) return 0;
    const npy_uint32 least = type == NPY_DOUBLE ? 0x00100000 : 0x00800000;
    const npy_uint32 range = (type == NPY_DOUBLE ? 0x7ff00000 : 0x7f800000) - least;
    const npy_intp size = (npy_intp)size_of(type), bytes = stride == size ? n * size : 0;
    /* a double's lower half counts as being in the range */
    const v128_t mask = type == NPY_DOUBLE ? wasm_i32x4_const(0, 0x7fffffff, 0, 0x7fffffff) : wasm_i32x4_const_splat(0x7fffffff);
    const v128_t lower = type == NPY_DOUBLE ? wasm_i32x4_const(0x00100000, 0, 0x00100000, 0) : wasm_i32x4_const_splat(0);
    v128_t normal = wasm_i32x4_const_splat(-1);
    npy_intp done = 0;
#pragma clang loop unroll_count(4) /* each turn loads from the stop page */
    for (; done + 16 <= bytes; done += 16) {
        v128_t words = wasm_v128_or(wasm_v128_and(wasm_v128_load(at + done), mask), lower);
        words = wasm_i32x4_sub(words, wasm_u32x4_splat(least));
        normal = wasm_v128_and(normal, wasm_u32x4_lt(words, wasm_u32x4_splat(range)));
    }
    int all = wasm_i8x16_all_true(normal);
    for (npy_intp k = done / size; k < n; k++) {
        npy_uint32 word;
        memcpy(&word, at + k * stride + size - 4, sizeof(word));
        all &= (word & 0x7fffffff) - least < range;
    }
    return all;
}

/* NaN, infinities: what an n-dimensional operand has of them. */
int cloche_float_classes(int type, const char *data, int ndim, const npy_intp *shape, const npy_intp *strides) {
    if (type < 0) return 0;
    if (ndim == 0) return class_of(type, data) & (IS_NAN | IS_INF);
    int found = 0;
    if (ndim == 1) {
        if (cloche_float_all_finite(type, data, strides[0], shape[0], 0)) return 0;
        for (npy_intp k = 0; k < shape[0]; k++) found |= class_of(type, data + k * strides[0]);
    } else {
        for (npy_intp k = 0; k < shape[0]; k++) {
            found |= cloche_float_classes(type, data + k * strides[0], ndim - 1, shape + 1, strides + 1);
        }
    }
    return found & (IS_NAN | IS_INF);
}
