/* SPDX-License-Identifier: Apache-2.0 */
/* Twelve independent accumulators hide the latency of every multiply-add of today. The empty asm
 * keeps the compiler from knowing the accumulators' values, so that the loop is not folded. */
#include <immintrin.h>

#include "bench/kernels/probe_isa.h"

enum { CHAINS = 12 };
#define EACH_CHAIN _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++)

/* One walk leaves bandwidth unused where a prefetcher stops at each page: Zen 3 reads 37 GB/s in
 * one stream per thread, 46 in four, 52 in eight. */
enum { STREAMS = 8 };

#if defined(__AVX512F__)

static uint64_t read_all(const void *mem, size_t bytes)
{
    const char *p = mem;
    size_t each = bytes / STREAMS;
    __m512i sum[4] = {0};
    for (size_t at = 0; at < each; at += 256)
        for (size_t s = 0; s < STREAMS; s++)
            for (int i = 0; i < 4; i++)
                sum[i] = _mm512_xor_si512(sum[i], _mm512_load_si512(p + s * each + at + 64 * i));
    __m512i all =
        _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]));
    return (uint64_t)_mm512_reduce_or_epi64(all);
}

#define PROBE(name, type, zero, one_value, step, ops)                                              \
    static double name(uint64_t rounds)                                                            \
    {                                                                                              \
        type acc[CHAINS], x = one_value, y = one_value;                                            \
        EACH_CHAIN acc[i] = zero;                                                                  \
        for (uint64_t r = 0; r < rounds; r++) {                                                    \
            EACH_CHAIN acc[i] = step;                                                              \
            EACH_CHAIN __asm__ volatile("" : "+v"(acc[i]));                                        \
        }                                                                                          \
        return (double)rounds * CHAINS * (ops);                                                    \
    }
PROBE(f32, __m512, _mm512_setzero_ps(), _mm512_set1_ps(1e-3f), _mm512_fmadd_ps(x, y, acc[i]), 32)
PROBE(bf16, __m512, _mm512_setzero_ps(), _mm512_set1_ps(1e-3f),
      _mm512_dpbf16_ps(acc[i], (__m512bh)x, (__m512bh)y), 64)
PROBE(int8, __m512i, _mm512_setzero_si512(), _mm512_set1_epi32(1),
      _mm512_dpbusd_epi32(acc[i], x, y), 128)
const hdl_probe_loops hdl_probe_avx512 = {read_all, f32, bf16, int8};

#else

static uint64_t read_all(const void *mem, size_t bytes)
{
    const char *p = mem;
    size_t each = bytes / STREAMS;
    __m256i sum[4] = {0};
    for (size_t at = 0; at < each; at += 128)
        for (size_t s = 0; s < STREAMS; s++)
            for (int i = 0; i < 4; i++) {
                const char *from = p + s * each + at + 32 * i;
                sum[i] = _mm256_xor_si256(sum[i], _mm256_load_si256((const void *)from));
            }
    __m256i all =
        _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    uint64_t lanes[4];
    _mm256_storeu_si256((void *)lanes, all);
    return lanes[0] | lanes[1] | lanes[2] | lanes[3];
}

#define PROBE(name, type, zero, one_value, step, ops)                                              \
    static double name(uint64_t rounds)                                                            \
    {                                                                                              \
        type acc[CHAINS], x = one_value, y = one_value;                                            \
        EACH_CHAIN acc[i] = zero;                                                                  \
        for (uint64_t r = 0; r < rounds; r++) {                                                    \
            EACH_CHAIN acc[i] = step;                                                              \
            EACH_CHAIN __asm__ volatile("" : "+x"(acc[i]));                                        \
        }                                                                                          \
        return (double)rounds * CHAINS * (ops);                                                    \
    }
/* A dot of bytes without VNNI: two products in 16 bits, pairs of those in 32. The asm keeps the
 * product of constants in the loop. */
static inline __m256i dot_bytes(__m256i acc, __m256i x, __m256i y)
{
    __m256i pairs;
    __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(pairs) : "x"(x), "x"(y));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, y));
}

/* AVX2 has no dot product of bf16: it is computed in f32. */
PROBE(f32, __m256, _mm256_setzero_ps(), _mm256_set1_ps(1e-3f), _mm256_fmadd_ps(x, y, acc[i]), 16)
PROBE(int8, __m256i, _mm256_setzero_si256(), _mm256_set1_epi32(1), dot_bytes(acc[i], x, y), 64)
const hdl_probe_loops hdl_probe_avx2 = {read_all, f32, f32, int8};

#endif
