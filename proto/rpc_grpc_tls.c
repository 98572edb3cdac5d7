/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of the gRPC wrapper: TLS with certificates on both sides, or none at all, and that
 * only where the bytes cannot leave the machine. A server looks at its files at each handshake and
 * reads them again when one has changed; files that do not make a pair leave the old ones in use.
 */
#include "proto/rpc_grpc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <heddle/types.h>

#include "base/fs.h"
#include "base/log.h"

enum { PEM_BYTES_MAX = 1 << 20 };

typedef struct pem_set {
    char *ca, *cert, *key; /* owned */
} pem_set;

/* What tells that a file is another one than last time. */
typedef struct file_stamp {
    struct timespec changed;
    ino_t inode;
    off_t bytes;
} file_stamp;

struct rpc_certs {
    hdl_rpc_tls files;
    file_stamp stamps[3];
    bool loaded;
};

static void pem_free(pem_set *pem)
{
    free(pem->ca);
    free(pem->cert);
    if (pem->key)
        explicit_bzero(pem->key, strlen(pem->key));
    free(pem->key);
}

static hdl_err pem_read(pem_set *pem, const hdl_rpc_tls *files, hdl_errmsg *why)
{
    *pem = (pem_set){0};
    size_t len;
    hdl_err err = hdl_fs_read(files->ca, PEM_BYTES_MAX, &pem->ca, &len, why);
    if (err == HDL_OK)
        err = hdl_fs_read(files->cert, PEM_BYTES_MAX, &pem->cert, &len, why);
    if (err == HDL_OK)
        err = hdl_fs_read(files->key, PEM_BYTES_MAX, &pem->key, &len, why);
    if (err != HDL_OK)
        pem_free(pem);
    return err;
}

static bool is_set(const char *text) { return text && text[0]; }

/* *use: TLS is configured. Refuses half a configuration, and none for an address that others reach.
 */
static hdl_err check_tls(const char *address, const hdl_rpc_tls *tls, bool *use, hdl_errmsg *why)
{
    int given = tls ? is_set(tls->ca) + is_set(tls->cert) + is_set(tls->key) : 0;
    *use = given == 3;
    if (given != 0 && given != 3)
        return hdl_fail(HDL_INVALID, why,
                        "TLS of the control plane is half configured; it needs authority, "
                        "certificate and key; set rpc.tls_ca, rpc.tls_cert and rpc.tls_key");
    if (given == 0 && !hdl_rpc_address_is_local(address))
        return hdl_fail(HDL_DENIED, why,
                        "the control plane does not go without TLS beyond this machine; %s is "
                        "neither loopback nor a unix socket; set rpc.tls_ca, rpc.tls_cert and "
                        "rpc.tls_key",
                        address);
    return HDL_OK;
}

static file_stamp stamp_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return (file_stamp){0};
    return (file_stamp){.changed = st.st_mtim, .inode = st.st_ino, .bytes = st.st_size};
}

static bool same_stamp(file_stamp a, file_stamp b)
{
    return a.changed.tv_sec == b.changed.tv_sec && a.changed.tv_nsec == b.changed.tv_nsec &&
           a.inode == b.inode && a.bytes == b.bytes;
}

/* gRPC calls it at each handshake, from a thread of its own, one at a time. */
static grpc_ssl_certificate_config_reload_status fetch_certs(
    void *user, grpc_ssl_server_certificate_config **config)
{
    rpc_certs *certs = user;
    const file_stamp now[3] = {stamp_of(certs->files.ca), stamp_of(certs->files.cert),
                               stamp_of(certs->files.key)};
    if (certs->loaded && same_stamp(now[0], certs->stamps[0]) &&
        same_stamp(now[1], certs->stamps[1]) && same_stamp(now[2], certs->stamps[2]))
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    pem_set pem;
    hdl_errmsg why = {0};
    if (pem_read(&pem, &certs->files, &why) != HDL_OK) {
        HDL_LOG(ERROR, PROTO, "tls_reload_failed", "why=%s", HDL_LOG_QUOTE(why.text));
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    }
    grpc_ssl_pem_key_cert_pair pair = {.private_key = pem.key, .cert_chain = pem.cert};
    *config = grpc_ssl_server_certificate_config_create(pem.ca, &pair, 1);
    pem_free(&pem);
    HDL_LOG(INFO, PROTO, "tls_loaded", "again=%d", certs->loaded);
    memcpy(certs->stamps, now, sizeof now);
    certs->loaded = true;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

hdl_err rpc_server_creds(grpc_server_credentials **out, rpc_certs **certs, const char *address,
                         const hdl_rpc_tls *tls, hdl_errmsg *why)
{
    bool use;
    *out = NULL;
    *certs = NULL;
    HDL_TRY(check_tls(address, tls, &use, why));
    if (!use) {
        *out = grpc_insecure_server_credentials_create();
        return HDL_OK;
    }
    pem_set pem; /* a missing file is told now, not at the first handshake */
    HDL_TRY(pem_read(&pem, tls, why));
    pem_free(&pem);
    rpc_certs *c = calloc(1, sizeof *c);
    if (!c)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    c->files = *tls;
    grpc_ssl_server_credentials_options *options =
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, fetch_certs, c);
    *out = grpc_ssl_server_credentials_create_with_options(options);
    if (!*out) {
        free(c);
        return hdl_fail(HDL_INVALID, why,
                        "the control plane's certificates cannot be used; %s and %s are not a pair "
                        "of PEM texts; check rpc.tls_cert and rpc.tls_key",
                        tls->cert, tls->key);
    }
    *certs = c;
    return HDL_OK;
}

void rpc_certs_free(rpc_certs *certs) { free(certs); }

hdl_err rpc_client_creds(grpc_channel_credentials **out, const char *address,
                         const hdl_rpc_tls *tls, hdl_errmsg *why)
{
    bool use;
    *out = NULL;
    HDL_TRY(check_tls(address, tls, &use, why));
    if (!use) {
        *out = grpc_insecure_credentials_create();
        return HDL_OK;
    }
    pem_set pem;
    HDL_TRY(pem_read(&pem, tls, why));
    grpc_ssl_pem_key_cert_pair pair = {.private_key = pem.key, .cert_chain = pem.cert};
    *out = grpc_ssl_credentials_create_ex(pem.ca, &pair, NULL, NULL);
    pem_free(&pem);
    if (!*out)
        return hdl_fail(HDL_INVALID, why,
                        "the control plane's certificates cannot be used; %s and %s are not a pair "
                        "of PEM texts; check rpc.tls_cert and rpc.tls_key",
                        tls->cert, tls->key);
    return HDL_OK;
}
