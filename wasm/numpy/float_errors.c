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
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <wasm_simd128.h>

#include "float_errors.h"
#include "numpy/halffloat.h"
#include "numpy/npy_math.h"
#include "numpy/ndarraytypes.h"

int cloche_float_underflows = 0;
int cloche_float_underflow_states = 0;
/* Whether the loop that runs now looks for underflows. A single number is looked at more often than need be, because
 * scalar arithmetic does not ask for the error state beforehand. */
static int watched;

static void
watch(npy_intp n)
{
    watched = cloche_float_underflows || (n == 1 && cloche_float_underflow_states);
}

/* Elements of one call of an inner loop: results are tested while they are in the first cache. */
enum { CHUNK = 1024, COPY_BYTES = CHUNK * 8 };

/* What is asked of one number. */
enum { IS_NAN = 1, IS_INF = 2, IS_ZERO = 4, IS_SUBNORMAL = 8 };

static size_t
size_of(int type)
{
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
static int
part_of(int type)
{
    return type >= NPY_CFLOAT && type <= NPY_CLONGDOUBLE ? type - NPY_CFLOAT + NPY_FLOAT : type;
}

static int
is_complex(int type)
{
    return part_of(type) != type;
}

static long double
value_of(int type, const char *at)
{
    switch (type) {
        case NPY_HALF: return npy_half_to_float(*(const npy_half *)at);
        case NPY_FLOAT: return *(const npy_float *)at;
        case NPY_DOUBLE: return *(const npy_double *)at;
        default: return *(const npy_longdouble *)at;
    }
}

static int
class_of_part(int type, const char *at)
{
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
            return isnan(number) ? IS_NAN : isinf(number) ? IS_INF : number == 0 ? IS_ZERO
                   : number < LDBL_MIN ? IS_SUBNORMAL : 0;
        }
    }
    return bits > infinity ? IS_NAN : bits == infinity ? IS_INF : bits == 0 ? IS_ZERO : bits < least ? IS_SUBNORMAL : 0;
}

/* IS_ZERO only if both parts of a complex number are. */
static int
class_of(int type, const char *at)
{
    if (type < 0) return 0;
    int part = part_of(type), first = class_of_part(part, at);
    if (part == type) return first;
    int second = class_of_part(part, at + size_of(part));
    return ((first | second) & ~IS_ZERO) | (first & second & IS_ZERO);
}

/* ---- Tests of many numbers ------------------------------------------------------------------------------------- */

