/* Batch norm by the statistics of the batch, with what follows it: a ReLU, or sums of columns that go to one place.

   REAL is float or double. x is (images, pixels, M C); column m is added to column m % J of out, (images, pixels, J C), where
   J may be M: then each column is left alone. Statistics are sums over one image in the cache of a core, then over the
   images in double precision and in their order, so that no result depends on the number of threads. */

#include <math.h>

#include "vectors.h"

typedef struct {
    Int images, pixels, columns, channels, places; /* B, H W, M, C, J */
    int relu;                                      /* where J = M */
    double eps;
} Norms;

/* Mean and sum of squared deviations of every channel of an image. */
static void image_statistics(const REAL *restrict x, Int pixels, Int width, REAL *restrict mean, REAL *restrict squares) {
    for (Int c = 0; c < width; c++) mean[c] = squares[c] = 0;
    for (Int i = 0; i < pixels; i++)
        for (Int c = 0; c < width; c++) mean[c] += x[i * width + c];
    for (Int c = 0; c < width; c++) mean[c] /= (REAL)pixels;
    for (Int i = 0; i < pixels; i++)
        for (Int c = 0; c < width; c++) {
            REAL d = x[i * width + c] - mean[c];
            squares[c] += d * d;
        }
}

/* out = x a + b, the form of a norm whose statistics are known. */
static void affine_image(
    const Norms *s, const REAL *restrict x, const REAL *restrict a, const REAL *restrict b, REAL *restrict out
) {
    Int width = s->columns * s->channels, out_width = s->places * s->channels;
    for (Int i = 0; i < s->pixels; i++, x += width, out += out_width) {
        if (width == out_width) {
            if (s->relu)
                for (Int c = 0; c < width; c++) {
                    REAL y = x[c] * a[c] + b[c];
                    out[c] = y < 0 ? 0 : y; /* what is no number stays so */
                }
            else
                for (Int c = 0; c < width; c++) out[c] = x[c] * a[c] + b[c];
        } else {
            for (Int c = 0; c < out_width; c++) out[c] = x[c] * a[c] + b[c];
            for (Int first = out_width; first < width; first += out_width)
                for (Int c = 0; c < out_width; c++) out[c] += x[first + c] * a[first + c] + b[first + c];
        }
    }
}

/* The upstream gradient of every channel of a pixel, where the ReLU was open. */
INLINE void upstream(
    const Norms *s, const REAL *restrict x, const REAL *restrict a, const REAL *restrict b,
    const REAL *restrict gradient, REAL *restrict out
) {
    Int width = s->columns * s->channels, out_width = s->places * s->channels;
    if (s->relu)
        for (Int c = 0; c < width; c++) out[c] = x[c] * a[c] + b[c] > 0 ? gradient[c] : 0;
    else
        for (Int first = 0; first < width; first += out_width)
            for (Int c = 0; c < out_width; c++) out[first + c] = gradient[c];
}

/* a and b of the affine form. */
static void coefficients(
    const Norms *s, const REAL *scale, const REAL *shift, const double *mean, const double *variance, REAL *a, REAL *b
) {
    for (Int c = 0; c < s->columns * s->channels; c++) {
        double k = (scale ? scale[c] : 1) / sqrt(variance[c] + s->eps);
        a[c] = (REAL)k, b[c] = (REAL)((shift ? shift[c] : 0) - mean[c] * k);
    }
}

/* ---- What is called from outside. 0, or 1 without memory. J divides M. scale and shift may be NULL; mean and variance
   (biased) are those of the batch, in double precision; moving has the mean and the unbiased variance. */

