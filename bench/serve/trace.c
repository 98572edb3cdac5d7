/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/trace.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/units.h"

enum { FILE_BYTES_MAX = 1 << 30, FIELDS_MAX = 16, TOKENS_MAX = 1 << 22 };

static hdl_err keep(hdl_trace *t, void *memory, hdl_errmsg *why)
{
    if (memory && t->n_owned == t->owned_size) {
        size_t size = t->owned_size ? 2 * t->owned_size : 64;
        void **grown = realloc(t->owned, size * sizeof(*grown));
        if (grown) {
            t->owned = grown;
            t->owned_size = size;
        }
    }
    if (!memory || t->n_owned == t->owned_size) {
        free(memory);
        return hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
    }
    t->owned[t->n_owned++] = memory;
    return HDL_OK;
}

static hdl_err bad_line(const hdl_load_spec *spec, size_t line, const char *what, hdl_errmsg *why)
{
    return hdl_fail(
        HDL_INVALID, why,
        "%s, line %zu: %s; the file is not of the dataset that was named; give the right "
        "--dataset",
        spec->path, line, what);
}

/* ---- Mooncake: {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..]} -----
 */

static hdl_err read_hashes(hdl_trace *t, const hdl_jv *v, hdl_trace_row *row, hdl_errmsg *why)
{
    size_t n = hdl_jv_len(v);
    uint64_t *hashes = calloc(n + 1, sizeof(*hashes));
    HDL_TRY(keep(t, hashes, why));
    for (size_t i = 0; i < n; i++) {
        int64_t h = 0;
        hdl_jv item = hdl_jv_at(v, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, INT64_MAX}, &h, why));
        hashes[i] = (uint64_t)h;
    }
    row->hashes = hashes;
    row->n_hashes = (uint32_t)n;
    return HDL_OK;
}

static hdl_err mooncake_fields(hdl_trace *t, const hdl_jv *root, hdl_trace_row *row,
                               hdl_errmsg *why)
{
    const hdl_jv_range tokens = {1, TOKENS_MAX};
    double at_ms = 0;
    int64_t n_input = 0, n_output = 0;
    hdl_jv at = hdl_jv_get(root, "timestamp"), in = hdl_jv_get(root, "input_length");
    hdl_jv out = hdl_jv_get(root, "output_length"), hashes = hdl_jv_get(root, "hash_ids");
    HDL_TRY(hdl_jv_double(&at, &at_ms, why));
    HDL_TRY(hdl_jv_int(&in, tokens, &n_input, why));
    HDL_TRY(hdl_jv_int(&out, tokens, &n_output, why));
    row->at_us = at_ms > 0 ? (uint64_t)(at_ms * 1e3) : 0;
    row->n_input = (uint32_t)n_input;
    row->n_output = (uint32_t)n_output;
    return hdl_jv_given(&hashes) ? read_hashes(t, &hashes, row, why) : HDL_OK;
}

static hdl_err mooncake(hdl_trace *t, char *line, hdl_trace_row *row, hdl_errmsg *why)
{
    hdl_json *doc = NULL;
    HDL_TRY(hdl_json_parse(line, strlen(line), 0, &doc, why));
    hdl_jv root = hdl_json_root(doc);
    hdl_err err = mooncake_fields(t, &root, row, why);
    hdl_json_close(doc);
    return err;
}

/* ---- CSV ------------------------------------------------------------------------------------ */

static size_t split(char *line, char *fields[FIELDS_MAX])
{
    size_t n = 0;
    for (char *rest = line; rest && n < FIELDS_MAX;)
        fields[n++] = strsep(&rest, ",");
    return n;
}

