/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing logical CPUs for the workers of one host. Pure. */
#include <heddle/topo.h>

#include "base/assert.h"

/* The workers of one NUMA node, or of the whole machine where nodes are fewer than workers need. */
typedef struct share {
    uint32_t first, n; /* CPUs [first, first + n) of topo->cpus */
    uint32_t idx, of;  /* worker idx of `of` in it */
} share;

static share whole(const hdl_topo *topo, hdl_topo_ask ask)
{
    return (share){.n = topo->n_cpus, .idx = ask.worker_idx, .of = ask.n_workers};
}

/* Workers take nodes in turn; those on one node share it. CPUs are sorted by node. */
static share node_share(const hdl_topo *topo, hdl_topo_ask ask)
{
    uint32_t nodes = topo->n_numa;
    if (nodes <= 1 || ask.n_workers < nodes)
        return whole(topo, ask);
    uint32_t node = (uint32_t)((uint64_t)ask.worker_idx * nodes / ask.n_workers);
    share s = {0};
    for (uint32_t i = 0; i < topo->n_cpus; i++) {
        if (topo->cpus[i].numa != node)
            continue;
        if (s.n++ == 0)
            s.first = i;
    }
    for (uint32_t w = 0; w < ask.n_workers; w++) {
        if ((uint64_t)w * nodes / ask.n_workers != node)
            continue;
        s.idx += w < ask.worker_idx;
        s.of++;
    }
    return s.n != 0 ? s : whole(topo, ask);
}

/* Cores of a share, and the CPU index at which the c-th of them begins. */
static uint32_t count_cores(const hdl_topo *topo, share s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s.n; i++) {
        const hdl_topo_cpu *cpu = &topo->cpus[s.first + i];
        n += i == 0 || cpu->core != cpu[-1].core;
    }
    return n;
}

typedef struct cores {
    uint32_t from, to; /* of the share */
} cores;

/* One hardware thread per core of c first, then the second ones. */
static void take_cores(const hdl_topo *topo, share s, cores c, hdl_topo_pick *out)
{
    uint32_t max = hdl_min_u32(out->n_threads, HDL_TOPO_CPUS_MAX);
    for (uint16_t smt = 0; out->n_cpus < max; smt++) {
        uint32_t core = 0, found = 0;
        for (uint32_t i = 0; i < s.n && out->n_cpus < max; i++) {
            const hdl_topo_cpu *cpu = &topo->cpus[s.first + i];
            core += i != 0 && cpu->core != cpu[-1].core;
            if (core < c.from || core >= c.to || cpu->smt_idx != smt)
                continue;
            if (out->n_cpus == 0)
                out->numa = cpu->numa;
            out->cpus[out->n_cpus++] = cpu->os_idx;
            found++;
        }
        if (found == 0)
            return;
    }
}

void hdl_topo_pick_cpus(const hdl_topo *topo, hdl_topo_ask ask, hdl_topo_pick *out)
{
    HDL_ASSERT_LT(ask.worker_idx, ask.n_workers);
    *out = (hdl_topo_pick){0};
    share s = node_share(topo, ask);
    uint32_t n_cores = count_cores(topo, s);
    uint32_t from = (uint32_t)((uint64_t)n_cores * s.idx / s.of);
    uint32_t to = (uint32_t)((uint64_t)n_cores * (s.idx + 1) / s.of);
    if (from == to) { /* more workers than cores: they share */
        from = n_cores ? s.idx % n_cores : 0;
        to = from + 1;
    }
    uint32_t threads = ask.n_threads ? ask.n_threads : to - from;
    out->n_threads = threads ? threads : 1;
    take_cores(topo, s, (cores){from, to}, out);
}
