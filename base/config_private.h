/* SPDX-License-Identifier: Apache-2.0 */
/* Private to config*.c. */
#pragma once

#include "base/arena.h"
#include "base/config.h"

struct hdl_cfg {
    const hdl_cfg_key *keys; /* borrowed */
    size_t keys_count;
    unsigned char *values; /* borrowed: the caller's struct */
    hdl_pool_arena arena;  /* owned: strings, lists, origins */
    const char **origins;  /* [keys_count], in the arena */
    bool *loaded;          /* [keys_count], set by the file being loaded */
};

/* Parses one value given as text, checks its range and stores it in the caller's struct. The
 * message is what follows the key's name: `must be 1 to 65535; it is 0`. */
hdl_err hdl_cfg_store(hdl_cfg *cfg, const hdl_cfg_key *key, const char *text, hdl_errmsg *why);

/* Stores a list of strings (LIST keys). */
hdl_err hdl_cfg_store_list(hdl_cfg *cfg, const hdl_cfg_key *key, const char *const *items,
                           size_t count);

/* Appends the current value as YAML. */
void hdl_cfg_write_value(const hdl_cfg *cfg, const hdl_cfg_key *key, hdl_buf *out);
/* "int, 1 to 65535", "auto | bf16 | q8". */
void hdl_cfg_write_type(const hdl_cfg_key *key, hdl_buf *out);

const char *hdl_cfg_type_name(hdl_cfg_type type);
