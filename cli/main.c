/* SPDX-License-Identifier: Apache-2.0 */
/* heddle: a person's terminal. Finds the subcommand; each has a file of its own beside this one. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/units.h"
#include "cli/cli.h"

typedef struct command {
    const char *name;
    cli_fn *fn;
    const char *doc;
} command;

#define COMMAND_ROW(name, doc) {#name, cli_##name, doc},
static const command commands[] = {CLI_COMMAND_LIST(COMMAND_ROW)};

static void print_help(FILE *out)
{
    fputs("heddle serves large language models on this machine's CPUs, on GPUs, on clusters.\n\n"
          "Usage: heddle COMMAND [options]      heddle COMMAND --help says more\n\nCommands:\n",
          out);
    for (size_t i = 0; i < HDL_ARRAY_LEN(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].doc);
    fputs("\nFirst steps:\n"
          "  heddle serve deploy/demo-model --tp 2 --ep 2   the bundled model on two workers\n"
          "  heddle run http://127.0.0.1:8080               talk to it\n"
          "  heddle inspect MODEL --tp 8                    bytes per rank, before you buy\n",
          out);
}

static const char *nearest_command(const char *name)
{
    const char *names[HDL_ARRAY_LEN(commands)];
    for (size_t i = 0; i < HDL_ARRAY_LEN(commands); i++)
        names[i] = commands[i].name;
    int idx = hdl_suggest(name, names, HDL_ARRAY_LEN(names));
    return idx < 0 ? NULL : names[idx];
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(name, "--version") == 0)
        return cli_version(argv + 1);
    for (size_t i = 0; i < HDL_ARRAY_LEN(commands); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].fn(argv + 1);

    const char *near = nearest_command(name);
    if (near != NULL)
        fprintf(stderr, "heddle: there is no command \"%s\"; did you mean \"%s\"?\n", name, near);
    else
        fprintf(stderr, "heddle: there is no command \"%s\"; heddle --help lists them\n", name);
    return CLI_USAGE;
}
