/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 2 of 14: bytes to method, path, headers, body (DESIGN section 4). */
#include "scheduler/front/http.h"

#include <http_parser.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"

/* Framing bytes that a chunked body may cost beyond its content: one-byte chunks carry 5 each. */
enum { CHUNK_OVERHEAD_FREE = 65536, CHUNK_OVERHEAD_RATIO = 8, CHUNK_SIZE_DIGITS_MAX = 8 };

static const struct {
    const char *text;
    bool once;
} header_table[] = {
#define ROW(name, text, once) {text, once},
    HDL_HTTP_HEADER_LIST(ROW)
#undef ROW
};

void hdl_http_init(hdl_http *http, uint64_t body_max)
{
    *http = (hdl_http){.body_max = body_max};
    hdl_buf_init(&http->head, HDL_HTTP_HEADER_BYTES_MAX + 1);
    hdl_buf_init(&http->body, (size_t)body_max + 1);
}

void hdl_http_deinit(hdl_http *http)
{
    hdl_buf_deinit(&http->head);
    hdl_buf_deinit(&http->body);
}

void hdl_http_reset(hdl_http *http)
{
    uint64_t body_max = http->body_max;
    hdl_http_deinit(http);
    hdl_http_init(http, body_max);
}

hdl_buf hdl_http_take_body(hdl_http *http)
{
    hdl_buf body = http->body;
    HDL_ASSERT_EQ(http->state, HDL_HTTP_ST_DONE);
    hdl_buf_init(&http->body, (size_t)http->body_max + 1);
    return body;
}

static void refuse(hdl_http *http, int status, const char *reason)
{
    http->state = HDL_HTTP_ST_REFUSED;
    http->status = status;
    http->reason = reason;
}

bool hdl_http_text_is(hdl_http_text text, const char *word)
{
    return text.at && strlen(word) == text.len && strncasecmp(text.at, word, text.len) == 0;
}

/* RFC 9110 token characters. */
static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(hdl_http_text text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_token_char((unsigned char)text.at[i]))
            return false;
    return text.len > 0;
}

