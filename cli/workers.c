/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/workers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <heddle/topo.h>

#include "base/config.h"
#include "base/config_keys.h"
#include "cli/cli.h"
#include "worker/worker.h"

hdl_err cli_workers_plan(const hdl_config *config, uint32_t *n_workers, hdl_errmsg *why)
{
    static hdl_model_desc desc; /* some kilobytes */
    hdl_layout layout = {.tp = (uint32_t)config->tp,
                         .ep = (uint32_t)config->ep,
                         .pp = (uint32_t)config->pp,
                         .dp = (uint32_t)config->dp};
    HDL_TRY(hdl_worker_check_device(config, why));
    HDL_TRY(hdl_model_desc_load(&desc, config->model_path, why));
    HDL_TRY(hdl_cache_groups_keep(&desc, hdl_kv_type_of(config->kv_type), why));
    HDL_TRY(hdl_layout_check(&desc, &layout, why));
    if (config->model_max_len > (int64_t)desc.max_len)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "the longest sequence is to be %lld tokens; the model declares %u; give at "
                        "most that with --max-len",
                        (long long)config->model_max_len, desc.max_len);
    *n_workers = layout.dp * hdl_layout_ranks(&layout);
    if (*n_workers > CLI_WORKERS_MAX)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "the layout needs %u workers; one machine starts %d at most; run "
                        "heddle-worker on the other machines",
                        *n_workers, CLI_WORKERS_MAX);
    return HDL_OK;
}

/* "0,2,4" of the CPUs that a worker gets. */
static void join_cpus(const hdl_topo_pick *pick, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < pick->n_cpus && len + 8 < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%d", i > 0 ? "," : "", pick->cpus[i]);
}

static hdl_err spawn_one(const cli_workers_start *start, const hdl_topo *topo, uint32_t idx,
                         hdl_errmsg *why)
{
    static hdl_topo_pick pick;
    char program[4096], name[32], threads[16], cpus[4096], gpu[16];
    HDL_TRY(cli_program_path(program, sizeof program, "heddle-worker", why));
    hdl_topo_pick_cpus(topo,
                       (hdl_topo_ask){.worker_idx = idx,
                                      .n_workers = start->n_workers,
                                      .n_threads = (uint32_t)start->config->threads},
                       &pick);
    join_cpus(&pick, cpus, sizeof cpus);
    snprintf(threads, sizeof threads, "%u", pick.n_threads);
    snprintf(name, sizeof name, "worker %u", idx);

    const char *argv[16] = {program,       "--config",         start->config_path,
                            "--scheduler", start->address,     "--threads",
                            threads,       "--die-with-parent"};
    size_t n = 8;
    /* Workers that share cores are left to the kernel: pinning them to the same ones would make
     * a spinning rank starve the one that it waits for. */
    bool own_cores = topo->n_cpus >= start->n_workers * pick.n_threads;
    if (own_cores && start->config->cpus.count == 0) {
        argv[n++] = "--cpus";
        argv[n++] = cpus;
    }
    if (start->config->device == HDL_DEVICE_CUDA && start->n_workers > 1) {
        snprintf(gpu, sizeof gpu, "cuda:%u", idx);
        argv[n++] = "--device";
        argv[n++] = gpu;
    }
    hdl_spawn_child *child = NULL;
    const hdl_spawn_opts opts = {
        .name = name, .argv = argv, .on_event = start->on_event, .arg = start->arg};
    return hdl_spawn_start(start->spawn, &opts, &child, why);
}

hdl_err cli_workers_spawn(const cli_workers_start *start, hdl_errmsg *why)
{
    static hdl_topo topo;
    HDL_TRY(hdl_topo_load(&topo, NULL, why));
    for (uint32_t i = 0; i < start->n_workers; i++)
        HDL_TRY(spawn_one(start, &topo, i, why));
    return HDL_OK;
}

bool cli_workers_gave_up(const hdl_spawn_child *worker)
{
    int status = hdl_spawn_status(worker);
    return WIFEXITED(status) && WEXITSTATUS(status) != 0;
}

/* A new file in a private folder needs no fsync, which would cost more than all else at start. */
static hdl_err write_file(const char *path, const hdl_buf *text, hdl_errmsg *why)
{
    FILE *f = fopen(path, "we");
    bool ok = f != NULL && fwrite(hdl_buf_data(text), 1, text->len, f) == text->len;
    if (f != NULL && fclose(f) != 0)
        ok = false;
    return ok ? HDL_OK
              : hdl_fail(HDL_IO, why, "cannot write %s; %s; make room there", path,
                         strerror(errno));
}

hdl_err cli_workers_write_config(const hdl_config *config, const char *path, hdl_errmsg *why)
{
    hdl_cfg *cfg = NULL;
    hdl_config copy;
    hdl_buf text;
    HDL_TRY(hdl_cfg_open(&cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                               .keys_count = hdl_config_keys_count,
                                               .values = &copy}));
    copy = *config;
    hdl_buf_init(&text, 1 << 20);
    hdl_err err = hdl_cfg_dump(cfg, &text);
    if (err == HDL_OK)
        err = write_file(path, &text, why);
    hdl_buf_deinit(&text);
    hdl_cfg_close(cfg);
    return err;
}
