/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that lie in a library: loading it, and the host's way to their memory. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "kernels/device_impl.h"

#define LIBRARY "libheddle_cuda.so"

static hdl_err no_backend(hdl_errmsg *why, const char *reason)
{
    return hdl_fail(
        HDL_UNSUPPORTED, why,
        "no CUDA backend: %.300s; build the plugin with -DHDL_CUDA=ON and keep it beside "
        "the program, or say --device cpu",
        reason);
}

/* Beside the program, or where an installation puts it. -> false: neither is there */
static bool find_library(char out[PATH_MAX])
{
    static const char *const places[] = {"", "../lib/heddle/"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return false;
    slash[1] = '\0';
    for (size_t i = 0; i < HDL_ARRAY_LEN(places); i++) {
        int len = snprintf(out, PATH_MAX, "%s%s%s", self, places[i], LIBRARY);
        if (len > 0 && len < PATH_MAX && access(out, R_OK) == 0)
            return true;
    }
    return false;
}

/* The first op without a kernel, or NULL. */
static const char *missing_op(const hdl_ops *ops)
{
#define HDL_OP_CHECK(op, args)                                                                     \
    if (!ops->op)                                                                                  \
        return #op;
    HDL_OP_LIST(HDL_OP_CHECK)
#undef HDL_OP_CHECK
    if (!ops->weight_bytes || !ops->weight_pack || !ops->scratch_bytes)
        return "weights";
    return NULL;
}

hdl_err hdl_plugin_load(const hdl_plugin **out, const char *path, hdl_errmsg *why)
{
    char found[PATH_MAX], reason[160];
    *out = NULL;
    if (!path || path[0] == '\0') {
        if (!find_library(found))
            return no_backend(why, LIBRARY " is not there");
        path = found;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return no_backend(why, dlerror());
    void *symbol = dlsym(library, HDL_PLUGIN_SYMBOL);
    hdl_plugin_get_fn *get = NULL;
    memcpy(&get, &symbol, sizeof get); /* ISO C has no cast between the two kinds of pointers */
    const hdl_plugin *plugin = get ? get(HDL_PLUGIN_ABI) : NULL;
    if (!plugin || plugin->abi != HDL_PLUGIN_ABI || plugin->bytes != sizeof *plugin) {
        dlclose(library);
        return no_backend(why, "the library is of another version of heddle");
    }
    *out = plugin;
    const char *missing = missing_op(plugin->ops);
    if (missing) {
        snprintf(reason, sizeof reason, "this version has no kernel for %s", missing);
        return no_backend(why, reason);
    }
    return HDL_OK;
}

hdl_err hdl_device_open_plugin(hdl_device **out, const hdl_plugin_device_opts *opts,
                               hdl_errmsg *why)
{
    hdl_cpu_device_opts host = opts->host;
    host.isa = HDL_ISA_AUTO;
    host.scratch_bytes = HDL_STREAM_ALIGN; /* no op runs there */
    HDL_TRY(hdl_device_open_cpu(out, &host, why));
    hdl_device *device = *out;
    device->plugin = opts->plugin;
    hdl_err err = opts->plugin->open(&device->remote, &opts->device, why);
    if (err == HDL_OK) {
        device->ops = opts->plugin->ops;
        return HDL_OK;
    }
    hdl_device_close(device);
    *out = NULL;
    return err;
}

const hdl_plugin_colls *hdl_device_colls(const hdl_device *device)
{
    return device->plugin ? device->plugin->colls : NULL;
}

hdl_plugin_device *hdl_device_remote(hdl_device *device) { return device->remote; }

const hdl_plugin *hdl_device_plugin(const hdl_device *device) { return device->plugin; }

uint64_t hdl_device_memory_free(hdl_device *device)
{
    hdl_plugin_info info;
    if (!device->remote || device->plugin->info(device->remote, &info) != HDL_OK)
        return 0;
    return info.memory_free;
}

void *hdl_device_alloc_pinned(hdl_device *device, size_t bytes)
{
    return device->remote ? device->plugin->alloc_pinned(device->remote, bytes)
                          : hdl_device_alloc(device, bytes);
}

void hdl_device_free_pinned(hdl_device *device, void *ptr, size_t bytes)
{
    if (!device->remote)
        hdl_device_free(device, ptr, bytes);
    else if (ptr)
        device->plugin->free_pinned(device->remote, ptr);
}

static hdl_err move_here(void *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, from, bytes);
    return HDL_OK;
}

hdl_err hdl_device_write(hdl_device *device, void *to, const void *from, size_t bytes)
{
    return device->remote ? device->plugin->write(device->remote, to, from, bytes)
                          : move_here(to, from, bytes);
}

hdl_err hdl_device_read(hdl_device *device, void *to, const void *from, size_t bytes)
{
    return device->remote ? device->plugin->read(device->remote, to, from, bytes)
                          : move_here(to, from, bytes);
}

hdl_err hdl_device_copy(hdl_device *device, void *to, const void *from, size_t bytes)
{
    return device->remote ? device->plugin->copy(device->remote, to, from, bytes)
                          : move_here(to, from, bytes);
}

hdl_err hdl_device_fill(hdl_device *device, uint32_t *to, uint32_t word, size_t count)
{
    if (device->remote)
        return device->plugin->fill(device->remote, to, word, count);
    for (size_t i = 0; i < count; i++)
        to[i] = word;
    return HDL_OK;
}

hdl_err hdl_device_sync(hdl_device *device)
{
    return device->remote ? device->plugin->sync(device->remote) : HDL_OK;
}
