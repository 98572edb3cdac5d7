/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/coll/ucx_link.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ucp/api/ucp.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "worker/coll/host.h"

enum {
    GUESTS =
        2 * HDL_RANKS_MAX, /* connections that have not greeted; one more displaces the oldest */
    SPINS = 200,           /* turns of a wait before it yields */
    TURNS_PER_CLOCK = 16,
    NAP_AFTER_US = 5000,
    NAP_NS = 50000,
    PORTS_LISTEN = 64,  /* from the configured port on: where doors are, */
    PORTS_ALL = 1024,   /* and the rest, where UCX takes data */
    CLOSE_US = 1000000, /* that closing waits for UCX to let go of what is under way */
};

/* ---- the library --------------------------------------------------------------------------- */

#define UCX_CALLS(X)                                                                               \
    X(ucp_init_version)                                                                            \
    X(ucp_cleanup)                                                                                 \
    X(ucp_config_read)                                                                             \
    X(ucp_config_modify)                                                                           \
    X(ucp_config_release)                                                                          \
    X(ucp_worker_create)                                                                           \
    X(ucp_worker_destroy)                                                                          \
    X(ucp_worker_progress)                                                                         \
    X(ucp_listener_create)                                                                         \
    X(ucp_listener_destroy)                                                                        \
    X(ucp_listener_query)                                                                          \
    X(ucp_listener_reject)                                                                         \
    X(ucp_ep_create)                                                                               \
    X(ucp_ep_close_nbx)                                                                            \
    X(ucp_stream_send_nbx)                                                                         \
    X(ucp_stream_recv_nbx)                                                                         \
    X(ucp_request_check_status)                                                                    \
    X(ucp_request_free)                                                                            \
    X(ucp_get_version_string)                                                                      \
    X(ucs_global_opts_set_value)                                                                   \
    X(ucs_status_string)

/* Not in the headers that a program should use; there since 1.6. */
extern ucs_status_t ucs_global_opts_set_value(const char *name, const char *value);

#define UCX_MEMBER(name) __typeof__(&name) name;
static struct {
    void *handle;
    char why_not[160];
    UCX_CALLS(UCX_MEMBER)
} ucx;
#undef UCX_MEMBER

static bool find(void *call, const char *name)
{
    void *at = dlsym(ucx.handle, name);
    memcpy(call, &at, sizeof(at));
    return at != NULL;
}

static void load_library(void)
{
    ucx.handle = dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!ucx.handle) {
        snprintf(ucx.why_not, sizeof(ucx.why_not), "libucp.so.0 cannot be loaded");
        return;
    }
    bool ok = true;
#define UCX_FIND(name) ok = find(&ucx.name, #name) && ok;
    UCX_CALLS(UCX_FIND)
#undef UCX_FIND
    if (!ok) {
        snprintf(ucx.why_not, sizeof(ucx.why_not), "libucp.so.0 lacks functions; it is not ours");
        return;
    }
    /* It writes what it has to say to standard output; we say what matters ourselves. */
    (void)ucx.ucs_global_opts_set_value("LOG_LEVEL", "fatal");
}

static hdl_err need_library(hdl_errmsg *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned was = hdl_alloc_suspend();
    pthread_once(&once, load_library);
    hdl_alloc_resume(was);
    if (ucx.why_not[0])
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "ranks on several hosts need UCX; %s; install libucx0 on each host",
                        ucx.why_not);
    return HDL_OK;
}

static bool only_tcp(const char *transports)
{
    return !transports || !transports[0] || strcmp(transports, "tcp") == 0;
}

void hdl_coll_ucx_prepare(const char *transports)
{
    if (only_tcp(transports)) /* read when the library is loaded; an operator's own value stands */
        (void)setenv("UCX_MEM_EVENTS", "n", 0);
}

