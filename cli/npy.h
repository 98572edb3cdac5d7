/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy's .npy files, version 1.0 (numpy/lib/format.py), float32 matrices only. Cold. */
#pragma once

#include <stdint.h>

#include <heddle/err.h>

/* Writes out_path as a [rows, cols] float32 matrix whose values are the bytes of raw_path, which
 * must hold exactly that many. */
hdl_err cli_npy_from_raw(const char *out_path, const char *raw_path, uint64_t rows, uint64_t cols,
                         hdl_errmsg *why) HDL_MUST_CHECK;
