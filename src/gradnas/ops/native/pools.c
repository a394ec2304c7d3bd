/* A state and its pools on a CPU, batch norm behind them or not; times their mixing weights they are added up in places.

   REAL is float or double. Images lie as (batch, rows, columns, channels). M columns share one map, that of the pool, and
   have norms of their own, which differ in their scale and shift and, where they are known, in their statistics. Sums over
   the batch are added up per image, see columns.h. */

#include "columns.h"

enum { IDENTITY, MAXIMUM, AVERAGE }; /* kinds */

typedef struct {
    Int batch, height, width, channels, out_h, out_w;
    Int kind, size, stride, padding;
    Int columns, mixing_row; /* see chains.c */
    Int normed, known;
    double eps, momentum;
} Pool;

enum { SCALE, SHIFT, MEAN, VARIANCE, GIVEN }; /* pointers that come with a column */
enum { OF_SCALE, OF_SHIFT, FOUND };

/* Rows of the image, from one on and before another, that the outputs of row r see. */
typedef struct {
    Int from, end;
} Rows;

static Rows rows_of(const Pool *p, Int r) {
    Int from = r * p->stride - p->padding, end = from + p->size;
    return (Rows){from > 0 ? from : 0, end < p->height ? end : p->height};
}

/* First output whose tap dx lies in the image, the one behind the last, and how many lie side by side: all of them at
   stride 1. */
typedef struct {
    Int first, end, together;
} Run;

static Run run_of(const Pool *p, Int dx) {
    Int left = p->padding - dx, first = left > 0 ? (left + p->stride - 1) / p->stride : 0;
    Int end = (p->width - 1 + left) / p->stride + 1;
    if (p->width - 1 + left < 0) end = 0;
    if (end > p->out_w) end = p->out_w;
    if (first > end) first = end;
    return (Run){first, end, p->stride == 1 ? end - first : 1};
}

static void largest(REAL *restrict out, const REAL *restrict x, Int n) {
    for (Int e = 0; e < n; e++) out[e] = x[e] > out[e] || x[e] != x[e] ? x[e] : out[e];
}

static void add(REAL *restrict out, const REAL *restrict x, Int n) {
    for (Int e = 0; e < n; e++) out[e] += x[e];
}

/* The gradient goes to the first of the largest: what is left of it is 0 for the others. What is no number gets none. */
static void to_largest(REAL *restrict of_x, const REAL *restrict x, const REAL *restrict most, REAL *restrict left, Int n) {
    for (Int e = 0; e < n; e++) {
        REAL here = x[e] == most[e] ? left[e] : 0;
        of_x[e] += here, left[e] = x[e] == most[e] ? 0 : left[e];
    }
}

/* One over the number of pixels that each output of row r averages. */
static void shares(const Pool *p, Int r, REAL *out) {
    Rows rows = rows_of(p, r);
    for (Int i = 0; i < p->out_w; i++) out[i] = 0;
    for (Int dx = 0; dx < p->size; dx++) {
        Run run = run_of(p, dx);
        for (Int i = run.first; i < run.end; i++) out[i] += (REAL)(rows.end - rows.from);
    }
    for (Int i = 0; i < p->out_w; i++) out[i] = 1 / out[i];
}

static void scale_pixels(REAL *x, const REAL *by, Int pixels, Int C) {
    for (Int i = 0; i < pixels; i++)
        for (Int ch = 0; ch < C; ch++) x[i * C + ch] *= by[i];
}

static void pool_image(const Pool *p, const REAL *x, REAL *of_pixels, REAL *out) {
    Int C = p->channels;
    for (Int r = 0; r < p->out_h; r++, out += p->out_w * C) {
        for (Int e = 0; e < p->out_w * C; e++) out[e] = p->kind == MAXIMUM ? -INFINITY : 0;
        Rows rows = rows_of(p, r);
        for (Int y = rows.from; y < rows.end; y++)
            for (Int dx = 0; dx < p->size; dx++) {
                Run run = run_of(p, dx);
                for (Int i = run.first; i < run.end; i += run.together) {
                    const REAL *from = x + (y * p->width + i * p->stride + dx - p->padding) * C;
                    (p->kind == MAXIMUM ? largest : add)(out + i * C, from, run.together * C);
                }
            }
        if (p->kind == AVERAGE) shares(p, r, of_pixels), scale_pixels(out, of_pixels, p->out_w, C);
    }
}

