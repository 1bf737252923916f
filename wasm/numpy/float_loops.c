/* How inner loops run: in chunks, with what is needed of operands kept, and judged. float_rules.c says why. */
#define NPY_NO_DEPRECATED_API NPY_API_VERSION
#include <Python.h>

#include <fenv.h>

#include "float_rules.h"

enum { COPY_BYTES = CHUNK * 8 };

/* Whether writing the results destroys an operand. */
static int overwritten(const char *in, npy_intp in_stride, const char *out, npy_intp out_stride, npy_intp n, size_t size) {
    if (in == out) return 1;
    if (in_stride == out_stride && in + in_stride == out) return 0; /* accumulate: results are the next operands */
    npy_intp in_span = in_stride * (n - 1), out_span = out_stride * (n - 1);
    const char *in_low = in_span < 0 ? in + in_span : in, *in_high = (in_span < 0 ? in : in + in_span) + size;
    const char *out_low = out_span < 0 ? out + out_span : out, *out_high = (out_span < 0 ? out : out + out_span) + size;
    return in_low < out_high && out_low < in_high;
}

/* Run a chunk whose operands `lost` (bits by index) are overwritten: a function of its own, because of its frame. */
static void __attribute__((noinline)) run_copied(const cloche_float_plan *plan, cloche_float_loop *loop, char *const *data,
                                                 const npy_intp *strides, npy_intp n, void *user_data, const char **at, int lost) {
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
    if (!cloche_float_unsuspicious(plan, at, steps, n)) cloche_float_judge(plan, at, steps, n);
}

static void run_chunk(const cloche_float_plan *plan, cloche_float_loop *loop, char *const *data, const npy_intp *strides,
                      npy_intp n, void *user_data) {
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
        if (cloche_float_needs_no_values(plan, index) && cloche_float_all_finite(type, data[index], strides[index], n, 0))
            at[index] = NULL;
        else lost |= 1 << index;
    }
    if (lost) {
        run_copied(plan, loop, data, strides, n, user_data, at, lost);
        return;
    }
    loop((char **)data, &n, strides, user_data);
    if (!cloche_float_unsuspicious(plan, at, strides, n)) cloche_float_judge(plan, at, strides, n);
}

/* A sum: judged by what was added, because numpy adds in an order of its own. */
static void judge_sum(int type, const char *before, const char *data, npy_intp stride, npy_intp n, const char *out) {
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

static void run_reduction(const cloche_float_plan *plan, cloche_float_loop *loop, char *const *data, const npy_intp *strides,
                          npy_intp n, void *user_data) {
    char sum[sizeof(npy_clongdouble)] __attribute__((aligned(16)));
    char next[sizeof(npy_clongdouble)] __attribute__((aligned(16)));
    int type = plan->type[2];
    size_t size = size_of(type);
    memcpy(sum, data[0], size);
    const char *operand = data[1];
    loop((char **)data, &n, strides, user_data);
    const char *at[3] = {sum, operand, data[2]};
    if (plan->rule == FLOAT_PLAIN && plan->sums == KERNEL_ADD) {
        if (cloche_float_all_finite(type, at[2], 0, 1, 0)) return;
        int part = part_of(type);
        size_t step = size_of(part);
        for (size_t offset = 0; offset < size; offset += step) {
            judge_sum(part, sum + offset, operand + offset, strides[1], n, at[2] + offset);
        }
        return;
    }
    if (plan->rule != FLOAT_POWER &&
        cloche_float_unsuspicious(plan, (const char *[]){at[2], at[2], at[2]}, (npy_intp[]){0, 0, 0}, 1)) {
        return;
    }
    /* do it again, one by one */
    const npy_intp one = 1, still[3] = {0, 0, 0};
    int most = cloche_float_most(plan);
    for (; n > 0 && (fetestexcept(FE_ALL_EXCEPT) & most) != most; n--, operand += strides[1]) {
        char *step[3] = {sum, (char *)operand, next};
        if ((class_of(type, sum) & IS_NAN) && !is_complex(type)) return;
        loop(step, &one, still, user_data);
        if (!cloche_float_unsuspicious(plan, (const char *const *)step, still, 1))
            cloche_float_judge(plan, (const char *const *)step, still, 1);
        memcpy(sum, next, size);
    }
}

int cloche_float_judge_whole(int operands, int results) {
    int status = 0;
    if ((results & IS_NAN) && !(operands & IS_NAN)) status |= FE_INVALID;
    if ((results & IS_INF) && !operands) status |= FE_OVERFLOW;
    return status;
}

static void judge_core(const cloche_float_plan *plan, const cloche_float_core *core, char *const *data, const npy_intp *dimensions,
                       const npy_intp *strides) {
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
            found[index >= plan->nin] |= cloche_float_classes(plan->type[index], data[index] + item * strides[index],
                                                              core->ndim[index], shape, steps[index]);
        }
        if (plan->rule == FLOAT_DETERMINANT) {
            found[0] &= ~IS_NAN;
            if (plan->nout == 2) found[1] &= ~IS_INF; /* the logarithm of zero is given, not computed */
        }
        status |= cloche_float_judge_whole(found[0], found[1]);
    }
    feraiseexcept(status);
}