static hdl_http_text trim(hdl_http_text text)
{
    while (text.len && (*text.at == ' ' || *text.at == '\t'))
        text = (hdl_http_text){text.at + 1, text.len - 1};
    while (text.len && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* `METHOD SP target SP HTTP/1.x`, single blanks, visible ASCII only. */
static bool check_request_line(hdl_http *http, hdl_http_text line)
{
    for (size_t i = 0; i < line.len; i++)
        if ((unsigned char)line.at[i] < 0x20 || (unsigned char)line.at[i] > 0x7e) {
            refuse(http, 400, "the request line holds a byte that is no visible ASCII");
            return false;
        }
    const char *first = memchr(line.at, ' ', line.len);
    const char *last = memrchr(line.at, ' ', line.len);
    if (!first || first == last) {
        refuse(http, 400, "the request line is not METHOD target HTTP/1.1");
        return false;
    }
    hdl_http_text method = {line.at, (size_t)(first - line.at)};
    hdl_http_text target = {first + 1, (size_t)(last - first - 1)};
    hdl_http_text version = {last + 1, (size_t)(line.at + line.len - last - 1)};
    if (!is_token(method) || target.len == 0 || memchr(target.at, ' ', target.len)) {
        refuse(http, 400, "the request line is not METHOD target HTTP/1.1");
        return false;
    }
    if (version.len != 8 || memcmp(version.at, "HTTP/", 5) != 0) {
        refuse(http, 400, "the request line does not end in HTTP/1.1");
        return false;
    }
    if (memcmp(version.at, "HTTP/1.", 7) != 0 || version.at[7] < '0' || version.at[7] > '1') {
        refuse(http, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
        return false;
    }
    http->req.minor = (uint32_t)(version.at[7] - '0');
    http->req.target = target;
    return true;
}

static bool find_path(hdl_http *http)
{
    hdl_http_text path = http->req.target;
    size_t skip = 0;
    if (path.len > 7 && strncasecmp(path.at, "http://", 7) == 0)
        skip = 7;
    else if (path.len > 8 && strncasecmp(path.at, "https://", 8) == 0)
        skip = 8;
    if (skip) { /* absolute form: what a client says to a proxy */
        const char *slash = memchr(path.at + skip, '/', path.len - skip);
        path = slash ? (hdl_http_text){slash, (size_t)(path.at + path.len - slash)}
                     : (hdl_http_text){"/", 1};
    } else if (*path.at != '/' && !(path.len == 1 && *path.at == '*')) {
        refuse(http, 400, "the request target is no path");
        return false;
    }
    const char *query = memchr(path.at, '?', path.len);
    if (query)
        path.len = (size_t)(query - path.at);
    if (memchr(path.at, '#', path.len)) {
        refuse(http, 400, "the request target holds a fragment");
        return false;
    }
    http->req.path = path;
    return true;
}

static bool check_header_line(hdl_http *http, hdl_http_text line)
{
    if (*line.at == ' ' || *line.at == '\t') {
        refuse(http, 400, "a header line is folded");
        return false;
    }
    const char *colon = memchr(line.at, ':', line.len);
    hdl_http_text name = {line.at, colon ? (size_t)(colon - line.at) : 0};
    if (!colon || !is_token(name)) {
        refuse(http, 400, "a header line is not `name: value`");
        return false;
    }
    if (++http->req.n_headers > HDL_HTTP_HEADERS_MAX) {
        refuse(http, 431, "too many header lines");
        return false;
    }
    for (size_t h = 0; h < HDL_HTTP_HEADER_COUNT; h++) {
        if (!hdl_http_text_is(name, header_table[h].text))
            continue;
        if (http->req.header[h].at && header_table[h].once) {
            refuse(http, 400, "a header that may come once comes twice");
            return false;
        }
        http->req.header[h] =
            trim((hdl_http_text){colon + 1, (size_t)(line.at + line.len - colon - 1)});
    }
    return true;
}

/* http-parser's reading of the same bytes: method, connection persistence, and its own opinion of
 * the framing, which must not differ from ours. */
static bool ask_http_parser(hdl_http *http)
{
    http_parser_settings settings;
    http_parser parser;
    http_parser_settings_init(&settings);
    http_parser_init(&parser, HTTP_REQUEST);
    (void)http_parser_execute(&parser, &settings, (const char *)hdl_buf_data(&http->head),
                              http->head.len);
    enum http_errno err = HTTP_PARSER_ERRNO(&parser);
    if (err == HPE_INVALID_METHOD) {
        refuse(http, 501, "the method is not known");
        return false;
    }
    if (err != HPE_OK) {
        refuse(http, 400, http_errno_description(err));
        return false;
    }
    switch (parser.method) {
    case HTTP_GET: http->req.method = HDL_HTTP_GET; break;
    case HTTP_HEAD: http->req.method = HDL_HTTP_HEAD; break;
    case HTTP_POST: http->req.method = HDL_HTTP_POST; break;
    case HTTP_OPTIONS: http->req.method = HDL_HTTP_OPTIONS; break;
    default: http->req.method = HDL_HTTP_OTHER; break;
    }
    /* RFC 9112 9.3; http_should_keep_alive is no help: it wants a message with a known end. */
    bool close = parser.flags & F_CONNECTION_CLOSE;
    bool keep = parser.flags & F_CONNECTION_KEEP_ALIVE;
    http->req.keep_alive = !close && (http->req.minor >= 1 || keep);
    return true;
}

static bool read_content_length(hdl_http *http, hdl_http_text text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.len == 0 || text.len > 18) {
        refuse(http, 400, "Content-Length is no decimal number");
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            refuse(http, 400, "Content-Length is no decimal number");
            return false;
        }
        value = value * 10 + (uint64_t)(text.at[i] - '0');
    }
    *out = value;
    return true;
}

static bool find_framing(hdl_http *http)
{
    hdl_http_text length = http->req.header[HDL_HTTP_CONTENT_LENGTH];
    hdl_http_text coding = http->req.header[HDL_HTTP_TRANSFER_ENCODING];
    http->req.framed = length.at || coding.at;
    if (coding.at) {
        if (length.at || http->req.minor == 0) {
            refuse(http, 400, "Transfer-Encoding does not go with Content-Length or HTTP/1.0");
            return false;
        }
        if (!hdl_http_text_is(coding, "chunked")) {
            refuse(http, 400, "Transfer-Encoding must be exactly `chunked`");
            return false;
        }
        http->state = HDL_HTTP_ST_SIZE;
        return true;
    }
    http->left = 0;
    if (length.at && !read_content_length(http, length, &http->left))
        return false;
    if (http->left > http->body_max) {
        refuse(http, 413, "the body is longer than this server takes");
        return false;
    }
    http->state = http->left ? HDL_HTTP_ST_LENGTH : HDL_HTTP_ST_DONE;
    return true;
}

static void finish_head(hdl_http *http)
{
    const char *at = (const char *)hdl_buf_data(&http->head);
    const char *end = at + http->head.len - 2; /* without the empty line */
    bool first = true;
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        HDL_ASSERT(lf != NULL && lf > at);
        hdl_http_text line = {at, (size_t)(lf - 1 - at)};
        if (!(first ? check_request_line(http, line) : check_header_line(http, line)))
            return;
        first = false;
        at = lf + 1;
    }
    if (!find_path(http))
        return;
    hdl_http_text host = http->req.header[HDL_HTTP_HOST];
    if (!host.at && http->req.minor >= 1) {
        refuse(http, 400, "the Host header is missing");
        return;
    }
    hdl_http_text expect = http->req.header[HDL_HTTP_EXPECT];
    if (expect.at && !hdl_http_text_is(expect, "100-continue")) {
        refuse(http, 417, "the only expectation that can be met is 100-continue");
        return;
    }
    if (!ask_http_parser(http) || !find_framing(http))
        return;
    http->req.expect_continue = expect.at && http->req.minor >= 1;
}

