/* The floating-point exceptions that a loop of numpy raises, found from its operands and results: WebAssembly has no
 * status flags. float_errors.c has the theory of operation. */
#ifndef CLOCHE_FLOAT_ERRORS_H
#define CLOCHE_FLOAT_ERRORS_H

#include "numpy/npy_common.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CLOCHE_FLOAT_OPERANDS 4

/* By what rules the results of an operation are judged. */
typedef enum {
    FLOAT_QUIET = 0, /* raises nothing, or raises it itself with feraiseexcept */
    FLOAT_PLAIN,     /* NaN from no NaN is invalid, an infinity from finite operands an overflow */
    FLOAT_POLE,      /* as FLOAT_PLAIN, but such an infinity is a division by zero */
    FLOAT_DIVIDE,    /* ... a division by zero if the divisor is zero */
    FLOAT_FLOOR_DIVIDE,
    FLOAT_RECIPROCAL,
    FLOAT_POWER,
    FLOAT_NEXTAFTER,
    FLOAT_SPACING,
    FLOAT_LOGADDEXP,
    FLOAT_LOG1P,
    FLOAT_ARCTAN,
    FLOAT_MULTIPLY,
    FLOAT_SQUARE,
    FLOAT_COMPARE, /* complex numbers: an ordered comparison with NaN is invalid */
    FLOAT_EXP,
    FLOAT_CORE,        /* a generalised ufunc: each item of the outer loop is judged as a whole */
    FLOAT_DETERMINANT, /* ... NaN is invalid whatever it comes from: the pivots are compared */
} cloche_float_rule;

/* How a tiny result tells of an underflow. */
typedef enum {
    UNDERFLOW_NEVER = 0,
    UNDERFLOW_EXACT,    /* a product or a quotient: if it is not exact */
    UNDERFLOW_NONZERO,  /* if it is subnormal, or zero from operands that are neither zero nor infinite */
    UNDERFLOW_SUBNORMAL /* if it is subnormal: zeros are zeros of the function */
} cloche_underflow_rule;

/* One loop's types and rules. */
typedef struct {
    npy_uint8 rule;
    npy_uint8 underflow;
    npy_uint8 nin, nout;
    npy_int8 type[CLOCHE_FLOAT_OPERANDS]; /* numpy's type numbers; -1: no floating-point number */
    npy_uint8 sums;                       /* float_kernels.c: its operation; 0 if it has none */
} cloche_float_plan;

typedef void cloche_float_loop(char **, npy_intp const *, npy_intp const *, void *);

typedef int cloche_float_indexed_loop(void *context, char *const *, const npy_intp *, const npy_intp *, void *);

/* The sizes of a generalised ufunc's loop. */
typedef struct {
    const int *ndim;   /* of each operand */
    const int *offset; /* of each operand's first index in `axis` */
    const int *axis;   /* which of the loop's core dimensions an operand's dimension is */
} cloche_float_core;

/* What PyArray_Data and kin say of an array. */
typedef struct {
    char *data;
    int ndim;
    const npy_intp *shape, *strides;
} cloche_float_view;

void cloche_float_plan_for(cloche_float_plan *plan, const char *ufunc, int generalised, int nin, int nout, const int *types);
void cloche_float_run(const cloche_float_plan *plan, const cloche_float_core *core, cloche_float_loop *loop, char *const *data,
                      const npy_intp *dimensions, const npy_intp *strides, void *user_data);
int cloche_float_run_indexed(const cloche_float_plan *plan, cloche_float_indexed_loop *loop, void *context, char *const *data,
                             npy_intp n, const npy_intp *strides);
void cloche_float_scalar(cloche_float_rule rule, cloche_underflow_rule underflow, int type, const void *first, const void *second,
                         const void *out);
void cloche_float_product(int type, const cloche_float_view *first, const cloche_float_view *second, const cloche_float_view *out);
void cloche_float_to_integer(int from, int to, const char *data, npy_intp stride, npy_intp n);
void cloche_float_narrowed(int from, int to, const char *data, npy_intp stride, const char *out, npy_intp out_stride, npy_intp n);

/* Whether underflows are looked for: set while the error state does not ignore them. */
extern int cloche_float_underflows;
/* Whether an error state that does not ignore them was ever made. */
extern int cloche_float_underflow_states;

/* The rules of scalar arithmetic, by the names that scalarmath.c.src uses. */
#define CLOCHE_RULE_add FLOAT_PLAIN, UNDERFLOW_NEVER
#define CLOCHE_RULE_subtract FLOAT_PLAIN, UNDERFLOW_NEVER
#define CLOCHE_RULE_multiply FLOAT_MULTIPLY, UNDERFLOW_EXACT
#define CLOCHE_RULE_true_divide FLOAT_DIVIDE, UNDERFLOW_EXACT
#define CLOCHE_RULE_floor_divide FLOAT_FLOOR_DIVIDE, UNDERFLOW_NEVER
#define CLOCHE_RULE_remainder FLOAT_PLAIN, UNDERFLOW_NEVER
#define CLOCHE_RULE_divmod FLOAT_FLOOR_DIVIDE, UNDERFLOW_NEVER
#define CLOCHE_RULE_power FLOAT_POWER, UNDERFLOW_NONZERO

#ifdef __cplusplus
}
#endif
#endif
