/* Which floating-point exceptions an operation raises, as x86-64 tells by its status flags.
 *
 * WebAssembly has no flags, but every result tells what happened: NaN from operands that are not NaN was an invalid
 * operation, an infinity from finite operands an overflow or a division by zero. So after each inner loop its results,
 * still in the cache, are tested for numbers that are not finite, which costs a load and two instructions for 16 bytes.
 * Only where there are some, results and operands are compared; and only what the rule of the operation needs to know
 * is worked out element by element. Exceptions are then raised with feraiseexcept (fenv.c), and numpy finds them where
 * it finds the processor's.
 *
 * - A loop that writes over its operands destroys the evidence: such an operand is tested before the loop, and copied
 *   if it is not all finite or if the rule needs its values.
 * - A reduction is judged by its result: an infinity or NaN never goes away again in a sum or product.
 * - Arithmetic of complex numbers is worked out again, operation by operation, as numpy's loops do it.
 * - Underflows cost more to find, and are looked for only while the error state does not ignore them.
 */
#define NPY_NO_DEPRECATED_API NPY_API_VERSION
#include <Python.h>

#include <fenv.h>

#include "float_rules.h"

int cloche_float_underflows = 0;
int cloche_float_underflow_states = 0;
/* A single number is looked at more often than need be, because
 * scalar arithmetic does not ask for the error state beforehand. */
int cloche_float_watched;

void cloche_float_watch(npy_intp n) { cloche_float_watched = cloche_float_underflows || (n == 1 && cloche_float_underflow_states); }

static int is_complex_arithmetic(int rule) {
    return rule == FLOAT_MULTIPLY || rule == FLOAT_SQUARE || rule == FLOAT_RECIPROCAL || rule == FLOAT_DIVIDE;
}

static int underflow_of(int rule, int operation, int type, const char *const *operands, const int *classes, int nin,
                        const char *out, int result) {
    if (!(result & (IS_ZERO | IS_SUBNORMAL))) return 0;
    if (type == NPY_HALF && (rule != UNDERFLOW_NONZERO || !(result & IS_ZERO))) return 0; /* its conversion raises it */
    int operand = 0;
    for (int index = 0; index < nin; index++) operand |= classes[index];
    if (operand & (IS_NAN | IS_INF)) return 0;
    switch (rule) {
    case UNDERFLOW_EXACT: {
        if (is_complex(type)) return 0; /* cloche_float_complex has judged it */
        long double a = value_of(type, operands[0]), r = value_of(type, out);
        long double b = nin > 1 ? value_of(type, operands[1]) : operation == FLOAT_SQUARE ? a : 1;
        if (operation == FLOAT_DIVIDE) return r * b != a ? FE_UNDERFLOW : 0;
        if (operation == FLOAT_RECIPROCAL) return r * a != 1 ? FE_UNDERFLOW : 0;
        return r != a * b ? FE_UNDERFLOW : 0;
    }
    case UNDERFLOW_NONZERO:
        if ((result & IS_ZERO) && (operand & IS_ZERO) && !(result & IS_SUBNORMAL)) return 0;
        return FE_UNDERFLOW;
    case UNDERFLOW_SUBNORMAL: return result & IS_SUBNORMAL ? FE_UNDERFLOW : 0;
    default: return 0;
    }
}

