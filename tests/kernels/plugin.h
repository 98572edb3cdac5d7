/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin as one more level of the kernel tests. Its three streams run threads and blocks in other
 * orders (fibers), so that a race between threads shows as different bits. Owner: kernel_test.c. */
#pragma once

#include "kernel_test.h"

/* Prints why and returns NULL when it cannot run at all. */
const hdl_ops *kt_plugin_open(const kt *t, const char *path);
void kt_plugin_close(void);
/* Does the plugin have what the suite tests? */
bool kt_plugin_has(const char *suite);
/* Memory of a case that a GPU reads, too; NULL: take malloc's. Freed all at once. */
void *kt_plugin_alloc(size_t bytes);
void kt_plugin_free_all(void);
