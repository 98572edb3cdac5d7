/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration names: the model, ports, certificates, files with keys. */
#include "cli/doctor.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <heddle/model.h>

#include "base/clock.h"
#include "base/units.h"
#include "scheduler/front/tls.h"

#define SAY(field, ...) snprintf((field), sizeof(field), __VA_ARGS__)
enum { CERT_WARN_DAYS = 14 };

void doctor_model(doctor_report *r)
{
    if (!r->has_config || r->config->model_path[0] == '\0')
        return;
    hdl_errmsg why = {0};
    hdl_model_desc *desc = calloc(1, sizeof(*desc));
    const hdl_layout layout = {.tp = (uint32_t)r->config->tp,
                               .ep = (uint32_t)r->config->ep,
                               .pp = (uint32_t)r->config->pp,
                               .dp = (uint32_t)r->config->dp};
    if (!desc)
        return;
    hdl_err err = hdl_model_desc_load(desc, r->config->model_path, &why);
    if (err == HDL_OK)
        err = hdl_layout_check(desc, &layout, &why);
    doctor_finding *f = doctor_add(r, err == HDL_OK ? DOCTOR_OK : DOCTOR_FAIL, "model");
    if (err == HDL_OK) {
        hdl_shard shard = hdl_shard_of(desc, &layout, 0);
        hdl_shard_bytes bytes = hdl_shard_count_bytes(desc, &shard, HDL_WFORMAT_COUNT);
        char size[HDL_UNITS_TEXT_BYTES];
        SAY(f->found, "%s; rank 0 holds %s of weights", desc->arch,
            hdl_format_size(bytes.weight_bytes, size));
    } else {
        SAY(f->found, "%.250s", why.text);
        SAY(f->advice, "heddle inspect %.180s", r->config->model_path);
    }
    free(desc);
}

/* Can it be listened on? "HOST:PORT", with the host in brackets when it holds colons. */
static void check_port(doctor_report *r, const char *what, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *at = NULL;
    int rc = getaddrinfo(host, port, &hints, &at);
    if (rc != 0) {
        doctor_finding *f = doctor_add(r, DOCTOR_FAIL, what);
        SAY(f->found, "%s cannot be resolved: %s", host, gai_strerror(rc));
        SAY(f->advice, "give an address of this machine");
        return;
    }
    int one = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    bool free_port = fd >= 0 && bind(fd, at->ai_addr, at->ai_addrlen) == 0;
    int error = errno;
    doctor_finding *f = doctor_add(r, free_port ? DOCTOR_OK : DOCTOR_WARN, what);
    SAY(f->found, "%s port %s %s", host, port, free_port ? "is free" : strerror(error));
    if (!free_port)
        SAY(f->advice, error == EADDRINUSE
                           ? "is it heddle itself? else choose another port"
                           : "choose an address of this machine and a port from 1024");
    if (fd >= 0)
        close(fd);
    freeaddrinfo(at);
}

void doctor_ports(doctor_report *r)
{
    char port[16], host[256];
    if (!r->has_config)
        return;
    SAY(port, "%lld", (long long)r->config->http_port);
    check_port(r, "HTTP port", r->config->http_host, port);
    const char *listen = r->config->rpc_listen, *colon = strrchr(listen, ':');
    if (strncmp(listen, "unix:", 5) == 0 || !colon)
        return;
    size_t n = (size_t)(colon - listen);
    bool bracket = listen[0] == '[' && n > 1;
    SAY(host, "%.*s", (int)(bracket ? n - 2 : n), listen + bracket);
    check_port(r, "worker port", host, colon + 1);
}

static void check_certificate(doctor_report *r, const char *what, const char *path)
{
    hdl_errmsg why = {0};
    int64_t until = 0;
    char date[32];
    if (path[0] == '\0')
        return;
    if (hdl_tls_valid_until(path, &until, &why) != HDL_OK) {
        doctor_finding *f = doctor_add(r, DOCTOR_FAIL, what);
        SAY(f->found, "%.250s", why.text);
        SAY(f->advice, "give a PEM file that this user may read");
        return;
    }
    int64_t days = (until - (int64_t)(hdl_clock_wall_us() / HDL_SEC_US)) / 86400;
    time_t at = (time_t)until;
    struct tm tm;
    strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&at, &tm));
    doctor_level level = days < 0 ? DOCTOR_FAIL : days < CERT_WARN_DAYS ? DOCTOR_WARN : DOCTOR_OK;
    doctor_finding *f = doctor_add(r, level, what);
    SAY(f->found, "%.180s is valid until %s", path, date);
    if (level != DOCTOR_OK)
        SAY(f->advice, "renew it, then SIGHUP (systemctl reload heddle-scheduler)");
}

void doctor_certificates(doctor_report *r)
{
    if (!r->has_config)
        return;
    check_certificate(r, "HTTPS", r->config->http_tls_cert);
    check_certificate(r, "mTLS", r->config->rpc_tls_cert);
    check_certificate(r, "mTLS authority", r->config->rpc_tls_ca);
}

/* A file with keys or tokens that others may read is none. */
static void check_secret(doctor_report *r, const char *what, const char *path)
{
    struct stat st;
    if (path[0] == '\0')
        return;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0) {
        doctor_finding *f = doctor_add(r, DOCTOR_FAIL, what);
        SAY(f->found, "%.180s: %s", path, strerror(errno));
        SAY(f->advice, "create it, readable for the service's user alone");
        return;
    }
    bool open = (st.st_mode & (S_IRWXO | S_IWGRP)) != 0;
    doctor_finding *f = doctor_add(r, open ? DOCTOR_FAIL : DOCTOR_OK, what);
    SAY(f->found, "%.180s %s", path, open ? "is open to other users" : "is closed to others");
    if (open)
        SAY(f->advice, "chmod 640 %.180s", path);
}

void doctor_secrets(doctor_report *r)
{
    if (!r->has_config)
        return;
    check_secret(r, "API keys", r->config->api_key_file);
    check_secret(r, "join token", r->config->rpc_token_file);
    check_secret(r, "HTTPS key", r->config->http_tls_key);
    check_secret(r, "mTLS key", r->config->rpc_tls_key);
    bool beyond = strncmp(r->config->http_host, "127.", 4) != 0 &&
                  strcmp(r->config->http_host, "localhost") != 0 &&
                  strcmp(r->config->http_host, "::1") != 0;
    if (beyond && r->config->api_key_file[0] == '\0') {
        doctor_finding *f = doctor_add(r, DOCTOR_WARN, "API keys");
        SAY(f->found, "everybody who reaches %.100s may ask", r->config->http_host);
        SAY(f->advice, "set http.api_key_file, or keep http.host on loopback behind a proxy");
    }
}
