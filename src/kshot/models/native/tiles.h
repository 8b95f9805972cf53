/* Products of matrices of float32 by the units of a processor that multiply tiles of 16 x 64 bytes by tiles of 64 x 16:
   of numbers of bfloat16 (`halves.h`), or of the digits of numbers of float32 (`digits.h`).

   What is multiplied is laid out in tiles first. A tile holds 16 vectors, rows of the first matrix or columns of the
   second, and 32 or 64 of their elements; in a tile of rows each vector is a row, in a tile of columns a column whose
   bytes are next to each other by fours. A number takes the same place in one byte, or two, of each of its parts. */

#ifndef KSHOT_TILES_H
#define KSHOT_TILES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILE = 16,         /* vectors of a tile */
    AREA = 1024,       /* bytes of a tile */
    SQUARE = 2 * TILE, /* rows and columns of the result that are held in registers */
    CHUNK = 256,       /* elements of vectors that are multiplied at a time: 32 vectors stay in the first cache */
    STRIP = 128,       /* vectors that are laid out at a time */
    ROOM = 3 << 18     /* bytes of rows that stay in the second cache */
};

/* What tiles hold, or neither; in the words of kshot/models/tiles.py. */
enum { NO_TILES = 0, HALVES = 1, DIGITS = 3 };

static inline int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }

/* The tiles, one for each part, that k elements take. */
static inline int64_t tiles_along(int kind, int64_t k) { return kind == DIGITS ? (k + 63) / 64 : (k + 31) / 32; }
static inline int64_t parts_of_tile(int kind) { return kind == DIGITS ? 3 : 1; }

/* What has been written lies in memory now. GCC is not told what the instructions of tiles read there, and could leave
   out or put off what is written for them. */
#define WRITTEN(memory) __asm__ volatile("" : : "r"(memory) : "memory")

/* A matrix of float32 as it lies: element i of vector j at x[j * row + i], or at x[i * row + j] if they are columns. */
typedef struct {
    const float *x;
    int64_t row;
    int columns;
} matrix;

static inline matrix part_of(matrix of, int64_t vector, int64_t element) {
    of.x += of.columns ? element * of.row + vector : vector * of.row + element;
    return of;
}

/* A part of a matrix in tiles: those of the same 16 vectors lie together, `next` bytes before those of the next 16. */
typedef struct {
    uint8_t *tiles;
    float *scales; /* of digits: what the first one counts, for each vector */
    int64_t next;
} laid;

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#define HAS_HALVES 1
#else
#define HAS_HALVES 0
#endif
#if HAS_HALVES && defined(__AMX_BF16__) && defined(__AMX_INT8__) && defined(__AMX_TILE__) && defined(__linux__)
#define HAS_UNITS 1
#else
#define HAS_UNITS 0
#endif

#if HAS_HALVES
#include <immintrin.h>

static inline __mmask16 first_of(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1 << n) - 1); }

/* 16 rows of 16 numbers of 32 bits, turned: by pairs, then by fours, then by quarters of vectors. */
static inline void turn(__m512i x[TILE]) {
    __m512i y[TILE];
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + 2 + j]);
            x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) {
            y[i + 8 * j] = _mm512_shuffle_i32x4(x[i + 8 * j], x[i + 8 * j + 4], 0x88);
            y[i + 8 * j + 4] = _mm512_shuffle_i32x4(x[i + 8 * j], x[i + 8 * j + 4], 0xdd);
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) {
            x[i + 4 * j] = _mm512_shuffle_i32x4(y[i + 4 * j], y[i + 4 * j + 8], 0x88);
            x[i + 4 * j + 8] = _mm512_shuffle_i32x4(y[i + 4 * j], y[i + 4 * j + 8], 0xdd);
        }
}
#endif

#if HAS_UNITS
#include <sys/syscall.h>
#include <unistd.h>

/* Whether the system lets this process use the units. */
static inline int may_use_units(void) {
    enum { REQUEST = 0x1023, TILES = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, REQUEST, TILES) == 0;
}

static inline void begin_tiles(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int each = 0; each < 8; each++) {
        shape.bytes[each] = 64;
        shape.rows[each] = TILE;
    }
    WRITTEN(&shape);
    _tile_loadconfig(&shape);
}

static inline void end_tiles(void) { _tile_release(); }

/* A square of the result is held in the tiles 0 to 3, in the first two if it has no more than 16 rows; what is
   multiplied in 4 and 5, rows, and 6 and 7, columns. The other 16 vectors lie `next` bytes behind. */
static inline void zero_square(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline __attribute__((always_inline)) void load_factors(
    const int two, const uint8_t *rows, int64_t rows_next, const uint8_t *columns, int64_t columns_next
) {
    _tile_loadd(4, rows, 64);
    if (two) _tile_loadd(5, rows + rows_next, 64);
    _tile_loadd(6, columns, 64);
    _tile_loadd(7, columns + columns_next, 64);
}

/* To rows of numbers of 32 bits that are `row` numbers apart. */
static inline __attribute__((always_inline)) void store_square(const int two, int32_t *out, int64_t row) {
    _tile_stored(0, out, row * 4);
    _tile_stored(1, out + 16, row * 4);
    if (two) _tile_stored(2, out + 16 * row, row * 4);
    if (two) _tile_stored(3, out + 16 * row + 16, row * 4);
}
#else
static inline int may_use_units(void) { return 0; }
static inline void begin_tiles(void) {}
static inline void end_tiles(void) {}
#endif

/* Bytes of n vectors of k elements in tiles: of a part of a matrix, or of all of it. */
static inline int64_t tiles_size(int kind, int64_t n, int64_t k) {
    return up_to(n, SQUARE) / TILE * tiles_along(kind, k) * parts_of_tile(kind) * AREA;
}

static inline int64_t scales_size(int kind, int64_t n, int64_t k) {
    return kind == DIGITS ? up_to(n, SQUARE) * (up_to(k, CHUNK) / CHUNK) * (int64_t)sizeof(float) : 0;
}

static inline size_t laid_out_size(int kind, int64_t n, int64_t k) {
    return (size_t)up_to(tiles_size(kind, n, k) + scales_size(kind, n, k) + 1, 64);
}

/* The part of a matrix that begins with an element and, a multiple of 16, a vector. */
static inline laid laid_part(int kind, uint8_t *all, int64_t n, int64_t k, int64_t vector, int64_t element) {
    int64_t width = up_to(n, SQUARE), depth = least_of(CHUNK, k - element);
    laid part;
    part.next = tiles_size(kind, SQUARE, depth) / 2;
    part.tiles = all + tiles_size(kind, width, element) + vector / TILE * part.next;
    part.scales = (float *)(all + tiles_size(kind, n, k)) + element / CHUNK * width + vector;
    return part;
}

/* The same from another vector on, a multiple of 16. */
static inline laid vectors_of(laid part, int64_t vector) {
    return (laid){part.tiles + vector / TILE * part.next, part.scales + vector, part.next};
}

#endif
