/* Functions of single numbers that compilers turn into instructions for vectors. */

#ifndef KSHOT_FUNCTIONS_H
#define KSHOT_FUNCTIONS_H

#include <stdint.h>
#include <string.h>

/* e^x to the last digit or two: e^x = 2^n e^r, |r| <= log(2) / 2, by a Taylor series of degree 7. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    float shifted =
        x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: what is left of the point is rounded into its digits */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float e =
        1.0f + r * (1.0f + r * (0.5f + r * (1.66666667e-1f +
                                            r * (4.16666667e-2f +
                                                 r * (8.33333333e-3f + r * (1.38888889e-3f + r * 1.98412698e-4f))))));
    uint32_t power; /* the last digits of `shifted` are n */
    memcpy(&power, &shifted, 4);
    power = (power + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    return e * scale;
}

static inline float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }
static inline float hyperbolic(float x) { return 2.0f * logistic(2.0f * x) - 1.0f; }

/* The error function to 5e-7: a quotient of polynomials of x^2, fitted to |x| < 4 by least squares whose weights make
   the errors even. */
static inline float error_function(float x) {
    x = x < -4.0f ? -4.0f : x > 4.0f ? 4.0f : x;
    float t = x * x;
    float over = 1.128378977f +
                 t * (1.962337721e-1f +
                      t * (5.346542920e-2f + t * (4.002981422e-3f + t * (2.880238731e-4f + t * 1.974911220e-6f))));
    float under =
        1.0f + t * (5.072388175e-1f +
                    t * (1.164701023e-1f + t * (1.544309783e-2f + t * (1.216193803e-3f + t * 3.748079139e-5f))));
    return x * over / under;
}

/* x Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415). */
static inline float gelu(float x) { return 0.5f * x * (1.0f + error_function(x * 0.707106781f)); }

#endif
