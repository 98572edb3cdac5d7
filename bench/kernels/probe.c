/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/team.h"
#include "bench/kernels/probe_impl.h"

enum { GRAIN = 4096 };
static const uint64_t BURST_ROUNDS = 500000;

static void fill(void *arg, uint32_t thread, uint32_t n_threads)
{
    hdl_probe *p = arg;
    hdl_team_part part = hdl_team_share(p->bytes, GRAIN, (int)thread, (int)n_threads);
    memset(p->mem + part.from, 1, part.to - part.from);
}

static hdl_err open_cpu(hdl_probe *p, hdl_isa isa, size_t stream_bytes, hdl_errmsg *why)
{
    bool is_avx512 =
        isa == HDL_ISA_AVX512 || (isa == HDL_ISA_AUTO && hdl_ops_cpu(HDL_ISA_AVX512, NULL) != NULL);
    if (!hdl_ops_cpu(HDL_ISA_AVX2, why))
        return HDL_UNSUPPORTED;
    p->loops = is_avx512 ? &hdl_probe_avx512 : &hdl_probe_avx2;
    p->bytes = stream_bytes / GRAIN * GRAIN;
    p->mem = hdl_device_alloc(p->device, p->bytes);
    if (!p->mem)
        return hdl_fail(HDL_NOMEM, why, "cannot measure; no %zu bytes for the stream",
                        stream_bytes);
    p->peak_by = "registers";
    hdl_stream_run(hdl_device_stream(p->device), fill, p);
    return HDL_OK;
}

hdl_err hdl_probe_open(hdl_probe **out, hdl_device *device, hdl_isa isa, size_t stream_bytes,
                       hdl_errmsg *why)
{
    *out = NULL;
    hdl_probe *p = calloc(1, sizeof *p);
    if (!p)
        return hdl_fail(HDL_NOMEM, why, "cannot measure; out of memory");
    p->device = device;
    hdl_err err = hdl_device_is_host(device) ? open_cpu(p, isa, stream_bytes, why)
                                             : hdl_probe_open_device(p, why);
    if (err != HDL_OK) {
        hdl_probe_close(p);
        return err;
    }
    *out = p;
    return HDL_OK;
}

void hdl_probe_close(hdl_probe *p)
{
    if (!p)
        return;
    if (!hdl_device_is_host(p->device))
        hdl_probe_close_device(p);
    if (p->mem)
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
    if (p->roof)
        return hdl_probe_stream_device(p);
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
    if (p->roof)
        return hdl_probe_peak_device(p, arith);
    double (*const loops[])(uint64_t) = {NULL, p->loops->f32, p->loops->bf16, p->loops->int8};
    p->loop = loops[arith];
    if (!p->loop)
        return 0;
    uint64_t start = hdl_clock_now_ns();
    hdl_stream_run(hdl_device_stream(p->device), burst, p);
    return p->ops * 1e9 / (double)(hdl_clock_now_ns() - start);
}

const char *hdl_probe_peak_by(const hdl_probe *p) { return p->peak_by ? p->peak_by : "nobody"; }
