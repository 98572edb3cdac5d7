/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void cap_range(const void *args, size_t from, size_t to)
{
    const hdl_softcap_args *a = args;
    for (size_t i = from; i < to; i++)
        a->x[i] = hdl_softcap(a->x[i], a->cap);
}

void hdl_ref_softcap(const hdl_softcap_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 1024, cap_range, a);
}
