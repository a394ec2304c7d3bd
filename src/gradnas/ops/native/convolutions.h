/* What separable convolutions and their gradients are made of. Channels come in whole vectors, so that every inner loop is
   one over vectors; images are padded, so that no loop looks for a border. */

#ifndef GRADNAS_CONVOLUTIONS_H
#define GRADNAS_CONVOLUTIONS_H

#include "vectors.h"

/* ---- Matrix products of few columns: out (n, cols) = a (n, inner) x b (inner, cols); cols in whole vectors. */

INLINE void product_block(
    Int rows, Int vectors, const REAL *a, Int a_row, const REAL *b, Int inner, REAL *out, Int cols
) {
    Vector sums[2 * PIXELS][2];
    UNROLL for (Int i = 0; i < rows; i++)
        UNROLL for (Int v = 0; v < vectors; v++) sums[i][v] = (Vector){0};
    for (Int k = 0; k < inner; k++) {
        Vector w[2];
        UNROLL for (Int v = 0; v < vectors; v++) w[v] = load(b + k * cols + v * LANES);
        UNROLL for (Int i = 0; i < rows; i++) {
            Vector x = everywhere(a[i * a_row + k]);
            UNROLL for (Int v = 0; v < vectors; v++) sums[i][v] += x * w[v];
        }
    }
    UNROLL for (Int i = 0; i < rows; i++)
        UNROLL for (Int v = 0; v < vectors; v++) store(out + i * cols + v * LANES, sums[i][v]);
}

static void product(const REAL *a, Int a_row, const REAL *b, Int inner, REAL *out, Int n, Int cols) {
    for (Int j = 0, width; j < cols; j += width) {
        Int i = 0;
        width = cols - j > LANES ? 2 * LANES : LANES;
#define BLOCKS(ROWS, VECTORS) \
    for (; i + (ROWS) <= n; i += (ROWS)) product_block(ROWS, VECTORS, a + i * a_row, a_row, b + j, inner, out + i * cols + j, cols)
        if (width > LANES) {
            BLOCKS(PIXELS, 2);
            BLOCKS(1, 2);
        } else {
            BLOCKS(2 * PIXELS, 1);
            BLOCKS(PIXELS, 1);
            BLOCKS(1, 1);
        }
#undef BLOCKS
    }
}

/* ---- Sums of outer products: out (rows, cols) += sum over n pixels of g (n, rows) and t (n, cols), both in whole vectors. */

INLINE void outer_block(Int rows, Int vectors, const REAL *g, Int g_row, const REAL *t, Int cols, Int n, REAL *out) {
    Vector sums[PIXELS][2];
    UNROLL for (Int o = 0; o < rows; o++)
        UNROLL for (Int v = 0; v < vectors; v++) sums[o][v] = load(out + o * cols + v * LANES);
    for (Int i = 0; i < n; i++) {
        Vector x[2];
        UNROLL for (Int v = 0; v < vectors; v++) x[v] = load(t + i * cols + v * LANES);
        UNROLL for (Int o = 0; o < rows; o++) {
            Vector y = everywhere(g[i * g_row + o]);
            UNROLL for (Int v = 0; v < vectors; v++) sums[o][v] += y * x[v];
        }
    }
    UNROLL for (Int o = 0; o < rows; o++)
        UNROLL for (Int v = 0; v < vectors; v++) store(out + o * cols + v * LANES, sums[o][v]);
}

static void outer_products(const REAL *g, Int rows, Int g_row, const REAL *t, Int cols, Int n, REAL *out) {
    for (Int c = 0, width; c < cols; c += width) {
        Int o = 0;
        width = cols - c > LANES ? 2 * LANES : LANES;
#define BLOCKS(ROWS, VECTORS) \
    for (; o + (ROWS) <= rows; o += (ROWS)) outer_block(ROWS, VECTORS, g + o, g_row, t + c, cols, n, out + o * cols + c)
        if (width > LANES) {
            BLOCKS(PIXELS, 2);
            BLOCKS(1, 2);
        } else {
            BLOCKS(PIXELS, 1);
            BLOCKS(1, 1);
        }
#undef BLOCKS
    }
}

