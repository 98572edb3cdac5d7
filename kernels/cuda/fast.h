/* SPDX-License-Identifier: Apache-2.0 */
/* Products of `numerics: fast`: bf16 matrices by a library that chooses the order of its sums by
 * the number of rows. On GPUs cuBLASLt (fast_cublaslt.cu); on fibers a plain loop that adds in yet
 * another order (fiber/fast.cc), so that the mode runs in every test. The engine (matmul.cu) packs
 * x as it always does and asks fast_run first; what is not planned stays with its own kernels.
 *
 * A row's bits depend on the rows beside it here: N1 and N2 do not hold, and no leaf tree is kept.
 */
#pragma once

#include "kernels/cuda/cuda.h"

/* Fewer rows are a matter of memory, which the engine's own kernels read once. */
enum { FAST_ROWS_MIN = 16 };

/* y[r] = x[r] W^T + bias, of rows r < m: w [n, stride], x [m, stride] bf16, zeros behind k. */
struct fast_product {
    const uint16_t *w, *x;
    size_t stride; /* numbers from row to row of both */
    uint32_t m, n, k;
    const float *bias; /* [n] or NULL */
    float *y;
    size_t y_stride;
};

/* Of the stream of a device opened for it; NULL: exact, or no library. */
struct fast_products;
/* Who multiplies, into the stream; says in `by` who, or why it is nobody. */
void fast_open(hdl_stream *s, char by[64]);
void fast_close(hdl_stream *s);
/* Chooses how a matrix meets up to m_max rows. Cold. */
void fast_plan(hdl_stream *s, const fast_product *shape, uint32_t m_max);
/* false: not planned, or refused by the library; nothing was launched. */
bool fast_run(hdl_stream *s, const fast_product *p);
/* Of scratch, besides what the engine takes. */
size_t fast_scratch_bytes();
