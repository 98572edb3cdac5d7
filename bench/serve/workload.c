/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets to request bodies. Prompts of known length are token ids, which every server that speaks
 * OpenAI's completions takes as they are; chat needs text, so it gets short words, about a token
 * each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/json_write.h"
#include "base/rng.h"
#include "bench/serve/trace.h"

enum { BODY_BYTES_MAX = 64 << 20, MOONCAKE_BLOCK = 512 };

/* One request before it is written down. */
typedef struct draft {
    const uint32_t *ids; /* [n_ids]; or */
    uint32_t n_ids;
    const char *text;
    uint32_t max_tokens;
} draft;

static const char *const words[] = {
    "time", "way",  "day",   "man",  "thing", "world", "life",  "hand",   "part",  "place", "case",
    "week", "work", "point", "home", "room",  "fact",  "month", "lot",    "right", "study", "book",
    "eye",  "job",  "word",  "side", "kind",  "head",  "house", "friend", "hour",  "game"};

static void put_words(hdl_json_writer *w, const draft *d)
{
    hdl_buf text;
    hdl_buf_init(&text, BODY_BYTES_MAX);
    for (uint32_t i = 0; i < d->n_ids; i++)
        hdl_buf_printf(&text, "%s%s", i ? " " : "", words[d->ids[i] % HDL_ARRAY_LEN(words)]);
    hdl_jw_cstr(w, hdl_buf_cstr(&text));
    hdl_buf_deinit(&text);
}

static void put_prompt(hdl_json_writer *w, const hdl_load_spec *spec, const draft *d)
{
    if (spec->api == HDL_LOAD_CHAT) {
        hdl_jw_key(w, "messages");
        hdl_jw_begin_array(w);
        hdl_jw_begin_object(w);
        hdl_jw_kv_cstr(w, "role", "user");
        hdl_jw_key(w, "content");
        if (d->text)
            hdl_jw_cstr(w, d->text);
        else
            put_words(w, d);
        hdl_jw_end_object(w);
        hdl_jw_end_array(w);
        return;
    }
    hdl_jw_key(w, "prompt");
    if (d->text) {
        hdl_jw_cstr(w, d->text);
        return;
    }
    hdl_jw_begin_array(w);
    for (uint32_t i = 0; i < d->n_ids; i++)
        hdl_jw_uint(w, d->ids[i]);
    hdl_jw_end_array(w);
}

static hdl_err add(hdl_load_set *set, const hdl_load_spec *spec, const draft *d, hdl_errmsg *why)
{
    hdl_buf out;
    hdl_json_writer w;
    hdl_buf_init(&out, BODY_BYTES_MAX);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "model", spec->model);
    put_prompt(&w, spec, d);
    hdl_jw_kv_uint(&w, "max_tokens", d->max_tokens);
    hdl_jw_key(&w, "temperature");
    hdl_jw_double(&w, spec->temperature);
    hdl_jw_kv_bool(&w, "stream", true);
    hdl_jw_key(&w, "stream_options");
    hdl_jw_begin_object(&w);
    hdl_jw_kv_bool(&w, "include_usage", true);
    hdl_jw_end_object(&w);
    if (spec->ignore_eos)
        hdl_jw_kv_bool(&w, "ignore_eos", true);
    hdl_jw_end_object(&w);
    bool complete = hdl_buf_ok(&out);
    hdl_load_item *item = &set->items[set->n];
    item->n_input = d->text || spec->api == HDL_LOAD_CHAT ? 0 : d->n_ids;
    item->body = complete ? hdl_buf_steal(&out, &item->body_len) : NULL;
    hdl_buf_deinit(&out);
    if (!item->body)
        return hdl_fail(HDL_NOMEM, why,
                        "a request of %u tokens does not fit; the prompts are too "
                        "long; make them shorter",
                        d->n_ids);
    set->n++;
    return HDL_OK;
}

/* ---- synthetic ----------------------------------------------------------------------------- */

static uint32_t length(hdl_rng *rng, uint32_t mean, double ratio)
{
    double lo = floor(mean * (1 - ratio)), hi = ceil(mean * (1 + ratio));
    return hdl_max_u32(1,
                       (uint32_t)hdl_rng_range(rng, (uint64_t)fmax(lo, 1), (uint64_t)fmax(hi, 1)));
}

