/* triangle, symmetric, solve and replace for one type: include with T and P defined.
 *
 * Functions on matrices halve them until they are small, so that almost all of the work is done by `multiply`.
 */
#include "core.h"

typedef JOIN(P, matrix) matrix_;

enum { BLOCK = 32, BASE = 12 };

static matrix_ at(matrix_ a, int i, int j) {
    a.at += i * a.rows + j * a.columns;
    return a;
}

void JOIN(P, triangle)(int upper, int n, int k, T alpha, matrix_ a, matrix_ b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    if (n > BLOCK) {
        const int half = n / 2;
        T *corner = upper ? c + half * columns : c + half * rows;
        JOIN(P, triangle)(upper, half, k, alpha, a, b, beta, c, rows, columns);
        JOIN(P, triangle)(upper, n - half, k, alpha, at(a, half, 0), at(b, 0, half), beta, c + half * (rows + columns), rows,
                          columns);
        if (upper) JOIN(P, multiply)(half, n - half, k, alpha, a, at(b, 0, half), beta, corner, rows, columns);
        else JOIN(P, multiply)(n - half, half, k, alpha, at(a, half, 0), b, beta, corner, rows, columns);
        return;
    }
    T block[BLOCK * BLOCK]; /* a copy: the other triangle of C must not be written */
    JOIN(P, multiply)(n, n, k, alpha, a, b, 0, block, BLOCK, 1);
    for (int i = 0; i < n; i++)
        for (int j = upper ? i : 0; j < (upper ? n : i + 1); j++) {
            T *place = c + i * rows + j * columns;
            *place = beta == 0 ? block[i * BLOCK + j] : beta * *place + block[i * BLOCK + j];
        }
}

/* Element (i, j), conjugated if A is. */
static inline T element(matrix_ a, int i, int j) {
    T value = a.at[i * a.rows + j * a.columns];
#ifdef COMPLEX
    if (a.conjugate) value = __builtin_complex(__real__ value, -__imag__ value);
#endif
    return value;
}

static void scale_(int m, int n, T factor, T *x, ptrdiff_t rows, ptrdiff_t columns) {
    for (int i = 0; i < m && factor != 1; i++)
        for (int j = 0; j < n; j++) {
            T *place = x + i * rows + j * columns;
            *place = factor == 0 ? 0 : factor * *place;
        }
}

/* Solves for one column of X after the other, with the triangle copied to where it stays in the cache. */
static void solve_small(int upper, int unit, int m, int n, matrix_ a, T *x, ptrdiff_t rows, ptrdiff_t columns) {
    T full[BASE][BASE];
    for (int i = 0; i < m; i++)
        for (int j = upper ? i : 0; j < (upper ? m : i + 1); j++) full[i][j] = element(a, i, j);
    for (int j = 0; j < n; j++, x += columns)
        for (int step = 0; step < m; step++) {
            const int i = upper ? m - 1 - step : step;
            T sum = x[i * rows];
            for (int p = upper ? i + 1 : 0; p < (upper ? m : i); p++) sum -= full[i][p] * x[p * rows];
            x[i * rows] = unit ? sum : sum / full[i][i];
        }
}

static void solve(int upper, int unit, int m, int n, matrix_ a, T *x, ptrdiff_t rows, ptrdiff_t columns) {
    if (m <= BASE) {
        solve_small(upper, unit, m, n, a, x, rows, columns);
        return;
    }
    const int half = m / 2;
    T *below = x + half * rows;
    const JOIN(P, matrix) top = {x, rows, columns, 0}, bottom = {below, rows, columns, 0};
    if (upper) {
        solve(1, unit, m - half, n, at(a, half, half), below, rows, columns);
        JOIN(P, multiply)(half, n, m - half, -1, at(a, 0, half), bottom, 1, x, rows, columns);
        solve(1, unit, half, n, a, x, rows, columns);
    } else {
        solve(0, unit, half, n, a, x, rows, columns);
        JOIN(P, multiply)(m - half, n, half, -1, at(a, half, 0), top, 1, below, rows, columns);
        solve(0, unit, m - half, n, at(a, half, half), below, rows, columns);
    }
}

void JOIN(P, solve)(int upper, int unit, int m, int n, T alpha, matrix_ a, T *x, ptrdiff_t rows, ptrdiff_t columns) {
    scale_(m, n, alpha, x, rows, columns);
    if (alpha != 0) solve(upper, unit, m, n, a, x, rows, columns);
}

static void replace(int upper, int unit, int m, int n, matrix_ a, T *x, ptrdiff_t rows, ptrdiff_t columns) {
    if (m <= BASE) {
        for (int j = 0; j < n; j++, x += columns)
            for (int step = 0; step < m; step++) {
                const int i = upper ? step : m - 1 - step;
                T sum = unit ? x[i * rows] : element(a, i, i) * x[i * rows];
                for (int p = upper ? i + 1 : 0; p < (upper ? m : i); p++) sum += element(a, i, p) * x[p * rows];
                x[i * rows] = sum;
            }
        return;
    }
    const int half = m / 2;
    T *below = x + half * rows;
    const JOIN(P, matrix) top = {x, rows, columns, 0}, bottom = {below, rows, columns, 0};
    if (upper) {
        replace(1, unit, half, n, a, x, rows, columns);
        JOIN(P, multiply)(half, n, m - half, 1, at(a, 0, half), bottom, 1, x, rows, columns);
        replace(1, unit, m - half, n, at(a, half, half), below, rows, columns);
    } else {
        replace(0, unit, m - half, n, at(a, half, half), below, rows, columns);
        JOIN(P, multiply)(m - half, n, half, 1, at(a, half, 0), top, 1, below, rows, columns);
        replace(0, unit, half, n, a, x, rows, columns);
    }
}

void JOIN(P, replace)(int upper, int unit, int m, int n, T alpha, matrix_ a, T *x, ptrdiff_t rows, ptrdiff_t columns) {
    scale_(m, n, alpha, x, rows, columns);
    if (alpha != 0) replace(upper, unit, m, n, a, x, rows, columns);
}

/* Column j below the diagonal is also row j to the right of it. */
void JOIN(P, symmetric)(int upper, int n, T alpha, matrix_ a, const T *x, ptrdiff_t incx, T beta, T *y, ptrdiff_t incy) {
    scale_(n, 1, beta, y, incy, 1);
    for (int j = 0; j < n && alpha != 0; j++) {
        const int first = upper ? 0 : j + 1, count = upper ? j : n - 1 - j;
        const T *column = a.at + first * a.rows + j * a.columns;
        T middle = a.at[j * (a.rows + a.columns)];
#ifdef COMPLEX
        middle = a.conjugate ? __real__ middle : middle;
#endif
        JOIN(P, add)(count, alpha * x[j * incx], column, a.rows, y + first * incy, incy);
        y[j * incy] += alpha * (middle * x[j * incx] + JOIN(P, dot)(count, a.conjugate, column, a.rows, x + first * incx, incx));
    }
}
