/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration, and where each array of the state lies in the caller's memory. */
#pragma once

#include "scheduler/core/state.h"

/* Bytes that the state needs; when base is not NULL, also sets every pointer of *s, whose config
 * must be set. */
size_t hdl_layout(hdl_sched *s, unsigned char *base);
