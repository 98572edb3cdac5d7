/* SPDX-License-Identifier: Apache-2.0 */
/* As much of NVML as bench/model/energy.c asks for: one GPU, "0000:01:00.0", that draws 1.5 J
 * between any two readings. */
#include <string.h>

static unsigned long long drawn;

int nvmlInit_v2(void);
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void);
int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device)
{
    *device = &drawn;
    return strcmp(bus_id, "0000:01:00.0") == 0 ? 0 : 2;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoule);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoule)
{
    unsigned long long *counter = device;
    *counter += 1500;
    *millijoule = *counter;
    return 0;
}
