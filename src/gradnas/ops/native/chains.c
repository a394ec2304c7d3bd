/* Chains of separable convolutions on a CPU: M columns side by side read one input; each is some stages of a depthwise
   convolution, a pointwise one and a batch norm, with ReLUs between them; times their mixing weights they are added up in
   places.

   REAL is float or double. Images lie as (batch, rows, columns, channels). Each stage takes one image and one column at a
   time, or as many narrow ones as fill a vector, a *pack*, through the norm and the ReLU before it, through both convolutions
   and, backwards, through their gradients, all within the cache of a core. Only what the pointwise convolutions give is
   kept, as (packs, batch, pixels, channels of a pack in whole vectors). In a pack the matrices of its columns are blocks of
   one, so that what is no number in one column is none in its whole pack.

   Gradients of weights are added up per image, or per few images, and then in their order, so that no result depends on the
   number of threads; statistics see columns.h. */

#include "columns.h"
#include "convolutions.h"

typedef struct {
    Int height, width, channels;                            /* what a column takes */
    Int out_h, out_w, outputs;                              /* and gives */
    Int kernel_h, kernel_w, stride, pad_h, pad_w, dilation; /* of the largest kernel; smaller ones share its centre */
    double eps, momentum;
} Stage;

typedef struct {
    Int batch, columns, stages;
    Int mixing_row; /* from image to image in the mixing weights: 0, or M where each has its own */
    Int relu;       /* of the input, first */
    Int known;      /* normalize by the running statistics, not by those of the batch */
} Chains;

/* Pointers that come with column m of stage s, from place (s M + m) times their number on; NULL for what there is not. */
enum { KERNEL, MATRIX, SCALE, SHIFT, MEAN, VARIANCE, GIVEN };
enum { OF_KERNEL, OF_MATRIX, OF_SCALE, OF_SHIFT, FOUND };

/* Gradients of weights are kept apart for so many groups of images, fewer where they are large, but for some always. */
enum { MOST_SLOTS = 64, LEAST_SLOTS = 16, BYTES_OF_SLOTS = 1 << 25 };

/* ---- A stage made ready: its weights in packs of columns. */

typedef struct {
    const Stage *s;
    Int number, packs;      /* columns of a pack; packs */
    Int in, out;            /* channels of a pack, in whole vectors */
    Int inner, outer;       /* those in use */
    Int pixels, pad_size;   /* of the result; of the padded image */
    Int taps;               /* of the largest kernel */
    Int *sides;             /* rows and columns of each pack's kernels */
    REAL *kernels, *turned; /* (packs, rows, cols, in), and rotated by half a turn */
    REAL *matrices, *transposed; /* (packs, inner, out), (packs, outer, in), block by block */
    REAL *raw;              /* what the pointwise convolutions give */
    double *mean, *variance;
    REAL *a, *b;            /* the norm is x a + b */
    REAL *middle, *slope, *level; /* its gradient is a g - level - slope (x - middle) */
} Level;

static Int widest(const Chains *c, const Stage *stages) {
    Int most = 1;
    for (Int s = 0; s < c->stages; s++) {
        if (stages[s].channels > most) most = stages[s].channels;
        if (stages[s].outputs > most) most = stages[s].outputs;
    }
    return most;
}

static void measure(const Chains *c, const Stage *stages, Level *levels) {
    Int number = LANES / widest(c, stages);
    if (number < 1) number = 1;
    if (number > c->columns) number = c->columns;
    for (Int i = 0; i < c->stages; i++) {
        const Stage *s = stages + i;
        Level *l = levels + i;
        *l = (Level){.s = s, .number = number, .packs = (c->columns + number - 1) / number};
        l->inner = number * s->channels, l->outer = number * s->outputs;
        l->in = whole_vectors(l->inner), l->out = whole_vectors(l->outer);
        l->pixels = s->out_h * s->out_w, l->taps = s->kernel_h * s->kernel_w;
        l->pad_size = (s->height + 2 * s->pad_h) * (s->width + 2 * s->pad_w);
    }
}

/* How many numbers are kept of the results, how many moments, and how many of the results before the last stage. */
void chains_sizes(const Chains *c, const Stage *stages, Int *numbers) {
    Level levels[c->stages];
    measure(c, stages, levels);
    numbers[0] = numbers[1] = numbers[2] = 0;
    for (Int i = 0; i < c->stages; i++) {
        numbers[2] = numbers[0];
        numbers[0] += levels[i].packs * c->batch * levels[i].pixels * levels[i].out;
        numbers[1] += 2 * levels[i].packs * levels[i].out;
    }
}

static Int columns_of(const Chains *c, const Level *l, Int pack) {
    Int left = c->columns - pack * l->number;
    return left < l->number ? left : l->number;
}

static Int room_for_sides(const Level *l) { return whole_vectors(2 * l->packs * (Int)(sizeof(Int) / sizeof(REAL))); }

