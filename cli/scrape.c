/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/scrape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NAME value, or NAME{labels} value. */
static bool parse_line(char *line, hdl_sample *out)
{
    char *brace = strchr(line, '{'), *space = NULL, *end = NULL;
    out->name = line;
    out->labels = "";
    if (brace) {
        char *close = strrchr(brace, '}');
        if (!close)
            return false;
        *brace = *close = '\0';
        out->labels = brace + 1;
        space = close + 1;
    } else {
        space = strchr(line, ' ');
        if (!space)
            return false;
        *space++ = '\0';
    }
    out->value = strtod(space, &end);
    return end != space;
}

hdl_err hdl_scrape_parse(hdl_scrape *out, char *text, hdl_errmsg *why)
{
    size_t lines = 1;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    *out = (hdl_scrape){.text = text, .samples = calloc(lines, sizeof(hdl_sample))};
    if (!out->samples) {
        hdl_scrape_free(out);
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    }
    for (char *rest = text; rest && *rest;) {
        char *line = strsep(&rest, "\n");
        if (*line == '\0' || *line == '#')
            continue;
        if (!parse_line(line, &out->samples[out->n])) {
            hdl_scrape_free(out);
            return hdl_fail(HDL_INVALID, why,
                            "/metrics is not in Prometheus' format; is it a heddle server?");
        }
        out->n++;
    }
    return HDL_OK;
}

void hdl_scrape_free(hdl_scrape *scrape)
{
    free(scrape->text);
    free(scrape->samples);
    *scrape = (hdl_scrape){0};
}

double hdl_scrape_sum(const hdl_scrape *scrape, const char *name, const char *labels)
{
    double sum = NAN;
    for (size_t i = 0; i < scrape->n; i++)
        if (strcmp(scrape->samples[i].name, name) == 0 && strstr(scrape->samples[i].labels, labels))
            sum = (isnan(sum) ? 0 : sum) + scrape->samples[i].value;
    return sum;
}

/* Value of the same series in another scrape; 0 where it did not exist yet. */
static double same_in(const hdl_scrape *scrape, const hdl_sample *sample)
{
    for (size_t i = 0; scrape && i < scrape->n; i++)
        if (strcmp(scrape->samples[i].name, sample->name) == 0 &&
            strcmp(scrape->samples[i].labels, sample->labels) == 0)
            return scrape->samples[i].value;
    return 0;
}

/* Upper bound of a bucket's series. */
static double bound_of(const char *labels)
{
    const char *le = strstr(labels, "le=\"");
    return !le || strncmp(le + 4, "+Inf", 4) == 0 ? INFINITY : strtod(le + 4, NULL);
}

double hdl_scrape_quantile(const hdl_scrape *now, const hdl_scrape *before, hdl_scrape_ask ask)
{
    char name[128];
    double bounds[64], counts[64];
    size_t n = 0;
    snprintf(name, sizeof(name), "%s_bucket", ask.name);
    for (size_t i = 0; i < now->n; i++) {
        const hdl_sample *s = &now->samples[i];
        if (strcmp(s->name, name) != 0 || !strstr(s->labels, ask.labels))
            continue;
        double bound = bound_of(s->labels), count = s->value - same_in(before, s);
        size_t b = 0;
        while (b < n && bounds[b] != bound)
            b++;
        if (b == n && n == 64)
            continue;
        if (b == n) {
            bounds[n] = bound;
            counts[n++] = 0;
        }
        counts[b] += count; /* several series, such as ranks: the same bounds */
    }
    double total = n > 0 ? counts[n - 1] : 0;
    if (!(total > 0))
        return NAN;
    size_t b = 0;
    while (b + 1 < n && counts[b] < ask.q * total)
        b++;
    if (isinf(bounds[b]))
        return b > 0 ? bounds[b - 1] : NAN;
    double lo = b > 0 ? bounds[b - 1] : 0, below = b > 0 ? counts[b - 1] : 0;
    double in = counts[b] - below;
    return in > 0 ? lo + (bounds[b] - lo) * (ask.q * total - below) / in : bounds[b];
}
