/* SPDX-License-Identifier: Apache-2.0 */
/* Named fault-injection points.
 *
 *     HDL_TRY(HDL_INJECT("coll.allreduce"));
 *
 * Without -DHDL_INJECT_ENABLED a point is the constant HDL_OK and leaves no trace in the binary.
 * With it, tests arm points by a spec string that comes from the configuration or a test's call,
 * never from the environment:
 *
 *     coll.allreduce:3=error(PEER); worker.step:10=kill; front.read:*=delay(50ms)
 *
 * point[:N]=action, where N is the hit that fires (default 1, * every one). Any thread may hit a
 * point; arm and reset are for one thread while no point is being hit for the first time. */
#pragma once

#include <stdint.h>

#include "heddle/err.h"

#ifdef HDL_INJECT_ENABLED
#define HDL_INJECT(point) hdl_inject_hit(point)
#else
#define HDL_INJECT(point) ((void)sizeof(point), HDL_OK)
#endif

/* Adds to what is armed. HDL_INVALID for a bad spec, HDL_UNSUPPORTED when points are not
 * compiled in. */
hdl_err hdl_inject_arm(const char *spec, hdl_errmsg *why) HDL_MUST_CHECK;
/* Disarms all, forgets the counts. */
void hdl_inject_reset(void);
/* How often an armed point was reached since it was armed. */
uint64_t hdl_inject_hits(const char *point);

/* private: use HDL_INJECT */
hdl_err hdl_inject_hit(const char *point);
