/* SPDX-License-Identifier: Apache-2.0 */
/* How the ranks of an epoch find each other. Brain thread.
 *
 * Ranks of one machine meet in a shared-memory segment whose name is in Join. Ranks of several each
 * open a door first: Listen -> Listening(address) from all -> Join with all addresses and a secret
 * that was made for this epoch. A rank that is lost meanwhile ends the epoch like any other. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <heddle/types.h>

#include "base/log.h"
#include "scheduler/cluster/state.h"

static bool is_one_machine(const hdl_cluster *c, const hdl_cluster_group *group)
{
    const hdl_msg_hello *first = &group->ranks[0]->hello;
    for (uint32_t r = 1; r < c->n_ranks; r++) {
        const hdl_msg_hello *hello = &group->ranks[r]->hello;
        if (hello->machine != first->machine)
            return false;
        if (hello->machine == 0 && strcmp(hello->host, first->host) != 0)
            return false; /* neither says: the name decides */
    }
    return true;
}

static bool spans_hosts(const hdl_cluster *c, const hdl_cluster_group *group)
{
    if (c->n_ranks == 1 || c->config->collectives == HDL_COLLECTIVES_SHM)
        return false;
    return c->config->collectives == HDL_COLLECTIVES_UCX || !is_one_machine(c, group);
}

static void tell_all(hdl_cluster *c, hdl_cluster_group *group, const hdl_sched_msg *msg)
{
    for (uint32_t r = 0; r < c->n_ranks; r++)
        (void)hdl_dispatch_send(c, group->ranks[r], msg);
}

static hdl_sched_msg join_message(const hdl_cluster_group *group, const char *backend)
{
    hdl_sched_msg msg = {.kind = HDL_SMSG_JOIN,
                         .join = {.epoch = group->epoch, .self_test = group->self_test}};
    snprintf(msg.join.backend, sizeof msg.join.backend, "%s", backend);
    return msg;
}

void hdl_meet_begin(hdl_cluster *c, uint32_t g)
{
    hdl_cluster_group *group = &c->groups[g];
    group->n_doors = 0;
    memset(group->doors, 0, sizeof group->doors);
    if (spans_hosts(c, group)) {
        tell_all(c, group,
                 &(hdl_sched_msg){.kind = HDL_SMSG_LISTEN, .listen = {.epoch = group->epoch}});
        return;
    }
    hdl_sched_msg msg = join_message(group, c->n_ranks == 1 ? "self" : "shm");
    snprintf(msg.join.address, sizeof msg.join.address, "heddle-%016llx-g%u-e%llu",
             (unsigned long long)c->instance, g, (unsigned long long)group->epoch);
    tell_all(c, group, &msg);
}

void hdl_meet_listening(hdl_cluster *c, hdl_conn *conn, const hdl_msg_listening *listening)
{
    hdl_cluster_group *group = &c->groups[conn->group];
    char *door = group->doors[conn->rank];
    if (conn->state != HDL_CONN_JOINING || listening->epoch != group->epoch || door[0])
        return; /* the answer to an epoch that ended meanwhile, or another one to this */
    snprintf(door, sizeof group->doors[0], "%s", listening->address);
    if (++group->n_doors < c->n_ranks)
        return;
    hdl_sched_msg msg = join_message(group, "ucx");
    msg.join.n_peers = c->n_ranks;
    memcpy(msg.join.peers, group->doors, sizeof group->doors);
    if (getrandom(msg.join.secret, sizeof msg.join.secret, 0) != sizeof msg.join.secret) {
        hdl_registry_end_epoch(c, conn->group, "the system gives no random numbers");
        return;
    }
    HDL_LOG(INFO, CLUSTER, "group_spans_hosts", "group=%u epoch=%llu", conn->group,
            (unsigned long long)group->epoch);
    tell_all(c, group, &msg);
    explicit_bzero(msg.join.secret, sizeof msg.join.secret);
}
