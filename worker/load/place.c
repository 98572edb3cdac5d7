/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/place.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/build_id.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "worker/load/embed_table.h"
#include "worker/load/packed.h"
#include "worker/load/place_impl.h"

enum { PROGRESS_US = 50000, PIECE = 256 };

/* A piece of one column of a vector or table, through memory that the host can write. */
static hdl_err run_piece(const hdl_place_job *j, hdl_device *device, uint32_t col, uint32_t row)
{
    float values[PIECE];
    uint32_t n = hdl_min_u32(PIECE, j->src.n_rows - row);
    for (uint32_t i = 0; i < n; i++) {
        hdl_source_values(&j->src, (hdl_span){row + i, col, 1}, &values[i]);
        values[i] = j->neg_exp ? (float)log(-(double)values[i]) : values[i] + j->plus;
    }
    return hdl_device_write(device, j->vec + col * j->col_step + row, values, n * sizeof *values);
}

static hdl_err run_job(const hdl_place_job *j, const hdl_model *model)
{
    if (j->dst) {
        model->ops->weight_pack(
            &(hdl_pack_args){.src = j->src, .dst = j->dst, .row_at = j->row_at});
        if (j->dst == &model->head_q8)
            hdl_screen_norms_fill(&(hdl_screen_norms_args){.src = &j->src,
                                                           .exact = (int)model->lm_head.format,
                                                           .out = model->head_norms,
                                                           .at = j->row_at});
        return HDL_OK;
    }
    for (uint32_t col = 0; col < j->src.n_cols; col++)
        for (uint32_t row = 0; row < j->src.n_rows; row += PIECE)
            HDL_TRY(run_piece(j, model->device, col, row));
    return HDL_OK;
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
        if (run_job(j, p->model) != HDL_OK)
            atomic_store(&p->lost, true);
        atomic_fetch_add(&p->bytes_done, hdl_source_bytes(&j->src));
        if (thread == 0)
            tell(p, false);
    }
}

/* One line for each pair: what is expanded shows its cost, what is coded anew that it is not
 * exact. */
static void tell_kinds(const hdl_placer *p)
{
    if (p->model->head_q8.n != 0)
        HDL_LOG(INFO, LOAD, "head_screen", "rows=%u memory_bytes=%zu", p->model->head_q8.n,
                p->model->head_q8.bytes);
    for (hdl_enc e = 0; e < HDL_ENC_COUNT; e++)
        for (hdl_wformat f = 0; f < HDL_WFORMAT_COUNT; f++)
            if (p->sums[e][f].file_bytes != 0)
                HDL_LOG(INFO, LOAD, "matrices",
                        "from=%s to=%s file_bytes=%" PRIu64 " memory_bytes=%" PRIu64 " exact=%s",
                        hdl_enc_name(e), hdl_wformat_info_of(f)->name, p->sums[e][f].file_bytes,
                        p->sums[e][f].memory_bytes, p->sums[e][f].exact ? "yes" : "no");
}

/* What the content of the model's memory follows from. */
static uint64_t hash_job(const hdl_placer *p, const hdl_place_job *j, uint64_t seed)
{
    const hdl_source *s = &j->src;
    const char *base = p->model->memory;
    const hdl_wkind kind = {j->dst ? j->dst->format : 0, j->dst ? j->dst->codebook : NULL};
    struct {
        uint64_t at, col_step;
        uint32_t is_matrix, format, book, n, k, n_leaves, row_at, encoding;
        uint32_t window[4], extent[2], by_columns, neg_exp, tiles[3];
        int32_t zero_add;
        float plus, mul, div;
        uint32_t unused; /* of its own, not the compiler's: bytes are hashed */
    } is = {
        .at = (uint64_t)((j->dst ? (const char *)j->dst->data : (const char *)j->vec) - base),
        .col_step = j->col_step,
        .is_matrix = j->dst != NULL,
        .format = kind.format,
        .n = j->dst ? j->dst->n : 0,
        .k = j->dst ? j->dst->k : 0,
        .n_leaves = j->dst ? j->dst->n_leaves : 0,
        .row_at = j->row_at,
        .encoding = s->encoding,
        .window = {s->row_at, s->n_rows, s->col_at, s->n_cols},
        .extent = {s->scale_rows, s->scale_cols},
        .by_columns = s->by_columns,
        .neg_exp = j->neg_exp,
        .tiles = {s->tiles.each, s->tiles.n_groups, s->tiles.per_group},
        .zero_add = s->zero_add,
        .plus = j->plus,
        .mul = s->scale_mul,
        .div = s->scale_div,
    };
    for (int i = 0; kind.codebook && i < 16; i++)
        is.book = is.book * 31 + (uint8_t)kind.codebook[i];
    seed = hdl_hash_bytes(&is, sizeof is, seed);
    return hdl_hash_bytes(j->name, strlen(j->name), seed);
}

