/* Products of a few rows by a matrix that is used many times: its columns are laid out in panels once (Goto & van de
   Geijn 2008, Anatomy of high-performance matrix multiplication). In float32; and in bfloat16 with sums in float32,
   where the processor has that. */

#ifndef KSHOT_PRODUCTS_H
#define KSHOT_PRODUCTS_H

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

/* -- in float32 -- */

/* b (k, n), or its transpose (n, k), as panels of COLUMNS columns, the last one filled up with zeros. */
static inline float *panels(const float *b, int transposed, int64_t k, int64_t n) {
    int64_t n_panels = (n + COLUMNS - 1) / COLUMNS;
    float *packed = aligned_alloc(64, (size_t)((n_panels * k * COLUMNS * 4 + 63) / 64 * 64));
    if (packed == NULL) return NULL;
    for (int64_t panel = 0; panel < n_panels; panel++) {
        float *to = packed + panel * k * COLUMNS;
        int64_t first = panel * COLUMNS, width = n - first < COLUMNS ? n - first : COLUMNS;
        if (transposed) {
            if (width < COLUMNS) memset(to, 0, (size_t)(k * COLUMNS) * 4);
            for (int64_t block = 0; block < k; block += LANES) { /* what is written stays in the cache */
                int64_t end = block + LANES < k ? block + LANES : k;
                for (int64_t j = 0; j < width; j++)
                    for (int64_t i = block; i < end; i++) to[i * COLUMNS + j] = b[(first + j) * k + i];
            }
        } else {
            for (int64_t i = 0; i < k; i++) {
                for (int64_t j = 0; j < width; j++) to[i * COLUMNS + j] = b[i * n + first + j];
                for (int64_t j = width; j < COLUMNS; j++) to[i * COLUMNS + j] = 0.0f;
            }
        }
    }
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

/* c (m, n) = a b, or c += a b: a (m, k), b (k, n) as panels. */
static inline void multiply_single(
    int adds, int64_t m, int64_t k, int64_t n, const float *a, const float *packed, float *c
) {
    int64_t n_tiles = (m + ROWS - 1) / ROWS;
    for (int64_t first = 0; first < n; first += COLUMNS) {
        const float *panel = packed + first * k;
        for (int64_t each = 0; each < n_tiles; each++) {
            int64_t from = m * each / n_tiles;
            int rows = (int)(m * (each + 1) / n_tiles - from); /* tiles are as even as can be */
            float *to = c + from * n + first;
            if (n - first >= COLUMNS) {
                tiles(rows, adds, k, a + from * k, k, panel, to, n);
                continue;
            }
            float edge[ROWS * COLUMNS] = {0};
            size_t width = (size_t)(n - first) * 4;
            for (int r = 0; adds && r < rows; r++) memcpy(edge + r * COLUMNS, to + r * n, width);
            tiles(rows, adds, k, a + from * k, k, panel, edge, COLUMNS);
            for (int r = 0; r < rows; r++) memcpy(to + r * n, edge + r * COLUMNS, width);
        }
    }
}

/* -- in bfloat16 -- */

typedef uint16_t half;

#define PAIRS 16          /* of rows of b that are next to each other, and columns of a block */
#define DEPTH (2 * PAIRS) /* rows of b that a tile takes */

/* What has been written lies in memory now. GCC is not told what the instructions of tiles read there, and could leave
   out or put off what is written for them. */
#define WRITTEN(memory) __asm__ volatile("" : : "r"(memory) : "memory")

static inline int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/* The nearest number of bfloat16, the even one of two. */
static inline half rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (half)(x != x ? (bits >> 16) | 0x40 : nearest); /* what is not a number stays so */
}

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#define HAS_HALF 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether the system lets this process use the tiles of the processor. */
static inline int may_use_half(void) {
    enum { REQUEST = 0x1023, TILES = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, REQUEST, TILES) == 0;
}

static inline void begin_half(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int each = 0; each < 8; each++) {
        shape.bytes[each] = 64;
        shape.rows[each] = PAIRS;
    }
    WRITTEN(&shape);
    _tile_loadconfig(&shape);
}

static inline void end_half(void) { _tile_release(); }

