/* Tiles of numbers of bfloat16, whose products are added in float32. */

#ifndef KSHOT_HALVES_H
#define KSHOT_HALVES_H

#include "tiles.h"

#if HAS_HALVES
/* 16 vectors, of which there are `count`, and 32 of their elements, of which there are `left`. Element j goes next to
   element 16 + j, in the tiles of both factors. */
static inline __attribute__((always_inline)) void lay_out_halves_tile(
    const int columns, const int as_columns, int64_t count, int64_t left, const float *x, int64_t row, uint8_t *to
) {
    const __m512i alternate = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
        16, 0
    );
    __m512i tile[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) {
        __m512 one, other;
        if (columns) {
            one = _mm512_maskz_loadu_ps(i < left ? first_of(count) : 0, x + i * row);
            other = _mm512_maskz_loadu_ps(i + 16 < left ? first_of(count) : 0, x + (i + 16) * row);
        } else {
            one = _mm512_maskz_loadu_ps(first_of(i < count ? left : 0), x + i * row);
            other = _mm512_maskz_loadu_ps(first_of(i < count ? left - 16 : 0), x + i * row + 16);
        }
        tile[i] = _mm512_permutexvar_epi16(alternate, (__m512i)_mm512_cvtne2ps_pbh(other, one));
    }
    if (columns != as_columns) turn(tile);
    for (int i = 0; i < TILE; i++) _mm512_store_si512(to + i * 64, tile[i]);
}

/* n vectors of k elements, filled up with zeros. */
static inline __attribute__((always_inline)) void lay_out_halves(
    const int columns, const int as_columns, int64_t n, int64_t k, matrix of, laid to
) {
    int64_t n_tiles = (k + 31) / 32, n_blocks = up_to(n, SQUARE) / TILE;
    for (int64_t i = 0; i < n_tiles * n_blocks; i++) { /* what lies together is read together */
        int64_t block = columns ? i % n_blocks : i / n_tiles, each = columns ? i / n_blocks : i % n_tiles;
        matrix own = part_of(of, block * TILE, each * 32);
        uint8_t *tile = to.tiles + block * to.next + each * AREA;
        lay_out_halves_tile(columns, as_columns, n - block * TILE, k - each * 32, own.x, own.row, tile);
    }
}
#else
static inline void lay_out_halves(int columns, int as_columns, int64_t n, int64_t k, matrix of, laid to) {
    (void)columns, (void)as_columns, (void)n, (void)k, (void)of, (void)to;
}
#endif

/* out (16 or 32, 32) = start + a b for `n` tiles of each vector; the rows of `start`, which may be NULL for zeros, are
   as far apart as it says. */
#if HAS_UNITS
static inline __attribute__((always_inline)) void halves_square(
    const int two, const float *start, int64_t start_row, int64_t n, laid a, laid b, float *out, int64_t out_row
) {
    WRITTEN(start);
    if (start != NULL) {
        _tile_loadd(0, start, start_row * 4);
        _tile_loadd(1, start + 16, start_row * 4);
        if (two) _tile_loadd(2, start + 16 * start_row, start_row * 4);
        if (two) _tile_loadd(3, start + 16 * start_row + 16, start_row * 4);
    } else {
        zero_square();
    }
    for (int64_t each = 0; each < n; each++) {
        const uint8_t *rows = a.tiles + each * AREA, *columns = b.tiles + each * AREA;
        load_factors(two, rows, a.next, columns, b.next);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (two) _tile_dpbf16ps(2, 5, 6);
        if (two) _tile_dpbf16ps(3, 5, 7);
    }
    store_square(two, (int32_t *)out, out_row);
}
#elif HAS_HALVES
static inline __attribute__((always_inline)) void halves_square(
    const int two, const float *start, int64_t start_row, int64_t n, laid a, laid b, float *out, int64_t out_row
) {
    for (int first = 0; first < (two ? 32 : 16); first += 8) {
        const uint8_t *rows = a.tiles + first / TILE * a.next + first % TILE * 64;
        __m512 sum[8][2];
        for (int r = 0; r < 8; r++)
            for (int side = 0; side < 2; side++)
                sum[r][side] =
                    start ? _mm512_loadu_ps(start + (first + r) * start_row + 16 * side) : _mm512_setzero_ps();
        for (int64_t at = 0; at < n * AREA; at += AREA)
            for (int i = 0; i < TILE; i++) {
                __m512bh left = (__m512bh)_mm512_load_si512(b.tiles + at + i * 64);
                __m512bh right = (__m512bh)_mm512_load_si512(b.tiles + b.next + at + i * 64);
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    int32_t pair;
                    memcpy(&pair, rows + at + r * 64 + i * 4, 4);
                    __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                    sum[r][0] = _mm512_dpbf16_ps(sum[r][0], both, left);
                    sum[r][1] = _mm512_dpbf16_ps(sum[r][1], both, right);
                }
            }
        for (int r = 0; r < 8; r++)
            for (int side = 0; side < 2; side++)
                _mm512_storeu_ps(out + (first + r) * out_row + 16 * side, sum[r][side]);
    }
}
#else
static inline void halves_square(
    int two, const float *start, int64_t start_row, int64_t n, laid a, laid b, float *out, int64_t out_row
) {
    (void)two, (void)start, (void)start_row, (void)n, (void)a, (void)b, (void)out, (void)out_row;
}
#endif

/* The same for a result of `height` rows and `width` columns. */
static inline __attribute__((always_inline)) void multiply_halves(
    int64_t height, int64_t width, const float *start, int64_t start_row, int64_t n, laid a, laid b, float *c,
    int64_t c_row
) {
    float edge[SQUARE * SQUARE] __attribute__((aligned(64)));
    int is_whole = width == SQUARE && height % TILE == 0;
    if (!is_whole && start != NULL) {
        memset(edge, 0, sizeof edge);
        for (int64_t r = 0; r < height; r++) memcpy(edge + r * SQUARE, start + r * start_row, (size_t)width * 4);
        start = edge, start_row = SQUARE;
    }
    float *out = is_whole ? c : edge;
    int64_t out_row = is_whole ? c_row : SQUARE;
    if (height > TILE) halves_square(1, start, start_row, n, a, b, out, out_row);
    else halves_square(0, start, start_row, n, a, b, out, out_row);
    for (int64_t r = 0; !is_whole && r < height; r++) memcpy(c + r * c_row, edge + r * SQUARE, (size_t)width * 4);
}

#endif
