/* The layers of a BERT in float32, its products by tiles or by panels; kshot/models/bert_in_c.py calls them, and
   kshot/models/bert.py has the mathematics.

   Texts are independent of each other: a thread takes some of them through all layers, and waits for no other. They lie
   one after the other without padding, since all but attention is about single tokens. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "parts.h"
#include "products.h"

enum { GROUP = 320 }; /* tokens that go through a layer at a time: few for the caches, many for the weights */

/* A layer, as kshot/models/bert_in_c.py lists its tensors: weights are laid out. */
typedef struct {
    void *query, *key, *value, *attended, *up, *down;
    const float *of_query, *of_key, *of_value, *of_attended, *of_up, *of_down; /* biases */
    const float *shift_attended, *shift, *scale_attended, *scale;              /* of the norms */
} layer;

typedef struct {
    int64_t n_layers, dim, n_heads, inner;
    const int64_t *ends; /* of each text, the tokens up to its last */
    const layer *layers;
    float epsilon, *x;
    int kind, *failed;
} work;

/* What a thread needs for its largest group, and its longest text. */
typedef struct {
    float *q, *k, *v, *h, *scores, *keys, *values;
    uint8_t *tiles;
} room;

static int64_t begin_of(const work *w, int64_t text) { return text ? w->ends[text - 1] : 0; }

/* The text after those that go through the layers together with `text`. */
static int64_t end_of_group(const work *w, int64_t text, int64_t to) {
    int64_t begin = begin_of(w, text), end = text + 1;
    while (end < to && w->ends[end] - begin <= GROUP) end++;
    return end;
}

/* x = norm(x + y) * scale + shift, row by row (Ba et al. 2016, arXiv:1607.06450). */
static void add_and_norm(
    const work *w, int64_t rows, const float *y, const float *scale, const float *shift, float *x
) {
    int64_t n = w->dim;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        float sums[LANES] = {0}, squares[LANES] = {0}, sum = 0, square = 0;
        int64_t whole = n / LANES * LANES;
        for (int64_t j = 0; j < whole; j += LANES) EACH(l, LANES) {
                x[j + l] += y[j + l];
                sums[l] += x[j + l];
            }
        for (int64_t j = whole; j < n; j++) sum += x[j] += y[j];
        for (int l = 0; l < LANES; l++) sum += sums[l];
        float mean = sum / (float)n;
        for (int64_t j = 0; j < whole; j += LANES) EACH(l, LANES) {
                float from = x[j + l] - mean;
                squares[l] += from * from;
            }
        for (int64_t j = whole; j < n; j++) square += (x[j] - mean) * (x[j] - mean);
        for (int l = 0; l < LANES; l++) square += squares[l];
        float per = 1.0f / sqrtf(square / (float)n + w->epsilon);
        EACH(j, n) x[j] = (x[j] - mean) * per * scale[j] + shift[j];
    }
}

/* Each row of scores (length, length) becomes e^(factor * score), divided by their sum. */
static void weigh(int64_t length, float factor, float *scores) {
    for (int64_t r = 0; r < length; r++, scores += length) {
        float most = scores[0], sum = 0;
        for (int64_t j = 1; j < length; j++) most = scores[j] > most ? scores[j] : most;
        EACH(j, length) scores[j] = exponential(factor * (scores[j] - most));
        for (int64_t j = 0; j < length; j++) sum += scores[j];
        float per = 1.0f / sum;
        EACH(j, length) scores[j] *= per;
    }
}

/* q, k, v (length, dim) of a text: what each head finds takes the place of its q. */
static void attend(const work *w, int64_t length, float *q, const float *k, const float *v, const room *own) {
    int64_t size = w->dim / w->n_heads;
    float factor = 1.0f / sqrtf((float)size);
    for (int64_t at = 0; at < w->dim; at += size) {
        fill_panels(k + at, w->dim, 1, size, length, own->keys);
        fill_panels(v + at, w->dim, 0, length, size, own->values);
        multiply_single(0, length, size, length, q + at, w->dim, own->keys, own->scores, length);
        weigh(length, factor, own->scores);
        multiply_single(0, length, length, size, own->scores, length, own->values, q + at, w->dim);
    }
}

/* x (rows, k) is what products are made of from here on. */
static void read_rows(const work *w, int64_t rows, int64_t k, const float *x, const room *own) {
    if (w->kind != NO_TILES) lay_out_rows(w->kind, rows, k, (matrix){x, k, 0}, own->tiles);
}

/* to (rows, n) = x b + bias, of x that was read. */
static void product(
    const work *w, int64_t rows, int64_t k, int64_t n, const float *x, const room *own, void *b, const float *bias,
    float *to
) {
    if (w->kind != NO_TILES) {
        multiply_laid_out(w->kind, 0, rows, k, n, 0, n, own->tiles, b, bias, to);
        return;
    }
    for (int64_t r = 0; r < rows; r++) memcpy(to + r * n, bias, (size_t)n * sizeof(float));
    multiply_single(1, rows, k, n, x, k, b, to, n);
}