/* Room for the weights of all stages in packs, in one piece of memory that the caller frees. NULL without memory. */
static REAL *prepare(const Chains *c, Level *levels, REAL *raw, double *moments) {
    Int size = 0;
    for (Int i = 0; i < c->stages; i++) {
        const Level *l = levels + i;
        size += room_for_sides(l) + l->packs * (5 * l->out + 2 * l->taps * l->in + l->inner * l->out + l->outer * l->in);
    }
    REAL *memory = buffer(size), *next = memory;
    for (Int i = 0; memory && i < c->stages; i++) {
        Level *l = levels + i;
#define TAKE(N) (next += (N), next - (N))
        l->sides = (Int *)TAKE(room_for_sides(l));
        l->kernels = TAKE(l->packs * l->taps * l->in), l->turned = TAKE(l->packs * l->taps * l->in);
        l->matrices = TAKE(l->packs * l->inner * l->out), l->transposed = TAKE(l->packs * l->outer * l->in);
        l->a = TAKE(l->packs * l->out), l->b = TAKE(l->packs * l->out);
        l->middle = TAKE(l->packs * l->out), l->slope = TAKE(l->packs * l->out), l->level = TAKE(l->packs * l->out);
#undef TAKE
        l->raw = raw, raw += l->packs * c->batch * l->pixels * l->out;
        l->mean = moments, l->variance = moments + l->packs * l->out, moments += 2 * l->packs * l->out;
    }
    return memory;
}

static void zeros(REAL *p, Int n) { memset(p, 0, sizeof(REAL) * n); }

/* Fills the room of a pack; what only gradients need if backwards. */
static void pack_weights(const Chains *c, const Level *l, Int stage, Int q, const Int *sides, REAL *const *given, int backwards) {
    Int C = l->s->channels, O = l->s->outputs, in = l->in, out = l->out, rows = 1, cols = 1, first = stage * c->columns + q * l->number;
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        const Int *side = sides + 2 * (first + j);
        if (side[0] > rows) rows = side[0];
        if (side[1] > cols) cols = side[1];
    }
    l->sides[2 * q] = rows, l->sides[2 * q + 1] = cols;
    REAL *kernels = l->kernels + q * l->taps * in, *turned = l->turned + q * l->taps * in;
    REAL *matrix = l->matrices + q * l->inner * out, *transposed = l->transposed + q * l->outer * in;
    zeros(kernels, l->taps * in), zeros(matrix, l->inner * out);
    if (backwards) zeros(turned, l->taps * in), zeros(transposed, l->outer * in);
    zeros(l->a + q * out, out), zeros(l->b + q * out, out), zeros(l->middle + q * out, out);
    zeros(l->slope + q * out, out), zeros(l->level + q * out, out);
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        const Int *side = sides + 2 * (first + j);
        const REAL *kernel = given[(first + j) * GIVEN + KERNEL], *pointwise = given[(first + j) * GIVEN + MATRIX];
        Int top = (rows - side[0]) / 2, left = (cols - side[1]) / 2;
        for (Int y = 0; y < side[0]; y++)
            for (Int x = 0; x < side[1]; x++) {
                Int tap = (top + y) * cols + left + x;
                for (Int ch = 0; ch < C; ch++) {
                    REAL w = kernel[(ch * side[0] + y) * side[1] + x];
                    kernels[tap * in + j * C + ch] = w;
                    if (backwards) turned[(rows * cols - 1 - tap) * in + j * C + ch] = w;
                }
            }
        for (Int ch = 0; ch < C; ch++)
            for (Int o = 0; o < O; o++) matrix[(j * C + ch) * out + j * O + o] = pointwise[o * C + ch];
        for (Int o = 0; backwards && o < O; o++)
            memcpy(transposed + (j * O + o) * in + j * C, pointwise + o * C, sizeof(REAL) * C);
    }
}

/* a and b of the norms of a pack, without mixing weights; those of unused channels stay 0. */
static void coefficients(const Chains *c, const Level *l, Int stage, Int q, REAL *const *given) {
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        REAL *const *own = given + (stage * c->columns + q * l->number + j) * GIVEN;
        for (Int o = 0; o < l->s->outputs; o++) {
            Int at = q * l->out + j * l->s->outputs + o;
            double rate = (own[SCALE] ? own[SCALE][o] : 1) / sqrt(l->variance[at] + l->s->eps);
            l->a[at] = (REAL)rate;
            l->b[at] = (REAL)((own[SHIFT] ? own[SHIFT][o] : 0) - l->mean[at] * rate);
            l->middle[at] = (REAL)l->mean[at];
        }
    }
}

/* ---- Images. */

/* The frame of zeros around a padded image. */
static void clear_frame(const Level *l, REAL *image) {
    const Stage *s = l->s;
    Int row = (s->width + 2 * s->pad_w) * l->in;
    zeros(image, s->pad_h * row);
    for (Int r = 0; r < s->height; r++) {
        REAL *own = image + (s->pad_h + r) * row;
        zeros(own, s->pad_w * l->in), zeros(own + (s->pad_w + s->width) * l->in, s->pad_w * l->in);
    }
    zeros(image + (s->pad_h + s->height) * row, s->pad_h * row);
}

INLINE REAL *inside(const Level *l, REAL *image, Int r) {
    const Stage *s = l->s;
    return image + ((s->pad_h + r) * (s->width + 2 * s->pad_w) + s->pad_w) * l->in;
}