/* Whether all of `n` numbers that lie side by side are below 2**`exponent`; NaN is not. `words` of 4 bytes each. */
static int
words_below(const char *at, npy_intp bytes, v128_t mask, v128_t limit, npy_uint32 first, npy_uint32 second)
{
    const v128_t zero = wasm_i32x4_const_splat(0);
    v128_t most = zero, most_too = zero;
    npy_intp done = 0;
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
static int
all_finite_parts(int type, const char *at, npy_intp stride, npy_intp n, int large)
{
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
                return words_below(at, n * 4, wasm_i32x4_const_splat(0x7fffffff), wasm_i32x4_splat((int)limit), limit,
                        limit);
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

static int
all_finite(int type, const char *at, npy_intp stride, npy_intp n, int large)
{
    if (type < 0) return 1;
    int part = part_of(type);
    if (part == type) return all_finite_parts(type, at, stride, n, large);
    npy_intp size = (npy_intp)size_of(part);
    if (stride == 2 * size) return all_finite_parts(part, at, size, 2 * n, large);
    return all_finite_parts(part, at, stride, n, large) && all_finite_parts(part, at + size, stride, n, large);
}

/* ---- Complex arithmetic, operation by operation ------------------------------------------------------------------ */

static int raised; /* what the functions below have found; a variable of one thread, because there is one */

#define CHECKED(NAME, T, LEAST)                                                                                        \
    static void NAME##_judge(T result, T a, T b)                                                                       \
    {                                                                                                                  \
        if (isnan(result)) {                                                                                           \
            if (!isnan(a) && !isnan(b)) raised |= FE_INVALID;                                                          \
        }                                                                                                              \
        else if (isinf(result) && isfinite(a) && isfinite(b)) raised |= FE_OVERFLOW;                                   \
    }                                                                                                                  \
    static T NAME##_add(T a, T b)                                                                                      \
    {                                                                                                                  \
        T result = a + b;                                                                                              \
        NAME##_judge(result, a, b);                                                                                    \
        return result;                                                                                                 \
    }                                                                                                                  \
    static T NAME##_subtract(T a, T b)                                                                                 \
    {                                                                                                                  \
        T result = a - b;                                                                                              \
        NAME##_judge(result, a, b);                                                                                    \
        return result;                                                                                                 \
    }                                                                                                                  \
    static T NAME##_multiply(T a, T b)                                                                                 \
    {                                                                                                                  \
        T result = a * b;                                                                                              \
        NAME##_judge(result, a, b);                                                                                    \
        if (watched && result > -LEAST && result < LEAST &&                                            \
                (long double)result != (long double)a * (long double)b) {                                              \
            raised |= FE_UNDERFLOW;                                                                                    \
        }                                                                                                              \
        return result;                                                                                                 \
    }                                                                                                                  \
    static T NAME##_divide(T a, T b)                                                                                   \
    {                                                                                                                  \
        T result = a / b;                                                                                              \
        if (isinf(result) && b == 0) raised |= isinf(a) ? 0 : FE_DIVBYZERO;                                            \
        else NAME##_judge(result, a, b);                                                                               \
        if (watched && result > -LEAST && result < LEAST && !isinf(b) &&                               \
                (long double)result * (long double)b != (long double)a) {                                              \
            raised |= FE_UNDERFLOW;                                                                                    \
        }                                                                                                              \
        return result;                                                                                                 \
    }                                                                                                                  \
    static void NAME##_complex_divide(T ar, T ai, T br, T bi)                                                          \
    {                                                                                                                  \
        if (isnan(br) || isnan(bi)) raised |= FE_INVALID; /* their sizes are compared */                               \
        int wide = br < 0 ? (bi < 0 ? br <= bi : -br >= bi) : (bi < 0 ? br >= -bi : br >= bi);                         \
        if (wide && br == 0 && bi == 0) {                                                                              \
            T zero = br < 0 ? -br : br;                                                                                \
            NAME##_divide(ar, zero);                                                                                   \
            NAME##_divide(ai, zero);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        if (wide) {                                                                                                    \
            T ratio = NAME##_divide(bi, br);                                                                           \
            T scale = NAME##_divide(1, NAME##_add(br, NAME##_multiply(bi, ratio)));                                    \
            NAME##_multiply(NAME##_add(ar, NAME##_multiply(ai, ratio)), scale);                                        \
            NAME##_multiply(NAME##_subtract(ai, NAME##_multiply(ar, ratio)), scale);                                   \
        }                                                                                                              \
        else {                                                                                                         \
            T ratio = NAME##_divide(br, bi);                                                                           \
            T scale = NAME##_divide(1, NAME##_add(bi, NAME##_multiply(br, ratio)));                                    \
            NAME##_multiply(NAME##_add(NAME##_multiply(ar, ratio), ai), scale);                                        \
            NAME##_multiply(NAME##_subtract(NAME##_multiply(ai, ratio), ar), scale);                                   \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAME##_complex_reciprocal(T r, T i)                                                                    \
    {                                                                                                                  \
        T wide = r < 0 ? -r : r, high = i < 0 ? -i : i;                                                                \
        if (isnan(r) || isnan(i)) raised |= FE_INVALID;                                                                \
        if (high <= wide) {                                                                                            \
            T ratio = NAME##_divide(i, r), below = NAME##_add(r, NAME##_multiply(i, ratio));                           \
            NAME##_divide(1, below);                                                                                   \
            NAME##_divide(-ratio, below);                                                                              \
        }                                                                                                              \
        else {                                                                                                         \
            T ratio = NAME##_divide(r, i), below = NAME##_add(NAME##_multiply(r, ratio), i);                           \
            NAME##_divide(ratio, below);                                                                               \
            NAME##_divide(-1, below);                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAME##_complex(int rule, const T *a, const T *b)                                                       \
    {                                                                                                                  \
        switch (rule) {                                                                                                \
            case FLOAT_MULTIPLY:                                                                                       \
                NAME##_subtract(NAME##_multiply(a[0], b[0]), NAME##_multiply(a[1], b[1]));                             \
                NAME##_add(NAME##_multiply(a[0], b[1]), NAME##_multiply(a[1], b[0]));                                  \
                break;                                                                                                 \
            case FLOAT_SQUARE:                                                                                         \
                NAME##_subtract(NAME##_multiply(a[0], a[0]), NAME##_multiply(a[1], a[1]));                             \
                NAME##_add(NAME##_multiply(a[0], a[1]), NAME##_multiply(a[1], a[0]));                                  \
                break;                                                                                                 \
            case FLOAT_RECIPROCAL: NAME##_complex_reciprocal(a[0], a[1]); break;                                       \
            default: NAME##_complex_divide(a[0], a[1], b[0], b[1]);                                                    \
        }                                                                                                              \
    }

CHECKED(single, npy_float, FLT_MIN)
CHECKED(whole, npy_double, DBL_MIN)
CHECKED(extended, npy_longdouble, LDBL_MIN)

static int
complex_arithmetic(int rule, int type, const char *a, const char *b)
{
    raised = 0;
    switch (type) {
        case NPY_CFLOAT: single_complex(rule, (const npy_float *)a, (const npy_float *)b); break;
        case NPY_CDOUBLE: whole_complex(rule, (const npy_double *)a, (const npy_double *)b); break;
        default: extended_complex(rule, (const npy_longdouble *)a, (const npy_longdouble *)b);
    }
    return raised;
}

static int
is_complex_arithmetic(int rule)
{
    return rule == FLOAT_MULTIPLY || rule == FLOAT_SQUARE || rule == FLOAT_RECIPROCAL || rule == FLOAT_DIVIDE;
}

/* ---- The rules --------------------------------------------------------------------------------------------------- */

static int
underflow_of(int rule, int operation, int type, const char *const *operands, const int *classes, int nin,
             const char *out, int result)
{
    if (!(result & (IS_ZERO | IS_SUBNORMAL)) || type == NPY_HALF) return 0; /* half's conversions raise it */
    int operand = 0;
    for (int index = 0; index < nin; index++) operand |= classes[index];
    if (operand & (IS_NAN | IS_INF)) return 0;
    switch (rule) {
        case UNDERFLOW_EXACT: {
            if (is_complex(type)) return 0; /* complex_arithmetic has judged it */
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

static int
judge(const cloche_float_plan *plan, const char *const *operands, const char *const *results)
{
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
        return complex_arithmetic(rule, type, operands[0], operands[nin - 1]);
    }
    for (int index = 0; index < plan->nout; index++) {
        if (plan->type[nin + index] < 0) continue;
        int result = class_of(plan->type[nin + index], results[index]);
        if (result & IS_NAN) {
            if (rule == FLOAT_SPACING) status |= type == NPY_HALF ? FE_INVALID : 0;
            else if (!(operand & IS_NAN)) status |= FE_INVALID;
            else if (rule == FLOAT_LOGADDEXP && !(classes[0] & classes[1] & IS_NAN)) status |= FE_INVALID;
            else if (rule == FLOAT_EXP && is_complex(type)) {
                int part = part_of(type);
                int imaginary = class_of_part(part, operands[0] + size_of(part));
                if (!(class_of_part(part, operands[0]) & IS_NAN) && (imaginary & IS_NAN)) status |= FE_INVALID;
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
                    case FLOAT_LOG1P:
                        pole = !is_complex(type) || value_of(part_of(type), operands[0]) == -1;
                        break;
                    case FLOAT_ARCTAN: pole = is_complex(type); break;
                    default: break;
                }
                status |= (pole ? FE_DIVBYZERO : FE_OVERFLOW) | more;
            }
        }
        if (watched) {
            status |= underflow_of(plan->underflow, rule, plan->type[nin + index], operands, classes, nin,
                                   results[index], result);
        }
    }
    return status;
}

/* The exceptions that a rule can find at all, so that looking for more can end. */
static int
most_of(const cloche_float_plan *plan)
{
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
    return all | (watched && plan->underflow ? FE_UNDERFLOW : 0);
}

/* ---- A first look at many results --------------------------------------------------------------------------------- */

enum { NEW_NAN = 1, NEW_INF = 2 };

#define LOOK(NAME, WORD, ABSOLUTE, INFINITY_BITS)                                                                      \
    static int NAME##_look(const char *a, npy_intp sa, const char *b, npy_intp sb, const char *out, npy_intp so,       \
                           npy_intp n)                                                                                 \
    {                                                                                                                  \
        WORD nan = 0, inf = 0;                                                                                         \
        if (sa == sizeof(WORD) && so == sizeof(WORD) && (sb == sizeof(WORD) || b == a)) {                              \
            const WORD *restrict x = (const WORD *)a, *restrict y = (const WORD *)b, *restrict z = (const WORD *)out;  \
            for (npy_intp k = 0; k < n; k++) {                                                                         \
                WORD u = x[k] & ABSOLUTE, v = y[k] & ABSOLUTE, r = z[k] & ABSOLUTE;                                    \
                WORD most = u > v ? u : v;                                                                             \
                nan |= (r > INFINITY_BITS) & (most <= INFINITY_BITS);                                                  \
                inf |= (r == INFINITY_BITS) & (most < INFINITY_BITS);                                                  \
            }                                                                                                          \
        }                                                                                                              \
        else {                                                                                                         \
            for (npy_intp k = 0; k < n; k++, a += sa, b += sb, out += so) {                                            \
                WORD u = *(const WORD *)a & ABSOLUTE, v = *(const WORD *)b & ABSOLUTE, r = *(const WORD *)out & ABSOLUTE; \
                WORD most = u > v ? u : v;                                                                             \
                nan |= (r > INFINITY_BITS) & (most <= INFINITY_BITS);                                                  \
                inf |= (r == INFINITY_BITS) & (most < INFINITY_BITS);                                                  \
            }                                                                                                          \
        }                                                                                                              \
        return (nan ? NEW_NAN : 0) | (inf ? NEW_INF : 0);                                                              \
    }

LOOK(float, int32_t, INT32_MAX, 0x7f800000)
LOOK(double, int64_t, INT64_MAX, INT64_C(0x7ff0000000000000))

/* What new NaN and infinities there are, for rules that are about nothing else; -1 if they have to be looked up. */
static int
look(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n)
{
    static const double finite = 1;
    int type = plan->type[0], rule = plan->rule;
    if ((type != NPY_DOUBLE && type != NPY_FLOAT) || plan->nout != 1 || plan->nin > 2 || watched) return -1;
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
static int
needs_no_values(const cloche_float_plan *plan, int index)
{
    if (watched) return 0;
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
static void
judge_all(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n)
{
    int most = most_of(plan), status = fetestexcept(FE_ALL_EXCEPT), before = status;
    if ((status & most) == most) return;
    int found = look(plan, at, strides, n);
    if (found == 0) return;
    if (found > 0 && (found & NEW_NAN)) status |= FE_INVALID;
    if (found > 0 && (needs_no_values(plan, 1) || !(found & NEW_INF))) {
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
static int
by_parts(const cloche_float_plan *plan)
{
    return plan->rule == FLOAT_PLAIN && plan->sums && is_complex(plan->type[plan->nin]);
}

static void
judge_chunk(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n)
{
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
static int
unsuspicious(const cloche_float_plan *plan, const char *const *at, const npy_intp *strides, npy_intp n)
{
    if (watched && plan->underflow) return 0;
    int hidden = is_complex(plan->type[plan->nin]) && (plan->rule == FLOAT_DIVIDE || plan->rule == FLOAT_RECIPROCAL);
    hidden |= plan->rule == FLOAT_LOGADDEXP;
    if (hidden || plan->rule == FLOAT_COMPARE) { /* what happened need not show in the results */
        for (int index = 0; index < plan->nin; index++) {
            if (!all_finite(plan->type[index], at[index], strides[index], n, hidden)) return 0;
        }
    }
    for (int index = plan->nin; index < plan->nin + plan->nout; index++) {
        if (!all_finite(plan->type[index], at[index], strides[index], n, 0)) return 0;
    }
    return 1;
}

/* ---- Loops ------------------------------------------------------------------------------------------------------- */

/* Whether writing the results destroys an operand. */
static int
overwritten(const char *in, npy_intp in_stride, const char *out, npy_intp out_stride, npy_intp n, size_t size)
{
    if (in == out) return 1;
    if (in_stride == out_stride && in + in_stride == out) return 0; /* accumulate: results are the next operands */
    npy_intp in_span = in_stride * (n - 1), out_span = out_stride * (n - 1);
    const char *in_low = in_span < 0 ? in + in_span : in, *in_high = (in_span < 0 ? in : in + in_span) + size;
    const char *out_low = out_span < 0 ? out + out_span : out, *out_high = (out_span < 0 ? out : out + out_span) + size;
    return in_low < out_high && out_low < in_high;
}

/* Run a chunk whose operands `lost` (bits by index) are overwritten: a function of its own, because of its frame. */
static void __attribute__((noinline))
run_copied(const cloche_float_plan *plan, cloche_float_loop *loop, char *const *data, const npy_intp *strides,
           npy_intp n, void *user_data, const char **at, int lost)
{
    char copies[2][COPY_BYTES] __attribute__((aligned(16)));
    npy_intp steps[CLOCHE_FLOAT_OPERANDS];
    memcpy(steps, strides, (size_t)(plan->nin + plan->nout) * sizeof(*steps));
    for (int index = 0; index < 2; index++) {
        if (!(lost & 1 << index)) continue;
        size_t size = size_of(plan->type[index]);
        for (npy_intp k = 0; k < n; k++) memcpy(copies[index] + (size_t)k * size, data[index] + k * strides[index], size);
        at[index] = copies[index];
        steps[index] = (npy_intp)size;
    }
    loop((char **)data, &n, strides, user_data);
    if (!unsuspicious(plan, at, steps, n)) judge_chunk(plan, at, steps, n);
}

static void
run_chunk(const cloche_float_plan *plan, cloche_float_loop *loop, char *const *data, const npy_intp *strides,
          npy_intp n, void *user_data)
{
    const char *at[CLOCHE_FLOAT_OPERANDS];
    int total = plan->nin + plan->nout, lost = 0;
    for (int index = 0; index < total; index++) at[index] = data[index];
    for (int index = 0; index < plan->nin && index < 2; index++) {
        int type = plan->type[index], over = 0;
        if (type < 0) continue;
        for (int out = plan->nin; out < total; out++) {
            over |= overwritten(data[index], strides[index], data[out], strides[out], n, size_of(type));
        }
        if (!over) continue;
        if (needs_no_values(plan, index) && all_finite(type, data[index], strides[index], n, 0)) at[index] = NULL;
        else lost |= 1 << index;
    }
    if (lost) {
        run_copied(plan, loop, data, strides, n, user_data, at, lost);
        return;
    }
    loop((char **)data, &n, strides, user_data);
    if (!unsuspicious(plan, at, strides, n)) judge_chunk(plan, at, strides, n);
}

/* A sum: judged by what was added, because numpy adds in an order of its own. */
static void
judge_sum(int type, const char *before, const char *data, npy_intp stride, npy_intp n, const char *out)
{
    int first = class_of_part(type, before), result = class_of_part(type, out);
    if (!(result & (IS_NAN | IS_INF)) || (first & IS_NAN)) return;
    int up = 0, down = 0, nan = 0;
    for (npy_intp k = -1; k < n; k++) {
        const char *at = k < 0 ? before : data + k * stride;
        int found = class_of_part(type, at);
        nan |= found & IS_NAN;
        if (found & IS_INF) *(value_of(type, at) > 0 ? &up : &down) = 1;
    }
    int status = 0;
    if (!nan && !up && !down) status = FE_OVERFLOW;
    if ((result & IS_NAN) && (!nan || (up && down))) status |= FE_INVALID;
    feraiseexcept(status);
}

static void
run_reduction(const cloche_float_plan *plan, cloche_float_loop *loop, char *const *data, const npy_intp *strides,
              npy_intp n, void *user_data)
{
    char sum[sizeof(npy_clongdouble)] __attribute__((aligned(16)));
    char next[sizeof(npy_clongdouble)] __attribute__((aligned(16)));
    int type = plan->type[2];
    size_t size = size_of(type);
    memcpy(sum, data[0], size);
    const char *operand = data[1];
    loop((char **)data, &n, strides, user_data);
    const char *at[3] = {sum, operand, data[2]};
    if (plan->rule == FLOAT_PLAIN && plan->sums) {
        if (all_finite(type, at[2], 0, 1, 0)) return;
        int part = part_of(type);
        size_t step = size_of(part);
        for (size_t offset = 0; offset < size; offset += step) {
            judge_sum(part, sum + offset, operand + offset, strides[1], n, at[2] + offset);
        }
        return;
    }
    if (plan->rule != FLOAT_POWER && unsuspicious(plan, (const char *[]){at[2], at[2], at[2]}, (npy_intp[]){0, 0, 0}, 1)) {
        return;
    }
    /* do it again, one by one */
    const npy_intp one = 1, still[3] = {0, 0, 0};
    int most = most_of(plan);
    for (; n > 0 && (fetestexcept(FE_ALL_EXCEPT) & most) != most; n--, operand += strides[1]) {
        char *step[3] = {sum, (char *)operand, next};
        if ((class_of(type, sum) & IS_NAN) && !is_complex(type)) return;
        loop(step, &one, still, user_data);
        if (!unsuspicious(plan, (const char *const *)step, still, 1)) judge_chunk(plan, (const char *const *)step, still, 1);
        memcpy(sum, next, size);
    }
}

/* NaN, infinities: what an n-dimensional operand has of them. */
static int
classes_of(int type, const char *data, int ndim, const npy_intp *shape, const npy_intp *strides)
{
    if (type < 0) return 0;
    if (ndim == 0) return class_of(type, data) & (IS_NAN | IS_INF);
    int found = 0;
    if (ndim == 1) {
        if (all_finite(type, data, strides[0], shape[0], 0)) return 0;
        for (npy_intp k = 0; k < shape[0]; k++) found |= class_of(type, data + k * strides[0]);
    }
    else {
        for (npy_intp k = 0; k < shape[0]; k++) {
            found |= classes_of(type, data + k * strides[0], ndim - 1, shape + 1, strides + 1);
        }
    }
    return found & (IS_NAN | IS_INF);
}

static int
judge_whole(int operands, int results)
{
    int status = 0;
    if ((results & IS_NAN) && !(operands & IS_NAN)) status |= FE_INVALID;
    if ((results & IS_INF) && !operands) status |= FE_OVERFLOW;
    return status;
}

static void
judge_core(const cloche_float_plan *plan, const cloche_float_core *core, char *const *data, const npy_intp *dimensions,
           const npy_intp *strides)
{
    int total = plan->nin + plan->nout, status = 0;
    for (npy_intp item = 0; item < dimensions[0]; item++) {
        int found[2] = {0, 0};
        const npy_intp *steps[CLOCHE_FLOAT_OPERANDS], *next = strides + total;
        for (int index = 0; index < total; index++) steps[index] = next, next += core->ndim[index];
        for (int index = total - 1; index >= 0; index--) {
            npy_intp shape[NPY_MAXDIMS];
            if (index < plan->nin && !found[1]) break; /* all results are finite */
            for (int axis = 0; axis < core->ndim[index]; axis++) {
                shape[axis] = dimensions[1 + core->axis[core->offset[index] + axis]];
            }
            found[index >= plan->nin] |= classes_of(
                    plan->type[index], data[index] + item * strides[index], core->ndim[index], shape, steps[index]);
        }
        status |= judge_whole(plan->rule == FLOAT_DETERMINANT ? found[0] & ~IS_NAN : found[0], found[1]);
    }
    feraiseexcept(status);
}

/* Run an inner loop of a ufunc, and raise the floating-point exceptions that the processor would have. */
void
cloche_float_run(const cloche_float_plan *plan, const cloche_float_core *core, cloche_float_loop *loop,
                 char *const *data, const npy_intp *dimensions, const npy_intp *strides, void *user_data)
{
    npy_intp n = dimensions[0];
    watch(n);
    if (plan->rule >= FLOAT_CORE) {
        loop((char **)data, dimensions, strides, user_data);
        judge_core(plan, core, data, dimensions, strides);
        return;
    }
    if (plan->nin == 2 && plan->nout == 1 && n > 1 && data[0] == data[2] && strides[0] == 0 && strides[2] == 0) {
        run_reduction(plan, loop, data, strides, n, user_data);
        return;
    }
    if (n <= CHUNK / 4) {
        if (n > 0) run_chunk(plan, loop, data, strides, n, user_data);
        return;
    }
    int total = plan->nin + plan->nout;
    size_t largest = 1;
    for (int index = 0; index < plan->nin; index++) {
        size_t size = size_of(plan->type[index]);
        if (size > largest) largest = size;
    }
    npy_intp most = largest <= 8 ? CHUNK : (npy_intp)(COPY_BYTES / largest);
    char *now[CLOCHE_FLOAT_OPERANDS];
    memcpy(now, data, (size_t)total * sizeof(*now));
    while (n > 0) {
        npy_intp count = n < most ? n : most;
        run_chunk(plan, loop, now, strides, count, user_data);
        for (int index = 0; index < total; index++) now[index] += count * strides[index];
        n -= count;
    }
}

static char *
indexed(char *const *data, const npy_intp *strides, npy_intp k)
{
    npy_intp index = *(const npy_intp *)(data[1] + k * strides[1]);
    return data[0] + (index < 0 ? index + strides[3] : index) * strides[0];
}

/* Run the loop of `ufunc.at`: data[0] at the indices data[1], with data[2]. Elements may come several times, so if the
 * results tell that something happened, the loop is undone and runs again one by one. */
int
cloche_float_run_indexed(const cloche_float_plan *plan, cloche_float_indexed_loop *loop, void *context,
                         char *const *data, npy_intp n, const npy_intp *strides)
{
    enum { MOST = 256 };
    char before[MOST * sizeof(npy_clongdouble)] __attribute__((aligned(16)));
    int type = plan->type[0];
    size_t size = size_of(type);
    char *now[3] = {data[0], data[1], data[2]};
    if (plan->rule == FLOAT_QUIET || size == 0) return loop(context, data, &n, strides, NULL);
    watch(1);
    while (n > 0) {
        npy_intp count = n < MOST ? n : MOST;
        int finite = !watched && plan->rule != FLOAT_POWER;
        for (npy_intp k = 0; k < count; k++) memcpy(before + (size_t)k * size, indexed(now, strides, k), size);
        if (loop(context, now, &count, strides, NULL) < 0) return -1;
        for (npy_intp k = 0; k < count; k++) finite &= !(class_of(type, indexed(now, strides, k)) & (IS_NAN | IS_INF));
        if (!finite) {
            for (npy_intp k = count - 1; k >= 0; k--) memcpy(indexed(now, strides, k), before + (size_t)k * size, size);
            for (npy_intp k = 0; k < count; k++) {
                const npy_intp one = 1, still[3] = {0, 0, 0};
                char *step[3] = {now[0], now[1] + k * strides[1], plan->nin == 2 ? now[2] + k * strides[2] : NULL};
                const char *at[3] = {before, plan->nin == 2 ? step[2] : indexed(now, strides, k), indexed(now, strides, k)};
                memcpy(before, at[2], size);
                if (loop(context, step, &one, strides, NULL) < 0) return -1;
                judge_chunk(plan, at, still, 1);
            }
        }
        now[1] += count * strides[1];
        if (plan->nin == 2) now[2] += count * strides[2];
        n -= count;
    }
    return 0;
}

/* ---- Scalars, products, conversions ------------------------------------------------------------------------------- */

/* Raise what an operation of two scalars raises. */
void
cloche_float_scalar(cloche_float_rule rule, cloche_underflow_rule underflow, int type, const void *first,
                    const void *second, const void *out)
{
    static const npy_intp still[3] = {0, 0, 0};
    const char *at[3] = {first, second, out};
    cloche_float_plan plan = {
        .rule = (npy_uint8)rule, .underflow = (npy_uint8)underflow, .nin = 2, .nout = 1,
        .type = {(npy_int8)type, (npy_int8)type, (npy_int8)type}, .sums = underflow == UNDERFLOW_NEVER,
    };
    watch(1);
    if (!unsuspicious(&plan, at, still, 1)) judge_chunk(&plan, at, still, 1);
}

static int
classes_of_view(int type, const cloche_float_view *view)
{
    return classes_of(type, view->data, view->ndim, view->shape, view->strides);
}

/* Raise what a product of arrays raises. */
void
cloche_float_product(int type, const cloche_float_view *first, const cloche_float_view *second,
                     const cloche_float_view *out)
{
    if (size_of(type) == 0) return;
    int results = classes_of_view(type, out);
    if (results) feraiseexcept(judge_whole(classes_of_view(type, first) | classes_of_view(type, second), results));
}

/* Raise invalid if a floating-point number does not fit the integer that x86-64 converts it to. */
void
cloche_float_to_integer(int from, int to, const char *data, npy_intp stride, npy_intp n)
{
    int part = part_of(from), bits = 0, from_zero = 0;
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
    double low = bits >= 63 ? -0x1p63 : bits == 15 ? -0x1p15 : -0x1p31; /* the least that fits; with its fraction cut off */
    double high = bits == 15 ? 0x1p15 : bits == 31 ? 0x1p31 : bits == 64 ? 0x1p64 : 0x1p63;
    if (bits == 32) {
        low = -0x1p63;
        if (part != NPY_LONGDOUBLE && stride == (npy_intp)size_of(from)) vectors = n & ~(npy_intp)3;
    }
    from_zero = low > -0x1p53; /* -2147483648.5 is cut off to what fits */
    int fits = 1;
    if (vectors == 0 && part == NPY_DOUBLE) {
        double under = from_zero ? low - 1 : -0x1.0000000000001p63;
        for (npy_intp k = 0; k < n; k++) {
            double number = *(const npy_double *)(data + k * stride);
            fits &= (number > under) & (number < high);
        }
    }
    else if (vectors == 0 && part == NPY_FLOAT) {
        float under = bits == 15 || bits == 31 ? (float)low : -0x1p63f, over = (float)high;
        for (npy_intp k = 0; k < n; k++) {
            float number = *(const npy_float *)(data + k * stride);
            fits &= (number >= under) & (number < over);
        }
    }
    else {
        for (npy_intp k = 0; k < n; k++) {
            long double number = value_of(part, data + k * stride);
            if (k < vectors) fits &= number > -0x1p31L - 1 && number < 0x1p32L;
            else fits &= number < high && (from_zero ? number > (long double)low - 1 : number >= low);
        }
    }
    if (!fits) feraiseexcept(FE_INVALID);
}

/* Raise what a conversion to a narrower floating-point type raises. */
void
cloche_float_narrowed(int from, int to, const char *data, npy_intp stride, const char *out, npy_intp out_stride,
                      npy_intp n)
{
    int parts = is_complex(from) && is_complex(to) ? 2 : 1;
    from = part_of(from), to = part_of(to);
    size_t size = size_of(from), out_size = size_of(to);
    for (int part = 0; part < parts; part++, data += size, out += out_size) {
        if (!cloche_float_underflow_states && all_finite_parts(to, out, out_stride, n, 0)) continue;
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

/* ---- Plans ------------------------------------------------------------------------------------------------------- */

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

/* The plan of a ufunc's loop for numbers of `types`; FLOAT_QUIET for a loop that cannot raise anything by itself. */
void
cloche_float_plan_for(cloche_float_plan *plan, const char *ufunc, int generalised, int nin, int nout, const int *types)
{
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
        }
        else if (inexact && inexact_operands) {
            plan->rule = RULES[row].rule;
            plan->underflow = RULES[row].underflow;
            plan->sums = strcmp(ufunc, "add") == 0 || strcmp(ufunc, "subtract") == 0;
        }
        return;
    }
}
