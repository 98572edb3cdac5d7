/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/graph.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"

void hdl_graphs_open(hdl_graphs *out, const hdl_graphs_opts *opts)
{
    const hdl_plugin *plugin = hdl_device_plugin(opts->device);
    bool possible = plugin && plugin->graph_begin && opts->use == HDL_GRAPHS_AUTO;
    *out = (hdl_graphs){.device = opts->device,
                        .plugin = possible ? plugin : NULL,
                        .padded = possible || opts->use == HDL_GRAPHS_PADDED,
                        .n_rows_max = opts->n_rows_max};
}

void hdl_graphs_forget(hdl_graphs *g)
{
    for (uint32_t i = 0; i < HDL_GRAPH_SIZES; i++) {
        if (g->of[i].graph)
            g->plugin->graph_free(g->of[i].graph);
        g->of[i].graph = NULL;
        g->of[i].ran = false;
    }
}

void hdl_graphs_close(hdl_graphs *g)
{
    hdl_graphs_forget(g);
    *g = (hdl_graphs){0};
}

static uint32_t index_of(uint32_t n_rows)
{
    uint32_t i = 0;
    while (1u << i < n_rows)
        i++;
    HDL_ASSERT_LT(i, (uint32_t)HDL_GRAPH_SIZES);
    return i;
}

uint32_t hdl_graphs_size(const hdl_graphs *g, uint32_t n_rows)
{
    if (!g->padded)
        return n_rows;
    return hdl_min_u32(1u << index_of(n_rows), g->n_rows_max);
}

/* Records the body, which does not run by that. */
static hdl_err record(hdl_graphs *g, uint32_t n_rows, hdl_graph_body *body, void *arg)
{
    hdl_plugin_device *device = hdl_device_remote(g->device);
    hdl_plugin_graph **graph = &g->of[index_of(n_rows)].graph;
    HDL_TRY(g->plugin->graph_begin(device));
    hdl_err err = body(arg, n_rows), end = g->plugin->graph_end(device, graph);
    if (err != HDL_OK && *graph) {
        g->plugin->graph_free(*graph);
        *graph = NULL;
    }
    return err != HDL_OK ? err : end;
}

hdl_err hdl_graphs_run(hdl_graphs *g, uint32_t n_rows, hdl_graph_body *body, void *arg)
{
    uint32_t i = index_of(n_rows);
    if (!g->plugin || !g->of[i].ran) {
        g->of[i].ran = true;
        return body(arg, n_rows);
    }
    if (!g->of[i].graph) {
        unsigned suspended = hdl_alloc_suspend(); /* once for a size */
        hdl_err err = record(g, n_rows, body, arg);
        hdl_alloc_resume(suspended);
        if (err == HDL_PEER || err == HDL_CANCELLED)
            return err;
        if (err != HDL_OK) {
            HDL_LOG(WARN, STEP, "no_graph", "rows=%u err=%s", n_rows, hdl_err_name(err));
            hdl_graphs_forget(g);
            g->plugin = NULL;
            return body(arg, n_rows);
        }
    }
    g->n_runs++;
    return g->plugin->graph_run(g->of[i].graph);
}