hdl_err hdl_coll_ucx_version(char text[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why)
{
    text[0] = '\0';
    HDL_TRY(need_library(why));
    snprintf(text, HDL_COLL_ADDRESS_BYTES, "%s", ucx.ucp_get_version_string());
    return HDL_OK;
}

/* ---- state --------------------------------------------------------------------------------- */

/* First on each connection, both ways. */
typedef struct greeting {
    char magic[8];
    unsigned char secret[HDL_COLL_SECRET_BYTES];
    uint32_t rank, n_ranks;
} greeting;

static const char MAGIC[8] = {'h', 'd', 'l', 'u', 'c', 'x', '0', '1'};

typedef struct connection {
    ucp_ep_h ep;       /* NULL: none */
    void *send, *recv; /* UCX's requests under way; NULL: none */
    size_t received;   /* UCX writes it */
    greeting theirs;
} connection;

struct hdl_coll_door {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener; /* until all have met */
    ucp_conn_request_h knocks[GUESTS];
    uint32_t n_knocks;         /* not yet answered */
    connection guests[GUESTS]; /* answered, and silent or wrong so far */
    uint32_t next_guest;
    connection peers[HDL_RANKS_MAX];
    bool met[HDL_RANKS_MAX];
    uint32_t n_ranks;
    greeting mine;
};

static hdl_err say_ucx(ucs_status_t status, hdl_errmsg *why, const char *what)
{
    return hdl_fail(HDL_PEER, why, "UCX cannot %s; %s; look at the network and worker.coll_host",
                    what, ucx.ucs_status_string(status));
}

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    (void)arg;
    (void)ep;
    HDL_LOG(DEBUG, COLL, "connection_ends", "why=%s", HDL_LOG_QUOTE(ucx.ucs_status_string(status)));
}

static hdl_err gone(ucs_status_t status)
{
    HDL_LOG(DEBUG, COLL, "request_ends", "why=%s", HDL_LOG_QUOTE(ucx.ucs_status_string(status)));
    return HDL_PEER;
}

/* ---- requests ------------------------------------------------------------------------------ */

/* UCX answers a call with NULL (done), an error, or a request. */
static hdl_err begin(void **place, ucs_status_ptr_t answer)
{
    HDL_ASSERT(*place == NULL);
    if (UCS_PTR_IS_ERR(answer))
        return gone(UCS_PTR_STATUS(answer));
    *place = answer;
    return HDL_OK;
}

/* HDL_AGAIN: still under way. */
static hdl_err look(void **place)
{
    if (!*place)
        return HDL_OK;
    ucs_status_t status = ucx.ucp_request_check_status(*place);
    if (status == UCS_INPROGRESS)
        return HDL_AGAIN;
    ucx.ucp_request_free(*place);
    *place = NULL;
    return status == UCS_OK ? HDL_OK : gone(status);
}

static hdl_err start_send(connection *c, const void *buf, size_t bytes)
{
    const ucp_request_param_t param = {0};
    return begin(&c->send, ucx.ucp_stream_send_nbx(c->ep, buf, bytes, &param));
}

static hdl_err start_recv(connection *c, void *buf, size_t bytes)
{
    const ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                       .flags = UCP_STREAM_RECV_FLAG_WAITALL};
    return begin(&c->recv, ucx.ucp_stream_recv_nbx(c->ep, buf, bytes, &c->received, &param));
}

/* A wait: progress, then yields, then naps; the clock and the flags are looked at now and then. */
typedef struct patience {
    const hdl_coll *coll;
    uint64_t start_us;
    unsigned turns;
} patience;

static hdl_err wait_turn(const hdl_coll_door *d, patience *p)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    if (ucx.ucp_worker_progress(d->worker) != 0)
        return HDL_OK;
    if (++p->turns < SPINS) {
        hdl_cpu_relax();
        return HDL_OK;
    }
    sched_yield();
    if (p->turns % TURNS_PER_CLOCK != 0)
        return HDL_OK;
    HDL_TRY(hdl_coll_stop(p->coll));
    uint64_t now_us = hdl_clock_now_us();
    if (!p->start_us)
        p->start_us = now_us;
    if (now_us - p->start_us > p->coll->timeout_us)
        return HDL_TIMEOUT;
    if (now_us - p->start_us > NAP_AFTER_US)
        (void)nanosleep(&nap, NULL); /* may end early */
    return HDL_OK;
}

/* ---- the door ------------------------------------------------------------------------------ */

static void on_knock(ucp_conn_request_h request, void *arg)
{
    hdl_coll_door *d = arg;
    if (d->n_knocks < GUESTS)
        d->knocks[d->n_knocks++] = request;
    else
        (void)ucx.ucp_listener_reject(d->listener, request);
}

/* Data stay on the interface of the address that peers dial: else UCX listens on all. Where other
 * transports than tcp take part, their devices are named otherwise and all may be used. */
