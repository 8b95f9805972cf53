/* Products of a few rows by a matrix that is used many times, in float32: its columns are laid out in panels once (Goto
   & van de Geijn 2008, Anatomy of high-performance matrix multiplication). */

#ifndef KSHOT_PANELS_H
#define KSHOT_PANELS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS 12 /* of a tile, which is held in registers: 32 of them */
#else
#define ROWS 6 /* 16 registers */
#endif
#define LANES (BYTES / 4)
#define COLUMNS (2 * LANES) /* of a tile and of a panel */

typedef float vector __attribute__((vector_size(BYTES), may_alias));
typedef vector loose __attribute__((aligned(4)));

/* Clang would make two vectors of each, for processors that it tunes for shorter ones, and run out of registers. */
#if defined(__clang__) && defined(__AVX512F__)
#define WHOLE_VECTORS __attribute__((min_vector_width(512)))
#else
#define WHOLE_VECTORS
#endif

/* Bytes of panels of k rows and n columns. */
static inline size_t panels_size(int64_t k, int64_t n) {
    return (size_t)((n + COLUMNS - 1) / COLUMNS * COLUMNS * k * 4 + 63) / 64 * 64;
}

/* b (k, n), or its transpose (n, k), whose rows are `row` numbers apart, as panels of COLUMNS columns, the last one
   filled up with zeros. */
static inline void fill_panels(const float *b, int64_t row, int transposed, int64_t k, int64_t n, float *packed) {
    int64_t n_panels = (n + COLUMNS - 1) / COLUMNS;
    for (int64_t panel = 0; panel < n_panels; panel++) {
        float *to = packed + panel * k * COLUMNS;
        int64_t first = panel * COLUMNS, width = n - first < COLUMNS ? n - first : COLUMNS;
        if (transposed) {
            if (width < COLUMNS) memset(to, 0, (size_t)(k * COLUMNS) * 4);
            for (int64_t block = 0; block < k; block += LANES) { /* what is written stays in the cache */
                int64_t end = block + LANES < k ? block + LANES : k;
                for (int64_t j = 0; j < width; j++)
                    for (int64_t i = block; i < end; i++) to[i * COLUMNS + j] = b[(first + j) * row + i];
            }
        } else {
            for (int64_t i = 0; i < k; i++) {
                for (int64_t j = 0; j < width; j++) to[i * COLUMNS + j] = b[i * row + first + j];
                for (int64_t j = width; j < COLUMNS; j++) to[i * COLUMNS + j] = 0.0f;
            }
        }
    }
}

/* The same of rows without gaps, in memory of its own; NULL if there is none. */
static inline float *panels(const float *b, int transposed, int64_t k, int64_t n) {
    float *packed = aligned_alloc(64, panels_size(k, n));
    if (packed != NULL) fill_panels(b, transposed ? k : n, transposed, k, n, packed);
    return packed;
}

/* c = a b, or c += a b, for `rows` rows of a panel. */
static inline __attribute__((always_inline)) WHOLE_VECTORS void tile(
    const int rows, int adds, int64_t k, const float *a, int64_t a_row, const float *panel, float *c, int64_t c_row
) {
    vector sum[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        sum[r][0] = adds ? *(const loose *)(c + r * c_row) : (vector){0};
        sum[r][1] = adds ? *(const loose *)(c + r * c_row + LANES) : (vector){0};
    }
    for (int64_t i = 0; i < k; i++) {
        vector left = *(const vector *)(panel + i * COLUMNS), right = *(const vector *)(panel + i * COLUMNS + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            float each = a[r * a_row + i];
            sum[r][0] += left * each;
            sum[r][1] += right * each;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        *(loose *)(c + r * c_row) = sum[r][0];
        *(loose *)(c + r * c_row + LANES) = sum[r][1];
    }
}

static inline WHOLE_VECTORS void tiles(
    int rows, int adds, int64_t k, const float *a, int64_t a_row, const float *panel, float *c, int64_t c_row
) {
    switch (rows) {
#define CASE(n)                                      \
    case n:                                          \
        tile(n, adds, k, a, a_row, panel, c, c_row); \
        break
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#if ROWS > 6
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
#endif
#undef CASE
    }
}

/* c (m, n) = a b, or c += a b: a (m, k), b (k, n) as panels; the rows of a and c are so many numbers apart. */
static inline void multiply_single(
    int adds, int64_t m, int64_t k, int64_t n, const float *a, int64_t a_row, const float *packed, float *c,
    int64_t c_row
) {
    int64_t n_tiles = (m + ROWS - 1) / ROWS;
    for (int64_t first = 0; first < n; first += COLUMNS) {
        const float *panel = packed + first * k;
        for (int64_t each = 0; each < n_tiles; each++) {
            int64_t from = m * each / n_tiles;
            int rows = (int)(m * (each + 1) / n_tiles - from); /* tiles are as even as can be */
            float *to = c + from * c_row + first;
            if (n - first >= COLUMNS) {
                tiles(rows, adds, k, a + from * a_row, a_row, panel, to, c_row);
                continue;
            }
            float edge[ROWS * COLUMNS] = {0};
            size_t width = (size_t)(n - first) * 4;
            for (int r = 0; adds && r < rows; r++) memcpy(edge + r * COLUMNS, to + r * c_row, width);
            tiles(rows, adds, k, a + from * a_row, a_row, panel, edge, COLUMNS);
            for (int r = 0; r < rows; r++) memcpy(to + r * c_row, edge + r * COLUMNS, width);
        }
    }
}

#endif
