/* multiply, dot, add and apply for one complex type: include with T, P, R (the type of its parts), Q (its prefix) and LANES defined. */
#include "core.h"

typedef R vector __attribute__((ext_vector_type(LANES), aligned(sizeof(R))));
typedef JOIN(P, matrix) matrix;

enum { PAIRS = LANES / 2 };

/* The real or the imaginary part of a matrix. */
static JOIN(Q, matrix) part(matrix a, int imaginary)
{
    return (JOIN(Q, matrix)){(const R *)a.at + imaginary, 2 * a.rows, 2 * a.columns, 0};
}

/* C = alpha A B + beta C as real products of parts; those of alpha's imaginary part are rarely needed. */
void JOIN(P, multiply)(int m, int n, int k, T alpha, matrix a, matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns)
{
    for (int i = 0; i < m && beta != 0 && beta != 1; i++)
        for (int j = 0; j < n; j++)
            c[i * rows + j * columns] *= beta;
    const R left = a.conjugate ? -1 : 1, right = b.conjugate ? -1 : 1;
    const R re = __real__ alpha, im = __imag__ alpha, kept = beta != 0;
    R *real = (R *)c, *imaginary = real + 1;
    const struct {
        R factor;
        int a, b;
        R kept, *place;
    } products[] = {
        {re, 0, 0, kept, real},       {-re * left * right, 1, 1, 1, real}, {re * right, 0, 1, kept, imaginary},
        {re * left, 1, 0, 1, imaginary}, {-im * right, 0, 1, 1, real},     {-im * left, 1, 0, 1, real},
        {im, 0, 0, 1, imaginary},     {-im * left * right, 1, 1, 1, imaginary},
    };
    for (int i = 0; i < (im == 0 ? 4 : 8); i++)
        JOIN(Q, multiply)(m, n, k, products[i].factor, part(a, products[i].a), part(b, products[i].b), products[i].kept,
                          products[i].place, 2 * rows, 2 * columns);
}

static vector swapped(vector v)
{
#if LANES == 4
    return __builtin_shufflevector(v, v, 1, 0, 3, 2);
#else
    return __builtin_shufflevector(v, v, 1, 0);
#endif
}

T JOIN(P, dot)(int n, int conjugate, const T *x, ptrdiff_t incx, const T *y, ptrdiff_t incy)
{
    vector along = {}, across = {}; /* x.re y.re and x.im y.im; x.re y.im and x.im y.re */
    R rr = 0, ii = 0, ri = 0, ir = 0;
    int i = 0;
    if (incx == 1 && incy == 1)
        for (; i + PAIRS <= n; i += PAIRS) {
            const vector a = *(const vector *)(x + i), b = *(const vector *)(y + i);
            along += a * b;
            across += a * swapped(b);
        }
    for (int v = 0; v < LANES; v += 2)
        rr += along[v], ii += along[v + 1], ri += across[v], ir += across[v + 1];
    for (; i < n; i++) {
        const R *a = (const R *)(x + i * incx), *b = (const R *)(y + i * incy);
        rr += a[0] * b[0], ii += a[1] * b[1], ri += a[0] * b[1], ir += a[1] * b[0];
    }
    T sum;
    __real__ sum = conjugate ? rr + ii : rr - ii;
    __imag__ sum = conjugate ? ri - ir : ri + ir;
    return sum;
}

static void add_some(int n, int conjugate, T alpha, const T *x, ptrdiff_t incx, T *y, ptrdiff_t incy)
{
    const R re = __real__ alpha, im = __imag__ alpha;
    const R along[2] = {re, conjugate ? -re : re}, across[2] = {conjugate ? im : -im, im};
    int i = 0;
    if (incx == 1 && incy == 1) {
        vector direct, crossed;
        for (int v = 0; v < LANES; v++)
            direct[v] = along[v % 2], crossed[v] = across[v % 2];
        for (; i + PAIRS <= n; i += PAIRS) {
            const vector a = *(const vector *)(x + i);
            *(vector *)(y + i) += direct * a + crossed * swapped(a);
        }
    }
    for (; i < n; i++) {
        const R *a = (const R *)(x + i * incx);
        R *b = (R *)(y + i * incy);
        b[0] += along[0] * a[0] + across[0] * a[1], b[1] += along[1] * a[1] + across[1] * a[0];
    }
}

void JOIN(P, add)(int n, T alpha, const T *x, ptrdiff_t incx, T *y, ptrdiff_t incy)
{
    add_some(n, 0, alpha, x, incx, y, incy);
}

void JOIN(P, apply)(int m, int n, T alpha, matrix a, const T *x, ptrdiff_t incx, T beta, T *y, ptrdiff_t incy)
{
    for (int i = 0; i < m; i++) {
        T *place = y + i * incy;
        *place = beta == 0 ? 0 : beta == 1 ? *place : beta * *place;
        if (a.rows != 1 && alpha != 0)
            *place += alpha * JOIN(P, dot)(n, a.conjugate, a.at + i * a.rows, a.columns, x, incx);
    }
    for (int j = 0; j < n && a.rows == 1 && alpha != 0; j++)
        add_some(m, a.conjugate, alpha * x[j * incx], a.at + j * a.columns, 1, y, incy);
}