/* The input of the first stage, the same for all packs. */
static void take_input(const Chains *c, const Level *l, const REAL *x, REAL *image) {
    const Stage *s = l->s;
    Int C = s->channels, whole = l->number == 1 && C % LANES == 0;
    for (Int r = 0; r < s->height; r++) {
        REAL *to = inside(l, image, r);
        const REAL *from = x + r * s->width * C;
        if (whole) {
            for (Int i = 0; i < s->width * C; i += LANES) {
                Vector v = load_any(from + i);
                store(to + i, c->relu ? positive_part(v) : v);
            }
            continue;
        }
        for (Int i = 0; i < s->width; i++, to += l->in, from += C)
            for (Int ch = 0; ch < l->in; ch++) {
                REAL v = ch < l->inner ? from[ch % C] : 0;
                to[ch] = c->relu && v < 0 ? 0 : v;
            }
    }
}

/* The input of a later stage: the norm and the ReLU behind the one before. */
static void take_normal(const Level *before, const Level *l, Int q, const REAL *raw, REAL *image) {
    const Stage *s = l->s;
    const REAL *a = before->a + q * l->in, *b = before->b + q * l->in;
    for (Int r = 0; r < s->height; r++) {
        REAL *to = inside(l, image, r);
        const REAL *from = raw + r * s->width * l->in;
        for (Int ch = 0; ch < l->in; ch += LANES) {
            Vector rate = load(a + ch), shift = load(b + ch);
            for (Int i = ch; i < s->width * l->in; i += l->in) store(to + i, positive_part(load(from + i) * rate + shift));
        }
    }
}

/* Some rows of the depthwise convolution of a pack. */
static void convolve(const Level *l, Int q, const REAL *image, Int first, Int rows, REAL *out) {
    const Stage *s = l->s;
    Int kernel_h = l->sides[2 * q], kernel_w = l->sides[2 * q + 1], row = (s->width + 2 * s->pad_w) * l->in;
    Int top = (s->kernel_h - kernel_h) / 2 * s->dilation, left = (s->kernel_w - kernel_w) / 2 * s->dilation;
    for (Int r = first; r < first + rows; r++, out += s->out_w * l->in)
        convolve_row(image + (r * s->stride + top) * row + left * l->in, s->dilation * row, l->kernels + q * l->taps * l->in,
                     kernel_h, kernel_w, s->stride, s->dilation, l->in, out, s->out_w);
}

static Int rows_at_a_time(const Stage *s) {
    Int rows = (4 * PIXELS + s->out_w - 1) / s->out_w;
    return rows < s->out_h ? rows : s->out_h;
}

/* Moments of the batch from those of the images, (packs, batch, out). */
static void batch_statistics(const Chains *c, const Level *l, Int q, const REAL *means, const REAL *squares) {
    for (Int ch = 0; ch < l->out; ch++) {
        Int from = q * c->batch * l->out + ch, at = q * l->out + ch;
        batch_moments(means + from, squares + from, l->out, c->batch, l->pixels, l->mean + at, l->variance + at);
    }
}

/* Running statistics follow those of the batch; a norm may be that of several columns. */
static void move_statistics(const Chains *c, const Level *l, Int stage, REAL *const *given) {
    for (Int m = 0; m < c->columns; m++) {
        REAL *const *own = given + (stage * c->columns + m) * GIVEN;
        for (Int o = 0; own[MEAN] && o < l->s->outputs; o++) {
            Int at = m / l->number * l->out + m % l->number * l->s->outputs + o;
            double count = (double)c->batch * (double)l->pixels;
            move_running(own[MEAN] + o, own[VARIANCE] + o, l->mean[at], l->variance[at], count, l->s->momentum);
        }
    }
}

static void running_statistics(const Chains *c, const Level *l, Int stage, Int q, REAL *const *given) {
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        REAL *const *own = given + (stage * c->columns + q * l->number + j) * GIVEN;
        for (Int o = 0; o < l->s->outputs; o++) {
            Int at = q * l->out + j * l->s->outputs + o;
            l->mean[at] = own[MEAN][o], l->variance[at] = own[VARIANCE][o];
        }
    }
}

INLINE REAL mixing_weight(const Chains *c, const REAL *mixing, Int b, Int m) { return mixing[b * c->mixing_row + m]; }

/* Adds a column, normalized and times its mixing weight, to its place. */
static void add_column(const Level *l, const REAL *raw, const REAL *a, const REAL *b, REAL weight, int first, REAL *out) {
    Int O = l->s->outputs;
    for (Int i = 0; i < l->pixels; i++, raw += l->out, out += O) {
        Int o = 0;
        for (; o + LANES <= O; o += LANES) {
            Vector y = (load_any(raw + o) * load_any(a + o) + load_any(b + o)) * weight;
            if (!first) y += load_any(out + o);
            store_any(out + o, y);
        }
        for (; o < O; o++) {
            REAL y = (raw[o] * a[o] + b[o]) * weight;
            out[o] = first ? y : out[o] + y;
        }
    }
}

/* ---- What is called from outside. 0, or 1 without memory.

   x (batch, rows, columns, C); mixing (M) or (batch, M); column m is added to outs[places[m]], (batch, pixels, O), over what
   is there if adds[place]. raw and moments, of chains_sizes, are what the gradients need. Running statistics, if given, move,
   or are used where they are known. */

