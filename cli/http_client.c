/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/http_client.h"

#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

enum { LINE_BYTES_MAX = 1 << 20, ANSWER_BYTES_MAX = 64 << 20 };

struct hdl_client {
    CURL *curl;                /* owned */
    struct curl_slist *header; /* owned */
    char base_url[1024];
    const atomic_bool *cancel;
    bool is_own_server;
    char curl_error[CURL_ERROR_SIZE];
    /* Of the request under way. */
    const hdl_client_request *request;
    hdl_buf line; /* an event stream's incomplete line */
    bool is_events;
    bool ended; /* on_event had enough */
};

hdl_err hdl_client_open(hdl_client **out, const hdl_client_opts *opts, hdl_errmsg *why)
{
    hdl_client *c = calloc(1, sizeof *c);
    if (c == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        (c->curl = curl_easy_init()) == NULL) {
        free(c);
        return hdl_fail(HDL_NOMEM, why, "no HTTP client; the machine is out of memory");
    }
    size_t len = strlen(opts->base_url);
    while (len > 0 && opts->base_url[len - 1] == '/')
        len--;
    if (len >= 3 && strncmp(opts->base_url + len - 3, "/v1", 3) == 0)
        len -= 3; /* people paste the base URL of their OpenAI client */
    if (len >= sizeof c->base_url) {
        hdl_client_close(c);
        return hdl_fail(HDL_INVALID, why, "the URL is longer than %zu bytes",
                        sizeof c->base_url - 1);
    }
    memcpy(c->base_url, opts->base_url, len);
    c->cancel = opts->cancel;
    c->is_own_server = opts->is_own_server;
    hdl_buf_init(&c->line, LINE_BYTES_MAX);
    c->header = curl_slist_append(NULL, "Content-Type: application/json");
    if (opts->api_key != NULL) {
        char text[1024];
        snprintf(text, sizeof text, "Authorization: Bearer %s", opts->api_key);
        c->header = curl_slist_append(c->header, text);
    }
    *out = c;
    return HDL_OK;
}

void hdl_client_close(hdl_client *client)
{
    if (client == NULL)
        return;
    curl_slist_free_all(client->header);
    curl_easy_cleanup(client->curl);
    hdl_buf_deinit(&client->line);
    free(client);
}

/* A copy, because the caller wants a string. */
static bool give_event(hdl_client *c, const unsigned char *text, size_t len)
{
    char *data = malloc(len + 1);
    if (data == NULL)
        return false;
    memcpy(data, text, len);
    data[len] = '\0';
    bool go_on = c->request->on_event(c->request->arg, data, len);
    free(data);
    return go_on;
}

/* Takes whole lines off the buffer and gives the data of `data:` lines to the caller. Comments and
 * other fields of the event-stream format are of no use to us. */
static void drain_lines(hdl_client *c)
{
    for (;;) {
        const unsigned char *text = hdl_buf_data(&c->line);
        const unsigned char *end = memchr(text, '\n', c->line.len);
        if (end == NULL || c->ended)
            return;
        size_t len = (size_t)(end - text), used = len + 1;
        if (len > 0 && text[len - 1] == '\r')
            len--;
        if (len >= 5 && memcmp(text, "data:", 5) == 0) {
            size_t skip = len > 5 && text[5] == ' ' ? 6 : 5;
            if (!give_event(c, text + skip, len - skip))
                c->ended = true;
        }
        hdl_buf_consume(&c->line, used);
    }
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    hdl_client *c = arg;
    long status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (c->request->on_event != NULL && status == 200) {
        if (hdl_buf_append(&c->line, bytes, size * n) != HDL_OK)
            return 0;
        drain_lines(c);
        return c->ended ? 0 : size * n;
    }
    return hdl_buf_append(c->request->answer, bytes, size * n) == HDL_OK ? size * n : 0;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
    (void)a, (void)b, (void)d, (void)e;
    const hdl_client *c = arg;
    return c->cancel != NULL && atomic_load_explicit(c->cancel, memory_order_relaxed);
}

static const char *what_to_do(CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return "make this machine trust its authority (update-ca-certificates)";
    case CURLE_SSL_CONNECT_ERROR: return "does it speak TLS there? if not, write http://";
    default: return "is the server running there?";
    }
}

hdl_err hdl_client_send(hdl_client *c, const hdl_client_request *request, long *status,
                        hdl_errmsg *why)
{
    char url[2048];
    snprintf(url, sizeof url, "%s%s", c->base_url, request->path);
    c->request = request;
    c->ended = false;
    hdl_buf_clear(&c->line);
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    /* Not by the environment's proxy: what is said is for the server that was named, and a proxy
     * knows no way to this machine's loopback. */
    curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->header);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->curl_error);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, request->timeout_s);
    if (c->is_own_server) {
        curl_easy_setopt(c->curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(c->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (request->body != NULL)
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, request->body);
    c->curl_error[0] = '\0';

    CURLcode code = curl_easy_perform(c->curl);
    *status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, status);
    if (code == CURLE_OK)
        return HDL_OK;
    if (c->ended || code == CURLE_ABORTED_BY_CALLBACK)
        return HDL_CANCELLED;
    return hdl_fail(code == CURLE_OPERATION_TIMEDOUT ? HDL_TIMEOUT : HDL_PEER, why,
                    "no answer from %s; %s; %s", c->base_url,
                    c->curl_error[0] != '\0' ? c->curl_error : curl_easy_strerror(code),
                    what_to_do(code));
}
