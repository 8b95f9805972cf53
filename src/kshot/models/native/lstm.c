/* The recurrence of an LSTM and its derivatives in float32, its products by tiles if that is asked for;
   kshot/models/recurrence has the mathematics and the names.

   All arrays lie row by row: the rows of time step 0, then those of step 1, and so on; row r of a step is the same text
   in all of them, longest first. Gates are four blocks of h numbers: input, forget, cell, output.

   A time step is a product of a few rows by a matrix that stays the same, and what follows it while the rows are still
   in the cache. Texts are independent of each other, so threads share them out. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "parts.h"
#include "products.h"

/* -- texts -- */

typedef struct work work;
typedef void (*body)(const work *, int64_t from, int64_t to, uint8_t *room);

enum { NO_MEMORY = 1, NO_ROW = 2 }; /* how a call fails */

struct work {
    int64_t steps, h, n_inputs;
    const int64_t *counts, *places; /* texts of each step; the row of p or q for each of all rows */
    const float *p, *gates, *cell, *squashed, *hidden, *q; /* what is read */
    const float *of_hidden, *of_cell, *of_gates;           /* what comes from outside; NULL for zeros */
    const float *z, *c, *h_hat, *z_star, *c_star;          /* x^ and x* where they are read */
    float *to_gates, *to_cell, *to_squashed, *to_hidden;   /* what is written */
    void *packed, *packed_v;                               /* U and V, or their transposes */
    int kind, *failed;                                     /* of tiles, or 0; how it has failed, or 0 */
    body run;
    float *nothing; /* 4 h zeros */
};

static inline void fail(const work *w, int how) { __atomic_store_n(w->failed, how, __ATOMIC_RELAXED); }

/* A part of the texts; tiles need room for the rows that they multiply. */
static void run_single(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    w->run(w, from, to, NULL);
}

static void run_tiles(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    size_t of_hidden = room_for_rows(w->kind, to - from, w->h), of_gates = room_for_rows(w->kind, to - from, 4 * w->h);
    uint8_t *room = aligned_alloc(64, of_hidden > of_gates ? of_hidden : of_gates);
    if (room == NULL) {
        fail(w, NO_MEMORY);
        return;
    }
    begin_tiles();
    w->run(w, from, to, room);
    end_tiles();
    free(room);
}

/* Runs a body over all texts, those of a thread next to each other and with as many tokens as those of another. */
static void spread(const work *of, int threads) {
    enum { LEAST = 8 }; /* texts of a thread */
    int64_t n = of->steps ? of->counts[0] : 0, tokens = 0;
    for (int64_t t = 0; t < of->steps; t++) tokens += of->counts[t];
    threads = parts_of(n, LEAST, threads);
    int64_t ends[MOST_THREADS], length = of->steps, seen = 0, row = 0;
    for (int each = 0; each < threads; each++) {
        for (; row < n && (each + 1 == threads || seen < tokens * (each + 1) / threads); row++) {
            while (length > 0 && of->counts[length - 1] <= row) length--; /* tokens of this text */
            seen += length;
        }
        ends[each] = row;
    }
    in_parts(of, of->kind ? run_tiles : run_single, ends, threads);
}

/* Row `row` of an array whose rows have n numbers, or zeros where there is none. */
static inline const float *row_of(const work *w, const float *x, int64_t row, int64_t n) {
    return x == NULL || row < 0 ? w->nothing : x + row * n;
}

/* The number of rows from `from` on at a step, at most up to `to`. */
static inline int64_t active(const work *w, int64_t t, int64_t from, int64_t to) {
    if (t < 0 || t >= w->steps) return 0;
    int64_t end = w->counts[t] < to ? w->counts[t] : to;
    return end > from ? end - from : 0;
}

/* -- z_t, i, f, g, o, c_t, h_t for t = 0, 1, ... -- */