static int judge(const cloche_float_plan *plan, const char *const *operands, const char *const *results) {
    int nin = plan->nin, type = plan->type[plan->nin], rule = plan->rule, classes[CLOCHE_FLOAT_OPERANDS] = {0};
    int operand = 0, status = 0;
    for (int index = 0; index < nin; index++) {
        if (operands[index] == NULL) continue; /* known to be finite */
        classes[index] = class_of(plan->type[index], operands[index]);
        operand |= classes[index];
    }
    if (rule == FLOAT_COMPARE) {
        int part = part_of(plan->type[0]);
        npy_intp size = (npy_intp)size_of(part);
        if ((class_of_part(part, operands[0]) | class_of_part(part, operands[1])) & IS_NAN) return FE_INVALID;
        if (value_of(part, operands[0]) != value_of(part, operands[1])) return 0;
        return (class_of_part(part, operands[0] + size) | class_of_part(part, operands[1] + size)) & IS_NAN ? FE_INVALID : 0;
    }
    if (is_complex(type) && is_complex_arithmetic(rule)) {
        return cloche_float_complex(rule, type, operands[0], operands[nin - 1]);
    }
    if (rule == FLOAT_LOGADDEXP && !(operand & (IS_NAN | IS_INF)) && type != NPY_HALF) {
        long double apart = value_of(type, operands[0]) - value_of(type, operands[1]);
        int infinite = type == NPY_FLOAT ? isinf((npy_float)apart) : type == NPY_DOUBLE ? isinf((npy_double)apart) : isinf(apart);
        if (infinite) status |= FE_OVERFLOW;
    }
    for (int index = 0; index < plan->nout; index++) {
        if (plan->type[nin + index] < 0) continue;
        int result = class_of(plan->type[nin + index], results[index]);
        if (result & IS_NAN) {
            if (rule == FLOAT_SPACING) status |= type == NPY_HALF ? FE_INVALID : 0;
            else if (!(operand & IS_NAN)) status |= FE_INVALID;
            else if (rule == FLOAT_LOGADDEXP) status |= FE_INVALID; /* they are compared */
            else if (rule == FLOAT_EXP && is_complex(type)) {
                int part = part_of(type);
                int imaginary = class_of_part(part, operands[0] + size_of(part));
                int real = class_of_part(part, operands[0]);
                if (real & IS_NAN ? !(imaginary & (IS_NAN | IS_ZERO)) : !(real & IS_INF)) status |= FE_INVALID;
            }
        }
        if (result & IS_INF) {
            if (rule == FLOAT_NEXTAFTER ? !(classes[0] & IS_INF) : !(operand & (IS_INF | IS_NAN))) {
                int pole = 0, more = 0;
                switch (rule) {
                case FLOAT_POLE: pole = 1; break;
                case FLOAT_DIVIDE: pole = classes[1] & IS_ZERO; break;
                case FLOAT_FLOOR_DIVIDE:
                    pole = classes[1] & IS_ZERO;
                    more = pole || type == NPY_HALF ? 0 : FE_INVALID; /* the remainder of an infinite quotient */
                    break;
                case FLOAT_RECIPROCAL:
                case FLOAT_POWER: pole = classes[0] & IS_ZERO; break;
                case FLOAT_LOG1P: pole = !is_complex(type) || value_of(part_of(type), operands[0]) == -1; break;
                case FLOAT_ARCTAN: pole = is_complex(type); break;
                default: break;
                }
                status |= (pole ? FE_DIVBYZERO : FE_OVERFLOW) | more;
            }
        }
        if (cloche_float_watched) {
            status |= underflow_of(plan->underflow, rule, plan->type[nin + index], operands, classes, nin, results[index], result);
        }
    }
    return status;
}

/* The exceptions that a rule can find at all, so that looking for more can end. */
int cloche_float_most(const cloche_float_plan *plan) {
    int all = FE_INVALID;
    switch (plan->rule) {
    case FLOAT_COMPARE:
    case FLOAT_SPACING: return FE_INVALID;
    case FLOAT_POLE: all |= FE_DIVBYZERO; break;
    case FLOAT_PLAIN:
    case FLOAT_SQUARE:
    case FLOAT_EXP:
    case FLOAT_MULTIPLY: all |= FE_OVERFLOW; break;
    default: all |= FE_OVERFLOW | FE_DIVBYZERO;
    }
    return all | (cloche_float_watched && plan->underflow ? FE_UNDERFLOW : 0);
}

/* ---- A first look at many results --------------------------------------------------------------------------------- */

enum { NEW_NAN = 1, NEW_INF = 2 };

