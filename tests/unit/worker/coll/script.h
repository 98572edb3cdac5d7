/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks do in tests of collectives, whatever carries them. On a rank's own thread or process:
 * a check that fails ends the program. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include <heddle/coll.h>

/* A check on a rank's thread or process: prints and ends the program. */
#define MUST(cond)                                                                                 \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort(), (void)0))

enum { SCRIPT_BUFFER = 4096 /* bytes; the scripts' messages are longer and shorter */ };

/* Every operation against its definition, on the world and on parts of it; at least two ranks. */
void script_operations(hdl_coll *world);
/* A root that runs ahead must not overwrite what a slow reader has not seen. */
void script_fast_root(hdl_coll *world);
/* Of sums of all sizes: equal for all ranks, and for all backends. */
uint64_t script_digest(hdl_coll *world);
