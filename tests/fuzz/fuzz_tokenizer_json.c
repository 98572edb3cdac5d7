/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign tokenizer.json: opens or is refused with a message; what opens encodes and decodes. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const char text[] = "The \u00e9e\u0301 quick <x> 12345  \n\t \u6f22\u5b57 it's";
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    if (hdl_tokenizer_open_json(&tok, (const char *)data, size, &why) != HDL_OK) {
        HDL_ASSERT(why.text[0] != '\0');
        return 0;
    }
    hdl_tok_scratch *scratch;
    hdl_ids ids;
    hdl_buf out;
    hdl_ids_init(&ids, 100000);
    hdl_buf_init(&out, 1 << 20);
    if (hdl_tok_scratch_new(&scratch) == HDL_OK) {
        hdl_encode_args args = {.text = text,
                                .len = sizeof text - 1,
                                .scratch = scratch,
                                .add_special = true,
                                .parse_special = true};
        if (hdl_tokenizer_encode(tok, &args, &ids, &why) == HDL_OK)
            (void)!hdl_tokenizer_decode(tok, &(hdl_decode_args){ids.v, ids.n, false}, &out);
        hdl_tok_scratch_free(scratch);
    }
    hdl_buf_deinit(&out);
    hdl_ids_deinit(&ids);
    hdl_tokenizer_free(tok);
    return 0;
}
