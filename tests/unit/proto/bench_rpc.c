/* SPDX-License-Identifier: Apache-2.0 */
/* bench_rpc [rounds]: the way of a decode step without its work. This thread (the brain) sends a
 * message; a second thread (a worker's step) is woken through a ring and answers from there; the
 * answer wakes this thread through another ring. Four threads, as in the daemons. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/ring.h"
#include "base/thread.h"
#include "proto/rpc.h"

enum { MESSAGE_BYTES = 512 };

static hdl_ring *to_step, *to_brain;

static void wait_ring(hdl_ring *ring, void *item)
{
    while (!hdl_ring_pop(ring, item)) {
        if (!hdl_ring_arm(ring))
            continue;
        struct pollfd p = {.fd = hdl_ring_fd(ring), .events = POLLIN};
        (void)poll(&p, 1, -1);
        hdl_ring_ack(ring);
    }
}

static void push(hdl_ring *ring, hdl_rpc_stream *stream)
{
    if (hdl_ring_push(ring, &stream) != HDL_OK)
        abort();
}

static void on_step(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)arg;
    (void)bytes;
    (void)len;
    push(to_step, stream);
}

static void on_result(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)arg;
    (void)bytes;
    (void)len;
    push(to_brain, stream);
}

static void step_main(void *arg)
{
    (void)arg;
    char answer[MESSAGE_BYTES] = {0};
    for (;;) {
        hdl_rpc_stream *stream;
        wait_ring(to_step, &stream);
        if (!stream || hdl_rpc_send(stream, answer, sizeof answer) != HDL_OK)
            return;
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void bench(const char *address, size_t rounds)
{
    hdl_rpc_server *server;
    hdl_rpc_client *client;
    hdl_rpc_stream *stream;
    hdl_thread step = {0};
    hdl_errmsg why;
    const hdl_ring_opts ring = {.kind = HDL_RING_SPSC,
                                .item_bytes = sizeof(void *),
                                .count = 16,
                                .wake = HDL_RING_WAKE_OWN};
    const hdl_rpc_method method = {
        .path = "/b/B", .kind = HDL_RPC_BIDI, .callbacks = {.on_message = on_step}};
    const hdl_rpc_server_opts opts = {.address = address, .methods = &method, .n_methods = 1};
    const hdl_rpc_callbacks callbacks = {.on_message = on_result};
    uint64_t *ns = malloc(rounds * sizeof *ns);
    if (!ns || hdl_ring_open(&to_step, &ring) != HDL_OK ||
        hdl_ring_open(&to_brain, &ring) != HDL_OK ||
        hdl_thread_start(&step, &(hdl_thread_opts){.name = "step", .fn = step_main}, &why) ||
        hdl_rpc_server_open(&server, &opts, &why) != HDL_OK ||
        hdl_rpc_client_open(
            &client, &(hdl_rpc_client_opts){.address = hdl_rpc_server_address(server)}, &why) ||
        hdl_rpc_stream_open(&stream, client, "/b/B", &callbacks) != HDL_OK)
        abort();
    char request[MESSAGE_BYTES] = {0};
    for (size_t i = 0; i < rounds; i++) {
        hdl_rpc_stream *got;
        uint64_t from = hdl_clock_now_ns();
        if (hdl_rpc_send(stream, request, sizeof request) != HDL_OK)
            abort();
        wait_ring(to_brain, &got);
        ns[i] = hdl_clock_now_ns() - from;
    }
    qsort(ns, rounds, sizeof *ns, by_value);
    printf("%-12.12s %zu rounds of %d bytes: p50 %.1f us, p99 %.1f us\n", address, rounds,
           MESSAGE_BYTES, (double)ns[rounds / 2] / 1e3, (double)ns[rounds * 99 / 100] / 1e3);
    hdl_rpc_stream_drop(stream);
    hdl_rpc_client_close(client);
    hdl_rpc_server_close(server, 0);
    push(to_step, NULL);
    hdl_thread_join(&step);
    hdl_ring_close(to_step);
    hdl_ring_close(to_brain);
    free(ns);
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    char dir[128], address[192];
    if (rounds == 0 || hdl_fs_mkdtemp(dir, sizeof dir, "heddle-rpc-", NULL) != HDL_OK)
        return 2;
    snprintf(address, sizeof address, "unix:%s/s", dir);
    hdl_thread_block_signals();
    bench(address, rounds);
    bench("127.0.0.1:0", rounds);
    return hdl_fs_remove_tree(dir) == HDL_OK ? 0 : 1;
}
