/* SPDX-License-Identifier: Apache-2.0 */
/* Models without files: shapes of published ones, weights made up on the device. For speed alone:
 * what such a model says is noise. Cold; the main thread. */
#pragma once

#include <heddle/err.h>
#include <stdbool.h>

#include "bench/kernels/made.h"
#include "worker/model/slots.h"
#include "worker/worker.h"

/* "8b", "qwen3-30b-a3b", "gpt-oss-20b", "tiny", "tiny-moe", or a folder with a config.json; behind
 * it perhaps ":FORMAT" of all matrices (f32, bf16, fp8, q8, q4). Without it they are as the
 * configuration says: FP8 or, for experts in MXFP4, Q4; else bf16. */
typedef struct hdl_bench_made {
    char folder[128]; /* has config.json; made and removed by open and close unless it was given */
    const char *path; /* what the worker is told: that, or the folder given */
    hdl_wformat dense, experts;
    hdl_made made;
    hdl_wkinds kinds;
    hdl_worker_made hook; /* for hdl_worker_opts; its argument is this struct */
} hdl_bench_made;

hdl_err hdl_bench_made_open(hdl_bench_made *out, const char *name, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_bench_made_close(hdl_bench_made *made);
