/* SPDX-License-Identifier: Apache-2.0 */
/* heddle cluster: a scheduler asked over the port that its workers dial: its ranks, and a drain. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/json_write.h"
#include "base/thread.h"
#include "base/units.h"
#include "cli/cli.h"
#include "proto/rpc.h"
#include "proto/wire.h"

enum { TIMEOUT_US = 5000000, ARENA_BYTES = 16 << 20 };

static const hdl_arg_opt cluster_opts[] = {
    {.name = "scheduler",
     .value = "ADDR",
     .doc = "where its workers dial: HOST:PORT or unix:/path (127.0.0.1:7070)"},
    {.name = "tls-ca",
     .value = "FILE",
     .doc = "authorities of the scheduler's certificate",
     .group = "mTLS"},
    {.name = "tls-cert", .value = "FILE", .doc = "our certificate", .group = "mTLS"},
    {.name = "tls-key", .value = "FILE", .doc = "its key", .group = "mTLS"},
    {.name = "json", .doc = "status: one JSON document"},
};

static const hdl_args_spec cluster_spec = {
    .command = "heddle cluster",
    .usage = "status|drain [options]",
    .about = "status: state, load and every rank of a running cluster. drain: new requests are "
             "refused, admitted ones finish.",
    .opts = cluster_opts,
    .opts_count = HDL_ARRAY_LEN(cluster_opts),
    .positionals_min = 1,
    .positionals_max = 1,
    .examples = "heddle cluster status --scheduler unix:/run/heddle/workers.sock\twho is there\n",
};

static void print_status(const hdl_cluster_status *s)
{
    printf("%s%s; epoch %llu; %u running, %u waiting; KV for %llu tokens\n\n", s->state,
           s->draining ? " (draining)" : "", (unsigned long long)s->epoch, s->running, s->waiting,
           (unsigned long long)s->kv_tokens);
    printf("%5s %5s %-9s %-20s %-12s %8s %10s %12s %12s\n", "group", "rank", "state", "host",
           "device", "pid", "step", "collectives", "loaded");
    for (uint32_t i = 0; i < s->n_ranks; i++) {
        const hdl_rank_status *r = &s->ranks[i];
        char loaded[HDL_UNITS_TEXT_BYTES];
        printf("%5u %5u %-9s %-20.20s %-12.12s %8u %7.2f ms %9.2f ms %12s\n", r->group, r->rank,
               r->state, r->host, r->device, r->pid, r->step_us / 1e3, r->coll_us / 1e3,
               hdl_format_size(r->bytes_done, loaded));
    }
}

static int print_json(const hdl_cluster_status *s)
{
    hdl_buf out;
    hdl_json_writer w;
    hdl_buf_init(&out, 1 << 24);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "state", s->state);
    hdl_jw_kv_bool(&w, "ready", s->ready);
    hdl_jw_kv_bool(&w, "draining", s->draining);
    hdl_jw_kv_uint(&w, "epoch", s->epoch);
    hdl_jw_kv_uint(&w, "running", s->running);
    hdl_jw_kv_uint(&w, "waiting", s->waiting);
    hdl_jw_kv_uint(&w, "kv_tokens", s->kv_tokens);
    hdl_jw_key(&w, "ranks");
    hdl_jw_begin_array(&w);
    for (uint32_t i = 0; i < s->n_ranks; i++) {
        const hdl_rank_status *r = &s->ranks[i];
        hdl_jw_begin_object(&w);
        hdl_jw_kv_uint(&w, "group", r->group);
        hdl_jw_kv_uint(&w, "rank", r->rank);
        hdl_jw_kv_cstr(&w, "state", r->state);
        hdl_jw_kv_cstr(&w, "host", r->host);
        hdl_jw_kv_cstr(&w, "device", r->device);
        hdl_jw_kv_uint(&w, "pid", r->pid);
        hdl_jw_kv_uint(&w, "step_us", r->step_us);
        hdl_jw_kv_uint(&w, "coll_us", r->coll_us);
        hdl_jw_kv_uint(&w, "silent_us", r->silent_us);
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

static hdl_err show(const void *reply, size_t len, bool json, int *rc, hdl_errmsg *why)
{
    hdl_arena arena;
    hdl_cluster_status status;
    void *mem = malloc(ARENA_BYTES);
    if (!mem)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    hdl_arena_init(&arena, mem, ARENA_BYTES);
    hdl_err err = hdl_wire_decode_status((hdl_wire_bytes){reply, len}, &arena, &status, why);
    if (err == HDL_OK && json)
        *rc = print_json(&status);
    else if (err == HDL_OK)
        print_status(&status);
    free(mem);
    return err;
}

/* gRPC's words end in the system's: "...; last error: UNKNOWN: ipv4:...: Connection refused". */
static hdl_err say_unreachable(hdl_err err, const char *address, hdl_errmsg *why)
{
    hdl_errmsg call = *why;
    const char *cause = strstr(call.text, "last error: ");
    if (err != HDL_PEER && err != HDL_TIMEOUT)
        return err;
    cause = cause ? cause + strlen("last error: ") : call.text;
    size_t status = strspn(cause, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    if (status > 0 && strncmp(cause + status, ": ", 2) == 0)
        cause += status + 2;
    return hdl_fail(err, why,
                    "no scheduler answers at %.120s; %.200s; is one running, is this its "
                    "rpc.listen, and are --tls-ca, --tls-cert and --tls-key given if it has "
                    "rpc.tls_* and only then?",
                    address, err == HDL_TIMEOUT ? "it took over 10 s" : cause);
}

static hdl_err ask(const hdl_args *args, bool drain, int *rc, hdl_errmsg *why)
{
    void *reply = NULL;
    size_t len = 0;
    hdl_rpc_client *client = NULL;
    const hdl_rpc_tls tls = {.ca = hdl_args_str(args, "tls-ca", ""),
                             .cert = hdl_args_str(args, "tls-cert", ""),
                             .key = hdl_args_str(args, "tls-key", "")};
    const char *address = hdl_args_str(args, "scheduler", "127.0.0.1:7070");
    HDL_TRY(
        hdl_rpc_client_open(&client, &(hdl_rpc_client_opts){.address = address, .tls = &tls}, why));
    const hdl_rpc_request request = {.path = drain ? HDL_WIRE_DRAIN : HDL_WIRE_STATUS,
                                     .bytes = "",
                                     .timeout_us = TIMEOUT_US,
                                     .hasty = true};
    hdl_err err = hdl_rpc_call(client, &request, &reply, &len, why);
    if (err != HDL_OK)
        err = say_unreachable(err, address, why);
    if (err == HDL_TIMEOUT)
        hdl_fail(
            err, why,
            "no scheduler answers at %s; nobody listens there, or it speaks TLS and we do not; "
            "its rpc.listen is the address for --scheduler, and `heddle top URL` asks a "
            "`heddle serve`",
            address);
    if (err == HDL_OK && drain)
        puts("it drains: new requests are refused, admitted ones finish");
    else if (err == HDL_OK)
        err = show(reply, len, hdl_args_has(args, "json"), rc, why);
    free(reply);
    hdl_rpc_client_close(client);
    return err;
}

int cli_cluster(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &cluster_spec, argv);
    if (rc >= 0)
        return rc;
    rc = CLI_OK;
    hdl_errmsg why = {0};
    bool drain = strcmp(args.positionals[0], "drain") == 0;
    if (!drain && strcmp(args.positionals[0], "status") != 0) {
        (void)hdl_fail(HDL_INVALID, &why, "heddle cluster knows status and drain, not \"%.60s\"",
                       args.positionals[0]);
        return cli_usage(&cluster_spec, &why);
    }
    hdl_thread_block_signals(); /* gRPC's threads must not get ours */
    hdl_err err = ask(&args, drain, &rc, &why);
    return err == HDL_OK ? rc : cli_fail(err, &why);
}
