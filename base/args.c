/* SPDX-License-Identifier: Apache-2.0 */
#include "base/args.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/config.h"
#include "base/units.h"

enum { NAMES_MAX = 4 * HDL_ARGS_OPTIONS_MAX, NAME_BYTES = 64 };

/* True when name (len bytes) is one of the comma-separated words. */
static bool has_word(const char *words, const char *name, size_t len)
{
    for (const char *p = words; p && *p;) {
        size_t n = strcspn(p, ",");
        if (n == len && memcmp(p, name, len) == 0)
            return true;
        p += n + (p[n] == ',');
    }
    return false;
}

static const hdl_arg_opt *find_long(const hdl_args_spec *spec, const char *name, size_t len)
{
    for (size_t i = 0; i < spec->opts_count; i++) {
        const hdl_arg_opt *opt = &spec->opts[i];
        if ((strlen(opt->name) == len && memcmp(opt->name, name, len) == 0) ||
            has_word(opt->aliases, name, len))
            return opt;
    }
    return NULL;
}

static const hdl_arg_opt *find_letter(const hdl_args_spec *spec, char letter)
{
    for (size_t i = 0; i < spec->opts_count; i++)
        if (spec->opts[i].letter == letter)
            return &spec->opts[i];
    return NULL;
}

/* The option whose name or alias is nearest to an unknown word. */
static const hdl_arg_opt *nearest(const hdl_args_spec *spec, const char *word, char out[NAME_BYTES])
{
    char names[NAMES_MAX][NAME_BYTES];
    const char *candidates[NAMES_MAX];
    const hdl_arg_opt *owners[NAMES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < spec->opts_count; i++) {
        const hdl_arg_opt *opt = &spec->opts[i];
        const char *p = opt->name;
        const char *rest = opt->aliases ? opt->aliases : "";
        while (p && *p && n < NAMES_MAX) {
            size_t len = strcspn(p, ",");
            snprintf(names[n], NAME_BYTES, "%.*s", (int)len, p);
            candidates[n] = names[n];
            owners[n++] = opt;
            p = p == opt->name ? rest : p + len + (p[len] == ',');
        }
    }
    int found = hdl_suggest(word, candidates, n);
    if (found < 0)
        return NULL;
    snprintf(out, NAME_BYTES, "%s", names[found]);
    return owners[found];
}

static hdl_err fail_unknown(const hdl_args_spec *spec, const char *arg, hdl_errmsg *why)
{
    char word[NAME_BYTES], near[NAME_BYTES];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    if (nearest(spec, word, near))
        return hdl_fail(HDL_INVALID, why, "unknown option --%s; did you mean --%s?", word, near);
    return hdl_fail(HDL_INVALID, why, "unknown option --%s; `%s --help` lists the options", word,
                    spec->command);
}

static hdl_err give(hdl_args *args, const hdl_arg_opt *opt, const char *value, hdl_errmsg *why)
{
    if (opt->refuse)
        return hdl_fail(HDL_INVALID, why, "--%s is not an option of heddle; %s", opt->name,
                        opt->refuse);
    if (opt->repeat) {
        if (args->repeats_count == HDL_ARGS_REPEATS_MAX)
            return hdl_fail(HDL_INVALID, why, "--%s is given too often; at most %d times",
                            opt->name, HDL_ARGS_REPEATS_MAX);
        args->repeats[args->repeats_count].opt = opt;
        args->repeats[args->repeats_count++].value = value;
        args->values[opt - args->spec->opts] = value;
        return HDL_OK;
    }
    const char **slot = &args->values[opt - args->spec->opts];
    if (*slot && strcmp(*slot, value) != 0)
        return hdl_fail(HDL_INVALID, why, "--%s is given twice; with %.60s and %.60s; keep one",
                        opt->name, *slot, value);
    *slot = value;
    return HDL_OK;
}

/* Walks argv: `at` is the argument being read. */
typedef struct walk {
    hdl_args *args;
    char *const *at;
    hdl_errmsg *why;
} walk;

/* The option's value stands in the same argument or in the next one. */
static hdl_err take(walk *w, const hdl_arg_opt *opt, const char *inline_value)
{
    if (!opt->value) {
        if (inline_value && !opt->refuse)
            return hdl_fail(HDL_INVALID, w->why, "--%s takes no value; remove \"%.60s\"", opt->name,
                            inline_value);
        return give(w->args, opt, "", w->why);
    }
    if (inline_value || opt->refuse)
        return give(w->args, opt, inline_value ? inline_value : "", w->why);
    const char *next = w->at[1];
    /* What looks like an option is one: a forgotten value must not swallow it. */
    if (!next || (next[0] == '-' && next[1] == '-' && next[2] != '\0'))
        return hdl_fail(HDL_INVALID, w->why, "--%s needs a value; write --%s %s", opt->name,
                        opt->name, opt->value);
    w->at++;
    return give(w->args, opt, next, w->why);
}

static hdl_err take_long(walk *w)
{
    const char *name = *w->at + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const hdl_arg_opt *opt = find_long(w->args->spec, name, len);
    if (!opt && len == 4 && memcmp(name, "help", 4) == 0) {
        w->args->help = true;
        return HDL_OK;
    }
    return opt ? take(w, opt, value) : fail_unknown(w->args->spec, *w->at, w->why);
}

static hdl_err take_letter(walk *w)
{
    const char *arg = *w->at;
    const hdl_arg_opt *opt = find_letter(w->args->spec, arg[1]);
    if (!opt && strcmp(arg, "-h") == 0) {
        w->args->help = true;
        return HDL_OK;
    }
    if (!opt)
        return hdl_fail(HDL_INVALID, w->why, "unknown option %.60s; `%s --help` lists the options",
                        arg, w->args->spec->command);
    return take(w, opt, arg[2] ? arg + 2 : NULL);
}

