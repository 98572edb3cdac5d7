/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "rig.h"

void rig_covered(const char *kind, const char *name, const char *check)
{
    static FILE *file; /* of this program, begun anew with its first note */
    if (!file) {
        char path[512];
        assert_true(mkdir(HDL_COVERED_DIR, 0755) == 0 || errno == EEXIST);
        snprintf(path, sizeof(path), "%s/%s.tsv", HDL_COVERED_DIR, program_invocation_short_name);
        file = fopen(path, "w");
        assert_non_null(file);
    }
    fprintf(file, "%s\t%s\t%s\n", kind, name, check);
    assert_int_equal(fflush(file), 0);
}

void rig_covered_arch(const char *config_json, const char *check)
{
    hdl_model_desc *desc = malloc(sizeof(*desc));
    hdl_errmsg why = {0};
    assert_non_null(desc);
    if (hdl_model_desc_parse(desc, config_json, strlen(config_json), &why) != HDL_OK)
        fail_msg("%s", why.text);
    rig_covered("arch", desc->arch, check);
    free(desc);
}