/* Byte rules of RFC 9112 2.2 that hold wherever in the head a byte stands. */
static bool check_head_byte(hdl_http *http, unsigned char c)
{
    size_t i = http->scanned;
    const unsigned char *data = hdl_buf_data(&http->head);
    bool after_cr = i > 0 && data[i - 1] == '\r';
    if (c == '\n' && !after_cr)
        refuse(http, 400, "a line ends in a bare LF");
    else if (c != '\n' && after_cr)
        refuse(http, 400, "a CR stands alone");
    else if (c == 0)
        refuse(http, 400, "the head holds a NUL byte");
    else if ((c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
        refuse(http, 400, "the head holds a control byte");
    else if (i - http->line_at >= HDL_HTTP_LINE_BYTES_MAX)
        refuse(http, http->line_at == 0 ? 414 : 431, "a line of the head is too long");
    return http->state == HDL_HTTP_ST_HEAD;
}

/* Scans what is new in head. Returns bytes at its end that belong to the body. */
static size_t scan_head(hdl_http *http)
{
    const unsigned char *data = hdl_buf_data(&http->head);
    while (http->scanned < http->head.len) {
        unsigned char c = data[http->scanned];
        if (!check_head_byte(http, c))
            return 0;
        http->scanned++;
        if (c != '\n')
            continue;
        size_t line_len = http->scanned - http->line_at;
        http->line_at = http->scanned;
        if (line_len > 2)
            continue;
        if (http->scanned == 2) { /* an empty line where the request line should be */
            refuse(http, 400, "the request starts with an empty line");
            return 0;
        }
        size_t over = http->head.len - http->scanned;
        http->head.len = http->scanned;
        finish_head(http);
        return over;
    }
    if (http->head.len >= HDL_HTTP_HEADER_BYTES_MAX)
        refuse(http, 431, "the head is too long");
    return 0;
}

static size_t feed_head(hdl_http *http, const unsigned char *bytes, size_t n)
{
    size_t room = HDL_HTTP_HEADER_BYTES_MAX - http->head.len;
    size_t take = n < room ? n : room;
    if (hdl_buf_append(&http->head, bytes, take) != HDL_OK) {
        refuse(http, 503, "out of memory");
        return 0;
    }
    size_t over = scan_head(http);
    HDL_ASSERT(over <= take);
    return take - over;
}

static bool keep_body(hdl_http *http, const unsigned char *bytes, size_t n)
{
    if (hdl_buf_append(&http->body, bytes, n) == HDL_OK)
        return true;
    refuse(http, 503, "out of memory");
    return false;
}

static size_t feed_data(hdl_http *http, const unsigned char *bytes, size_t n)
{
    size_t take = n < http->left ? n : (size_t)http->left;
    if (!keep_body(http, bytes, take))
        return 0;
    http->left -= take;
    if (http->left == 0)
        http->state = http->state == HDL_HTTP_ST_LENGTH ? HDL_HTTP_ST_DONE : HDL_HTTP_ST_DATAEND;
    return take;
}

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void end_of_size(hdl_http *http)
{
    uint64_t size = http->left;
    http->size_digits = 0;
    http->size_cr = false;
    if (size == 0) {
        http->state = HDL_HTTP_ST_LAST;
        http->left = 2;
    } else if (size > http->body_max - http->body.len) {
        refuse(http, 413, "the body is longer than this server takes");
    } else {
        http->state = HDL_HTTP_ST_DATA;
    }
}

/* `1*8HEXDIG CRLF`. Chunk extensions are legal, used by nobody, and read differently by different
 * proxies: refused. */
static size_t feed_size(hdl_http *http, unsigned char c)
{
    int digit = hex_digit(c);
    if (http->size_cr) {
        if (c != '\n')
            refuse(http, 400, "a chunk-size line does not end in CRLF");
        else
            end_of_size(http);
    } else if (digit >= 0 && http->size_digits < CHUNK_SIZE_DIGITS_MAX) {
        http->left = (http->size_digits++ ? http->left : 0) * 16 + (uint64_t)digit;
    } else if (c == '\r' && http->size_digits > 0) {
        http->size_cr = true;
    } else {
        refuse(http, 400, "a chunk size is not a plain hexadecimal number");
    }
    return 1;
}

/* The CRLF behind a chunk, or behind the last one, where trailers could stand: refused, too. */
static size_t feed_crlf(hdl_http *http, unsigned char c)
{
    bool last = http->state == HDL_HTTP_ST_LAST;
    if (!last && http->left == 0)
        http->left = 2;
    if (c != (http->left == 2 ? '\r' : '\n')) {
        refuse(http, 400, last ? "trailers are not taken" : "a chunk is longer than its size says");
        return 1;
    }
    if (--http->left == 0)
        http->state = last ? HDL_HTTP_ST_DONE : HDL_HTTP_ST_SIZE;
    return 1;
}

static size_t feed_some(hdl_http *http, const unsigned char *bytes, size_t n)
{
    switch (http->state) {
    case HDL_HTTP_ST_HEAD: return feed_head(http, bytes, n);
    case HDL_HTTP_ST_LENGTH:
    case HDL_HTTP_ST_DATA: return feed_data(http, bytes, n);
    case HDL_HTTP_ST_SIZE:
    case HDL_HTTP_ST_DATAEND:
    case HDL_HTTP_ST_LAST:
        if (++http->chunk_overhead >
            CHUNK_OVERHEAD_FREE + CHUNK_OVERHEAD_RATIO * (uint64_t)http->body.len)
            refuse(http, 400, "the chunks are mostly framing");
        else if (http->state == HDL_HTTP_ST_SIZE)
            return feed_size(http, *bytes);
        else
            return feed_crlf(http, *bytes);
        return 0;
    case HDL_HTTP_ST_DONE:
    case HDL_HTTP_ST_REFUSED: return 0;
    }
    HDL_UNREACHABLE("state of a request");
}

size_t hdl_http_feed(hdl_http *http, const void *bytes, size_t n)
{
    size_t at = 0;
    while (at < n && http->state != HDL_HTTP_ST_DONE && http->state != HDL_HTTP_ST_REFUSED)
        at += feed_some(http, (const unsigned char *)bytes + at, n - at);
    return at;
}

const char *hdl_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {100, "Continue"},
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].text;
    return "Unknown";
}
