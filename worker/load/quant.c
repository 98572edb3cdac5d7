/* SPDX-License-Identifier: Apache-2.0 */
/* How matrices are held: as the file has them, or as --weights asks. The conversion itself is
 * ops->weight_pack, so that each backend packs for its own kernels. */
#include "worker/load/quant.h"

#include "base/assert.h"

/* Integers with a scale per group: the format whose codes, groups and scales are the encoding's. A
 * block's factors are those of neighbours in the file. */
static hdl_wkind int_kind(const hdl_source *s, uint32_t leaf_k)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    uint32_t bits = c->codebook == hdl_codebook_t2 ? 2 : c->codebook ? 4 : c->bits ? c->bits : 8;
    hdl_wkind kind = {.format = HDL_WFORMAT_Q8, .codebook = c->codebook};
    for (; kind.format < HDL_WFORMAT_COUNT; kind.format++) {
        const hdl_wformat_info *info = hdl_wformat_info_of(kind.format);
        if (info->bits != bits || info->group != c->group || info->has_mins != c->has_mins ||
            info->scales != c->scales)
            continue;
        if (leaf_k % info->block != 0 || s->col_at % info->block != 0 ||
            s->tiles.each % info->block != 0)
            kind.format = hdl_wformat_sibling(kind.format);
        return kind;
    }
    HDL_UNREACHABLE("no format for an encoding");
}

static hdl_wkind natural(const hdl_source *s, uint32_t leaf_k)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    if (s->by_columns) /* groups of neighbours lie across */
        return (hdl_wkind){.format = HDL_WFORMAT_F32};
    if (s->encoding == HDL_ENC_BF16)
        return (hdl_wkind){.format = HDL_WFORMAT_BF16};
    if (s->encoding == HDL_ENC_E4M3)
        for (hdl_wformat f = HDL_WFORMAT_FP8; f <= HDL_WFORMAT_FP8_32; f++)
            if (leaf_k % hdl_wformat_info_of(f)->group == 0 &&
                s->scale_cols % hdl_wformat_info_of(f)->group == 0)
                return (hdl_wkind){.format = f};
    if (c->group != 0)
        return int_kind(s, leaf_k);
    /* F32 itself; F16, of which bf16 would drop three bits; what has no groups of neighbours. */
    return (hdl_wkind){.format = HDL_WFORMAT_F32};
}

hdl_wkind hdl_quant_kind(const hdl_source *s, hdl_wformat asked, uint32_t leaf_k)
{
    hdl_wkind kind = natural(s, leaf_k);
    if (asked == HDL_WFORMAT_COUNT)
        return kind;
    /* Codes that are as small as those asked for stay: coding them again would only lose. */
    if (hdl_wformat_is_int(kind.format) && hdl_wformat_is_int(asked) &&
        hdl_wformat_info_of(kind.format)->bits <= hdl_wformat_info_of(asked)->bits)
        return kind;
    bool q4 = hdl_wformat_info_of(asked)->bits == 4;
    return (hdl_wkind){.format = asked, .codebook = q4 ? hdl_codebook_s4 : NULL};
}

static uint32_t gcd(uint32_t a, uint32_t b) { return b == 0 ? a : gcd(b, a % b); }

uint32_t hdl_quant_unit(const hdl_found *found, uint32_t leaf_k)
{
    const hdl_found_heads *h = &found->heads;
    return h->across ? gcd(gcd(leaf_k, h->each), gcd(h->step, h->first)) : leaf_k;
}

static bool has_format(const hdl_ops *ops, hdl_wformat format)
{
    uint32_t k = hdl_max_u32(hdl_wformat_info_of(format)->block, HDL_SOURCE_UNIT);
    return ops->weight_bytes(format, HDL_SOURCE_UNIT, k, 1) != 0;
}

hdl_err hdl_quant_kind_of(const hdl_wkinds *kinds, hdl_weight_at at, uint32_t leaf_k,
                          hdl_wkind *out, hdl_errmsg *why)
{
    const hdl_quant *q = HDL_CONTAINER_OF(kinds, const hdl_quant, kinds);
    hdl_found found;
    HDL_TRY(hdl_files_find(q->files, (hdl_files_ask){q->desc, at}, &found, why));
    *out = hdl_quant_kind(&found.src, q->asked, hdl_quant_unit(&found, leaf_k));
    if (q->ops && !has_format(q->ops, out->format))
        out->format = hdl_wformat_sibling(out->format);
    if (q->ops && !has_format(q->ops, out->format) && out->format == HDL_WFORMAT_Q2)
        out->format = HDL_WFORMAT_Q4; /* the same codebook, twice the bytes */
    return HDL_OK;
}
