/* SPDX-License-Identifier: Apache-2.0 */
/* Values of ggml blocks on request, for ggml.py to compare with the gguf package.
 *
 * stdin: 16 bytes name of the encoding, u32 blocks, u32 bytes of a block, the blocks; stdout: all
 * values as f32, every NaN the same. */
#include <heddle/source.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hdl_enc find(const char *name)
{
    for (hdl_enc e = 0; e < HDL_ENC_COUNT; e++)
        if (strcmp(hdl_enc_name(e), name) == 0 && hdl_codec_of(e))
            return e;
    return HDL_ENC_COUNT;
}

int main(void)
{
    struct {
        char name[16];
        uint32_t n, bytes;
    } head;
    if (fread(&head, sizeof head, 1, stdin) != 1 || head.n == 0 || head.n > 1u << 20 ||
        head.bytes == 0 || head.bytes > 4096)
        return 1;
    head.name[sizeof head.name - 1] = '\0';
    hdl_enc enc = find(head.name);
    if (enc == HDL_ENC_COUNT || hdl_codec_of(enc)->block_bytes != head.bytes) {
        fprintf(stderr, "ggml_probe: %s is no encoding of blocks of %u bytes\n", head.name,
                head.bytes);
        return 1;
    }
    uint32_t cols = hdl_codec_of(enc)->block_cols;
    unsigned char *blocks = malloc((size_t)head.n * head.bytes);
    float *values = malloc(cols * sizeof *values);
    int rc = blocks && values && fread(blocks, head.bytes, head.n, stdin) == head.n ? 0 : 1;
    hdl_source s = {.encoding = enc,
                    .n_rows = head.n,
                    .n_cols = cols,
                    .whole_rows = head.n,
                    .codes = {.data = blocks, .row_step = head.bytes, .col_step = head.bytes},
                    .scale_mul = 1,
                    .scale_div = 1};
    for (uint32_t row = 0; rc == 0 && row < head.n; row++) {
        hdl_source_values(&s, (hdl_span){row, 0, cols}, values);
        for (uint32_t i = 0; i < cols; i++)
            if (isnan(values[i]))
                memcpy(&values[i], &(uint32_t){0x7fc00000}, sizeof values[i]);
        rc = fwrite(values, sizeof *values, cols, stdout) == cols ? 0 : 1;
    }
    free(blocks);
    free(values);
    return rc;
}
