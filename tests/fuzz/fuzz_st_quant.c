/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised matrices in a safetensors file: whatever the bytes, the search refuses or every number
 * of what it finds can be read. The first byte chooses what is asked for, the rest is the file. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "worker/load/quant.h"
#include "worker/load/st_quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 16, COLS = 128, EXPERTS = 2 };

#define ASK(method_, encoding_, rows_, cols_)                                                      \
    {                                                                                              \
        .method = (method_), .n_schemes = 1, .zero_add = 1, .schemes = {                           \
            {.encoding = (encoding_), .scale_rows = (rows_), .scale_cols = (cols_)}                \
        }                                                                                          \
    }
static const hdl_quant_desc asks[] = {
    ASK(HDL_QUANT_FP8, HDL_ENC_E4M3, 8, 32),       ASK(HDL_QUANT_MODELOPT, HDL_ENC_NVFP4, 1, 16),
    ASK(HDL_QUANT_MXFP4, HDL_ENC_MXFP4, 1, 32),    ASK(HDL_QUANT_COMPRESSED, HDL_ENC_INT4Z, 1, 64),
    ASK(HDL_QUANT_AWQ, HDL_ENC_AWQ4, 1, 64),       ASK(HDL_QUANT_GPTQ, HDL_ENC_GPTQ4Z, 1, 64),
    ASK(HDL_QUANT_GPTQ, HDL_ENC_GPTQ8Z, 1, 0),     ASK(HDL_QUANT_BITNET, HDL_ENC_TERNARY, 0, 0),
    ASK(HDL_QUANT_COMPRESSED, HDL_ENC_INT8, 1, 0), ASK(HDL_QUANT_AWQ, HDL_ENC_AWQ4, 1, 48),
};

/* All that loading reads: values, and codes where the format takes them as they are. */
static void read_all(const hdl_source *s)
{
    const hdl_codec *c = hdl_codec_of(s->encoding);
    float values[COLS], scales[COLS / 16], mins[COLS / 16];
    int8_t codes[COLS];
    hdl_codes to = {.codes = codes, .scales = scales, .mins = mins};
    for (uint32_t row = 0; row < ROWS; row++) {
        hdl_span all = {.row = row, .n = COLS};
        hdl_source_values(s, all, values);
        if (c->codes)
            hdl_source_codes(s, all, &to);
    }
    (void)hdl_source_is_finite(s);
    HDL_ASSERT(hdl_quant_kind(s, HDL_WFORMAT_COUNT, COLS).format < HDL_WFORMAT_COUNT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_st *st = NULL;
    hdl_errmsg why;
    if (size == 0)
        return 0;
    /* Of its own and no byte longer, so that a read past the end is seen. */
    const size_t bytes = size - 1;
    uint8_t *file = malloc(bytes ? bytes : 1);
    if (!file)
        return 0;
    memcpy(file, data + 1, bytes);
    if (hdl_st_open_bytes(&st, file, bytes, &why) == HDL_OK) {
        /* A file without tensors is one too: no array of nothing. */
        unsigned char *used = calloc(hdl_st_count(st) + 1, 1);
        hdl_st_quant q = {.st = st,
                          .used = used,
                          .quant = &asks[data[0] % HDL_ARRAY_LEN(asks)],
                          .name = data[0] & 0x80 ? "w" : "w.weight",
                          .experts = data[0] & 0x80 ? EXPERTS : 1,
                          .rows = ROWS,
                          .cols = COLS,
                          .expert = data[0] & 0x80 ? EXPERTS - 1 : 0};
        hdl_source found;
        const char *codes = NULL;
        if (used && hdl_st_quant_find(&q, &found, &codes, &why) == HDL_OK && codes)
            read_all(&found);
        free(used);
    }
    hdl_st_close(st);
    free(file);
    return 0;
}