static void fill(hdl_rng *rng, uint32_t *ids, uint32_t n, uint32_t vocab)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (uint32_t)hdl_rng_range(rng, 1, vocab - 1);
}

static hdl_err make_random(hdl_load_set *set, const hdl_load_spec *spec, hdl_errmsg *why)
{
    hdl_rng rng;
    uint32_t prefix = spec->dataset == HDL_LOAD_PREFIX ? spec->prefix_len : 0;
    size_t most = prefix + (size_t)(spec->input_len * (1 + spec->range_ratio)) + 2;
    uint32_t *ids = malloc(most * sizeof(*ids));
    hdl_err err = ids ? HDL_OK : hdl_fail(HDL_NOMEM, why, "out of memory; ask for shorter prompts");
    hdl_rng_init(&rng, spec->seed);
    for (uint32_t i = 0; i < spec->n && err == HDL_OK; i++) {
        if (prefix > 0) {
            hdl_rng shared;
            hdl_rng_init(&shared, spec->seed * 1000003 + hdl_rng_below(&rng, spec->prefixes));
            fill(&shared, ids, prefix, spec->vocab);
        }
        uint32_t own = length(&rng, spec->input_len, spec->range_ratio);
        fill(&rng, ids + prefix, own, spec->vocab);
        draft d = {.ids = ids,
                   .n_ids = prefix + own,
                   .max_tokens = length(&rng, spec->output_len, spec->range_ratio)};
        err = add(set, spec, &d, why);
    }
    free(ids);
    return err;
}

/* ---- files --------------------------------------------------------------------------------- */

/* Tokens of a trace's request: blocks that share a hash share their tokens; what the hashes do not
 * cover is the request's own. */
static void fill_traced(const hdl_load_spec *spec, const hdl_trace_row *row, uint32_t *ids,
                        uint64_t own_seed)
{
    for (uint32_t at = 0; at < row->n_input; at += MOONCAKE_BLOCK) {
        hdl_rng rng;
        uint32_t block = at / MOONCAKE_BLOCK;
        bool hashed = block < row->n_hashes;
        hdl_rng_init(&rng,
                     hashed ? spec->seed * 31 + row->hashes[block] * 2 : own_seed * 2 + 1 + at);
        fill(&rng, ids + at, hdl_min_u32(MOONCAKE_BLOCK, row->n_input - at), spec->vocab);
    }
}

static hdl_err make_trace(hdl_load_set *set, const hdl_load_spec *spec, hdl_errmsg *why)
{
    hdl_trace trace;
    HDL_TRY(hdl_trace_open(&trace, spec, why));
    hdl_err err = HDL_OK;
    for (size_t i = 0; i < trace.n && err == HDL_OK; i++) {
        const hdl_trace_row *row = &trace.rows[i];
        if (row->text) {
            draft d = {.text = row->text, .max_tokens = row->n_output};
            err = add(set, spec, &d, why);
            continue;
        }
        uint32_t *ids = malloc((row->n_input + (size_t)1) * sizeof(*ids));
        if (!ids) {
            err = hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
            break;
        }
        fill_traced(spec, row, ids, spec->seed + i);
        draft d = {.ids = ids, .n_ids = row->n_input, .max_tokens = row->n_output};
        if (spec->arrivals == HDL_LOAD_TRACE)
            set->items[set->n].at_us = (uint64_t)((double)row->at_us / spec->speedup);
        err = add(set, spec, &d, why);
        free(ids);
    }
    hdl_trace_close(&trace);
    return err;
}

hdl_err hdl_load_make(hdl_load_set *out, const hdl_load_spec *spec, hdl_errmsg *why)
{
    *out = (hdl_load_set){.items = calloc(spec->n, sizeof(*out->items))};
    hdl_err err = HDL_NOMEM;
    if (!out->items)
        hdl_fail(err, why, "out of memory; ask for fewer requests");
    else if (spec->dataset == HDL_LOAD_RANDOM || spec->dataset == HDL_LOAD_PREFIX)
        err = make_random(out, spec, why);
    else
        err = make_trace(out, spec, why);
    if (err != HDL_OK)
        hdl_load_free(out);
    else
        hdl_load_arrive(out, spec);
    return err;
}

void hdl_load_free(hdl_load_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->items[i].body);
    free(set->items);
    *set = (hdl_load_set){0};
}