#define LOOK(NAME, WORD, ABSOLUTE, INFINITY_BITS) \
    static int NAME##_look(const char *a, npy_intp sa, const char *b, npy_intp sb, const char *out, npy_intp so, npy_intp n) { \
        WORD nan = 0, inf = 0; \
        if (sa == sizeof(WORD) && so == sizeof(WORD) && (sb == sizeof(WORD) || b == a)) { \
            const WORD *restrict x = (const WORD *)a, *restrict y = (const WORD *)b, *restrict z = (const WORD *)out; \
            for (npy_intp k = 0; k < n; k++) { \
                WORD u = x[k] & ABSOLUTE, v = y[k] & ABSOLUTE, r = z[k] & ABSOLUTE; \
                WORD most = u > v ? u : v; \
                nan |= (r > INFINITY_BITS) & (most <= INFINITY_BITS); \
                inf |= (r == INFINITY_BITS) & (most < INFINITY_BITS); \
            } \
        } else { \
            for (npy_intp k = 0; k < n; k++, a += sa, b += sb, out += so) { \
                WORD u = *(const WORD *)a & ABSOLUTE, v = *(const WORD *)b & ABSOLUTE, r = *(const WORD *)out & ABSOLUTE; \
                WORD most = u > v ? u : v; \
                nan |= (r > INFINITY_BITS) & (most <= INFINITY_BITS); \
                inf |= (r == INFINITY_BITS) & (most < INFINITY_BITS); \
            } \
        } \
        return (nan ? NEW_NAN : 0) | (inf ? NEW_INF : 0); \
    }

LOOK(float, int32_t, INT32_MAX, 0x7f800000)
LOOK(double, int64_t, INT64_MAX, INT64_C(0x7ff0000000000000))

/* What new NaN and infinities there are, for rules that are about nothing else; -1 if they have to be looked up. */
static int look(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n) {
    static const double finite = 1;
    int type = plan->type[0], rule = plan->rule;
    if ((type != NPY_DOUBLE && type != NPY_FLOAT) || plan->nout != 1 || plan->nin > 2 || cloche_float_watched) return -1;
    if (rule == FLOAT_NEXTAFTER || rule == FLOAT_SPACING || rule == FLOAT_LOGADDEXP) return -1;
    for (int index = 1; index <= plan->nin; index++) {
        if (plan->type[index] != type) return -1;
    }
    const char *a = at[0], *b = at[plan->nin - 1];
    npy_intp sa = strides[0], sb = strides[plan->nin - 1];
    if (a == NULL) a = b, sa = sb;
    if (b == NULL) b = a, sb = sa;
    if (a == NULL) a = b = (const char *)&finite, sa = sb = 0;
    return (type == NPY_DOUBLE ? double_look : float_look)(a, sa, b, sb, at[plan->nin], strides[plan->nin], n);
}

/* Whether the rule does not need the value of a finite operand. */
int cloche_float_needs_no_values(const cloche_float_plan *plan, int index) {
    if (cloche_float_watched) return 0;
    int type = plan->type[plan->nin];
    switch (plan->rule) {
    case FLOAT_PLAIN: return 1;
    case FLOAT_MULTIPLY:
    case FLOAT_SQUARE:
    case FLOAT_EXP:
    case FLOAT_POLE: return !is_complex(type);
    case FLOAT_DIVIDE: return index == 0 && !is_complex(type);
    default: return 0;
    }
}

/* Judge `n` results. An operand that is NULL is known to be finite, and not to be asked for its value. */
static void judge_all(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n) {
    int most = cloche_float_most(plan), status = fetestexcept(FE_ALL_EXCEPT), before = status;
    if ((status & most) == most) return;
    int found = look(plan, at, strides, n);
    if (found == 0) return;
    if (found > 0 && (found & NEW_NAN)) status |= FE_INVALID;
    if (found > 0 && (cloche_float_needs_no_values(plan, 1) || !(found & NEW_INF))) {
        if (found & NEW_INF) status |= plan->rule == FLOAT_POLE ? FE_DIVBYZERO : FE_OVERFLOW;
        feraiseexcept(status & ~before);
        return;
    }
    int total = plan->nin + plan->nout;
    const char *now[CLOCHE_FLOAT_OPERANDS];
    memcpy(now, at, (size_t)total * sizeof(*now));
    for (; n > 0 && (status & most) != most; n--) {
        status |= judge(plan, now, now + plan->nin);
        for (int index = 0; index < total; index++) {
            if (now[index] != NULL) now[index] += strides[index];
        }
    }
    feraiseexcept(status & ~before);
}

