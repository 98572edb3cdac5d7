/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.2 and 1.3 by OpenSSL, and the two primitives of it that the front needs elsewhere. The only
 * file that includes OpenSSL.
 *
 * A hdl_tls holds certificate and key; any thread may open connections from it while another
 * reloads it: connections keep what they began with. A hdl_tls_conn belongs to its connection. */
#pragma once

#include <heddle/err.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct hdl_tls hdl_tls;           /* heap, cold */
typedef struct hdl_tls_conn hdl_tls_conn; /* heap */

hdl_err hdl_tls_open(hdl_tls **out, const char *cert_path, const char *key_path,
                     hdl_errmsg *why) HDL_MUST_CHECK;
/* Reads both files anew; on error what was there stays. Any thread. */
hdl_err hdl_tls_reload(hdl_tls *tls, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_tls_close(hdl_tls *tls);

/* fd is borrowed. NULL: out of memory. */
hdl_tls_conn *hdl_tls_accept(hdl_tls *tls, int fd);
void hdl_tls_conn_free(hdl_tls_conn *conn);

enum { HDL_TLS_AGAIN = -1, HDL_TLS_BROKEN = -2 };
/* Bytes, 0: the peer said goodbye, HDL_TLS_AGAIN: wait for the socket, HDL_TLS_BROKEN. The
 * handshake happens inside. n > 0. */
ssize_t hdl_tls_read(hdl_tls_conn *conn, void *bytes, size_t n);
ssize_t hdl_tls_write(hdl_tls_conn *conn, const void *bytes, size_t n);
/* The last read or write waits for the socket to take bytes. */
bool hdl_tls_wants_write(const hdl_tls_conn *conn);
/* Says goodbye, once, without waiting. */
void hdl_tls_shutdown(hdl_tls_conn *conn);

/* Last second of validity, since 1970, of the first certificate in a PEM file (heddle doctor). */
hdl_err hdl_tls_valid_until(const char *cert_path, int64_t *unix_s, hdl_errmsg *why) HDL_MUST_CHECK;

enum { HDL_SHA256_BYTES = 32 };
void hdl_tls_sha256(const void *bytes, size_t n, unsigned char out[HDL_SHA256_BYTES]);
/* In a time that depends on n alone. */
bool hdl_tls_equal(const void *a, const void *b, size_t n);
