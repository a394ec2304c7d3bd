/* Separable convolutions on a CPU: M depthwise convolutions side by side, each followed by a pointwise one.

   REAL is float or double. Images lie as (batch, rows, columns, channels). One image and one of the M columns at a time,
   or as many narrow ones as fill a vector, are padded, go through both convolutions and, backwards, through their
   gradients, all within the cache of a core. Channels are padded to whole vectors in buffers, so that every inner loop is
   a loop over vectors.

   Names: B images, M columns, C channels in and O out of a column, K taps of a kernel. All gradients of weights come
   per image; who adds them up decides the order, so that no result depends on the number of threads. */

#include "vectors.h"

typedef struct {
    Int batch, height, width, channels_in; /* of the input; M columns may read the same channels of it */
    Int columns, channels, outputs;        /* M, C, O */
    Int kernel_h, kernel_w, stride, pad_h, pad_w, dilation;
    Int out_h, out_w;
} Shape;

/* ---- Matrix products of few columns: out (n, cols) = a (n, inner) x b (inner, cols), rows of b whole vectors. */

INLINE void product_block(
    Int rows, Int vectors, const REAL *a, Int a_row, const REAL *b, Int b_row, Int inner, REAL *out, Int out_row, Int cols
) {
    Vector sums[PIXELS][2];
    for (Int i = 0; i < rows; i++)
        for (Int v = 0; v < vectors; v++) sums[i][v] = (Vector){0};
    for (Int k = 0; k < inner; k++) {
        Vector w[2];
        for (Int v = 0; v < vectors; v++) w[v] = load(b + k * b_row + v * LANES);
        for (Int i = 0; i < rows; i++) {
            Vector x = everywhere(a[i * a_row + k]);
            for (Int v = 0; v < vectors; v++) sums[i][v] += x * w[v];
        }
    }
    for (Int i = 0; i < rows; i++)
        for (Int v = 0; v < vectors; v++) store_some(out + i * out_row + v * LANES, sums[i][v], cols - v * LANES);
}

static void product(
    const REAL *a, Int a_row, const REAL *b, Int b_row, Int inner, REAL *out, Int out_row, Int n, Int cols
) {
    for (Int j = 0; j < cols; j += 2 * LANES) {
        Int left = cols - j, i = 0;
        if (left > LANES) {
            for (; i + PIXELS <= n; i += PIXELS)
                product_block(PIXELS, 2, a + i * a_row, a_row, b + j, b_row, inner, out + i * out_row + j, out_row, left);
            for (; i < n; i++)
                product_block(1, 2, a + i * a_row, a_row, b + j, b_row, inner, out + i * out_row + j, out_row, left);
        } else {
            for (; i + PIXELS <= n; i += PIXELS)
                product_block(PIXELS, 1, a + i * a_row, a_row, b + j, b_row, inner, out + i * out_row + j, out_row, left);
            for (; i < n; i++)
                product_block(1, 1, a + i * a_row, a_row, b + j, b_row, inner, out + i * out_row + j, out_row, left);
        }
    }
}

/* ---- Sums of outer products: out (O, C) = sum over n pixels of g (n, O) and t (n, C), rows of t whole vectors. */

INLINE void outer_block(
    Int rows, Int vectors, const REAL *g, Int g_row, const REAL *t, Int t_row, Int n, REAL *out, Int out_row, Int cols
) {
    Vector sums[PIXELS][2];
    for (Int o = 0; o < rows; o++)
        for (Int v = 0; v < vectors; v++) sums[o][v] = (Vector){0};
    for (Int i = 0; i < n; i++) {
        Vector x[2];
        for (Int v = 0; v < vectors; v++) x[v] = *(const Anywhere *)(t + i * t_row + v * LANES);
        for (Int o = 0; o < rows; o++) {
            Vector y = everywhere(g[i * g_row + o]);
            for (Int v = 0; v < vectors; v++) sums[o][v] += y * x[v];
        }
    }
    for (Int o = 0; o < rows; o++)
        for (Int v = 0; v < vectors; v++) store_some(out + o * out_row + v * LANES, sums[o][v], cols - v * LANES);
}

