/* SPDX-License-Identifier: Apache-2.0 */
/* Token ids in text files: numbers separated by blanks, commas or lines. Cold, any thread. */
#pragma once

#include "scheduler/text/ids.h"

enum { CLI_IDS_MAX = 64 << 20 };

/* Appends the ids that stand in `text` up to its end. INVALID names what is no id. */
hdl_err cli_ids_parse(const char *text, hdl_ids *ids, hdl_errmsg *why) HDL_MUST_CHECK;

/* All ids of a file, as one sequence; at least one. */
hdl_err cli_ids_read(const char *path, hdl_ids *ids, hdl_errmsg *why) HDL_MUST_CHECK;
