/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of a model as its files hold them, asked for by slot: the view that place.c and
 * quant.c have of whatever container a model comes in. Names and forms are those of the
 * architecture's tables.
 *
 * What is found is a source over the mapped files (borrowed: until close), whole and in the model's
 * own numbering of rows, whatever else its tensor holds. Cold; the opening thread; the sources may
 * be read from any thread. */
#pragma once

#include "worker/model/arch.h"

typedef struct hdl_files hdl_files;

/* Where in a source the rows of a slot are whose heads take turns with those of other slots. */
typedef struct hdl_found_heads {
    uint32_t each;        /* rows of a head; 0: all rows are in order */
    uint32_t step, first; /* head h begins at row h * step + first */
    hdl_tiles tiles;      /* each 0, or which head of the file head h is */
    bool across;          /* columns for rows: the source shows each head's matrix transposed */
} hdl_found_heads;

static inline uint32_t hdl_found_head_row(const hdl_found_heads *h, uint32_t head)
{
    return (h->tiles.each ? hdl_tile_of(&h->tiles, head) : head) * h->step + h->first;
}

typedef struct hdl_found {
    hdl_source src;   /* [rows, cols] of the slot; a vector has one column */
    const char *name; /* of the tensor, for messages; borrowed: until close */
    uint32_t pairs; /* 0: rows are in order. Else of each so many rows the first half is at the even
                       places of the file and the second half at the odd ones */
    hdl_found_heads heads; /* each: src is the whole tensor */
    bool neg_exp;          /* of x the file has -exp(x) */
} hdl_found;

/* model_path: the folder of a Hugging Face model, or a GGUF file. */
hdl_err hdl_files_open(hdl_files **out, const char *model_path, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_files_close(hdl_files *files);

/* What is asked for, and by whom. */
typedef struct hdl_files_ask {
    const hdl_model_desc *desc;
    hdl_weight_at at;
} hdl_files_ask;
/* The place's tensor, checked for type and shape against the description, and marked as found. */
hdl_err hdl_files_find(hdl_files *files, hdl_files_ask ask, hdl_found *out,
                       hdl_errmsg *why) HDL_MUST_CHECK;
/* Refuses tensors that were never found. */
hdl_err hdl_files_check_unknown(const hdl_files *files, const hdl_model_desc *desc,
                                hdl_errmsg *why) HDL_MUST_CHECK;

/* Tells these files from others (hdl_fs_map_stamp). */
uint64_t hdl_files_stamp(const hdl_files *files);
/* Drops the pages that loading brought into this process; they stay in the page cache. */
void hdl_files_forget_pages(hdl_files *files);
