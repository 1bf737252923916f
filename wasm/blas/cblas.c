/* The CBLAS functions that numpy calls. Arguments are not checked: numpy passes valid ones. */
#include "core.h"

enum order { ROW_MAJOR = 101, COLUMN_MAJOR };
enum transpose { NO_TRANSPOSE = 111, TRANSPOSE, CONJUGATE_TRANSPOSE };
enum triangle { UPPER = 121, LOWER };

/* Vectors with a negative step begin at their end. */
static ptrdiff_t first(int n, int step) { return step < 0 ? (ptrdiff_t)(1 - n) * step : 0; }

#define MATRIX(p, order, transpose, a, lda) \
    ((order == ROW_MAJOR) == (transpose == NO_TRANSPOSE) ? (p##matrix){a, lda, 1, transpose == CONJUGATE_TRANSPOSE} \
                                                         : (p##matrix){a, 1, lda, transpose == CONJUGATE_TRANSPOSE})

/* SCALAR: the type in which alpha and beta are passed, which AT reads; V: what pointers to elements are declared as. */
#define DEFINE(p, T, SCALAR, V, AT) \
    void cblas_##p##gemm(int order, int transa, int transb, int m, int n, int k, SCALAR alpha, const V *a, int lda, const V *b, \
                         int ldb, SCALAR beta, V *c, int ldc) { \
        const int rows = order == ROW_MAJOR; \
        p##multiply(m, n, k, AT(T, alpha), MATRIX(p, order, transa, a, lda), MATRIX(p, order, transb, b, ldb), AT(T, beta), c, \
                    rows ? ldc : 1, rows ? 1 : ldc); \
    } \
\
    void cblas_##p##syrk(int order, int triangle, int trans, int n, int k, SCALAR alpha, const V *a, int lda, SCALAR beta, V *c, \
                         int ldc) { \
        const int rows = order == ROW_MAJOR, plain = trans == NO_TRANSPOSE; \
        const int left = plain ? NO_TRANSPOSE : TRANSPOSE, right = plain ? TRANSPOSE : NO_TRANSPOSE; \
        p##triangle(triangle == UPPER, n, k, AT(T, alpha), MATRIX(p, order, left, a, lda), MATRIX(p, order, right, a, lda), \
                    AT(T, beta), c, rows ? ldc : 1, rows ? 1 : ldc); \
    } \
\
    void cblas_##p##gemv(int order, int trans, int m, int n, SCALAR alpha, const V *a, int lda, const V *x, int incx, SCALAR beta, \
                         V *y, int incy) { \
        const int out = trans == NO_TRANSPOSE ? m : n, in = trans == NO_TRANSPOSE ? n : m; \
        p##apply(out, in, AT(T, alpha), MATRIX(p, order, trans, a, lda), (const T *)x + first(in, incx), incx, AT(T, beta), \
                 (T *)y + first(out, incy), incy); \
    } \
\
    void cblas_##p##axpy(int n, SCALAR alpha, const V *x, int incx, V *y, int incy) { \
        p##add(n, AT(T, alpha), (const T *)x + first(n, incx), incx, (T *)y + first(n, incy), incy); \
    }

#define VALUE(T, scalar) scalar
#define POINTED(T, scalar) (*(const T *)scalar)

DEFINE(s, float, float, float, VALUE)
DEFINE(d, double, double, double, VALUE)
DEFINE(c, cfloat, const void *, void, POINTED)
DEFINE(z, cdouble, const void *, void, POINTED)

#define DOT(p, T) \
    T cblas_##p##dot(int n, const T *x, int incx, const T *y, int incy) { \
        return p##dot(n, 0, x + first(n, incx), incx, y + first(n, incy), incy); \
    }

DOT(s, float)
DOT(d, double)

#define COMPLEX_DOT(p, T, name, conjugate) \
    void cblas_##p##name##_sub(int n, const void *x, int incx, const void *y, int incy, void *dot) { \
        *(T *)dot = p##dot(n, conjugate, (const T *)x + first(n, incx), incx, (const T *)y + first(n, incy), incy); \
    }

COMPLEX_DOT(c, cfloat, dotu, 0)
COMPLEX_DOT(c, cfloat, dotc, 1)
COMPLEX_DOT(z, cdouble, dotu, 0)
COMPLEX_DOT(z, cdouble, dotc, 1)
