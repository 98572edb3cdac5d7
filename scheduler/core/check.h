/* SPDX-License-Identifier: Apache-2.0 */
/* How check*.c say which invariant does not hold: as its own text. */
#pragma once

#include "scheduler/core/state.h"

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            return #cond;                                                                          \
    } while (0)
#define PASS(call)                                                                                 \
    do {                                                                                           \
        const char *broken_ = (call);                                                              \
        if (broken_)                                                                               \
            return broken_;                                                                        \
    } while (0)

/* Every block of a pool is free once, cached once or held. */
const char *hdl_check_pool(const hdl_kv *kv);
/* The side caches of a group. */
const char *hdl_check_sides(const hdl_sched *s, const hdl_group *g);
