/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/place.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/load/place_impl.h"

enum { PROGRESS_US = 50000 };

static void run_job(const hdl_place_job *j, const hdl_ops *ops)
{
    if (j->dst) {
        ops->weight_pack(&(hdl_pack_args){.src = j->src, .dst = j->dst, .row_at = j->row_at});
        return;
    }
    for (uint32_t i = 0; i < j->src.n_rows; i++) {
        for (uint32_t col = 0; col < j->src.n_cols; col++) {
            float value = 0;
            hdl_source_values(&j->src, (hdl_span){i, col, 1}, &value);
            j->vec[col * j->col_step + i] =
                j->neg_exp ? (float)log(-(double)value) : value + j->plus;
        }
    }
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
        if (!hdl_source_is_finite(&j->src))
            atomic_store(&p->broken, i);
        run_job(j, p->model->ops);
        atomic_fetch_add(&p->bytes_done, hdl_source_bytes(&j->src));
        if (thread == 0)
            tell(p, false);
    }
}

/* One line for each pair: what is expanded shows its cost, what is coded anew that it is not
 * exact. */
static void tell_kinds(const hdl_placer *p)
{
    for (hdl_enc e = 0; e < HDL_ENC_COUNT; e++)
        for (hdl_wformat f = 0; f < HDL_WFORMAT_COUNT; f++)
            if (p->sums[e][f].file_bytes != 0)
                HDL_LOG(INFO, LOAD, "matrices",
                        "from=%s to=%s file_bytes=%" PRIu64 " memory_bytes=%" PRIu64 " exact=%s",
                        hdl_enc_name(e), hdl_wformat_info_of(f)->name, p->sums[e][f].file_bytes,
                        p->sums[e][f].memory_bytes, p->sums[e][f].exact ? "yes" : "no");
}

static hdl_err place_all(hdl_placer *p)
{
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++)
        HDL_TRY(hdl_place_add_slot(p, slot));
    HDL_TRY(hdl_files_check_unknown(p->files, p->model->desc, p->why));
    tell_kinds(p);
    atomic_store(&p->broken, SIZE_MAX);
    hdl_stream_run(p->opts->stream, run_jobs, p);
    tell(p, true);
    size_t broken = atomic_load(&p->broken);
    if (broken != SIZE_MAX)
        return hdl_fail(HDL_CORRUPT, p->why,
                        "tensor %.160s has weights or scales that are no numbers; the files are "
                        "damaged; fetch the model again",
                        p->jobs[broken].name);
    return HDL_OK;
}

hdl_err hdl_place_weights(hdl_model *model, hdl_files *files, const hdl_place_opts *opts,
                          hdl_errmsg *why)
{
    hdl_placer p = {.model = model, .files = files, .opts = opts, .why = why};
    hdl_err err = place_all(&p);
    free(p.jobs);
    return err;
}