/* Adds the gradient of row r of the pool, which is used up, to the one of x. */
static void pool_gradient_row(const Pool *p, Int r, const REAL *x, const REAL *raw, REAL *of_pixels, REAL *gradient, REAL *of_x) {
    Int C = p->channels;
    if (p->kind == AVERAGE) shares(p, r, of_pixels), scale_pixels(gradient, of_pixels, p->out_w, C);
    Rows rows = rows_of(p, r);
    for (Int y = rows.from; y < rows.end; y++)
        for (Int dx = 0; dx < p->size; dx++) {
            Run run = run_of(p, dx);
            for (Int i = run.first; i < run.end; i += run.together) {
                Int at = (y * p->width + i * p->stride + dx - p->padding) * C;
                if (p->kind == MAXIMUM)
                    to_largest(of_x + at, x + at, raw + i * C, gradient + i * C, run.together * C);
                else
                    add(of_x + at, gradient + i * C, run.together * C);
            }
        }
}

/* a and b of the norm of a column, and the mean; 1, 0 and 0 without one. moments are (M, 2, C). */
static void coefficients(const Pool *p, Int m, REAL *const *given, const double *moments, REAL *a, REAL *b, REAL *middle) {
    Int C = p->channels;
    REAL *const *own = given + m * GIVEN;
    for (Int ch = 0; ch < C; ch++) {
        double mean = p->normed ? moments[2 * m * C + ch] : 0;
        double rate = p->normed ? (own[SCALE] ? own[SCALE][ch] : 1) / sqrt(moments[(2 * m + 1) * C + ch] + p->eps) : 1;
        a[m * C + ch] = (REAL)rate, b[m * C + ch] = (REAL)((own[SHIFT] ? own[SHIFT][ch] : 0) - mean * rate);
        middle[m * C + ch] = (REAL)mean;
    }
}

static void add_map(
    const REAL *restrict raw, Int pixels, Int C, const REAL *restrict a, const REAL *restrict b, REAL weight, int first,
    REAL *restrict out
) {
    for (Int i = 0; i < pixels; i++, raw += C, out += C)
        if (first)
            for (Int ch = 0; ch < C; ch++) out[ch] = (raw[ch] * a[ch] + b[ch]) * weight;
        else
            for (Int ch = 0; ch < C; ch++) out[ch] += (raw[ch] * a[ch] + b[ch]) * weight;
}

/* ---- What is called from outside. 0, or 1 without memory. Arguments as of chains; raw (batch, pixels, C) is what the pool
   gives, x itself for the identity; moments (M, 2, C). */

int pool(
    const Pool *p, const Int *places, const Int *adds, REAL *const *given, const REAL *x, const REAL *mixing, REAL *raw,
    double *moments, REAL *const *outs, int threads
) {
    Int M = p->columns, C = p->channels, P = p->out_h * p->out_w, in_size = p->height * p->width * C;
    REAL *means = buffer(p->batch * C), *squares = buffer(p->batch * C), *a = buffer(M * C), *b = buffer(M * C);
    REAL *middle = buffer(M * C);
    int failed = !means || !squares || !a || !b || !middle;
    if (!failed) {
#pragma omp parallel num_threads(threads)
        {
            REAL *of_pixels = buffer(p->out_w);
            if (!of_pixels) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp barrier
#pragma omp for schedule(static)
            for (Int i = 0; i < (failed ? 0 : p->batch); i++) {
                if (p->kind != IDENTITY) pool_image(p, x + i * in_size, of_pixels, raw + i * P * C);
                if (p->normed && !p->known) image_statistics(raw + i * P * C, C, P, C, means + i * C, squares + i * C);
            }
#pragma omp single
            for (Int m = 0; m < (failed ? 0 : M); m++) {
                REAL *const *own = given + m * GIVEN;
                double *mean = moments + 2 * m * C, *variance = mean + C;
                for (Int ch = 0; p->normed && ch < C; ch++) {
                    if (p->known) {
                        mean[ch] = own[MEAN][ch], variance[ch] = own[VARIANCE][ch];
                        continue;
                    }
                    if (m)
                        mean[ch] = moments[ch], variance[ch] = moments[C + ch];
                    else
                        batch_moments(means + ch, squares + ch, C, p->batch, P, mean + ch, variance + ch);
                    if (own[MEAN])
                        move_running(own[MEAN] + ch, own[VARIANCE] + ch, mean[ch], variance[ch], (double)(p->batch * P), p->momentum);
                }
                coefficients(p, m, given, moments, a, b, middle);
            }
#pragma omp for schedule(static)
            for (Int i = 0; i < (failed ? 0 : p->batch); i++)
                for (Int m = 0; m < M; m++) {
                    add_map(raw + i * P * C, P, C, a + m * C, b + m * C, mixing[i * p->mixing_row + m], is_first(places, adds, m),
                            outs[places[m]] + i * P * C);
                }
            free(of_pixels);
        }
    }
    free(means), free(squares), free(a), free(b), free(middle);
    return failed;
}

