/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/ring.h"

enum { LIVE_MAX = 4096, VOCAB = 2048, CACHED = 3 };

typedef struct running {
    hdl_request *req; /* NULL: free */
    uint32_t n_new;
    bool cancelled, scored;
    hdl_time_us next_us;
} running;

struct fake_engine {
    pthread_mutex_t lock;
    pthread_cond_t change;
    pthread_t thread;
    hdl_engine vtable;
    running slots[LIVE_MAX];
    uint64_t next_id;
    uint32_t allow, pace_us, fail_after;
    uint32_t max_len;
    hdl_err refuse, fail;
    uint64_t turn_age_us, last_step_age_us;
    bool ready, quit;
    fake_state state;
};

/* scheduler/cluster's, which these tests do without. */
void hdl_request_free(hdl_request *req)
{
    free(req->prompt);
    free((void *)(uintptr_t)req->sampling.bias);
    free(req);
}

static hdl_err fake_submit(void *self, hdl_request *req, hdl_req_id *id)
{
    fake_engine *fake = self;
    hdl_err err = HDL_BUSY;
    pthread_mutex_lock(&fake->lock);
    if (fake->refuse != HDL_OK)
        err = fake->refuse;
    for (uint32_t i = 0; fake->refuse == HDL_OK && i < LIVE_MAX; i++) {
        if (fake->slots[i].req)
            continue;
        req->id = *id = (hdl_req_id){fake->next_id++};
        fake->slots[i] = (running){.req = req};
        fake->state.submitted++;
        fake->state.live++;
        fake->state.last_max_new = req->max_new;
        fake->state.last_priority = req->priority;
        fake->state.last_flags = req->submit_flags;
        fake->state.last_tenant = req->tenant;
        fake->state.last_salt = req->salt;
        fake->state.last_sampling = req->sampling;
        fake->state.last_sampling.bias = NULL;
        err = HDL_OK;
        break;
    }
    pthread_cond_broadcast(&fake->change);
    pthread_mutex_unlock(&fake->lock);
    return err;
}

static void fake_cancel(void *self, hdl_req_id id)
{
    fake_engine *fake = self;
    pthread_mutex_lock(&fake->lock);
    for (uint32_t i = 0; i < LIVE_MAX; i++)
        if (fake->slots[i].req && fake->slots[i].req->id.v == id.v && !fake->slots[i].cancelled) {
            fake->slots[i].cancelled = true;
            fake->state.cancelled++;
        }
    pthread_cond_broadcast(&fake->change);
    pthread_mutex_unlock(&fake->lock);
}

static void fake_info(void *self, hdl_engine_info *out)
{
    fake_engine *fake = self;
    pthread_mutex_lock(&fake->lock);
    *out = (hdl_engine_info){.ready = fake->ready,
                             .n_ranks = 2,
                             .n_ranks_ready = fake->ready ? 2 : 1,
                             .epoch = 1,
                             .max_len = fake->max_len,
                             .vocab = VOCAB,
                             .kv_tokens_capacity = 1u << 20,
                             .running = fake->state.live,
                             .requests_max = FAKE_REQUESTS_MAX,
                             .last_step_age_us = fake->last_step_age_us,
                             .turn_age_us = fake->turn_age_us};
    (void)snprintf(out->state, sizeof out->state, "%s", fake->ready ? "ready" : "loading 43 %");
    pthread_mutex_unlock(&fake->lock);
}

/* Lets go of the lock while the ring is full, and long enough: its reader may be waiting for it in
 * fake_cancel, and a mutex that is taken again at once starves it. At the end nobody reads. */
static void push(fake_engine *fake, const hdl_request *req, hdl_emit *emit)
{
    emit->req = req->id;
    emit->user = req->sink.user;
    while (hdl_ring_push(req->sink.ring, emit) != HDL_OK && !fake->quit) {
        pthread_mutex_unlock(&fake->lock);
        hdl_clock_sleep_us(1000);
        pthread_mutex_lock(&fake->lock);
    }
}

