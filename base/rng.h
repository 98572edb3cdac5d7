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

#include <stddef.h>
#include <stdint.h>

void hdl_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

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
