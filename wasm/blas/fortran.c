/* Fortran's BLAS, as far as LAPACK spends its time there; columns are contiguous. The rest is numpy's own translation. */
#include "core.h"

static int is(const char *letter, char wanted) { return (*letter & ~32) == wanted; }

static ptrdiff_t first(int n, int step) { return step < 0 ? (ptrdiff_t)(1 - n) * step : 0; }

#define MATRIX(p, trans, a, lda) \
    (is(trans, 'N') ? (p##matrix){a, 1, lda, 0} : (p##matrix){a, lda, 1, is(trans, 'C')})

/* X A from the right is A' X' from the left; transposing a triangle swaps upper and lower. */
#define TRIANGULAR(p, T, name, does)                                                                                 \
    int p##name##_(const char *side, const char *uplo, const char *trans, const char *diag, const int *m,            \
                   const int *n, const T *alpha, const T *a, const int *lda, T *b, const int *ldb)                   \
    {                                                                                                                \
        const int right = is(side, 'R'), upper = is(uplo, 'U') != (is(trans, 'N') ? 0 : 1) != right;                 \
        p##matrix matrix = MATRIX(p, trans, a, *lda);                                                                \
        if (right)                                                                                                   \
            matrix = (p##matrix){a, matrix.columns, matrix.rows, matrix.conjugate};                                  \
        p##does(upper, is(diag, 'U'), right ? *n : *m, right ? *m : *n, *alpha, matrix, b, right ? *ldb : 1,         \
                right ? 1 : *ldb);                                                                                   \
        return 0;                                                                                                    \
    }

#define DEFINE(p, T)                                                                                                 \
    int p##gemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k, const T *alpha,   \
                 const T *a, const int *lda, const T *b, const int *ldb, const T *beta, T *c, const int *ldc)        \
    {                                                                                                                \
        p##multiply(*m, *n, *k, *alpha, MATRIX(p, transa, a, *lda), MATRIX(p, transb, b, *ldb), *beta, c, 1, *ldc);  \
        return 0;                                                                                                    \
    }                                                                                                                \
                                                                                                                     \
    int p##gemv_(const char *trans, const int *m, const int *n, const T *alpha, const T *a, const int *lda,          \
                 const T *x, const int *incx, const T *beta, T *y, const int *incy)                                  \
    {                                                                                                                \
        const int out = is(trans, 'N') ? *m : *n, in = is(trans, 'N') ? *n : *m;                                     \
        p##apply(out, in, *alpha, MATRIX(p, trans, a, *lda), x + first(in, *incx), *incx, *beta,                     \
                 y + first(out, *incy), *incy);                                                                      \
        return 0;                                                                                                    \
    }                                                                                                                \
                                                                                                                     \
    TRIANGULAR(p, T, trsm, solve)                                                                                    \
    TRIANGULAR(p, T, trmm, replace)

DEFINE(s, float)
DEFINE(d, double)
DEFINE(c, cfloat)
DEFINE(z, cdouble)
