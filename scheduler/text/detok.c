/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 13 of 14: ids -> UTF-8 pieces; stop.c looks through them next. */
#include "scheduler/text/detok.h"

#include <string.h>

#include "base/assert.h"
#include "scheduler/text/utf8.h"

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */

void hdl_detok_init(hdl_detok *detok, bool skip_special)
{
    *detok = (hdl_detok){.skip_special = skip_special};
}

/* Appends what is certain in p, replaces what is wrong, and keeps an unfinished end for later. */
static hdl_err push_bytes(hdl_detok *detok, const char *p, size_t n, hdl_buf *out)
{
    while (n > 0) {
        size_t valid = hdl_utf8_valid_prefix(p, n);
        HDL_TRY(hdl_buf_append(out, p, valid));
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
        HDL_TRY(hdl_buf_append(out, REPLACEMENT, 3));
        p += c.bytes;
        n -= c.bytes;
    }
    return HDL_OK;
}

hdl_err hdl_detok_push(hdl_detok *detok, const hdl_tokenizer *tok, hdl_token id, hdl_buf *out)
{
    const char *p;
    size_t n;
    if (!hdl_tokenizer_token_bytes(tok, id, &p, &n) ||
        (detok->skip_special && hdl_tokenizer_is_special(tok, id)))
        return HDL_OK;
    while (n > 0 && detok->n_held > 0) {
        /* Byte by byte until the held character is whole or known to be wrong. */
        HDL_ASSERT_LT(detok->n_held, 4);
        char joined[4];
        size_t n_joined = (size_t)detok->n_held + 1;
        memcpy(joined, detok->held, detok->n_held);
        joined[detok->n_held] = *p;
        hdl_utf8_char c = hdl_utf8_read(joined, n_joined);
        bool wrong = !c.ok && !c.cut_short; /* the held bytes alone: the new one starts afresh */
        if (wrong)
            HDL_TRY(hdl_buf_append(out, REPLACEMENT, 3));
        if (c.ok)
            HDL_TRY(hdl_buf_append(out, joined, n_joined));
        if (c.cut_short)
            detok->held[detok->n_held++] = (unsigned char)*p;
        else
            detok->n_held = 0;
        p += !wrong;
        n -= !wrong;
    }
    return push_bytes(detok, p, n, out);
}

hdl_err hdl_detok_flush(hdl_detok *detok, hdl_buf *out)
{
    bool held = detok->n_held > 0;
    detok->n_held = 0;
    return held ? hdl_buf_append(out, REPLACEMENT, 3) : HDL_OK;
}
