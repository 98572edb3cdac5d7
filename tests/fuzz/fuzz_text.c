/* SPDX-License-Identifier: Apache-2.0 */
/* Text through a real tokenizer and back: bytes that are not UTF-8 are refused, the others survive
 * the round trip, as a whole and as a stream through the detokeniser and a stop matcher. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fs.h"
#include "scheduler/text/detok.h"
#include "scheduler/text/stop.h"
#include "scheduler/text/utf8.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static hdl_tokenizer *tok;
static hdl_tok_scratch *scratch;

static void open_once(void)
{
    char *json;
    size_t len;
    hdl_errmsg why = {""};
    if (tok != NULL)
        return;
    bool ok = hdl_fs_read(HDL_SOURCE_DIR "/tests/golden/text/llama3.json", 1 << 24, &json, &len,
                          &why) == HDL_OK &&
              hdl_tokenizer_open_json(&tok, json, len, &why) == HDL_OK &&
              hdl_tok_scratch_new(&scratch) == HDL_OK;
    HDL_ASSERT(ok);
    free(json);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    open_once();
    hdl_errmsg why = {""};
    hdl_ids ids;
    hdl_buf text, stream;
    hdl_ids_init(&ids, 4 * size + 16);
    hdl_buf_init(&text, 16 * size + 64);
    hdl_buf_init(&stream, 16 * size + 64);
    hdl_encode_args args = {
        .text = (const char *)data, .len = size, .scratch = scratch, .parse_special = size % 2};
    hdl_err err = hdl_tokenizer_encode(tok, &args, &ids, &why);
    bool valid = hdl_utf8_valid_prefix((const char *)data, size) == size;
    HDL_ASSERT(valid == (err == HDL_OK));
    hdl_detok detok;
    hdl_stop stop;
    hdl_stop_set *set = NULL;
    hdl_stop_text strings[2] = {{(const char *)data, size < 3 ? size : 3},
                                {(const char *)data + size / 2, size / 2 < 9 ? size / 2 : 9}};
    if (size >= 2 && hdl_stop_set_new(&set, strings, 2, &why) != HDL_OK)
        set = NULL;
    hdl_detok_init(&detok, false);
    hdl_stop_init(&stop, set, false);
    for (size_t i = 0; i <= ids.n && err == HDL_OK; i++) {
        hdl_buf piece;
        hdl_buf_init(&piece, 1 << 16);
        err = i < ids.n ? hdl_detok_push(&detok, tok, ids.v[i], &piece)
                        : hdl_detok_flush(&detok, tok, &piece);
        HDL_ASSERT(hdl_utf8_valid_prefix((const char *)hdl_buf_data(&piece), piece.len) ==
                   piece.len);
        hdl_buf_append(&text, hdl_buf_data(&piece), piece.len);
        HDL_ASSERT(hdl_stop_push(&stop, hdl_buf_data(&piece), piece.len, &stream) == HDL_OK);
        hdl_buf_deinit(&piece);
    }
    HDL_ASSERT(hdl_stop_flush(&stop, &stream) == HDL_OK);
    if (valid) {
        /* "<wide>" takes the white space around it, so that only text without it comes back whole.
         */
        bool strips = size >= 6 && memmem(data, size, "<wide>", 6) != NULL;
        strips |= size >= 6 && memmem(data, size, "[INST]", 6) != NULL;
        strips |= memmem(data, size, "gr\xc3\xb6\xc3\x9f", 6) !=
                  NULL; /* decoded through the byte map, as the original does */
        HDL_ASSERT(strips || (text.len == size && memcmp(hdl_buf_data(&text), data, size) == 0));
        HDL_ASSERT(memcmp(hdl_buf_data(&text), hdl_buf_data(&stream), stream.len) == 0 &&
                   stream.len <= text.len);
    }
    hdl_stop_set_free(set);
    hdl_ids_deinit(&ids);
    hdl_buf_deinit(&text);
    hdl_buf_deinit(&stream);
    return 0;
}
