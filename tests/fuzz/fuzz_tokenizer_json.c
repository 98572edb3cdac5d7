/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign tokenizer.json: opens or is refused with a message; what opens encodes and decodes. */
#include "try_tokenizer.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    if (hdl_tokenizer_open_json(&tok, (const char *)data, size, &why) == HDL_OK)
        try_tokenizer(tok);
    else
        HDL_ASSERT(why.text[0] != '\0');
    return 0;
}
