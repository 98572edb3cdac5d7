/* SPDX-License-Identifier: Apache-2.0 */
/* API keys from a file: one a line, `KEY` or `NAME:KEY`; empty lines and lines with # are skipped.
 *
 * Only SHA-256 hashes are kept, and every key is compared in constant time with all of them, so
 * that neither memory nor time tells a key. A key's line makes its tenant: the order of names (or
 * of lines without one), so that several keys of one name share one fair share and one prefix
 * cache. The table is replaced as a whole by a reload; any front thread may look a key up
 * meanwhile. */
#pragma once

#include <heddle/err.h>
#include <stdint.h>

typedef struct hdl_keys hdl_keys; /* heap, cold */

hdl_err hdl_keys_open(hdl_keys **out, const char *path, hdl_errmsg *why) HDL_MUST_CHECK;
/* On error what was there stays. */
hdl_err hdl_keys_reload(hdl_keys *keys, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_keys_close(hdl_keys *keys);

/* Who a request belongs to. */
typedef struct hdl_tenant {
    uint32_t idx;  /* share of the scheduler; 0: a server without keys */
    uint64_t salt; /* of the prefix cache: the same name has the same, across reloads, too */
} hdl_tenant;

/* False: no such key. */
bool hdl_keys_find(hdl_keys *keys, const char *key, size_t len, hdl_tenant *tenant);