/* Parts of complex numbers that the operation treats as real numbers. */
static int by_parts(const cloche_float_plan *plan) {
    return plan->rule == FLOAT_PLAIN && plan->sums && is_complex(plan->type[plan->nin]);
}

void cloche_float_judge(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n) {
    if (!by_parts(plan)) {
        judge_all(plan, at, strides, n);
        return;
    }
    cloche_float_plan parts = *plan;
    size_t size = size_of(part_of(plan->type[0]));
    const char *second[CLOCHE_FLOAT_OPERANDS];
    for (int index = 0; index < 3; index++) {
        parts.type[index] = (npy_int8)part_of(plan->type[index]);
        second[index] = at[index] == NULL ? NULL : at[index] + size;
    }
    judge_all(&parts, at, strides, n);
    judge_all(&parts, second, strides, n);
}

/* Whether nothing can have happened in `n` results. */
int cloche_float_unsuspicious(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n) {
    if (cloche_float_watched && plan->underflow) {
        if (plan->nout != 1 || plan->rule == FLOAT_LOGADDEXP) return 0;
        return cloche_float_all_normal(plan->type[plan->nin], at[plan->nin], strides[plan->nin], n);
    }
    int hidden = is_complex(plan->type[plan->nin]) && (plan->rule == FLOAT_DIVIDE || plan->rule == FLOAT_RECIPROCAL);
    hidden |= plan->rule == FLOAT_LOGADDEXP;
    if (hidden || plan->rule == FLOAT_COMPARE) { /* what happened need not show in the results */
        for (int index = 0; index < plan->nin; index++) {
            if (!cloche_float_all_finite(plan->type[index], at[index], strides[index], n, hidden)) return 0;
        }
    }
    for (int index = plan->nin; index < plan->nin + plan->nout; index++) {
        if (!cloche_float_all_finite(plan->type[index], at[index], strides[index], n, 0)) return 0;
    }
    return 1;
}

