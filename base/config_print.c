/* SPDX-License-Identifier: Apache-2.0 */
/* The table and the values as YAML that loads again. */
#include <string.h>

#include "base/config_private.h"

static void indent(hdl_buf *out, size_t depth)
{
    for (size_t i = 0; i < depth; i++)
        hdl_buf_puts(out, "  ");
}

/* Opens the sections of path that the key before was not in; returns the key's own depth. */
static size_t open_sections(hdl_buf *out, const char *before, const char *path)
{
    size_t depth = 0;
    const char *part = path;
    bool same = true;
    for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1, depth++) {
        size_t len = (size_t)(dot + 1 - path);
        same = same && strncmp(before, path, len) == 0;
        if (same)
            continue;
        if (depth == 0 && before[0])
            hdl_buf_puts(out, "\n");
        indent(out, depth);
        hdl_buf_append(out, part, (size_t)(dot - part));
        hdl_buf_puts(out, ":\n");
    }
    return depth;
}

static const char *last_word(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

hdl_err hdl_cfg_print_docs(const hdl_cfg *cfg, hdl_buf *out)
{
    const char *before = "";
    for (size_t i = 0; i < cfg->keys_count; i++) {
        const hdl_cfg_key *key = &cfg->keys[i];
        size_t depth = open_sections(out, before, key->path);
        indent(out, depth);
        hdl_buf_printf(out, "# %s (", key->doc ? key->doc : last_word(key->path));
        hdl_cfg_write_type(key, out);
        hdl_buf_puts(out, ")\n");
        indent(out, depth);
        hdl_buf_printf(out, "%s: ", last_word(key->path));
        hdl_cfg_write_value(cfg, key, out);
        hdl_buf_puts(out, "\n");
        before = key->path;
    }
    return hdl_buf_ok(out) ? HDL_OK : HDL_BUSY;
}

hdl_err hdl_cfg_dump(const hdl_cfg *cfg, hdl_buf *out)
{
    const char *before = "";
    for (size_t i = 0; i < cfg->keys_count; i++) {
        const hdl_cfg_key *key = &cfg->keys[i];
        indent(out, open_sections(out, before, key->path));
        hdl_buf_printf(out, "%s: ", last_word(key->path));
        hdl_cfg_write_value(cfg, key, out);
        hdl_buf_printf(out, "  # %s\n", cfg->origins[i]);
        before = key->path;
    }
    return hdl_buf_ok(out) ? HDL_OK : HDL_BUSY;
}
