/* Products of matrices by tiles, and matrices laid out in tiles or panels; kshot/models/tiles.py calls them. */

#include <stdint.h>
#include <stdlib.h>

#include "parts.h"
#include "products.h"

/* Which kinds of tiles there are here: the largest, of which those below are too, or 0. */
int64_t kshot_tiles_kind(int threads) {
    (void)threads;
    if (HAS_UNITS) return may_use_units() ? DIGITS : NO_TILES;
    return HAS_HALVES ? HALVES : NO_TILES;
}

/* Numbers of float32 of a vector. */
int64_t kshot_lanes(int threads) {
    (void)threads;
    return LANES;
}

/* Bytes of a matrix that is laid out. */
int64_t kshot_tiles_size(int64_t kind, int64_t n, int64_t k, int threads) {
    (void)threads;
    return (int64_t)(kind == NO_TILES ? panels_size(k, n) : laid_out_size((int)kind, n, k));
}

typedef struct {
    int64_t m, k, n;
    int kind, by_columns, *failed;
    matrix a, b;
    uint8_t *laid_out_b;
    const float *bias;
    float *c;
} work;

static void lay_out_squares(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    lay_out_columns(w->kind, w->n, w->k, w->b, from * SQUARE, to * SQUARE, w->laid_out_b);
}

static void multiply_squares(const void *argument, int64_t from, int64_t to) {
    const work *w = argument;
    int64_t first = w->by_columns ? 0 : from * SQUARE, last = w->by_columns ? w->m : least_of(to * SQUARE, w->m);
    int64_t left = w->by_columns ? from * SQUARE : 0, right = w->by_columns ? to * SQUARE : w->n;
    uint8_t *room = aligned_alloc(64, room_for_rows(w->kind, last - first, w->k));
    if (room == NULL) {
        __atomic_store_n(w->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    begin_tiles();
    multiply_tiles(
        w->kind, 0, last - first, w->k, w->n, left, right, part_of(w->a, first, 0), w->laid_out_b, w->bias,
        w->c + first * w->n, room
    );
    end_tiles();
    free(room);
}

static void lay_out_all(const work *w, int threads) {
    enum { LEAST = 4 }; /* squares of a thread */
    evenly(w, lay_out_squares, up_to(w->n, SQUARE) / SQUARE, LEAST, threads);
}

/* Lays out b, (n, k), in panels if there is no kind of tiles. Returns 0. */
int64_t kshot_tiles_lay_out(
    int64_t kind, int64_t n, int64_t k, int64_t row, int64_t columns, int threads, const float *b, uint8_t *to
) {
    work w = {.kind = (int)kind, .n = n, .k = k, .b = {b, row, (int)columns}, .laid_out_b = to};
    if (kind == NO_TILES) fill_panels(b, row, !columns, k, n, (float *)to);
    else lay_out_all(&w, threads);
    return 0;
}

/* c (m, n) = a b' + bias: a (m, k); b (n, k), or what it is laid out as; bias (n,) or NULL. Returns 1 if there is no
   memory, else 0. */
int64_t kshot_tiles_multiply(
    int64_t kind, int64_t m, int64_t k, int64_t n, int64_t a_row, int64_t a_columns, int64_t b_row, int64_t b_columns,
    int threads, const float *a, const float *b, uint8_t *laid_out_b, const float *bias, float *c
) {
    enum { LEAST = 2 };
    int failed = 0;
    work w = {.kind = (int)kind, .m = m, .k = k, .n = n, .by_columns = n > m, .failed = &failed};
    w.a = (matrix){a, a_row, (int)a_columns}, w.b = (matrix){b, b_row, (int)b_columns};
    w.bias = bias, w.c = c;
    uint8_t *own = laid_out_b == NULL ? aligned_alloc(64, laid_out_size(w.kind, n, k)) : NULL;
    w.laid_out_b = laid_out_b == NULL ? own : laid_out_b;
    if (w.laid_out_b == NULL) return 1;
    if (own != NULL) lay_out_all(&w, threads);
    evenly(&w, multiply_squares, up_to(w.by_columns ? n : m, SQUARE) / SQUARE, LEAST, threads);
    free(own);
    return failed;
}
