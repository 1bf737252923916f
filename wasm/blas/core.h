/* Products of matrices and vectors for the four types, in terms of strides: what CBLAS and Fortran's BLAS are both made of.
 *
 * Element (i, j) of a matrix is at[i * rows + j * columns]: orders, transposes and the parts of complex numbers are then
 * all expressed by strides. Nothing is checked here. The caller sees to it that the result overlaps no operand. A beta of 0
 * overwrites the result without reading it, as it may hold NaN.
 */
#ifndef CLOCHE_BLAS_CORE_H
#define CLOCHE_BLAS_CORE_H

#include <stddef.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

typedef float _Complex cfloat;
typedef double _Complex cdouble;

/* For the type T with the prefix p, its matrix and:
 *   multiply  C = alpha A B + beta C; C is m x n, A is m x k
 *   triangle  the same for one triangle of a square C: the upper one if `upper`
 *   solve     X = alpha inv(A) X; A is triangular, m x m, with ones on its diagonal if `unit`; X is m x n
 *   replace   X = alpha A X, likewise
 *   apply     y = alpha A x + beta y; A is m x n
 *   symmetric the same for a symmetric A, Hermitian if `conjugate`, of which only one triangle is read
 *   add       y = alpha x + y
 *   dot       the sum of x * y; of conj(x) * y if `conjugate`
 * `conjugate` means conj(A) and is ignored for real types.
 */
#define DECLARE(p, T) \
    typedef struct { \
        const T *at; \
        ptrdiff_t rows, columns; \
        int conjugate; \
    } p##matrix; \
    void p##multiply(int m, int n, int k, T alpha, p##matrix a, p##matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns); \
    void p##triangle(int upper, int n, int k, T alpha, p##matrix a, p##matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns); \
    void p##solve(int upper, int unit, int m, int n, T alpha, p##matrix a, T *x, ptrdiff_t rows, ptrdiff_t columns); \
    void p##replace(int upper, int unit, int m, int n, T alpha, p##matrix a, T *x, ptrdiff_t rows, ptrdiff_t columns); \
    void p##apply(int m, int n, T alpha, p##matrix a, const T *x, ptrdiff_t incx, T beta, T *y, ptrdiff_t incy); \
    void p##symmetric(int upper, int n, T alpha, p##matrix a, const T *x, ptrdiff_t incx, T beta, T *y, ptrdiff_t incy); \
    void p##add(int n, T alpha, const T *x, ptrdiff_t incx, T *y, ptrdiff_t incy); \
    T p##dot(int n, int conjugate, const T *x, ptrdiff_t incx, const T *y, ptrdiff_t incy);

DECLARE(s, float)
DECLARE(d, double)
DECLARE(c, cfloat)
DECLARE(z, cdouble)

static inline int least(int a, int b) { return a < b ? a : b; }

#endif
