/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "unit.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 10000, BYTES_MAX = 64 * 1024 * 1024 };

static const char template_source[] =
    "{% if tools %}tools {{ tools|tojson }}\n{% endif %}{% if reasoning_effort %}effort "
    "{{ reasoning_effort }}\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message.tool_calls %}{{ call.function.name }}"
    "{% if as_text %}{{ ':' + call.function.arguments }}{% else %}"
    "{{ call.function.arguments|tojson }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

void rig_open(rig *r, const hdl_front_opts *opts)
{
    hdl_errmsg why = {0};
    hdl_front_opts o = opts ? *opts : (hdl_front_opts){0};
    *r = (rig){.engine = fake_engine_open()};
    if (hdl_tokenizer_open(&r->tokenizer, HDL_SOURCE_DIR "/deploy/demo-model", &why) != HDL_OK ||
        hdl_template_open(&r->chat, template_source, sizeof template_source - 1, &why) != HDL_OK)
        fail_msg("%s", why.text);
    r->model = (hdl_front_model){.engine = fake_engine_vtable(r->engine),
                                 .tokenizer = r->tokenizer,
                                 .chat = r->chat,
                                 .name = "fake"};
    o.model = &r->model;
    if (hdl_front_open(&r->front, &o, &why) != HDL_OK)
        fail_msg("%s", why.text);
}

void rig_close(rig *r)
{
    hdl_front_stop(r->front);
    fake_engine_close(r->engine);
    hdl_front_close(r->front);
    hdl_template_free(r->chat);
    hdl_tokenizer_free(r->tokenizer);
}

void client_open(client *c, const rig *r)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(hdl_front_port(r->front)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *c = (client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&at, sizeof at), 0);
    /* Head and body are two sends; the second must not wait for the server's delayed ACK. */
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    hdl_buf_init(&c->in, BYTES_MAX);
}

void client_close(client *c)
{
    close(c->fd);
    hdl_buf_deinit(&c->in);
}

void client_send(client *c, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the server has closed; what it said is still to be read */
        text += n;
        len -= (size_t)n;
    }
}

void client_puts(client *c, const char *text) { client_send(c, text, strlen(text)); }

bool client_read(client *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (c->closed)
        return false;
    if (poll(&p, 1, WAIT_MS) != 1)
        fail_msg("the server says nothing");
    assert_int_equal(hdl_buf_reserve(&c->in, 65536), HDL_OK);
    ssize_t n = recv(c->fd, hdl_buf_tail(&c->in), 65536, 0);
    c->closed = n <= 0;
    hdl_buf_commit(&c->in, n > 0 ? (size_t)n : 0);
    return n > 0;
}

bool client_wait_for(client *c, const char *text)
{
    while (!memmem(hdl_buf_data(&c->in), c->in.len, text, strlen(text)))
        if (!client_read(c))
            return false;
    return true;
}

static bool need(client *c, size_t n)
{
    while (c->in.len < n)
        if (!client_read(c))
            return false;
    return true;
}

static void read_chunks(client *c, answer *a)
{
    for (;;) {
        const char *crlf;
        while (!(crlf = memmem(hdl_buf_data(&c->in), c->in.len, "\r\n", 2)))
            if (!client_read(c))
                return;
        size_t len = strtoul((const char *)hdl_buf_data(&c->in), NULL, 16);
        hdl_buf_consume(&c->in, (size_t)(crlf - (const char *)hdl_buf_data(&c->in)) + 2);
        if (!need(c, len + 2))
            return;
        hdl_buf_append(&a->body, hdl_buf_data(&c->in), len);
        assert_memory_equal(hdl_buf_data(&c->in) + len, "\r\n", 2);
        hdl_buf_consume(&c->in, len + 2);
        if (len == 0)
            return;
    }
}

void client_answer(client *c, answer *a)
{
    *a = (answer){0};
    hdl_buf_init(&a->body, BYTES_MAX);
    if (!client_wait_for(c, "\r\n\r\n"))
        return;
    const char *start = (const char *)hdl_buf_data(&c->in);
    const char *end = memmem(start, c->in.len, "\r\n\r\n", 4);
    size_t head = (size_t)(end - start) + 4;
    assert_true(head < sizeof a->head);
    memcpy(a->head, start, head);
    hdl_buf_consume(&c->in, head);
    assert_int_equal(sscanf(a->head, "HTTP/1.1 %d", &a->status), 1);
    if (strcmp(answer_header(a, "transfer-encoding"), "chunked") == 0) {
        read_chunks(c, a);
        return;
    }
    size_t len = strtoul(answer_header(a, "content-length"), NULL, 10);
    if (need(c, len)) {
        hdl_buf_append(&a->body, hdl_buf_data(&c->in), len);
        hdl_buf_consume(&c->in, len);
    }
}

void answer_free(answer *a) { hdl_buf_deinit(&a->body); }

const char *answer_header(const answer *a, const char *name)
{
    static char value[512];
    size_t len = strlen(name);
    for (const char *line = a->head; (line = strstr(line, "\r\n"));) {
        line += 2;
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        (void)snprintf(value, sizeof value, "%.*s", (int)strcspn(line + len + 2, "\r"),
                       line + len + 2);
        return value;
    }
    return "";
}

void rig_post(const rig *r, const char *path, const char *json, answer *a)
{
    client c;
    char head[512];
    (void)snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   path, strlen(json));
    client_open(&c, r);
    client_puts(&c, head);
    client_puts(&c, json);
    client_answer(&c, a);
    client_close(&c);
}

void rig_get(const rig *r, const char *path, answer *a)
{
    client c;
    char head[512];
    (void)snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    client_open(&c, r);
    client_puts(&c, head);
    client_answer(&c, a);
    client_close(&c);
}
