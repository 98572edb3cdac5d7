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
    hdl_unigram_work *unigram; /* NULL until a tokenizer needs it */
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
    hdl_unigram_work_free(scratch->unigram);
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

/* Special tokens come from certain places of the text alone. */
static bool strict(const hdl_encode_args *args) { return args->special_in != NULL; }

/* One encode: what it is given and what it works in. */
typedef struct run {
    const hdl_tokenizer *tok;
    const hdl_encode_args *args;
    hdl_tok_scratch *scratch;
    hdl_ids *out;
} run;

/* Plain text that merging alone turned into a special token stays plain where that counts. */
static hdl_err encode_bpe_word(run *r, hdl_text word)
{
    const hdl_tokenizer *tok = r->tok;
    size_t before = r->out->n;
    HDL_TRY(hdl_bpe_encode(&tok->bpe, r->scratch->bpe, word, r->out));
    bool special = false;
    for (size_t i = before; i < r->out->n && tok->bpe.makes_special && strict(r->args); i++)
        special |= tok->vocab.tokens[r->out->v[i]].special && r->out->v[i] != tok->bpe.opt.unk;
    if (!special)
        return HDL_OK;
    r->out->n = before;
    return hdl_bpe_encode_unmerged(&tok->bpe, word, r->out);
}

/* Normalised text without added tokens. */
static hdl_err encode_plain(run *r, hdl_pretok_input input)
{
    hdl_pieces pieces;
    HDL_TRY(hdl_pretok_run(&r->tok->pretok, r->scratch->pretok, input, &pieces));
    for (size_t i = 0; i < pieces.n; i++) {
        hdl_text word = {pieces.text.p + pieces.spans[i].at, pieces.spans[i].len};
        if (r->tok->kind == HDL_MODEL_BPE)
            HDL_TRY(encode_bpe_word(r, word));
        else
            HDL_TRY(hdl_unigram_encode(&r->tok->unigram, r->scratch->unigram,
                                       (hdl_unigram_word){word, strict(r->args)}, r->out));
    }
    return HDL_OK;
}

/* The given ranges as they lie in the normalised text, for tokenizers that look for special tokens
 * there. Parts are normalised one by one; where that gives another length than all at once (a
 * character that joins two parts), no range is certain and none is given. */
static hdl_err map_ranges(run *r, hdl_text text, hdl_ranges *out, size_t *length)
{
    hdl_normalize_work *work = &r->scratch->normalize;
    const hdl_ranges *in = r->args->special_in;
    size_t base = (size_t)(text.p - r->args->text), at = 0;
    hdl_err err = HDL_OK;
    *length = 0;
    for (size_t i = 0; at < text.len && err == HDL_OK;) {
        while (i < in->n && in->v[i].end <= base + at)
            i++;
        bool inside = i < in->n && in->v[i].at <= base + at;
        size_t end = i == in->n ? text.len : (inside ? in->v[i].end : in->v[i].at) - base;
        hdl_text part = {text.p + at, (end < text.len ? end : text.len) - at};
        at += part.len;
        work->part = at > part.len;
        err = hdl_normalizer_run(&r->tok->normalizer, work, &part);
        if (err == HDL_OK && inside)
            err = hdl_ranges_add(out, (hdl_range){*length, *length + part.len});
        *length += part.len;
    }
    work->part = false;
    return err;
}

static hdl_err encode_mapped(run *r, hdl_text text, bool at_start, hdl_added_scan *scan)
{
    HDL_TRY(hdl_normalizer_run(&r->tok->normalizer, &r->scratch->normalize, &text));
    scan->text = text;
    do {
        HDL_TRY(hdl_added_next(scan));
        bool first = at_start && scan->gap.p == text.p;
        HDL_TRY(encode_plain(r, (hdl_pretok_input){scan->gap, first}));
        if (scan->id >= 0)
            HDL_TRY(hdl_ids_push(r->out, scan->id));
    } while (scan->id >= 0);
    return HDL_OK;
}

/* Text between added tokens that are looked for before normalisation. */
static hdl_err encode_normalized(run *r, hdl_text text)
{
    hdl_added_scan scan = {.set = &r->tok->added_normalized,
                           .work = r->scratch->normalize.regex,
                           .special_is_text = !r->args->parse_special,
                           .special_in = r->args->special_in,
                           .base = (size_t)(text.p - r->args->text)};
    bool at_start = scan.base == 0;
    bool map = strict(r->args) && scan.set->has_special && r->tok->normalizer.n_steps > 0;
    if (!map)
        return encode_mapped(r, text, at_start, &scan);
    hdl_ranges ranges;
    size_t length;
    hdl_ranges_init(&ranges);
    hdl_err err = map_ranges(r, text, &ranges, &length);
    hdl_text whole = text;
    if (err == HDL_OK)
        err = hdl_normalizer_run(&r->tok->normalizer, &r->scratch->normalize, &whole);
    if (whole.len != length)
        hdl_ranges_cut(&ranges, 0);
    scan.special_in = &ranges;
    scan.base = 0;
    if (err == HDL_OK)
        err = encode_mapped(r, text, at_start, &scan);
    hdl_ranges_deinit(&ranges);
    return err;
}

static hdl_err encode_all(run *r)
{
    const hdl_post *post = &r->tok->post;
    if (r->args->add_special)
        HDL_TRY(hdl_ids_append(r->out, post->before, post->n_before));
    hdl_added_scan scan = {.set = &r->tok->added_raw,
                           .work = r->scratch->normalize.regex,
                           .text = {r->args->text, r->args->len},
                           .special_is_text = !r->args->parse_special,
                           .special_in = r->args->special_in};
    do {
        HDL_TRY(hdl_added_next(&scan));
        HDL_TRY(encode_normalized(r, scan.gap));
        if (scan.id >= 0)
            HDL_TRY(hdl_ids_push(r->out, scan.id));
    } while (scan.id >= 0);
    return r->args->add_special ? hdl_ids_append(r->out, post->after, post->n_after) : HDL_OK;
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
        if (scratch->unigram != NULL)
            hdl_unigram_work_reset(scratch->unigram);
        scratch->serial = tok->serial;
    }
    size_t before = out->n;
    run r = {.tok = tok, .args = args, .scratch = scratch, .out = out};
    hdl_err err = HDL_OK;
    if (tok->kind == HDL_MODEL_UNIGRAM && scratch->unigram == NULL)
        err = hdl_unigram_work_new(&scratch->unigram);
    if (err == HDL_OK)
        err = encode_all(&r);
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
            "text cannot be encoded; it is too intricate for the limits of splitting, or has a "
            "character that the vocabulary lacks; change it");
    return hdl_fail(err, why, "text could not be encoded; %s", hdl_err_text(err));
}

hdl_err hdl_tokenizer_decode(const hdl_tokenizer *tok, const hdl_decode_args *args, hdl_buf *out)
{
    hdl_detok detok;
    hdl_detok_init(&detok, args->skip_special);
    for (size_t i = 0; i < args->n; i++)
        HDL_TRY(hdl_detok_push(&detok, tok, args->ids[i], out));
    return hdl_detok_flush(&detok, tok, out);
}
