/* The maximum over time of windows of tokens, and sums over the windows that win it, in float32;
   kshot/models/windows.py has the mathematics and the names.

   Filter f of all widths together belongs to one width; the winner of a text and a filter is the place of its window.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "parts.h"

typedef struct {
    int64_t n, length, m, n_widths, d;
    const int64_t *widths;
    const int32_t *tokens; /* (n, length), -1 where there is none */
    const float *y;        /* (n_vectors, n_offsets, m) */
    const float *g;        /* (n, n_widths m) */
    const float *w, *e;    /* (n_offsets m, d), (n_vectors, d) */
    int32_t *winners;      /* (n, n_widths m) */
    float *to;             /* what is written */
} work;

static int64_t n_offsets(const work *w) {
    int64_t sum = 0;
    for (int64_t each = 0; each < w->n_widths; each++) sum += w->widths[each];
    return sum;
}

/* The token at a place of a text, -1 where there is none. */
static inline int32_t token_at(const work *w, const int32_t *tokens, int64_t place) {
    return place < 0 || place >= w->length ? -1 : tokens[place];
}

/* -- max_t s_t and its place -- */

static void maxima_of(const void *argument, int64_t from, int64_t to) {
    enum { CHUNK = 256 }; /* filters at a time */
    const work *w = argument;
    int64_t columns = w->n_widths * w->m, y_row = n_offsets(w) * w->m;
    float sum[CHUNK];
    for (int64_t text = from; text < to; text++) {
        const int32_t *tokens = w->tokens + text * w->length;
        for (int64_t each = 0, first = 0; each < w->n_widths; first += w->widths[each++])
            for (int64_t chunk = 0; chunk < w->m; chunk += CHUNK) {
                int64_t m = w->m - chunk < CHUNK ? w->m - chunk : CHUNK;
                float *best = w->to + text * columns + each * w->m + chunk;
                int32_t *winners = w->winners + text * columns + each * w->m + chunk;
                int any = 0;
                for (int64_t f = 0; f < m; f++) best[f] = -INFINITY;
                for (int64_t f = 0; f < m; f++) winners[f] = 0;
                for (int64_t place = 0; place < w->length; place++) {
                    if (tokens[place] < 0) continue;
                    any = 1;
                    int64_t start = place - (w->widths[each] - 1) / 2;
                    memset(sum, 0, (size_t)m * 4);
                    for (int64_t k = 0; k < w->widths[each]; k++) {
                        int32_t v = token_at(w, tokens, start + k);
                        if (v < 0) continue;
                        const float *y = w->y + v * y_row + (first + k) * w->m + chunk;
                        EACH(f, m) sum[f] += y[f];
                    }
                    EACH(f, m) { /* what is not a number wins and stays */
                        int wins = (sum[f] > best[f]) | (sum[f] != sum[f]);
                        winners[f] = wins ? (int32_t)place : winners[f];
                        best[f] = wins ? sum[f] : best[f];
                    }
                }
                for (int64_t f = 0; !any && f < m; f++) best[f] = 0.0f; /* a text without tokens */
            }
    }
}

/* -- sums over the windows that win -- */

/* What is done for the token v at an offset of a winner: `at` is its place among the winners, `column` a row of w. */
typedef void (*visitor)(const work *w, int64_t at, int64_t column, int64_t v, int64_t from, int64_t to);

/* Visits the winners of the texts `begin` to `end` and of the filters `low` to `high`. */
static inline __attribute__((always_inline)) void visit(
    const work *w, visitor each_token, int64_t begin, int64_t end, int64_t low, int64_t high, int64_t from, int64_t to
) {
    int64_t first = 0, filters = w->n_widths * w->m;
    for (int64_t each = 0; each < w->n_widths; first += w->widths[each++])
        for (int64_t f = each * w->m > low ? each * w->m : low; f < (each + 1) * w->m && f < high; f++)
            for (int64_t text = begin; text < end; text++) {
                int64_t at = text * filters + f, start = w->winners[at] - (w->widths[each] - 1) / 2;
                for (int64_t k = 0; k < w->widths[each]; k++) {
                    int32_t v = token_at(w, w->tokens + text * w->length, start + k);
                    if (v >= 0) each_token(w, at, (first + k) * w->m + f - each * w->m, v, from, to);
                }
            }
}

/* to[text, f] = sum_k w_k e_v */
static inline void add_value(const work *w, int64_t at, int64_t column, int64_t v, int64_t from, int64_t to) {
    enum { LANES = 16 };
    const float *a = w->w + column * w->d, *b = w->e + v * w->d;
    float sums[LANES] = {0}, sum = 0;
    int64_t j = from;
    for (; j + LANES <= to; j += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += a[j + lane] * b[j + lane];
    for (; j < to; j++) sum += a[j] * b[j];
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    w->to[at] += sum;
}

/* to[column] = sum_text g e_v */
static inline void add_to_column(const work *w, int64_t at, int64_t column, int64_t v, int64_t from, int64_t to) {
    float g = w->g[at], *sum = w->to + column * w->d;
    const float *e = w->e + v * w->d;
    if (g != 0.0f) EACH(j, to - from) sum[from + j] += g * e[from + j];
}

/* to[v] = sum_{text, f, k: v} g w_k, of the elements `from` to `to` */
static inline void add_to_row(const work *w, int64_t at, int64_t column, int64_t v, int64_t from, int64_t to) {
    float g = w->g[at], *sum = w->to + v * w->d;
    const float *a = w->w + column * w->d;
    if (g != 0.0f) EACH(j, to - from) sum[from + j] += g * a[from + j];
}

static void values_of(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    visit(w, add_value, 0, w->n, from, to, 0, w->d);
}

static void columns_of(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    visit(w, add_to_column, 0, w->n, from, to, 0, w->d);
}

static void rows_of(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    for (int64_t text = 0; text < w->n; text++) /* its rows stay in the cache */
        visit(w, add_to_row, text, text + 1, 0, w->n_widths * w->m, from, to);
}

/* -- what is called; `to` is zero before; returns 0 -- */

#define SHAPE                                                                                              \
    int64_t n, int64_t length, int64_t m, int64_t n_widths, int64_t d, int threads, const int64_t *widths, \
        const int32_t *tokens, int32_t *winners
#define WORK                                                                                            \
    .n = n, .length = length, .m = m, .n_widths = n_widths, .d = d, .widths = widths, .tokens = tokens, \
    .winners = winners

int64_t kshot_windows_maxima(SHAPE, const float *y, float *to) {
    work w = {WORK, .y = y, .to = to};
    evenly(&w, maxima_of, n, 1, threads);
    return 0;
}

int64_t kshot_windows_values(SHAPE, const float *w_, const float *e, float *to) {
    work w = {WORK, .w = w_, .e = e, .to = to};
    evenly(&w, values_of, n_widths * m, 8, threads);
    return 0;
}

int64_t kshot_windows_columns(SHAPE, const float *g, const float *e, float *to) {
    work w = {WORK, .g = g, .e = e, .to = to};
    evenly(&w, columns_of, n_widths * m, 8, threads);
    return 0;
}

int64_t kshot_windows_rows(SHAPE, const float *g, const float *w_, float *to) {
    work w = {WORK, .g = g, .w = w_, .to = to};
    evenly(&w, rows_of, d, 64, threads);
    return 0;
}
