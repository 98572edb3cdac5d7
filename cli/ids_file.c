/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ids_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

enum { FILE_BYTES_MAX = 512 << 20 };

hdl_err cli_ids_parse(const char *text, hdl_ids *ids, hdl_errmsg *why)
{
    for (const char *at = text;;) {
        at += strspn(at, " \t\r\n,[]");
        if (*at == '\0')
            return HDL_OK;
        char *end = NULL;
        long v = strtol(at, &end, 10);
        if (end == at || v < 0 || v > INT32_MAX)
            return hdl_fail(HDL_INVALID, why, "\"%.20s\" is no token id; ids are numbers from 0",
                            at);
        HDL_TRY(hdl_ids_push(ids, (hdl_token)v));
        at = end;
    }
}

hdl_err cli_ids_read(const char *path, hdl_ids *ids, hdl_errmsg *why)
{
    char *text = NULL;
    size_t len = 0;
    HDL_TRY(hdl_fs_read(path, FILE_BYTES_MAX, &text, &len, why));
    hdl_err err = cli_ids_parse(text, ids, why);
    free(text);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    if (ids->n == 0)
        return hdl_fail(HDL_INVALID, why, "%s holds no token ids; heddle tokenize makes some",
                        path);
    return HDL_OK;
}
