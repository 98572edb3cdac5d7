/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign tiktoken.model; the first line is its tokenizer_config.json. */
#include "scheduler/text/tokenizer_impl.h"
#include "try_tokenizer.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size > 0 ? memchr(text, '\n', size) : NULL;
    size_t first = end != NULL ? (size_t)(end - text) : size;
    hdl_json *doc;
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    if (end == NULL || hdl_json_parse(text, first, 0, &doc, &why) != HDL_OK)
        return 0;
    hdl_jv config = hdl_json_root(doc);
    hdl_text ranks = {end + 1, size - first - 1};
    if (hdl_tokenizer_open_tiktoken(&tok, ranks, &config, &why) == HDL_OK)
        try_tokenizer(tok);
    else
        HDL_ASSERT(why.text[0] != '\0');
    hdl_json_close(doc);
    return 0;
}
