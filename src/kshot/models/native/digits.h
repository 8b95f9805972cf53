/* Tiles of digits: products in float32 by units that multiply bytes and add in 32 bits.

   The elements of a vector, 256 at a time, are rounded to whole numbers of steps, 2^23 of which are the largest, and
   these written in three digits between -128 and 127 to the base 256, x = s (d1 256^2 + d2 256 + d3). So

       a b = s s' (d1 d1' 256^4 + (d1 d2' + d2 d1') 256^3 + (d1 d3' + d2 d2' + d3 d1') 256^2
                   + (d2 d3' + d3 d2') 256 + d3 d3')

   of which all but d3 d3' is added up, each power exactly (Ozaki et al. 2012, Error-free transformations of matrix
   multiplication; by such units Ootomo, Ozaki & Yokota 2024, DGEMM on integer matrix multiplication unit). The error is
   that of numbers with 24 bits below the largest of their vector, some 2^-24 of the norms of the two vectors: where few
   elements are much larger than the rest, float32 has more digits of the rest. A vector that holds what is infinite or
   not a number has products that are not numbers; one whose elements are all below 2^-103 has fewer digits. */

#ifndef KSHOT_DIGITS_H
#define KSHOT_DIGITS_H

#include "tiles.h"

#if HAS_UNITS
enum { POWERS = 4 };          /* of the base */
#define MOST_STEPS 8355708.0f /* 127 (256^2 + 256 + 1), less what rounding may add */

/* What the first digit of each of 16 vectors counts, and how many steps of the last one make one. `top` holds the bits
 * of their largest magnitudes. */
static inline void find_scales(__m512i top, float *scales, float *per_one) {
    const __m512 most = _mm512_set1_ps(MOST_STEPS);
    __m512 largest = _mm512_castsi512_ps(top);
    __mmask16 is_none = _mm512_cmp_ps_mask(largest, _mm512_setzero_ps(), _CMP_EQ_OQ);
    __mmask16 is_number = _mm512_cmplt_epu32_mask(top, _mm512_set1_epi32(0x7f800000));
    __m512 per = _mm512_min_ps(_mm512_div_ps(most, largest), _mm512_set1_ps(8.5e37f)); /* 2^126 */
    per = _mm512_maskz_mov_ps(is_number & (__mmask16)~is_none, per);
    __m512 step = _mm512_maskz_div_ps((__mmask16)~is_none, _mm512_set1_ps(65536.0f), per);
    _mm512_storeu_ps(scales, _mm512_mask_mov_ps(step, (__mmask16)~is_number, _mm512_set1_ps(__builtin_nanf(""))));
    _mm512_storeu_ps(per_one, per);
}

/* Lane j of digit p, the highest first: that of elements j of four vectors, as bytes. The digits of x are the bytes of
   x + 128 (256^2 + 256 + 1), less 128 each. */
static inline __attribute__((always_inline)) void digits_of(const __m512i x[4], __m512i digits[3]) {
    __m512i shifted[4];
    for (int r = 0; r < 4; r++) shifted[r] = _mm512_add_epi32(x[r], _mm512_set1_epi32(0x808080));
#pragma GCC unroll 3
    for (int p = 0; p < 3; p++) {
        const int right = 16 - 8 * p;
        __m512i all = _mm512_set1_epi32((int)0x80808080);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const int left = 8 * r - right;
            __m512i at = left >= 0 ? _mm512_slli_epi32(shifted[r], left >= 0 ? (unsigned)left : 0)
                                   : _mm512_srli_epi32(shifted[r], left < 0 ? (unsigned)-left : 0);
            const __m512i byte = _mm512_set1_epi32((int)(0xffu << (8 * r)));
            all = _mm512_ternarylogic_epi32(all, at, byte, 0x78); /* all ^ (at & byte) */
        }
        digits[p] = all;
    }
}