static ucs_status_t configure(ucp_config_t *config, const hdl_coll_door_opts *opts,
                              const char *interface)
{
    char ports[32];
    bool tcp = only_tcp(opts->transports);
    snprintf(ports, sizeof(ports), "%u-%u", opts->port + PORTS_LISTEN, opts->port + PORTS_ALL - 1u);
    const struct {
        const char *name, *value;
    } settings[] = {
        {"TLS", tcp ? "tcp" : opts->transports},
        {"NET_DEVICES", tcp ? interface : "all"},
        {"CM_USE_ALL_DEVICES", "n"},
        {"CM_REUSEADDR", "y"}, /* or the port of the last epoch cannot be had for a minute */
        {"PORT_RANGE", opts->port ? ports : "0"},
    };
    ucs_status_t status = UCS_OK;
    for (size_t i = 0; i < HDL_ARRAY_LEN(settings) && status == UCS_OK; i++)
        status = ucx.ucp_config_modify(config, settings[i].name, settings[i].value);
    return status;
}

static hdl_err open_worker(hdl_coll_door *d, const hdl_coll_door_opts *opts,
                           const struct sockaddr_storage *at, hdl_errmsg *why)
{
    char interface[IF_NAMESIZE];
    ucp_config_t *config = NULL;
    HDL_TRY(hdl_address_interface(at, interface, why));
    ucs_status_t status = ucx.ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK)
        return say_ucx(status, why, "read its configuration");
    const ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                                 .features = UCP_FEATURE_STREAM};
    status = configure(config, opts, interface);
    if (status == UCS_OK)
        status = ucx.ucp_init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &d->context);
    ucx.ucp_config_release(config);
    if (status != UCS_OK)
        return say_ucx(status, why, "start with these transports");
    const ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                        .thread_mode = UCS_THREAD_MODE_SINGLE};
    status = ucx.ucp_worker_create(d->context, &worker, &d->worker);
    return status == UCS_OK ? HDL_OK : say_ucx(status, why, "make a worker");
}

static hdl_err listen_at(hdl_coll_door *d, const hdl_coll_door_opts *opts,
                         struct sockaddr_storage *at, char *address, hdl_errmsg *why)
{
    const ucp_listener_params_t params = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const void *)at, .addrlen = (socklen_t)hdl_address_bytes(at)},
        .conn_handler = {.cb = on_knock, .arg = d}};
    ucs_status_t status = ucx.ucp_listener_create(d->worker, &params, &d->listener);
    for (uint16_t i = 1; opts->port && status == UCS_ERR_BUSY && i < PORTS_LISTEN; i++) {
        hdl_address_set_port(at,
                             (uint16_t)(opts->port + i)); /* another worker of this host has it */
        status = ucx.ucp_listener_create(d->worker, &params, &d->listener);
    }
    if (status != UCS_OK)
        return say_ucx(status, why, "listen at the address of this host");
    ucp_listener_attr_t attr = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    status = ucx.ucp_listener_query(d->listener, &attr);
    if (status != UCS_OK || !hdl_address_print(&attr.sockaddr, address, HDL_COLL_ADDRESS_BYTES))
        return say_ucx(status, why, "say where it listens");
    return HDL_OK;
}

static hdl_err own_address(const hdl_coll_door_opts *opts, struct sockaddr_storage *at,
                           hdl_errmsg *why)
{
    char text[320];
    if (!opts->host || opts->host[0] == '\0')
        return hdl_address_own(opts->towards ? opts->towards : "", opts->port, at, why);
    bool v6 = strchr(opts->host, ':') != NULL && opts->host[0] != '[';
    snprintf(text, sizeof(text), v6 ? "[%.256s]:%u" : "%.256s:%u", opts->host, opts->port);
    return hdl_address_read(text, at, why);
}