static void forward_rows(const work *w, int64_t from, int64_t to, uint8_t *room) {
    int64_t h = w->h, start = 0, before = 0;
    for (int64_t t = 0; t < w->steps; before = start, start += w->counts[t++]) {
        int64_t m = active(w, t, from, to), at = start + from, earlier = before + from;
        float *z = w->to_gates + at * 4 * h;
        if (t > 0) multiply(w->kind, 0, m, h, 4 * h, w->to_hidden + earlier * h, w->packed, z, room);
        else memset(z, 0, (size_t)(m * 4 * h) * 4);
        for (int64_t r = 0; r < m; r++) {
            int64_t place = w->places[at + r];
            if (place < 0 || place >= w->n_inputs) {
                fail(w, NO_ROW);
                place = -1;
            }
            const float *p_i = row_of(w, w->p, place, 4 * h), *p_f = p_i + h, *p_g = p_f + h, *p_o = p_g + h;
            const float *last = row_of(w, w->to_cell, t > 0 ? earlier + r : -1, h);
            float *i = z + r * 4 * h, *f = i + h, *g = f + h, *o = g + h;
            float *c = w->to_cell + (at + r) * h, *th = w->to_squashed + (at + r) * h;
            float *hidden = w->to_hidden + (at + r) * h;
            EACH(j, h) {
                i[j] = logistic(i[j] + p_i[j]);
                g[j] = hyperbolic(g[j] + p_g[j]);
            }
            EACH(j, h) {
                f[j] = logistic(f[j] + p_f[j]);
                c[j] = i[j] * g[j] + f[j] * last[j];
            }
            EACH(j, h) {
                o[j] = logistic(o[j] + p_o[j]);
                th[j] = hyperbolic(c[j]);
                hidden[j] = o[j] * th[j];
            }
        }
    }
}

/* -- h^_t, c^_t, z^_t for t = ..., 1, 0 -- */

static void adjoint_rows(const work *w, int64_t from, int64_t to, uint8_t *room) {
    int64_t h = w->h, start = 0;
    for (int64_t t = 0; t < w->steps; t++) start += w->counts[t];
    for (int64_t t = w->steps - 1; t >= 0; t--) {
        int64_t after = start;
        start -= w->counts[t];
        int64_t m = active(w, t, from, to), later = active(w, t + 1, from, to), at = start + from, next = after + from;
        int64_t before = t > 0 ? start - w->counts[t - 1] + from : 0;
        float *h_hat = w->to_hidden + at * h;
        if (later) multiply(w->kind, 0, later, 4 * h, h, w->to_gates + next * 4 * h, w->packed, h_hat, room);
        memset(h_hat + later * h, 0, (size_t)((m - later) * h) * 4);
        for (int64_t r = 0; r < m; r++) {
            const float *i = w->gates + (at + r) * 4 * h, *f = i + h, *g = f + h, *o = g + h;
            const float *th = w->squashed + (at + r) * h, *last = row_of(w, w->cell, t > 0 ? before + r : -1, h);
            const float *l_h = row_of(w, w->of_hidden, at + r, h), *l_c = row_of(w, w->of_cell, at + r, h);
            const float *l_i = row_of(w, w->of_gates, at + r, 4 * h), *l_f = l_i + h, *l_g = l_f + h, *l_o = l_g + h;
            const float *f_next = row_of(w, w->gates, r < later ? next + r : -1, 4 * h) + h;
            const float *c_next = row_of(w, w->to_cell, r < later ? next + r : -1, h);
            float *own = h_hat + r * h, *c = w->to_cell + (at + r) * h;
            float *z_i = w->to_gates + (at + r) * 4 * h, *z_f = z_i + h, *z_g = z_f + h, *z_o = z_g + h;
            EACH(j, h) {
                own[j] += l_h[j];
                c[j] = l_c[j] + o[j] * (1.0f - th[j] * th[j]) * own[j] + f_next[j] * c_next[j];
                z_o[j] = (l_o[j] + th[j] * own[j]) * o[j] * (1.0f - o[j]);
            }
            EACH(j, h) {
                z_i[j] = (l_i[j] + g[j] * c[j]) * i[j] * (1.0f - i[j]);
                z_f[j] = (l_f[j] + last[j] * c[j]) * f[j] * (1.0f - f[j]);
                z_g[j] = (l_g[j] + i[j] * c[j]) * (1.0f - g[j] * g[j]);
            }
        }
    }
}

/* -- z*_t, c*_t, h*_t for t = 0, 1, ... -- */

