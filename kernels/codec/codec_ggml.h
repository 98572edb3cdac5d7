/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of ggml's block types share: the walk over a row in units of 32 columns.
 *
 * A type's file defines unit_<type>, which reads one unit of one block, and names its constant with
 * HDL_GGML_CODEC. Layouts are those of ggml's block structs; the gguf Python package is the judge
 * (tests/oracle/ggml.py). Multi-byte fields are little-endian and unaligned. */
#pragma once

#include "kernels/codec/codec.h"

/* Writes 32 codes and 32 / group scales (and mins). */
typedef void hdl_ggml_unit(const uint8_t *block, uint32_t unit, const hdl_codes *out);

typedef struct hdl_ggml_blocks {
    hdl_ggml_unit *unit;
    uint32_t block_cols, group;
} hdl_ggml_blocks;

static inline uint32_t hdl_ggml_u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t hdl_ggml_u32(const uint8_t *p)
{
    return hdl_ggml_u16(p) | hdl_ggml_u16(p + 2) << 16;
}

static inline float hdl_ggml_f16(const uint8_t *p)
{
    return hdl_f16_to_f32((uint16_t)hdl_ggml_u16(p));
}

/* Inlined, so that each codec gets a loop of its own around its unit. */
__attribute__((always_inline)) static inline void hdl_ggml_walk(const hdl_source *s, hdl_span at,
                                                                const hdl_codes *out,
                                                                hdl_ggml_blocks type)
{
    uint32_t units = type.block_cols / HDL_SOURCE_UNIT, groups = HDL_SOURCE_UNIT / type.group;
    uint32_t first = (s->col_at + at.col) / HDL_SOURCE_UNIT, n = at.n / HDL_SOURCE_UNIT;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t u = first + i;
        const uint8_t *block = hdl_plane_at(&s->codes, s->row_at + at.row, u / units);
        hdl_codes to = {.codes = out->codes + (size_t)i * HDL_SOURCE_UNIT,
                        .scales = out->scales + (size_t)i * groups,
                        .mins = out->mins ? out->mins + (size_t)i * groups : NULL};
        type.unit(block, u % units, &to);
    }
}

/* Block and unit of 32 columns of a row. */
static inline const uint8_t *hdl_ggml_unit_at(const hdl_source *s, hdl_span at, uint32_t block_cols,
                                              uint32_t *unit)
{
    uint32_t units = block_cols / HDL_SOURCE_UNIT, u = (s->col_at + at.col) / HDL_SOURCE_UNIT;
    *unit = u % units;
    return hdl_plane_at(&s->codes, s->row_at + at.row, u / units);
}

/* name: as in unit_<name>; cols, bytes: of a block; per: columns per scale; the rest goes into the
 * constant. */
#define HDL_GGML_CODEC(name, cols, bytes, per, ...)                                                \
    static void codes_##name(const hdl_source *s, hdl_span at, const hdl_codes *out)               \
    {                                                                                              \
        hdl_ggml_walk(s, at, out, (hdl_ggml_blocks){unit_##name, cols, per});                      \
    }                                                                                              \
    const hdl_codec hdl_codec_ggml_##name = {.block_cols = cols,                                   \
                                             .block_bytes = bytes,                                 \
                                             .group = per,                                         \
                                             .codes = codes_##name,                                \
                                             __VA_ARGS__}
