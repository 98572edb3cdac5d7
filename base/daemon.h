/* SPDX-License-Identifier: Apache-2.0 */
/* First and last steps of a daemon: command line, configuration, signals, log. Used by the main.c
 * of heddle-scheduler and heddle-worker. Main thread, before any other exists. */
#pragma once

#include <heddle/config.h>

#include "base/args.h"
#include "base/config.h"

/* Rows that every daemon's table begins with. */
/* clang-format off */
#define HDL_DAEMON_OPTIONS                                                                         \
    {.name = "config", .letter = 'c', .value = "FILE", .doc = "configuration (YAML)"},             \
    {.name = "set", .value = "KEY=VALUE", .doc = "one value of it: kv.bytes=1GiB; repeatable",     \
     .repeat = true},                                                                              \
    {.name = "log-level", .value = "LEVEL", .doc = "error, warn, info or debug",                   \
     .config = "log.level"},                                                                       \
    {.name = "version", .doc = "print the version and exit"}
/* clang-format on */

typedef struct hdl_daemon {
    const char *name; /* "heddle-worker"; starts what people read */
    hdl_cfg *cfg;     /* owned */
    hdl_config config;
    hdl_args args; /* positionals and the like */
} hdl_daemon;

/* -1: go on, signals are blocked and the log runs; else the exit status (help, version, a mistake
 * that has been explained). */
int hdl_daemon_start(hdl_daemon *daemon, const hdl_args_spec *spec, char **argv);
void hdl_daemon_stop(hdl_daemon *daemon);
