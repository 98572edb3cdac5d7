/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/state.h"

const char *hdl_sched_check(const hdl_sched *s)
{
    (void)s;
    return NULL;
}
