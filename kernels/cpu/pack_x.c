/* SPDX-License-Identifier: Apache-2.0 */
/* Activations as integers, for the formats of weights that are: the same panels on all levels. */
#include "kernels/cpu/gemm.h"

void hdl_gemm_pack_ints(const hdl_pack_x_args *a)
{
    size_t m = a->block_tokens, words = HDL_INT_X_BYTES / 4 * m; /* of 32 k */
    int32_t *group = (int32_t *)(void *)a->panel + a->from / HDL_Q8_GROUP * words + a->lane;
    for (uint32_t k = a->from; k < a->to; k += HDL_Q8_GROUP, group += words) {
        v16i q[2] = {v16i_set1(0), v16i_set1(0)};
        int32_t quads[HDL_Q8_GROUP / 4];
        float scale = 0;
        if (a->x && a->ints) {
            scale = 1;
            for (size_t half = 0; half < 2; half++)
                q[half] = v16_to_i32(v16_int8_clamp(v16_load(a->x + k + half * HDL_LANES)));
        } else if (a->x) {
            scale = v16_q8_group(v16_load(a->x + k), v16_load(a->x + k + HDL_LANES), q);
        }
        memcpy(group, &scale, sizeof scale);
        for (size_t half = 0; half < 2; half++) {
            group[(1 + half) * m] = (int32_t)v16_fold(v16_from_i32(q[half])); /* exact */
            v16i_store_u8((uint8_t *)quads + half * HDL_LANES, q[half]);
        }
        for (uint32_t i = 0; i < HDL_Q8_GROUP / 4; i++)
            group[(3 + i) * m] = quads[i];
    }
}
