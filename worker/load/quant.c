/* SPDX-License-Identifier: Apache-2.0 */
/* Which format the matrices get. The quantisation itself is ops->weight_pack, so that each backend
 * packs for its own kernels. */
#include "base/log.h"
#include "worker/load/place.h"
#include "worker/model/arch.h"

hdl_err hdl_quant_choose(const hdl_model_desc *desc, const hdl_st *st, hdl_wformat *format,
                         hdl_errmsg *why)
{
    char name[256];
    if (*format != HDL_WFORMAT_COUNT)
        return HDL_OK;
    if (!hdl_arch_weight_name(hdl_arch_of(desc), (hdl_weight_at){HDL_WSLOT_Q, 0, 0}, name,
                              sizeof(name)))
        return hdl_fail(HDL_BUG, why,
                        "the architecture names no query weight; a table is wrong; "
                        "report this");
    const hdl_st_tensor *t = hdl_st_find(st, name);
    if (!t)
        return hdl_fail(
            HDL_CORRUPT, why,
            "tensor %.120s is missing; the files are not of this model; fetch the model "
            "again",
            name);
    switch (t->dtype) {
    case HDL_DTYPE_BF16: *format = HDL_WFORMAT_BF16; return HDL_OK;
    case HDL_DTYPE_F32: *format = HDL_WFORMAT_F32; return HDL_OK;
    case HDL_DTYPE_F16:
        /* bf16 would drop three bits of every weight. */
        HDL_LOG(INFO, LOAD, "expand", "from=f16 to=f32 bytes_factor=2");
        *format = HDL_WFORMAT_F32;
        return HDL_OK;
    default:
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tensor %.120s is of type %.20s; F32, F16 and BF16 are supported; use the "
                        "bf16 release of the model",
                        name, t->dtype_name);
    }
}
