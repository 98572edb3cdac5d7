/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory of the fiber plugin: host memory that may be touched only between open and close,
 * that is by kernels and by the plugin's own copies. Whoever else reads or writes it dies of it, as
 * on a GPU. Any thread. */
#pragma once

#include <stddef.h>

/* Zeroed, page aligned; NULL without room. */
void *fiber_memory_take(size_t bytes);
void fiber_memory_give(void *ptr);
/* From the first open to the last close. */
void fiber_memory_open();
void fiber_memory_close();