static void tangent_rows(const work *w, int64_t from, int64_t to, uint8_t *room) {
    int64_t h = w->h, start = 0, before = 0;
    for (int64_t t = 0; t < w->steps; before = start, start += w->counts[t++]) { /* one matrix at a time in the cache */
        int64_t m = active(w, t, from, to), earlier = before + from;
        float *z = w->to_gates + (start + from) * 4 * h;
        if (t > 0) multiply(w->kind, 0, m, h, 4 * h, w->hidden + earlier * h, w->packed_v, z, room);
        else memset(z, 0, (size_t)(m * 4 * h) * 4);
    }
    start = before = 0;
    for (int64_t t = 0; t < w->steps; before = start, start += w->counts[t++]) {
        int64_t m = active(w, t, from, to), at = start + from, earlier = before + from;
        float *z = w->to_gates + at * 4 * h;
        if (t > 0) multiply(w->kind, 1, m, h, 4 * h, w->to_hidden + earlier * h, w->packed, z, room);
        for (int64_t r = 0; r < m; r++) {
            const float *q = w->q + w->places[at + r] * 4 * h;
            const float *i = w->gates + (at + r) * 4 * h, *f = i + h, *g = f + h, *o = g + h;
            const float *th = w->squashed + (at + r) * h;
            const float *last = row_of(w, w->cell, t > 0 ? earlier + r : -1, h);
            const float *c_last = row_of(w, w->to_cell, t > 0 ? earlier + r : -1, h);
            float *z_i = z + r * 4 * h, *z_f = z_i + h, *z_g = z_f + h, *z_o = z_g + h;
            float *c = w->to_cell + (at + r) * h, *hidden = w->to_hidden + (at + r) * h;
            for (int64_t j = 0; j < 4 * h; j++) z_i[j] += q[j];
            EACH(j, h) c[j] = g[j] * i[j] * (1.0f - i[j]) * z_i[j] + i[j] * (1.0f - g[j] * g[j]) * z_g[j];
            EACH(j, h) c[j] += f[j] * (c_last[j] + last[j] * (1.0f - f[j]) * z_f[j]);
            EACH(j, h) hidden[j] = o[j] * ((1.0f - th[j] * th[j]) * c[j] + th[j] * (1.0f - o[j]) * z_o[j]);
        }
    }
}

/* -- what reaches h, c and the gates where they stand in the derivatives of a step and in U^ -- */

static void second_rows(const work *w, int64_t from, int64_t to, uint8_t *room) {
    int64_t h = w->h, start = 0, before = 0;
    for (int64_t t = 0; t < w->steps; before = start, start += w->counts[t++]) {
        int64_t m = active(w, t, from, to), later = active(w, t + 1, from, to);
        int64_t at = start + from, next = start + w->counts[t] + from, earlier = before + from;
        float *hidden = w->to_hidden + at * h;
        if (later) multiply(w->kind, 0, later, 4 * h, h, w->z + next * 4 * h, w->packed_v, hidden, room);
        memset(hidden + later * h, 0, (size_t)((m - later) * h) * 4);
        for (int64_t r = 0; r < m; r++) {
            const float *i = w->gates + (at + r) * 4 * h, *f = i + h, *g = f + h, *o = g + h;
            const float *z_i = w->z_star + (at + r) * 4 * h, *z_f = z_i + h, *z_g = z_f + h, *z_o = z_g + h;
            const float *th = w->squashed + (at + r) * h, *c_star = w->c_star + (at + r) * h;
            const float *c_hat = w->c + (at + r) * h, *h_hat = w->h_hat + (at + r) * h;
            const float *last = row_of(w, w->cell, t > 0 ? earlier + r : -1, h);
            const float *last_star = row_of(w, w->c_star, t > 0 ? earlier + r : -1, h);
            const float *f_next = row_of(w, w->gates, r < later ? next + r : -1, 4 * h) + h;
            const float *z_next = row_of(w, w->z_star, r < later ? next + r : -1, 4 * h) + h;
            const float *c_next = row_of(w, w->c, r < later ? next + r : -1, h);
            float *of_i = w->to_gates + (at + r) * 4 * h, *of_f = of_i + h, *of_g = of_f + h, *of_o = of_g + h;
            float *of_c = w->to_cell + (at + r) * h;
            EACH(j, h) {
                of_i[j] = c_hat[j] * (g[j] * (1.0f - 2.0f * i[j]) * z_i[j] + (1.0f - g[j] * g[j]) * z_g[j]);
                of_g[j] = c_hat[j] * (i[j] * (1.0f - i[j]) * z_i[j] - 2.0f * i[j] * g[j] * z_g[j]);
                of_f[j] = c_hat[j] * (last[j] * (1.0f - 2.0f * f[j]) * z_f[j] + last_star[j]);
            }
            EACH(j, h) {
                float slope = 1.0f - th[j] * th[j];
                of_o[j] = h_hat[j] * (th[j] * (1.0f - 2.0f * o[j]) * z_o[j] + slope * c_star[j]);
                of_c[j] = h_hat[j] * slope * (o[j] * (1.0f - o[j]) * z_o[j] - 2.0f * o[j] * th[j] * c_star[j]) +
                          c_next[j] * f_next[j] * (1.0f - f_next[j]) * z_next[j];
            }
        }
    }
}

