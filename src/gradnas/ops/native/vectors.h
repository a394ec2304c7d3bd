/* Vectors of REAL (float or double) as wide as the processor has them, and buffers for them. */

#ifndef GRADNAS_VECTORS_H
#define GRADNAS_VECTORS_H

#include <stdlib.h>
#include <string.h>

typedef long long Int;

#define INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#if defined(__AVX512F__)
#define BYTES 64
#define PIXELS 8 /* that one pass over a kernel or a matrix serves: as many as the registers hold vectors for */
#elif defined(__AVX__)
#define BYTES 32
#define PIXELS 4
#elif defined(__SSE2__)
#define BYTES 16
#define PIXELS 4
#else
#define BYTES 16
#define PIXELS 8
#endif

typedef REAL Vector __attribute__((vector_size(BYTES), may_alias));
typedef REAL Anywhere __attribute__((vector_size(BYTES), may_alias, aligned(sizeof(REAL)))); /* not only at multiples */
typedef __typeof__((Vector){0} < (Vector){0}) Mask;
enum { LANES = BYTES / sizeof(REAL) };

INLINE Int whole_vectors(Int n) { return (n + LANES - 1) / LANES * LANES; }
INLINE Vector load(const REAL *p) { return *(const Vector *)p; }
INLINE void store(REAL *p, Vector v) { *(Vector *)p = v; }
INLINE Vector load_any(const REAL *p) { return *(const Anywhere *)p; }
INLINE void store_any(REAL *p, Vector v) { *(Anywhere *)p = v; }
INLINE Vector everywhere(REAL x) { return (Vector){0} + x; }
INLINE Vector where(Mask m, Vector v) { return (Vector)((Mask)v & m); }
INLINE Vector positive_part(Vector v) { return where(~(v < 0), v); } /* what is no number stays so */

static inline REAL *buffer(Int n) {
    size_t bytes = ((size_t)n * sizeof(REAL) + 63) / 64 * 64;
    return aligned_alloc(64, bytes ? bytes : 64);
}

#endif
