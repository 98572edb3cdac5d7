/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/text/beside.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <heddle/types.h>

static const unsigned char script[] = {
#include "compare_script.inc"
    , '\0'};

enum { WORDS_MAX = 256 };

typedef struct words {
    const char *v[WORDS_MAX + 1]; /* the last one stays NULL */
    size_t n;
} words;

static void add(words *w, const char *word)
{
    if (w->n < WORDS_MAX)
        w->v[w->n] = word;
    w->n++;
}

hdl_err hdl_bench_text_beside(const hdl_bench_text_opts *opts, const hdl_beside_opts *beside,
                              hdl_errmsg *why)
{
    words w = {.n = 0};
    char rounds[16], samples[16];
    snprintf(rounds, sizeof rounds, "%" PRIu32, beside->rounds > 0 ? beside->rounds : 5);
    snprintf(samples, sizeof samples, "%" PRIu32, opts->samples);
    const char *const first[] = {
        beside->python, "-c", (const char *)script, "--heddle", beside->heddle, "--rounds", rounds};
    for (size_t i = 0; i < HDL_ARRAY_LEN(first); i++)
        add(&w, first[i]);
    if (opts->samples > 0) {
        add(&w, "--samples");
        add(&w, samples);
    }
    if (opts->json)
        add(&w, "--json");
    for (size_t i = 0; opts->texts[i] != NULL; i++) {
        add(&w, "--text");
        add(&w, opts->texts[i]);
    }
    add(&w, "--");
    for (size_t i = 0; i < opts->n_models; i++)
        add(&w, opts->models[i]);
    if (w.n > WORDS_MAX)
        return hdl_fail(HDL_INVALID, why, "too many models; compare fewer at once");
    /* POSIX gives execvp's words no const; it does not write to them. */
    execvp(beside->python, (char *const *)(uintptr_t)w.v);
    return hdl_fail(HDL_NOTFOUND, why,
                    "--tokenizers: cannot run %s; %s; name a Python that has the package "
                    "tokenizers",
                    beside->python, strerror(errno));
}
