/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of matrices, on the host: a piece of rows is laid out in memory of the loader thread and
 * stored on the device as it is complete. Roof: the link. Bits: codes, scales and roundings as ref.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/weight.h"

extern "C" {
#include "kernels/codec/pack.h"
}

enum { PIECE_BYTES = 1 << 20 };

size_t hdl_cuda_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    if (n == 0 || k == 0 || format >= HDL_WFORMAT_COUNT || n_leaves == 0 ||
        n_leaves > HDL_LEAVES_MAX || (n_leaves & (n_leaves - 1)) != 0 ||
        (uint64_t)n * k > (uint64_t)1 << 40)
        return 0;
    if (n_leaves > 1 && k % (n_leaves * HDL_LEAF_UNIT) != 0)
        return 0;
    const hdl_wformat_info *info = hdl_wformat_info_of(format);
    if (info->scales != HDL_SCALES_F32) /* the loader takes the sibling */
        return 0;
    if (info->group && k / n_leaves % hdl_max_u32(info->group, HDL_SOURCE_UNIT) != 0)
        return 0;
    return weight_layout_of(format, n, k).bytes;
}

/* Rows of a piece on the host. */
struct piece {
    unsigned char *codes;
    float *scales, *mins; /* mins NULL: none */
};

static uint8_t index_of(const int8_t *codebook, int8_t code)
{
    for (uint8_t i = 0; i < 16; i++)
        if (codebook[i] == code)
            return i;
    HDL_UNREACHABLE("a code that the codebook does not have");
}

/* Codebooks are compared by address, and the codecs linked into this library have copies of their
 * own. */
static const int8_t *own_book(const int8_t *book)
{
    for (int e = 0; book && e < HDL_ENC_COUNT; e++) {
        const hdl_codec *codec = hdl_codec_of((hdl_enc)e);
        if (codec && codec->codebook && memcmp(codec->codebook, book, 16) == 0)
            return codec->codebook;
    }
    return book;
}

static void pack_ints(const hdl_pack_args *a, uint32_t row, const piece *to)
{
    const hdl_weight *w = a->dst;
    const hdl_wformat_info *info = hdl_wformat_info_of(w->format);
    hdl_wkind kind = {w->format, own_book(w->codebook)};
    uint32_t each = HDL_SOURCE_UNIT / info->group;
    for (uint32_t at = 0; at < w->k; at += HDL_SOURCE_UNIT) {
        hdl_pack_piece p;
        hdl_span span = {row, at, HDL_SOURCE_UNIT};
        hdl_pack_ints(&a->src, span, kind, &p);
        for (uint32_t i = 0; i < HDL_SOURCE_UNIT; i++) {
            uint32_t place = at + weight_place(i);
            if (info->bits == 8) {
                to->codes[place] = (unsigned char)p.codes[i];
                continue;
            }
            /* The piece was zeroed. */
            uint32_t bit = place * info->bits;
            unsigned idx = index_of(w->codebook, p.codes[i]);
            HDL_ASSERT_LT(idx, 1u << info->bits);
            to->codes[bit / 8] = (unsigned char)(to->codes[bit / 8] | idx << bit % 8);
        }
        memcpy(to->scales + at / info->group, p.scales, each * sizeof(float));
        if (to->mins)
            memcpy(to->mins + at / info->group, p.mins, each * sizeof(float));
    }
}

static void pack_fp8(const hdl_pack_args *a, uint32_t row, const piece *to)
{
    uint32_t group = hdl_wformat_info_of(a->dst->format)->group;
    for (uint32_t at = 0; at < a->dst->k; at += group) {
        hdl_span span = {row, at, group};
        to->scales[at / group] = hdl_pack_fp8(&a->src, span, to->codes + at);
    }
}

static void pack_floats(const hdl_pack_args *a, uint32_t row, const piece *to)
{
    for (uint32_t at = 0; at < a->dst->k; at += HDL_SOURCE_UNIT) {
        float x[HDL_SOURCE_UNIT];
        hdl_span span = {row, at, hdl_min_u32(HDL_SOURCE_UNIT, a->dst->k - at)};
        hdl_source_values(&a->src, span, x);
        if (a->dst->format == HDL_WFORMAT_F32) {
            memcpy(to->codes + at * sizeof(float), x, span.n * sizeof(float));
            continue;
        }
        for (uint32_t i = 0; i < span.n; i++) {
            uint16_t h = hdl_bf16_from_f32(x[i]);
            memcpy(to->codes + (at + i) * sizeof h, &h, sizeof h);
        }
    }
}

static void pack_row(const hdl_pack_args *a, uint32_t row, const piece *to)
{
    if (hdl_wformat_is_int(a->dst->format))
        pack_ints(a, row, to);
    else if (hdl_wformat_info_of(a->dst->format)->group != 0)
        pack_fp8(a, row, to);
    else
        pack_floats(a, row, to);
}

void hdl_cuda_weight_pack(const hdl_pack_args *a)
{
    const hdl_weight *w = a->dst;
    const hdl_wformat_info *info = hdl_wformat_info_of(w->format);
    weight_layout l = weight_layout_of(w->format, hdl_weight_rows(w), w->k);
    size_t groups = info->group ? w->k / info->group : 0, scale_bytes = groups * sizeof(float);
    HDL_ASSERT_EQ(a->src.n_cols, w->k);
    HDL_ASSERT_LE((uint64_t)a->row_at + a->src.n_rows, hdl_weight_rows(w));
    size_t per_row = l.row_bytes + 2 * scale_bytes, at_once = PIECE_BYTES / per_row + 1;
    unsigned char *mem = (unsigned char *)malloc(at_once * per_row + 64);
    HDL_ASSERT(mem != NULL); /* a megabyte while loading */
    for (uint32_t row = 0; row < a->src.n_rows;) {
        uint32_t n = hdl_min_u32((uint32_t)at_once, a->src.n_rows - row);
        size_t to = (size_t)a->row_at + row;
        float *scales = (float *)(void *)(mem + (n * l.row_bytes + 63) / 64 * 64);
        memset(mem, 0, n * l.row_bytes);
        for (uint32_t i = 0; i < n; i++) {
            piece p = {mem + i * l.row_bytes, scales + i * groups,
                       info->has_mins ? scales + (n + i) * groups : NULL};
            pack_row(a, row + i, &p);
        }
        unsigned char *data = (unsigned char *)w->data;
        hdl_cuda_store(data + to * l.row_bytes, mem, n * l.row_bytes);
        if (groups)
            hdl_cuda_store(data + l.scales_at + to * scale_bytes, scales, n * scale_bytes);
        if (info->has_mins)
            hdl_cuda_store(data + l.mins_at + to * scale_bytes, scales + n * groups,
                           n * scale_bytes);
        row += n;
    }
    free(mem);
}
