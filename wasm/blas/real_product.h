/* multiply for one real type: include with T, P (its prefix) and LANES defined.
 *
 * After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): blocks of A (TALL x DEPTH) and of
 * B (DEPTH x WIDE) are copied into panels, ROWS rows or COLUMNS columns each, in the order in which the kernel reads them.
 * The kernel keeps a ROWS x COLUMNS tile of C in registers, so that one load of A serves COLUMNS products. A panel of B
 * stays in the first level of cache, the block of A in the second.
 *
 * Rejected: relaxed multiply-add. Its result depends on the machine, and it gained nothing here.
 */
#include <stdlib.h>

#include "core.h"

typedef T vector __attribute__((ext_vector_type(LANES), aligned(sizeof(T))));
typedef JOIN(P, matrix) matrix;

enum {
    ROWS = 8,
    VECTORS = 2,
    COLUMNS = VECTORS * LANES,
    DEPTH = 256,
    TALL = 96,
    WIDE = 512,
    SMALL = 2048 /* elements of panels that are kept on the stack */
};

#define UNROLLED _Pragma("clang loop unroll(full)") for
#define TWICE _Pragma("clang loop unroll_count(2)") for /* every turn checks the deadline: this halves the checks */

/* LANES vectors along one side of a matrix as LANES vectors along the other. */
static inline __attribute__((always_inline)) void transpose(vector v[LANES]) {
#if LANES == 2
    const vector first = v[0];
    v[0] = __builtin_shufflevector(first, v[1], 0, 2);
    v[1] = __builtin_shufflevector(first, v[1], 1, 3);
#else
    const vector a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    const vector c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5), d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5), v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5), v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#endif
}

/* Copies `count` (at most `width`) lines of `depth` elements, element p of line i to out[p * width + i]; other lines are 0. */
static inline __attribute__((always_inline)) void pack_panel(const T *from, ptrdiff_t line, ptrdiff_t step, int count, int depth,
                                                             int width, T *out) {
    if (count == width && line == 1) {
        for (int p = 0; p < depth; p++, from += step, out += width)
            UNROLLED (int i = 0; i < width; i += LANES) *(vector *)(out + i) = *(const vector *)(from + i);
    } else if (count == width) {
        int p = 0;
        for (; step == 1 && p + LANES <= depth; p += LANES, from += LANES, out += LANES * width)
            UNROLLED (int i = 0; i < width; i += LANES) {
                vector v[LANES];
                UNROLLED (int q = 0; q < LANES; q++) v[q] = *(const vector *)(from + (i + q) * line);
                transpose(v);
                UNROLLED (int q = 0; q < LANES; q++) *(vector *)(out + q * width + i) = v[q];
            }
        for (; p < depth; p++, from += step, out += width)
            UNROLLED (int i = 0; i < width; i++) out[i] = from[i * line];
    } else {
        for (int p = 0; p < depth; p++, from += step, out += width)
            for (int i = 0; i < width; i++) out[i] = i < count ? from[i * line] : 0;
    }
}

static void pack_rows(matrix a, int i, int p, int m, int k, T *out) {
    const T *from = a.at + i * a.rows + p * a.columns;
    for (int x = 0; x < m; x += ROWS, out += ROWS * k)
        pack_panel(from + x * a.rows, a.rows, a.columns, least(m - x, ROWS), k, ROWS, out);
}

static void pack_columns(matrix b, int p, int j, int k, int n, T *out) {
    const T *from = b.at + p * b.rows + j * b.columns;
    for (int y = 0; y < n; y += COLUMNS, out += COLUMNS * k)
        pack_panel(from + y * b.columns, b.columns, b.rows, least(n - y, COLUMNS), k, COLUMNS, out);
}

