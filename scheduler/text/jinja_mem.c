/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of templates and where their bytes come from. */
#include <string.h>

#include "scheduler/text/jinja_value.h"

enum { CHUNK_MIN = 32 << 10, CHUNK_MAX = 1 << 20 };

void hdl_jmem_init(hdl_jmem *mem, size_t cap_bytes, const hdl_jmem *constants)
{
    *mem = (hdl_jmem){.constants = constants, .steps = {0, UINT64_MAX}};
    hdl_pool_arena_init(&mem->arena, cap_bytes);
}

void hdl_jmem_deinit(hdl_jmem *mem) { hdl_pool_arena_deinit(&mem->arena); }

void *hdl_jmem_alloc(hdl_jmem *mem, size_t bytes)
{
    if (!hdl_jsteps_add(&mem->steps, 1 + bytes / 128))
        return NULL;
    return hdl_pool_arena_alloc(&mem->arena, bytes);
}

void *hdl_jmem_array(hdl_jmem *mem, size_t count, size_t item_bytes)
{
    size_t bytes;
    return __builtin_mul_overflow(count, item_bytes, &bytes) ? NULL : hdl_jmem_alloc(mem, bytes);
}

static hdl_err add_chunk(hdl_jmem *mem, hdl_jchunk chunk)
{
    if (mem->n_chunks == mem->chunks_max) {
        size_t max = mem->chunks_max ? 2 * mem->chunks_max : 16;
        hdl_jchunk *bigger = hdl_jmem_array(mem, max, sizeof *bigger);
        if (bigger == NULL)
            return HDL_BUSY;
        if (mem->n_chunks > 0)
            memcpy(bigger, mem->chunks, mem->n_chunks * sizeof *bigger);
        mem->chunks = bigger;
        mem->chunks_max = max;
    }
    size_t i = mem->n_chunks++;
    for (; i > 0 && mem->chunks[i - 1].p > chunk.p; i--)
        mem->chunks[i] = mem->chunks[i - 1];
    mem->chunks[i] = chunk;
    return HDL_OK;
}

hdl_err hdl_jmem_note(hdl_jmem *mem, hdl_text text)
{
    return add_chunk(mem, (hdl_jchunk){(char *)(uintptr_t)text.p, text.len, NULL});
}

/* The chunk that a string of this memory lies in, or NULL. */
static const hdl_jchunk *chunk_of(const hdl_jmem *mem, const char *p)
{
    size_t lo = 0, hi = mem->n_chunks;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (mem->chunks[mid].p <= p)
            lo = mid + 1;
        else
            hi = mid;
    }
    const hdl_jchunk *chunk = lo > 0 ? &mem->chunks[lo - 1] : NULL;
    return chunk != NULL && p < chunk->p + chunk->size ? chunk : NULL;
}

void hdl_jmem_origin(const hdl_jmem *mem, hdl_text text, unsigned char *own)
{
    if (text.len == 0)
        return;
    const hdl_jchunk *chunk = chunk_of(mem, text.p);
    if (chunk != NULL && chunk->own != NULL) {
        memcpy(own, chunk->own + (text.p - chunk->p), text.len);
        return;
    }
    if (chunk == NULL && mem->constants != NULL)
        chunk = chunk_of(mem->constants, text.p);
    memset(own, chunk != NULL, text.len);
}

bool hdl_jmem_is_own(const hdl_jmem *mem, hdl_text text)
{
    const hdl_jchunk *chunk = chunk_of(mem, text.p);
    if (chunk == NULL || chunk->own == NULL)
        return chunk != NULL || (mem->constants != NULL && chunk_of(mem->constants, text.p));
    return memchr(chunk->own + (text.p - chunk->p), 0, text.len) == NULL;
}

/* Room for n more bytes of strings; a new chunk has as much again to spare, so that growing is
 * linear. */
