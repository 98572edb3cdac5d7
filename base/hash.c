/* SPDX-License-Identifier: Apache-2.0 */
/* Multiply-and-fold hashing: two lanes of 64x64 -> 128-bit products, halves xored. On the
 * machines we know one product costs a few cycles and mixes every bit of both words, so that 32
 * tokens take about eight of them. */
#include "base/hash.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "stored hashes are defined over little-endian words; add byte swaps to load64"
#endif

/* Fractional bits of the square roots of 2, 3, 5, 7, made odd: constants with nothing up the
 * sleeve. */
static const uint64_t K0 = 0x6a09e667f3bcc909u;
static const uint64_t K1 = 0xbb67ae8584caa73bu;
static const uint64_t K2 = 0x3c6ef372fe94f82bu;
static const uint64_t K3 = 0xa54ff53a5f1d36f1u;

static inline uint64_t load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The finalizer of splitmix64 (Stafford's 13th variant): every input bit flips every output bit
 * with about even odds. */
uint64_t hdl_hash_mix(uint64_t v)
{
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    return v ^ (v >> 31);
}

uint64_t hdl_hash_combine(uint64_t a, uint64_t b) { return hdl_hash_mix(fold(a ^ K0, b ^ K1) + a); }

uint64_t hdl_hash_bytes(const void *bytes, size_t n, uint64_t seed)
{
    const unsigned char *p = bytes;
    uint64_t a = hdl_hash_mix(seed ^ K0);
    uint64_t b = hdl_hash_mix((uint64_t)n ^ K1) ^ seed;
    size_t left = n;
    for (; left >= 32; left -= 32, p += 32) {
        a = fold(load64(p) ^ K2, load64(p + 8) ^ a);
        b = fold(load64(p + 16) ^ K3, load64(p + 24) ^ b);
    }
    if (left >= 16) {
        a = fold(load64(p) ^ K2, load64(p + 8) ^ a);
        left -= 16;
        p += 16;
    }
    unsigned char tail[16] = {0};
    if (left)
        memcpy(tail, p, left);
    b = fold(load64(tail) ^ K3, load64(tail + 8) ^ b);
    return hdl_hash_mix(fold(a ^ K0, b ^ K1) ^ a ^ b);
}

uint64_t hdl_hash_u32s(const uint32_t *values, size_t n, uint64_t seed)
{
    return hdl_hash_bytes(values, n * sizeof *values, seed);
}

/* Four lanes: a block's tokens are hashed once for each block of each prompt and each answer, and a
 * product has to wait for the one before it in its lane. Tokens are compared on every hit. */
uint64_t hdl_hash_chain(uint64_t prev, const int32_t *tokens, size_t n)
{
    const unsigned char *p = (const unsigned char *)tokens;
    uint64_t a = K0, b = K1, c = K2, d = K3;
    size_t left = n * sizeof *tokens;
    for (; left >= 64; left -= 64, p += 64) {
        a = fold(load64(p) ^ K1, load64(p + 8) ^ a);
        b = fold(load64(p + 16) ^ K2, load64(p + 24) ^ b);
        c = fold(load64(p + 32) ^ K3, load64(p + 40) ^ c);
        d = fold(load64(p + 48) ^ K0, load64(p + 56) ^ d);
    }
    if (left)
        a ^= hdl_hash_bytes(p, left, n);
    const uint64_t all = fold(a ^ K0, b ^ K1) ^ fold(c ^ K2, d ^ K3) ^ a;
    return hdl_hash_mix(fold(prev ^ K1, all ^ K2) ^ all);
}

uint32_t hdl_crc32c(uint32_t crc, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    crc = ~crc;
#if defined(__SSE4_2__) && defined(__x86_64__)
    for (; n >= 8; n -= 8, p += 8)
        crc = (uint32_t)__builtin_ia32_crc32di(crc, load64(p));
    for (; n > 0; n--, p++)
        crc = __builtin_ia32_crc32qi(crc, *p);
#else
    for (; n > 0; n--, p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
    }
#endif
    return ~crc;
}
