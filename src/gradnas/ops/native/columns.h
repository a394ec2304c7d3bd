/* What operations on columns have in common: places that columns are added to, statistics of their batch norms.

   Sums are over an image in the cache of a core, then over the images in double precision and in their order, so that no
   result depends on the number of threads. */

#ifndef GRADNAS_COLUMNS_H
#define GRADNAS_COLUMNS_H

#include <math.h>

#include "vectors.h"

/* Whether column m is the first of its place, and the place is not to be added to: then it is written. */
static int is_first(const Int *places, const Int *adds, Int m) {
    for (Int k = 0; k < m; k++)
        if (places[k] == places[m]) return 0;
    return !adds[places[m]];
}

/* Mean and sum of squared deviations of n channels of an image. */
static void image_statistics(const REAL *x, Int row, Int pixels, Int n, REAL *mean, REAL *squares) {
    for (Int ch = 0; ch < n; ch += LANES) {
        const REAL *from = x + ch;
        if (n - ch < LANES) {
            for (; ch < n; ch++) {
                REAL sum = 0, spread = 0;
                for (Int i = 0; i < pixels; i++) sum += x[i * row + ch];
                sum /= (REAL)pixels;
                for (Int i = 0; i < pixels; i++) spread += (x[i * row + ch] - sum) * (x[i * row + ch] - sum);
                mean[ch] = sum, squares[ch] = spread;
            }
            return;
        }
        Vector sums[4] = {{0}, {0}, {0}, {0}}, spread[4] = {{0}, {0}, {0}, {0}};
        Int i = 0;
        for (; i + 4 <= pixels; i += 4, from += 4 * row)
            UNROLL for (Int j = 0; j < 4; j++) sums[j] += load_any(from + j * row);
        for (; i < pixels; i++, from += row) sums[0] += load_any(from);
        Vector middle = (sums[0] + sums[1] + sums[2] + sums[3]) / (REAL)pixels;
        for (i = 0, from = x + ch; i + 4 <= pixels; i += 4, from += 4 * row)
            UNROLL for (Int j = 0; j < 4; j++) {
                Vector d = load_any(from + j * row) - middle;
                spread[j] += d * d;
            }
        for (; i < pixels; i++, from += row) {
            Vector d = load_any(from) - middle;
            spread[0] += d * d;
        }
        store_any(mean + ch, middle), store_any(squares + ch, spread[0] + spread[1] + spread[2] + spread[3]);
    }
}

/* Mean and biased variance of one channel of the batch, from those of its images, `row` apart. */
static void batch_moments(const REAL *means, const REAL *squares, Int row, Int images, Int pixels, double *mean, double *variance) {
    double sum = 0, spread = 0;
    for (Int i = 0; i < images; i++) sum += means[i * row];
    *mean = sum / (double)images;
    for (Int i = 0; i < images; i++) {
        double d = means[i * row] - *mean;
        spread += squares[i * row] + d * d * (double)pixels;
    }
    *variance = spread / ((double)images * (double)pixels);
}

/* Running statistics of a channel follow those of a batch of `count` values. */
static void move_running(REAL *running_mean, REAL *running_variance, double mean, double variance, double count, double momentum) {
    *running_mean += (REAL)(momentum * (mean - *running_mean));
    *running_variance += (REAL)(momentum * (variance * count / (count - 1) - *running_variance));
}

/* Sums over the pixels of an image of a gradient, and of it times x - middle; n channels. */
static void image_sums(
    const REAL *gradient, Int gradient_row, const REAL *x, Int x_row, const REAL *middle, Int pixels, Int n, REAL *sum, REAL *by_x
) {
    for (Int ch = 0; ch < n; ch += LANES) {
        const REAL *g = gradient + ch, *from = x + ch;
        if (n - ch < LANES) {
            for (Int o = 0; o < n - ch; o++) {
                REAL all = 0, all_by_x = 0;
                for (Int i = 0; i < pixels; i++) {
                    all += g[i * gradient_row + o];
                    all_by_x += g[i * gradient_row + o] * (from[i * x_row + o] - middle[ch + o]);
                }
                sum[ch + o] = all, by_x[ch + o] = all_by_x;
            }
            return;
        }
        Vector m = load_any(middle + ch), sums[4] = {{0}, {0}, {0}, {0}}, by[4] = {{0}, {0}, {0}, {0}};
        Int i = 0;
        for (; i + 4 <= pixels; i += 4, g += 4 * gradient_row, from += 4 * x_row)
            UNROLL for (Int j = 0; j < 4; j++) {
                Vector v = load_any(g + j * gradient_row);
                sums[j] += v, by[j] += v * (load_any(from + j * x_row) - m);
            }
        for (; i < pixels; i++, g += gradient_row, from += x_row) {
            Vector v = load_any(g);
            sums[0] += v, by[0] += v * (load_any(from) - m);
        }
        store_any(sum + ch, sums[0] + sums[1] + sums[2] + sums[3]), store_any(by_x + ch, by[0] + by[1] + by[2] + by[3]);
    }
}

#endif
