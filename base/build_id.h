/* SPDX-License-Identifier: Apache-2.0 */
/* Which build this program is: the identity that the linker gave it. Any thread. */
#pragma once

#include <stdint.h>

/* A hash of the running program's GNU build id; 0: it was linked without one. */
uint64_t hdl_build_id(void);
