/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of weights into tiles (gemm.h). Cold, but a model has billions of them: floats are
 * converted, and quantised to Q8, sixteen lanes at a time. */
#include "base/checked.h"
#include "kernels/codec/pack.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/source.h"

enum {
    PIECE = HDL_SOURCE_PIECE, /* k of a row that are read at a time */
    STRIP = 32                /* rows of a transposed source whose values share cache lines */
};

size_t hdl_cpu_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    bool leaves_ok = n_leaves > 0 && n_leaves <= HDL_LEAVES_MAX && hdl_is_pow2(n_leaves) &&
                     (n_leaves == 1 || k % (n_leaves * HDL_LEAF_UNIT) == 0);
    if (n == 0 || k == 0 || !leaves_ok || format >= HDL_WFORMAT_COUNT)
        return 0;
    if (k / n_leaves % hdl_wformat_info_of(format)->block != 0)
        return 0;
    size_t bytes;
    return hdl_mul_size(hdl_div_ceil_u32(n, HDL_TILE), hdl_tile_bytes(format, k), &bytes) ? bytes
                                                                                          : 0;
}

/* One row of a packed weight. */
typedef struct packed_row {
    const hdl_weight *w;
    unsigned char *tile;
    uint32_t lane;
    const uint8_t *index; /* [256] 4 and 2 bits: of a code + 128 in the codebook */
} packed_row;

static packed_row row_of(const hdl_weight *w, uint32_t row, const uint8_t *index)
{
    size_t bytes = hdl_tile_bytes(w->format, w->k);
    return (packed_row){.w = w,
                        .tile = (unsigned char *)w->data + row / HDL_TILE * bytes,
                        .lane = row % HDL_TILE,
                        .index = index};
}

static void store_floats(const packed_row *r, uint32_t at, v16 a, v16 b)
{
    uint32_t count = hdl_min_u32(r->w->k - at, 2 * HDL_LANES);
    if (r->w->format == HDL_WFORMAT_F32) {
        float x[2 * HDL_LANES];
        float *dst = (float *)(void *)r->tile + (size_t)at * HDL_TILE + r->lane;
        v16_store(x, a);
        v16_store(x + HDL_LANES, b);
        for (uint32_t i = 0; i < count; i++)
            dst[i * HDL_TILE] = x[i];
        return;
    }
    uint16_t h[2 * HDL_LANES];
    v16i_store_u16(h, v16_to_bf16(a));
    v16i_store_u16(h + HDL_LANES, v16_to_bf16(b));
    uint32_t *dst = (uint32_t *)(void *)r->tile + (size_t)at / 2 * HDL_TILE + r->lane;
    for (uint32_t i = 0; i < count / 2; i++)
        dst[i * HDL_TILE] = (uint32_t)h[2 * i] << 16 | h[2 * i + 1];
}

/* A byte holds two k of one row: rows may be packed by different threads. */
static void store_q4(const packed_row *r, unsigned char *pairs, const int8_t *codes)
{
    for (uint32_t i = 0; i < HDL_Q8_GROUP; i += 4) {
        unsigned char *quad = pairs + (i / 8 * HDL_TILE + r->lane) * 4;
        for (uint32_t j = 0; j < 4; j++) {
            unsigned char half = r->index[codes[i + j] + 128];
            quad[j] = (unsigned char)(i % 8 == 0 ? half : quad[j] | half << 4);
        }
    }
}

/* A byte holds four k of one row. */
static void store_q2(const packed_row *r, unsigned char *halves, const int8_t *codes)
{
    for (uint32_t i = 0; i < HDL_Q8_GROUP; i++) {
        unsigned char *at = halves + (i / 16 * HDL_TILE + r->lane) * 4 + i % 4;
        unsigned bits = (unsigned)r->index[codes[i] + 128] << i % 16 / 4 * 2;
        *at = (unsigned char)(i % 16 < 4 ? bits : *at | bits);
    }
}

/* Three bytes hold four k of one row. */
static void store_q6(const packed_row *r, unsigned char *quads, const int8_t *codes)
{
    for (uint32_t i = 0; i < HDL_Q8_GROUP; i++) {
        unsigned char *at = quads + (i / 16 * 3 * HDL_TILE + r->lane) * 4 + i % 4;
        unsigned u = (unsigned)(codes[i] + HDL_Q6_OFFSET);
        if (i % 16 < 12)
            at[i % 16 / 4 * HDL_TILE * 4] = (unsigned char)u;
        else
            for (uint32_t j = 0; j < 3; j++)
                at[j * HDL_TILE * 4] |= (unsigned char)((u >> (4 - 2 * j) & 3) << 6);
    }
}

