/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes into the YAML reader and, as a configuration file, into the key table. What the
 * configuration takes must survive its own dump: values -> YAML -> values -> the same YAML. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/config.h>

#include "base/assert.h"
#include "base/config.h"
#include "base/config_keys.h"
#include "base/yaml.h"

static void touch(const hdl_yaml_node *node)
{
    HDL_ASSERT(node->line > 0 && node->col > 0);
    if (node->text)
        HDL_ASSERT_EQ(strlen(node->text), node->text_len);
    for (size_t i = 0; node->kind == HDL_YAML_SEQ && i < node->count; i++)
        touch(node->items[i]);
    for (size_t i = 0; node->kind == HDL_YAML_MAP && i < node->count; i++) {
        HDL_ASSERT(hdl_yaml_get(node, node->pairs[i].key->text) == node->pairs[i].value);
        touch(node->pairs[i].value);
    }
}

static hdl_cfg *open_config(hdl_config *values)
{
    hdl_cfg *cfg;
    hdl_cfg_opts opts = {
        .keys = hdl_config_keys, .keys_count = hdl_config_keys_count, .values = values};
    HDL_ASSERT_EQ(hdl_cfg_open(&cfg, &opts), HDL_OK);
    return cfg;
}

/* text must not hold NUL bytes beyond its end. */
static void check_config(const char *text)
{
    hdl_config values, again;
    hdl_errmsg why;
    hdl_cfg *cfg = open_config(&values);
    if (hdl_cfg_load_text(cfg, "f.yaml", text, &why) == HDL_OK) {
        hdl_buf first, second;
        hdl_buf_init(&first, 16 << 20);
        hdl_buf_init(&second, 16 << 20);
        HDL_ASSERT_EQ(hdl_cfg_print_docs(cfg, &first), HDL_OK);
        hdl_cfg *reloaded = open_config(&again);
        /* A dump over the reader's limits is refused by the reader, not mangled. */
        if (hdl_cfg_load_text(reloaded, "d.yaml", hdl_buf_cstr(&first), &why) == HDL_OK) {
            HDL_ASSERT_EQ(hdl_cfg_print_docs(reloaded, &second), HDL_OK);
            HDL_ASSERT(strcmp(hdl_buf_cstr(&first), hdl_buf_cstr(&second)) == 0);
        } else {
            HDL_ASSERT(first.len > HDL_YAML_BYTES_MAX);
        }
        hdl_cfg_close(reloaded);
        hdl_buf_deinit(&first);
        hdl_buf_deinit(&second);
    } else {
        HDL_ASSERT(why.text[0] != '\0');
    }
    hdl_cfg_close(cfg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_yaml *doc;
    hdl_errmsg why;
    if (hdl_yaml_parse("f.yaml", (const char *)data, size, &doc, &why) != HDL_OK) {
        HDL_ASSERT(why.text[0] != '\0');
        return 0;
    }
    touch(hdl_yaml_root(doc));
    hdl_yaml_close(doc);
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_config(text);
    free(text);
    return 0;
}