/* ---- Depthwise convolution of one row of a padded image. */

typedef struct {
    Int rows, cols;           /* of the kernel */
    Int image_row, image_col; /* from tap to tap in the image; negative reads backwards */
    Int kernel_row, kernel_col;
    Int step;                 /* from output to output in the image */
} Taps;

INLINE void taps_block(Int n, const REAL *image, const REAL *kernel, const Taps *taps, REAL *out, Int out_step) {
    Vector sums[PIXELS];
    UNROLL for (Int i = 0; i < n; i++) sums[i] = (Vector){0};
    for (Int y = 0; y < taps->rows; y++)
        for (Int x = 0; x < taps->cols; x++) {
            Vector w = load(kernel + y * taps->kernel_row + x * taps->kernel_col);
            const REAL *seen = image + y * taps->image_row + x * taps->image_col;
            UNROLL for (Int i = 0; i < n; i++) sums[i] += w * load(seen + i * taps->step);
        }
    UNROLL for (Int i = 0; i < n; i++) store(out + i * out_step, sums[i]);
}

/* Any taps. */
static void depthwise_row(
    const REAL *image, const REAL *kernel, const Taps *taps, REAL *out, Int out_step, Int n, Int channels
) {
    for (Int c = 0; c < channels; c += LANES) {
        Int i = 0;
        for (; i + PIXELS <= n; i += PIXELS)
            taps_block(PIXELS, image + c + i * taps->step, kernel + c, taps, out + c + i * out_step, out_step);
        for (; i < n; i++) taps_block(1, image + c + i * taps->step, kernel + c, taps, out + c + i * out_step, out_step);
    }
}

/* Pixels of a row of the image that n outputs of a kernel with COLS columns see, and where its taps find them. */
#define SEEN(N, COLS, STRIDE, DILATION) (((N) - 1) * (STRIDE) + ((COLS) - 1) * (DILATION) + 1)
enum { MOST_SEEN = SEEN(PIXELS, 5, 2, 2) };

INLINE void known_taps_block(
    Int n, Int cols, Int stride, Int dilation, const REAL *image, Int image_row, const REAL *kernel, Int rows, Int channels,
    REAL *out
) {
    Vector sums[PIXELS];
    UNROLL for (Int i = 0; i < n; i++) sums[i] = (Vector){0};
    for (Int y = 0; y < rows; y++, image += image_row, kernel += cols * channels) {
        Vector seen[MOST_SEEN];
        UNROLL for (Int t = 0; t < SEEN(n, cols, stride, dilation); t++)
            if (stride == 1 || dilation == 1 || t % 2 == 0) seen[t] = load(image + t * channels);
        UNROLL for (Int x = 0; x < cols; x++) {
            Vector w = load(kernel + x * channels);
            UNROLL for (Int i = 0; i < n; i++) sums[i] += w * seen[i * stride + x * dilation];
        }
    }
    UNROLL for (Int i = 0; i < n; i++) store(out + i * channels, sums[i]);
}

INLINE void known_taps_row(
    Int cols, Int stride, Int dilation, const REAL *image, Int image_row, const REAL *kernel, Int rows, Int channels, REAL *out,
    Int n
) {
    for (Int c = 0; c < channels; c += LANES) {
        Int i = 0;
#define BLOCKS(N) \
    for (; i + (N) <= n; i += (N)) \
        known_taps_block(N, cols, stride, dilation, image + c + i * stride * channels, image_row, kernel + c, rows, channels, out + c + i * channels)
        BLOCKS(PIXELS);
        BLOCKS(PIXELS / 2);
        BLOCKS(1);
#undef BLOCKS
    }
}

/* n outputs of a kernel (rows, cols, channels), images read with this stride and dilation. The usual kernels have code of
   their own, in which each pixel is loaded once for all taps of a row. */