static const struct {
    const char *name;
    npy_uint8 rule, underflow;
} RULES[] = {
    {"add", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"subtract", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"multiply", FLOAT_MULTIPLY, UNDERFLOW_EXACT},
    {"divide", FLOAT_DIVIDE, UNDERFLOW_EXACT},
    {"square", FLOAT_SQUARE, UNDERFLOW_EXACT},
    {"reciprocal", FLOAT_RECIPROCAL, UNDERFLOW_EXACT},
    {"floor_divide", FLOAT_FLOOR_DIVIDE, UNDERFLOW_NEVER},
    {"divmod", FLOAT_FLOOR_DIVIDE, UNDERFLOW_NEVER},
    {"remainder", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"fmod", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"power", FLOAT_POWER, UNDERFLOW_NONZERO},
    {"float_power", FLOAT_POWER, UNDERFLOW_NONZERO},
    {"sqrt", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"cbrt", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"hypot", FLOAT_PLAIN, UNDERFLOW_SUBNORMAL},
    {"exp", FLOAT_EXP, UNDERFLOW_NONZERO},
    {"exp2", FLOAT_EXP, UNDERFLOW_NONZERO},
    {"expm1", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"log", FLOAT_POLE, UNDERFLOW_SUBNORMAL},
    {"log2", FLOAT_POLE, UNDERFLOW_SUBNORMAL},
    {"log10", FLOAT_POLE, UNDERFLOW_SUBNORMAL},
    {"log1p", FLOAT_LOG1P, UNDERFLOW_SUBNORMAL},
    {"logaddexp", FLOAT_LOGADDEXP, UNDERFLOW_SUBNORMAL},
    {"logaddexp2", FLOAT_LOGADDEXP, UNDERFLOW_SUBNORMAL},
    {"sin", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"cos", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"tan", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"arcsin", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"arccos", FLOAT_PLAIN, UNDERFLOW_SUBNORMAL},
    {"arctan", FLOAT_ARCTAN, UNDERFLOW_NONZERO},
    {"arctan2", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"sinh", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"cosh", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"tanh", FLOAT_PLAIN, UNDERFLOW_NEVER},
    {"arcsinh", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"arccosh", FLOAT_PLAIN, UNDERFLOW_SUBNORMAL},
    {"arctanh", FLOAT_POLE, UNDERFLOW_NONZERO},
    {"deg2rad", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"radians", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"rad2deg", FLOAT_PLAIN, UNDERFLOW_SUBNORMAL},
    {"degrees", FLOAT_PLAIN, UNDERFLOW_SUBNORMAL},
    {"ldexp", FLOAT_PLAIN, UNDERFLOW_NONZERO},
    {"nextafter", FLOAT_NEXTAFTER, UNDERFLOW_SUBNORMAL},
    {"spacing", FLOAT_SPACING, UNDERFLOW_NEVER},
    {"less", FLOAT_COMPARE, UNDERFLOW_NEVER},
    {"less_equal", FLOAT_COMPARE, UNDERFLOW_NEVER},
    {"greater", FLOAT_COMPARE, UNDERFLOW_NEVER},
    {"greater_equal", FLOAT_COMPARE, UNDERFLOW_NEVER},
    {"matmul", FLOAT_CORE, UNDERFLOW_NEVER},
    {"vecdot", FLOAT_CORE, UNDERFLOW_NEVER},
    {"matvec", FLOAT_CORE, UNDERFLOW_NEVER},
    {"vecmat", FLOAT_CORE, UNDERFLOW_NEVER},
    /* linear algebra clears the flags and sets its own, but for the determinants */
    {"det", FLOAT_DETERMINANT, UNDERFLOW_NEVER},
    {"slogdet", FLOAT_DETERMINANT, UNDERFLOW_NEVER},
    {"fft", FLOAT_CORE, UNDERFLOW_NEVER},
    {"ifft", FLOAT_CORE, UNDERFLOW_NEVER},
    {"rfft_n_even", FLOAT_CORE, UNDERFLOW_NEVER},
    {"rfft_n_odd", FLOAT_CORE, UNDERFLOW_NEVER},
    {"irfft", FLOAT_CORE, UNDERFLOW_NEVER},
};

static npy_uint8 kernel_named(const char *ufunc) {
    static const char *const NAMES[] = {"add", "subtract", "multiply", "divide"};
    for (npy_uint8 index = 0; index < 4; index++) {
        if (strcmp(NAMES[index], ufunc) == 0) return KERNEL_ADD + index;
    }
    return 0;
}

/* The plan of a ufunc's loop for numbers of `types`; FLOAT_QUIET for a loop that cannot raise anything by itself. */
void cloche_float_plan_for(cloche_float_plan *plan, const char *ufunc, int generalised, int nin, int nout, const int *types) {
    memset(plan, 0, sizeof(*plan));
    if (nin + nout > CLOCHE_FLOAT_OPERANDS) return;
    int inexact = 0, inexact_operands = 0;
    for (int index = 0; index < nin + nout; index++) {
        int known = size_of(types[index]) != 0;
        plan->type[index] = (npy_int8)(known ? types[index] : -1);
        inexact |= known && index >= nin;
        inexact_operands |= known && index < nin;
    }
    plan->nin = (npy_uint8)nin;
    plan->nout = (npy_uint8)nout;
    for (size_t row = 0; row < sizeof(RULES) / sizeof(*RULES); row++) {
        if (strcmp(RULES[row].name, ufunc) != 0 || (RULES[row].rule >= FLOAT_CORE) != generalised) continue;
        if (RULES[row].rule == FLOAT_COMPARE) {
            if (inexact_operands && is_complex(types[0])) plan->rule = FLOAT_COMPARE;
        } else if (inexact && inexact_operands) {
            plan->rule = RULES[row].rule;
            plan->underflow = RULES[row].underflow;
            if (types[0] == types[nin] && types[0] == types[nin - 1]) plan->sums = kernel_named(ufunc);
        }
        return;
    }
}
