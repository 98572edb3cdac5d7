/* SPDX-License-Identifier: Apache-2.0 */
/* Products of bf16 by cuBLASLt: y [m, n] f32 = x [m, k] W[n, k]^T (+ bias), f32 sums.
 *
 * In cuBLASLt's terms, whose matrices are by columns: D [n, m] = W^T X, W and X being [k, n] and
 * [k, m] with columns `stride` apart. A plan is the first way that its heuristic proposes for a
 * shape and a bucket of rows (a power of two); it is asked for while loading, for every bucket, so
 * a step asks nothing and allocates nothing: descriptors lie on the stack, the workspace is
 * scratch.
 *
 * FP8 weights are not here: the library scales blocks of 128x128 of FP8 inputs, ours scale 128
 * columns of a row and meet bf16 inputs, which their own kernels do. Experts and heads neither:
 * their rows are known to the device alone.
 *
 * Roof: the tensor cores at 1 pass over the products (attention's split in two parts is not needed
 * here). Bits: within (k + 4) 2^-24 of the sum of magnitudes, in no promised order. */
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/fast.h"

#ifndef HDL_NO_CUBLASLT

enum { PLANS = 1024, WORKSPACE = 32 << 20, ALIGN_IN = 64, ALIGN_Y = 16 };

/* What a plan is for besides its shape. ALIGNED: y is aligned to ALIGN_Y and its rows are multiples
 * of it, not to floats alone. */
enum { ALIGNED = 1, BIASED = 2, KINDS = 4 };

struct plan {
    uint32_t m, n, k; /* m: the bucket; 0: none */
    uint32_t kind;
    bool usable;
    cublasLtMatmulAlgo_t algo;
};

struct fast_products {
    const lt_calls *lt;
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference[2]; /* of unaligned y, of aligned */
    plan plans[PLANS];                        /* a hash table */
};

size_t fast_scratch_bytes() { return WORKSPACE + 256; }

static uint32_t bucket_of(uint32_t m)
{
    uint32_t bucket = FAST_ROWS_MIN;
    while (bucket < m)
        bucket *= 2;
    return bucket;
}

static uint32_t kind_of(const fast_product *p)
{
    bool aligned = (uintptr_t)p->y % ALIGN_Y == 0 && p->y_stride % (ALIGN_Y / sizeof(float)) == 0;
    return (aligned ? ALIGNED : 0) | (p->bias ? BIASED : 0);
}

/* The plan, or the free place for it; NULL: the table is full. */
static plan *place_of(fast_products *f, const plan *key)
{
    uint32_t at = ((key->m * 31 + key->n) * 31 + key->k) * KINDS + key->kind;
    at ^= at >> 13;
    for (uint32_t i = 0; i < PLANS; i++) {
        plan *p = &f->plans[(at + i) % PLANS];
        if (p->m == 0 ||
            (p->m == key->m && p->n == key->n && p->k == key->k && p->kind == key->kind))
            return p;
    }
    return NULL;
}

/* What a product is to the library; all of it on the stack. */
struct described {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t w, x, y;
};

static bool describe(const fast_products *f, const fast_product *p, uint32_t m, described *d)
{
    const lt_calls *lt = f->lt;
    cublasOperation_t turned = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    bool ok = lt->cublasLtMatmulDescInit_internal(&d->desc, sizeof d->desc, CUBLAS_COMPUTE_32F,
                                                  CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
              lt->cublasLtMatmulDescSetAttribute(&d->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                                 sizeof turned) == CUBLAS_STATUS_SUCCESS &&
              lt->cublasLtMatrixLayoutInit_internal(&d->w, sizeof d->w, CUDA_R_16BF, p->k, p->n,
                                                    (int64_t)p->stride) == CUBLAS_STATUS_SUCCESS &&
              lt->cublasLtMatrixLayoutInit_internal(&d->x, sizeof d->x, CUDA_R_16BF, p->k, m,
                                                    (int64_t)p->stride) == CUBLAS_STATUS_SUCCESS &&
              lt->cublasLtMatrixLayoutInit_internal(&d->y, sizeof d->y, CUDA_R_32F, p->n, m,
                                                    (int64_t)p->y_stride) == CUBLAS_STATUS_SUCCESS;
    if (!ok || !p->bias)
        return ok;
    return lt->cublasLtMatmulDescSetAttribute(&d->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                              sizeof epilogue) == CUBLAS_STATUS_SUCCESS &&
           lt->cublasLtMatmulDescSetAttribute(&d->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
                                              sizeof p->bias) == CUBLAS_STATUS_SUCCESS;
}

static bool make_preference(fast_products *f, int aligned)
{
    const lt_calls *lt = f->lt;
    cublasLtMatmulPreference_t *p = &f->preference[aligned];
    uint64_t workspace = WORKSPACE;
    uint32_t in = ALIGN_IN, out = aligned ? (uint32_t)ALIGN_Y : (uint32_t)sizeof(float);
    bool ok = lt->cublasLtMatmulPreferenceCreate(p) == CUBLAS_STATUS_SUCCESS;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t bytes;
    } wanted[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &in, sizeof in},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &in, sizeof in},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &out, sizeof out},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out, sizeof out}};
    for (const auto &w : wanted)
        ok = ok && lt->cublasLtMatmulPreferenceSetAttribute(*p, w.what, w.value, w.bytes) ==
                       CUBLAS_STATUS_SUCCESS;
    return ok;
}

