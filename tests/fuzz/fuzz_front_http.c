/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a connection: requests are read one after the other until one is refused. The same bytes
 * in pieces of another size must give the same requests: framing never depends on packets. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "scheduler/front/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 4096, REQUESTS_MAX = 64 };

/* Hash of everything that a reader would act on. */
static uint64_t digest_of(const hdl_http *http)
{
    const hdl_http_req *req = &http->req;
    uint64_t h = hdl_hash_bytes(hdl_buf_data(&http->body), http->body.len, (uint64_t)http->state);
    if (http->state == HDL_HTTP_ST_REFUSED) {
        HDL_ASSERT(http->status >= 400 && http->reason != NULL);
        return hdl_hash_combine((uint64_t)http->status, 1);
    }
    h = hdl_hash_combine(h, (uint64_t)req->method);
    h = hdl_hash_bytes(req->path.at, req->path.len, h);
    for (int i = 0; i < HDL_HTTP_HEADER_COUNT; i++)
        h = hdl_hash_bytes(req->header[i].at ? req->header[i].at : "", req->header[i].len, h);
    return hdl_hash_combine(h, (uint64_t)req->keep_alive);
}

static uint64_t read_all(const uint8_t *data, size_t size, size_t step)
{
    hdl_http http;
    uint64_t h = 0;
    size_t at = 0;
    hdl_http_init(&http, BODY_MAX);
    for (int n = 0; at < size && n < REQUESTS_MAX;) {
        size_t give = size - at < step ? size - at : step;
        size_t used = hdl_http_feed(&http, data + at, give);
        HDL_ASSERT(used <= give);
        HDL_ASSERT(http.body.len <= BODY_MAX && http.head.len <= HDL_HTTP_HEADER_BYTES_MAX);
        at += used;
        if (http.state == HDL_HTTP_ST_REFUSED) {
            h = hdl_hash_combine(h, digest_of(&http));
            break;
        }
        if (http.state == HDL_HTTP_ST_DONE) {
            h = hdl_hash_combine(h, digest_of(&http));
            hdl_http_reset(&http);
            n++;
        } else {
            HDL_ASSERT(used == give);
        }
    }
    hdl_http_deinit(&http);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole = read_all(data, size, size ? size : 1);
    HDL_ASSERT_EQ(whole, read_all(data, size, 1));
    HDL_ASSERT_EQ(whole, read_all(data, size, 7));
    return 0;
}
