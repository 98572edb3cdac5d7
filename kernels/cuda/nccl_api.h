/* SPDX-License-Identifier: Apache-2.0 */
/* What of NCCL is used, and where it comes from: the library of that name, found when collectives
 * are first asked for, so that a machine with one GPU needs none; on fibers, fiber/nccl.h, which
 * does the same between threads of one process. NCCL 2.19 or later. */
#pragma once

#include "kernels/cuda/cuda.h"

#ifndef __CUDACC__
#include "kernels/cuda/fiber/nccl.h"
#elif __has_include(<nccl.h>)
#include <nccl.h>
#else
#define HDL_NO_NCCL 1
#endif

#ifndef HDL_NO_NCCL
#define NCCL_CALLS(X)                                                                              \
    X(ncclGetErrorString)                                                                          \
    X(ncclGetUniqueId)                                                                             \
    X(ncclCommInitRankConfig)                                                                      \
    X(ncclCommGetAsyncError)                                                                       \
    X(ncclCommSplit)                                                                               \
    X(ncclCommFinalize)                                                                            \
    X(ncclCommDestroy)                                                                             \
    X(ncclCommAbort)                                                                               \
    X(ncclAllGather)                                                                               \
    X(ncclSend)                                                                                    \
    X(ncclRecv)                                                                                    \
    X(ncclGroupStart)                                                                              \
    X(ncclGroupEnd)

struct nccl_calls {
#define NCCL_MEMBER(call) decltype(&::call) call;
    NCCL_CALLS(NCCL_MEMBER)
#undef NCCL_MEMBER
};

/* NULL, with the reason, where the library is missing or too old. Loaded once, for good. */
const nccl_calls *nccl_find(hdl_errmsg *why);
#endif
