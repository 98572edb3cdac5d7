/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/words.h"

#include <stdlib.h>

hdl_err hdl_words_init(hdl_words *words)
{
    words->v = aligned_alloc(64, HDL_WORDS_SLOTS * sizeof *words->v);
    if (words->v == NULL)
        return HDL_NOMEM;
    hdl_words_reset(words);
    return HDL_OK;
}

void hdl_words_deinit(hdl_words *words)
{
    free(words->v);
    words->v = NULL;
}

void hdl_words_reset(hdl_words *words) { memset(words->v, 0, HDL_WORDS_SLOTS * sizeof *words->v); }