/* 16 vectors, of which there are `count`, and 64 of their elements, of which there are `left`; element j goes next to
   16 + j, 32 + j and 48 + j, in the tiles of both factors. */
static inline __attribute__((always_inline)) void lay_out_digits_tile(
    const int columns, const int as_columns, int64_t count, int64_t left, const float *x, int64_t row,
    const float *per_one, uint8_t *to
) {
    __m512i tile[3][TILE];
    __m512 all_per_one = _mm512_loadu_ps(per_one);
    for (int i = 0; i < TILE; i++) {
        __m512i whole[4], digits[3];
        __m512 per = columns ? all_per_one : _mm512_set1_ps(per_one[i]);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            __m512 each;
            if (columns) each = _mm512_maskz_loadu_ps(16 * r + i < left ? first_of(count) : 0, x + (16 * r + i) * row);
            else each = _mm512_maskz_loadu_ps(first_of(i < count ? left - 16 * r : 0), x + i * row + 16 * r);
            whole[r] = _mm512_cvtps_epi32(_mm512_mul_ps(each, per));
        }
        digits_of(whole, digits);
        for (int p = 0; p < 3; p++) tile[p][i] = digits[p];
    }
    for (int p = 0; p < 3; p++) {
        if (columns != as_columns) turn(tile[p]);
        for (int i = 0; i < TILE; i++) _mm512_store_si512(to + p * AREA + i * 64, tile[p][i]);
    }
}

/* The bits of the largest magnitude of each of at most STRIP vectors. What is not a number is larger than all numbers.
 */
static inline void find_largest(int64_t count, int64_t k, matrix of, int32_t largest[STRIP]) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    memset(largest, 0, STRIP * sizeof(int32_t));
    if (of.columns) {
        __m512i top[STRIP / TILE] = {0};
        for (int64_t i = 0; i < k; i++)
#pragma GCC unroll 8
            for (int block = 0; block < STRIP / TILE; block++) {
                const float *x = of.x + i * of.row + block * TILE;
                __m512i each = _mm512_maskz_loadu_epi32(first_of(count - block * TILE), x);
                top[block] = _mm512_max_epu32(top[block], _mm512_and_si512(each, magnitude));
            }
        for (int block = 0; block < STRIP / TILE; block++) _mm512_storeu_si512(largest + block * TILE, top[block]);
        return;
    }
    for (int64_t j = 0; j < count && j < STRIP; j++) {
        __m512i own = _mm512_setzero_si512(), others = own;
        const float *x = of.x + j * of.row;
        for (int64_t i = 0; i < k; i += 32) {
            __m512i one = _mm512_maskz_loadu_epi32(first_of(k - i), x + i);
            __m512i other = _mm512_maskz_loadu_epi32(first_of(k - i - 16), x + i + 16);
            own = _mm512_max_epu32(own, _mm512_and_si512(one, magnitude));
            others = _mm512_max_epu32(others, _mm512_and_si512(other, magnitude));
        }
        largest[j] = (int32_t)_mm512_reduce_max_epu32(_mm512_max_epu32(own, others));
    }
}

/* n vectors of k elements, filled up with zeros. */
static inline __attribute__((always_inline)) void lay_out_digits(
    const int columns, const int as_columns, int64_t n, int64_t k, matrix of, laid to
) {
    int64_t n_tiles = (k + 63) / 64;
    for (int64_t first = 0; first < n; first += STRIP) { /* what is read for the scales stays in the cache */
        int32_t largest[STRIP];
        float per_one[STRIP];
        int64_t n_blocks = least_of(STRIP, up_to(n - first, SQUARE)) / TILE;
        find_largest(n - first, k, part_of(of, first, 0), largest);
        for (int64_t i = 0; i < n_blocks * TILE; i += TILE)
            find_scales(_mm512_loadu_si512(largest + i), to.scales + first + i, per_one + i);
        for (int64_t i = 0; i < n_tiles * n_blocks; i++) {
            int64_t block = columns ? i % n_blocks : i / n_tiles, each = columns ? i / n_blocks : i % n_tiles;
            int64_t vector = first + block * TILE;
            matrix own = part_of(of, vector, each * 64);
            uint8_t *tile = to.tiles + vector / TILE * to.next + each * 3 * AREA;
            lay_out_digits_tile(
                columns, as_columns, n - vector, k - each * 64, own.x, own.row, per_one + block * TILE, tile
            );
        }
    }
}

