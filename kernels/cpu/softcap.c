/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static void cap_range(const void *args, size_t from, size_t to)
{
    const hdl_softcap_args *a = args;
    size_t i = from;
    for (; i + HDL_LANES <= to; i += HDL_LANES)
        v16_store(a->x + i, v16_softcap(v16_load(a->x + i), a->cap));
    for (; i < to; i++)
        a->x[i] = hdl_softcap(a->x[i], a->cap);
}

void HDL_ISA_NAME(softcap)(const hdl_softcap_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 4096, cap_range, a);
}
