/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

const hdl_ops *hdl_ops_cpu(hdl_isa isa, hdl_errmsg *why)
{
    (void)isa;
    (void)why;
    return hdl_ops_ref();
}
