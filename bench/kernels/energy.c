/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/energy.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* NVML's calls, as its documentation has them; 0 is success. */
typedef int start_fn(void);
typedef int find_fn(const char *bus_id, void **device);
typedef int read_fn(void *device, unsigned long long *millijoule);

struct hdl_energy {
    void *library; /* owned */
    void *device;
    start_fn *stop;
    read_fn *read;
};

/* ISO C has no cast between the two kinds of pointers. */
static bool symbol(void *library, const char *name, void *fn, size_t size)
{
    void *at = dlsym(library, name);
    memcpy(fn, &at, size);
    return at != NULL;
}

static bool start(hdl_energy *e, const char *bus_id)
{
    start_fn *begin = NULL;
    find_fn *find = NULL;
    unsigned long long now;
    if (!symbol(e->library, "nvmlInit_v2", &begin, sizeof begin) ||
        !symbol(e->library, "nvmlShutdown", &e->stop, sizeof e->stop) ||
        !symbol(e->library, "nvmlDeviceGetHandleByPciBusId_v2", &find, sizeof find) ||
        !symbol(e->library, "nvmlDeviceGetTotalEnergyConsumption", &e->read, sizeof e->read))
        return false;
    if (begin() != 0)
        return false;
    if (find(bus_id, &e->device) == 0 && e->read(e->device, &now) == 0)
        return true;
    (void)e->stop();
    return false;
}

hdl_energy *hdl_energy_open(const char *library, const char *bus_id)
{
    hdl_energy *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->library = dlopen(library ? library : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (e->library && start(e, bus_id))
        return e;
    if (e->library)
        dlclose(e->library);
    free(e);
    return NULL;
}

void hdl_energy_close(hdl_energy *e)
{
    if (!e)
        return;
    (void)e->stop();
    dlclose(e->library);
    free(e);
}

bool hdl_energy_read(const hdl_energy *e, double *joule)
{
    unsigned long long millijoule = 0;
    if (!e || e->read(e->device, &millijoule) != 0)
        return false;
    *joule = (double)millijoule * 1e-3;
    return true;
}
