/* SPDX-License-Identifier: Apache-2.0 */
/* Which format the matrices get. The quantisation itself is ops->weight_pack, so that each backend
 * packs for its own kernels. */
#include "base/log.h"
#include "worker/load/place.h"

hdl_err hdl_quant_choose(const hdl_model_desc *desc, hdl_files *files, hdl_wformat *format,
                         hdl_errmsg *why)
{
    hdl_found found;
    if (*format != HDL_WFORMAT_COUNT)
        return HDL_OK;
    HDL_TRY(hdl_files_find(files, (hdl_files_ask){desc, {HDL_WSLOT_O, 0, 0}}, &found, why));
    switch (found.src.encoding) {
    case HDL_ENC_BF16: *format = HDL_WFORMAT_BF16; return HDL_OK;
    case HDL_ENC_F16:
        /* bf16 would drop three bits of every weight. */
        HDL_LOG(INFO, LOAD, "expand", "from=f16 to=f32 bytes_factor=2");
        *format = HDL_WFORMAT_F32;
        return HDL_OK;
    default: *format = HDL_WFORMAT_F32; return HDL_OK;
    }
}