static bool read_count(const char *text, uint32_t *out)
{
    int64_t v = 0;
    if (!hdl_parse_int(text, &v) || v < 0 || v > TOKENS_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type */
static bool burstgpt(char **f, size_t n, hdl_trace_row *row)
{
    double at = 0;
    if (n < 5 || !hdl_parse_float(f[0], &at) || at < 0)
        return false;
    row->at_us = (uint64_t)(at * 1e6);
    return read_count(f[2], &row->n_input) && read_count(f[3], &row->n_output);
}

/* TIMESTAMP ("2023-11-16 18:17:03.9799600"), ContextTokens, GeneratedTokens */
static bool azure(char **f, size_t n, hdl_trace_row *row)
{
    struct tm tm = {0};
    if (n < 3)
        return false;
    const char *rest = strptime(f[0], "%Y-%m-%d %H:%M:%S", &tm);
    double fraction = 0;
    if (!rest)
        return false;
    if (*rest == '.')
        fraction = strtod(rest, NULL);
    row->at_us = (uint64_t)timegm(&tm) * 1000000 + (uint64_t)(fraction * 1e6);
    return read_count(f[1], &row->n_input) && read_count(f[2], &row->n_output);
}

/* ---- lines ---------------------------------------------------------------------------------- */

static hdl_err read_line(hdl_trace *t, const hdl_load_spec *spec, char *line, size_t number,
                         hdl_errmsg *why)
{
    char *fields[FIELDS_MAX];
    hdl_trace_row row = {0};
    if (spec->dataset == HDL_LOAD_MOONCAKE) {
        if (mooncake(t, line, &row, why) != HDL_OK)
            return bad_line(spec, number,
                            "no JSON object with timestamp, input_length and output_length", why);
    } else {
        size_t n = split(line, fields);
        bool ok =
            spec->dataset == HDL_LOAD_AZURE ? azure(fields, n, &row) : burstgpt(fields, n, &row);
        if (!ok && number == 1)
            return HDL_OK; /* names of the columns */
        if (!ok)
            return bad_line(spec, number, "the columns do not hold a time and two counts", why);
    }
    /* BurstGPT has failed requests, with no answer. */
    if (row.n_input > 0 && row.n_output > 0)
        t->rows[t->n++] = row;
    return HDL_OK;
}

static hdl_err read_lines(hdl_trace *t, const hdl_load_spec *spec, char *text, hdl_errmsg *why)
{
    size_t number = 0;
    for (char *rest = text; rest && *rest && t->n < spec->n;) {
        char *line = strsep(&rest, "\n");
        line[strcspn(line, "\r")] = '\0';
        number++;
        if (*line)
            HDL_TRY(read_line(t, spec, line, number, why));
    }
    for (size_t i = t->n; i-- > 0;) /* from the first one */
        t->rows[i].at_us -=
            t->rows[0].at_us < t->rows[i].at_us ? t->rows[0].at_us : t->rows[i].at_us;
    return HDL_OK;
}

/* ---- ShareGPT: [{"conversations": [{"from": .., "value": ..}, ..]}, ..] ------------------------
 */

/* The first turn is the prompt; the answer's length is estimated at four bytes a token. */
static hdl_err conversation(hdl_trace *t, const hdl_load_spec *spec, const hdl_jv *item,
                            hdl_errmsg *why)
{
    const char *prompt = NULL, *answer = NULL;
    size_t n_prompt = 0, n_answer = 0;
    hdl_jv turns = hdl_jv_get(item, "conversations");
    hdl_jv one = hdl_jv_at(&turns, 0), two = hdl_jv_at(&turns, 1);
    hdl_jv asked = hdl_jv_get(&one, "value"), said = hdl_jv_get(&two, "value");
    if (!hdl_jv_given(&asked) || !hdl_jv_given(&said))
        return HDL_OK; /* a conversation without an answer says nothing about lengths */
    HDL_TRY(hdl_jv_string(&asked, &prompt, &n_prompt, why));
    HDL_TRY(hdl_jv_string(&said, &answer, &n_answer, why));
    if (n_prompt < 4 || n_answer < 4)
        return HDL_OK;
    char *copy = strdup(prompt);
    HDL_TRY(keep(t, copy, why));
    uint32_t n_output = spec->output_len ? spec->output_len : (uint32_t)(n_answer / 4 + 1);
    t->rows[t->n++] = (hdl_trace_row){.text = copy, .n_output = n_output};
    return HDL_OK;
}

static hdl_err read_sharegpt(hdl_trace *t, const hdl_load_spec *spec, const char *text, size_t len,
                             hdl_errmsg *why)
{
    hdl_json *doc = NULL;
    HDL_TRY(hdl_json_parse(text, len, FILE_BYTES_MAX, &doc, why));
    hdl_jv root = hdl_json_root(doc);
    hdl_err err = hdl_jv_expect(&root, HDL_JSON_ARRAY, why);
    for (size_t i = 0; i < hdl_jv_len(&root) && t->n < spec->n && err == HDL_OK; i++) {
        hdl_jv item = hdl_jv_at(&root, i);
        err = conversation(t, spec, &item, why);
    }
    hdl_json_close(doc);
    return err;
}

hdl_err hdl_trace_open(hdl_trace *out, const hdl_load_spec *spec, hdl_errmsg *why)
{
    char *text = NULL;
    size_t len = 0;
    *out = (hdl_trace){0};
    HDL_TRY(hdl_fs_read(spec->path, FILE_BYTES_MAX, &text, &len, why));
    out->rows = calloc(spec->n + (size_t)1, sizeof(*out->rows));
    hdl_err err = HDL_NOMEM;
    if (!out->rows)
        hdl_fail(err, why, "out of memory; ask for fewer requests");
    else if (spec->dataset == HDL_LOAD_SHAREGPT)
        err = read_sharegpt(out, spec, text, len, why);
    else
        err = read_lines(out, spec, text, why);
    free(text);
    if (err == HDL_OK && out->n == 0)
        err = hdl_fail(HDL_INVALID, why, "%s holds no request; give another file", spec->path);
    if (err != HDL_OK)
        hdl_trace_close(out);
    return err;
}

void hdl_trace_close(hdl_trace *trace)
{
    for (size_t i = 0; i < trace->n_owned; i++)
        free(trace->owned[i]);
    free(trace->owned);
    free(trace->rows);
    *trace = (hdl_trace){0};
}
