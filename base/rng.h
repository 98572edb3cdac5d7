/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers: Philox4x32-10 for sampling, and a small sequential generator for simulators
 * and tests.
 *
 * Philox (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is
 * a pure function of a counter and a key: token sampling keys it by (request seed, position), so
 * that a draw never depends on the batch (numerics contract N5). hdl_rng is xoshiro256**
 * seeded by splitmix64; equal seeds give equal streams on every platform. Neither is
 * cryptographic. Pure; a hdl_rng belongs to one thread. */
#pragma once

#include <heddle/types.h>

/* Multipliers and Weyl increments of Philox4x32: Salmon et al. 2011, section 3.3. A GPU's kernels
 * call it, too. */
HDL_INLINE void hdl_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t x0 = ctr[0], x1 = ctr[1], x2 = ctr[2], x3 = ctr[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* Uniform in (0, 1): 24 bits plus a half, so that neither end is reached and floats are exact. */
float hdl_philox_unit(uint32_t word);

typedef struct hdl_rng {
    uint64_t s[4];
} hdl_rng;

void hdl_rng_init(hdl_rng *rng, uint64_t seed);
uint64_t hdl_rng_u64(hdl_rng *rng);
/* Uniform in [0, n) without bias; n > 0. */
uint64_t hdl_rng_below(hdl_rng *rng, uint64_t n);
/* Uniform in [lo, hi], both included; lo <= hi. */
uint64_t hdl_rng_range(hdl_rng *rng, uint64_t lo, uint64_t hi);
/* True with probability num / den. */
int hdl_rng_chance(hdl_rng *rng, uint32_t num, uint32_t den);
/* Uniform in [0, 1), 53 bits. */
double hdl_rng_unit(hdl_rng *rng);
/* An independent generator derived from this one (advances it by one draw). */
hdl_rng hdl_rng_fork(hdl_rng *rng);