static void convolve_row(
    const REAL *image, Int image_row, const REAL *kernel, Int rows, Int cols, Int stride, Int dilation, Int channels, REAL *out,
    Int n
) {
#define KNOWN(COLS, STRIDE, DILATION) \
    if (cols == COLS && stride == STRIDE && dilation == DILATION) { \
        known_taps_row(COLS, STRIDE, DILATION, image, image_row, kernel, rows, channels, out, n); \
        return; \
    }
    KNOWN(3, 1, 1) KNOWN(5, 1, 1) KNOWN(3, 1, 2) KNOWN(5, 1, 2) KNOWN(3, 2, 1) KNOWN(5, 2, 1) KNOWN(3, 2, 2) KNOWN(5, 2, 2)
#undef KNOWN
    Taps taps = {rows, cols, image_row, dilation * channels, cols * channels, channels, stride * channels};
    depthwise_row(image, kernel, &taps, out, channels, n, channels);
}

/* ---- Gradient of a depthwise kernel: each tap is a sum over pixels of image times gradient. */

INLINE void known_row_gradient(
    Int cols, Int stride, Int dilation, const REAL *image, Int image_row, const REAL *gradient, Int gradient_row, Int channels,
    Int height, Int width, REAL *out
) {
    enum { N = PIXELS / 2 };
    Vector sums[2][5]; /* of even and of odd pixels: the sums of one wait for each other */
    UNROLL for (Int x = 0; x < cols; x++) sums[0][x] = load(out + x * channels), sums[1][x] = (Vector){0};
    for (Int r = 0; r < height; r++) {
        const REAL *row = image + r * image_row, *g = gradient + r * gradient_row;
        Int i = 0;
        for (; i + N <= width; i += N, row += N * stride * channels, g += N * channels) {
            Vector seen[MOST_SEEN];
            UNROLL for (Int t = 0; t < SEEN(N, cols, stride, dilation); t++)
                if (stride == 1 || dilation == 1 || t % 2 == 0) seen[t] = load(row + t * channels);
            UNROLL for (Int p = 0; p < N; p++) {
                Vector y = load(g + p * channels);
                UNROLL for (Int x = 0; x < cols; x++) sums[p % 2][x] += y * seen[p * stride + x * dilation];
            }
        }
        for (; i < width; i++, row += stride * channels, g += channels)
            UNROLL for (Int x = 0; x < cols; x++) sums[0][x] += load(g) * load(row + x * dilation * channels);
    }
    UNROLL for (Int x = 0; x < cols; x++) store(out + x * channels, sums[0][x] + sums[1][x]);
}

/* out (cols, channels) += the gradient of one row of the kernel, from some rows of the image and of the gradient. */
static void row_gradient(
    const REAL *image, Int image_row, Int stride, Int dilation, const REAL *gradient, Int gradient_row, Int channels, Int height,
    Int width, Int cols, REAL *out
) {
    for (Int c = 0; c < channels; c += LANES) {
#define KNOWN(COLS, STRIDE, DILATION) \
    if (cols == COLS && stride == STRIDE && dilation == DILATION) { \
        known_row_gradient(COLS, STRIDE, DILATION, image + c, image_row, gradient + c, gradient_row, channels, height, width, out + c); \
        continue; \
    }
        KNOWN(3, 1, 1) KNOWN(5, 1, 1) KNOWN(3, 1, 2) KNOWN(5, 1, 2) KNOWN(3, 2, 1) KNOWN(5, 2, 1) KNOWN(3, 2, 2) KNOWN(5, 2, 2)
#undef KNOWN
        for (Int x = 0; x < cols; x++) {
            const REAL *seen = image + c + x * dilation * channels;
            REAL *to = out + c + x * channels;
            if (stride == 1)
                known_row_gradient(1, 1, 1, seen, image_row, gradient + c, gradient_row, channels, height, width, to);
            else
                known_row_gradient(1, 2, 1, seen, image_row, gradient + c, gradient_row, channels, height, width, to);
        }
    }
}

#endif
