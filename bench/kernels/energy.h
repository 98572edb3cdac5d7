/* SPDX-License-Identifier: Apache-2.0 */
/* What a GPU has drawn since its driver was loaded, from NVML, which is found when it is asked for.
 * The counter moves some ten to fifty times a second: measure over a second or more. Any one
 * thread. */
#pragma once

#include <stdbool.h>

typedef struct hdl_energy hdl_energy;

/* bus_id as in hdl_plugin_info. library: NULL for the driver's. NULL: no library, no such GPU, or
 * one without a counter: energy stays unmeasured. */
hdl_energy *hdl_energy_open(const char *library, const char *bus_id);
void hdl_energy_close(hdl_energy *energy); /* NULL is fine */
/* Joules so far; false: unmeasured. energy may be NULL. */
bool hdl_energy_read(const hdl_energy *energy, double *joule);
