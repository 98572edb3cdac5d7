/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/team.h"
#include "bench/kernels/probe_isa.h"

enum { GRAIN = 4096 };
static const uint64_t BURST_ROUNDS = 500000;

struct hdl_probe {
    hdl_device *device; /* borrowed: until close */
    const hdl_probe_loops *loops;
    unsigned char *mem;
    size_t bytes;
    double (*loop)(uint64_t rounds); /* of the burst that runs */
    double ops;                      /* done by thread 0 */
    _Atomic uint64_t sink;           /* what was read; keeps the reads */
};

static void fill(void *arg, uint32_t thread, uint32_t n_threads)
{
    hdl_probe *p = arg;
    hdl_team_part part = hdl_team_share(p->bytes, GRAIN, (int)thread, (int)n_threads);
    memset(p->mem + part.from, 1, part.to - part.from);
}

hdl_err hdl_probe_open(hdl_probe **out, hdl_device *device, hdl_isa isa, size_t stream_bytes,
                       hdl_errmsg *why)
{
    *out = NULL;
    bool is_avx512 =
        isa == HDL_ISA_AVX512 || (isa == HDL_ISA_AUTO && hdl_ops_cpu(HDL_ISA_AVX512, NULL) != NULL);
    if (!hdl_ops_cpu(HDL_ISA_AVX2, why))
        return HDL_UNSUPPORTED;
    hdl_probe *p = calloc(1, sizeof *p);
    if (!p)
        return hdl_fail(HDL_NOMEM, why, "cannot measure; out of memory");
    p->device = device;
    p->loops = is_avx512 ? &hdl_probe_avx512 : &hdl_probe_avx2;
    p->bytes = stream_bytes / GRAIN * GRAIN;
    p->mem = hdl_device_alloc(device, p->bytes);
    if (!p->mem) {
        free(p);
        return hdl_fail(HDL_NOMEM, why, "cannot measure; no %zu bytes for the stream",
                        stream_bytes);
    }
    hdl_stream_run(hdl_device_stream(device), fill, p);
    *out = p;
    return HDL_OK;
}

void hdl_probe_close(hdl_probe *p)
{
    if (!p)
        return;
    hdl_device_free(p->device, p->mem, p->bytes);
    free(p);
}

static void read_part(void *arg, uint32_t thread, uint32_t n_threads)
{
    hdl_probe *p = arg;
    hdl_team_part part = hdl_team_share(p->bytes, GRAIN, (int)thread, (int)n_threads);
    p->sink |= p->loops->read(p->mem + part.from, part.to - part.from);
}

double hdl_probe_stream(hdl_probe *p)
{
    uint64_t start = hdl_clock_now_ns();
    hdl_stream_run(hdl_device_stream(p->device), read_part, p);
    return (double)p->bytes * 1e9 / (double)(hdl_clock_now_ns() - start);
}

static void burst(void *arg, uint32_t thread, uint32_t n_threads)
{
    hdl_probe *p = arg;
    double ops = p->loop(BURST_ROUNDS);
    if (thread == 0)
        p->ops = ops * n_threads;
}

double hdl_probe_peak(hdl_probe *p, hdl_arith arith)
{
    double (*const loops[])(uint64_t) = {NULL, p->loops->f32, p->loops->bf16, p->loops->int8};
    p->loop = loops[arith];
    if (!p->loop)
        return 0;
    uint64_t start = hdl_clock_now_ns();
    hdl_stream_run(hdl_device_stream(p->device), burst, p);
    return p->ops * 1e9 / (double)(hdl_clock_now_ns() - start);
}
