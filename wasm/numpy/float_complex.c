/* The arithmetic of complex numbers, worked out again as numpy's loops do it, with a look at each step: what happens in
 * between, as an infinity less an infinity, is not to be seen in the result. */
#define NPY_NO_DEPRECATED_API NPY_API_VERSION
#include <Python.h>

#include <fenv.h>

#include "float_rules.h"

static int raised; /* what the functions below have found; a variable of one thread, because there is one */

#define CHECKED(NAME, T, LEAST) \
    static void NAME##_judge(T result, T a, T b) { \
        if (isnan(result)) { \
            if (!isnan(a) && !isnan(b)) raised |= FE_INVALID; \
        } else if (isinf(result) && isfinite(a) && isfinite(b)) raised |= FE_OVERFLOW; \
    } \
    static T NAME##_add(T a, T b) { \
        T result = a + b; \
        NAME##_judge(result, a, b); \
        return result; \
    } \
    static T NAME##_subtract(T a, T b) { \
        T result = a - b; \
        NAME##_judge(result, a, b); \
        return result; \
    } \
    static T NAME##_multiply(T a, T b) { \
        T result = a * b; \
        NAME##_judge(result, a, b); \
        if (cloche_float_watched && result > -LEAST && result < LEAST && (long double)result != (long double)a * (long double)b) { \
            raised |= FE_UNDERFLOW; \
        } \
        return result; \
    } \
    static T NAME##_divide(T a, T b) { \
        T result = a / b; \
        if (isinf(result) && b == 0) raised |= isinf(a) ? 0 : FE_DIVBYZERO; \
        else NAME##_judge(result, a, b); \
        if (cloche_float_watched && result > -LEAST && result < LEAST && !isinf(b) && \
            (long double)result * (long double)b != (long double)a) { \
            raised |= FE_UNDERFLOW; \
        } \
        return result; \
    } \
    static void NAME##_complex_divide(T ar, T ai, T br, T bi) { \
        if (isnan(br) || isnan(bi)) raised |= FE_INVALID; /* their sizes are compared */ \
        int wide = br < 0 ? (bi < 0 ? br <= bi : -br >= bi) : (bi < 0 ? br >= -bi : br >= bi); \
        if (wide && br == 0 && bi == 0) { \
            T zero = br < 0 ? -br : br; \
            NAME##_divide(ar, zero); \
            NAME##_divide(ai, zero); \
            return; \
        } \
        if (wide) { \
            T ratio = NAME##_divide(bi, br); \
            T scale = NAME##_divide(1, NAME##_add(br, NAME##_multiply(bi, ratio))); \
            NAME##_multiply(NAME##_add(ar, NAME##_multiply(ai, ratio)), scale); \
            NAME##_multiply(NAME##_subtract(ai, NAME##_multiply(ar, ratio)), scale); \
        } else { \
            T ratio = NAME##_divide(br, bi); \
            T scale = NAME##_divide(1, NAME##_add(bi, NAME##_multiply(br, ratio))); \
            NAME##_multiply(NAME##_add(NAME##_multiply(ar, ratio), ai), scale); \
            NAME##_multiply(NAME##_subtract(NAME##_multiply(ai, ratio), ar), scale); \
        } \
    } \
    static void NAME##_complex_reciprocal(T r, T i) { \
        T wide = r < 0 ? -r : r, high = i < 0 ? -i : i; \
        if (isnan(r) || isnan(i)) raised |= FE_INVALID; \
        if (high <= wide) { \
            T ratio = NAME##_divide(i, r), below = NAME##_add(r, NAME##_multiply(i, ratio)); \
            NAME##_divide(1, below); \
            NAME##_divide(-ratio, below); \
        } else { \
            T ratio = NAME##_divide(r, i), below = NAME##_add(NAME##_multiply(r, ratio), i); \
            NAME##_divide(ratio, below); \
            NAME##_divide(-1, below); \
        } \
    } \
    static void NAME##_complex(int rule, const T *a, const T *b) { \
        switch (rule) { \
        case FLOAT_MULTIPLY: \
            NAME##_subtract(NAME##_multiply(a[0], b[0]), NAME##_multiply(a[1], b[1])); \
            NAME##_add(NAME##_multiply(a[0], b[1]), NAME##_multiply(a[1], b[0])); \
            break; \
        case FLOAT_SQUARE: \
            NAME##_subtract(NAME##_multiply(a[0], a[0]), NAME##_multiply(a[1], a[1])); \
            NAME##_add(NAME##_multiply(a[0], a[1]), NAME##_multiply(a[1], a[0])); \
            break; \
        case FLOAT_RECIPROCAL: NAME##_complex_reciprocal(a[0], a[1]); break; \
        default: NAME##_complex_divide(a[0], a[1], b[0], b[1]); \
        } \
    }

CHECKED(single, npy_float, FLT_MIN)
CHECKED(whole, npy_double, DBL_MIN)
CHECKED(extended, npy_longdouble, LDBL_MIN)

int cloche_float_complex(int rule, int type, const char *a, const char *b) {
    raised = 0;
    switch (type) {
    case NPY_CFLOAT: single_complex(rule, (const npy_float *)a, (const npy_float *)b); break;
    case NPY_CDOUBLE: whole_complex(rule, (const npy_double *)a, (const npy_double *)b); break;
    default: extended_complex(rule, (const npy_longdouble *)a, (const npy_longdouble *)b);
    }
    return raised;
}
