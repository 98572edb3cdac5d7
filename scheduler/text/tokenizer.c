/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/text/detok.h"
#include "scheduler/text/tokenizer_impl.h"
#include "scheduler/text/utf8.h"

struct hdl_tok_scratch {
    uint64_t serial; /* of the tokenizer whose words bpe remembers */
    hdl_pretok_work *pretok;
    hdl_bpe_work *bpe;
    hdl_normalize_work normalize;
};

enum { KEEP_NORMALIZED_BYTES = 1 << 20 };

hdl_err hdl_tok_scratch_new(hdl_tok_scratch **out)
{
    hdl_tok_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return HDL_NOMEM;
    hdl_err err;
    HDL_TRY_GOTO(hdl_pretok_work_new(&scratch->pretok), fail);
    HDL_TRY_GOTO(hdl_bpe_work_new(&scratch->bpe), fail);
    scratch->normalize.regex = hdl_pretok_work_regex(scratch->pretok);
    for (int i = 0; i < 2; i++)
        hdl_buf_init(&scratch->normalize.bufs[i], (size_t)4 * HDL_TOKENIZER_TEXT_MAX);
    *out = scratch;
    return HDL_OK;
fail:
    hdl_tok_scratch_free(scratch);
    return err;
}

void hdl_tok_scratch_free(hdl_tok_scratch *scratch)
{
    if (scratch == NULL)
        return;
    hdl_pretok_work_free(scratch->pretok);
    hdl_bpe_work_free(scratch->bpe);
    for (int i = 0; i < 2; i++)
        hdl_buf_deinit(&scratch->normalize.bufs[i]);
    free(scratch);
}

void hdl_tokenizer_free(hdl_tokenizer *tok)
{
    if (tok == NULL)
        return;
    hdl_normalizer_deinit(&tok->normalizer);
    hdl_pretok_deinit(&tok->pretok);
    hdl_added_deinit(&tok->added_raw);
    hdl_added_deinit(&tok->added_normalized);
    hdl_pool_arena_deinit(&tok->arena);
    free(tok);
}

const hdl_tok_info *hdl_tokenizer_info(const hdl_tokenizer *tok) { return &tok->info; }

hdl_token hdl_tokenizer_find(const hdl_tokenizer *tok, const char *text)
{
    return hdl_vocab_find(&tok->vocab, text, strlen(text));
}

bool hdl_tokenizer_is_special(const hdl_tokenizer *tok, hdl_token id)
{
    const hdl_vocab_token *t = hdl_vocab_get(&tok->vocab, id);
    return t != NULL && t->special;
}

bool hdl_tokenizer_token_bytes(const hdl_tokenizer *tok, hdl_token id, const char **bytes,
                               size_t *len)
{
    const hdl_vocab_token *t = hdl_vocab_get(&tok->vocab, id);
    *bytes = t ? t->decoded : "";
    *len = t ? t->decoded_len : 0;
    return t != NULL;
}

/* Normalised text without added tokens. */
static hdl_err encode_plain(const hdl_tokenizer *tok, hdl_tok_scratch *scratch, hdl_text text,
                            hdl_ids *out)
{
    hdl_pieces pieces;
    HDL_TRY(hdl_pretok_run(&tok->pretok, scratch->pretok, text, &pieces));
    for (size_t i = 0; i < pieces.n; i++) {
        hdl_text word = {pieces.text.p + pieces.spans[i].at, pieces.spans[i].len};
        HDL_TRY(hdl_bpe_encode(&tok->bpe, scratch->bpe, word, out));
    }
    return HDL_OK;
}

/* Text between added tokens that are looked for before normalisation. */
static hdl_err encode_normalized(const hdl_tokenizer *tok, const hdl_encode_args *args,
                                 hdl_text text, hdl_ids *out)
{
    hdl_tok_scratch *scratch = args->scratch;
    HDL_TRY(hdl_normalizer_run(&tok->normalizer, &scratch->normalize, &text));
    hdl_added_scan scan = {.set = &tok->added_normalized,
                           .work = scratch->normalize.regex,
                           .text = text,
                           .special_is_text = !args->parse_special};
    do {
        HDL_TRY(hdl_added_next(&scan));
        HDL_TRY(encode_plain(tok, scratch, scan.gap, out));
        if (scan.id >= 0)
            HDL_TRY(hdl_ids_push(out, scan.id));
    } while (scan.id >= 0);
    return HDL_OK;
}

static hdl_err encode_all(const hdl_tokenizer *tok, const hdl_encode_args *args, hdl_ids *out)
{
    for (uint32_t i = 0; args->add_special && i < tok->post.n_before; i++)
        HDL_TRY(hdl_ids_push(out, tok->post.before[i]));
    hdl_added_scan scan = {.set = &tok->added_raw,
                           .work = args->scratch->normalize.regex,
                           .text = {args->text, args->len},
                           .special_is_text = !args->parse_special};
    do {
        HDL_TRY(hdl_added_next(&scan));
        HDL_TRY(encode_normalized(tok, args, scan.gap, out));
        if (scan.id >= 0)
            HDL_TRY(hdl_ids_push(out, scan.id));
    } while (scan.id >= 0);
    for (uint32_t i = 0; args->add_special && i < tok->post.n_after; i++)
        HDL_TRY(hdl_ids_push(out, tok->post.after[i]));
    return HDL_OK;
}

/* Memory that one huge text took is not kept by a thread that lives for months. */
static void give_back(hdl_tok_scratch *scratch)
{
    for (int i = 0; i < 2; i++) {
        hdl_buf *buf = &scratch->normalize.bufs[i];
        if (buf->size > KEEP_NORMALIZED_BYTES)
            hdl_buf_deinit(buf);
    }
}

hdl_err hdl_tokenizer_encode(const hdl_tokenizer *tok, const hdl_encode_args *args, hdl_ids *out,
                             hdl_errmsg *why)
{
    if (args->len > HDL_TOKENIZER_TEXT_MAX)
        return hdl_fail(HDL_INVALID, why, "text has %zu bytes; at most %d are taken; shorten it",
                        args->len, HDL_TOKENIZER_TEXT_MAX);
    size_t valid = hdl_utf8_valid_prefix(args->text, args->len);
    if (valid < args->len)
        return hdl_fail(HDL_INVALID, why, "text is not UTF-8; byte %zu is wrong; send UTF-8",
                        valid);
    hdl_tok_scratch *scratch = args->scratch;
    if (scratch->serial != tok->serial) {
        hdl_bpe_work_reset(scratch->bpe);
        scratch->serial = tok->serial;
    }
    size_t before = out->n;
    hdl_err err = encode_all(tok, args, out);
    give_back(scratch);
    if (err == HDL_OK)
        return HDL_OK;
    out->n = before;
    if (err == HDL_BUSY)
        return hdl_fail(err, why,
                        "text has more than %zu tokens; that is the limit here; shorten it",
                        out->cap);
    if (err == HDL_INVALID)
        return hdl_fail(
            err, why,
            "text cannot be split into words within the limits; it is too intricate; shorten it");
    return hdl_fail(err, why, "text could not be encoded; %s", hdl_err_text(err));
}

hdl_err hdl_tokenizer_decode(const hdl_tokenizer *tok, const hdl_decode_args *args, hdl_buf *out)
{
    hdl_detok detok;
    hdl_detok_init(&detok, args->skip_special);
    for (size_t i = 0; i < args->n; i++)
        HDL_TRY(hdl_detok_push(&detok, tok, args->ids[i], out));
    return hdl_detok_flush(&detok, out);
}