int chains(
    const Chains *c, const Stage *stages, const Int *places, const Int *adds, const Int *sides, REAL *const *given, const REAL *x,
    const REAL *mixing, REAL *raw, double *moments, REAL *const *outs, int threads
) {
    Level levels[c->stages];
    Int M = c->columns, widest_image = 0, widest_rows = 0, widest_means = 0;
    measure(c, stages, levels);
    for (Int i = 0; i < c->stages; i++) {
        Level *l = levels + i;
        Int image = l->pad_size * l->in, rows = rows_at_a_time(l->s) * l->s->out_w * l->in, means = l->packs * c->batch * l->out;
        if (image > widest_image) widest_image = image;
        if (rows > widest_rows) widest_rows = rows;
        if (means > widest_means) widest_means = means;
    }
    REAL *memory = prepare(c, levels, raw, moments);
    REAL *means = buffer(widest_means), *squares = buffer(widest_means);
    int failed = !memory || !means || !squares;
    if (!failed) {
#pragma omp parallel num_threads(threads)
        {
            REAL *image = buffer(widest_image), *between = buffer(widest_rows);
            if (!image || !between) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp barrier
            for (Int i = 0; i < c->stages && !failed; i++) {
                Level *l = levels + i;
                Int image_size = l->s->height * l->s->width * (i ? l->in : l->s->channels), at_once = rows_at_a_time(l->s);
                clear_frame(l, image);
#pragma omp for schedule(static)
                for (Int q = 0; q < l->packs; q++) pack_weights(c, l, i, q, sides, given, 0);
#pragma omp for schedule(static)
                for (Int b = 0; b < c->batch; b++) {
                    if (i == 0) take_input(c, l, x + b * image_size, image);
                    for (Int q = 0; q < l->packs; q++) {
                        REAL *out = l->raw + (q * c->batch + b) * l->pixels * l->out;
                        if (i) take_normal(l - 1, l, q, l[-1].raw + (q * c->batch + b) * image_size, image);
                        for (Int r = 0, rows; r < l->s->out_h; r += rows) {
                            rows = l->s->out_h - r < at_once ? l->s->out_h - r : at_once;
                            convolve(l, q, image, r, rows, between);
                            product(between, l->in, l->matrices + q * l->inner * l->out, l->inner,
                                    out + r * l->s->out_w * l->out, rows * l->s->out_w, l->out);
                        }
                        if (!c->known) {
                            Int at = (q * c->batch + b) * l->out;
                            image_statistics(out, l->out, l->pixels, l->out, means + at, squares + at);
                        }
                    }
                }
#pragma omp for schedule(static)
                for (Int q = 0; q < l->packs; q++) {
                    if (c->known)
                        running_statistics(c, l, i, q, given);
                    else
                        batch_statistics(c, l, q, means, squares);
                    coefficients(c, l, i, q, given);
                }
#pragma omp single
                if (!c->known) move_statistics(c, l, i, given);
            }
            const Level *l = levels + c->stages - 1;
#pragma omp for schedule(static)
            for (Int b = 0; b < (failed ? 0 : c->batch); b++)
                for (Int m = 0; m < M; m++) {
                    Int q = m / l->number, j = m % l->number, at = q * l->out + j * l->s->outputs;
                    add_column(l, l->raw + (q * c->batch + b) * l->pixels * l->out + j * l->s->outputs, l->a + at, l->b + at,
                               mixing_weight(c, mixing, b, m), is_first(places, adds, m), outs[places[m]] + b * l->pixels * l->s->outputs);
                }
            free(image), free(between);
        }
    }
    free(memory), free(means), free(squares);
    return failed;
}

/* ---- Gradients. */

/* A gradient behind a depthwise convolution lies in margins of zeros, as far as the kernels reach. */
typedef struct {
    Int top, left, width, size;
} Margins;

static Margins margins_of(const Stage *s) {
    Margins m = {s->dilation * (s->kernel_h - 1), s->dilation * (s->kernel_w - 1), 0, 0};
    if (s->stride == 1) {
        m.top = m.top > s->pad_h ? m.top - s->pad_h : 0, m.left = m.left > s->pad_w ? m.left - s->pad_w : 0;
    } else {
        m.top = m.top / s->stride + 1, m.left = m.left / s->stride + 1;
    }
    m.width = s->out_w + 2 * m.left, m.size = (s->out_h + 2 * m.top) * m.width;
    return m;
}

