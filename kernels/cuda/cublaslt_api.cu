/* SPDX-License-Identifier: Apache-2.0 */
/* Finding cuBLASLt (cublaslt_api.h). */
#include <dlfcn.h>

#include "kernels/cuda/cublaslt_api.h"

#ifndef HDL_NO_CUBLASLT
const lt_calls *lt_find()
{
    static lt_calls calls;
    static bool found;
    if (found)
        return &calls;
    void *library = dlopen(LT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    found = library != NULL;
#define LT_FIND(call)                                                                              \
    if (found) {                                                                                   \
        calls.call = (decltype(calls.call))dlsym(library, #call);                                  \
        found = calls.call != NULL;                                                                \
    }
    LT_CALLS(LT_FIND)
#undef LT_FIND
    return found ? &calls : NULL;
}
#endif