/* out (32, 32) = a b: a (32, depth), b two blocks of columns. */
static inline void square(int64_t depth, const half *a, const half *left, const half *right, float *out) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < depth; i += DEPTH) {
        _tile_loadd(4, a + i, depth * 2);
        _tile_loadd(5, a + 16 * depth + i, depth * 2);
        _tile_loadd(6, left + i * PAIRS, 64);
        _tile_loadd(7, right + i * PAIRS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    _tile_stored(2, out + 16 * 32, 128);
    _tile_stored(3, out + 16 * 32 + 16, 128);
}
#elif defined(__AVX512BF16__)
#define HAS_HALF 1
#include <immintrin.h>

static inline int may_use_half(void) { return 1; }
static inline void begin_half(void) {}
static inline void end_half(void) {}

static inline void square(int64_t depth, const half *a, const half *left, const half *right, float *out) {
    for (int first = 0; first < 32; first += 8) {
        __m512 sum[8][2];
        for (int r = 0; r < 8; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        for (int64_t i = 0; i < depth; i += 2) {
            __m512bh one = (__m512bh)_mm512_loadu_si512(left + i * PAIRS);
            __m512bh other = (__m512bh)_mm512_loadu_si512(right + i * PAIRS);
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) {
                int32_t pair;
                memcpy(&pair, a + (first + r) * depth + i, 4);
                __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], both, one);
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], both, other);
            }
        }
        for (int r = 0; r < 8; r++) {
            _mm512_storeu_ps(out + (first + r) * 32, sum[r][0]);
            _mm512_storeu_ps(out + (first + r) * 32 + 16, sum[r][1]);
        }
    }
}
#else
#define HAS_HALF 0
static inline int may_use_half(void) { return 0; }
static inline void begin_half(void) {}
static inline void end_half(void) {}
static inline void square(int64_t depth, const half *a, const half *left, const half *right, float *out) {
    (void)depth, (void)a, (void)left, (void)right, (void)out;
}
#endif

/* b (k, n), or its transpose (n, k), in blocks of 16 columns, of which each holds pairs of rows next to each other;
   filled up with zeros to a multiple of 32 rows and columns. */
static inline half *blocks(const float *b, int transposed, int64_t k, int64_t n) {
    int64_t depth = up_to(k, DEPTH), width = up_to(n, 32);
    half *packed = aligned_alloc(64, (size_t)(depth * width * 2));
    if (packed == NULL) return NULL;
    for (int64_t j = 0; j < width; j++) {
        half *to = packed + j / PAIRS * PAIRS * depth + j % PAIRS * 2;
        for (int64_t i = 0; i < depth; i++) {
            float x = i < k && j < n ? (transposed ? b[j * k + i] : b[i * n + j]) : 0.0f;
            to[i / 2 * DEPTH + i % 2] = rounded(x);
        }
    }
    return packed;
}

/* c (m, n) = a b, or c += a b: a (m, k), b (k, n) as blocks; `room` holds a in bfloat16, as `room_of` says. */
static inline void multiply_half(
    int adds, int64_t m, int64_t k, int64_t n, const float *a, const half *packed, float *c, half *room
) {
    int64_t depth = up_to(k, DEPTH);
    for (int64_t r = 0; r < m; r++) {
        half *to = room + r * depth;
        const float *own = a + r * k;
        for (int64_t i = 0; i < k; i++) to[i] = rounded(own[i]);
        for (int64_t i = k; i < depth; i++) to[i] = 0;
    }
    WRITTEN(room);
    float out[32 * 32];
    for (int64_t first = 0; first < n; first += 32)
        for (int64_t from = 0; from < m; from += 32) {
            const half *left = packed + first * depth;
            square(depth, room + from * depth, left, left + PAIRS * depth, out);
            int64_t width = n - first < 32 ? n - first : 32, rows = m - from < 32 ? m - from : 32;
            for (int64_t r = 0; r < rows; r++) {
                float *to = c + (from + r) * n + first;
                if (adds)
                    for (int64_t j = 0; j < width; j++) to[j] += out[r * 32 + j];
                else memcpy(to, out + r * 32, (size_t)width * 4);
            }
        }
}

static inline size_t room_of(int64_t m, int64_t k) { return (size_t)(up_to(m, 32) * up_to(k, DEPTH)) * 2; }

/* -- either -- */

/* b as panels or as blocks; free it with `free`. NULL if there is no memory. */
static inline void *laid_out(int in_half, const float *b, int transposed, int64_t k, int64_t n) {
    return in_half ? (void *)blocks(b, transposed, k, n) : (void *)panels(b, transposed, k, n);
}

/* c (m, n) = a b, or c += a b; `room` is NULL for float32. */
static inline void multiply(
    int adds, int64_t m, int64_t k, int64_t n, const float *a, const void *packed, float *c, half *room
) {
    if (room) multiply_half(adds, m, k, n, a, packed, c, room);
    else multiply_single(adds, m, k, n, a, packed, c);
}

#endif