static hdl_err take_positional(walk *w)
{
    hdl_args *args = w->args;
    if (args->positionals_count == args->spec->positionals_max)
        return hdl_fail(HDL_INVALID, w->why, "unexpected argument \"%.80s\"; usage: %s %s", *w->at,
                        args->spec->command, args->spec->usage);
    args->positionals[args->positionals_count++] = *w->at;
    return HDL_OK;
}

/* "-" alone is standard input and "-5" a number. */
static bool is_letter_option(const hdl_args_spec *spec, const char *arg)
{
    bool digit = arg[1] >= '0' && arg[1] <= '9';
    return arg[0] == '-' && arg[1] != '\0' && (!digit || find_letter(spec, arg[1]));
}

hdl_err hdl_args_parse(hdl_args *args, const hdl_args_spec *spec, char *const *argv,
                       hdl_errmsg *why)
{
    HDL_ASSERT_LE(spec->opts_count, HDL_ARGS_OPTIONS_MAX);
    HDL_ASSERT_LE(spec->positionals_max, HDL_ARGS_POSITIONALS_MAX);
    memset(args, 0, sizeof *args);
    args->spec = spec;
    /* Help wins over every mistake beside it. */
    for (char *const *p = argv + (argv[0] != NULL); *p && strcmp(*p, "--") != 0; p++)
        if (strcmp(*p, "--help") == 0 || (strcmp(*p, "-h") == 0 && !find_letter(spec, 'h')))
            args->help = true;
    if (args->help)
        return HDL_OK;
    walk w = {.args = args, .at = argv + (argv[0] != NULL), .why = why};
    bool options_ended = false;
    for (; *w.at; w.at++) {
        const char *arg = *w.at;
        if (options_ended)
            HDL_TRY(take_positional(&w));
        else if (strcmp(arg, "--") == 0)
            options_ended = true;
        else if (arg[0] == '-' && arg[1] == '-')
            HDL_TRY(take_long(&w));
        else if (is_letter_option(spec, arg))
            HDL_TRY(take_letter(&w));
        else
            HDL_TRY(take_positional(&w));
    }
    if (args->positionals_count < spec->positionals_min)
        return hdl_fail(HDL_INVALID, why, "missing argument; usage: %s %s", spec->command,
                        spec->usage);
    return HDL_OK;
}

static const char *value_of(const hdl_args *args, const char *name)
{
    const hdl_arg_opt *opt = find_long(args->spec, name, strlen(name));
    HDL_ASSERT(opt != NULL);
    return args->values[opt - args->spec->opts];
}

bool hdl_args_has(const hdl_args *args, const char *name) { return value_of(args, name) != NULL; }

const char *hdl_args_str(const hdl_args *args, const char *name, const char *def)
{
    const char *value = value_of(args, name);
    return value ? value : def;
}

const char *hdl_args_next(const hdl_args *args, const char *name, size_t *at)
{
    const hdl_arg_opt *opt = find_long(args->spec, name, strlen(name));
    HDL_ASSERT(opt != NULL && opt->repeat);
    while (*at < args->repeats_count) {
        size_t i = (*at)++;
        if (args->repeats[i].opt == opt)
            return args->repeats[i].value;
    }
    return NULL;
}

hdl_err hdl_args_int(const hdl_args *args, hdl_args_int_opt opt, int64_t *out, hdl_errmsg *why)
{
    const char *text = value_of(args, opt.name);
    int64_t value;
    if (!text)
        return HDL_OK;
    if (!hdl_parse_int(text, &value))
        return hdl_fail(HDL_INVALID, why, "--%s must be an integer; it is \"%.60s\"", opt.name,
                        text);
    if (value < opt.min || value > opt.max)
        return hdl_fail(HDL_INVALID, why, "--%s must be %lld to %lld; it is %.60s", opt.name,
                        (long long)opt.min, (long long)opt.max, text);
    *out = value;
    return HDL_OK;
}

hdl_err hdl_args_float(const hdl_args *args, const char *name, double *out, hdl_errmsg *why)
{
    const char *text = value_of(args, name);
    if (!text || hdl_parse_float(text, out))
        return HDL_OK;
    return hdl_fail(HDL_INVALID, why, "--%s must be a number; it is \"%.60s\"", name, text);
}

hdl_err hdl_args_size(const hdl_args *args, const char *name, uint64_t *bytes, hdl_errmsg *why)
{
    const char *text = value_of(args, name);
    if (!text || hdl_parse_size(text, bytes))
        return HDL_OK;
    return hdl_fail(HDL_INVALID, why, "--%s must be a size such as 512MiB or 4GiB; it is \"%.60s\"",
                    name, text);
}

hdl_err hdl_args_apply(const hdl_args *args, hdl_cfg *cfg, hdl_errmsg *why)
{
    for (size_t i = 0; i < args->spec->opts_count; i++) {
        const hdl_arg_opt *opt = &args->spec->opts[i];
        if (!opt->config || !args->values[i])
            continue;
        char origin[NAME_BYTES];
        snprintf(origin, sizeof origin, "--%s", opt->name);
        hdl_cfg_assign assign = {
            .path = opt->config, .value = opt->value ? args->values[i] : "true", .origin = origin};
        HDL_TRY(hdl_cfg_set(cfg, assign, why));
    }
    return HDL_OK;
}