/* -- what is called; each returns 0, or how it has failed -- */

static int run_all(work w, body run, int threads, int matrices) {
    int failed = (w.packed != NULL) + (w.packed_v != NULL) == matrices ? 0 : NO_MEMORY;
    w.nothing = calloc((size_t)(4 * w.h), 4);
    w.failed = &failed;
    w.run = run;
    if (w.nothing == NULL) failed = NO_MEMORY;
    if (!failed) spread(&w, threads);
    free(w.nothing);
    free(w.packed);
    free(w.packed_v);
    return failed;
}

#define SHAPE int64_t steps, int64_t h, int64_t kind
#define TEXTS int threads, const int64_t *counts, const int64_t *places
#define WORK .steps = steps, .h = h, .kind = (int)kind, .counts = counts, .places = places
#define RUN .gates = gates, .cell = cell, .squashed = squashed

int64_t kshot_lstm_forward(
    SHAPE, int64_t n_inputs, TEXTS, const float *p, const float *u, float *gates, float *cell, float *squashed,
    float *hidden
) {
    work w = {WORK,
              .n_inputs = n_inputs,
              .p = p,
              .to_gates = gates,
              .to_cell = cell,
              .to_squashed = squashed,
              .to_hidden = hidden};
    w.packed = laid_out(w.kind, u, 1, h, 4 * h);
    return run_all(w, forward_rows, threads, 1);
}

int64_t kshot_lstm_adjoint(
    SHAPE, TEXTS, const float *u, const float *gates, const float *cell, const float *squashed, const float *of_hidden,
    const float *of_cell, const float *of_gates, float *z_hat, float *c_hat, float *h_hat
) {
    work w = {WORK, RUN, .of_hidden = of_hidden, .of_cell = of_cell, .of_gates = of_gates};
    w.to_gates = z_hat, w.to_cell = c_hat, w.to_hidden = h_hat;
    w.packed = laid_out(w.kind, u, 0, 4 * h, h);
    return run_all(w, adjoint_rows, threads, 1);
}

int64_t kshot_lstm_tangent(
    SHAPE, TEXTS, const float *u, const float *v, const float *q, const float *gates, const float *cell,
    const float *squashed, const float *hidden, float *z_star, float *c_star, float *h_star
) {
    work w = {WORK, RUN, .hidden = hidden, .q = q, .to_gates = z_star, .to_cell = c_star, .to_hidden = h_star};
    w.packed = laid_out(w.kind, u, 1, h, 4 * h);
    w.packed_v = laid_out(w.kind, v, 1, h, 4 * h);
    return run_all(w, tangent_rows, threads, 2);
}

int64_t kshot_lstm_second(
    SHAPE, TEXTS, const float *v, const float *gates, const float *cell, const float *squashed, const float *z_star,
    const float *c_star, const float *z_hat, const float *c_hat, const float *h_hat, float *of_gates, float *of_cell,
    float *of_hidden
) {
    work w = {WORK, RUN, .z_star = z_star, .c_star = c_star, .z = z_hat, .c = c_hat, .h_hat = h_hat};
    w.to_gates = of_gates, w.to_cell = of_cell, w.to_hidden = of_hidden;
    w.packed_v = laid_out(w.kind, v, 0, 4 * h, h);
    return run_all(w, second_rows, threads, 1);
}