static void store_q8(const packed_row *r, unsigned char *quads, const int8_t *codes)
{
    for (uint32_t i = 0; i < HDL_Q8_GROUP; i++)
        quads[(i / 4 * HDL_TILE + r->lane) * 4 + i % 4] = (unsigned char)(codes[i] + HDL_Q8_OFFSET);
}

/* f32 that was an f16. */
static uint16_t f16_of(float x)
{
    uint16_t h = (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
    HDL_ASSERT(x != x || hdl_f16_to_f32(h) == x);
    return h;
}

/* head: of the block; at: of the piece in it. */
static void store_scales(const packed_row *r, unsigned char *head, uint32_t at,
                         const hdl_pack_piece *piece)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(r->w->format);
    uint32_t per = HDL_Q8_GROUP / info->group, kinds = info->has_mins ? 2 : 1;
    uint16_t *f16 = (uint16_t *)(void *)head + r->lane;
    float *f32 = (float *)(void *)head + r->lane;
    if (info->scales == HDL_SCALES_FACTORS) {
        const hdl_factors *f = &piece->factors;
        int8_t *ints = (int8_t *)head + (2 + at / HDL_Q8_GROUP * per) * kinds * HDL_TILE + r->lane;
        HDL_ASSERT(at == 0 || (f16[0] == f->scale && (!info->has_mins || f16[HDL_TILE] == f->min)));
        f16[0] = f->scale;
        if (info->has_mins)
            f16[HDL_TILE] = f->min;
        for (uint32_t i = 0; i < per; i++) {
            ints[i * HDL_TILE] = f->scale_ints[i];
            if (info->has_mins)
                ints[(per + i) * HDL_TILE] = f->min_ints[i];
        }
        return;
    }
    for (uint32_t i = 0; i < per; i++)
        if (info->scales == HDL_SCALES_F16) {
            f16[i * HDL_TILE] = f16_of(piece->scales[i]);
        } else {
            f32[i * HDL_TILE] = piece->scales[i];
            if (info->has_mins)
                f32[(per + i) * HDL_TILE] = piece->mins[i];
        }
}

static void store_ints(const packed_row *r, uint32_t k, const hdl_pack_piece *piece)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(r->w->format);
    uint32_t at = k % info->block;
    unsigned char *head = r->tile + hdl_tile_bytes(r->w->format, k - at);
    unsigned char *codes =
        head + ((size_t)hdl_wformat_head_bytes(info) + at * info->bits / 8) * HDL_TILE;
    store_scales(r, head, at, piece);
    switch (info->bits) {
    case 2: store_q2(r, codes, piece->codes); return;
    case 4: store_q4(r, codes, piece->codes); return;
    case 6: store_q6(r, codes, piece->codes); return;
    default: store_q8(r, codes, piece->codes); return;
    }
}

/* k [from, from + n) of one row, as floats; x is padded with zeros to a multiple of 32. */
typedef void store_piece_fn(const packed_row *r, uint32_t from, uint32_t n, const float *x);

static void store_float_piece(const packed_row *r, uint32_t from, uint32_t n, const float *x)
{
    for (uint32_t at = 0; at < n; at += 2 * HDL_LANES)
        store_floats(r, from + at, v16_load(x + at), v16_load(x + at + HDL_LANES));
}

/* hdl_pack_ints of floats in vectors. */
static void store_q8_piece(const packed_row *r, uint32_t from, uint32_t n, const float *x)
{
    for (uint32_t at = 0; at < n; at += HDL_Q8_GROUP) {
        v16i q[2];
        hdl_pack_piece piece;
        piece.scales[0] = v16_q8_group(v16_load(x + at), v16_load(x + at + HDL_LANES), q);
        v16i_store_u8((uint8_t *)piece.codes, q[0]);
        v16i_store_u8((uint8_t *)piece.codes + HDL_LANES, q[1]);
        store_ints(r, from + at, &piece);
    }
}

