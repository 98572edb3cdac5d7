/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of weights into tiles (gemm.h). Cold, but a model has billions of them: Q8 groups are
 * quantised sixteen lanes at a time. */
#include "base/checked.h"
#include "kernels/cpu/gemm.h"

size_t hdl_cpu_weight_bytes(hdl_wformat format, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    bool leaves_ok = n_leaves > 0 && n_leaves <= HDL_LEAVES_MAX && hdl_is_pow2(n_leaves) &&
                     (n_leaves == 1 || k % (n_leaves * HDL_LEAF_UNIT) == 0);
    uint32_t k_unit = format == HDL_WFORMAT_Q8 ? HDL_Q8_GROUP : format == HDL_WFORMAT_BF16 ? 2 : 1;
    if (n == 0 || k == 0 || !leaves_ok || k % k_unit != 0 || format >= HDL_WFORMAT_COUNT)
        return 0;
    size_t bytes;
    return hdl_mul_size(hdl_div_ceil_u32(n, HDL_TILE), hdl_tile_bytes(format, k), &bytes) ? bytes
                                                                                          : 0;
}

/* Up to 16 elements of a row from `at`; zeros beyond. */
static v16 load(const void *row, hdl_dtype dtype, uint32_t at, uint32_t count)
{
    if (count >= HDL_LANES && dtype == HDL_DTYPE_F32)
        return v16_load((const float *)row + at);
    if (count >= HDL_LANES && dtype == HDL_DTYPE_BF16)
        return v16_load_bf16((const uint16_t *)row + at);
    if (count >= HDL_LANES)
        return v16_load_f16((const uint16_t *)row + at);
    float x[HDL_LANES] = {0};
    for (uint32_t i = 0; i < count; i++)
        x[i] = hdl_element(row, dtype, at + i);
    return v16_load(x);
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
    for (uint32_t row = w->n; row % HDL_TILE != 0; row++)
        for (uint32_t at = 0; at < w->k; at += HDL_Q8_GROUP)
            pack_chunk(w, row, at, v16_zero(), v16_zero());
}

void hdl_cpu_weight_pack(const hdl_pack_args *a)
{
    const hdl_weight *w = a->dst;
    HDL_ASSERT_EQ(a->src.shape[1], (int64_t)w->k);
    HDL_ASSERT_LE(a->row_at + a->src.shape[0], (int64_t)w->n);
    size_t row_bytes = (size_t)a->src.stride[0] * hdl_dtype_bytes(a->src.dtype);
    for (uint32_t r = 0; r < (uint32_t)a->src.shape[0]; r++) {
        const unsigned char *src = (const unsigned char *)a->src.data + r * row_bytes;
        for (uint32_t at = 0; at < w->k; at += HDL_Q8_GROUP) {
            uint32_t left = w->k - at;
            v16 lo = load(src, a->src.dtype, at, left);
            v16 hi = left > HDL_LANES ? load(src, a->src.dtype, at + HDL_LANES, left - HDL_LANES)
                                      : v16_zero();
            pack_chunk(w, a->row_at + r, at, lo, hi);
        }
    }
    if (a->row_at + (uint32_t)a->src.shape[0] == w->n)
        zero_tail(w);
}
