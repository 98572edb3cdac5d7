/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/prefix.h"

#include "scheduler/core/plant.h"
#include "scheduler/core/side.h"

static bool same_content(const hdl_sched *s, const hdl_kv *kv, uint32_t block,
                         const hdl_prefix_key *key)
{
    const hdl_block *b = &kv->blocks[block];
    if (hdl_planted(s, HASH_ONLY_HIT))
        return true;
    return b->hash == key->hash && b->parent == key->parent &&
           memcmp(hdl_block_tokens(s, kv, block), key->tokens, sizeof(hdl_token) << s->bt_shift) ==
               0;
}

static hdl_index_line *next_line(const hdl_kv *kv, hdl_index_line *line)
{
    return ++line == kv->lines + kv->n_lines ? kv->lines : line;
}

typedef uint32_t words4 __attribute__((vector_size(16)));
typedef char bytes16 __attribute__((vector_size(16)));

/* Bit 4 * i for each of a line's tags, or of its blocks, that has this value. All are looked at at
 * once: no branch to be guessed. */
static uint32_t matches(const uint32_t *entries, uint32_t value, uint32_t mask)
{
    uint32_t found = 0;
#ifdef __SSE2__
    const words4 *half = (const words4 *)entries; /* the eighth word is no entry */
    const words4 want = {value, value, value, value}, care = {mask, mask, mask, mask};
    for (uint32_t i = 0; i < 2; i++)
        found |= (uint32_t)__builtin_ia32_pmovmskb128(
                     (bytes16)(((half[i] ^ want) & care) == (words4){0}))
                 << 16 * i;
#else
    for (uint32_t i = 0; i < HDL_LINE_ENTRIES; i++)
        found |= (uint32_t)(((entries[i] ^ value) & mask) == 0) << 4 * i;
#endif
    return found & 0x01111111u;
}

static uint32_t first_of(uint32_t matches) { return (uint32_t)__builtin_ctz(matches) / 4; }

void hdl_prefix_reset(hdl_kv *kv)
{
    if (kv->n_lines == 0) /* a side has no index */
        return;
    memset(kv->lines, 0xff, kv->n_lines * sizeof *kv->lines);
    for (uint32_t i = 0; i < kv->n_lines; i++)
        kv->lines[i].n_past = 0;
}

uint32_t hdl_prefix_find(const hdl_sched *s, const hdl_kv *kv, const hdl_prefix_key *key)
{
    const uint32_t mask = hdl_planted(s, HASH_ONLY_HIT) ? 7 : UINT32_MAX;
    hdl_index_line *line = hdl_prefix_home(kv, key->hash);
    for (;; line = next_line(kv, line)) {
        for (uint32_t m = matches(line->tag, (uint32_t)key->hash, mask); m; m &= m - 1) {
            uint32_t block = line->block[first_of(m)];
            if (block != NONE && same_content(s, kv, block, key))
                return block;
        }
        if (line->n_past == 0)
            return NONE;
    }
}

/* There is a free entry: lines have room for more entries than there are blocks. */
static void insert(hdl_kv *kv, uint32_t block)
{
    const uint64_t hash = kv->blocks[block].hash;
    hdl_index_line *line = hdl_prefix_home(kv, hash);
    uint32_t empty;
    while (!(empty = matches(line->block, NONE, UINT32_MAX))) {
        line->n_past++;
        line = next_line(kv, line);
    }
    line->tag[first_of(empty)] = (uint32_t)hash;
    line->block[first_of(empty)] = block;
}

uint64_t hdl_prefix_publish(hdl_sched *s, hdl_kv *kv, uint32_t block, uint64_t parent)
{
    hdl_block *b = &kv->blocks[block];
    const hdl_prefix_key key = {b->hash, parent, hdl_block_tokens(s, kv, block)};
    uint32_t known = hdl_prefix_find(s, kv, &key);
    if (known != NONE)
        return hdl_prefix_name(kv, known);
    HDL_ASSERT(b->ref > 0);
    /* Shared with a sequence that published it under a parent that has gone since. */
    if (b->published)
        hdl_prefix_forget(kv, block);
    insert(kv, block);
    b->parent = parent;
    b->version++;
    b->published = true;
    return hdl_prefix_name(kv, block);
}

void hdl_prefix_forget(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    if (!b->published)
        return;
    hdl_index_line *line = hdl_prefix_home(kv, b->hash);
    uint32_t entry;
    while (!(entry = matches(line->block, block, UINT32_MAX))) {
        line->n_past--;
        line = next_line(kv, line);
    }
    line->block[first_of(entry)] = NONE;
    b->published = false;
    for (uint32_t i = 0; i < kv->n_sides; i++)
        hdl_side_detach(&kv->sides[i], block);
}
