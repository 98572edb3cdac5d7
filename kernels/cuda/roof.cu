/* SPDX-License-Identifier: Apache-2.0 */
/* Roofs: how quickly the device reads, and how quickly it multiplies, at this moment (plugin.h). No
 * op: bench/ divides what ops do by these.
 *
 * read: neighbouring threads read neighbouring 16 bytes, four loads in flight each. matmul: a
 * square product by cuBLASLt, the quickest of the ways that it proposes; where the library is
 * missing, mma.sync on registers alone, which no kernel built on it can pass. Limits: bytes a
 * multiple of 16. */
#include "kernels/cuda/cublaslt_best.h"
#include "kernels/cuda/cuda.h"

#ifdef __CUDACC__
enum { MMA_ROUNDS = 4096, BLOCKS_PER_SM = 2 };
#else
enum { MMA_ROUNDS = 2, BLOCKS_PER_SM = 1 };
#endif
enum { READ_BLOCKS_PER_SM = 8, ARITHS = 2, CHAINS = 8, WARPS = 8 };

struct hdl_plugin_roof {
    hdl_plugin_device *device;
    uint32_t *sink;            /* owned, of the device: what nobody reads */
    cublaslt_best *lt[ARITHS]; /* owned; NULL: not there */
    bool lt_asked[ARITHS];
};

GPU_DEVICE uint32_t mix(gpu_u4 a) { return a.v[0] ^ a.v[1] ^ a.v[2] ^ a.v[3]; }

GPU_KERNEL(256) read_all(const gpu_u4 *from, size_t n, uint32_t *sink)
{
    size_t i = gpu_index(), step = gpu_indices();
    uint32_t seen = 0;
    for (; i + 3 * step < n; i += 4 * step) {
        gpu_u4 a = from[i], b = from[i + step], c = from[i + 2 * step], d = from[i + 3 * step];
        seen ^= mix(a) ^ mix(b) ^ mix(c) ^ mix(d);
    }
    for (; i < n; i += step)
        seen ^= mix(from[i]);
    if (seen == 0x9e3779b9u) /* as good as never, but the compiler does not know */
        *sink = seen;
}

/* Independent chains of products, of the same operands: numbers near 1 and zeros for bf16, small
 * integers for int8. */
GPU_KERNEL(256) mma_bf16(uint32_t rounds, float *sink)
{
    uint32_t a[4] = {0x3f803f80u, gpu_lane(), 0, 0x3f80u}, b[2] = {0x3f803f80u, gpu_warp()};
    float d[CHAINS][4] = {};
    for (uint32_t r = 0; r < rounds; r++)
        GPU_UNROLL
    for (int c = 0; c < CHAINS; c++)
        gpu_mma_bf16(d[c], a, b);
    float sum = 0;
    GPU_UNROLL
    for (int c = 0; c < CHAINS; c++)
        sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
    if (sum == -1.0f)
        *sink = sum;
}

GPU_KERNEL(256) mma_int8(uint32_t rounds, uint32_t *sink)
{
    uint32_t a[4] = {0x01010101u, gpu_lane(), 0, 1}, b[2] = {0x01010101u, gpu_warp()};
    int32_t d[CHAINS][4] = {};
    for (uint32_t r = 0; r < rounds; r++)
        GPU_UNROLL
    for (int c = 0; c < CHAINS; c++)
        gpu_mma_s8(d[c], a, b);
    int32_t sum = 0;
    GPU_UNROLL
    for (int c = 0; c < CHAINS; c++)
        sum ^= d[c][0] ^ d[c][1] ^ d[c][2] ^ d[c][3];
    if (sum == -1)
        *sink = (uint32_t)sum;
}

static hdl_err open_roof(hdl_plugin_roof **out, hdl_plugin_device *device, hdl_errmsg *why)
{
    *out = NULL;
    hdl_plugin_roof *roof = (hdl_plugin_roof *)calloc(1, sizeof *roof);
    if (roof)
        roof->sink = (uint32_t *)hdl_cuda_device_layer.alloc(device, sizeof *roof->sink);
    if (!roof || !roof->sink) {
        free(roof);
        return hdl_fail(HDL_NOMEM, why, "cannot measure; the device is full; lower --kv-bytes");
    }
    roof->device = device;
    *out = roof;
    return HDL_OK;
}

static void close_roof(hdl_plugin_roof *roof)
{
    if (!roof)
        return;
    for (int i = 0; i < ARITHS; i++)
        cublaslt_best_close(roof->lt[i]);
    hdl_cuda_device_layer.free(roof->device, roof->sink);
    free(roof);
}

static hdl_err read_roof(hdl_plugin_roof *roof, const void *from, size_t bytes)
{
    hdl_stream *s = hdl_cuda_device_layer.stream(roof->device);
    gpu_grid g;
    HDL_ASSERT_EQ(bytes % sizeof(gpu_u4), 0u);
    g.x = s->n_sms * READ_BLOCKS_PER_SM;
    GPU_LAUNCH(s, g, read_all, (const gpu_u4 *)from, bytes / sizeof(gpu_u4), roof->sink);
    return s->err;
}

static hdl_err mma_roof(hdl_plugin_roof *roof, hdl_plugin_arith arith, double *flop)
{
    hdl_stream *s = hdl_cuda_device_layer.stream(roof->device);
    gpu_grid g;
    g.x = s->n_sms * BLOCKS_PER_SM;
    g.threads = WARPS * GPU_WARP;
    uint32_t rounds = MMA_ROUNDS, k = arith == HDL_PLUGIN_INT8 ? 32 : 16;
    if (arith == HDL_PLUGIN_INT8)
        GPU_LAUNCH(s, g, mma_int8, rounds, roof->sink);
    else
        GPU_LAUNCH(s, g, mma_bf16, rounds, (float *)(void *)roof->sink);
    *flop = 2.0 * 16 * 8 * k * CHAINS * rounds * WARPS * g.x;
    return s->err;
}

static hdl_err matmul_roof(hdl_plugin_roof *roof, hdl_plugin_arith arith, double *flop,
                           const char **by)
{
    if (!roof->lt_asked[arith]) {
        roof->lt_asked[arith] = true;
        roof->lt[arith] = cublaslt_best_open(roof->device, arith);
    }
    *by = roof->lt[arith] ? "cuBLASLt" : "mma.sync";
    if (!roof->lt[arith])
        return mma_roof(roof, arith, flop);
    return cublaslt_best_run(roof->lt[arith], flop);
}

const hdl_plugin_roofs hdl_cuda_roofs = {open_roof, close_roof, read_roof, matmul_roof};
