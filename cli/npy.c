/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/npy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { HEADER_BYTES = 128, COPY_BYTES = 1 << 16 };

/* Magic, version 1.0, length of the text, the text padded with blanks to a multiple of 64. */
static void make_header(char header[HEADER_BYTES], uint64_t rows, uint64_t cols)
{
    memset(header, ' ', HEADER_BYTES);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)(HEADER_BYTES - 10);
    header[9] = 0;
    char text[HEADER_BYTES];
    int len = snprintf(text, sizeof text,
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                       (unsigned long long)rows, (unsigned long long)cols);
    memcpy(header + 10, text, (size_t)len);
    header[HEADER_BYTES - 1] = '\n';
}

static uint64_t copy_all(FILE *from, FILE *to)
{
    static char bytes[COPY_BYTES];
    uint64_t total = 0;
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, from)) > 0; total += n)
        if (fwrite(bytes, 1, n, to) != n)
            return 0;
    return total;
}

hdl_err cli_npy_from_raw(const char *out_path, const char *raw_path, uint64_t rows, uint64_t cols,
                         hdl_errmsg *why)
{
    char header[HEADER_BYTES];
    make_header(header, rows, cols);
    FILE *raw = fopen(raw_path, "rb");
    FILE *out = fopen(out_path, "wb");
    hdl_err err = HDL_OK;
    if (out == NULL || raw == NULL) {
        err = hdl_fail(HDL_IO, why, "cannot write %s; %s; choose another --out", out_path,
                       strerror(errno));
    } else if (fwrite(header, 1, sizeof header, out) != sizeof header) {
        err = hdl_fail(HDL_IO, why, "cannot write %s; %s", out_path, strerror(errno));
    } else {
        uint64_t got = copy_all(raw, out), want = rows * cols * sizeof(float);
        if (got != want)
            err = hdl_fail(HDL_IO, why,
                           "%s is incomplete; %llu bytes of logits came, %llu were "
                           "asked for; is the disk full?",
                           out_path, (unsigned long long)got, (unsigned long long)want);
    }
    if (raw != NULL)
        fclose(raw);
    if (out != NULL && fclose(out) != 0 && err == HDL_OK)
        err = hdl_fail(HDL_IO, why, "cannot write %s; %s", out_path, strerror(errno));
    return err;
}