static hdl_packed packed_of(const hdl_placer *p)
{
    hdl_packed packed = {
        .folder = p->opts->packed_cache, .model = p->model, .stream = p->opts->stream};
    const char *ops = p->model->ops->name;
    if (!packed.folder || packed.folder[0] == '\0')
        return packed;
    if (!hdl_device_is_host(p->model->device)) {
        HDL_LOG(WARN, LOAD, "packed_cache_off", "why=%s",
                HDL_LOG_QUOTE("its file is mapped, and the device's memory cannot be"));
        packed.folder = NULL;
        return packed;
    }
    if (hdl_build_id() == 0) { /* how kernels want weights may change from build to build */
        HDL_LOG(WARN, LOAD, "packed_cache_off", "why=%s",
                HDL_LOG_QUOTE("the program was linked without a build id"));
        packed.folder = NULL;
        return packed;
    }
    uint64_t files = hdl_hash_combine(hdl_files_stamp(p->files), hdl_build_id());
    for (uint64_t half = 0; half < 2; half++) {
        uint64_t key = hdl_hash_bytes(ops, strlen(ops), hdl_hash_combine(files, half));
        for (size_t i = 0; i < p->n_jobs; i++)
            key = hash_job(p, &p->jobs[i], key);
        packed.key[half] = key;
    }
    return packed;
}

static hdl_err place_all(hdl_placer *p)
{
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++)
        HDL_TRY(hdl_place_add_slot(p, slot));
    HDL_TRY(hdl_files_check_unknown(p->files, p->model->desc, p->why));
    tell_kinds(p);
    const hdl_packed packed = packed_of(p);
    if (hdl_packed_read(&packed)) {
        HDL_LOG(INFO, LOAD, "packed_cache_read", "bytes=%zu", p->model->weight_bytes);
        tell(p, true);
        return HDL_OK;
    }
    atomic_store(&p->broken, SIZE_MAX);
    hdl_stream_run(p->opts->stream, run_jobs, p);
    tell(p, true);
    size_t broken = atomic_load(&p->broken);
    if (broken != SIZE_MAX)
        return hdl_fail(HDL_CORRUPT, p->why,
                        "tensor %.160s has weights or scales that are no numbers; the files are "
                        "damaged; fetch the model again",
                        p->jobs[broken].name);
    if (atomic_load(&p->lost) || hdl_device_sync(p->model->device) != HDL_OK)
        return hdl_fail(HDL_DEVICE, p->why,
                        "the device does not take the weights; it was lost; look at its driver's "
                        "log");
    hdl_packed_write(&packed);
    return HDL_OK;
}

hdl_err hdl_place_weights(hdl_model *model, hdl_files *files, const hdl_place_opts *opts,
                          hdl_errmsg *why)
{
    hdl_placer p = {.model = model, .files = files, .opts = opts, .why = why};
    hdl_err err = place_all(&p);
    if (err == HDL_OK)
        err = hdl_embed_table_load(model, why);
    free(p.jobs);
    return err;
}
