/* SPDX-License-Identifier: Apache-2.0 */
/* Trap for allocation on the token path.
 *
 * The step and brain threads freeze themselves after READY; in builds with -DHDL_TRAP_ALLOC any
 * malloc, calloc, realloc, memalign or free on a frozen thread aborts with a report, in other
 * builds these calls do nothing. Sanitizers bring their own malloc, so a sanitizer build never
 * traps. State is per thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Nested freezes count; thaw undoes one. */
void hdl_alloc_freeze(void);
void hdl_alloc_thaw(void);

/* For calls into a library whose allocations are not ours to avoid, made from where nobody knows
 * whether the thread is frozen: thaws it altogether, and freezes it again as it was. */
unsigned hdl_alloc_suspend(void);
void hdl_alloc_resume(unsigned suspended);

/* True in a build that traps. */
bool hdl_alloc_traps(void);
/* Allocating calls (not free) made by this thread so far; 0 in a build that does not trap. */
uint64_t hdl_alloc_count(void);
/* Test of the trap: violations are counted instead of aborting. */
void hdl_alloc_trap_count_only(bool on);
uint64_t hdl_alloc_violations(void);
