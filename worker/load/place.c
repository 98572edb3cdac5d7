/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/place.h"

#include <stdlib.h>

#include "base/clock.h"
#include "kernels/numeric.h"
#include "worker/load/place_impl.h"

enum { PROGRESS_US = 50000 };

static float element(const hdl_tensor *t, size_t i)
{
    if (t->dtype == HDL_DTYPE_F32)
        return ((const float *)t->data)[i];
    uint16_t half = ((const uint16_t *)t->data)[i];
    return t->dtype == HDL_DTYPE_BF16 ? hdl_bf16_to_f32(half) : hdl_f16_to_f32(half);
}

static void run_job(const hdl_place_job *j, const hdl_ops *ops)
{
    if (j->dst) {
        ops->weight_pack(&(hdl_pack_args){
            .src = hdl_source_of_tensor(&j->src), .dst = j->dst, .row_at = j->row_at});
        return;
    }
    for (int64_t i = 0; i < j->src.shape[0]; i++)
        j->vec[i] = element(&j->src, (size_t)i) + j->plus;
}

static void tell(hdl_placer *p, bool last)
{
    uint64_t now = hdl_clock_now_us();
    if (!p->opts->progress || (!last && now - p->shown_us < PROGRESS_US))
        return;
    p->shown_us = now;
    p->opts->progress(p->opts->progress_arg, last ? p->bytes_total : atomic_load(&p->bytes_done),
                      p->bytes_total);
}

static void run_jobs(void *arg, uint32_t thread, uint32_t n_threads)
{
    hdl_placer *p = arg;
    (void)n_threads;
    for (;;) {
        size_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n_jobs)
            return;
        const hdl_place_job *j = &p->jobs[i];
        run_job(j, p->model->ops);
        atomic_fetch_add(&p->bytes_done, (uint64_t)j->src.shape[0] * (uint64_t)j->src.shape[1] *
                                             hdl_dtype_bytes(j->src.dtype));
        if (thread == 0)
            tell(p, false);
    }
}

static hdl_err place_all(hdl_placer *p)
{
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++)
        HDL_TRY(hdl_place_add_slot(p, slot));
    HDL_TRY(hdl_place_check_unknown(p));
    hdl_stream_run(p->opts->stream, run_jobs, p);
    tell(p, true);
    return HDL_OK;
}

hdl_err hdl_place_weights(hdl_model *model, const hdl_st *st, const hdl_place_opts *opts,
                          hdl_errmsg *why)
{
    hdl_placer p = {.model = model, .st = st, .opts = opts, .why = why};
    p.used = calloc(hdl_st_count(st) + 1, 1);
    hdl_err err = HDL_NOMEM;
    if (p.used)
        err = place_all(&p);
    else
        hdl_fail(err, why, "out of memory; the machine is full; stop other programs");
    free(p.used);
    free(p.jobs);
    return err;
}