hdl_err hdl_coll_door_open(hdl_coll_door **out, const hdl_coll_door_opts *opts,
                           char address[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why)
{
    struct sockaddr_storage at;
    *out = NULL;
    HDL_TRY(need_library(why));
    HDL_TRY(own_address(opts, &at, why));
    hdl_coll_door *d = calloc(1, sizeof(*d));
    if (!d)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    hdl_err err = open_worker(d, opts, &at, why);
    if (err == HDL_OK)
        err = listen_at(d, opts, &at, address, why);
    if (err != HDL_OK) {
        hdl_coll_door_close(d);
        return err;
    }
    *out = d;
    return HDL_OK;
}

/* ---- meeting ------------------------------------------------------------------------------- */

static hdl_err greet(hdl_coll_door *d, connection *c, ucp_ep_params_t *params)
{
    params->field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params->err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params->err_handler = (ucp_err_handler_t){.cb = on_error, .arg = d};
    if (ucx.ucp_ep_create(d->worker, params, &c->ep) != UCS_OK) {
        c->ep = NULL;
        return HDL_PEER;
    }
    HDL_TRY(start_recv(c, &c->theirs, sizeof(c->theirs)));
    return HDL_OK;
}

static hdl_err dial(hdl_coll_door *d, uint32_t rank, const char *address, hdl_errmsg *why)
{
    struct sockaddr_storage at;
    connection *c = &d->peers[rank];
    HDL_TRY(hdl_address_read(address, &at, why));
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (void *)&at, .addrlen = (socklen_t)hdl_address_bytes(&at)}};
    hdl_err err = greet(d, c, &params);
    if (err == HDL_OK)
        err = start_send(c, &d->mine, sizeof(d->mine));
    if (err != HDL_OK)
        return hdl_fail(err, why, "rank %u cannot be dialled at %.64s; look at its log", rank,
                        address);
    return HDL_OK;
}

/* Forces: what is under way ends with an error. */
static void hang_up(hdl_coll_door *d, connection *c)
{
    const ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                                       .flags = UCP_EP_CLOSE_FLAG_FORCE};
    if (!c->ep)
        return;
    void *closing = NULL;
    uint64_t by_us = hdl_clock_now_us() + CLOSE_US;
    (void)!begin(&closing, ucx.ucp_ep_close_nbx(c->ep, &param));
    c->ep = NULL;
    bool busy = true;
    while (busy && hdl_clock_now_us() < by_us) {
        ucx.ucp_worker_progress(d->worker);
        busy = look(&closing) == HDL_AGAIN;
        busy |= look(&c->send) == HDL_AGAIN;
        busy |= look(&c->recv) == HDL_AGAIN;
    }
    if (busy)
        HDL_LOG(ERROR, COLL, "close_hangs");
}

static void answer_knocks(hdl_coll_door *d)
{
    while (d->n_knocks > 0) {
        connection *c = &d->guests[d->next_guest++ % GUESTS];
        ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST,
                                  .conn_request = d->knocks[--d->n_knocks]};
        hang_up(d, c); /* the oldest has had its time */
        if (greet(d, c, &params) != HDL_OK)
            hang_up(d, c);
    }
}

/* Takes as long for a wrong secret as for the right one. */
static bool is_peer(const hdl_coll_door *d, const greeting *g)
{
    unsigned char difference = memcmp(g->magic, MAGIC, sizeof(MAGIC)) != 0;
    for (size_t i = 0; i < sizeof(g->secret); i++)
        difference |= g->secret[i] ^ d->mine.secret[i];
    return difference == 0 && g->n_ranks == d->n_ranks && g->rank < d->n_ranks;
}

static hdl_err look_at_guest(hdl_coll_door *d, connection *c)
{
    hdl_err err = look(&c->recv);
    if (err == HDL_AGAIN)
        return HDL_OK;
    bool ok = err == HDL_OK && is_peer(d, &c->theirs);
    uint32_t rank = c->theirs.rank;
    if (!ok || rank <= d->mine.rank || d->peers[rank].ep) {
        if (err == HDL_OK)
            HDL_LOG(WARN, COLL, "stranger_refused", "rank=%u", d->mine.rank);
        hang_up(d, c);
        return HDL_OK;
    }
    d->peers[rank] = *c;
    memset(c, 0, sizeof(*c));
    d->met[rank] = true;
    return start_send(&d->peers[rank], &d->mine, sizeof(d->mine));
}

/* HDL_AGAIN: not all are there. */
static hdl_err look_around(hdl_coll_door *d, hdl_errmsg *why)
{
    answer_knocks(d);
    for (uint32_t i = 0; i < GUESTS; i++)
        if (d->guests[i].ep && look_at_guest(d, &d->guests[i]) != HDL_OK)
            return hdl_fail(HDL_PEER, why, "a rank was there and is gone; look at its log");
    bool all = true;
    for (uint32_t r = 0; r < d->n_ranks; r++) {
        connection *c = &d->peers[r];
        if (r < d->mine.rank && !d->met[r]) {
            hdl_err err = look(&c->recv);
            if (err == HDL_PEER || (err == HDL_OK && !is_peer(d, &c->theirs)))
                return hdl_fail(HDL_PEER, why,
                                "rank %u does not answer as a peer does; look at its log", r);
            d->met[r] = err == HDL_OK;
        }
        if (d->met[r] && look(&c->send) == HDL_PEER)
            return hdl_fail(HDL_PEER, why, "rank %u was there and is gone; look at its log", r);
        all &= d->met[r] && !c->send;
    }
    return all ? HDL_OK : HDL_AGAIN;
}