static void end(fake_engine *fake, running *r, hdl_emit *emit)
{
    push(fake, r->req, emit);
    hdl_request_free(r->req);
    r->req = NULL;
    fake->state.live--;
    fake->state.ended++;
    pthread_cond_broadcast(&fake->change);
}

static void end_done(fake_engine *fake, running *r, hdl_finish reason)
{
    hdl_emit emit = {.kind = HDL_EMIT_DONE,
                     .done = {.req = r->req->id,
                              .reason = reason,
                              .n_prompt = r->req->n_prompt,
                              .n_cached = r->req->n_prompt > CACHED ? CACHED : 0,
                              .n_new = r->n_new}};
    end(fake, r, &emit);
}

static void fill_top(const hdl_request *req, hdl_emit *emit)
{
    int32_t n = req->sampling.n_logprobs;
    emit->token.n_top = n > 0 ? (uint32_t)n : 0;
    for (uint32_t i = 0; i < emit->token.n_top; i++)
        emit->token.top[i] = (hdl_logprob){i ? (hdl_token)(i - 1) : emit->token.token,
                                           emit->token.logprob - (float)i};
}

static void score(fake_engine *fake, running *r)
{
    const hdl_request *req = r->req;
    for (uint32_t i = 1; i < req->n_prompt; i++) {
        hdl_emit emit = {.kind = HDL_EMIT_SCORE,
                         .token = {.token = req->prompt[i], .index = i, .logprob = -0.5F}};
        fill_top(req, &emit);
        push(fake, req, &emit);
    }
}

static void step(fake_engine *fake, running *r)
{
    hdl_request *req = r->req;
    if ((req->submit_flags & HDL_SUBMIT_SCORE) && !r->scored) {
        r->scored = true;
        score(fake, r);
    }
    if (fake->fail != HDL_OK && r->n_new >= fake->fail_after) {
        hdl_emit emit = {.kind = HDL_EMIT_ERROR,
                         .error = {.err = fake->fail, .retry_after_ms = 1500}};
        (void)snprintf(emit.error.text, sizeof emit.error.text, "planted: %s",
                       hdl_err_text(fake->fail));
        end(fake, r, &emit);
        return;
    }
    if (r->n_new >= req->max_new) {
        end_done(fake, r, HDL_FINISH_LENGTH);
        return;
    }
    uint64_t shift = req->sampling.temperature > 0 ? req->sampling.seed % req->n_prompt : 0;
    hdl_emit emit = {.kind = HDL_EMIT_TOKEN,
                     .token = {.token = req->prompt[(r->n_new + shift) % req->n_prompt],
                               .index = r->n_new,
                               .logprob = (float)(r->n_new + 1) / -4}};
    fill_top(req, &emit);
    push(fake, req, &emit);
    r->n_new++;
    for (uint32_t i = 0; i < req->n_stop_ids; i++)
        if (req->stop_ids[i] == emit.token.token) {
            end_done(fake, r, HDL_FINISH_STOP);
            return;
        }
    if (r->n_new >= req->max_new)
        end_done(fake, r, HDL_FINISH_LENGTH);
}

/* One token for every request that may have one; true: there was something to do. */
static bool turn(fake_engine *fake, hdl_time_us *next_us)
{
    bool busy = false;
    hdl_time_us now = hdl_clock_now_us();
    *next_us = UINT64_MAX;
    for (uint32_t i = 0; i < LIVE_MAX; i++) {
        running *r = &fake->slots[i];
        if (!r->req)
            continue;
        if (r->cancelled) {
            end_done(fake, r, HDL_FINISH_CANCELLED);
        } else if (r->n_new < fake->allow && now >= r->next_us) {
            r->next_us = now + fake->pace_us;
            step(fake, r);
            busy = true;
        }
        if (r->req && r->n_new < fake->allow && r->next_us < *next_us)
            *next_us = r->next_us;
    }
    return busy;
}

static void *run(void *arg)
{
    fake_engine *fake = arg;
    pthread_mutex_lock(&fake->lock);
    while (!fake->quit) {
        hdl_time_us next_us;
        if (turn(fake, &next_us) && next_us <= hdl_clock_now_us()) {
            pthread_mutex_unlock(&fake->lock);
            sched_yield();
            pthread_mutex_lock(&fake->lock);
        } else if (next_us == UINT64_MAX) {
            pthread_cond_wait(&fake->change, &fake->lock);
        } else {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 1000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&fake->change, &fake->lock, &until);
        }
    }
    pthread_mutex_unlock(&fake->lock);
    return NULL;
}

