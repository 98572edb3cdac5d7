/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/vocab.h"

#include <string.h>

#include "base/hash.h"
#include "scheduler/text/utf8.h"

/* Bytes that print as themselves in Latin-1 keep their character; the others take U+0100, U+0101,
 * ... in order (bytes_to_unicode of the GPT-2 release). */
static bool prints(unsigned b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

uint32_t hdl_byte_char(unsigned char byte)
{
    if (prints(byte))
        return byte;
    uint32_t n = 0;
    for (unsigned b = 0; b < byte; b++)
        n += !prints(b);
    return 256 + n;
}

int hdl_char_byte(uint32_t cp)
{
    if (cp < 256)
        return prints(cp) ? (int)cp : -1;
    /* 0..32, 127..160 and 173, in this order from U+0100 */
    uint32_t n = cp - 256;
    if (n <= 32)
        return (int)n;
    if (n <= 66)
        return (int)(n + 94);
    return n == 67 ? 173 : -1;
}

hdl_err hdl_vocab_init(hdl_vocab *vocab, hdl_pool_arena *arena, uint32_t ids_max)
{
    *vocab = (hdl_vocab){.plain = vocab->plain, .ids_max = ids_max, .slots = 16};
    while (vocab->slots < 2 * ids_max)
        vocab->slots *= 2;
    vocab->tokens = hdl_pool_arena_alloc_array(arena, ids_max, sizeof *vocab->tokens);
    vocab->by_text = hdl_pool_arena_alloc_array(arena, vocab->slots, sizeof *vocab->by_text);
    vocab->by_raw = hdl_pool_arena_alloc_array(arena, vocab->slots, sizeof *vocab->by_raw);
    return vocab->tokens && vocab->by_text && vocab->by_raw ? HDL_OK : HDL_NOMEM;
}

static uint32_t slot_of(const hdl_vocab *vocab, const char *bytes, size_t len)
{
    return (uint32_t)hdl_hash_bytes(bytes, len, 0) & (vocab->slots - 1);
}

static uint32_t *find_text_slot(const hdl_vocab *vocab, const char *text, size_t len)
{
    uint32_t at = slot_of(vocab, text, len);
    for (;; at = (at + 1) & (vocab->slots - 1)) {
        if (vocab->by_text[at] == 0)
            return &vocab->by_text[at];
        const hdl_vocab_token *t = &vocab->tokens[vocab->by_text[at] - 1];
        if (t->text_len == len && memcmp(t->text, text, len) == 0)
            return &vocab->by_text[at];
    }
}

static uint32_t *find_raw_slot(const hdl_vocab *vocab, const char *raw, size_t len)
{
    uint32_t at = slot_of(vocab, raw, len);
    for (;; at = (at + 1) & (vocab->slots - 1)) {
        if (vocab->by_raw[at] == 0)
            return &vocab->by_raw[at];
        const hdl_vocab_token *t = &vocab->tokens[vocab->by_raw[at] - 1];
        if (t->raw_len == len && memcmp(t->raw, raw, len) == 0)
            return &vocab->by_raw[at];
    }
}

/* The bytes that text stands for, or text itself when any of its characters stands for none. */
static hdl_err map_to_raw(const hdl_vocab *vocab, hdl_pool_arena *arena, hdl_text text,
                          hdl_text *raw, bool *mapped)
{
    *mapped = true;
    *raw = text;
    if (vocab->plain || hdl_utf8_valid_prefix(text.p, text.len) < text.len) {
        *mapped = vocab->plain;
        return HDL_OK;
    }
    char *bytes = hdl_pool_arena_alloc(arena, text.len + 1);
    if (bytes == NULL)
        return HDL_NOMEM;
    size_t n = 0;
    for (size_t at = 0; at < text.len && *mapped;) {
        int b = hdl_char_byte(hdl_utf8_next(text.p, &at));
        *mapped = b >= 0;
        bytes[n++] = (char)b;
    }
    if (*mapped)
        *raw = (hdl_text){bytes, n};
    return HDL_OK;
}

hdl_err hdl_vocab_add(hdl_vocab *vocab, hdl_pool_arena *arena, const hdl_vocab_entry *entry,
                      hdl_errmsg *why)
{
    if (entry->id >= vocab->ids_max)
        return hdl_fail(HDL_INVALID, why,
                        "tokenizer: token id %u is out of range; ids must be below %u", entry->id,
                        vocab->ids_max);
    hdl_vocab_token *t = &vocab->tokens[entry->id];
    uint32_t none = 0;
    uint32_t *slot = entry->unnamed ? &none : find_text_slot(vocab, entry->text, entry->len);
    if (*slot == entry->id + 1) {
        t->special |= entry->special;
        return HDL_OK;
    }
    if (*slot != 0 || t->text != NULL)
        return hdl_fail(HDL_INVALID, why,
                        "tokenizer: token \"%.64s\" with id %u clashes with \"%.64s\" with id %u; "
                        "each token must have one id of its own",
                        entry->text, entry->id, *slot != 0 ? entry->text : t->text,
                        *slot != 0 ? *slot - 1 : entry->id);
    const char *text = hdl_pool_arena_copy(arena, entry->text, entry->len);
    if (text == NULL)
        return HDL_NOMEM;
    hdl_text raw;
    bool mapped;
    HDL_TRY(map_to_raw(vocab, arena, (hdl_text){text, entry->len}, &raw, &mapped));
    *t = (hdl_vocab_token){.text = text,
                           .raw = raw.p,
                           .decoded = raw.p,
                           .text_len = (uint32_t)entry->len,
                           .raw_len = (uint32_t)raw.len,
                           .decoded_len = (uint32_t)raw.len,
                           .special = entry->special,
                           .learned = entry->learned,
                           .mapped = mapped};
    *slot = entry->id + 1;
    uint32_t *raw_slot = find_raw_slot(vocab, t->raw, t->raw_len);
    if (t->learned && t->mapped && *raw_slot == 0)
        *raw_slot = entry->id + 1;
    if (entry->id >= vocab->n_ids)
        vocab->n_ids = entry->id + 1;
    return HDL_OK;
}

hdl_err hdl_vocab_set_decoded(hdl_vocab *vocab, hdl_pool_arena *arena, uint32_t id, hdl_text text)
{
    hdl_text raw;
    bool mapped;
    HDL_TRY(map_to_raw(vocab, arena, text, &raw, &mapped));
    vocab->tokens[id].redone = true;
    vocab->tokens[id].decoded = raw.p;
    vocab->tokens[id].decoded_len = (uint32_t)raw.len;
    return HDL_OK;
}

hdl_token hdl_vocab_find(const hdl_vocab *vocab, const char *text, size_t len)
{
    return (hdl_token)*find_text_slot(vocab, text, len) - 1;
}

hdl_token hdl_vocab_find_raw(const hdl_vocab *vocab, const char *raw, size_t len)
{
    return (hdl_token)*find_raw_slot(vocab, raw, len) - 1;
}
