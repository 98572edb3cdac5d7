/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of weights into tiles (gemm.h). Cold, but a model has billions of them: Q8 groups are
 * quantised sixteen lanes at a time. */
#include "base/checked.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/source.h"

enum { PIECE = 256 }; /* k of a row that are read at a time */

size_t hdl_cpu_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    bool leaves_ok = n_leaves > 0 && n_leaves <= HDL_LEAVES_MAX && hdl_is_pow2(n_leaves) &&
                     (n_leaves == 1 || k % (n_leaves * HDL_LEAF_UNIT) == 0);
    uint32_t k_unit = format == HDL_WFORMAT_Q8 ? HDL_Q8_GROUP : format == HDL_WFORMAT_BF16 ? 2 : 1;
    bool known =
        format == HDL_WFORMAT_F32 || format == HDL_WFORMAT_BF16 || format == HDL_WFORMAT_Q8;
    if (n == 0 || k == 0 || !leaves_ok || k % k_unit != 0 || !known)
        return 0;
    size_t bytes;
    return hdl_mul_size(hdl_div_ceil_u32(n, HDL_TILE), hdl_tile_bytes(format, k), &bytes) ? bytes
                                                                                          : 0;
}

/* One group of 32 k of one row. */
static void pack_q8_group(unsigned char *group, uint32_t lane, v16 a, v16 b)
{
    v16i q[2];
    float *scales = (float *)(void *)group;
    scales[lane] = v16_q8_group(a, b, q);
    unsigned char *values = group + HDL_TILE * sizeof(float);
    uint8_t bytes[HDL_Q8_GROUP];
    for (int half = 0; half < 2; half++)
        v16i_store_u8(bytes + half * HDL_LANES, v16i_add(q[half], v16i_set1(128)));
    for (uint32_t quad = 0; quad < HDL_Q8_GROUP / 4; quad++)
        memcpy(values + (quad * HDL_TILE + lane) * 4, bytes + quad * 4, 4);
}

/* k [at, at + 32) of one row into its tile. */
static void pack_chunk(const hdl_weight *w, uint32_t row, uint32_t at, v16 a, v16 b)
{
    unsigned char *tile =
        (unsigned char *)w->data + row / HDL_TILE * hdl_tile_bytes(w->format, w->k);
    uint32_t lane = row % HDL_TILE, count = hdl_min_u32(w->k - at, 2 * HDL_LANES);
    if (w->format == HDL_WFORMAT_Q8) {
        pack_q8_group(tile + at / HDL_Q8_GROUP * (size_t)HDL_Q8_TILE_BYTES, lane, a, b);
        return;
    }
    if (w->format == HDL_WFORMAT_F32) {
        float x[2 * HDL_LANES], *dst = (float *)(void *)tile + (size_t)at * HDL_TILE + lane;
        v16_store(x, a);
        v16_store(x + HDL_LANES, b);
        for (uint32_t i = 0; i < count; i++)
            dst[i * HDL_TILE] = x[i];
        return;
    }
    uint16_t h[2 * HDL_LANES];
    v16i_store_u16(h, v16_to_bf16(a));
    v16i_store_u16(h + HDL_LANES, v16_to_bf16(b));
    uint32_t *dst = (uint32_t *)(void *)tile + (size_t)at / 2 * HDL_TILE + lane;
    for (uint32_t i = 0; i < count / 2; i++)
        dst[i * HDL_TILE] = (uint32_t)h[2 * i] << 16 | h[2 * i + 1];
}

/* Rows n.. of the last tile do not exist; they hold zeros so that no kernel need know. */
static void zero_tail(const hdl_weight *w)
{
    for (uint32_t row = hdl_weight_rows(w); row % HDL_TILE != 0; row++)
        for (uint32_t at = 0; at < w->k; at += HDL_Q8_GROUP)
            pack_chunk(w, row, at, v16_zero(), v16_zero());
}

void hdl_cpu_weight_pack(const hdl_pack_args *a)
{
    const hdl_weight *w = a->dst;
    HDL_ASSERT_EQ(a->src.n_cols, w->k);
    HDL_ASSERT_LE((uint64_t)a->row_at + a->src.n_rows, hdl_weight_rows(w));
    for (uint32_t r = 0; r < a->src.n_rows; r++)
        for (uint32_t from = 0; from < w->k; from += PIECE) {
            float x[PIECE] = {0};
            hdl_span span = {.row = r, .col = from, .n = hdl_min_u32(PIECE, w->k - from)};
            hdl_source_row(&a->src, span, x);
            for (uint32_t at = 0; at < span.n; at += HDL_Q8_GROUP)
                pack_chunk(w, a->row_at + r, from + at, v16_load(x + at),
                           v16_load(x + at + HDL_LANES));
        }
    if (a->row_at + a->src.n_rows == hdl_weight_rows(w))
        zero_tail(w);
}
