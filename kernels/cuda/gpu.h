/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary that kernels are written in: everything a .cu file of this folder may use of a
 * GPU.
 *
 * Two implementations: gpu_cuda.h (nvcc) and fiber/gpu_fiber.h, where the threads of a block are
 * fibers on the host and misuse is an error with the kernel's name. Words of the vocabulary begin
 * with gpu_ and mean the same in both; a kernel that needs another word adds it to both files and
 * to the list below.
 *
 *   GPU_KERNEL(threads) k(args)   a kernel whose blocks have at most so many threads
 *   GPU_DEVICE                    a function that kernels call, inlined
 *   GPU_LAUNCH(stream, grid, k, args...)
 *   gpu_thread() gpu_threads()    this thread in its block, and their number (one dimension)
 *   gpu_block_x() _y() _z()       this block; gpu_blocks_x(): their number along x
 *   gpu_lane() gpu_warp()         thread % 32, thread / 32
 *   gpu_shared<T>()               the block's shared memory, of the size given at the launch;
 *                                 uninitialised (fibers: bytes 0xff, so that floats are NaN)
 *   gpu_sync()                    barrier of the block: by all threads, at one place of the code
 *   gpu_warp_sync()               barrier of the warp
 *   gpu_shfl(v, lane) gpu_shfl_xor(v, mask)     v: 4 bytes
 *   gpu_ballot(flag)              a bit for each lane
 *   gpu_add(v) gpu_max(v)         sum, maximum over the warp by xor 16, 8, 4, 2, 1; all lanes get
 * it gpu_atomic_add(p, v)          on uint32_t in global or shared memory; returns the old value
 *   gpu_copy_async(to, from)      16 bytes global -> shared, both aligned to it; may be seen only
 *   gpu_copy_commit()             after gpu_copy_wait<n>() (all groups but the last n committed are
 *   gpu_copy_wait<n>()            there) and a barrier
 *   gpu_ldmatrix_x4(r, row)       four 8x8 matrices of 16 bits, rows named by lanes 8 i + row
 *   gpu_ldmatrix_x4_trans(r, row) the same, each matrix transposed
 *   gpu_pack_bf16(low, high)      two floats as bf16, nearest even, in one word
 *   gpu_mma_bf16(d, a, b)         d[4] += a[4] b[2]: m16n8k16, f32 sums
 *   gpu_mma_f16(d, a, b)          the same of f16
 *   gpu_mma_s8(d, a, b)           m16n8k32, s32 sums; gpu_mma_s8_k16: a[2], b[1], m16n8k16
 *   gpu_permute(a, b, sel)        four bytes chosen from the eight of a and b
 *   gpu_u4, gpu_f4                16 bytes, loaded and stored as one
 *
 * Warp words are for whole warps: all 32 lanes (or all that a block's last warp has) come to the
 * same place, else fibers stop with an error and a GPU would hang or mix numbers. Fragments of mma
 * are those of PTX ISA "Matrix Fragments for mma.m16n8k16 / k32": with g = lane / 4, t = lane % 4,
 * a[0] holds row g, a[1] row g + 8, columns 2t, 2t + 1 (s8: 4t..4t + 3), a[2], a[3] the same rows
 * and columns 8 (16) further; b[0], b[1] the same k of column g; d[0], d[1] row g, columns 2t and
 * 2t + 1, d[2], d[3] row g + 8. */
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <heddle/ops.h>
#include <heddle/plugin.h>

#include "base/assert.h"
#include "kernels/numeric.h"
}

/* A launch: blocks along x, y, z, threads of a block, bytes of its shared memory. A launch of no
 * blocks does nothing. */
struct gpu_grid {
    uint32_t x = 1, y = 1, z = 1, threads = 256;
    size_t shared = 0;
};

struct alignas(16) gpu_u4 {
    uint32_t v[4];
};
struct alignas(16) gpu_f4 {
    float v[4];
};
struct alignas(8) gpu_u2 {
    uint32_t v[2];
};

