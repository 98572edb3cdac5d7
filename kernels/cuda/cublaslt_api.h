/* SPDX-License-Identifier: Apache-2.0 */
/* What of cuBLASLt is used, and where it comes from: the library of the toolkit that this was built
 * with, found when it is first asked for, so that the plugin loads where there is none. nvcc's
 * build alone; without its header HDL_NO_CUBLASLT is defined. */
#pragma once

#include "kernels/cuda/cuda.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <cublasLt.h>

#define LT_CALLS(X)                                                                                \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescInit_internal)                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutInit_internal)                                                           \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmul)

struct lt_calls {
#define LT_MEMBER(call) decltype(&::call) call;
    LT_CALLS(LT_MEMBER)
#undef LT_MEMBER
};

/* NULL where the library is missing. Loaded once, for good. Owner: the step thread. */
const lt_calls *lt_find();
#define LT_LIBRARY_OF(major)   "libcublasLt.so." #major
#define LT_LIBRARY_NAME(major) LT_LIBRARY_OF(major)
#define LT_LIBRARY             LT_LIBRARY_NAME(CUBLAS_VER_MAJOR)
#else
#define HDL_NO_CUBLASLT 1
#endif
