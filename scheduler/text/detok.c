/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 13 of 14: ids -> UTF-8 pieces; stop.c looks through them next. */
#include "scheduler/text/detok.h"

#include <string.h>

#include "base/assert.h"
#include "scheduler/text/tokenizer_impl.h"
#include "scheduler/text/utf8.h"

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */

void hdl_detok_init(hdl_detok *detok, bool skip_special)
{
    *detok = (hdl_detok){.skip_special = skip_special};
}

static hdl_err put_wrong(hdl_detok *detok, size_t n, hdl_buf *out)
{
    detok->to_strip = n > 0 ? 0 : detok->to_strip;
    for (size_t i = 0; i < n; i++)
        HDL_TRY(hdl_buf_append(out, REPLACEMENT, 3));
    return HDL_OK;
}

/* Valid text, without what the decoder drops at its start. */
static hdl_err put_text(hdl_detok *detok, const hdl_decoder *decoder, hdl_text text, hdl_buf *out)
{
    size_t n = decoder->n_strip;
    while (detok->to_strip > 0 && text.len > 0) {
        bool is = text.len >= n && memcmp(text.p, decoder->strip, n) == 0;
        detok->to_strip = is ? (uint8_t)(detok->to_strip - 1) : 0;
        if (is)
            text = (hdl_text){text.p + n, text.len - n};
    }
    return hdl_buf_append(out, text.p, text.len);
}

/* ---- tokens of raw bytes ---- */

/* Appends what is certain in p, replaces what is wrong, and keeps an unfinished end for later. */
static hdl_err push_bytes(hdl_detok *detok, const hdl_decoder *decoder, hdl_text text, hdl_buf *out)
{
    const char *p = text.p;
    for (size_t n = text.len; n > 0;) {
        size_t valid = hdl_utf8_valid_prefix(p, n);
        HDL_TRY(put_text(detok, decoder, (hdl_text){p, valid}, out));
        p += valid;
        n -= valid;
        if (n == 0)
            break;
        hdl_utf8_char c = hdl_utf8_read(p, n);
        if (c.cut_short) {
            memcpy(detok->held, p, n);
            detok->n_held = (uint8_t)n;
            break;
        }
        HDL_TRY(put_wrong(detok, 1, out));
        p += c.bytes;
        n -= c.bytes;
    }
    return HDL_OK;
}

static hdl_err push_raw(hdl_detok *detok, const hdl_decoder *decoder, hdl_text text, hdl_buf *out)
{
    while (text.len > 0 && detok->n_held > 0) {
        /* Byte by byte until the held character is whole or known to be wrong. */
        HDL_ASSERT_LT(detok->n_held, 4);
        char joined[4];
        size_t n_joined = (size_t)detok->n_held + 1;
        memcpy(joined, detok->held, detok->n_held);
        joined[detok->n_held] = *text.p;
        hdl_utf8_char c = hdl_utf8_read(joined, n_joined);
        bool wrong = !c.ok && !c.cut_short; /* the held bytes alone: the new one starts afresh */
        if (wrong)
            HDL_TRY(put_wrong(detok, 1, out));
        if (c.ok)
            HDL_TRY(put_text(detok, decoder, (hdl_text){joined, n_joined}, out));
        if (c.cut_short)
            detok->held[detok->n_held++] = (unsigned char)*text.p;
        else
            detok->n_held = 0;
        text.p += !wrong;
        text.len -= !wrong;
    }
    return push_bytes(detok, decoder, text, out);
}

/* ---- tokens of text, and runs of byte tokens among them ---- */

/* A run that is wrong anywhere is wrong everywhere, as Hugging Face's ByteFallback has it. */
static hdl_err push_run_byte(hdl_detok *detok, const hdl_decoder *decoder, char byte, hdl_buf *out)
{
    if (detok->wrong_run)
        return put_wrong(detok, 1, out);
    detok->held[detok->n_held++] = (unsigned char)byte;
    const char *held = (const char *)detok->held;
    size_t valid = hdl_utf8_valid_prefix(held, detok->n_held), rest = detok->n_held - valid;
    if (rest > 0 && !hdl_utf8_read(held + valid, rest).cut_short) {
        detok->wrong_run = true;
        HDL_TRY(put_wrong(detok, detok->n_held, out));
        detok->n_held = 0;
    } else if (detok->n_held == HDL_DETOK_HELD) {
        HDL_TRY(put_text(detok, decoder, (hdl_text){held, valid}, out));
        memmove(detok->held, held + valid, rest);
        detok->n_held = (uint8_t)rest;
    }
    return HDL_OK;
}

static hdl_err end_run(hdl_detok *detok, const hdl_decoder *decoder, hdl_buf *out)
{
    const char *held = (const char *)detok->held;
    size_t n = detok->n_held;
    detok->wrong_run = false;
    detok->n_held = 0;
    if (hdl_utf8_valid_prefix(held, n) < n)
        return put_wrong(detok, n, out);
    return put_text(detok, decoder, (hdl_text){held, n}, out);
}

/* The first token without its spaces. */
static hdl_err push_bare(const hdl_decoder *decoder, const hdl_vocab_token *t, hdl_buf *out)
{
    hdl_text text =
        t->redone ? (hdl_text){t->decoded, t->decoded_len} : (hdl_text){t->text, t->text_len};
    hdl_text space = t->redone ? (hdl_text){" ", 1} : (hdl_text){decoder->space, decoder->n_space};
    for (const char *end = text.p + text.len; text.p < end;) {
        const char *hit = memmem(text.p, (size_t)(end - text.p), space.p, space.len);
        const char *stop = hit ? hit : end;
        HDL_TRY(hdl_buf_append(out, text.p, (size_t)(stop - text.p)));
        text.p = hit ? hit + space.len : end;
    }
    return HDL_OK;
}

hdl_err hdl_detok_push(hdl_detok *detok, const hdl_tokenizer *tok, hdl_token id, hdl_buf *out)
{
    const hdl_decoder *decoder = &tok->decoder;
    const hdl_vocab_token *t = hdl_vocab_get(&tok->vocab, id);
    if (t == NULL || (detok->skip_special && t->special))
        return HDL_OK;
    bool first = !detok->started;
    if (first) {
        detok->started = true;
        detok->to_strip = decoder->strip_max;
    }
    hdl_text text = {t->decoded, t->decoded_len};
    if (decoder->byte_level)
        return push_raw(detok, decoder, text, out);
    if (decoder->byte_runs && t->byte)
        return push_run_byte(detok, decoder, *text.p, out);
    if (decoder->byte_runs)
        HDL_TRY(end_run(detok, decoder, out));
    if (first && decoder->first_bare)
        return push_bare(decoder, t, out);
    return put_text(detok, decoder, text, out);
}

hdl_err hdl_detok_flush(hdl_detok *detok, const hdl_tokenizer *tok, hdl_buf *out)
{
    hdl_err err = HDL_OK;
    if (tok->decoder.byte_runs)
        err = end_run(detok, &tok->decoder, out);
    else if (detok->n_held > 0)
        err = put_wrong(detok, 1, out);
    hdl_detok_init(detok, detok->skip_special);
    return err;
}