/* Gradient of row h of the input of a pack. At stride 2 its columns alternate: each parity meets taps of its own. */
static void input_gradient_row(const Level *l, Int q, Int h, const REAL *gradient, const Margins *m, REAL *out) {
    const Stage *s = l->s;
    Int S = s->stride, D = s->dilation, in = l->in, rows = l->sides[2 * q], cols = l->sides[2 * q + 1];
    Int y = h + s->pad_h - (s->kernel_h - rows) / 2 * D, x = s->pad_w - (s->kernel_w - cols) / 2 * D;
    if (S == 1) {
        Int from = (y - (rows - 1) * D + m->top) * m->width + x - (cols - 1) * D + m->left;
        convolve_row(gradient + from * in, D * m->width * in, l->turned + q * l->taps * in, rows, cols, 1, D, in, out, s->width);
        return;
    }
    Int skip = D % 2 ? 2 : 1; /* from one tap that meets the row to the next, a pixel further on */
    for (Int e = 0; e < S && e < s->width; e++, x++) {
        Int n = (s->width - e + S - 1) / S, ky = skip == 2 ? y & 1 : 0, kx = skip == 2 ? x & 1 : 0;
        Taps taps = {(rows - ky + skip - 1) / skip, (cols - kx + skip - 1) / skip, -m->width * in, -in, skip * cols * in,
                     skip * in, in};
        if ((y - ky * D) % S || (x - kx * D) % S || taps.rows <= 0 || taps.cols <= 0) taps.rows = 0;
        Int from = taps.rows ? ((y - ky * D) / S + m->top) * m->width + (x - kx * D) / S + m->left : 0;
        depthwise_row(gradient + from * in, l->kernels + (q * l->taps + ky * cols + kx) * in, &taps, out + e * in, S * in, n, in);
    }
}

/* Gradients of the weights of a norm, and the slope and level of its own, from sums per image (packs, batch, out). */
static void norm_gradients(
    const Chains *c, const Level *l, Int stage, Int q, REAL *const *given, const REAL *sums, const REAL *by_x, const REAL *mixing,
    REAL *of_mixing, REAL *const *found
) {
    double count = (double)c->batch * (double)l->pixels;
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        Int m = q * l->number + j;
        REAL *const *own = given + (stage * c->columns + m) * GIVEN, *const *wanted = found + (stage * c->columns + m) * FOUND;
        double all_of_mixing = 0;
        if (mixing && of_mixing)
            for (Int b = 0; b < c->batch; b++) {
                double of_image = 0;
                for (Int o = 0; o < l->s->outputs; o++) {
                    Int ch = j * l->s->outputs + o, at = (q * c->batch + b) * l->out + ch;
                    double rate = 1 / sqrt(l->variance[q * l->out + ch] + l->s->eps);
                    of_image += (own[SCALE] ? own[SCALE][o] : 1) * rate * by_x[at] + (own[SHIFT] ? own[SHIFT][o] : 0) * sums[at];
                }
                if (c->mixing_row) of_mixing[b * c->mixing_row + m] = (REAL)of_image;
                all_of_mixing += of_image;
            }
        if (mixing && of_mixing && !c->mixing_row) of_mixing[m] = (REAL)all_of_mixing;
        for (Int o = 0; o < l->s->outputs; o++) {
            Int ch = j * l->s->outputs + o;
            double sum = 0, sum_by_x = 0, rate = 1 / sqrt(l->variance[q * l->out + ch] + l->s->eps);
            for (Int b = 0; b < c->batch; b++) {
                double weight = mixing ? mixing_weight(c, mixing, b, m) : 1;
                sum += weight * sums[(q * c->batch + b) * l->out + ch];
                sum_by_x += weight * by_x[(q * c->batch + b) * l->out + ch];
            }
            if (wanted[OF_SHIFT]) wanted[OF_SHIFT][o] = (REAL)sum;
            if (wanted[OF_SCALE]) wanted[OF_SCALE][o] = (REAL)(sum_by_x * rate);
            if (c->known) continue;
            l->slope[q * l->out + ch] = (REAL)(l->a[q * l->out + ch] * rate * rate * sum_by_x / count);
            l->level[q * l->out + ch] = (REAL)(l->a[q * l->out + ch] * sum / count);
        }
    }
}

/* Through the norm of a column in the last stage: the gradient of raw from the one of the place, NULL where there is none. */
static void column_gradient(
    const Level *l, Int at, Int known, const REAL *gradient, REAL weight, const REAL *raw, REAL *out
) {
    Int O = l->s->outputs;
    const REAL *a = l->a + at, *middle = l->middle + at, *slope = l->slope + at, *level = l->level + at;
    for (Int i = 0; i < l->pixels; i++, raw += l->out, out += l->out) {
        Int o = 0;
        for (; o + LANES <= O; o += LANES) {
            Vector g = {0};
            if (gradient) g = load_any(gradient + o) * weight * load_any(a + o);
            if (!known) g -= load_any(level + o) + load_any(slope + o) * (load_any(raw + o) - load_any(middle + o));
            store_any(out + o, g);
        }
        for (; o < O; o++) {
            out[o] = gradient ? gradient[o] * weight * a[o] : 0;
            if (!known) out[o] -= level[o] + slope[o] * (raw[o] - middle[o]);
        }
        if (gradient) gradient += O;
    }
}

/* The same for a pack in an earlier stage. */
static void pack_gradient(const Level *l, Int q, Int known, const REAL *gradient, const REAL *raw, REAL *out) {
    for (Int ch = 0; ch < l->out; ch += LANES) {
        Int at = q * l->out + ch;
        Vector a = load(l->a + at), middle = load(l->middle + at), slope = load(l->slope + at), level = load(l->level + at);
        for (Int i = ch; i < l->pixels * l->out; i += l->out) {
            Vector g = a * load(gradient + i);
            if (!known) g -= level + slope * (load(raw + i) - middle);
            store(out + i, g);
        }
    }
}

