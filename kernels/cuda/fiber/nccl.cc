/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/fiber/nccl.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/cuda/fiber/memory.h"
#include "kernels/cuda/gpu.h"

enum { RANKS = 64, OPS = 2 * RANKS };

/* A send or a receive of a group. */
struct op {
    const void *from;
    void *to;
    size_t bytes;
    int peer;
};

/* The ranks of a communicator meet here; what one brings, the others read between two meetings. */
struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t all_came;
    int n, n_came, n_users;
    uint64_t round;
    bool aborted;
    struct {
        const void *in;
        int color, key;
        const op *ops;
        int n_ops;
        meeting *next; /* of a split: made by the first of each color */
    } of[RANKS];
};

struct fiber_nccl {
    meeting *at;
    int rank;
};

/* Communicators that are being opened, by their id. */
static pthread_mutex_t opening_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char id[128];
    meeting *at;
} opening[RANKS];

static thread_local bool in_group;
static thread_local op group_ops[OPS];
static thread_local int n_group_ops;
static thread_local ncclComm_t group_comm;
static thread_local cudaStream_t group_stream;

/* Now, or when the graph that is being recorded runs. */
template <class F> static ncclResult_t in_stream(cudaStream_t stream, F f)
{
    hdl_err err = fiber_do((hdl_stream *)stream,
                           [f]() { return f() == ncclSuccess ? HDL_OK : HDL_CANCELLED; });
    return err == HDL_OK ? ncclSuccess : ncclRemoteError;
}

static size_t bytes_of(size_t count, ncclDataType_t type)
{
    return type == ncclFloat32 ? 4 * count : count;
}

static meeting *meeting_new(int n)
{
    meeting *m = (meeting *)calloc(1, sizeof *m);
    HDL_ASSERT(m != NULL && n <= RANKS);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->all_came, NULL);
    m->n = n;
    m->n_users = n;
    return m;
}

/* Until all have come, or one has aborted. */
static ncclResult_t meet(meeting *m)
{
    pthread_mutex_lock(&m->lock);
    uint64_t round = m->round;
    if (++m->n_came == m->n) {
        m->n_came = 0;
        m->round++;
        pthread_cond_broadcast(&m->all_came);
    }
    while (!m->aborted && m->round == round)
        pthread_cond_wait(&m->all_came, &m->lock);
    ncclResult_t result = m->round == round ? ncclRemoteError : ncclSuccess;
    pthread_mutex_unlock(&m->lock);
    return result;
}

static void leave(meeting *m, bool aborts)
{
    pthread_mutex_lock(&m->lock);
    m->aborted = m->aborted || aborts;
    bool last = --m->n_users == 0;
    pthread_cond_broadcast(&m->all_came);
    pthread_mutex_unlock(&m->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->all_came);
    free(m);
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclRemoteError ? "a peer has aborted" : "no success";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static uint64_t count;
    memset(id, 0, sizeof *id);
    pthread_mutex_lock(&opening_lock);
    uint64_t words[2] = {(uint64_t)getpid(), ++count};
    pthread_mutex_unlock(&opening_lock);
    memcpy(id->internal, words, sizeof words);
    return ncclSuccess;
}

/* An id of another process is refused: its threads are not here. */
static bool is_ours(const ncclUniqueId *id)
{
    uint64_t pid;
    memcpy(&pid, id->internal, sizeof pid);
    return pid == (uint64_t)getpid();
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    (void)config;
    if (!is_ours(&id))
        return ncclInvalidArgument;
    pthread_mutex_lock(&opening_lock);
    int at = -1, empty = -1;
    for (int i = 0; i < RANKS; i++) {
        if (opening[i].at && memcmp(opening[i].id, id.internal, sizeof id) == 0)
            at = i;
        if (!opening[i].at)
            empty = i;
    }
    if (at < 0) {
        at = empty;
        HDL_ASSERT(at >= 0);
        opening[at].at = meeting_new(n_ranks);
        memcpy(opening[at].id, id.internal, sizeof id);
    }
    meeting *m = opening[at].at;
    pthread_mutex_unlock(&opening_lock);
    *comm = (ncclComm_t)calloc(1, sizeof **comm);
    HDL_ASSERT(*comm != NULL);
    **comm = {m, rank};
    ncclResult_t result = meet(m);
    pthread_mutex_lock(&opening_lock);
    if (opening[at].at == m)
        opening[at].at = NULL;
    pthread_mutex_unlock(&opening_lock);
    return result;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result)
{
    (void)comm;
    *result = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out,
                           ncclConfig_t *config)
{
    (void)config;
    meeting *m = comm->at;
    m->of[comm->rank].color = color;
    m->of[comm->rank].key = key;
    m->of[comm->rank].next = NULL;
    ncclResult_t result = meet(m);
    int n = 0, first = -1, rank = 0;
    for (int r = 0; result == ncclSuccess && r < m->n; r++) {
        if (m->of[r].color != color)
            continue;
        first = first < 0 ? r : first;
        rank += m->of[r].key < key;
        n++;
    }
    if (first == comm->rank)
        m->of[first].next = meeting_new(n);
    if (result == ncclSuccess)
        result = meet(m);
    if (result != ncclSuccess)
        return result;
    *out = (ncclComm_t)calloc(1, sizeof **out);
    HDL_ASSERT(*out != NULL);
    **out = {m->of[first].next, rank};
    return meet(m); /* before the next split writes these words */
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    (void)comm; /* nothing is on its way */
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    leave(comm->at, false);
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    leave(comm->at, true);
    free(comm);
    return ncclSuccess;
}