/* The sums of a power: products of the digits p, the highest being 0, of a by the digits `power` - p of b. */
static inline __attribute__((always_inline)) void add_digits(
    const int two, const int power, int64_t n, laid a, laid b, int32_t *sums
) {
    WRITTEN(a.tiles);
    zero_square();
    for (int64_t each = 0; each < n; each++)
#pragma GCC unroll 3
        for (int p = power > 2 ? power - 2 : 0; p <= power && p <= 2; p++) {
            const uint8_t *rows = a.tiles + (each * 3 + p) * AREA, *columns = b.tiles + (each * 3 + power - p) * AREA;
            load_factors(two, rows, a.next, columns, b.next);
            _tile_dpbssd(0, 4, 6);
            _tile_dpbssd(1, 4, 7);
            if (two) _tile_dpbssd(2, 5, 6);
            if (two) _tile_dpbssd(3, 5, 7);
        }
    store_square(two, sums, SQUARE);
}

static inline __attribute__((always_inline)) void digits_square(
    const int two, int64_t n, laid a, laid b, int32_t sums[POWERS][SQUARE * SQUARE]
) {
    add_digits(two, 0, n, a, b, sums[0]);
    add_digits(two, 1, n, a, b, sums[1]);
    add_digits(two, 2, n, a, b, sums[2]);
    add_digits(two, 3, n, a, b, sums[3]);
}

/* c (height, width) = start + a b; see `multiply_halves`. */
static inline __attribute__((always_inline)) void multiply_digits(
    int64_t height, int64_t width, const float *start, int64_t start_row, int64_t n, laid a, laid b, float *c,
    int64_t c_row
) {
    int32_t sums[POWERS][SQUARE * SQUARE] __attribute__((aligned(64)));
    if (height > TILE) digits_square(1, n, a, b, sums);
    else digits_square(0, n, a, b, sums);
    WRITTEN(sums);
    for (int64_t side = 0; side < width; side += 16) {
        __mmask16 some = first_of(width - side);
        __m512 scales = _mm512_mul_ps(_mm512_loadu_ps(b.scales + side), _mm512_set1_ps(64.0f));
        for (int64_t r = 0; r < height; r++) {
            __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 4
            for (int power = POWERS - 1; power >= 0; power--) {
                __m512 each = _mm512_cvtepi32_ps(_mm512_load_si512(sums[power] + r * SQUARE + side));
                sum = _mm512_fmadd_ps(each, _mm512_set1_ps(1.0f / (float)(64 << (8 * power))), sum);
            }
            sum = _mm512_mul_ps(sum, _mm512_set1_ps(a.scales[r]));
            __m512 from = start ? _mm512_maskz_loadu_ps(some, start + r * start_row + side) : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(c + r * c_row + side, some, _mm512_fmadd_ps(sum, scales, from));
        }
    }
}
#else
static inline void lay_out_digits(int columns, int as_columns, int64_t n, int64_t k, matrix of, laid to) {
    (void)columns, (void)as_columns, (void)n, (void)k, (void)of, (void)to;
}

static inline __attribute__((always_inline)) void multiply_digits(
    int64_t height, int64_t width, const float *start, int64_t start_row, int64_t n, laid a, laid b, float *c,
    int64_t c_row
) {
    (void)height, (void)width, (void)start, (void)start_row, (void)n, (void)a, (void)b, (void)c, (void)c_row;
}
#endif

#endif