static void close_listener(hdl_coll_door *d)
{
    if (!d->listener)
        return;
    while (d->n_knocks > 0)
        (void)ucx.ucp_listener_reject(d->listener, d->knocks[--d->n_knocks]);
    for (uint32_t i = 0; i < GUESTS; i++)
        hang_up(d, &d->guests[i]);
    ucx.ucp_listener_destroy(d->listener);
    d->listener = NULL;
}

static hdl_err meet(hdl_coll_door *d, const hdl_coll_opts *opts, const hdl_coll *coll,
                    hdl_errmsg *why)
{
    patience p = {.coll = coll};
    hdl_err err = HDL_AGAIN;
    for (uint32_t r = 0; r < opts->rank; r++)
        HDL_TRY(dial(d, r, opts->peers[r], why));
    while (err == HDL_AGAIN) {
        hdl_err stop = wait_turn(d, &p);
        if (stop == HDL_TIMEOUT)
            return hdl_fail(stop, why,
                            "not all of the %u ranks came in time; one of them is slow, has died, "
                            "or a firewall is in between; look at its log",
                            d->n_ranks);
        if (stop != HDL_OK)
            return hdl_fail(stop, why,
                            "joining the group was cancelled; another epoch begins; wait for it");
        err = look_around(d, why);
    }
    close_listener(d);
    return err;
}

hdl_err hdl_ucx_meet(hdl_coll_door *d, const hdl_coll_opts *opts, const hdl_coll *coll,
                     hdl_errmsg *why)
{
    unsigned was = hdl_alloc_suspend();
    d->n_ranks = opts->n_ranks;
    d->mine.rank = opts->rank;
    d->mine.n_ranks = opts->n_ranks;
    memcpy(d->mine.magic, MAGIC, sizeof(MAGIC));
    memcpy(d->mine.secret, opts->secret, sizeof(d->mine.secret));
    d->met[opts->rank] = true;
    hdl_err err = meet(d, opts, coll, why);
    hdl_alloc_resume(was);
    return err;
}

/* ---- messages ------------------------------------------------------------------------------ */

hdl_err hdl_ucx_send(hdl_coll_door *d, uint32_t rank, const void *buf, size_t bytes)
{
    unsigned was = hdl_alloc_suspend();
    hdl_err err = start_send(&d->peers[rank], buf, bytes);
    hdl_alloc_resume(was);
    return err;
}

hdl_err hdl_ucx_recv(hdl_coll_door *d, uint32_t rank, void *buf, size_t bytes)
{
    unsigned was = hdl_alloc_suspend();
    hdl_err err = start_recv(&d->peers[rank], buf, bytes);
    hdl_alloc_resume(was);
    return err;
}

static hdl_err look_at_peers(hdl_coll_door *d)
{
    hdl_err all = HDL_OK;
    for (uint32_t r = 0; r < d->n_ranks; r++) {
        hdl_err sent = look(&d->peers[r].send), got = look(&d->peers[r].recv);
        if (sent == HDL_PEER || got == HDL_PEER)
            return HDL_PEER;
        if (sent == HDL_AGAIN || got == HDL_AGAIN)
            all = HDL_AGAIN;
    }
    return all;
}

hdl_err hdl_ucx_wait(hdl_coll_door *d, const hdl_coll *coll)
{
    patience p = {.coll = coll};
    unsigned was = hdl_alloc_suspend();
    hdl_err err = look_at_peers(d);
    while (err == HDL_AGAIN) {
        hdl_err stop = wait_turn(d, &p);
        err = stop == HDL_OK ? look_at_peers(d) : stop;
    }
    hdl_alloc_resume(was);
    return err;
}

void hdl_coll_door_close(hdl_coll_door *d)
{
    if (!d)
        return;
    unsigned was = hdl_alloc_suspend();
    close_listener(d);
    for (uint32_t r = 0; r < HDL_RANKS_MAX; r++)
        hang_up(d, &d->peers[r]);
    if (d->worker)
        ucx.ucp_worker_destroy(d->worker);
    if (d->context)
        ucx.ucp_cleanup(d->context);
    explicit_bzero(&d->mine, sizeof(d->mine));
    free(d);
    hdl_alloc_resume(was);
}
