/* SPDX-License-Identifier: Apache-2.0 */
/* 64-bit hash of bytes and token arrays, and CRC-32C.
 *
 * Not cryptographic: whoever looks up by hash compares the content on a hit. The values are the
 * same on every platform (input is read little-endian) and may be stored; test_hash.c pins them.
 * Pure; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t hdl_hash_bytes(const void *bytes, size_t n, uint64_t seed);
uint64_t hdl_hash_u32s(const uint32_t *values, size_t n, uint64_t seed);

/* Hash of a KV block and of everything before it: prev is the hash of the block before, or for the
 * first block a seed made of model, tenant salt and whatever else must not be shared. */
uint64_t hdl_hash_chain(uint64_t prev, const int32_t *tokens, size_t n);

/* A bijection of 64-bit words with full avalanche; for integer keys and for combining. */
uint64_t hdl_hash_mix(uint64_t v);
uint64_t hdl_hash_combine(uint64_t a, uint64_t b);

/* CRC-32C (Castagnoli), as in iSCSI; crc is 0 at the start and the previous result to continue. */
uint32_t hdl_crc32c(uint32_t crc, const void *bytes, size_t n);
