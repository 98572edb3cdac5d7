/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/front/tls.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct hdl_tls {
    pthread_mutex_t lock; /* of ctx, held for a pointer's length */
    SSL_CTX *ctx;         /* owned; counted by OpenSSL */
    char *cert_path, *key_path;
};

struct hdl_tls_conn {
    SSL *ssl;
    bool wants_write;
    bool broken;
};

static const char *openssl_reason(char *text, size_t size)
{
    unsigned long code = ERR_get_error();
    if (code == 0)
        return "no reason given";
    ERR_error_string_n(code, text, size);
    ERR_clear_error();
    return text;
}

static hdl_err load_ctx(SSL_CTX **out, const char *cert, const char *key, hdl_errmsg *why)
{
    char reason[160];
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        return hdl_fail(HDL_NOMEM, why, "TLS cannot be set up; %s; free some memory",
                        openssl_reason(reason, sizeof reason));
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    /* RELEASE_BUFFERS: an idle connection costs 14 KB instead of 47. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        SSL_CTX_free(ctx);
        return hdl_fail(HDL_INVALID, why,
                        "the certificate cannot be read; %s: %s; give a PEM chain, own one first",
                        cert, openssl_reason(reason, sizeof reason));
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        SSL_CTX_free(ctx);
        return hdl_fail(HDL_INVALID, why,
                        "the private key cannot be used; %s: %s; give the PEM key that belongs to "
                        "the certificate",
                        key, openssl_reason(reason, sizeof reason));
    }
    *out = ctx;
    return HDL_OK;
}

hdl_err hdl_tls_open(hdl_tls **out, const char *cert_path, const char *key_path, hdl_errmsg *why)
{
    hdl_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return HDL_NOMEM;
    tls->cert_path = strdup(cert_path);
    tls->key_path = strdup(key_path);
    if (!tls->cert_path || !tls->key_path || pthread_mutex_init(&tls->lock, NULL) != 0) {
        free(tls->cert_path);
        free(tls->key_path);
        free(tls);
        return HDL_NOMEM;
    }
    hdl_err err = load_ctx(&tls->ctx, cert_path, key_path, why);
    if (err != HDL_OK) {
        hdl_tls_close(tls);
        return err;
    }
    *out = tls;
    return HDL_OK;
}

hdl_err hdl_tls_reload(hdl_tls *tls, hdl_errmsg *why)
{
    SSL_CTX *fresh = NULL;
    HDL_TRY(load_ctx(&fresh, tls->cert_path, tls->key_path, why));
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *old = tls->ctx;
    tls->ctx = fresh;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old);
    return HDL_OK;
}

void hdl_tls_close(hdl_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx);
    pthread_mutex_destroy(&tls->lock);
    free(tls->cert_path);
    free(tls->key_path);
    free(tls);
}

hdl_tls_conn *hdl_tls_accept(hdl_tls *tls, int fd)
{
    hdl_tls_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return NULL;
    pthread_mutex_lock(&tls->lock);
    conn->ssl = SSL_new(tls->ctx);
    pthread_mutex_unlock(&tls->lock);
    if (!conn->ssl || SSL_set_fd(conn->ssl, fd) != 1) {
        hdl_tls_conn_free(conn);
        return NULL;
    }
    SSL_set_accept_state(conn->ssl);
    return conn;
}

void hdl_tls_conn_free(hdl_tls_conn *conn)
{
    if (!conn)
        return;
    SSL_free(conn->ssl);
    free(conn);
}

static ssize_t io_result(hdl_tls_conn *conn, int ret)
{
    conn->wants_write = false;
    if (ret > 0)
        return ret;
    switch (SSL_get_error(conn->ssl, ret)) {
    case SSL_ERROR_WANT_READ: return HDL_TLS_AGAIN;
    case SSL_ERROR_WANT_WRITE: conn->wants_write = true; return HDL_TLS_AGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default:
        /* After a fatal error OpenSSL allows no further call, not even a goodbye. */
        conn->broken = true;
        ERR_clear_error();
        return HDL_TLS_BROKEN;
    }
}

static int clamp_len(size_t n)
{
    HDL_ASSERT(n > 0);
    return n > INT_MAX ? INT_MAX : (int)n;
}

ssize_t hdl_tls_read(hdl_tls_conn *conn, void *bytes, size_t n)
{
    if (conn->broken)
        return HDL_TLS_BROKEN;
    ERR_clear_error();
    return io_result(conn, SSL_read(conn->ssl, bytes, clamp_len(n)));
}

ssize_t hdl_tls_write(hdl_tls_conn *conn, const void *bytes, size_t n)
{
    if (conn->broken)
        return HDL_TLS_BROKEN;
    ERR_clear_error();
    ssize_t done = io_result(conn, SSL_write(conn->ssl, bytes, clamp_len(n)));
    return done == 0 ? HDL_TLS_BROKEN : done;
}

bool hdl_tls_wants_write(const hdl_tls_conn *conn) { return conn->wants_write; }

void hdl_tls_shutdown(hdl_tls_conn *conn)
{
    if (conn->broken || !SSL_is_init_finished(conn->ssl))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(conn->ssl);
    ERR_clear_error();
}

void hdl_tls_sha256(const void *bytes, size_t n, unsigned char out[HDL_SHA256_BYTES])
{
    unsigned int len = 0;
    int ok = EVP_Digest(bytes, n, out, &len, EVP_sha256(), NULL);
    HDL_ASSERT(ok == 1 && len == HDL_SHA256_BYTES);
}

bool hdl_tls_equal(const void *a, const void *b, size_t n) { return CRYPTO_memcmp(a, b, n) == 0; }

hdl_err hdl_tls_valid_until(const char *cert_path, int64_t *unix_s, hdl_errmsg *why)
{
    FILE *file = fopen(cert_path, "re");
    X509 *cert = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    struct tm tm = {0};
    bool ok = cert && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1;
    if (file)
        fclose(file);
    X509_free(cert);
    ERR_clear_error();
    if (!ok)
        return hdl_fail(HDL_INVALID, why,
                        "%s holds no certificate that can be read; it must be PEM", cert_path);
    *unix_s = (int64_t)timegm(&tm);
    return HDL_OK;
}
