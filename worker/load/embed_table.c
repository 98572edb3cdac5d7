/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/embed_table.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"

enum { CHUNK_ROWS = 64 };

typedef struct table {
    hdl_model *model;
    hdl_source from;
    size_t row_bytes; /* of the copy */
    bool as_is;
    _Atomic int err; /* the first hdl_err of any thread */
} table;

static size_t item_bytes(hdl_enc encoding)
{
    return encoding == HDL_ENC_F32                               ? 4
           : encoding == HDL_ENC_F16 || encoding == HDL_ENC_BF16 ? 2
                                                                 : 0;
}

/* Rows of plain numbers, one behind the other: bytes that can be copied. */
static bool is_plain(const hdl_source *s)
{
    size_t item = item_bytes(s->encoding);
    return item != 0 && !s->by_columns && s->tiles.each == 0 && s->scale_mul == s->scale_div &&
           s->codes.col_step == (int64_t)item && s->codes.row_step == (int64_t)(item * s->n_cols);
}

static hdl_err copy_rows(const table *t, uint32_t row, uint32_t n, float *values)
{
    const hdl_source *s = &t->from;
    const void *bytes = values;
    if (t->as_is)
        bytes = (const char *)s->codes.data + (size_t)(s->row_at + row) * t->row_bytes;
    for (uint32_t i = 0; !t->as_is && i < n; i++)
        hdl_source_values(s, (hdl_span){row + i, 0, s->n_cols}, values + (size_t)i * s->n_cols);
    char *to = (char *)t->model->embed_memory + (size_t)row * t->row_bytes;
    return hdl_device_write(t->model->device, to, bytes, n * t->row_bytes);
}

static void copy_share(void *arg, uint32_t thread, uint32_t n_threads)
{
    table *t = arg;
    uint64_t rows = t->from.n_rows;
    uint32_t end = (uint32_t)(rows * (thread + 1) / n_threads);
    float *values = t->as_is ? NULL : malloc(CHUNK_ROWS * t->row_bytes);
    hdl_err err = t->as_is || values ? HDL_OK : HDL_NOMEM;
    for (uint32_t row = (uint32_t)(rows * thread / n_threads), n; err == HDL_OK && row < end;
         row += n) {
        n = hdl_min_u32(CHUNK_ROWS, end - row);
        err = copy_rows(t, row, n, values);
    }
    free(values);
    if (err != HDL_OK)
        atomic_store(&t->err, (int)err);
}

hdl_err hdl_embed_table_load(hdl_model *model, hdl_errmsg *why)
{
    if (hdl_device_is_host(model->device))
        return HDL_OK;
    table t = {.model = model, .from = model->embed, .as_is = is_plain(&model->embed)};
    hdl_enc encoding = t.as_is ? t.from.encoding : HDL_ENC_F32;
    t.row_bytes = t.from.n_cols * item_bytes(encoding);
    if (hdl_mul_size(t.from.n_rows, t.row_bytes, &model->embed_bytes))
        model->embed_memory = hdl_device_alloc(model->device, model->embed_bytes);
    if (!model->embed_memory)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for an embedding of %u rows of %zu bytes; the device is full; "
                        "use more ranks or smaller --weights",
                        t.from.n_rows, t.row_bytes);
    hdl_stream_run(hdl_device_host(model->device), copy_share, &t);
    hdl_err err = (hdl_err)atomic_load(&t.err);
    if (err != HDL_OK)
        return hdl_fail(err, why,
                        "the embedding cannot be copied to the device; %s; look at its "
                        "driver's log",
                        hdl_err_text(err));
    HDL_LOG(INFO, LOAD, "embedding", "from=%s to=%s file_bytes=%" PRIu64 " memory_bytes=%zu",
            hdl_enc_name(t.from.encoding), hdl_enc_name(encoding), hdl_source_bytes(&t.from),
            model->embed_bytes);
    model->embed = (hdl_source){
        .encoding = encoding,
        .n_rows = t.from.n_rows,
        .whole_rows = t.from.n_rows,
        .n_cols = t.from.n_cols,
        .scale_mul = 1,
        .scale_div = 1,
        .codes = {.data = model->embed_memory,
                  .row_step = (int64_t)t.row_bytes,
                  .col_step = (int64_t)item_bytes(encoding)},
    };
    return HDL_OK;
}