fake_engine *fake_engine_open(void)
{
    fake_engine *fake = calloc(1, sizeof *fake);
    HDL_ASSERT(fake != NULL);
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->change, NULL);
    fake->vtable =
        (hdl_engine){.self = fake, .submit = fake_submit, .cancel = fake_cancel, .info = fake_info};
    fake->next_id = 1;
    fake->allow = UINT32_MAX;
    fake->max_len = 4096;
    fake->ready = true;
    HDL_ASSERT_EQ(pthread_create(&fake->thread, NULL, run, fake), 0);
    return fake;
}

void fake_engine_close(fake_engine *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->quit = true;
    pthread_cond_broadcast(&fake->change);
    pthread_mutex_unlock(&fake->lock);
    pthread_join(fake->thread, NULL);
    for (uint32_t i = 0; i < LIVE_MAX; i++)
        if (fake->slots[i].req)
            hdl_request_free(fake->slots[i].req);
    pthread_cond_destroy(&fake->change);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

const hdl_engine *fake_engine_vtable(fake_engine *fake) { return &fake->vtable; }

#define SET(fake, field, value)                                                                    \
    do {                                                                                           \
        pthread_mutex_lock(&(fake)->lock);                                                         \
        (fake)->field = (value);                                                                   \
        pthread_cond_broadcast(&(fake)->change);                                                   \
        pthread_mutex_unlock(&(fake)->lock);                                                       \
    } while (0)

void fake_engine_allow(fake_engine *fake, uint32_t tokens) { SET(fake, allow, tokens); }

void fake_engine_pace(fake_engine *fake, uint32_t us) { SET(fake, pace_us, us); }

void fake_engine_refuse(fake_engine *fake, hdl_err err) { SET(fake, refuse, err); }

void fake_engine_fail(fake_engine *fake, hdl_err err, uint32_t after_tokens)
{
    SET(fake, fail_after, after_tokens);
    SET(fake, fail, err);
}

void fake_engine_ready(fake_engine *fake, bool ready) { SET(fake, ready, ready); }

void fake_engine_max_len(fake_engine *fake, uint32_t max_len) { SET(fake, max_len, max_len); }

fake_state fake_engine_state(fake_engine *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake_state state = fake->state;
    pthread_mutex_unlock(&fake->lock);
    return state;
}

void fake_engine_hang(fake_engine *fake, uint64_t turn_age_us)
{
    pthread_mutex_lock(&fake->lock);
    fake->turn_age_us = turn_age_us;
    pthread_mutex_unlock(&fake->lock);
}

void fake_engine_stall(fake_engine *fake, uint64_t last_step_age_us)
{
    pthread_mutex_lock(&fake->lock);
    fake->last_step_age_us = last_step_age_us;
    pthread_mutex_unlock(&fake->lock);
}

/* Shorter than the tests' own timeouts, which say nothing about what did not come. */
enum { WAIT_S = 60 };

static bool wait_for(fake_engine *fake, const uint32_t *field, uint32_t value)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    int rc = 0;
    pthread_mutex_lock(&fake->lock);
    while (*field != value && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&fake->change, &fake->lock, &until);
    bool ok = *field == value;
    if (!ok)
        fprintf(stderr,
                "fake engine: waited %d s for %u, have %u (submitted %u, live %u, ended %u, "
                "cancelled %u)\n",
                WAIT_S, value, *field, fake->state.submitted, fake->state.live, fake->state.ended,
                fake->state.cancelled);
    pthread_mutex_unlock(&fake->lock);
    return ok;
}

bool fake_engine_wait_live(fake_engine *fake, uint32_t live)
{
    return wait_for(fake, &fake->state.live, live);
}

bool fake_engine_wait_cancelled(fake_engine *fake, uint32_t cancelled)
{
    return wait_for(fake, &fake->state.cancelled, cancelled);
}
