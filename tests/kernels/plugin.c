/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin.h"

#include <stdio.h>
#include <string.h>

enum { SCRATCH = 64 << 20, ARENA = 1 << 29, ALIGN = 64 };

static struct {
    const hdl_plugin *plugin;
    hdl_plugin_device *devices[KT_STREAMS];
    const kt *t;
    hdl_ops ops;
    unsigned char *arena; /* of kt_alloc, pinned; NULL: malloc will do */
    size_t arena_at;
} p;

/* The plugin's device for a stream of the runner: another order of threads each. */
static hdl_plugin_device *device_of(const hdl_stream *stream)
{
    for (int i = 0; i < KT_STREAMS; i++)
        if (p.t->streams[i] == stream)
            return p.devices[i];
    return NULL;
}

static void wait_for(hdl_plugin_device *device)
{
    hdl_err err = p.plugin->sync(device);
    if (err != HDL_OK)
        printf("FAIL the device: %s\n", hdl_err_text(err));
}

/* Each op of the table, and then a wait: tests look at once. */
#define WRAP(op, args)                                                                             \
    static void wrap_##op(const args *a, hdl_stream *stream)                                       \
    {                                                                                              \
        hdl_plugin_device *device = device_of(stream);                                             \
        p.plugin->ops->op(a, p.plugin->stream(device));                                            \
        wait_for(device);                                                                          \
    }
HDL_OP_LIST(WRAP)

#define OP_NAME(op, args) {#op, offsetof(hdl_ops, op)},
static const struct {
    const char *name;
    size_t at;
} members[] = {HDL_OP_LIST(OP_NAME)};

bool kt_plugin_has(const char *suite)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(members); i++)
        if (strcmp(members[i].name, suite) == 0) {
            void *op = NULL;
            memcpy(&op, (const char *)p.plugin->ops + members[i].at, sizeof op);
            return op != NULL;
        }
    /* Whole formats and trees stand on the matrix ops; the rest is of the host alone. */
    return (strcmp(suite, "tree") == 0 || strcmp(suite, "formats") == 0) && p.plugin->ops->linear &&
           p.plugin->ops->moe_experts;
}

const hdl_ops *kt_plugin_open(const kt *t, const char *path)
{
    hdl_errmsg why = {0};
    p.t = t;
    /* What is missing is told as an error; the suites of what is there can run nevertheless. */
    if (hdl_plugin_load(&p.plugin, path, &why) != HDL_OK) {
        printf("%s\n", why.text);
        if (!p.plugin)
            return NULL;
    }
    for (uint32_t i = 0; i < KT_STREAMS; i++) {
        hdl_plugin_opts opts = {.scratch_bytes = SCRATCH, .order = i};
        if (p.plugin->open(&p.devices[i], &opts, &why) != HDL_OK) {
            printf("%s\n", why.text);
            return NULL;
        }
    }
    if (strcmp(p.plugin->name, "fiber") != 0)
        p.arena = p.plugin->alloc_pinned(p.devices[0], ARENA);
    p.ops = *p.plugin->ops;
#define WRAPPED(op, args) p.ops.op = wrap_##op;
    HDL_OP_LIST(WRAPPED)
    return &p.ops;
}

void kt_plugin_close(void)
{
    for (int i = KT_STREAMS - 1; i >= 0 && p.plugin; i--)
        p.plugin->close(p.devices[i]);
}

void *kt_plugin_alloc(size_t bytes)
{
    if (!p.arena)
        return NULL;
    size_t at = (p.arena_at + ALIGN - 1) / ALIGN * ALIGN;
    if (bytes > ARENA - at)
        return NULL;
    p.arena_at = at + bytes;
    memset(p.arena + at, 0, bytes);
    return p.arena + at;
}

void kt_plugin_free_all(void) { p.arena_at = 0; }