/* Through the ReLU before a stage: its input is positive where the ReLU was open. Sums as of image_sums go on. */
static void open_row(
    const REAL *gradient, const REAL *input, const REAL *raw, const REAL *middle, Int pixels, Int channels, REAL *out, REAL *sum,
    REAL *by_x
) {
    for (Int ch = 0; ch < channels; ch += LANES) {
        Vector m = load(middle + ch), sums[2] = {load(sum + ch), {0}}, by[2] = {load(by_x + ch), {0}};
        Int i = ch, end = pixels * channels;
#define PIXEL(J) \
    { \
        Int at = i + (J) * channels; \
        Vector g = where(~(load(input + at) <= 0), load(gradient + at)); \
        store(out + at, g); \
        sums[J] += g, by[J] += g * (load(raw + at) - m); \
    }
        for (; i + channels < end; i += 2 * channels) {
            PIXEL(0)
            PIXEL(1)
        }
        if (i < end) PIXEL(0)
#undef PIXEL
        store(sum + ch, sums[0] + sums[1]), store(by_x + ch, by[0] + by[1]);
    }
}

/* One row of a pack's gradient of x, through the ReLU if there is one, over what is there or not. */
static void leave_input(const Level *l, const REAL *row, Int relu, const REAL *x, Int over, REAL *of_x) {
    const Stage *s = l->s;
    Int C = s->channels;
    if (l->number == 1 && C % LANES == 0) {
        for (Int i = 0; i < s->width * C; i += LANES) {
            Vector v = load(row + i);
            if (relu) v = where(~(load_any(x + i) <= 0), v);
            if (over) v += load_any(of_x + i);
            store_any(of_x + i, v);
        }
        return;
    }
    for (Int i = 0; i < s->width; i++, row += l->in, x += C, of_x += C)
        for (Int ch = 0; ch < C; ch++) {
            REAL sum = 0;
            for (Int j = 0; j < l->number; j++) sum += row[j * C + ch];
            if (relu && x[ch] <= 0) sum = 0;
            of_x[ch] = over ? of_x[ch] + sum : sum;
        }
}

/* Sums over slots of the gradients of a pack's kernels and matrices, column by column. */
static void weight_gradients(
    const Chains *c, const Level *l, Int stage, Int q, Int slots, const REAL *of_kernels, const REAL *of_matrices, REAL *const *found,
    const Int *sides
) {
    Int rows = l->sides[2 * q], cols = l->sides[2 * q + 1], C = l->s->channels, O = l->s->outputs;
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        Int m = stage * c->columns + q * l->number + j, kh = sides[2 * m], kw = sides[2 * m + 1];
        REAL *of_kernel = found[m * FOUND + OF_KERNEL], *of_matrix = found[m * FOUND + OF_MATRIX];
        const REAL *from = of_kernels + q * l->taps * l->in + j * C;
        for (Int y = 0; of_kernel && y < kh; y++)
            for (Int x = 0; x < kw; x++) {
                Int tap = ((rows - kh) / 2 + y) * cols + (cols - kw) / 2 + x;
                for (Int ch = 0; ch < C; ch++) {
                    REAL sum = 0;
                    for (Int t = 0; t < slots; t++) sum += from[(t * l->packs * l->taps + tap) * l->in + ch];
                    of_kernel[(ch * kh + y) * kw + x] = sum;
                }
            }
        from = of_matrices + (q * l->outer + j * O) * l->in + j * C;
        for (Int o = 0; of_matrix && o < O; o++)
            for (Int ch = 0; ch < C; ch++) {
                REAL sum = 0;
                for (Int t = 0; t < slots; t++) sum += from[(t * l->packs * l->outer + o) * l->in + ch];
                of_matrix[o * C + ch] = sum;
            }
    }
}

static int is_wanted(const Chains *c, Int stage, Int which, REAL *const *found) {
    for (Int m = 0; m < c->columns; m++)
        if (found[(stage * c->columns + m) * FOUND + which]) return 1;
    return 0;
}

/* What a thread works with: images, and sums of gradients of a slot's weights. */
typedef struct {
    REAL *image, *between, *behind; /* padded; behind the depthwise convolutions; gradient behind the pointwise ones */
    REAL *of_between, *of_row;      /* gradients, the first in margins */
    REAL *of_kernels, *of_matrices;
} Work;

/* What the images of a stage have in common. */
typedef struct {
    Int stage, last, below;        /* below: whether anything is wanted before this stage */
    int for_kernels, for_matrices; /* whether gradients of weights are */
    Margins margins;
    const Int *places;
    const REAL *x, *mixing;
    REAL *const *gradients; /* of the places */
    REAL *above, *under;    /* gradients behind the norms of this stage and the one before, as raw lies */
    REAL *of_x;
    Int over;           /* add to of_x */
    REAL *sums, *by_x;  /* see image_sums, for the norm before */
} Backwards;