static void pack_floats(const hdl_pack_args *a, store_piece_fn *store)
{
    float x[STRIP][PIECE] = {{0}};
    uint32_t strip = hdl_source_is_strided(&a->src) ? STRIP : 1, k = a->dst->k;
    for (uint32_t row = 0; row < a->src.n_rows; row += strip) {
        uint32_t n_rows = hdl_min_u32(strip, a->src.n_rows - row);
        for (uint32_t from = 0; from < k; from += PIECE) {
            hdl_span span = {.row = row, .col = from, .n = hdl_min_u32(PIECE, k - from)};
            if (strip > 1)
                hdl_source_strip(&a->src, span, n_rows, x[0]);
            else
                hdl_source_row(&a->src, span, x[0]);
            for (uint32_t i = 0; i < n_rows; i++) {
                packed_row r = row_of(a->dst, a->row_at + row + i, NULL);
                memset(x[i] + span.n, 0, (PIECE - span.n) * sizeof x[i][0]);
                store(&r, from, span.n, x[i]);
            }
        }
    }
}

static void pack_ints(const packed_row *r, const hdl_source *src, uint32_t row)
{
    hdl_wkind kind = {r->w->format, r->w->codebook};
    for (uint32_t at = 0; at < r->w->k; at += HDL_Q8_GROUP) {
        hdl_pack_piece piece;
        hdl_pack_ints(src, (hdl_span){row, at, HDL_Q8_GROUP}, kind, &piece);
        store_ints(r, at, &piece);
    }
}

static void store_fp8(const packed_row *r, uint32_t at, const uint8_t *codes, float scale)
{
    uint32_t group = hdl_wformat_info_of(r->w->format)->group;
    unsigned char *dst = r->tile + hdl_tile_bytes(r->w->format, at);
    ((float *)(void *)dst)[r->lane] = scale;
    dst += HDL_TILE * sizeof(float) + r->lane;
    for (uint32_t i = 0; i < group; i++)
        dst[i * HDL_TILE] = codes[i];
}

static void pack_fp8(const packed_row *r, const hdl_source *src, uint32_t row)
{
    uint32_t group = hdl_wformat_info_of(r->w->format)->group;
    for (uint32_t at = 0; at < r->w->k; at += group) {
        uint8_t codes[128];
        float scale = hdl_pack_fp8(src, (hdl_span){row, at, group}, codes);
        store_fp8(r, at, codes, scale);
    }
}

/* The last tile's rows beyond n hold zeros, so that no kernel need know. */
static void zero_row(const packed_row *r)
{
    static const hdl_pack_piece zero_piece;
    static const uint8_t zero_codes[128];
    uint32_t group = hdl_wformat_info_of(r->w->format)->group;
    bool ints = hdl_wformat_is_int(r->w->format);
    for (uint32_t at = 0; at < r->w->k; at += ints || group == 0 ? HDL_Q8_GROUP : group)
        if (ints)
            store_ints(r, at, &zero_piece);
        else if (group == 0)
            store_floats(r, at, v16_zero(), v16_zero());
        else
            store_fp8(r, at, zero_codes, 0);
}

void hdl_cpu_weight_pack(const hdl_pack_args *a)
{
    const hdl_weight *w = a->dst;
    uint8_t index[256] = {0};
    HDL_ASSERT_EQ(a->src.n_cols, w->k);
    HDL_ASSERT_LE((uint64_t)a->row_at + a->src.n_rows, hdl_weight_rows(w));
    for (int i = 15; w->codebook && i >= 0; i--)
        index[w->codebook[i] + 128] = (uint8_t)i;
    hdl_wkind kind = {w->format, w->codebook};
    bool ints = hdl_wformat_is_int(w->format), scaled = hdl_wformat_info_of(w->format)->group != 0;
    if (!scaled)
        pack_floats(a, store_float_piece);
    else if (w->format == HDL_WFORMAT_Q8 && !hdl_kind_keeps(a->src.encoding, kind))
        pack_floats(a, store_q8_piece);
    else
        for (uint32_t i = 0; i < a->src.n_rows; i++) {
            packed_row r = row_of(w, a->row_at + i, index);
            if (ints)
                pack_ints(&r, &a->src, i);
            else
                pack_fp8(&r, &a->src, i);
        }
    if (a->row_at + a->src.n_rows != hdl_weight_rows(w))
        return;
    for (uint32_t row = hdl_weight_rows(w); row % HDL_TILE != 0; row++) {
        packed_row r = row_of(w, row, index);
        zero_row(&r);
    }
}