/* Run an inner loop of a ufunc, and raise the floating-point exceptions that the processor would have. */
void cloche_float_run(const cloche_float_plan *plan, const cloche_float_core *core, cloche_float_loop *loop, char *const *data,
                      const npy_intp *dimensions, const npy_intp *strides, void *user_data) {
    npy_intp n = dimensions[0];
    cloche_float_watch(n);
    if (plan->rule >= FLOAT_CORE) {
        char *moved[CLOCHE_FLOAT_OPERANDS]; /* matmul counts its arguments up */
        memcpy(moved, data, (size_t)(plan->nin + plan->nout) * sizeof(*moved));
        loop(moved, dimensions, strides, user_data);
        judge_core(plan, core, data, dimensions, strides);
        return;
    }
    if (plan->nin == 2 && plan->nout == 1 && n > 1 && data[0] == data[2] && strides[0] == 0 && strides[2] == 0) {
        run_reduction(plan, loop, data, strides, n, user_data);
        return;
    }
    if (n <= CHUNK / 4) {
        if (n <= 0 || (plan->sums && cloche_float_kernel(plan, data, strides, n))) return;
        run_chunk(plan, loop, data, strides, n, user_data);
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
        if (!plan->sums || !cloche_float_kernel(plan, now, strides, count)) {
            run_chunk(plan, loop, now, strides, count, user_data);
        }
        for (int index = 0; index < total; index++) now[index] += count * strides[index];
        n -= count;
    }
}

static char *indexed(char *const *data, const npy_intp *strides, npy_intp k) {
    npy_intp index = *(const npy_intp *)(data[1] + k * strides[1]);
    return data[0] + (index < 0 ? index + strides[3] : index) * strides[0];
}

/* Run the loop of `ufunc.at`: data[0] at the indices data[1], with data[2]. Elements may come several times, so if the
 * results tell that something happened, the loop is undone and runs again one by one. */
int cloche_float_run_indexed(const cloche_float_plan *plan, cloche_float_indexed_loop *loop, void *context, char *const *data,
                             npy_intp n, const npy_intp *strides) {
    enum { MOST = 256 };
    char before[MOST * sizeof(npy_clongdouble)] __attribute__((aligned(16)));
    int type = plan->type[0];
    size_t size = size_of(type);
    char *now[3] = {data[0], data[1], data[2]};
    if (plan->rule == FLOAT_QUIET || size == 0) return loop(context, data, &n, strides, NULL);
    cloche_float_watch(1);
    while (n > 0) {
        npy_intp count = n < MOST ? n : MOST;
        int finite = !cloche_float_watched && plan->rule != FLOAT_POWER;
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
                cloche_float_judge(plan, at, still, 1);
            }
        }
        now[1] += count * strides[1];
        if (plan->nin == 2) now[2] += count * strides[2];
        n -= count;
    }
    return 0;
}
