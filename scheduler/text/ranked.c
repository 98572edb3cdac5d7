/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/ranked.h"

#include <stdlib.h>

#include "base/checked.h"
#include "scheduler/text/base64.h"

enum { TOKEN_BYTES_MAX = 4096 };

hdl_err hdl_ranked_begin(hdl_tokenizer *tok, const hdl_ranked *layout, hdl_errmsg *why)
{
    uint32_t learned_end, special_end;
    if (!hdl_add_u32(layout->first_learned, layout->n_learned, &learned_end) ||
        !hdl_add_u32(layout->first_special, layout->n_special, &special_end) ||
        learned_end > HDL_VOCAB_IDS_MAX || special_end > HDL_VOCAB_IDS_MAX ||
        layout->n_special > HDL_ADDED_MAX)
        return hdl_fail(HDL_INVALID, why, "more tokens than %d; the file is broken",
                        HDL_VOCAB_IDS_MAX);
    tok->vocab.plain = true;
    HDL_TRY(hdl_vocab_init(&tok->vocab, &tok->arena,
                           learned_end > special_end ? learned_end : special_end));
    HDL_TRY(hdl_added_init(&tok->added_raw, &tok->arena, layout->n_special));
    return hdl_added_init(&tok->added_normalized, &tok->arena, 0);
}

hdl_err hdl_ranked_learn(hdl_tokenizer *tok, const hdl_ranked *layout, uint32_t rank,
                         hdl_text base64, hdl_errmsg *why)
{
    unsigned char bytes[TOKEN_BYTES_MAX];
    size_t n = 0;
    if (rank >= layout->n_learned)
        return hdl_fail(HDL_INVALID, why, "rank %u; ranks must be below %u", rank,
                        layout->n_learned);
    if (base64.len > TOKEN_BYTES_MAX || !hdl_base64_decode(base64, bytes, &n) || n == 0)
        return hdl_fail(HDL_INVALID, why, "the token of rank %u is no base64, empty or too long",
                        rank);
    hdl_vocab_entry entry = {.text = (const char *)bytes,
                             .len = n,
                             .id = layout->first_learned + rank,
                             .learned = true,
                             .unnamed = true};
    if (hdl_vocab_find_raw(&tok->vocab, entry.text, n) >= 0)
        return hdl_fail(HDL_INVALID, why, "the token of rank %u is there twice", rank);
    return hdl_vocab_add(&tok->vocab, &tok->arena, &entry, why);
}

hdl_err hdl_ranked_add(hdl_tokenizer *tok, const hdl_ranked_added *added, hdl_errmsg *why)
{
    hdl_vocab_entry entry = {
        .text = added->text.p, .len = added->text.len, .id = added->id, .special = added->special};
    if (entry.len == 0 || entry.len > HDL_ADDED_BYTES_MAX)
        return hdl_fail(HDL_INVALID, why, "special token %u: its text is empty or too long",
                        added->id);
    if (hdl_vocab_find(&tok->vocab, entry.text, entry.len) >= 0)
        return hdl_fail(HDL_INVALID, why, "special token %u: its text is there twice", added->id);
    HDL_TRY(hdl_vocab_add(&tok->vocab, &tok->arena, &entry, why));
    hdl_added_token token = {.text = {tok->vocab.tokens[added->id].text, entry.len},
                             .id = (hdl_token)added->id,
                             .special = added->special};
    hdl_added_put(&tok->added_raw, &token);
    return HDL_OK;
}

hdl_err hdl_ranked_finish(hdl_tokenizer *tok, const hdl_ranked *layout, hdl_text pattern,
                          hdl_errmsg *why)
{
    hdl_bpe_options opt = {.by_vocab = true, .ignore_merges = true, .unk = -1};
    HDL_TRY(hdl_added_finish(&tok->added_raw, why));
    HDL_TRY(hdl_added_finish(&tok->added_normalized, why));
    HDL_TRY(hdl_pretok_add_split(&tok->pretok, pattern, why));
    HDL_TRY(hdl_bpe_init(&tok->bpe, &tok->arena, &tok->vocab, &opt, why));
    for (uint32_t rank = 0; rank < layout->n_learned; rank++) {
        uint32_t id = layout->first_learned + rank;
        if (id >= tok->vocab.n_ids || tok->vocab.tokens[id].text == NULL)
            return hdl_fail(HDL_INVALID, why, "there is no token of rank %u; the file is broken",
                            rank);
        hdl_bpe_set_rank(&tok->bpe, (hdl_token)id, rank);
    }
    tok->decoder.byte_level = true;
    tok->info.vocab_size = tok->vocab.n_ids;
    return hdl_bpe_finish(&tok->bpe, &tok->arena);
}
