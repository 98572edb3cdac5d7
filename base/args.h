/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: a table of options per subcommand, parsing, and help that teaches.
 *
 * Spellings: --name VALUE, --name=VALUE, --flag, -n VALUE, -nVALUE, `--` ends options; no
 * abbreviations. Options and positionals may be mixed. Unknown options are refused with the
 * nearest one; options of other programs are accepted as aliases or refused with the equivalent
 * (refuse). Nothing is silently ignored. The caller prints the message and exits with 2. Results
 * borrow argv and the table. Main thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "heddle/err.h"

enum { HDL_ARGS_OPTIONS_MAX = 96, HDL_ARGS_POSITIONALS_MAX = 64, HDL_ARGS_REPEATS_MAX = 64 };

typedef struct hdl_arg_opt hdl_arg_opt;

struct hdl_arg_opt {
    const char *name;    /* "tp": --tp */
    char letter;         /* 'j': -j; 0: none */
    const char *value;   /* "N": takes a value, shown in the help; NULL: a flag */
    const char *doc;     /* one line */
    const char *aliases; /* "tensor-parallel-size,tp-size"; NULL: none */
    const char *config;  /* dotted config key it sets (hdl_args_apply); NULL: none */
    const char *refuse;  /* not NULL: known elsewhere; refused with this hint, not in the help */
    const char *group;   /* heading in the help; NULL: "Options" */
    bool repeat;         /* may be given many times: hdl_args_next */
};

typedef struct hdl_args_spec {
    const char *command; /* "heddle serve" */
    const char *usage;   /* "MODEL [options]" */
    const char *about;   /* one or two sentences */
    const hdl_arg_opt *opts;
    size_t opts_count; /* at most HDL_ARGS_OPTIONS_MAX */
    size_t positionals_min;
    size_t positionals_max;
    const char *examples; /* lines "command<TAB>what it does"; NULL: none */
} hdl_args_spec;

typedef struct hdl_args {
    const hdl_args_spec *spec;
    const char *values[HDL_ARGS_OPTIONS_MAX]; /* last value; "" for a flag; NULL: not given */
    const char *positionals[HDL_ARGS_POSITIONALS_MAX];
    size_t positionals_count;
    struct {
        const hdl_arg_opt *opt;
        const char *value;
    } repeats[HDL_ARGS_REPEATS_MAX]; /* of options with `repeat`, in order */
    size_t repeats_count;
    bool help; /* --help or -h was given: every other check is skipped */
} hdl_args;

/* argv[0] is the program or subcommand and is skipped. HDL_INVALID with a message for a person.
 * An option given twice with different values is refused. */
hdl_err hdl_args_parse(hdl_args *args, const hdl_args_spec *spec, char *const *argv,
                       hdl_errmsg *why) HDL_MUST_CHECK;

bool hdl_args_has(const hdl_args *args, const char *name);
/* Value or def. The name must be in the table (asserted), here and below. */
const char *hdl_args_str(const hdl_args *args, const char *name, const char *def);
/* Walks the values of a `repeat` option in order; *at starts as 0. NULL after the last. */
const char *hdl_args_next(const hdl_args *args, const char *name, size_t *at);
/* Typed values: *out keeps what it holds when the option is absent. min and max are included. */
typedef struct hdl_args_int_opt {
    const char *name;
    int64_t min;
    int64_t max;
} hdl_args_int_opt;
hdl_err hdl_args_int(const hdl_args *args, hdl_args_int_opt opt, int64_t *out,
                     hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_args_float(const hdl_args *args, const char *name, double *out,
                       hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_args_size(const hdl_args *args, const char *name, uint64_t *bytes,
                      hdl_errmsg *why) HDL_MUST_CHECK;

/* Sets each given option that names a config key (hdl_arg_opt.config); a flag sets "true". */
hdl_err hdl_args_apply(const hdl_args *args, hdl_cfg *cfg, hdl_errmsg *why) HDL_MUST_CHECK;

/* The help text, at most 100 columns. */
hdl_err hdl_args_help(const hdl_args_spec *spec, hdl_buf *out) HDL_MUST_CHECK;
