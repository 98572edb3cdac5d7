/* SPDX-License-Identifier: Apache-2.0 */
/* A body on its way to token ids: all that lies between the last byte of a request and its
 * submission, without its connection, so that any thread can do it (job.h). */
#pragma once

#include "scheduler/front/api.h"
#include "scheduler/front/job.h"

typedef struct hdl_prompt {
    hdl_token *ids; /* owned */
    size_t n_ids;
    hdl_buf echo;      /* its text, when it is to be echoed */
    uint32_t n_cached; /* tokens that the prefix cache had */
    bool counted;      /* in the answer's usage */
} hdl_prompt;

typedef struct hdl_prep {
    hdl_job job; /* first */
    hdl_api_kind kind;
    const hdl_front_model *model;
    hdl_engine_info info;
    hdl_buf body; /* owned; the JSON text */
    /* what work leaves */
    hdl_json *doc;         /* owned; params borrow from it */
    hdl_api_params params; /* owned */
    hdl_prompt *prompts;   /* [n_prompts] owned, until a call takes them */
    uint32_t n_prompts;
    hdl_api_error err; /* status 0: all is well */
} hdl_prep;

/* Reads the body; err says how that went. */
void hdl_prep_work(hdl_job *job, hdl_tok_scratch *scratch);
void hdl_prep_free(hdl_prep *prep);
void hdl_prompts_free(hdl_prompt *prompts, uint32_t n);

/* 404 model_not_found unless name is the model's or an alias. */
bool hdl_prep_check_model(const hdl_front_model *model, const char *name,
                          hdl_api_error *err) HDL_MUST_CHECK;
/* The chat's messages through the model's template. */
typedef struct hdl_prompt_text {
    hdl_buf text;
    hdl_ranges own; /* the template's own words: special tokens may be read there alone */
} hdl_prompt_text;
void hdl_prompt_text_init(hdl_prompt_text *prompt);
void hdl_prompt_text_deinit(hdl_prompt_text *prompt);
bool hdl_prep_render(const hdl_front_model *model, const hdl_api_params *p, hdl_prompt_text *out,
                     hdl_api_error *err) HDL_MUST_CHECK;
