/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's life: open, join, abort, close. The step is step.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "worker/device_group.h"
#include "worker/load/place.h"
#include "worker/load/quant.h"
#include "worker/worker_impl.h"

static void default_u32(uint32_t *value, uint32_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static hdl_err fill_opts(hdl_worker *w, const hdl_worker_opts *opts, hdl_errmsg *why)
{
    hdl_worker_opts *o = &w->opts;
    *o = *opts;
    default_u32(&o->layout.tp, 1);
    default_u32(&o->layout.ep, 1);
    default_u32(&o->layout.pp, 1);
    default_u32(&o->layout.dp, 1);
    default_u32(&o->max_seqs, 256);
    default_u32(&o->step_tokens, 512);
    default_u32(&o->n_threads, 1);
    if (o->max_seqs > HDL_SEQS_MAX || o->step_tokens > HDL_STEP_TOKENS_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "max_seqs %u or step_tokens %u is too large; the limits are %d and %d; "
                        "lower them",
                        o->max_seqs, o->step_tokens, HDL_SEQS_MAX, HDL_STEP_TOKENS_MAX);
    HDL_TRY(hdl_model_desc_load(&w->desc, opts->model_path, why));
    HDL_TRY(hdl_cache_groups_keep(&w->desc, o->kv_type, why));
    HDL_TRY(hdl_layout_check(&w->desc, &o->layout, why));
    if (opts->rank >= hdl_layout_ranks(&o->layout))
        return hdl_fail(HDL_INVALID, why,
                        "rank %u does not exist; the layout has %u ranks; correct the assignment",
                        opts->rank, hdl_layout_ranks(&o->layout));
    if (o->max_len == 0 || o->max_len > w->desc.max_len)
        o->max_len = w->desc.max_len;
    w->shard = hdl_shard_of(&w->desc, &o->layout, opts->rank);
    return HDL_OK;
}

static hdl_err open_device(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_worker_opts *o = &w->opts;
    const hdl_ops *ops = o->plugin ? o->plugin->ops : hdl_ops_cpu(o->isa, why);
    if (!ops)
        return HDL_UNSUPPORTED;
    uint32_t n_tokens = hdl_max_u32(o->step_tokens, HDL_LOGIT_ROWS);
    hdl_ops_extent extent = hdl_model_extent(&w->desc, &w->shard, n_tokens, o->max_len);
    extent.fast = o->plugin && o->fast;
    hdl_cpu_device_opts device = {.n_threads = o->n_threads,
                                  .cpus = o->cpus,
                                  .n_cpus = o->n_cpus,
                                  .isa = o->isa,
                                  .scratch_bytes = ops->scratch_bytes(&extent)};
    if (!o->plugin) {
        if (o->fast)
            HDL_LOG(INFO, LOAD, "numerics", "asked=fast mode=exact device=%s", ops->name);
        return hdl_device_open_cpu(&w->device, &device, why);
    }
    if (ops->limits.blocks_pow2 && (o->block_tokens & (o->block_tokens - 1)) != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "a KV block is to hold %u tokens; the kernels of %s find places by shifts; "
                        "make kv.block_tokens a power of two",
                        o->block_tokens, ops->name);
    hdl_plugin_device_opts remote = {.plugin = o->plugin,
                                     .host = device,
                                     .device = {.index = o->gpu,
                                                .scratch_bytes = device.scratch_bytes,
                                                .fast = o->fast,
                                                .order = o->gpu_order}};
    return hdl_device_open_plugin(&w->device, &remote, why);
}

static hdl_kvstore_opts kvstore_opts(const hdl_worker *w)
{
    const hdl_worker_opts *o = &w->opts;
    return (hdl_kvstore_opts){.desc = &w->desc,
                              .shard = w->shard,
                              .device = w->device,
                              .block_tokens = o->block_tokens,
                              .n_blocks = o->n_blocks,
                              .kv_bytes = o->kv_bytes,
                              .max_seqs = o->max_seqs,
                              .max_len = o->max_len,
                              .step_tokens = o->step_tokens};
}

static hdl_forward_opts forward_opts(hdl_worker *w)
{
    return (hdl_forward_opts){.model = &w->model,
                              .kv = &w->kv,
                              .device = w->device,
                              .n_tokens_max = w->opts.step_tokens,
                              .n_logits_max = HDL_LOGIT_ROWS,
                              .fast = w->opts.plugin && w->opts.fast};
}

/* What else has to fit on the device: before minutes of loading go to no end. */
static hdl_err budget_of(hdl_worker *w, hdl_budget *out, hdl_errmsg *why)
{
    const hdl_kvstore_opts kv = kvstore_opts(w);
    const hdl_model sizes = {.desc = &w->desc, .shard = w->shard};
    hdl_forward_opts forward = forward_opts(w);
    forward.model = &sizes;
    *out = (hdl_budget){.free = hdl_device_memory_free(w->device),
                        .activations = hdl_forward_bytes(&forward)};
    if (!hdl_add_u64(out->activations, hdl_step_device_bytes(w), &out->activations))
        out->activations = UINT64_MAX;
    return hdl_kvstore_least(&kv, &out->cache, why);
}

static hdl_err build(hdl_worker *w, const hdl_wkinds *kinds, hdl_errmsg *why)
{
    hdl_model_opts model = {.desc = &w->desc,
                            .shard = w->shard,
                            .device = w->device,
                            .kinds = kinds,
                            .max_len = w->opts.max_len,
                            .head_screen = w->opts.head_screen};
    HDL_TRY(budget_of(w, &model.budget, why));
    return hdl_model_build(&w->model, &model, why);
}

static hdl_err load(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_worker_opts *o = &w->opts;
    uint64_t start_us = hdl_clock_now_us();
    if (o->made) {
        HDL_TRY(build(w, o->made->kinds, why));
        HDL_TRY(o->made->fill(o->made->arg, &w->model, why));
        return hdl_plans_make(w, why);
    }
    HDL_TRY(hdl_files_open(&w->files, o->model_path, why));
    hdl_quant quant = {.kinds = {.of = hdl_quant_kind_of},
                       .files = w->files,
                       .desc = &w->desc,
                       .asked = o->weights,
                       .ops = hdl_device_ops(w->device)};
    HDL_TRY(build(w, &quant.kinds, why));
    hdl_place_opts place = {.stream = hdl_device_host(w->device),
                            .progress = o->progress,
                            .progress_arg = o->progress_arg,
                            .packed_cache = o->packed_cache};
    HDL_TRY(hdl_place_weights(&w->model, w->files, &place, why));
    hdl_files_forget_pages(w->files);
    HDL_TRY(hdl_plans_make(w, why));
    HDL_LOG(INFO, LOAD, "loaded", "rank=%u weight_bytes=%zu load_us=%llu device=%s", o->rank,
            w->model.memory_bytes, (unsigned long long)(hdl_clock_now_us() - start_us),
            w->model.ops->name);
    return HDL_OK;
}

static hdl_err open_state(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_worker_opts *o = &w->opts;
    const hdl_kvstore_opts kv = kvstore_opts(w);
    const hdl_forward_opts forward = forward_opts(w);
    HDL_TRY(hdl_forward_open(&w->forward, &forward, why));
    HDL_TRY(hdl_step_device_open(w, why));
    HDL_TRY(hdl_kvstore_open(&w->kv, &kv, why)); /* last: it may take what a device has left */
    hdl_batch_opts batch = {.max_seqs = o->max_seqs,
                            .step_tokens = o->step_tokens,
                            .max_len = o->max_len,
                            .block_tokens = w->kv.block_tokens,
                            .n_caches = w->kv.n_pools,
                            .vocab = w->desc.vocab,
                            .can_dump = o->logits_dump_path != NULL};
    for (uint32_t i = 0; i < w->kv.n_pools; i++)
        batch.caches[i] = (hdl_cache_capacity){.rule = w->kv.pools[i].group.rule,
                                               .n_blocks = w->kv.pools[i].n_blocks};
    HDL_TRY(hdl_batch_open(&w->batch, &batch, why));
    HDL_TRY(hdl_upload_open(&w->upload, w->device, &w->batch, why));
    w->upload.last = w->device_sampler.state.last;
    return HDL_OK;
}

static hdl_err open_results(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_worker_opts *o = &w->opts;
    w->sampled = calloc(1 + (size_t)o->step_tokens, sizeof(*w->sampled));
    bool ok = w->sampled != NULL;
    if (ok && o->rank == 0) {
        w->rows = calloc(o->step_tokens, sizeof(*w->rows));
        w->probs = calloc((size_t)o->step_tokens * HDL_ROW_PROBS_MAX, sizeof(*w->probs));
        w->jobs = calloc(HDL_LOGIT_ROWS, sizeof(*w->jobs));
        ok = w->rows && w->probs && w->jobs;
    }
    if (!ok)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    if (o->rank != 0)
        return HDL_OK;
    hdl_sampler_opts sampler = {.max_seqs = o->max_seqs,
                                .max_len = o->max_len,
                                .vocab = w->desc.vocab,
                                .n_threads = o->n_threads};
    HDL_TRY(hdl_sampler_open(&w->sampler, &sampler, why));
    if (!o->logits_dump_path)
        return HDL_OK;
    w->dump_fd = open(o->logits_dump_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (w->dump_fd < 0)
        return hdl_fail(HDL_IO, why, "cannot write %.200s; %s; give another path",
                        o->logits_dump_path, strerror(errno));
    return HDL_OK;
}

hdl_err hdl_worker_check_device(const hdl_config *config, hdl_errmsg *why)
{
    const hdl_plugin *plugin;
    if (config->device == HDL_DEVICE_CPU)
        return HDL_OK;
    HDL_TRY(hdl_plugin_load(&plugin, config->cuda_plugin, why));
    return plugin->probe(hdl_device_gpu(config->device), why);
}

hdl_err hdl_worker_open(hdl_worker **out, const hdl_worker_opts *opts, hdl_errmsg *why)
{
    hdl_worker *w = calloc(1, sizeof(*w));
    hdl_err err = HDL_NOMEM;
    *out = NULL;
    if (!w)
        return hdl_fail(err, why, "out of memory; the machine is full; stop other programs");
    pthread_mutex_init(&w->lock, NULL);
    w->dump_fd = -1;
    HDL_TRY_GOTO(fill_opts(w, opts, why), fail);
    HDL_TRY_GOTO(open_device(w, why), fail);
    HDL_TRY_GOTO(load(w, why), fail);
    HDL_TRY_GOTO(open_state(w, why), fail);
    HDL_TRY_GOTO(open_results(w, why), fail);
    /* Borrowed for the call only. */
    w->opts.model_path = w->opts.logits_dump_path = NULL;
    w->opts.made = NULL;
    w->opts.cpus = NULL;
    w->opts.progress = NULL;
    *out = w;
    return HDL_OK;
fail:
    hdl_worker_close(w);
    return err;
}

/* ---- epochs ------------------------------------------------------------------------------- */

static void leave(hdl_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->abortable = NULL;
    pthread_mutex_unlock(&w->lock);
    w->joined = false;
    hdl_coll_door_close(w->door);
    w->door = NULL;
    hdl_graphs_forget(&w->graphs);
    hdl_device_group_close(&w->groups);
    if (w->samples_there) /* nobody asks for what is under way; its memory is used again */
        (void)!hdl_device_sync(w->device);
    w->samples_there = false;
    w->n_pending = 0;
    hdl_coll_close(w->groups.ep);
    hdl_coll_close(w->groups.moe_tp);
    hdl_coll_close(w->groups.tp);
    hdl_coll_close(w->groups.world);
    w->groups = w->forward.groups = (hdl_groups){0};
}

static hdl_err split(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_shard *s = &w->shard;
    hdl_coll *world = w->groups.world;
    hdl_err err = hdl_coll_split(&w->groups.tp, world, s->rank - s->tp_idx, 1, s->tp);
    if (err == HDL_OK)
        err = hdl_coll_split(&w->groups.moe_tp, world, s->rank - s->moe_tp_idx, 1, s->moe_tp);
    if (err == HDL_OK)
        err = hdl_coll_split(&w->groups.ep, world, s->moe_tp_idx, s->moe_tp, s->ep);
    if (err != HDL_OK)
        return hdl_fail(err, why,
                        "cannot make the communicators of this rank; %s; start the group "
                        "again",
                        hdl_err_text(err));
    return HDL_OK;
}

/* Under the lock: the groups do not go away meanwhile. */
static void abort_all(hdl_worker *w)
{
    hdl_coll_abort(w->abortable);
    if (w->groups.dev_world)
        w->groups.colls->abort(w->groups.dev_world);
}

/* The devices' communicators, which others may abort once they are in the groups. */
static hdl_err open_devices(hdl_worker *w, uint64_t timeout_us, hdl_errmsg *why)
{
    hdl_groups groups = w->groups;
    hdl_device_group_opts opts = {.device = w->device,
                                  .shard = &w->shard,
                                  .required = w->opts.nccl == HDL_NCCL_REQUIRED,
                                  .timeout_us = timeout_us,
                                  .cancel = &w->cancel_join};
    if (w->opts.nccl == HDL_NCCL_NEVER)
        return HDL_OK;
    HDL_TRY(hdl_device_group_open(&groups, &opts, why));
    pthread_mutex_lock(&w->lock);
    w->groups = groups;
    if (__atomic_load_n(&w->cancel_join, __ATOMIC_RELAXED))
        abort_all(w);
    pthread_mutex_unlock(&w->lock);
    return HDL_OK;
}

hdl_err hdl_worker_listen(hdl_worker *w, const hdl_coll_door_opts *opts,
                          char address[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why)
{
    HDL_ON_THREAD(STEP);
    leave(w);
    return hdl_coll_door_open(&w->door, opts, address, why);
}

hdl_err hdl_worker_join(hdl_worker *w, const hdl_coll_opts *opts, uint64_t epoch, hdl_errmsg *why)
{
    HDL_ON_THREAD(STEP);
    hdl_coll_opts coll = *opts;
    if (coll.peers) { /* opening takes it over */
        coll.door = w->door;
        w->door = NULL;
    }
    leave(w);
    __atomic_store_n(&w->cancel_join, 0, __ATOMIC_RELAXED);
    coll.rank = w->shard.rank;
    coll.n_ranks = w->shard.n_ranks;
    coll.cancel = &w->cancel_join;
    HDL_TRY(hdl_coll_open(&w->groups.world, &coll, why));
    pthread_mutex_lock(&w->lock);
    w->abortable = w->groups.world;
    if (__atomic_load_n(&w->cancel_join, __ATOMIC_RELAXED))
        abort_all(w); /* an abort that came while the ranks were meeting */
    pthread_mutex_unlock(&w->lock);
    hdl_err err = split(w, why);
    if (err == HDL_OK)
        err = open_devices(w, opts->timeout_us, why);
    if (err != HDL_OK) {
        leave(w);
        return err;
    }
    w->forward.groups = w->groups;
    w->samples_there = w->device_sampler.device && (w->shard.n_ranks == 1 || w->groups.dev_world);
    hdl_batch_reset(&w->batch);
    w->epoch = epoch;
    w->step = 0;
    w->joined = true;
    return HDL_OK;
}

void hdl_worker_abort(hdl_worker *w)
{
    pthread_mutex_lock(&w->lock);
    __atomic_store_n(&w->cancel_join, 1, __ATOMIC_RELAXED);
    if (w->abortable)
        abort_all(w);
    pthread_mutex_unlock(&w->lock);
}

static void tell_screened(const hdl_worker *w)
{
    const hdl_worker_screened s = hdl_worker_get_screened(w);
    if (s.tokens != 0)
        HDL_LOG(INFO, STEP, "head_screened", "rank=%u tokens=%llu tiles=%llu of=%llu",
                w->shard.rank, (unsigned long long)s.tokens, (unsigned long long)s.tiles,
                (unsigned long long)s.all_tiles);
}

void hdl_worker_close(hdl_worker *w)
{
    if (!w)
        return;
    leave(w);
    tell_screened(w);
    if (w->dump_fd >= 0)
        close(w->dump_fd);
    hdl_graphs_close(&w->graphs);
    hdl_device_sampler_close(&w->device_sampler);
    hdl_sampler_close(w->sampler);
    free(w->rows);
    free(w->probs);
    free(w->jobs);
    free(w->sampled);
    hdl_upload_close(&w->upload);
    hdl_batch_close(&w->batch);
    hdl_forward_close(&w->forward);
    hdl_kvstore_close(&w->kv);
    hdl_model_free(&w->model);
    hdl_device_close(w->device);
    hdl_files_close(w->files);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

hdl_device *hdl_worker_device(hdl_worker *w) { return w->device; }

void hdl_worker_park(hdl_worker *w) { hdl_device_park(w->device); }

hdl_worker_info hdl_worker_get_info(const hdl_worker *w)
{
    hdl_worker_info info = {.n_caches = w->kv.n_pools,
                            .block_tokens = w->kv.block_tokens,
                            .max_seqs = w->opts.max_seqs,
                            .step_tokens = w->opts.step_tokens,
                            .max_len = w->opts.max_len,
                            .weight_bytes = w->model.memory_bytes,
                            .kv_bytes = w->kv.bytes,
                            .device = w->model.ops->name,
                            .weights = w->model.format};
    memcpy(info.caches, w->batch.opts.caches, sizeof(info.caches));
    return info;
}

hdl_worker_screened hdl_worker_get_screened(const hdl_worker *w)
{
    uint64_t each = hdl_div_ceil_u32(w->model.head_q8.n, HDL_SCREEN_TILE);
    return (hdl_worker_screened){.tokens = w->forward.n_screened,
                                 .tiles = w->forward.n_screened_tiles,
                                 .all_tiles = w->forward.n_screened * each};
}

const hdl_model_desc *hdl_worker_desc(const hdl_worker *w) { return &w->desc; }
