/* SPDX-License-Identifier: Apache-2.0 */
/* The wall around the core, and the last thing that state.h includes.
 *
 * The core has no clock, no heap, no thread, no file and no floating point: the compiler
 * refuses their names from here on (in the core's own files; its unit tests look inside from
 * without), and tests/unit/core/purity.sh refuses any undefined symbol of the core's objects
 * that is not on its list. That is what lets the simulator, the daemon and `heddle replay` run
 * the same object files and get the same answer. */
#pragma once

#ifdef HDL_PURE
#pragma GCC poison malloc calloc realloc free strdup aligned_alloc posix_memalign
#pragma GCC poison time clock clock_gettime gettimeofday nanosleep usleep sleep
#pragma GCC poison printf fprintf snprintf sprintf vsnprintf puts fopen open read write close
#pragma GCC poison pthread_create pthread_mutex_lock getenv rand srand random qsort exit
#pragma GCC poison float double
#endif
