/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes and decodes on request, for text.py to compare with Hugging Face.
 *
 * text_probe tokenizer.json|FOLDER|x.gguf: for each record u32 flags, u32 length, text on stdin
 * (little-endian) answers u32 count, ids, u32 length, decoded text on stdout. Flags: 1 add_special,
 * 2 parse_special, 4 skip_special when decoding, 8: the text is ids (i32 each) to be decoded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "scheduler/text/tokenizer.h"

enum { RECORD_BYTES_MAX = 16 << 20 };

static hdl_err open_any(hdl_tokenizer **tok, const char *path, hdl_errmsg *why)
{
    char *json;
    size_t len;
    const char *end = strrchr(path, '.');
    if (hdl_fs_is_dir(path) || (end != NULL && strcmp(end, ".gguf") == 0))
        return hdl_tokenizer_open(tok, path, why);
    HDL_TRY(hdl_fs_read(path, (size_t)1 << 30, &json, &len, why));
    hdl_err err = hdl_tokenizer_open_json(tok, json, len, why);
    free(json);
    return err;
}

static void answer(const hdl_ids *ids, const hdl_buf *text)
{
    uint32_t n = (uint32_t)ids->n, len = (uint32_t)text->len;
    fwrite(&n, sizeof n, 1, stdout);
    if (n > 0)
        fwrite(ids->v, sizeof *ids->v, n, stdout);
    fwrite(&len, sizeof len, 1, stdout);
    fwrite(hdl_buf_data(text), 1, len, stdout);
    fflush(stdout);
}

typedef struct record {
    uint32_t flags, len;
    const char *bytes;
} record;

/* The ids of a record: given, or of its text. */
static hdl_err take(const hdl_tokenizer *tok, hdl_tok_scratch *scratch, record r, hdl_ids *ids,
                    hdl_errmsg *why)
{
    if (r.flags & 8) {
        for (uint32_t i = 0; i + 4 <= r.len; i += 4) {
            hdl_token id;
            memcpy(&id, r.bytes + i, sizeof id);
            HDL_TRY(hdl_ids_push(ids, id));
        }
        return HDL_OK;
    }
    hdl_encode_args args = {.text = r.bytes,
                            .len = r.len,
                            .scratch = scratch,
                            .add_special = r.flags & 1,
                            .parse_special = r.flags & 2};
    return hdl_tokenizer_encode(tok, &args, ids, why);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {""};
    hdl_tokenizer *tok;
    hdl_tok_scratch *scratch;
    if (argc != 2 || open_any(&tok, argv[1], &why) != HDL_OK ||
        hdl_tok_scratch_new(&scratch) != HDL_OK) {
        fprintf(stderr, "text_probe: %s\n",
                argc == 2 ? why.text : "usage: text_probe tokenizer.json|FOLDER|x.gguf");
        return 1;
    }
    uint32_t head[2];
    char *bytes = malloc(RECORD_BYTES_MAX);
    hdl_ids ids;
    hdl_buf text;
    hdl_ids_init(&ids, RECORD_BYTES_MAX);
    hdl_buf_init(&text, (size_t)8 * RECORD_BYTES_MAX);
    int rc = bytes ? 0 : 1;
    while (rc == 0 && fread(head, sizeof head, 1, stdin) == 1) {
        ids.n = 0;
        hdl_buf_clear(&text);
        rc = head[1] <= RECORD_BYTES_MAX && fread(bytes, 1, head[1], stdin) == head[1] ? 0 : 1;
        if (rc == 0 && take(tok, scratch, (record){head[0], head[1], bytes}, &ids, &why) != HDL_OK)
            rc = 1;
        hdl_decode_args back = {.ids = ids.v, .n = ids.n, .skip_special = head[0] & 4};
        if (rc == 0 && hdl_tokenizer_decode(tok, &back, &text) != HDL_OK)
            rc = 1;
        if (rc == 0)
            answer(&ids, &text);
        else
            fprintf(stderr, "text_probe: %s\n", why.text);
    }
    free(bytes);
    hdl_ids_deinit(&ids);
    hdl_buf_deinit(&text);
    hdl_tok_scratch_free(scratch);
    hdl_tokenizer_free(tok);
    return rc;
}