static void take(void *to, const void *from, size_t bytes)
{
    fiber_memory_open();
    memmove(to, from, bytes);
    fiber_memory_close();
}

static ncclResult_t gather(ncclComm_t comm, const void *in, void *out, size_t bytes)
{
    meeting *m = comm->at;
    m->of[comm->rank].in = in;
    ncclResult_t result = meet(m);
    for (int r = 0; result == ncclSuccess && r < m->n; r++)
        take((char *)out + (size_t)r * bytes, m->of[r].in, bytes);
    return result == ncclSuccess ? meet(m) : result;
}

ncclResult_t ncclAllGather(const void *in, void *out, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    size_t bytes = bytes_of(count, type);
    return in_stream(stream, [=]() { return gather(comm, in, out, bytes); });
}

static void add_op(const op *o, ncclComm_t comm)
{
    HDL_ASSERT(n_group_ops < OPS && (n_group_ops == 0 || group_comm == comm));
    group_comm = comm;
    group_ops[n_group_ops++] = *o;
}

/* Those of one rank to another are matched in order. */
static const op *nth_send(const meeting *m, int from, int to, int n)
{
    for (int i = 0; i < m->of[from].n_ops; i++) {
        const op *o = &m->of[from].ops[i];
        if (o->from && o->peer == to && n-- == 0)
            return o;
    }
    return NULL;
}

/* The ops of a group, for later. */
struct op_list {
    int n;
    op ops[OPS];
};

static ncclResult_t run_ops(ncclComm_t comm, const op_list *list)
{
    meeting *m = comm->at;
    int seen[RANKS] = {0};
    m->of[comm->rank].ops = list->ops;
    m->of[comm->rank].n_ops = list->n;
    ncclResult_t result = meet(m);
    for (int i = 0; result == ncclSuccess && i < list->n; i++) {
        const op *o = &list->ops[i];
        if (o->from)
            continue;
        const op *sent = nth_send(m, o->peer, comm->rank, seen[o->peer]++);
        HDL_ASSERT(sent != NULL && sent->bytes == o->bytes);
        take(o->to, sent->from, o->bytes);
    }
    return result == ncclSuccess ? meet(m) : result;
}

/* Outside of a group the two ranks alone are there: a meeting of theirs would be needed. NCCL moves
 * on in the stream; here every rank has to be inside of a group, or send and receive at once. */
ncclResult_t ncclSend(const void *in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    group_stream = stream;
    op o = {in, NULL, bytes_of(count, type), peer};
    add_op(&o, comm);
    return in_group ? ncclSuccess : ncclGroupEnd();
}

ncclResult_t ncclRecv(void *out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    group_stream = stream;
    op o = {NULL, out, bytes_of(count, type), peer};
    add_op(&o, comm);
    return in_group ? ncclSuccess : ncclGroupEnd();
}

ncclResult_t ncclGroupStart(void)
{
    in_group = true;
    n_group_ops = 0;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclComm_t comm = group_comm;
    ncclResult_t result = ncclSuccess;
    op_list list = {n_group_ops, {}};
    memcpy(list.ops, group_ops, (size_t)n_group_ops * sizeof *group_ops);
    if (n_group_ops > 0)
        result = in_stream(group_stream, [comm, list]() { return run_ops(comm, &list); });
    in_group = false;
    n_group_ops = 0;
    return result;
}
