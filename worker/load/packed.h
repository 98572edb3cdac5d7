/* SPDX-License-Identifier: Apache-2.0 */
/* The packed cache: a rank's weights as its kernels want them, kept in a file so that the next
 * start reads and does not convert.
 *
 * One file for each shard: what was read (the files' stamp), where every row went, for which
 * kernels and by which build of this program, are its key. A file of another key is another file; a
 * damaged one is said, left alone by reading and written anew. Nothing that goes wrong here keeps a
 * model from being loaded. Cold; the opening thread calls, the stream's threads help. */
#pragma once

#include <heddle/device.h>

#include "worker/model/build.h"

typedef struct hdl_packed {
    const char *folder; /* borrowed; "" or NULL: no cache */
    const hdl_model *model;
    uint64_t key[2];
    hdl_stream *stream;
} hdl_packed;

/* Fills the model's memory from the cache. False: there is no such file, or it cannot be used (a
 * line in the log says why); memory then holds nothing that packing would not write. */
bool hdl_packed_read(const hdl_packed *packed);
/* Keeps the model's memory. */
void hdl_packed_write(const hdl_packed *packed);