/* Gradients for x (over what is there if over), mixing weights, scales and shifts; each may be NULL. */
int pool_gradients(
    const Pool *p, const Int *places, REAL *const *given, const REAL *x, const REAL *mixing, const REAL *raw,
    const double *moments, REAL *const *gradients, REAL *of_x, Int over, REAL *of_mixing, REAL *const *found, int threads
) {
    Int M = p->columns, C = p->channels, P = p->out_h * p->out_w, in_size = p->height * p->width * C;
    REAL *sums = buffer(p->batch * M * C), *by_x = buffer(p->batch * M * C), *a = buffer(M * C), *b = buffer(M * C);
    REAL *middle = buffer(M * C), *slope = buffer(C), *level = buffer(C);
    int failed = !sums || !by_x || !a || !b || !middle || !slope || !level;
    if (!failed) {
#pragma omp parallel num_threads(threads)
        {
            REAL *of_pixels = buffer(p->out_w), *row = buffer(p->out_w * C);
            if (!of_pixels || !row) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp barrier
#pragma omp single
            for (Int m = 0; m < M; m++) coefficients(p, m, given, moments, a, b, middle);
#pragma omp for schedule(static)
            for (Int i = 0; i < (failed ? 0 : p->batch); i++)
                for (Int m = 0; m < M; m++) {
                    Int at = (i * M + m) * C;
                    const REAL *g = gradients[places[m]];
                    if (g) {
                        image_sums(g + i * P * C, C, raw + i * P * C, C, middle + m * C, P, C, sums + at, by_x + at);
                    } else {
                        for (Int ch = 0; ch < C; ch++) sums[at + ch] = by_x[at + ch] = 0;
                    }
                }
#pragma omp single
            {
                double count = (double)p->batch * (double)P;
                for (Int ch = 0; ch < C; ch++) slope[ch] = level[ch] = 0;
                for (Int m = 0; m < (failed ? 0 : M); m++) {
                    REAL *const *own = given + m * GIVEN, *const *wanted = found + m * FOUND;
                    double all = 0;
                    for (Int i = 0; of_mixing && i < p->batch; i++) {
                        double of_image = 0;
                        for (Int ch = 0; ch < C; ch++) {
                            Int at = (i * M + m) * C + ch;
                            of_image += (double)a[m * C + ch] * by_x[at] + (own[SHIFT] ? own[SHIFT][ch] : 0) * sums[at];
                        }
                        all += of_image;
                        if (p->mixing_row) of_mixing[i * M + m] = (REAL)of_image;
                    }
                    if (of_mixing && !p->mixing_row) of_mixing[m] = (REAL)all;
                    for (Int ch = 0; p->normed && ch < C; ch++) {
                        double sum = 0, sum_by_x = 0, rate = 1 / sqrt(moments[(2 * m + 1) * C + ch] + p->eps);
                        for (Int i = 0; i < p->batch; i++) {
                            double weight = mixing[i * p->mixing_row + m];
                            sum += weight * sums[(i * M + m) * C + ch], sum_by_x += weight * by_x[(i * M + m) * C + ch];
                        }
                        if (wanted[OF_SCALE]) wanted[OF_SCALE][ch] = (REAL)(sum_by_x * rate);
                        if (wanted[OF_SHIFT]) wanted[OF_SHIFT][ch] = (REAL)sum;
                        if (p->known) continue;
                        slope[ch] += (REAL)(a[m * C + ch] * rate * rate * sum_by_x / count);
                        level[ch] += (REAL)(a[m * C + ch] * sum / count);
                    }
                }
            }
            if (of_x) {
#pragma omp for schedule(static)
                for (Int i = 0; i < (failed ? 0 : p->batch); i++) {
                    REAL *of_image = of_x + i * in_size;
                    if (!over) memset(of_image, 0, sizeof(REAL) * in_size);
                    for (Int r = 0; r < p->out_h; r++) {
                        const REAL *own = raw + (i * P + r * p->out_w) * C;
                        memset(row, 0, sizeof(REAL) * p->out_w * C);
                        for (Int w = 0; p->normed && !p->known && w < p->out_w; w++)
                            for (Int ch = 0; ch < C; ch++)
                                row[w * C + ch] = -level[ch] - slope[ch] * (own[w * C + ch] - middle[ch]);
                        for (Int m = 0; m < M; m++) {
                            const REAL *g = gradients[places[m]], *rate = a + m * C;
                            if (!g) continue;
                            g += (i * P + r * p->out_w) * C;
                            REAL weight = mixing[i * p->mixing_row + m];
                            for (Int w = 0; w < p->out_w; w++)
                                for (Int ch = 0; ch < C; ch++) row[w * C + ch] += weight * rate[ch] * g[w * C + ch];
                        }
                        if (p->kind == IDENTITY)
                            add(of_image + r * p->out_w * C, row, p->out_w * C);
                        else
                            pool_gradient_row(p, r, x + i * in_size, own, of_pixels, row, of_image);
                    }
                }
            }
            free(of_pixels), free(row);
        }
    }
    free(sums), free(by_x), free(a), free(b), free(middle), free(slope), free(level);
    return failed;
}