void fast_open(hdl_stream *s, char by[64])
{
    const lt_calls *lt = lt_find();
    s->fast = NULL;
    if (!lt) {
        snprintf(by, 64, "own kernels: %s is not there", LT_LIBRARY);
        return;
    }
    fast_products *f = (fast_products *)calloc(1, sizeof *f);
    snprintf(by, 64, "own kernels: %s does not start", LT_LIBRARY);
    if (!f)
        return;
    f->lt = lt;
    s->fast = f;
    if (lt->cublasLtCreate(&f->handle) == CUBLAS_STATUS_SUCCESS && make_preference(f, 0) &&
        make_preference(f, 1))
        snprintf(by, 64, "%s", LT_LIBRARY);
    else
        fast_close(s);
}

void fast_close(hdl_stream *s)
{
    fast_products *f = s->fast;
    s->fast = NULL;
    if (!f)
        return;
    for (cublasLtMatmulPreference_t p : f->preference)
        if (p)
            f->lt->cublasLtMatmulPreferenceDestroy(p);
    if (f->handle)
        f->lt->cublasLtDestroy(f->handle);
    free(f);
}

static void plan_one(fast_products *f, const fast_product *shape, const plan *wanted)
{
    plan *to = place_of(f, wanted);
    described d;
    cublasLtMatmulHeuristicResult_t way;
    int n = 0;
    if (!to || to->m != 0)
        return;
    *to = *wanted;
    to->usable = describe(f, shape, to->m, &d) &&
                 f->lt->cublasLtMatmulAlgoGetHeuristic(f->handle, &d.desc, &d.w, &d.x, &d.y, &d.y,
                                                       f->preference[to->kind & ALIGNED], 1, &way,
                                                       &n) == CUBLAS_STATUS_SUCCESS &&
                 n == 1 && way.state == CUBLAS_STATUS_SUCCESS;
    if (to->usable)
        to->algo = way.algo;
}

void fast_plan(hdl_stream *s, const fast_product *shape, uint32_t m_max)
{
    fast_product p = *shape;
    for (uint32_t m = FAST_ROWS_MIN;; m *= 2) {
        for (uint32_t kind = 0; kind < KINDS; kind++) {
            plan wanted = {m, shape->n, shape->k, kind, false, {}};
            p.y_stride = kind & ALIGNED ? ((size_t)shape->n + 3) / 4 * 4 : shape->n;
            p.bias = kind & BIASED ? (const float *)shape->w : NULL; /* any address will do */
            plan_one(s->fast, &p, &wanted);
        }
        if (m >= m_max)
            return;
    }
}

bool fast_run(hdl_stream *s, const fast_product *p)
{
    fast_products *f = s->fast;
    plan key = {bucket_of(p->m), p->n, p->k, kind_of(p), false, {}};
    plan *way = place_of(f, &key);
    described d;
    const float one = 1, zero = 0;
    if (s->err != HDL_OK || !way || !way->usable || !describe(f, p, p->m, &d))
        return false;
    size_t mark = s->scratch_at;
    void *workspace = gpu_take(s, WORKSPACE);
    cublasStatus_t status =
        f->lt->cublasLtMatmul(f->handle, &d.desc, &one, p->w, &d.w, p->x, &d.x, &zero, p->y, &d.y,
                              p->y, &d.y, &way->algo, workspace, WORKSPACE, (cudaStream_t)s->queue);
    s->scratch_at = mark;
    if (status == CUBLAS_STATUS_SUCCESS)
        return true;
    way->usable = false; /* once is enough */
    fprintf(stderr, "cublasLt: %u x %u x %u: status %d; own kernels do it\n", p->m, p->n, p->k,
            (int)status);
    return false;
}

#else
size_t fast_scratch_bytes() { return 0; }
void fast_open(hdl_stream *s, char by[64])
{
    s->fast = NULL;
    snprintf(by, 64, "own kernels: built without cuBLASLt");
}
void fast_close(hdl_stream *) {}
void fast_plan(hdl_stream *, const fast_product *, uint32_t) {}
bool fast_run(hdl_stream *, const fast_product *) { return false; }
#endif