enum { GPU_WARP = 32 };

/* The plugin's stream: the queue, and scratch that an op takes on the host and gives back when it
 * returns; kernels of later ops reuse it in stream order. */
struct hdl_stream {
    hdl_plugin_device *device;
    void *queue; /* cudaStream_t; fibers: this stream */
    unsigned char *scratch;
    size_t scratch_bytes, scratch_at;
    uint32_t n_sms;
    uint32_t order;        /* fibers */
    hdl_err err;           /* sticky: the first error of a launch or copy */
    struct gpu_kept *kept; /* of gpu_upload */
    uint32_t n_kept;
    struct fast_products *fast; /* of fast.h; NULL: exact */
    struct fiber_notes *notes;  /* fibers: what is being recorded; NULL: nothing */
};

/* Scratch of an op, 256-byte aligned, on the device. Asserts where scratch_bytes was no bound. */
static inline void *gpu_take(hdl_stream *s, size_t bytes)
{
    size_t at = (s->scratch_at + 255) / 256 * 256;
    HDL_ASSERT(at <= s->scratch_bytes && bytes <= s->scratch_bytes - at);
    s->scratch_at = at + bytes;
    return s->scratch + at;
}

/* Host bytes that seldom change (an array of hdl_weight, say), on the device; see keep.cu. */
void *gpu_upload(hdl_stream *s, const void *from, size_t bytes);
void gpu_upload_forget(hdl_stream *s); /* before the device goes */

static inline uint32_t gpu_div_up(size_t n, uint32_t unit)
{
    return (uint32_t)((n + unit - 1) / unit);
}

#ifdef __CUDACC__
#include "kernels/cuda/gpu_cuda.h"
#else
#include "kernels/cuda/fiber/gpu_fiber.h"
#endif

GPU_DEVICE uint32_t gpu_lane() { return gpu_thread() % GPU_WARP; }
GPU_DEVICE uint32_t gpu_warp() { return gpu_thread() / GPU_WARP; }
/* This thread among all of the launch along x, and their number: for loops over n items. */
GPU_DEVICE size_t gpu_index() { return (size_t)gpu_block_x() * gpu_threads() + gpu_thread(); }
GPU_DEVICE size_t gpu_indices() { return (size_t)gpu_blocks_x() * gpu_threads(); }

GPU_DEVICE float gpu_add(float v)
{
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2)
        v += gpu_shfl_xor(v, mask);
    return v;
}

/* NaN is not kept. */
GPU_DEVICE float gpu_max(float v)
{
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2) {
        float other = gpu_shfl_xor(v, mask);
        v = other > v ? other : v;
    }
    return v;
}

/* Sum over the block in a fixed order: warps by gpu_add, then warp after warp. `part` holds a float
 * for each warp, and may be reused after the next gpu_sync; all threads get the sum. */
GPU_DEVICE float gpu_block_add(float v, float *part)
{
    v = gpu_add(v);
    if (gpu_lane() == 0)
        part[gpu_warp()] = v;
    gpu_sync();
    float sum = 0;
    for (uint32_t w = 0; w < (gpu_threads() + GPU_WARP - 1) / GPU_WARP; w++)
        sum += part[w];
    return sum;
}

/* Threads for a row of so many items: a power of two, 32 to 256. */
static inline uint32_t gpu_threads_for(size_t items)
{
    uint32_t threads = GPU_WARP;
    while (threads < 256 && threads < items)
        threads *= 2;
    return threads;
}

/* Blocks of 256 threads for n independent items, each thread taking about four. */
static inline gpu_grid gpu_grid_for(size_t n)
{
    size_t blocks = (n + 1023) / 1024;
    gpu_grid g;
    g.x = blocks < 65535 ? (uint32_t)blocks : 65535;
    return g;
}
