/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/text/bench_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "bench/text/corpus.h"
#include "scheduler/text/tokenizer.h"
#include "scheduler/text/utf8.h"
#include "scheduler/text/vocab.h"

enum { PROMPT_BYTES = 100000, SAMPLES = 30, TEXT_MAX = 64 << 20, SAMPLES_MAX = 1000 };

typedef struct text {
    const char *name;
    hdl_buf bytes;
} text;

typedef struct texts {
    text v[HDL_BENCH_TEXT_FILES_MAX];
    size_t n;
} texts;

/* Medians of the samples, in nanoseconds. */
typedef struct row {
    size_t bytes, tokens;
    uint64_t warm, first, decode, check;
} row;

typedef struct samples {
    uint64_t warm[SAMPLES_MAX], first[SAMPLES_MAX], decode[SAMPLES_MAX], check[SAMPLES_MAX];
} samples;

static hdl_err read_texts(const hdl_bench_text_opts *opts, texts *out, hdl_errmsg *why)
{
    for (size_t i = 0; opts->texts[i] != NULL; i++) {
        text *t = &out->v[out->n++];
        char *p;
        size_t len;
        t->name = opts->texts[i];
        hdl_buf_init(&t->bytes, TEXT_MAX);
        HDL_TRY(hdl_fs_read(opts->texts[i], TEXT_MAX, &p, &len, why));
        hdl_err err = hdl_buf_append(&t->bytes, p, len);
        free(p);
        HDL_TRY(err);
    }
    for (int kind = 0; kind < HDL_CORPUS_COUNT && opts->texts[0] == NULL; kind++) {
        text *t = &out->v[out->n++];
        t->name = hdl_corpus_name((hdl_corpus_kind)kind);
        hdl_buf_init(&t->bytes, TEXT_MAX);
        HDL_TRY(hdl_corpus_write((hdl_corpus_kind)kind, 1, PROMPT_BYTES, &t->bytes));
    }
    return HDL_OK;
}

static hdl_err save_texts(const hdl_bench_text_opts *opts, const texts *all, hdl_errmsg *why)
{
    for (size_t i = 0; i < all->n; i++) {
        char name[64], path[1024];
        snprintf(name, sizeof name, "%.40s.txt", all->v[i].name);
        HDL_TRY(hdl_fs_join(path, sizeof path, opts->save, name));
        hdl_fs_bytes bytes = {hdl_buf_data(&all->v[i].bytes), all->v[i].bytes.len};
        HDL_TRY(hdl_fs_write_atomic(path, bytes, why));
        fprintf(opts->out ? opts->out : stdout, "%s\n", path);
    }
    return HDL_OK;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *ns, uint32_t n)
{
    qsort(ns, n, sizeof *ns, by_value);
    return ns[n / 2];
}

/* What one text is measured with. */
typedef struct bench {
    const hdl_tokenizer *tok;
    hdl_text text;
    hdl_tok_scratch *warm;
    hdl_ids ids;
    hdl_buf decoded;
    hdl_errmsg *why;
} bench;

static hdl_err encode(bench *b, hdl_tok_scratch *scratch, uint64_t *ns)
{
    hdl_encode_args args = {.text = b->text.p, .len = b->text.len, .scratch = scratch};
    b->ids.n = 0;
    uint64_t start = hdl_clock_now_ns();
    HDL_TRY(hdl_tokenizer_encode(b->tok, &args, &b->ids, b->why));
    *ns = hdl_clock_now_ns() - start;
    return HDL_OK;
}

static hdl_err sample(bench *b, samples *s, uint32_t i)
{
    hdl_tok_scratch *scratch;
    HDL_TRY(encode(b, b->warm, &s->warm[i]));
    HDL_TRY(hdl_tok_scratch_new(&scratch));
    hdl_err err = encode(b, scratch, &s->first[i]);
    hdl_tok_scratch_free(scratch);
    HDL_TRY(err);
    hdl_buf_clear(&b->decoded);
    hdl_decode_args args = {.ids = b->ids.v, .n = b->ids.n};
    uint64_t start = hdl_clock_now_ns();
    HDL_TRY(hdl_tokenizer_decode(b->tok, &args, &b->decoded));
    s->decode[i] = hdl_clock_now_ns() - start;
    start = hdl_clock_now_ns();
    if (hdl_utf8_valid_prefix(b->text.p, b->text.len) != b->text.len)
        return HDL_INVALID;
    s->check[i] = hdl_clock_now_ns() - start;
    return HDL_OK;
}

