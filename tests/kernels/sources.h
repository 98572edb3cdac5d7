/* SPDX-License-Identifier: Apache-2.0 */
/* Random matrices in the encodings of checkpoints, with the numbers that they mean, written down
 * while they are made and not read back by the code under test. */
#pragma once

#include "kernel_test.h"

typedef struct kt_matrix {
    hdl_source src;
    float *values; /* [rows, cols] */
} kt_matrix;

/* cols: a multiple of 32, of 256 for ggml's K types; rows: of 8 for AWQ and words of zero points,
 * of 4 for TERNARY. group: columns of a scale, of the encodings that leave it open. */
kt_matrix kt_matrix_new(kt *t, hdl_enc encoding, uint32_t rows, uint32_t cols, uint32_t group);
