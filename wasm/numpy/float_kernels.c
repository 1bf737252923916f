/* Sums, differences, products and quotients of contiguous numbers, tested for what is not finite while the results are
 * in registers. A second pass over them would cost a third of the time of an addition. */
#define NPY_NO_DEPRECATED_API NPY_API_VERSION
#include <Python.h>

#include <string.h>
#include <wasm_simd128.h>

#include "float_rules.h"

/* The loops that numpy has for these operations give the same bits: IEEE 754 leaves no choice. */
#define KERNEL(NAME, T, SHAPE, MASK, LIMIT, VECTOR, OPERATION) \
    static inline __attribute__((always_inline)) int NAME##_steps(const T *a, int a_step, const T *b, int b_step, T *out, T *copy, \
                                                                  int copied, npy_intp n) { \
        enum { LANES = 16 / sizeof(T) }; \
        const v128_t mask = MASK, a_all = SHAPE##_splat(*a), b_all = SHAPE##_splat(*b); \
        v128_t most = wasm_i32x4_const_splat(0); \
        npy_intp k = 0; \
        _Pragma("clang loop unroll_count(4)") /* each turn loads from the stop page */ \
            for (; k + LANES <= n; k += LANES) { \
            v128_t x = a_step ? wasm_v128_load(a + k) : a_all, y = b_step ? wasm_v128_load(b + k) : b_all; \
            v128_t result = VECTOR(x, y); \
            if (copied) wasm_v128_store(copy + k, copied == 1 ? x : y); \
            wasm_v128_store(out + k, result); \
            most = wasm_i32x4_max(most, wasm_v128_and(result, mask)); \
        } \
        int finite = !wasm_v128_any_true(wasm_i32x4_ge(most, LIMIT)); \
        for (; k < n; k++) { \
            T x = a_step ? a[k] : *a, y = b_step ? b[k] : *b, result = x OPERATION y; \
            if (copied) copy[k] = copied == 1 ? x : y; \
            out[k] = result; \
            finite &= result - result == 0; \
        } \
        return finite; \
    } \
    static int NAME(const T *a, int a_step, const T *b, int b_step, T *out, T *copy, int copied, npy_intp n) { \
        if (a_step && b_step) { \
            return copied == 0   ? NAME##_steps(a, 1, b, 1, out, copy, 0, n) \
                   : copied == 1 ? NAME##_steps(a, 1, b, 1, out, copy, 1, n) \
                                 : NAME##_steps(a, 1, b, 1, out, copy, 2, n); \
        } \
        if (a_step) { \
            return copied ? NAME##_steps(a, 1, b, 0, out, copy, 1, n) : NAME##_steps(a, 1, b, 0, out, copy, 0, n); \
        } \
        return copied ? NAME##_steps(a, 0, b, 1, out, copy, 2, n) : NAME##_steps(a, 0, b, 1, out, copy, 0, n); \
    }

#define KERNELS(PREFIX, T, SHAPE, MASK, LIMIT) \
    KERNEL(PREFIX##_add, T, SHAPE, MASK, LIMIT, SHAPE##_add, +) \
    KERNEL(PREFIX##_subtract, T, SHAPE, MASK, LIMIT, SHAPE##_sub, -) \
    KERNEL(PREFIX##_multiply, T, SHAPE, MASK, LIMIT, SHAPE##_mul, *) \
    KERNEL(PREFIX##_divide, T, SHAPE, MASK, LIMIT, SHAPE##_div, /) \
    static int PREFIX##_kernel(int kernel, const char *a, int a_step, const char *b, int b_step, char *out, char *copy, \
                               int copied, npy_intp n) { \
        const T *x = (const T *)a, *y = (const T *)b; \
        switch (kernel) { \
        case KERNEL_ADD: return PREFIX##_add(x, a_step, y, b_step, (T *)out, (T *)copy, copied, n); \
        case KERNEL_SUBTRACT: return PREFIX##_subtract(x, a_step, y, b_step, (T *)out, (T *)copy, copied, n); \
        case KERNEL_MULTIPLY: return PREFIX##_multiply(x, a_step, y, b_step, (T *)out, (T *)copy, copied, n); \
        default: return PREFIX##_divide(x, a_step, y, b_step, (T *)out, (T *)copy, copied, n); \
        } \
    }

/* Of a double the upper half tells; the lower one never reaches its limit. */
#define DOUBLE_MASK wasm_i32x4_const(0, 0x7fffffff, 0, 0x7fffffff)
#define DOUBLE_LIMIT wasm_i32x4_const(0x7fffffff, 0x7ff00000, 0x7fffffff, 0x7ff00000)
#define FLOAT_MASK wasm_i32x4_const_splat(0x7fffffff)
#define FLOAT_LIMIT wasm_i32x4_const_splat(0x7f800000)

KERNELS(double, npy_double, wasm_f64x2, DOUBLE_MASK, DOUBLE_LIMIT)
KERNELS(float, npy_float, wasm_f32x4, FLOAT_MASK, FLOAT_LIMIT)

/* The kernel of an operation; 0 if it has none. */
static inline int kernel_of(const cloche_float_plan *plan) {
    if (plan->type[0] != NPY_DOUBLE && plan->type[0] != NPY_FLOAT) return 0;
    return cloche_float_watched && plan->sums >= KERNEL_MULTIPLY ? 0 : plan->sums;
}

static int apart(const char *one, const char *other, npy_intp bytes) { return one + bytes <= other || other + bytes <= one; }

/* Compute `n` results, at most CHUNK, if there is a kernel for these strides; 0 if there is none. */
int cloche_float_kernel(const cloche_float_plan *plan, char *const *data, const npy_intp *strides, npy_intp n) {
    int kernel = kernel_of(plan), type = plan->type[0];
    npy_intp size = type == NPY_DOUBLE ? 8 : 4, bytes = n * size;
    const char *a = data[0], *b = data[1];
    char *out = data[2];
    if (kernel == 0 || (n > 1 && strides[2] != size)) return 0;
    int a_step = n == 1 || strides[0] == size, b_step = n == 1 || strides[1] == size;
    if (!(a_step || (strides[0] == 0 && b_step)) || !(b_step || (strides[1] == 0 && a_step))) return 0;
    if (!(a == out && a_step) && !apart(a, out, bytes)) return 0;
    if (!(b == out && b_step) && !apart(b, out, bytes)) return 0;
    char copy[CHUNK * sizeof(npy_double)] __attribute__((aligned(16)));
    int copied = a == out ? 1 : b == out ? 2 : 0;
    int finite = type == NPY_DOUBLE ? double_kernel(kernel, a, a_step, b, b_step, out, copy, copied, n)
                                    : float_kernel(kernel, a, a_step, b, b_step, out, copy, copied, n);
    if (!finite) {
        const char *at[3] = {a == out ? copy : a, b == out ? copy : b, out};
        cloche_float_judge(plan, at, strides, n);
    }
    return 1;
}
