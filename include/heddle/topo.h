/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as a worker sees it: which logical CPUs may be used, and on which core, NUMA node and
 * package each lies. Filled by worker/topo (hwloc for this machine or for an XML file of another).
 *
 * A plain value, made once at start and never changed; any thread may read it. Not here: pinning
 * itself (base/thread.h) and anything about GPUs, which the CUDA plugin reports. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

enum { HDL_TOPO_CPUS_MAX = 1024, HDL_TOPO_NUMA_MAX = 64 };

typedef struct hdl_topo_cpu {
    int os_idx;       /* number of the logical CPU, as for sched_setaffinity */
    uint16_t core;    /* index of the physical core, from 0 over the machine */
    uint16_t smt_idx; /* 0 for the first hardware thread of a core */
    uint16_t numa;    /* index in numa_bytes */
    uint16_t package;
} hdl_topo_cpu;

typedef struct hdl_topo {
    uint32_t n_cpus, n_cores, n_numa, n_packages;
    bool this_machine; /* false: loaded from a file; pinning to it makes no sense */
    hdl_topo_cpu cpus[HDL_TOPO_CPUS_MAX]; /* allowed ones, by numa, core, smt_idx */
    uint64_t numa_bytes[HDL_TOPO_NUMA_MAX];
} hdl_topo;

/* xml_path NULL: this machine, restricted to the CPUs that the process may use. */
hdl_err hdl_topo_load(hdl_topo *out, const char *xml_path, hdl_errmsg *why) HDL_MUST_CHECK;

/* Logical CPUs for one of n_workers workers on this host: disjoint cores, one NUMA node each as far
 * as there are nodes, one hardware thread per core first. n_threads 0: the worker's fair share of
 * cores. Workers share CPUs only when there are fewer CPUs than workers. */
typedef struct hdl_topo_ask {
    uint32_t worker_idx, n_workers, n_threads;
} hdl_topo_ask;
typedef struct hdl_topo_pick {
    uint32_t n_threads; /* to run; may exceed n_cpus only when the ask did */
    uint32_t n_cpus;
    int cpus[HDL_TOPO_CPUS_MAX];
    uint32_t numa; /* node of the first CPU */
} hdl_topo_pick;
void hdl_topo_pick_cpus(const hdl_topo *topo, hdl_topo_ask ask, hdl_topo_pick *out);
