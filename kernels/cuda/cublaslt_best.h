/* SPDX-License-Identifier: Apache-2.0 */
/* The quickest large product that cuBLASLt finds on this device: a roof for bench/, nothing that a
 * model runs on. The library is found when it is first asked for. Owner: roof.cu. */
#pragma once

#include "kernels/cuda/cuda.h"

struct cublaslt_best;

#ifdef __CUDACC__
/* NULL: no library, none of its ways takes this arithmetic, or no memory for the matrices. */
cublaslt_best *cublaslt_best_open(hdl_plugin_device *device, hdl_plugin_arith arith);
void cublaslt_best_close(cublaslt_best *best); /* NULL is fine */
/* One product, in order of the stream. */
hdl_err cublaslt_best_run(cublaslt_best *best, double *flop);
#else
static inline cublaslt_best *cublaslt_best_open(hdl_plugin_device *, hdl_plugin_arith)
{
    return NULL;
}
static inline void cublaslt_best_close(cublaslt_best *) {}
static inline hdl_err cublaslt_best_run(cublaslt_best *, double *) { return HDL_UNSUPPORTED; }
#endif