/* The gradient behind the pointwise convolution of a pack. */
static void gradient_behind(const Chains *c, const Level *l, const Backwards *back, Int q, Int b, REAL *out) {
    const REAL *raw = l->raw + (q * c->batch + b) * l->pixels * l->out;
    Int O = l->s->outputs;
    if (back->stage < back->last) {
        pack_gradient(l, q, c->known, back->above + (q * c->batch + b) * l->pixels * l->out, raw, out);
        return;
    }
    if (columns_of(c, l, q) < l->number) zeros(out, l->pixels * l->out);
    for (Int j = 0; j < columns_of(c, l, q); j++) {
        Int m = q * l->number + j;
        const REAL *g = back->gradients[back->places[m]];
        column_gradient(l, q * l->out + j * O, c->known, g ? g + b * l->pixels * O : NULL, mixing_weight(c, back->mixing, b, m),
                        raw + j * O, out + j * O);
    }
}

/* Adds the gradient of a pack's kernels. */
static void kernel_gradient(const Level *l, const Backwards *back, Int q, const Work *w) {
    const Stage *s = l->s;
    const Margins *m = &back->margins;
    Int rows = l->sides[2 * q], cols = l->sides[2 * q + 1], at_once = rows_at_a_time(s);
    Int top = (s->kernel_h - rows) / 2 * s->dilation, left = (s->kernel_w - cols) / 2 * s->dilation;
    Int row = (s->width + 2 * s->pad_w) * l->in;
    for (Int r = 0, now; r < s->out_h; r += now) {
        now = s->out_h - r < at_once ? s->out_h - r : at_once;
        for (Int y = 0; y < rows; y++)
            row_gradient(w->image + (r * s->stride + top + y * s->dilation) * row + left * l->in, s->stride * row, s->stride,
                         s->dilation, w->of_between + ((m->top + r) * m->width + m->left) * l->in, m->width * l->in, l->in, now,
                         s->out_w, cols, w->of_kernels + (q * l->taps + y * cols) * l->in);
    }
}

/* All gradients of one image and one pack. */
static void image_gradients(const Chains *c, const Level *l, const Backwards *back, Int q, Int b, const Work *w) {
    const Stage *s = l->s;
    const Margins *m = &back->margins;
    Int in_size = s->height * s->width * (back->stage ? l->in : s->channels), at = (q * c->batch + b) * l->in;
    if (back->stage) take_normal(l - 1, l, q, l[-1].raw + (q * c->batch + b) * in_size, w->image);
    gradient_behind(c, l, back, q, b, w->behind);
    if (back->for_matrices) {
        convolve(l, q, w->image, 0, s->out_h, w->between);
        outer_products(w->behind, l->outer, l->out, w->between, l->in, l->pixels, w->of_matrices + q * l->outer * l->in);
    }
    if (!back->for_kernels && !back->below) return;
    for (Int r = 0; r < s->out_h; r++)
        product(w->behind + r * s->out_w * l->out, l->out, l->transposed + q * l->outer * l->in, l->outer,
                w->of_between + ((m->top + r) * m->width + m->left) * l->in, s->out_w, l->in);
    if (back->for_kernels) kernel_gradient(l, back, q, w);
    if (!back->below) return;
    if (back->stage) zeros(back->sums + at, l->in), zeros(back->by_x + at, l->in);
    for (Int h = 0; h < s->height; h++) {
        input_gradient_row(l, q, h, w->of_between, m, w->of_row);
        if (back->stage) {
            Int from = (q * c->batch + b) * in_size + h * s->width * l->in;
            open_row(w->of_row, inside(l, w->image, h), l[-1].raw + from, l[-1].middle + q * l->in, s->width, l->in,
                     back->under + from, back->sums + at, back->by_x + at);
        } else {
            Int from = b * in_size + h * s->width * s->channels;
            leave_input(l, w->of_row, c->relu, back->x + from, back->over || q, back->of_x + from);
        }
    }
}

/* Into how many groups images are parted: of the sizes alone, so that no result depends on the number of threads. */
static Int slots_of(const Chains *c, const Level *levels) {
    Int most = 1, slots = MOST_SLOTS;
    for (Int i = 0; i < c->stages; i++) {
        Int size = levels[i].packs * (levels[i].taps + levels[i].outer) * levels[i].in * (Int)sizeof(REAL);
        if (size > most) most = size;
    }
    if (slots > BYTES_OF_SLOTS / most) slots = BYTES_OF_SLOTS / most;
    if (slots < LEAST_SLOTS) slots = LEAST_SLOTS;
    return slots < c->batch ? slots : c->batch;
}

/* Gradients for all that found points to, of_mixing and of_x (over what is there if over), each may be NULL. gradients are those
   of the places, NULL where there is none; between_stages has room for raw without its last stage. */
