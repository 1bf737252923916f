/* What the files of float_errors share: numbers by their classes, and the rules. float_rules.c has the theory of operation. */
#ifndef CLOCHE_FLOAT_RULES_H
#define CLOCHE_FLOAT_RULES_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "float_errors.h"
#include "numpy/halffloat.h"
#include "numpy/ndarraytypes.h"
#include "numpy/npy_math.h"

/* Elements of one call of an inner loop: results are tested while they are in the first cache. */
enum { CHUNK = 1024 };

/* What is asked of one number. */
enum { IS_NAN = 1, IS_INF = 2, IS_ZERO = 4, IS_SUBNORMAL = 8 };

/* The operations of float_kernels.c. */
enum { KERNEL_ADD = 1, KERNEL_SUBTRACT, KERNEL_MULTIPLY, KERNEL_DIVIDE };

/* Whether the loop that runs now looks for underflows. */
extern int cloche_float_watched;

void cloche_float_watch(npy_intp n);
int cloche_float_all_finite(int type, const char *at, npy_intp stride, npy_intp n, int large);
int cloche_float_all_normal(int type, const char *at, npy_intp stride, npy_intp n);
int cloche_float_classes(int type, const char *data, int ndim, const npy_intp *shape, const npy_intp *strides);
int cloche_float_complex(int rule, int type, const char *a, const char *b);
int cloche_float_needs_no_values(const cloche_float_plan *plan, int index);
int cloche_float_unsuspicious(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n);
void cloche_float_judge(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n);
int cloche_float_most(const cloche_float_plan *plan);
int cloche_float_judge_whole(int operands, int results);
int cloche_float_kernel(const cloche_float_plan *plan, char *const *data, const npy_intp *strides, npy_intp n);

static inline size_t size_of(int type) {
    switch (type) {
    case NPY_HALF: return sizeof(npy_half);
    case NPY_FLOAT: return sizeof(npy_float);
    case NPY_DOUBLE: return sizeof(npy_double);
    case NPY_LONGDOUBLE: return sizeof(npy_longdouble);
    case NPY_CFLOAT: return sizeof(npy_cfloat);
    case NPY_CDOUBLE: return sizeof(npy_cdouble);
    case NPY_CLONGDOUBLE: return sizeof(npy_clongdouble);
    default: return 0;
    }
}

/* The type of a complex number's parts; other types are their own. */
static inline int part_of(int type) { return type >= NPY_CFLOAT && type <= NPY_CLONGDOUBLE ? type - NPY_CFLOAT + NPY_FLOAT : type; }

static inline int is_complex(int type) { return part_of(type) != type; }

static inline long double value_of(int type, const char *at) {
    switch (type) {
    case NPY_HALF: return npy_half_to_float(*(const npy_half *)at);
    case NPY_FLOAT: return *(const npy_float *)at;
    case NPY_DOUBLE: return *(const npy_double *)at;
    default: return *(const npy_longdouble *)at;
    }
}

static inline int class_of_part(int type, const char *at) {
    uint64_t bits, infinity, least;
    switch (type) {
    case NPY_HALF: bits = *(const npy_half *)at & 0x7fff, infinity = 0x7c00, least = 0x0400; break;
    case NPY_FLOAT: {
        npy_uint32 word;
        memcpy(&word, at, sizeof(word));
        bits = word & 0x7fffffff, infinity = 0x7f800000, least = 0x00800000;
        break;
    }
    case NPY_DOUBLE:
        memcpy(&bits, at, sizeof(bits));
        bits &= INT64_MAX, infinity = UINT64_C(0x7ff) << 52, least = UINT64_C(1) << 52;
        break;
    default: {
        npy_longdouble number = npy_fabsl(*(const npy_longdouble *)at);
        return isnan(number) ? IS_NAN : isinf(number) ? IS_INF : number == 0 ? IS_ZERO : number < LDBL_MIN ? IS_SUBNORMAL : 0;
    }
    }
    return bits > infinity ? IS_NAN : bits == infinity ? IS_INF : bits == 0 ? IS_ZERO : bits < least ? IS_SUBNORMAL : 0;
}

/* IS_ZERO only if both parts of a complex number are. */
static inline int class_of(int type, const char *at) {
    if (type < 0) return 0;
    int part = part_of(type), first = class_of_part(part, at);
    if (part == type) return first;
    int second = class_of_part(part, at + size_of(part));
    return ((first | second) & ~IS_ZERO) | (first & second & IS_ZERO);
}

#endif