static void outer_products(const REAL *g, Int g_row, const REAL *t, Int t_row, Int n, REAL *out, Int O, Int C) {
    for (Int c = 0; c < C; c += 2 * LANES) {
        Int left = C - c, o = 0;
        if (left > LANES) {
            for (; o + PIXELS <= O; o += PIXELS) outer_block(PIXELS, 2, g + o, g_row, t + c, t_row, n, out + o * C + c, C, left);
            for (; o < O; o++) outer_block(1, 2, g + o, g_row, t + c, t_row, n, out + o * C + c, C, left);
        } else {
            for (; o + PIXELS <= O; o += PIXELS) outer_block(PIXELS, 1, g + o, g_row, t + c, t_row, n, out + o * C + c, C, left);
            for (; o < O; o++) outer_block(1, 1, g + o, g_row, t + c, t_row, n, out + o * C + c, C, left);
        }
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
    for (Int i = 0; i < n; i++) sums[i] = (Vector){0};
    for (Int y = 0; y < taps->rows; y++)
        for (Int x = 0; x < taps->cols; x++) {
            Vector w = load(kernel + y * taps->kernel_row + x * taps->kernel_col);
            const REAL *seen = image + y * taps->image_row + x * taps->image_col;
            for (Int i = 0; i < n; i++) sums[i] += w * load(seen + i * taps->step);
        }
    for (Int i = 0; i < n; i++) store(out + i * out_step, sums[i]);
}

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

/* ---- Gradient of one row of a depthwise kernel: each tap is a sum over all pixels of image times gradient. */

INLINE void kernel_row_block(
    Int taps, const REAL *image, Int image_row, Int image_step, Int image_col, const REAL *gradient, Int gradient_row,
    Int channels, Int rows, Int cols, REAL *out
) {
    Vector sums[5];
    for (Int j = 0; j < taps; j++) sums[j] = (Vector){0};
    for (Int r = 0; r < rows; r++)
        for (Int i = 0; i < cols; i++) {
            Vector g = load(gradient + r * gradient_row + i * channels);
            const REAL *seen = image + r * image_row + i * image_step;
            for (Int j = 0; j < taps; j++) sums[j] += g * load(seen + j * image_col);
        }
    for (Int j = 0; j < taps; j++) store(out + j * channels, sums[j]);
}

static void kernel_row(
    Int taps, const REAL *image, Int image_row, Int image_step, Int image_col, const REAL *gradient, Int gradient_row,
    Int channels, Int rows, Int cols, REAL *out
) {
    while (taps > 0) {
        Int now = taps >= 5 ? 5 : taps >= 3 ? 3 : 1;
#define BLOCK(N) kernel_row_block(N, image, image_row, image_step, image_col, gradient, gradient_row, channels, rows, cols, out)
        if (now == 5) BLOCK(5);
        else if (now == 3) BLOCK(3);
        else BLOCK(1);
#undef BLOCK
        taps -= now, image += now * image_col, out += now * channels;
    }
}

/* Columns that are taken at a time: some first ones, from their number on. */
typedef struct {
    Int first, number, channels; /* channels of all of them, padded */
} Columns;

static Columns columns_from(const Shape *s, Int first) {
    Int number = LANES > s->channels ? LANES / s->channels : 1;
    if (number > s->columns - first) number = s->columns - first;
    return (Columns){first, number, whole_vectors(number * s->channels)};
}

static Int widest(const Shape *s) { return columns_from(s, 0).channels; }

/* Where the channels of a column begin in a pixel of x. */
INLINE Int source(const Shape *s, Int column) { return column * s->channels % s->channels_in; }

/* The channels of some columns of one image, with zeros around it and behind the channels. */
static void padded_image(const REAL *x, const Shape *s, Columns some, REAL *out) {
    Int width = s->width + 2 * s->pad_w, channels = some.channels;
    memset(out, 0, sizeof(REAL) * s->pad_h * width * channels);
    for (Int r = 0; r < s->height; r++) {
        REAL *row = out + (r + s->pad_h) * width * channels;
        memset(row, 0, sizeof(REAL) * s->pad_w * channels);
        for (Int i = 0; i < s->width; i++) {
            REAL *pixel = row + (s->pad_w + i) * channels;
            const REAL *from = x + (r * s->width + i) * s->channels_in;
            for (Int j = 0; j < some.number; j++) copy(pixel + j * s->channels, from + source(s, some.first + j), s->channels);
            for (Int c = some.number * s->channels; c < channels; c++) pixel[c] = 0;
        }
        memset(row + (s->pad_w + s->width) * channels, 0, sizeof(REAL) * s->pad_w * channels);
    }
    memset(out + (s->pad_h + s->height) * width * channels, 0, sizeof(REAL) * s->pad_h * width * channels);
}

/* The kernels of some columns, (n C, K) to (K, channels). */
static void packed_kernels(const REAL *depthwise, const Shape *s, Columns some, REAL *out) {
    Int K = s->kernel_h * s->kernel_w;
    memset(out, 0, sizeof(REAL) * K * some.channels);
    for (Int c = 0; c < some.number * s->channels; c++)
        for (Int k = 0; k < K; k++) out[k * some.channels + c] = depthwise[(some.first * s->channels + c) * K + k];
}

/* How many rings of zeros all of these kernels have: small ones come in the frame of larger ones. */
static Int rings(const REAL *kernels, const Shape *s, Int channels) {
    Int H = s->kernel_h, W = s->kernel_w;
    for (Int ring = 0;; ring++) {
        if (2 * ring + 2 >= H || 2 * ring + 2 >= W) return ring;
        for (Int y = ring; y < H - ring; y++)
            for (Int x = ring; x < W - ring; x++) {
                if (y != ring && y != H - 1 - ring && x != ring && x != W - 1 - ring) continue;
                for (Int c = 0; c < channels; c++)
                    if (kernels[(y * W + x) * channels + c] != 0) return ring;
            }
    }
}

/* One row of the convolution of a padded image. */
static void forward_row(
    const Shape *s, Int r, const REAL *image, const REAL *kernels, Int frame, Int channels, REAL *out
) {
    Int row = (s->width + 2 * s->pad_w) * channels;
    Taps taps = {s->kernel_h - 2 * frame, s->kernel_w - 2 * frame, s->dilation * row, s->dilation * channels,
                 s->kernel_w * channels, channels, s->stride * channels};
    depthwise_row(image + r * s->stride * row + frame * (taps.image_row + taps.image_col),
                  kernels + frame * (taps.kernel_row + taps.kernel_col), &taps, out, channels, s->out_w, channels);
}

/* ---- What is called from outside. 0, or 1 without memory. */

int separable(const Shape *s, const REAL *x, const REAL *depthwise, const REAL *pointwise, REAL *out, int threads) {
    Int C = s->channels, O = s->outputs, M = s->columns, K = s->kernel_h * s->kernel_w, outputs = whole_vectors(O);
    Int padded = (s->height + 2 * s->pad_h) * (s->width + 2 * s->pad_w);
    REAL *matrices = buffer(M * C * outputs);
    int failed = !matrices;
    if (!failed) {
        memset(matrices, 0, sizeof(REAL) * M * C * outputs);
        for (Int m = 0; m < M; m++)
            for (Int o = 0; o < O; o++)
                for (Int c = 0; c < C; c++) matrices[(m * C + c) * outputs + o] = pointwise[(m * O + o) * C + c];
#pragma omp parallel num_threads(threads)
        {
            REAL *image = buffer(padded * widest(s)), *between = buffer(s->out_w * widest(s)), *kernels = buffer(K * widest(s));
            int ready = image && between && kernels;
#pragma omp for schedule(static)
            for (Int b = 0; b < s->batch; b++) {
                if (!ready) {
#pragma omp atomic write
                    failed = 1;
                    continue;
                }
                for (Int m = 0; m < M;) {
                    Columns some = columns_from(s, m);
                    packed_kernels(depthwise, s, some, kernels);
                    Int frame = rings(kernels, s, some.channels);
                    if (m == 0 || some.number > 1 || source(s, m) != source(s, m - 1))
                        padded_image(x + b * s->height * s->width * s->channels_in, s, some, image);
                    for (Int r = 0; r < s->out_h; r++) {
                        forward_row(s, r, image, kernels, frame, some.channels, between);
                        for (Int j = 0; j < some.number; j++)
                            product(between + j * C, some.channels, matrices + (m + j) * C * outputs, outputs, C,
                                    out + ((b * s->out_h + r) * s->out_w * M + m + j) * O, M * O, s->out_w, O);
                    }
                    m += some.number;
                }
            }
            free(image), free(between), free(kernels);
        }
    }
    free(matrices);
    return failed;
}

/* Gradient of one row h of the image from the gradient behind the depthwise kernel, which has margins of zeros. At stride
   2 columns of the image alternate: each parity meets taps of its own. */
static void input_gradient_row(
    const Shape *s, Int h, const REAL *gradient, Int width, Int top, Int left, const REAL *kernel, Int frame, Int channels,
    REAL *out
) {
    Int S = s->stride, D = s->dilation, skip = S == 2 && D % 2 ? 2 : 1; /* from one tap that meets the row to the next */
    for (Int e = 0; e < S && e < s->width; e++) {
        Int n = (s->width - e + S - 1) / S, y = h + s->pad_h, x = e + s->pad_w, ky = frame, kx = frame;
        if (skip == 2) ky += (y ^ ky) & 1, kx += (x ^ kx) & 1;
        Taps taps = {(s->kernel_h - frame - ky + skip - 1) / skip, (s->kernel_w - frame - kx + skip - 1) / skip,
                     -(skip * D / S) * width * channels, -(skip * D / S) * channels, skip * s->kernel_w * channels,
                     skip * channels, channels};
        if ((y - ky * D) % S || (x - kx * D) % S || taps.rows <= 0 || taps.cols <= 0) taps.rows = 0;
        Int from = taps.rows ? (((y - ky * D) / S + top) * width + (x - kx * D) / S + left) * channels : 0;
        depthwise_row(gradient + from, kernel + (ky * s->kernel_w + kx) * channels, &taps, out + e * channels,
                      S * channels, n, channels);
    }
}

/* Gradients for the input, and per image for the depthwise kernels (B, M C, K) and the matrices (B, M, O, C); each may be
   NULL. */
int separable_gradients(
    const Shape *s, const REAL *x, const REAL *depthwise, const REAL *pointwise, const REAL *gradient, REAL *of_x,
    REAL *of_depthwise, REAL *of_pointwise, int threads
) {
    Int C = s->channels, O = s->outputs, M = s->columns, K = s->kernel_h * s->kernel_w, S = s->stride, D = s->dilation;
    Int padded = (s->height + 2 * s->pad_h) * (s->width + 2 * s->pad_w), pixels = s->out_h * s->out_w;
    Int top = D * (s->kernel_h - 1) / S + 1, left = D * (s->kernel_w - 1) / S + 1; /* margins of the gradient */
    Int width = s->out_w + 2 * left, size = (s->out_h + 2 * top) * width, image_size = s->height * s->width;
    Int inner = whole_vectors(C);
    int shared = s->channels_in < M * C;
    REAL *matrices = buffer(M * O * inner);
    int failed = !matrices;
    if (!failed) {
        memset(matrices, 0, sizeof(REAL) * M * O * inner);
        for (Int i = 0; i < M * O; i++) copy(matrices + i * inner, pointwise + i * C, C);
#pragma omp parallel num_threads(threads)
        {
            Int most = widest(s);
            REAL *image = buffer(padded * most), *between = buffer(pixels * most + LANES), *of_between = buffer(size * most);
            REAL *of_row = buffer(s->width * most), *kernels = buffer(K * most), *of_kernels = buffer(K * most);
            int ready = image && between && of_between && of_row && kernels && of_kernels;
            if (ready) memset(of_between, 0, sizeof(REAL) * size * most); /* only its inside is written below */
#pragma omp for schedule(static)
            for (Int b = 0; b < s->batch; b++) {
                if (!ready) {
#pragma omp atomic write
                    failed = 1;
                    continue;
                }
                const REAL *x_b = x + b * image_size * s->channels_in;
                REAL *of_x_b = of_x ? of_x + b * image_size * s->channels_in : NULL;
                if (of_x && shared) memset(of_x_b, 0, sizeof(REAL) * image_size * s->channels_in);
                for (Int m = 0; m < M;) {
                    Columns some = columns_from(s, m);
                    Int channels = some.channels, row = (s->width + 2 * s->pad_w) * channels;
                    REAL *inside = of_between + (top * width + left) * channels;
                    const REAL *g = gradient + (b * pixels * M + m) * O;
                    packed_kernels(depthwise, s, some, kernels);
                    Int frame = rings(kernels, s, channels);
                    if ((of_depthwise || of_pointwise) && (m == 0 || some.number > 1 || source(s, m) != source(s, m - 1)))
                        padded_image(x_b, s, some, image);
                    if (of_pointwise) {
                        for (Int r = 0; r < s->out_h; r++)
                            forward_row(s, r, image, kernels, frame, channels, between + r * s->out_w * channels);
                        for (Int j = 0; j < some.number; j++)
                            outer_products(g + j * O, M * O, between + j * C, channels, pixels,
                                           of_pointwise + (b * M + m + j) * O * C, O, C);
                    }
                    if (of_depthwise || of_x)
                        for (Int j = 0; j < some.number; j++)
                            for (Int r = 0; r < s->out_h; r++)
                                product(g + r * s->out_w * M * O + j * O, M * O, matrices + (m + j) * O * inner, inner, O,
                                        inside + r * width * channels + j * C, channels, s->out_w, C);
                    if (of_depthwise) {
                        for (Int c = 0; c < channels; c += LANES)
                            for (Int y = 0; y < s->kernel_h; y++)
                                kernel_row(s->kernel_w, image + y * D * row + c, S * row, S * channels, D * channels, inside + c,
                                           width * channels, channels, s->out_h, s->out_w,
                                           of_kernels + y * s->kernel_w * channels + c);
                        REAL *to = of_depthwise + (b * M + m) * C * K;
                        for (Int c = 0; c < some.number * C; c++)
                            for (Int k = 0; k < K; k++) to[c * K + k] = of_kernels[k * channels + c];
                    }
                    for (Int h = 0; of_x && h < s->height; h++) {
                        input_gradient_row(s, h, of_between, width, top, left, kernels, frame, channels, of_row);
                        for (Int i = 0; i < s->width; i++)
                            for (Int j = 0; j < some.number; j++) {
                                REAL *to = of_x_b + (h * s->width + i) * s->channels_in + source(s, m + j);
                                const REAL *from = of_row + i * channels + j * C;
                                if (shared)
                                    for (Int c = 0; c < C; c++) to[c] += from[c];
                                else
                                    copy(to, from, C);
                            }
                    }
                    m += some.number;
                }
            }
            free(image), free(between), free(of_between), free(of_row), free(kernels), free(of_kernels);
        }
    }
    free(matrices);
    return failed;
}
