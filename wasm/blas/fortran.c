/* Fortran's BLAS, as far as LAPACK spends its time there; columns are contiguous. The rest is numpy's own translation. */
#include "core.h"

static int is(const char *letter, char wanted) { return (*letter & ~32) == wanted; }

static ptrdiff_t first(int n, int step) { return step < 0 ? (ptrdiff_t)(1 - n) * step : 0; }

#define MATRIX(p, trans, a, lda) (is(trans, 'N') ? (p##matrix){a, 1, lda, 0} : (p##matrix){a, lda, 1, is(trans, 'C')})

/* X A from the right is A' X' from the left; transposing a triangle swaps upper and lower. */
#define TRIANGULAR(p, T, name, does) \
    int p##name##_(const char *side, const char *uplo, const char *trans, const char *diag, const int *m, const int *n, \
                   const T *alpha, const T *a, const int *lda, T *b, const int *ldb) { \
        const int right = is(side, 'R'), upper = is(uplo, 'U') != (is(trans, 'N') ? 0 : 1) != right; \
        p##matrix matrix = MATRIX(p, trans, a, *lda); \
        if (right) matrix = (p##matrix){a, matrix.columns, matrix.rows, matrix.conjugate}; \
        p##does(upper, is(diag, 'U'), right ? *n : *m, right ? *m : *n, *alpha, matrix, b, right ? *ldb : 1, right ? 1 : *ldb); \
        return 0; \
    }

#define DEFINE(p, T) \
    int p##gemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k, const T *alpha, const T *a, \
                 const int *lda, const T *b, const int *ldb, const T *beta, T *c, const int *ldc) { \
        p##multiply(*m, *n, *k, *alpha, MATRIX(p, transa, a, *lda), MATRIX(p, transb, b, *ldb), *beta, c, 1, *ldc); \
        return 0; \
    } \
\
    int p##gemv_(const char *trans, const int *m, const int *n, const T *alpha, const T *a, const int *lda, const T *x, \
                 const int *incx, const T *beta, T *y, const int *incy) { \
        const int out = is(trans, 'N') ? *m : *n, in = is(trans, 'N') ? *n : *m; \
        p##apply(out, in, *alpha, MATRIX(p, trans, a, *lda), x + first(in, *incx), *incx, *beta, y + first(out, *incy), *incy); \
        return 0; \
    } \
\
    TRIANGULAR(p, T, trsm, solve) \
    TRIANGULAR(p, T, trmm, replace)

/* The transpose of a matrix, or its conjugate transpose. */
#define TRANSPOSED(p, a, conjugated) ((p##matrix){(a).at, (a).columns, (a).rows, (a).conjugate != (conjugated)})

/* What has other names for symmetric matrices (real: T and S are the same type) and for Hermitian ones. */
#define SYMMETRIC(p, T, S, mv, rk, r2k, hermitian, CONJUGATE) \
    int p##mv##_(const char *uplo, const int *n, const T *alpha, const T *a, const int *lda, const T *x, const int *incx, \
                 const T *beta, T *y, const int *incy) { \
        p##symmetric(is(uplo, 'U'), *n, *alpha, (p##matrix){a, 1, *lda, hermitian}, x + first(*n, *incx), *incx, *beta, \
                     y + first(*n, *incy), *incy); \
        return 0; \
    } \
\
    int p##rk##_(const char *uplo, const char *trans, const int *n, const int *k, const S *alpha, const T *a, const int *lda, \
                 const S *beta, T *c, const int *ldc) { \
        const p##matrix left = MATRIX(p, trans, a, *lda); \
        p##triangle(is(uplo, 'U'), *n, *k, *alpha, left, TRANSPOSED(p, left, hermitian), *beta, c, 1, *ldc); \
        return 0; \
    } \
\
    int p##r2k##_(const char *uplo, const char *trans, const int *n, const int *k, const T *alpha, const T *a, const int *lda, \
                  const T *b, const int *ldb, const S *beta, T *c, const int *ldc) { \
        const p##matrix x = MATRIX(p, trans, a, *lda), y = MATRIX(p, trans, b, *ldb); \
        p##triangle(is(uplo, 'U'), *n, *k, *alpha, x, TRANSPOSED(p, y, hermitian), *beta, c, 1, *ldc); \
        p##triangle(is(uplo, 'U'), *n, *k, CONJUGATE(*alpha), y, TRANSPOSED(p, x, hermitian), 1, c, 1, *ldc); \
        return 0; \
    }

#define RANK_ONE(p, T, name, CONJUGATE) \
    int p##name##_(const int *m, const int *n, const T *alpha, const T *x, const int *incx, const T *y, const int *incy, T *a, \
                   const int *lda) { \
        x += first(*m, *incx), y += first(*n, *incy); \
        for (int j = 0; j < *n && *alpha != 0; j++, y += *incy) \
            p##add(*m, *alpha * CONJUGATE(*y), x, *incx, a + (ptrdiff_t)j * *lda, 1); \
        return 0; \
    }

#define SAME(value) (value)
#define CONJUGATED(value) __builtin_complex(__real__(value), -__imag__(value))

DEFINE(s, float)
DEFINE(d, double)
DEFINE(c, cfloat)
DEFINE(z, cdouble)

SYMMETRIC(s, float, float, symv, syrk, syr2k, 0, SAME)
SYMMETRIC(d, double, double, symv, syrk, syr2k, 0, SAME)
SYMMETRIC(c, cfloat, float, hemv, herk, her2k, 1, CONJUGATED)
SYMMETRIC(z, cdouble, double, hemv, herk, her2k, 1, CONJUGATED)

RANK_ONE(s, float, ger, SAME)
RANK_ONE(d, double, ger, SAME)
RANK_ONE(c, cfloat, geru, SAME)
RANK_ONE(z, cdouble, geru, SAME)
RANK_ONE(c, cfloat, gerc, CONJUGATED)
RANK_ONE(z, cdouble, gerc, CONJUGATED)