int chains_gradients(
    const Chains *c, const Stage *stages, const Int *places, const Int *sides, REAL *const *given, const REAL *x,
    const REAL *mixing, REAL *raw, double *moments, REAL *const *gradients, REAL *between_stages, REAL *of_x, Int over,
    REAL *of_mixing, REAL *const *found, int threads
) {
    Level levels[c->stages];
    REAL *behind_norms[c->stages]; /* gradients, of the last stage not needed */
    Int below[c->stages];          /* whether anything is wanted before each stage */
    Int last = c->stages - 1, lowest = c->stages, wanted = of_x != NULL;
    Int image_size = 0, pixels_in = 0, pixels_out = 0, with_margins = 0, row_size = 0, sums_size = 0, kernels_size = 0, matrices_size = 0;
    measure(c, stages, levels);
    Int slots = slots_of(c, levels);
    for (Int i = 0; i <= last; i++) {
        const Level *l = levels + i;
#define LARGEST(SIZE, NEW) (SIZE) = (SIZE) > (NEW) ? (SIZE) : (NEW)
        LARGEST(image_size, l->pad_size * l->in);
        LARGEST(pixels_in, l->pixels * l->in);
        LARGEST(pixels_out, l->pixels * l->out);
        LARGEST(with_margins, margins_of(l->s).size * l->in);
        LARGEST(row_size, l->s->width * l->in);
        LARGEST(sums_size, l->packs * c->batch * l->out);
        LARGEST(kernels_size, slots * l->packs * l->taps * l->in);
        LARGEST(matrices_size, slots * l->packs * l->outer * l->in);
#undef LARGEST
        behind_norms[i] = between_stages, between_stages += l->packs * c->batch * l->pixels * l->out;
        below[i] = wanted;
        Int own = is_wanted(c, i, OF_KERNEL, found) || is_wanted(c, i, OF_MATRIX, found);
        if ((own || wanted) && lowest > last) lowest = i;
        wanted |= own || is_wanted(c, i, OF_SCALE, found) || is_wanted(c, i, OF_SHIFT, found);
    }
    REAL *memory = prepare(c, levels, raw, moments);
    REAL *sums = buffer(sums_size), *by_x = buffer(sums_size);
    REAL *all_kernels = buffer(kernels_size), *all_matrices = buffer(matrices_size);
    int failed = !memory || !sums || !by_x || !all_kernels || !all_matrices;
    if (!failed) {
#pragma omp parallel num_threads(threads)
        {
            Work w = {buffer(image_size), buffer(pixels_in), buffer(pixels_out), buffer(with_margins), buffer(row_size), NULL, NULL};
            if (!w.image || !w.between || !w.behind || !w.of_between || !w.of_row) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp barrier
            Level *top = levels + last;
            for (Int i = 0; i <= last && !failed; i++) {
#pragma omp for schedule(static)
                for (Int q = 0; q < levels[i].packs; q++)
                    pack_weights(c, levels + i, i, q, sides, given, 1), coefficients(c, levels + i, i, q, given);
            }
#pragma omp for schedule(static)
            for (Int b = 0; b < (failed ? 0 : c->batch); b++)
                for (Int m = 0; m < c->columns; m++) {
                    Int q = m / top->number, j = m % top->number, O = top->s->outputs, at = (q * c->batch + b) * top->out + j * O;
                    const REAL *own = top->raw + (q * c->batch + b) * top->pixels * top->out + j * O, *g = gradients[places[m]];
                    if (g)
                        image_sums(g + b * top->pixels * O, O, own, top->out, top->middle + q * top->out + j * O, top->pixels, O,
                                   sums + at, by_x + at);
                    else
                        zeros(sums + at, O), zeros(by_x + at, O);
                }
#pragma omp for schedule(static)
            for (Int q = 0; q < (failed ? 0 : top->packs); q++)
                norm_gradients(c, top, last, q, given, sums, by_x, mixing, of_mixing, found);
            for (Int i = last; i >= lowest && !failed; i--) {
                Level *l = levels + i;
                Backwards back = {
                    .stage = i, .last = last, .below = below[i], .for_kernels = is_wanted(c, i, OF_KERNEL, found),
                    .for_matrices = is_wanted(c, i, OF_MATRIX, found), .margins = margins_of(l->s), .places = places, .x = x,
                    .mixing = mixing, .gradients = gradients, .above = behind_norms[i], .under = i ? behind_norms[i - 1] : NULL,
                    .of_x = of_x, .over = over, .sums = sums, .by_x = by_x,
                };
                clear_frame(l, w.image), zeros(w.of_between, back.margins.size * l->in);
#pragma omp for schedule(static)
                for (Int t = 0; t < slots; t++) {
                    w.of_kernels = all_kernels + t * l->packs * l->taps * l->in;
                    w.of_matrices = all_matrices + t * l->packs * l->outer * l->in;
                    zeros(w.of_kernels, l->packs * l->taps * l->in), zeros(w.of_matrices, l->packs * l->outer * l->in);
                    for (Int b = t * c->batch / slots; b < (t + 1) * c->batch / slots; b++) {
                        if (i == 0) take_input(c, l, x + b * l->s->height * l->s->width * l->s->channels, w.image);
                        for (Int q = 0; q < l->packs; q++) image_gradients(c, l, &back, q, b, &w);
                    }
                }
#pragma omp for schedule(static)
                for (Int q = 0; q < l->packs; q++) {
                    weight_gradients(c, l, i, q, slots, all_kernels, all_matrices, found, sides);
                    if (i > 0 && below[i]) norm_gradients(c, l - 1, i - 1, q, given, sums, by_x, NULL, NULL, found);
                }
            }
            free(w.image), free(w.between), free(w.behind), free(w.of_between), free(w.of_row);
        }
    }
    free(memory), free(sums), free(by_x), free(all_kernels), free(all_matrices);
    return failed;
}
