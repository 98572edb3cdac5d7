/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that nobody trained: matrices of random codes, packed by the backend that will read them.
 *
 * A row is made up on the host; all rows of a matrix are that row, and all matrices of one shape
 * are copies on the device, so that a model of 60 GB is there in seconds. What kernels do does not
 * depend on the values; a GPU's power does, a little, and random bits are what trained weights look
 * like to it. Owner: the opening thread; the device's host team helps. */
#pragma once

#include <heddle/device.h>

enum { HDL_MADE_SHAPES_MAX = 64 };

/* Zeroed but for `device` before the first call. */
typedef struct hdl_made {
    hdl_device *device;
    hdl_weight shapes[HDL_MADE_SHAPES_MAX]; /* borrowed memory: one matrix of each shape */
    uint32_t n_shapes;
} hdl_made;

/* Fills w->data, of its format, shape and codebook; not w->more. Any memory of the device. */
hdl_err hdl_made_weight(hdl_made *made, hdl_weight *w) HDL_MUST_CHECK;

/* Norms for op linear_screened of a matrix that hdl_made_weight filled, F32 or BF16; as Q8 it is
 * the copy. Memory of the host. */
void hdl_made_norms(const hdl_weight *w, hdl_screen_norms out);

/* Fills `bytes` of device memory with copies of the pattern, of pattern_bytes on the host. */
hdl_err hdl_made_repeat(hdl_device *device, void *to, size_t bytes, const void *pattern,
                        size_t pattern_bytes) HDL_MUST_CHECK;