static hdl_err string_room(hdl_jmem *mem, size_t n)
{
    if (mem->at.p != NULL && n <= mem->at.size - mem->used)
        return HDL_OK;
    if (n > SIZE_MAX / 8)
        return HDL_BUSY;
    size_t usual = mem->at.size >= CHUNK_MAX / 2 ? CHUNK_MAX
                   : mem->at.size > 0            ? 2 * mem->at.size
                                                 : CHUNK_MIN;
    hdl_jchunk chunk = {.size = n < usual / 4 ? usual : 2 * n};
    bool keeps = mem->constants != NULL;
    chunk.p = hdl_jmem_alloc(mem, chunk.size * (keeps ? 2 : 1));
    if (chunk.p == NULL)
        return HDL_BUSY;
    chunk.own = keeps ? (unsigned char *)chunk.p + chunk.size : NULL;
    HDL_TRY(add_chunk(mem, chunk));
    mem->at = chunk;
    mem->used = 0;
    return HDL_OK;
}

/* There is room. */
static void put(hdl_jmem *mem, hdl_text text)
{
    memcpy(mem->at.p + mem->used, text.p, text.len);
    if (mem->at.own != NULL)
        hdl_jmem_origin(mem, text, mem->at.own + mem->used);
    mem->used += text.len;
}

hdl_err hdl_jconcat(hdl_jmem *mem, hdl_text a, hdl_text b, hdl_jval *out)
{
    if (!hdl_jsteps_add(&mem->steps, 1 + b.len / 64))
        return HDL_BUSY;
    bool at_end = a.len > 0 && mem->at.p != NULL && a.p + a.len == mem->at.p + mem->used;
    if (at_end && b.len <= mem->at.size - mem->used) {
        put(mem, b);
        *out = hdl_jslice((hdl_text){a.p, a.len + b.len});
        return HDL_OK;
    }
    HDL_TRY(string_room(mem, a.len + b.len));
    if (!hdl_jsteps_add(&mem->steps, a.len / 64))
        return HDL_BUSY;
    const char *p = mem->at.p + mem->used;
    put(mem, a);
    put(mem, b);
    *out = hdl_jslice((hdl_text){p, a.len + b.len});
    return HDL_OK;
}

hdl_err hdl_jstring(hdl_jmem *mem, hdl_text text, hdl_jval *out)
{
    return hdl_jconcat(mem, (hdl_text){"", 0}, text, out);
}

hdl_err hdl_jstring_own(hdl_jmem *mem, hdl_text text, bool own, hdl_jval *out)
{
    HDL_TRY(hdl_jstring(mem, text, out));
    if (mem->at.own != NULL)
        memset(mem->at.own + mem->used - text.len, own, text.len);
    return HDL_OK;
}

void hdl_jout_init(hdl_jout *out, hdl_buf *text)
{
    out->text = text;
    hdl_buf_init(&out->own, SIZE_MAX / 2);
}

void hdl_jout_deinit(hdl_jout *out) { hdl_buf_deinit(&out->own); }

hdl_err hdl_jout_put(hdl_jout *out, hdl_jmem *mem, const hdl_jval *v)
{
    size_t before = out->text->len;
    HDL_TRY(hdl_jval_str(v, &mem->steps, out->text));
    size_t n = out->text->len - before;
    if (!hdl_jsteps_add(&mem->steps, 1 + n / 16))
        return HDL_BUSY;
    if (n == 0)
        return HDL_OK;
    HDL_TRY(hdl_buf_reserve(&out->own, n));
    memset(hdl_buf_tail(&out->own), 0, n);
    if (v->kind == HDL_J_STRING)
        hdl_jmem_origin(mem, v->s, hdl_buf_tail(&out->own));
    hdl_buf_commit(&out->own, n);
    return HDL_OK;
}

hdl_err hdl_jout_string(const hdl_jout *out, hdl_jmem *mem, hdl_jval *v)
{
    hdl_text text = {(const char *)hdl_buf_data(out->text), out->text->len};
    HDL_TRY(hdl_jstring(mem, text, v));
    if (mem->at.own != NULL && text.len > 0)
        memcpy(mem->at.own + mem->used - text.len, hdl_buf_data(&out->own), text.len);
    return HDL_OK;
}
