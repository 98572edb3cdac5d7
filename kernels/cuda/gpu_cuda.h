/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of gpu.h for nvcc. sm_80 and later. Included by gpu.h alone. */
#pragma once

#include <cuda_runtime.h>

/* One block is enough for a multiprocessor: without saying so ptxas spills to make room for more.
 */
#define GPU_KERNEL(threads) static __global__ void __launch_bounds__(threads, 1)
#define GPU_DEVICE          static __device__ __forceinline__
#define GPU_UNROLL          _Pragma("unroll")
#define GPU_UNROLL_2        _Pragma("unroll 2")
#define GPU_UNROLL_1        _Pragma("unroll 1")

GPU_DEVICE uint32_t gpu_thread() { return threadIdx.x; }
GPU_DEVICE uint32_t gpu_threads() { return blockDim.x; }
GPU_DEVICE uint32_t gpu_block_x() { return blockIdx.x; }
GPU_DEVICE uint32_t gpu_block_y() { return blockIdx.y; }
GPU_DEVICE uint32_t gpu_block_z() { return blockIdx.z; }
GPU_DEVICE uint32_t gpu_blocks_x() { return gridDim.x; }

template <class T> GPU_DEVICE T *gpu_shared()
{
    extern __shared__ __align__(128) unsigned char gpu_shared_bytes[];
    return (T *)gpu_shared_bytes;
}

GPU_DEVICE void gpu_sync() { __syncthreads(); }
GPU_DEVICE void gpu_warp_sync() { __syncwarp(); }
template <class T> GPU_DEVICE T gpu_shfl(T v, uint32_t lane)
{
    return __shfl_sync(0xffffffffu, v, (int)lane);
}
template <class T> GPU_DEVICE T gpu_shfl_xor(T v, uint32_t mask)
{
    return __shfl_xor_sync(0xffffffffu, v, (int)mask);
}
GPU_DEVICE uint32_t gpu_ballot(bool flag) { return __ballot_sync(0xffffffffu, flag); }
GPU_DEVICE uint32_t gpu_atomic_add(uint32_t *p, uint32_t v) { return atomicAdd(p, v); }
GPU_DEVICE uint32_t gpu_permute(uint32_t a, uint32_t b, uint32_t sel)
{
    return __byte_perm(a, b, sel);
}

GPU_DEVICE uint32_t gpu_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

GPU_DEVICE void gpu_copy_async(void *to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(gpu_shared_address(to)),
                 "l"(from)
                 : "memory");
}
GPU_DEVICE void gpu_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n> GPU_DEVICE void gpu_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

GPU_DEVICE void gpu_ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(gpu_shared_address(row))
                 : "memory");
}

GPU_DEVICE void gpu_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(gpu_shared_address(row))
                 : "memory");
}

GPU_DEVICE uint32_t gpu_pack_bf16(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

GPU_DEVICE void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GPU_DEVICE void gpu_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GPU_DEVICE void gpu_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GPU_DEVICE void gpu_mma_s8_k16(int32_t d[4], const uint32_t a[2], const uint32_t b[1])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

/* A failed launch is kept in the stream; the next sync tells. */
void gpu_launched(hdl_stream *s, const char *kernel);
void gpu_allow_shared(hdl_stream *s, const void *kernel, size_t bytes);

template <class... P, class... A>
static void gpu_launch(hdl_stream *s, const char *name, gpu_grid g, void (*kernel)(P...), A... args)
{
    if (g.x == 0 || g.y == 0 || g.z == 0 || s->err != HDL_OK)
        return;
    if (g.shared > 48 * 1024)
        gpu_allow_shared(s, (const void *)kernel, g.shared);
    kernel<<<dim3(g.x, g.y, g.z), g.threads, g.shared, (cudaStream_t)s->queue>>>((P)args...);
    gpu_launched(s, name);
}
#define GPU_LAUNCH(stream, grid, kernel, ...) gpu_launch(stream, #kernel, grid, kernel, __VA_ARGS__)
