/* dot, add and apply for one real type; comes after real_product.h. */

static T total(vector v) {
    T sum = 0;
    UNROLLED (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

T JOIN(P, dot)(int n, int conjugate, const T *x, ptrdiff_t incx, const T *y, ptrdiff_t incy) {
    (void)conjugate;
    vector sums[4] = {};
    T rest = 0;
    int i = 0;
    if (incx == 1 && incy == 1)
        for (; i + 4 * LANES <= n; i += 4 * LANES)
            UNROLLED (int v = 0; v < 4; v++) sums[v] += *(const vector *)(x + i + v * LANES) * *(const vector *)(y + i + v * LANES);
    for (; i < n; i++) rest += x[i * incx] * y[i * incy];
    return total((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
}

void JOIN(P, add)(int n, T alpha, const T *x, ptrdiff_t incx, T *y, ptrdiff_t incy) {
    int i = 0;
    if (incx == 1 && incy == 1)
        TWICE (; i + LANES <= n; i += LANES) *(vector *)(y + i) += alpha * *(const vector *)(x + i);
    for (; i < n; i++) y[i * incy] += alpha * x[i * incx];
}

/* y += the sum of four columns, each times its factor: y is read and written once for all four. */
static void add_four(int n, const T *factors, const T *a, ptrdiff_t next, T *y) {
    int i = 0;
    TWICE (; i + LANES <= n; i += LANES) {
        vector sum = *(const vector *)(y + i);
        UNROLLED (int v = 0; v < 4; v++) sum += factors[v] * *(const vector *)(a + v * next + i);
        *(vector *)(y + i) = sum;
    }
    for (; i < n; i++)
        UNROLLED (int v = 0; v < 4; v++) y[i] += factors[v] * a[v * next + i];
}

/* The products of four rows with x, which is read once for all four. */
static void four_dots(int n, const T *a, ptrdiff_t next, const T *x, T sums[4]) {
    vector even[4] = {}, odd[4] = {};
    int i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        UNROLLED (int v = 0; v < 4; v++) {
            even[v] += *(const vector *)(a + v * next + i) * *(const vector *)(x + i);
            odd[v] += *(const vector *)(a + v * next + i + LANES) * *(const vector *)(x + i + LANES);
        }
    UNROLLED (int v = 0; v < 4; v++) sums[v] = total(even[v] + odd[v]);
    for (; i < n; i++)
        UNROLLED (int v = 0; v < 4; v++) sums[v] += a[v * next + i] * x[i];
}

void JOIN(P, apply)(int m, int n, T alpha, matrix a, const T *x, ptrdiff_t incx, T beta, T *y, ptrdiff_t incy) {
    if (a.rows != 1 || incy != 1) {
        for (int i = 0; i < m; i += 4) {
            const int some = least(m - i, 4), four = some == 4 && a.columns == 1 && incx == 1;
            T sums[4] = {};
            if (alpha != 0 && four) four_dots(n, a.at + i * a.rows, a.rows, x, sums);
            for (int v = 0; v < some; v++) {
                if (alpha != 0 && !four) sums[v] = JOIN(P, dot)(n, 0, a.at + (i + v) * a.rows, a.columns, x, incx);
                T *place = y + (i + v) * incy;
                *place = beta == 0 ? alpha * sums[v] : beta * *place + alpha * sums[v];
            }
        }
        return;
    }
    scale(m, 1, beta, y, 1, 1);
    int j = 0;
    for (; j + 4 <= n && alpha != 0; j += 4) {
        const T factors[4] = {alpha * x[j * incx], alpha * x[(j + 1) * incx], alpha * x[(j + 2) * incx], alpha * x[(j + 3) * incx]};
        add_four(m, factors, a.at + j * a.columns, a.columns, y);
    }
    for (; j < n && alpha != 0; j++) JOIN(P, add)(m, alpha * x[j * incx], a.at + j * a.columns, 1, y, 1);
}
