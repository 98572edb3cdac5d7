/* SPDX-License-Identifier: Apache-2.0 */
/* How many replicas are wanted: from demand to a number, with hysteresis. Pure: integers, time
 * handed in, no I/O; the scaler owns the state.
 *
 * Wanted is what the demand needs: queued prompt tokens over what a replica may have waiting, and
 * requests over what a replica runs. It is followed upwards once it has stood for up_after_us (from
 * zero at once), and downwards only to the most that was wanted within the last down_after_us, so a
 * short lull stops nothing and no replica is stopped that the same minutes would have started. The
 * last one stops when nothing has been wanted for zero_after_us. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct hdl_scale_policy {
    uint32_t min, max;      /* replicas; min 0: to zero when idle */
    uint64_t queued_tokens; /* of a replica */
    uint32_t requests;      /* of a replica */
    uint64_t up_after_us, down_after_us, zero_after_us;
} hdl_scale_policy;

typedef struct hdl_scale_demand {
    uint64_t queued_tokens;
    uint32_t running, waiting;
    bool refused; /* a request was refused lately because there is no replica */
} hdl_scale_demand;

/* The most that was wanted in each of the last slices of down_after_us. */
enum { HDL_SCALE_SLICES = 16 };
typedef struct hdl_scale_state {
    uint32_t desired;
    uint64_t above_since_us; /* wanted has been above desired since; 0: it is not */
    uint64_t busy_us;        /* when something was wanted last */
    uint32_t most[HDL_SCALE_SLICES];
    uint64_t slice;     /* number of the current slice */
    const char *reason; /* of the last change: a constant text */
} hdl_scale_state;

void hdl_scale_init(hdl_scale_state *state, const hdl_scale_policy *policy, uint64_t now_us);
/* True when desired has changed. now_us never goes back. */
bool hdl_scale_step(hdl_scale_state *state, const hdl_scale_policy *policy,
                    const hdl_scale_demand *demand, uint64_t now_us);
/* What the demand alone asks for, within [0, max]. */
uint32_t hdl_scale_wanted(const hdl_scale_policy *policy, const hdl_scale_demand *demand);