static hdl_err measure(bench *b, uint32_t n, row *out)
{
    samples *s = malloc(sizeof *s);
    uint64_t ns;
    hdl_err err = s != NULL ? HDL_OK : HDL_NOMEM;
    for (int i = 0; i < 3 && err == HDL_OK; i++)
        err = encode(b, b->warm, &ns);
    for (uint32_t i = 0; i < n && err == HDL_OK; i++)
        err = sample(b, s, i);
    if (err == HDL_OK)
        *out = (row){.bytes = b->text.len,
                     .tokens = b->ids.n,
                     .warm = median(s->warm, n),
                     .first = median(s->first, n),
                     .decode = median(s->decode, n),
                     .check = median(s->check, n)};
    free(s);
    return err;
}

static double mb_per_s(const row *r, uint64_t ns)
{
    return ns > 0 ? (double)r->bytes * 1e3 / (double)ns : 0;
}

static void print_row(FILE *out, const char *model, const char *name, const row *r)
{
    fprintf(out, "%-28.28s %-12.12s %8zu %8zu %8.2f ms %8.1f %8.1f %8.1f %9.1f\n", model, name,
            r->bytes, r->tokens, (double)r->warm / 1e6, mb_per_s(r, r->warm), mb_per_s(r, r->first),
            mb_per_s(r, r->decode), mb_per_s(r, r->check));
}

static void json_row(FILE *out, size_t model, size_t name, const row *r)
{
    fprintf(out,
            "{\"model\":%zu,\"text\":%zu,\"bytes\":%zu,\"tokens\":%zu,\"encode_ms\":%.4f,"
            "\"encode_mb_s\":%.2f,\"first_mb_s\":%.2f,\"decode_mb_s\":%.2f,\"utf8_mb_s\":%.2f}",
            model, name, r->bytes, r->tokens, (double)r->warm / 1e6, mb_per_s(r, r->warm),
            mb_per_s(r, r->first), mb_per_s(r, r->decode), mb_per_s(r, r->check));
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static hdl_err bench_model(const hdl_bench_text_opts *opts, const texts *all, size_t model,
                           hdl_errmsg *why)
{
    FILE *out = opts->out ? opts->out : stdout;
    uint32_t n = opts->samples > 0 ? opts->samples : SAMPLES;
    hdl_tokenizer *tok;
    HDL_TRY(hdl_tokenizer_open(&tok, opts->models[model], why));
    bench b = {.tok = tok, .why = why};
    hdl_ids_init(&b.ids, TEXT_MAX);
    hdl_buf_init(&b.decoded, (size_t)4 * TEXT_MAX);
    hdl_err err = hdl_tok_scratch_new(&b.warm);
    for (size_t i = 0; i < all->n && err == HDL_OK; i++) {
        row r;
        b.text = (hdl_text){(const char *)hdl_buf_data(&all->v[i].bytes), all->v[i].bytes.len};
        err = measure(&b, n < SAMPLES_MAX ? n : SAMPLES_MAX, &r);
        if (err != HDL_OK)
            break;
        if (opts->json && (model > 0 || i > 0))
            fputs(",", out);
        if (opts->json)
            json_row(out, model, i, &r);
        else
            print_row(out, last_part(opts->models[model]), last_part(all->v[i].name), &r);
    }
    hdl_tok_scratch_free(b.warm);
    hdl_ids_deinit(&b.ids);
    hdl_buf_deinit(&b.decoded);
    hdl_tokenizer_free(tok);
    return err;
}

static hdl_err run(const hdl_bench_text_opts *opts, texts *all, hdl_errmsg *why)
{
    FILE *out = opts->out ? opts->out : stdout;
    HDL_TRY(read_texts(opts, all, why));
    if (opts->save != NULL)
        return save_texts(opts, all, why);
    if (opts->json)
        fputs("{\"rows\":[", out);
    else
        fprintf(out, "%-28s %-12s %8s %8s %11s %8s %8s %8s %9s\n%80s%-19s\n", "model", "text",
                "bytes", "tokens", "encode", "encode", "first", "decode", "utf-8", "", "MB/s");
    for (size_t i = 0; i < opts->n_models; i++)
        HDL_TRY(bench_model(opts, all, i, why));
    fputs(opts->json
              ? "]}\n"
              : "\nBeside Hugging Face's package tokenizers, in turn in one run: heddle bench "
                "text --tokenizers python3 MODEL...\n",
          out);
    return HDL_OK;
}

int hdl_bench_text(const hdl_bench_text_opts *opts)
{
    texts all = {.n = 0};
    hdl_errmsg why = {""};
    hdl_err err = run(opts, &all, &why);
    for (size_t i = 0; i < all.n; i++)
        hdl_buf_deinit(&all.v[i].bytes);
    if (err == HDL_OK)
        return 0;
    fprintf(stderr, "heddle bench text: %s\n", why.text[0] ? why.text : hdl_err_text(err));
    return 1;
}
