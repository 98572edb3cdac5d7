/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files: whatever the bytes, opening refuses or every value and tensor lies inside the file.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t read_to; /* so that no read is left out */

static uint64_t walk_kv(const hdl_gguf *g, const hdl_gguf_kv *kv)
{
    uint64_t sum = kv->count;
    hdl_gguf_str s;
    size_t at = 0;
    HDL_ASSERT(hdl_gguf_find(g, kv->key) == kv);
    if (kv->type == HDL_GGUF_STRING) {
        uint64_t n = 0;
        while (hdl_gguf_next_string(kv, &at, &s)) {
            n++;
            sum += s.len ? (uint64_t)s.data[0] + (uint64_t)s.data[s.len - 1] : 0;
        }
        HDL_ASSERT(n == kv->count);
    } else if (kv->count != 0) {
        sum += hdl_gguf_float_at(kv, kv->count - 1) > 0;
    }
    /* Any key may be asked for as anything. */
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    sum += hdl_gguf_u64(g, kv->key, &u, NULL) + hdl_gguf_f64(g, kv->key, &d, NULL);
    sum += hdl_gguf_bool(g, kv->key, &b, NULL) + hdl_gguf_string(g, kv->key, &s, NULL);
    return sum + u + b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_gguf *g = NULL;
    hdl_errmsg why;
    /* Of its own, so that a read past the end is seen, and aligned as a mapping is. */
    uint8_t *file = malloc(size ? size : 1);
    if (!file)
        return 0;
    memcpy(file, data, size);
    if (hdl_gguf_open_bytes(&g, file, size, &why) == HDL_OK) {
        uint64_t sum = 0;
        for (size_t i = 0; i < hdl_gguf_kv_count(g); i++)
            sum += walk_kv(g, hdl_gguf_kv_at(g, i));
        for (size_t i = 0; i < hdl_gguf_tensor_count(g); i++) {
            const hdl_gguf_tensor *t = hdl_gguf_tensor_at(g, i);
            const uint8_t *at = t->data;
            HDL_ASSERT(at >= file && t->bytes <= size && at + t->bytes <= file + size);
            HDL_ASSERT(hdl_gguf_tensor_find(g, t->name) == t && (uintptr_t)at % 8 == 0);
            sum += (uint64_t)at[0] + at[t->bytes - 1];
        }
        read_to = sum;
    }
    hdl_gguf_close(g);
    free(file);
    return 0;
}