/* One tile, of which m x n elements are in C. */
static void kernel(int k, const T *a, const T *b, T alpha, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns, int m, int n) {
    vector sum[ROWS][VECTORS] = {};
    TWICE (int p = 0; p < k; p++, a += ROWS, b += COLUMNS) {
        vector right[VECTORS];
        UNROLLED (int v = 0; v < VECTORS; v++) right[v] = *(const vector *)(b + v * LANES);
        UNROLLED (int i = 0; i < ROWS; i += LANES) {
            const vector left = *(const vector *)(a + i);
            UNROLLED (int lane = 0; lane < LANES; lane++)
                UNROLLED (int v = 0; v < VECTORS; v++) sum[i + lane][v] += left[lane] * right[v];
        }
    }
    if (m == ROWS && n == COLUMNS && columns == 1) {
        UNROLLED (int i = 0; i < ROWS; i++)
            UNROLLED (int v = 0; v < VECTORS; v++) {
                vector *place = (vector *)(c + i * rows + v * LANES);
                *place = beta == 0 ? alpha * sum[i][v] : beta * *place + alpha * sum[i][v];
            }
        return;
    }
    T tile[ROWS * COLUMNS];
    UNROLLED (int i = 0; i < ROWS; i++)
        UNROLLED (int v = 0; v < VECTORS; v++) *(vector *)(tile + i * COLUMNS + v * LANES) = alpha * sum[i][v];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            T *place = c + i * rows + j * columns;
            *place = beta == 0 ? tile[i * COLUMNS + j] : beta * *place + tile[i * COLUMNS + j];
        }
}

static void blocked(int m, int n, int k, T alpha, matrix a, matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns, T *left,
                    T *right) {
    for (int j = 0; j < n; j += WIDE)
        for (int p = 0; p < k; p += DEPTH) {
            const int wide = least(n - j, WIDE), deep = least(k - p, DEPTH);
            pack_columns(b, p, j, deep, wide, right);
            for (int i = 0; i < m; i += TALL) {
                const int tall = least(m - i, TALL);
                pack_rows(a, i, p, tall, deep, left);
                for (int y = 0; y < wide; y += COLUMNS)
                    for (int x = 0; x < tall; x += ROWS)
                        kernel(deep, left + x * deep, right + y * deep, alpha, p ? 1 : beta, c + (i + x) * rows + (j + y) * columns,
                               rows, columns, least(tall - x, ROWS), least(wide - y, COLUMNS));
            }
        }
}

/* The product without any buffer, when there is no memory for panels. */
static void plainly(int m, int n, int k, T alpha, matrix a, matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            T sum = 0, *place = c + i * rows + j * columns;
            for (int p = 0; p < k; p++) sum += a.at[i * a.rows + p * a.columns] * b.at[p * b.rows + j * b.columns];
            *place = beta == 0 ? alpha * sum : beta * *place + alpha * sum;
        }
}

static void scale(int m, int n, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    for (int i = 0; i < m && beta != 1; i++)
        for (int j = 0; j < n; j++) {
            T *place = c + i * rows + j * columns;
            *place = beta == 0 ? 0 : beta * *place;
        }
}

static int up(int a, int step) { return (a + step - 1) / step * step; }

void JOIN(P, multiply)(int m, int n, int k, T alpha, matrix a, matrix b, T beta, T *c, ptrdiff_t rows, ptrdiff_t columns) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0 || alpha == 0) {
        scale(m, n, beta, c, rows, columns);
        return;
    }
    if (rows == 1 && columns != 1) { /* C' = B' A': the kernel writes whole vectors along rows */
        const matrix left = {b.at, b.columns, b.rows, 0}, right = {a.at, a.columns, a.rows, 0};
        JOIN(P, multiply)(n, m, k, alpha, left, right, beta, c, columns, rows);
        return;
    }
    const int deep = least(k, DEPTH), left = up(least(m, TALL), ROWS) * deep, right = up(least(n, WIDE), COLUMNS) * deep;
    T small[SMALL], *panels = left + right <= SMALL ? small : malloc((left + right) * sizeof(T));
    if (panels) blocked(m, n, k, alpha, a, b, beta, c, rows, columns, panels, panels + left);
    else plainly(m, n, k, alpha, a, b, beta, c, rows, columns);
    if (panels != small) free(panels);
}
