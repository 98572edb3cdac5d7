/* SPDX-License-Identifier: Apache-2.0 */
/* C = A^T B, square, of random numbers: every way that cuBLASLt proposes is timed, the quickest one
 * is kept. Random, because a GPU that multiplies zeros draws less power and clocks higher. nvcc's
 * build alone. */
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/cublaslt_best.h"

#ifndef HDL_NO_CUBLASLT

enum { SIDE = 8192, WAYS = 8, RUNS = 3 };
static const size_t WORKSPACE = (size_t)64 << 20;

struct cublaslt_best {
    const lt_calls *lt;
    hdl_plugin_device *device;
    hdl_stream *stream;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t in, out;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulAlgo_t algo;
    bool is_int;
    unsigned char *a, *b, *c, *workspace; /* owned, of the device */
};

/* bf16 in [0.5, 1) and [-1, -0.5), or any int8. */
GPU_KERNEL(256) fill_random(uint32_t *to, size_t n, bool is_int)
{
    for (size_t i = gpu_index(); i < n; i += gpu_indices()) {
        uint32_t x = (uint32_t)i * 2654435761u;
        x ^= x >> 15;
        x *= 0x85ebca6bu;
        x ^= x >> 13;
        to[i] = is_int ? x : (x & 0x807f807fu) | 0x3f003f00u;
    }
}

static bool take_memory(cublaslt_best *m)
{
    size_t item = m->is_int ? 1 : 2, bytes = (size_t)SIDE * SIDE * item;
    m->a = (unsigned char *)hdl_cuda_device_layer.alloc(m->device, bytes);
    m->b = (unsigned char *)hdl_cuda_device_layer.alloc(m->device, bytes);
    m->c = (unsigned char *)hdl_cuda_device_layer.alloc(m->device,
                                                        (size_t)SIDE * SIDE * (m->is_int ? 4 : 2));
    m->workspace = (unsigned char *)hdl_cuda_device_layer.alloc(m->device, WORKSPACE);
    if (!m->a || !m->b || !m->c || !m->workspace)
        return false;
    GPU_LAUNCH(m->stream, gpu_grid_for(bytes / 4), fill_random, (uint32_t *)m->a, bytes / 4,
               m->is_int);
    GPU_LAUNCH(m->stream, gpu_grid_for(bytes / 4), fill_random, (uint32_t *)m->b, bytes / 4,
               m->is_int);
    return m->stream->err == HDL_OK;
}

static bool describe(cublaslt_best *m)
{
    const lt_calls *lt = m->lt;
    cublasOperation_t turned = CUBLAS_OP_T;
    cudaDataType in = m->is_int ? CUDA_R_8I : CUDA_R_16BF, out = m->is_int ? CUDA_R_32I : in;
    size_t workspace = WORKSPACE;
    return lt->cublasLtCreate(&m->handle) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulDescCreate(
               &m->desc, m->is_int ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
               m->is_int ? CUDA_R_32I : CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                              sizeof turned) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatrixLayoutCreate(&m->in, in, SIDE, SIDE, SIDE) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatrixLayoutCreate(&m->out, out, SIDE, SIDE, SIDE) ==
               CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulPreferenceCreate(&m->preference) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulPreferenceSetAttribute(
               m->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
               sizeof workspace) == CUBLAS_STATUS_SUCCESS;
}

static bool multiply(cublaslt_best *m, const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1, zero = 0;
    const int32_t one_int = 1, zero_int = 0;
    const void *alpha = m->is_int ? (const void *)&one_int : &one;
    const void *beta = m->is_int ? (const void *)&zero_int : &zero;
    return m->lt->cublasLtMatmul(m->handle, m->desc, alpha, m->a, m->in, m->b, m->in, beta, m->c,
                                 m->out, m->c, m->out, algo, m->workspace, WORKSPACE,
                                 (cudaStream_t)m->stream->queue) == CUBLAS_STATUS_SUCCESS;
}

/* Microseconds of a product done so; a negative number: it does not run. */
static double time_of(cublaslt_best *m, const cublasLtMatmulAlgo_t *algo)
{
    const hdl_plugin *device = &hdl_cuda_device_layer;
    hdl_plugin_event *from = device->event_new_timed(m->device);
    hdl_plugin_event *to = device->event_new_timed(m->device);
    double us = -1;
    bool ok = from && to && multiply(m, algo) && device->event_record(from) == HDL_OK;
    for (int i = 0; ok && i < RUNS; i++)
        ok = multiply(m, algo);
    ok = ok && device->event_record(to) == HDL_OK && device->event_wait(to) == HDL_OK &&
         device->event_elapsed(from, to, &us) == HDL_OK;
    device->event_free(from);
    device->event_free(to);
    return ok ? us / RUNS : -1;
}

static bool choose(cublaslt_best *m)
{
    cublasLtMatmulHeuristicResult_t ways[WAYS];
    int n = 0;
    double best_us = -1;
    if (m->lt->cublasLtMatmulAlgoGetHeuristic(m->handle, m->desc, m->in, m->in, m->out, m->out,
                                              m->preference, WAYS, ways,
                                              &n) != CUBLAS_STATUS_SUCCESS)
        return false;
    for (int i = 0; i < n; i++) {
        double us = ways[i].state == CUBLAS_STATUS_SUCCESS ? time_of(m, &ways[i].algo) : -1;
        if (us > 0 && (best_us < 0 || us < best_us)) {
            best_us = us;
            m->algo = ways[i].algo;
        }
    }
    return best_us > 0;
}

cublaslt_best *cublaslt_best_open(hdl_plugin_device *device, hdl_plugin_arith arith)
{
    const lt_calls *lt = lt_find();
    cublaslt_best *m = lt ? (cublaslt_best *)calloc(1, sizeof *m) : NULL;
    if (!m)
        return NULL;
    m->lt = lt;
    m->device = device;
    m->stream = hdl_cuda_device_layer.stream(device);
    m->is_int = arith == HDL_PLUGIN_INT8;
    if (take_memory(m) && describe(m) && choose(m))
        return m;
    cublaslt_best_close(m);
    return NULL;
}

void cublaslt_best_close(cublaslt_best *m)
{
    if (!m)
        return;
    (void)hdl_cuda_device_layer.sync(m->device);
    if (m->preference)
        m->lt->cublasLtMatmulPreferenceDestroy(m->preference);
    if (m->in)
        m->lt->cublasLtMatrixLayoutDestroy(m->in);
    if (m->out)
        m->lt->cublasLtMatrixLayoutDestroy(m->out);
    if (m->desc)
        m->lt->cublasLtMatmulDescDestroy(m->desc);
    if (m->handle)
        m->lt->cublasLtDestroy(m->handle);
    unsigned char *all[] = {m->a, m->b, m->c, m->workspace};
    for (unsigned char *memory : all)
        hdl_cuda_device_layer.free(m->device, memory);
    free(m);
}

hdl_err cublaslt_best_run(cublaslt_best *m, double *flop)
{
    *flop = 2.0 * SIDE * SIDE * SIDE;
    return multiply(m, &m->algo) ? m->stream->err : HDL_DEVICE;
}
#else
cublaslt_best *cublaslt_best_open(hdl_plugin_device *, hdl_plugin_arith) { return NULL; }
void cublaslt_best_close(cublaslt_best *) {}
hdl_err cublaslt_best_run(cublaslt_best *, double *) { return HDL_UNSUPPORTED; }
#endif
