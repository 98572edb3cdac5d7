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

/* From codes to what is packed: the index in the codebook, or the code without its sign. */
typedef struct code_bytes {
    bool listed;        /* the codebook's numbers do not follow one another */
    int offset;         /* else a code and this */
    uint8_t index[256]; /* of a code + 128 */
} code_bytes;

static code_bytes code_bytes_of(const hdl_weight *w)
{
    uint32_t bits = hdl_wformat_info_of(w->format)->bits;
    code_bytes c = {.offset = bits == 8 ? HDL_Q8_OFFSET : HDL_Q6_OFFSET};
    if (w->codebook)
        c.offset = -w->codebook[0];
    for (int i = 15; w->codebook && i >= 0; i--) {
        c.index[w->codebook[i] + 128] = (uint8_t)i;
        c.listed = c.listed || (i < 1 << bits && w->codebook[i] != w->codebook[0] + i);
    }
    return c;
}

/* One row of a packed weight. */
typedef struct packed_row {
    const hdl_weight *w;
    unsigned char *tile;
    uint32_t lane;
    const code_bytes *codes;
} packed_row;

static packed_row row_of(const hdl_weight *w, uint32_t row, const code_bytes *codes)
{
    size_t bytes = hdl_tile_bytes(w->format, w->k);
    return (packed_row){.w = w,
                        .tile = (unsigned char *)w->data + row / HDL_TILE * bytes,
                        .lane = row % HDL_TILE,
                        .codes = codes};
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

/* Word i of a piece: four k of a row, as one lane of a tile holds them. */
static uint32_t word_of(const uint8_t *bytes, uint32_t i)
{
    uint32_t word;
    memcpy(&word, bytes + 4 * i, sizeof word);
    return word;
}

static void put_word(const packed_row *r, unsigned char *quads, uint32_t i, uint32_t word)
{
    memcpy(quads + ((size_t)i * HDL_TILE + r->lane) * 4, &word, sizeof word);
}

/* Bytes hold codes of one row alone: rows may be packed by different threads. */
static void store_q4(const packed_row *r, unsigned char *pairs, const uint8_t *codes)
{
    for (uint32_t i = 0; i < 4; i++)
        put_word(r, pairs, i, word_of(codes, 2 * i) | word_of(codes, 2 * i + 1) << 4);
}

static void store_q2(const packed_row *r, unsigned char *halves, const uint8_t *codes)
{
    for (uint32_t i = 0; i < 2; i++, codes += 16)
        put_word(r, halves, i,
                 word_of(codes, 0) | word_of(codes, 1) << 2 | word_of(codes, 2) << 4 |
                     word_of(codes, 3) << 6);
}

/* Three words hold four: the last one's bits lie above theirs, two by two from the highest on. */
static void store_q6(const packed_row *r, unsigned char *quads, const uint8_t *codes)
{
    for (uint32_t half = 0; half < 2; half++, codes += 16)
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t bits = word_of(codes, 3) >> (4 - 2 * i) & 0x03030303;
            put_word(r, quads, half * 3 + i, word_of(codes, i) | bits << 6);
        }
}

static void store_q8(const packed_row *r, unsigned char *quads, const uint8_t *codes)
{
    for (uint32_t i = 0; i < 8; i++)
        put_word(r, quads, i, word_of(codes, i));
}

/* Stored sixteen or four at a time, as they are read again: narrower ones would make that wait. */
static void bytes_of(const code_bytes *c, const int8_t *codes, uint8_t *bytes)
{
    if (!c->listed) {
        const __m128i offset = _mm_set1_epi8((char)c->offset);
        for (uint32_t i = 0; i < HDL_Q8_GROUP; i += 16) {
            __m128i q = _mm_loadu_si128((const __m128i *)(const void *)(codes + i));
            _mm_storeu_si128((__m128i *)(void *)(bytes + i), _mm_add_epi8(q, offset));
        }
        return;
    }
    for (uint32_t i = 0; i < HDL_Q8_GROUP; i += 4) {
        uint32_t word = 0;
        for (uint32_t j = 4; j-- > 0;)
            word = word << 8 | c->index[codes[i + j] + 128];
        memcpy(bytes + i, &word, sizeof word);
    }
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
    uint8_t bytes[HDL_Q8_GROUP];
    uint32_t at = k % info->block;
    unsigned char *head = r->tile + hdl_tile_bytes(r->w->format, k - at);
    unsigned char *codes =
        head + ((size_t)hdl_wformat_head_bytes(info) + at * info->bits / 8) * HDL_TILE;
    store_scales(r, head, at, piece);
    bytes_of(r->codes, piece->codes, bytes);
    switch (info->bits) {
    case 2: store_q2(r, codes, bytes); return;
    case 4: store_q4(r, codes, bytes); return;
    case 6: store_q6(r, codes, bytes); return;
    default: store_q8(r, codes, bytes); return;
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
    const code_bytes codes = code_bytes_of(a->dst);
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
                packed_row r = row_of(a->dst, a->row_at + row + i, &codes);
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
    const code_bytes codes = code_bytes_of(w);
    HDL_ASSERT_EQ(a->src.n_cols, w->k);
    HDL_ASSERT_LE((uint64_t)a->row_at + a->src.n_rows, hdl_weight_rows(w));
    hdl_wkind kind = {w->format, w->codebook};
    bool ints = hdl_wformat_is_int(w->format), scaled = hdl_wformat_info_of(w->format)->group != 0;
    if (!scaled)
        pack_floats(a, store_float_piece);
    else if (w->format == HDL_WFORMAT_Q8 && !hdl_kind_keeps(a->src.encoding, kind))
        pack_floats(a, store_q8_piece);
    else
        for (uint32_t i = 0; i < a->src.n_rows; i++) {
            packed_row r = row_of(w, a->row_at + i, &codes);
            if (ints)
                pack_ints(&r, &a->src, i);
            else
                pack_fp8(&r, &a->src, i);
        }
    if (a->row_at + a->src.n_rows != hdl_weight_rows(w))
        return;
    for (uint32_t row = hdl_weight_rows(w); row % HDL_TILE != 0; row++) {
        packed_row r = row_of(w, row, &codes);
        zero_row(&r);
    }
}
