/* multiply, dot, add and apply for one complex type: include with T, P, R (the type of its parts), Q (its prefix) and LANES
   defined. */
#include <stdlib.h>

#include "core.h"

typedef R vector __attribute__((ext_vector_type(LANES), aligned(sizeof(R))));
typedef JOIN(P, matrix) matrix;

enum {
    PAIRS = LANES / 2,
    SIDE = 128,
    SMALL = 2048 /* elements of planes that are kept on the stack */
};

/* A block of a complex matrix as two real ones, the imaginary one `apart` behind the real one. */
typedef struct {
    R *at;
    ptrdiff_t rows, columns, apart;
} planes;

/* In the order of the matrix in memory, which makes the copies cheap. */
static planes laid_out(R *at, int m, int n, int by_rows) {
    return (planes){at, by_rows ? n : 1, by_rows ? 1 : m, (ptrdiff_t)m * n};
}

static planes split(matrix a, int i, int j, int m, int n, R *at) {
    const int by_rows = a.columns == 1, outer = by_rows ? m : n, inner = by_rows ? n : m;
    const planes to = laid_out(at, m, n, by_rows);
    const R sign = a.conjugate ? -1 : 1;
    for (int x = 0; x < outer; x++) {
        const R *from = (const R *)(a.at + i * a.rows + j * a.columns + x * (by_rows ? a.rows : a.columns));
        const ptrdiff_t step = 2 * (by_rows ? a.columns : a.rows);
        for (int y = 0; y < inner; y++, at++, from += step) at[0] = from[0], at[to.apart] = sign * from[1];
    }
    return to;
}

static JOIN(Q, matrix) plane(planes p, int imaginary) {
    return (JOIN(Q, matrix)){p.at + imaginary * p.apart, p.rows, p.columns, 0};
}

static void multiply_planes(int m, int n, int k, planes a, planes b, R kept, planes c) {
    const struct {
        int a, b, c;
        R factor, kept;
    } products[] = {{0, 0, 0, 1, kept}, {1, 1, 0, -1, 1}, {0, 1, 1, 1, kept}, {1, 0, 1, 1, 1}};
    for (int i = 0; i < 4; i++)
        JOIN(Q, multiply)(m, n, k, products[i].factor, plane(a, products[i].a), plane(b, products[i].b), products[i].kept,
                          c.at + products[i].c * c.apart, c.rows, c.columns);
}

static void add_planes(int m, int n, T alpha, planes from, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    const R re = __real__ alpha, im = __imag__ alpha;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            const R *product = from.at + i * from.rows + j * from.columns;
            R *to = (R *)(c + i * rows + j * columns);
            to[0] += im == 0 ? re * product[0] : re * product[0] - im * product[from.apart];
            to[1] += im == 0 ? re * product[from.apart] : re * product[from.apart] + im * product[0];
        }
}

/* The product without any buffer, when there is no memory for planes. */
static void plainly(int m, int n, int k, T alpha, matrix a, matrix b, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            for (int p = 0; p < k; p++) {
                T left = a.at[i * a.rows + p * a.columns], right = b.at[p * b.rows + j * b.columns];
                left = a.conjugate ? __builtin_complex(__real__ left, -__imag__ left) : left;
                right = b.conjugate ? __builtin_complex(__real__ right, -__imag__ right) : right;
                c[i * rows + j * columns] += alpha * (left * right);
            }
}

/* Four real products for each block of at most SIDE x SIDE. */
void JOIN(P, multiply)(int m, int n, int k, T alpha, matrix a, matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    for (int i = 0; i < m && beta != 1; i++)
        for (int j = 0; j < n; j++) {
            T *place = c + i * rows + j * columns;
            *place = beta == 0 ? 0 : beta * *place;
        }
    if (m <= 0 || n <= 0 || k <= 0 || alpha == 0) return;
    const int tall = least(m, SIDE), wide = least(n, SIDE), deep = least(k, SIDE);
    const int left = 2 * tall * deep, right = 2 * deep * wide, size = left + right + 2 * tall * wide;
    R small[SMALL], *space = size <= SMALL ? small : malloc(size * sizeof(R));
    if (!space) {
        plainly(m, n, k, alpha, a, b, c, rows, columns);
        return;
    }
    for (int i = 0; i < m; i += SIDE)
        for (int j = 0; j < n; j += SIDE) {
            const int x = least(m - i, SIDE), y = least(n - j, SIDE);
            const planes block = laid_out(space + left + right, x, y, columns == 1);
            for (int p = 0; p < k; p += SIDE) {
                const int z = least(k - p, SIDE);
                multiply_planes(x, y, z, split(a, i, p, x, z, space), split(b, p, j, z, y, space + left), p != 0, block);
            }
            add_planes(x, y, alpha, block, c + i * rows + j * columns, rows, columns);
        }
    if (space != small) free(space);
}

static vector swapped(vector v) {
#if LANES == 4
    return __builtin_shufflevector(v, v, 1, 0, 3, 2);
#else
    return __builtin_shufflevector(v, v, 1, 0);
#endif
}

T JOIN(P, dot)(int n, int conjugate, const T *x, ptrdiff_t incx, const T *y, ptrdiff_t incy) {
    vector along = {}, across = {}; /* x.re y.re and x.im y.im; x.re y.im and x.im y.re */
    R rr = 0, ii = 0, ri = 0, ir = 0;
    int i = 0;
    if (incx == 1 && incy == 1)
        for (; i + PAIRS <= n; i += PAIRS) {
            const vector a = *(const vector *)(x + i), b = *(const vector *)(y + i);
            along += a * b;
            across += a * swapped(b);
        }
    for (int v = 0; v < LANES; v += 2) rr += along[v], ii += along[v + 1], ri += across[v], ir += across[v + 1];
    for (; i < n; i++) {
        const R *a = (const R *)(x + i * incx), *b = (const R *)(y + i * incy);
        rr += a[0] * b[0], ii += a[1] * b[1], ri += a[0] * b[1], ir += a[1] * b[0];
    }
    T sum;
    __real__ sum = conjugate ? rr + ii : rr - ii;
    __imag__ sum = conjugate ? ri - ir : ri + ir;
    return sum;
}

static void add_some(int n, int conjugate, T alpha, const T *x, ptrdiff_t incx, T *y, ptrdiff_t incy) {
    const R re = __real__ alpha, im = __imag__ alpha;
    const R along[2] = {re, conjugate ? -re : re}, across[2] = {conjugate ? im : -im, im};
    int i = 0;
    if (incx == 1 && incy == 1) {
        vector direct, crossed;
        for (int v = 0; v < LANES; v++) direct[v] = along[v % 2], crossed[v] = across[v % 2];
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

void JOIN(P, add)(int n, T alpha, const T *x, ptrdiff_t incx, T *y, ptrdiff_t incy) { add_some(n, 0, alpha, x, incx, y, incy); }

void JOIN(P, apply)(int m, int n, T alpha, matrix a, const T *x, ptrdiff_t incx, T beta, T *y, ptrdiff_t incy) {
    for (int i = 0; i < m; i++) {
        T *place = y + i * incy;
        *place = beta == 0 ? 0 : beta == 1 ? *place : beta * *place;
        if (a.rows != 1 && alpha != 0) *place += alpha * JOIN(P, dot)(n, a.conjugate, a.at + i * a.rows, a.columns, x, incx);
    }
    for (int j = 0; j < n && a.rows == 1 && alpha != 0; j++)
        add_some(m, a.conjugate, alpha * x[j * incx], a.at + j * a.columns, 1, y, incy);
}
