/* SPDX-License-Identifier: Apache-2.0 */
/* heddle matrix: what the tests covered. The table is cli/matrix.tsv, which tests/golden/matrix.py
 * writes from the notes that the tests leave; the build turns its lines into matrix_table.inc. */
#include <stdio.h>
#include <string.h>

#include <heddle/types.h>

#include "base/json_write.h"
#include "cli/cli.h"

static const hdl_arg_opt matrix_opts[] = {
    {.name = "json", .doc = "one JSON document instead of tables"},
};

static const hdl_args_spec matrix_spec = {
    .command = "heddle matrix",
    .usage = "[options]",
    .about = "Which architectures, weight formats and layouts the tests of this version cover. "
             "What is not here is not claimed. Layouts are tp x ep; f32, bf16 and greedy are "
             "comparisons of logits and tokens with transformers on small checkpoints.",
    .opts = matrix_opts,
    .opts_count = HDL_ARRAY_LEN(matrix_opts),
};

/* One line of the table: what was tested, and the checks it passed, separated by commas. */
typedef struct matrix_row {
    const char *kind, *name, *checks;
} matrix_row;

static const matrix_row rows[] = {
#include "matrix_table.inc"
};

static const struct {
    const char *kind, *title;
} sections[] = {
    {"arch", "architecture"},
    {"weights", "weights in safetensors"},
    {"gguf", "GGUF"},
    {"gpu", "GPU, date, commit"},
};

static int print_json(void)
{
    hdl_buf out;
    hdl_json_writer w;
    hdl_buf_init(&out, 1 << 20);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_key(&w, "rows");
    hdl_jw_begin_array(&w);
    for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++) {
        hdl_jw_begin_object(&w);
        hdl_jw_kv_cstr(&w, "kind", rows[i].kind);
        hdl_jw_kv_cstr(&w, "name", rows[i].name);
        hdl_jw_key(&w, "checks");
        hdl_jw_begin_array(&w);
        for (const char *at = rows[i].checks; *at;) {
            size_t len = strcspn(at, ",");
            hdl_jw_string(&w, at, len);
            at += len + (at[len] == ',');
        }
        hdl_jw_end_array(&w);
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

/* "layout tp2 ep4" as 2x4, others as they are. */
static void print_checks(const char *checks)
{
    for (const char *at = checks; *at;) {
        int len = (int)strcspn(at, ","), skip = 0;
        unsigned tp = 0, ep = 0;
        if (sscanf(at, "layout tp%u ep%u%n", &tp, &ep, &skip) == 2 && skip == len)
            printf("%ux%u", tp, ep);
        else
            printf("%.*s", len, at);
        at += len;
        if (*at == ',') {
            printf(" ");
            at++;
        }
    }
    printf("\n");
}

int cli_matrix(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &matrix_spec, argv);
    if (rc >= 0)
        return rc;
    if (hdl_args_has(&args, "json"))
        return print_json();
    bool titled = false;
    for (size_t s = 0; s < HDL_ARRAY_LEN(sections); s++) {
        titled = false;
        for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++) {
            if (strcmp(rows[i].kind, sections[s].kind) != 0)
                continue;
            if (!titled)
                printf("%s%-36s covered%s\n", s > 0 ? "\n" : "", sections[s].title,
                       s + 1 < HDL_ARRAY_LEN(sections) ? ", on CPUs" : "");
            titled = true;
            printf("%-36s ", rows[i].name);
            print_checks(rows[i].checks);
        }
    }
    if (!titled)
        printf("\nGPUs: nothing has run on one yet.\n");
    return CLI_OK;
}