/* The texts `from` to `to` go through a layer. */
static void run_layer(const work *w, const layer *of, int64_t from, int64_t to, const room *own) {
    int64_t begin = begin_of(w, from), rows = begin_of(w, to) - begin, dim = w->dim, inner = w->inner;
    float *x = w->x + begin * dim;
    read_rows(w, rows, dim, x, own);
    product(w, rows, dim, dim, x, own, of->query, of->of_query, own->q);
    product(w, rows, dim, dim, x, own, of->key, of->of_key, own->k);
    product(w, rows, dim, dim, x, own, of->value, of->of_value, own->v);
    for (int64_t text = from; text < to; text++) {
        int64_t place = (begin_of(w, text) - begin) * dim, length = w->ends[text] - begin_of(w, text);
        attend(w, length, own->q + place, own->k + place, own->v + place, own);
    }
    read_rows(w, rows, dim, own->q, own);
    product(w, rows, dim, dim, own->q, own, of->attended, of->of_attended, own->k);
    add_and_norm(w, rows, own->k, of->scale_attended, of->shift_attended, x);

    read_rows(w, rows, dim, x, own);
    product(w, rows, dim, inner, x, own, of->up, of->of_up, own->h);
    EACH(j, rows * inner) own->h[j] = gelu(own->h[j]);
    read_rows(w, rows, inner, own->h, own);
    product(w, rows, inner, dim, own->h, own, of->down, of->of_down, own->k);
    add_and_norm(w, rows, own->k, of->scale, of->shift, x);
}

/* Takes memory of a size from a block, or only counts what it needs. */
static void *take(uint8_t *block, size_t *taken, size_t bytes) {
    uint8_t *found = block == NULL ? NULL : block + *taken;
    *taken += (bytes + 63) / 64 * 64;
    return found;
}

/* Makes room for groups of so many tokens, and texts of so many, in a block. Returns the bytes. */
static size_t make_room(const work *w, int64_t rows, int64_t longest, uint8_t *block, room *own) {
    size_t taken = 0, states = (size_t)(rows * w->dim) * sizeof(float);
    int64_t size = w->dim / w->n_heads, widest = w->inner > w->dim ? w->inner : w->dim;
    own->q = take(block, &taken, states);
    own->k = take(block, &taken, states);
    own->v = take(block, &taken, states);
    own->h = take(block, &taken, (size_t)(rows * w->inner) * sizeof(float));
    own->scores = take(block, &taken, (size_t)(longest * longest) * sizeof(float));
    own->keys = take(block, &taken, panels_size(size, longest));
    own->values = take(block, &taken, panels_size(longest, size));
    own->tiles = take(block, &taken, w->kind == NO_TILES ? 0 : laid_out_size(w->kind, rows, widest));
    return taken;
}

static void run_texts(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    int64_t rows = 0, longest = 0;
    for (int64_t text = from, end; text < to; text = end) {
        end = end_of_group(w, text, to);
        int64_t own = begin_of(w, end) - begin_of(w, text);
        rows = own > rows ? own : rows;
    }
    for (int64_t text = from; text < to; text++) {
        int64_t own = w->ends[text] - begin_of(w, text);
        longest = own > longest ? own : longest;
    }
    room own;
    uint8_t *block = aligned_alloc(64, make_room(w, rows, longest, NULL, &own));
    if (block == NULL) {
        __atomic_store_n(w->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    make_room(w, rows, longest, block, &own);
    if (w->kind != NO_TILES) begin_tiles(); /* which a system may forbid */
    for (int64_t text = from, end; text < to; text = end) {
        end = end_of_group(w, text, to);
        for (int64_t each = 0; each < w->n_layers; each++) run_layer(w, &w->layers[each], text, end, &own);
    }
    if (w->kind != NO_TILES) end_tiles();
    free(block);
}

/* x (n_tokens, dim), the tokens of n_texts texts of at least one each, becomes what the layers make of it; `ends` are
   those of the texts; `layers` has the addresses of 16 tensors for each, in the order of `layer`; epsilon (1,). Returns
   1 if there is no memory, else 0. */
int64_t kshot_bert_layers(
    int64_t kind, int64_t n_layers, int64_t n_texts, int64_t dim, int64_t n_heads, int64_t inner, int threads,
    const int64_t *ends, const layer *layers, const float *epsilon, float *x
) {
    int failed = 0;
    work w = {.n_layers = n_layers, .dim = dim, .n_heads = n_heads, .inner = inner, .ends = ends, .layers = layers};
    w.epsilon = *epsilon, w.x = x, w.kind = (int)kind, w.failed = &failed;
    int64_t parts[MOST_THREADS], text = 0, tokens = begin_of(&w, n_texts);
    /* With fewer tokens most of a tile would be empty. Each thread has as many tokens as can be. */
    threads = parts_of(least_of(n_texts, tokens / TILE), 1, threads);
    for (int each = 0; each < threads; each++) {
        int64_t share = tokens * (each + 1) / threads;
        while (text < n_texts && (each + 1 == threads || (begin_of(&w, text) + w.ends[text]) / 2 < share)) text++;
        parts[each] = text;
    }
    in_parts(&w, run_texts, parts, threads);
    return failed;
}
