/* SPDX-License-Identifier: Apache-2.0 */
/* What every subcommand shares: its entry in the command table and how it ends.
 *
 * A command gets argv with its own name at argv[0] and returns the exit code: 0 fine, 1 failed, 2
 * usage. People read stdout and stderr; with --json stdout holds one JSON document and nothing
 * else. Main thread. */
#pragma once

#include <heddle/err.h>

#include "base/args.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef int cli_fn(char **argv);

/*    name        function        one line for `heddle --help` */
#define CLI_COMMAND_LIST(X)                                                                        \
    X(serve, "serve a model over HTTP: one scheduler and its workers on this machine")             \
    X(run, "chat with a model, or with a running server, in the terminal")                         \
    X(generate, "continue a prompt once")                                                          \
    X(inspect, "what a model is, and what each rank would hold of it")                             \
    X(logits, "write the logits of a token sequence to a .npy file")                               \
    X(perplexity, "how well a model foretells a text")                                             \
    X(tokenize, "text to token ids, and back")                                                     \
    X(template, "the prompt that a chat is rendered to")                                           \
    X(bench, "measure: model, kernels, sched, text, serve")                                        \
    X(replay, "run a recorded scheduler history again and print its digest")                       \
    X(matrix, "which models, weight formats and layouts the tests cover")                          \
    X(top, "a running server, live")                                                               \
    X(cluster, "a running cluster's ranks; drain it")                                              \
    X(doctor, "is this host fit to run heddle, and what to fix")                                   \
    X(config, "every configuration key, or what a file amounts to")                                \
    X(version, "version, build and what this machine's CPU offers")

#define CLI_DECLARE(name, doc) int cli_##name(char **argv);
CLI_COMMAND_LIST(CLI_DECLARE)
#undef CLI_DECLARE

/* Parses argv by spec. Returns -1 to go on, or the exit code after help or a usage error (which has
 * then been printed). */
int cli_parse(hdl_args *args, const hdl_args_spec *spec, char **argv);

/* Prints "heddle: <message>" on stderr and returns CLI_FAILED. Falls back to the error's text. */
int cli_fail(hdl_err err, const hdl_errmsg *why);

/* Like cli_fail, for a mistake on the command line: returns CLI_USAGE and points to --help. */
int cli_usage(const hdl_args_spec *spec, const hdl_errmsg *why);

/* Writes all bytes of a buffer to stdout. */
int cli_print(hdl_buf *buf);

/* Directory of the running program, where heddle-scheduler and heddle-worker lie beside it. */
hdl_err cli_program_path(char *out, size_t size, const char *name, hdl_errmsg *why) HDL_MUST_CHECK;
