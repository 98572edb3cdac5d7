/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that includes hwloc: this machine's cores and NUMA nodes, or those of an XML file
 * (tests, and machines that are not here). */
#include <hwloc.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/topo.h>

#include "base/assert.h"
#include "base/fs.h"

enum { XML_BYTES_MAX = 16 << 20 };

static hdl_err load(hwloc_topology_t t, const char *xml_path, hdl_errmsg *why)
{
    char *xml = NULL;
    size_t len = 0;
    if (xml_path) {
        HDL_TRY(hdl_fs_read(xml_path, XML_BYTES_MAX, &xml, &len, why));
        int set = hwloc_topology_set_xmlbuffer(t, xml, (int)len + 1);
        if (set != 0) {
            free(xml);
            return hdl_fail(HDL_INVALID, why,
                            "%.200s is no hwloc topology; it cannot be parsed; make it with lstopo",
                            xml_path);
        }
    }
    int loaded = hwloc_topology_load(t);
    free(xml);
    if (loaded != 0)
        return hdl_fail(HDL_IO, why,
                        "the machine's topology cannot be read; hwloc gave up; run lstopo to see "
                        "why");
    return HDL_OK;
}

static uint16_t index_of(hwloc_topology_t t, hwloc_obj_t pu, hwloc_obj_type_t type)
{
    hwloc_obj_t obj = hwloc_get_ancestor_obj_by_type(t, type, pu);
    return obj ? (uint16_t)obj->logical_index : 0;
}

/* NUMA nodes are no ancestors in hwloc 2: the node is found by its set of CPUs. */
static uint16_t numa_of(hwloc_topology_t t, hwloc_obj_t pu)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, node)) != NULL)
        if (hwloc_bitmap_isset(node->cpuset, pu->os_index))
            return (uint16_t)node->logical_index;
    return 0;
}

/* First by node, then by core, then by hardware thread. */
static int by_place(const void *a, const void *b)
{
    const hdl_topo_cpu *x = a, *y = b;
    if (x->numa != y->numa)
        return x->numa < y->numa ? -1 : 1;
    if (x->core != y->core)
        return x->core < y->core ? -1 : 1;
    return x->smt_idx < y->smt_idx ? -1 : x->smt_idx > y->smt_idx;
}

static void number_threads(hdl_topo *out)
{
    out->n_cores = 0;
    for (uint32_t i = 0; i < out->n_cpus; i++) {
        hdl_topo_cpu *cpu = &out->cpus[i];
        bool same = i > 0 && cpu->core == cpu[-1].core;
        cpu->smt_idx = same ? (uint16_t)(cpu[-1].smt_idx + 1) : 0;
        out->n_cores += !same;
    }
}

static void read_numa(hdl_topo *out, hwloc_topology_t t)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        if (node->logical_index >= HDL_TOPO_NUMA_MAX)
            continue;
        out->numa_bytes[node->logical_index] = node->attr->numanode.local_memory;
        out->n_numa = hdl_max_u32(out->n_numa, node->logical_index + 1);
    }
    if (out->n_numa == 0)
        out->n_numa = 1;
}

static void read_cpus(hdl_topo *out, hwloc_topology_t t)
{
    hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(t);
    hwloc_cpuset_t bound = hwloc_bitmap_alloc();
    /* An affinity mask that we were started with (taskset, a container) is a limit too. */
    bool masked =
        bound && out->this_machine && hwloc_get_cpubind(t, bound, HWLOC_CPUBIND_PROCESS) == 0;
    hwloc_obj_t pu = NULL;
    while ((pu = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_PU, pu)) != NULL) {
        if (out->n_cpus == HDL_TOPO_CPUS_MAX || !hwloc_bitmap_isset(allowed, pu->os_index) ||
            (masked && !hwloc_bitmap_isset(bound, pu->os_index)))
            continue;
        out->cpus[out->n_cpus++] = (hdl_topo_cpu){.os_idx = (int)pu->os_index,
                                                  .core = index_of(t, pu, HWLOC_OBJ_CORE),
                                                  .numa = numa_of(t, pu),
                                                  .package = index_of(t, pu, HWLOC_OBJ_PACKAGE),
                                                  .smt_idx = (uint16_t)pu->logical_index};
    }
    hwloc_bitmap_free(bound);
    qsort(out->cpus, out->n_cpus, sizeof(out->cpus[0]), by_place);
    number_threads(out);
}

hdl_err hdl_topo_load(hdl_topo *out, const char *xml_path, hdl_errmsg *why)
{
    hwloc_topology_t t;
    memset(out, 0, sizeof(*out));
    if (hwloc_topology_init(&t) != 0)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    hdl_err err = load(t, xml_path, why);
    if (err == HDL_OK) {
        int packages = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PACKAGE);
        out->this_machine = xml_path == NULL;
        out->n_packages = packages > 0 ? (uint32_t)packages : 1;
        read_numa(out, t);
        read_cpus(out, t);
        if (out->n_cpus == 0)
            err = hdl_fail(HDL_INVALID, why,
                           "no CPU may be used; the topology or the process's limits leave none; "
                           "widen the affinity mask");
    }
    hwloc_topology_destroy(t);
    return err;
}
