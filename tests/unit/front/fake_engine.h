/* SPDX-License-Identifier: Apache-2.0 */
/* An engine for tests: a real thread behind the hdl_engine interface, whose tokens are known
 * beforehand. Token i of a request is prompt[(i + seed) % n_prompt] when it samples, prompt[i %
 * n_prompt] when it is greedy; with a stop id the answer ends after the first one that occurs.
 * Log-probability of token i is -(i + 1) / 4, and the best are the token itself, id 0, id 1, ...
 *
 * Tests steer it from another thread: let it stall, refuse, fail, or end by itself. */
#pragma once

#include <heddle/request.h>
#include <stdatomic.h>

typedef struct fake_engine fake_engine;

enum { FAKE_REQUESTS_MAX = 1000 };

typedef struct fake_state {
    uint32_t submitted, cancelled, ended; /* requests so far */
    uint32_t live;                        /* taken, not ended */
    uint32_t last_max_new, last_priority, last_flags, last_tenant;
    uint64_t last_salt;
    hdl_sampling last_sampling; /* without its bias */
} fake_state;

fake_engine *fake_engine_open(void);
void fake_engine_close(fake_engine *fake);
const hdl_engine *fake_engine_vtable(fake_engine *fake);

/* Tokens that a request may emit before it waits; UINT32_MAX: no limit. */
void fake_engine_allow(fake_engine *fake, uint32_t tokens);
/* Microseconds between two tokens of a request; 0: none. */
void fake_engine_pace(fake_engine *fake, uint32_t us);
/* What submit returns. */
void fake_engine_refuse(fake_engine *fake, hdl_err err);
/* Requests end with this error after so many tokens; HDL_OK: they do not. */
void fake_engine_fail(fake_engine *fake, hdl_err err, uint32_t after_tokens);
void fake_engine_ready(fake_engine *fake, bool ready);
/* What the control loop's age reads. */
void fake_engine_hang(fake_engine *fake, uint64_t turn_age_us);
/* So long ago a step completed, with work queued. */
void fake_engine_stall(fake_engine *fake, uint64_t last_step_age_us);
void fake_engine_max_len(fake_engine *fake, uint32_t max_len);
fake_state fake_engine_state(fake_engine *fake);
/* Waits until `live` requests are live, at most a minute; false, and said: they never were. */
bool fake_engine_wait_live(fake_engine *fake, uint32_t live);
bool fake_engine_wait_cancelled(fake_engine *fake, uint32_t cancelled);