int normalize(
    const Norms *s, const REAL *x, const REAL *scale, const REAL *shift, REAL *out, REAL *moving, double *mean,
    double *variance, int threads
) {
    Int width = s->columns * s->channels, P = s->pixels, out_width = s->places * s->channels;
    double count = (double)s->images * (double)P;
    REAL *means = buffer(s->images * width), *squares = buffer(s->images * width), *a = buffer(width), *b = buffer(width);
    int failed = !means || !squares || !a || !b;
    if (!failed) {
#pragma omp parallel num_threads(threads)
        {
#pragma omp for schedule(static)
            for (Int i = 0; i < s->images; i++)
                image_statistics(x + i * P * width, P, width, means + i * width, squares + i * width);
#pragma omp single
            {
                for (Int c = 0; c < width; c++) {
                    double sum = 0, spread = 0;
                    for (Int i = 0; i < s->images; i++) sum += means[i * width + c];
                    mean[c] = sum / (double)s->images;
                    for (Int i = 0; i < s->images; i++) {
                        double d = means[i * width + c] - mean[c];
                        spread += squares[i * width + c] + d * d * (double)P;
                    }
                    variance[c] = spread / count;
                    moving[c] = (REAL)mean[c], moving[width + c] = (REAL)(spread / (count - 1));
                }
                coefficients(s, scale, shift, mean, variance, a, b);
            }
#pragma omp for schedule(static)
            for (Int i = 0; i < s->images; i++) affine_image(s, x + i * P * width, a, b, out + i * P * out_width);
        }
    }
    free(means), free(squares), free(a), free(b);
    return failed;
}

/* Gradients for x (may be NULL), scale and shift. */
int normalize_gradients(
    const Norms *s, const REAL *x, const REAL *scale, const REAL *shift, const REAL *gradient, REAL *of_x,
    REAL *of_scale, REAL *of_shift, const double *mean, const double *variance, int threads
) {
    Int width = s->columns * s->channels, P = s->pixels, out_width = s->places * s->channels;
    double count = (double)s->images * (double)P;
    REAL *sums = buffer(s->images * width), *products = buffer(s->images * width);
    REAL *a = buffer(width), *b = buffer(width), *middle = buffer(width), *slope = buffer(width), *level = buffer(width);
    int failed = !sums || !products || !a || !b || !middle || !slope || !level;
    if (!failed) {
        coefficients(s, scale, shift, mean, variance, a, b);
        for (Int c = 0; c < width; c++) middle[c] = (REAL)mean[c];
#pragma omp parallel num_threads(threads)
        {
            REAL *g = buffer(width);
            if (!g) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp barrier
            if (!failed) {
#pragma omp for schedule(static)
                for (Int i = 0; i < s->images; i++) {
                    REAL *restrict sum = sums + i * width, *restrict by_x = products + i * width;
                    const REAL *from = x + i * P * width, *above = gradient + i * P * out_width;
                    for (Int c = 0; c < width; c++) sum[c] = by_x[c] = 0;
                    for (Int p = 0; p < P; p++, from += width, above += out_width) {
                        upstream(s, from, a, b, above, g);
                        for (Int c = 0; c < width; c++) {
                            sum[c] += g[c];
                            by_x[c] += g[c] * (from[c] - middle[c]);
                        }
                    }
                }
#pragma omp single
                for (Int c = 0; c < width; c++) {
                    double sum = 0, by_x = 0, rate = 1 / sqrt(variance[c] + s->eps);
                    for (Int i = 0; i < s->images; i++) sum += sums[i * width + c], by_x += products[i * width + c];
                    of_shift[c] = (REAL)sum, of_scale[c] = (REAL)(by_x * rate);
                    /* the gradient is a g - level - slope (x - mean) */
                    slope[c] = (REAL)(a[c] * rate * rate * by_x / count);
                    level[c] = (REAL)(a[c] * sum / count);
                }
                if (of_x) {
#pragma omp for schedule(static)
                    for (Int i = 0; i < s->images; i++) {
                        const REAL *restrict from = x + i * P * width, *above = gradient + i * P * out_width;
                        REAL *restrict to = of_x + i * P * width;
                        for (Int p = 0; p < P; p++, from += width, above += out_width, to += width) {
                            upstream(s, from, a, b, above, g);
                            for (Int c = 0; c < width; c++) to[c] = a[c] * g[c] - level[c] - slope[c] * (from[c] - middle[c]);
                        }
                    }
                }
            }
            free(g);
        }
    }
    free(sums), free(products), free(a), free(b), free(middle), free(slope), free(level);
    return failed;
}
