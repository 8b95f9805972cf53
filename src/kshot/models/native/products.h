/* Products of matrices by panels or by tiles. */

#ifndef KSHOT_PRODUCTS_H
#define KSHOT_PRODUCTS_H

#include "digits.h"
#include "halves.h"
#include "panels.h"
#include "tiles.h"

/* A part of a matrix, as rows of the first factor or columns of the second; each way is compiled apart. */
static void lay_out_part(int kind, int as_columns, int64_t n, int64_t k, matrix of, laid to) {
#define CASE(columns_, as_columns_)                                              \
    if (of.columns == (columns_) && as_columns == (as_columns_)) {               \
        if (kind == DIGITS) lay_out_digits(columns_, as_columns_, n, k, of, to); \
        else lay_out_halves(columns_, as_columns_, n, k, of, to);                \
    }
    CASE(0, 0)
    CASE(0, 1)
    CASE(1, 0)
    CASE(1, 1)
#undef CASE
}

/* The columns `from` to `to`, a multiple of 32, of b (n, k), which is a matrix of n vectors. */
static inline void lay_out_columns(int kind, int64_t n, int64_t k, matrix b, int64_t from, int64_t to, uint8_t *all) {
    for (int64_t element = 0; element < k; element += CHUNK) {
        laid part = laid_part(kind, all, n, k, from, element);
        lay_out_part(kind, 1, least_of(to, n) - from, least_of(CHUNK, k - element), part_of(b, from, element), part);
    }
}

/* Rows that are laid out at a time, and the bytes that they need. */
static inline int64_t rows_of_group(int kind, int64_t m, int64_t k) {
    int64_t most = ROOM / (tiles_size(kind, SQUARE, k) + 1) * SQUARE;
    return least_of(m, most < SQUARE ? SQUARE : most);
}

static inline size_t room_for_rows(int kind, int64_t m, int64_t k) {
    return laid_out_size(kind, rows_of_group(kind, m, k), k);
}

/* c (m, n) = start + a b for a group of rows and 32 columns, which are laid out. */
static inline void multiply_columns(
    int kind, int64_t m, int64_t n, int64_t n_tiles, const float *start, int64_t start_row, laid a, laid b, float *c,
    int64_t c_row
) {
    for (int64_t i = 0; i < m; i += SQUARE) {
        int64_t height = least_of(SQUARE, m - i);
        const float *own = start == NULL ? NULL : start + i * start_row;
        laid rows = vectors_of(a, i);
        float *to = c + i * c_row;
        for (int64_t r = 0; r < height; r++) { /* it comes while products are made, and no store has to wait */
            __builtin_prefetch(to + r * c_row, 1);
            __builtin_prefetch(to + r * c_row + n - 1, 1);
        }
        if (kind == DIGITS) multiply_digits(height, n, own, start_row, n_tiles, rows, b, to, c_row);
        else multiply_halves(height, n, own, start_row, n_tiles, rows, b, to, c_row);
    }
}

/* a (m, k), a matrix of m vectors. */
static inline void lay_out_rows(int kind, int64_t m, int64_t k, matrix a, uint8_t *room) {
    for (int64_t element = 0; element < k; element += CHUNK) {
        laid own = laid_part(kind, room, m, k, 0, element);
        lay_out_part(kind, 0, m, least_of(CHUNK, k - element), part_of(a, 0, element), own);
    }
}

/* The columns `from` to `to`, a multiple of 32, of c (m, n) = a b + bias, or c += a b: a (m, k) and b (n, k) are laid
   out; bias (n,) may be NULL. */
static inline void multiply_laid_out(
    int kind, int adds, int64_t m, int64_t k, int64_t n, int64_t from, int64_t to, uint8_t *laid_out_a,
    uint8_t *laid_out_b, const float *bias, float *c
) {
    for (int64_t j = from; j < least_of(to, n); j += SQUARE)
        for (int64_t element = 0; element < k; element += CHUNK) {
            int64_t n_tiles = tiles_along(kind, least_of(CHUNK, k - element));
            laid own = laid_part(kind, laid_out_a, m, k, 0, element);
            laid columns = laid_part(kind, laid_out_b, n, k, j, element);
            int64_t width = least_of(SQUARE, least_of(to, n) - j);
            const float *start = adds || element > 0 ? c + j : bias ? bias + j : NULL;
            int64_t start_row = adds || element > 0 ? n : 0;
            multiply_columns(kind, m, width, n_tiles, start, start_row, own, columns, c + j, n);
        }
}

/* The same of a matrix of m vectors that is not laid out, a group of rows at a time. */
static inline void multiply_tiles(
    int kind, int adds, int64_t m, int64_t k, int64_t n, int64_t from, int64_t to, matrix a, uint8_t *laid_out_b,
    const float *bias, float *c, uint8_t *room
) {
    int64_t group = rows_of_group(kind, m, k);
    for (int64_t first = 0; first < m; first += group) {
        int64_t rows = least_of(group, m - first);
        lay_out_rows(kind, rows, k, part_of(a, first, 0), room);
        multiply_laid_out(kind, adds, rows, k, n, from, to, room, laid_out_b, bias, c + first * n);
    }
}

/* -- of a few rows by a matrix that is used many times -- */

/* b (k, n), or its transpose (n, k), as panels or as tiles of a kind; free it with `free`. NULL if there is no memory.
 */
static inline void *laid_out(int kind, const float *b, int transposed, int64_t k, int64_t n) {
    if (kind == NO_TILES) return panels(b, transposed, k, n);
    uint8_t *all = aligned_alloc(64, laid_out_size(kind, n, k));
    matrix of = {b, transposed ? k : n, !transposed};
    if (all != NULL) lay_out_columns(kind, n, k, of, 0, n, all);
    return all;
}

/* c (m, n) = a b, or c += a b; tiles need room for rows. */
static inline void multiply(
    int kind, int adds, int64_t m, int64_t k, int64_t n, const float *a, void *all, float *c, uint8_t *room
) {
    matrix rows = {a, k, 0};
    if (kind == NO_TILES) multiply_single(adds, m, k, n, a, k, all, c, n);
    else multiply_tiles(kind, adds, m, k, n, 0, n, rows, all, NULL, c, room);
}

#endif
