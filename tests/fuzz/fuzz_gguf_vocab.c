/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign tokenizer metadata of a GGUF file. */
#include <stdlib.h>

#include "base/gguf.h"
#include "try_tokenizer.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    hdl_gguf *gguf;
    hdl_tokenizer *tok;
    hdl_errmsg why = {""};
    void *bytes = malloc(size + 1); /* aligned, and of its own size */
    if (bytes == NULL)
        return 0;
    memcpy(bytes, data, size);
    if (hdl_gguf_open_bytes(&gguf, bytes, size, &why) == HDL_OK) {
        why.text[0] = '\0';
        if (hdl_tokenizer_open_gguf(&tok, gguf, &why) == HDL_OK)
            try_tokenizer(tok);
        else
            HDL_ASSERT(why.text[0] != '\0');
        hdl_gguf_close(gguf);
    }
    free(bytes);
    return 0;
}
