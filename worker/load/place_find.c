/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "worker/load/place_impl.h"

enum { NAME_BYTES = 256 };

static hdl_err check_tensor(const hdl_placer *p, const hdl_st_tensor *t, hdl_weight_at at)
{
    const hdl_slot_info *info = hdl_slot_info_of(at.slot);
    const hdl_model_desc *desc = p->model->desc;
    uint32_t n_dims = info->cols == HDL_DIM_NONE ? 1 : 2;
    uint64_t rows = hdl_dim_size(desc, info->rows), cols = hdl_dim_size(desc, info->cols);
    if (t->dtype != HDL_DTYPE_F32 && t->dtype != HDL_DTYPE_F16 && t->dtype != HDL_DTYPE_BF16)
        return hdl_fail(HDL_UNSUPPORTED, p->why,
                        "tensor %.120s is of type %.20s; F32, F16 and BF16 are supported; use the "
                        "bf16 release of the model",
                        t->name, t->dtype_name);
    if (t->n_dims != n_dims || t->shape[0] != rows || (n_dims == 2 && t->shape[1] != cols))
        return hdl_fail(HDL_CORRUPT, p->why,
                        "tensor %.120s has %u dimensions, %" PRIu64 " x %" PRIu64
                        "; config.json asks for %u, %" PRIu64 " x %" PRIu64
                        "; the files do not belong together; fetch the model again",
                        t->name, t->n_dims, t->n_dims > 0 ? t->shape[0] : 0,
                        t->n_dims > 1 ? t->shape[1] : 1, n_dims, rows, cols);
    return HDL_OK;
}

hdl_err hdl_place_find(hdl_placer *p, hdl_weight_at at, const hdl_st_tensor **out)
{
    char name[NAME_BYTES];
    const hdl_arch *arch = hdl_arch_of(p->model->desc);
    if (!hdl_arch_weight_name(arch, at, name, sizeof(name)))
        return hdl_fail(HDL_BUG, p->why,
                        "%s names no weight for %s; its table is wrong; report "
                        "this",
                        arch->name, hdl_slot_info_of(at.slot)->name);
    const hdl_st_tensor *t = hdl_st_find(p->st, name);
    if (!t)
        return hdl_fail(
            HDL_CORRUPT, p->why,
            "tensor %.120s is missing; the files are not complete or not of this model; "
            "fetch the model again",
            name);
    HDL_TRY(check_tensor(p, t, at));
    p->used[t - hdl_st_at(p->st, 0)] = 1;
    *out = t;
    return HDL_OK;
}

static bool harmless(const hdl_model_desc *desc, const char *name)
{
    size_t len = strlen(name);
    static const char inv[] = "rotary_emb.inv_freq"; /* computed anew from config.json */
    if (len >= sizeof(inv) - 1 && strcmp(name + len - (sizeof(inv) - 1), inv) == 0)
        return true;
    return desc->tied && strcmp(name, "lm_head.weight") == 0; /* the embedding once more */
}

hdl_err hdl_place_check_unknown(const hdl_placer *p)
{
    for (size_t i = 0; i < hdl_st_count(p->st); i++) {
        const char *name = hdl_st_at(p->st, i)->name;
        if (!p->used[i] && !harmless(p->model->desc, name))
            return hdl_fail(HDL_UNSUPPORTED, p->why,
                            "tensor %.120s has no place in %s; leaving it out might give wrong "
                            "text; choose a model of a supported architecture, or report it",
                            name, p->model->desc->arch);
    }
    return HDL_OK;
}
