/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of decoding as recorded launches: one graph for each number of rows that steps are padded
 * to, 1, 2, 4, 8 and so on. The first step of a size runs plainly (whatever its ops prepare once,
 * they prepare then), the second is recorded, later ones are one launch each. Where recording fails
 * all steps run plainly from then on.
 *
 * Owner: the worker, on its step thread. */
#pragma once

#include <heddle/device.h>

enum { HDL_GRAPH_SIZES = 16 /* up to 2^15 rows */ };

typedef struct hdl_graphs {
    hdl_device *device;       /* borrowed */
    const hdl_plugin *plugin; /* NULL: every step runs plainly */
    bool padded;              /* steps are padded, whether they are recorded or not */
    uint32_t n_rows_max;
    struct {
        bool ran;
        hdl_plugin_graph *graph; /* owned */
    } of[HDL_GRAPH_SIZES];
    uint64_t n_runs; /* of graphs */
} hdl_graphs;

typedef enum hdl_graphs_use { HDL_GRAPHS_AUTO, HDL_GRAPHS_NEVER, HDL_GRAPHS_PADDED } hdl_graphs_use;

typedef struct hdl_graphs_opts {
    hdl_device *device;
    uint32_t n_rows_max; /* of a step */
    hdl_graphs_use use;
} hdl_graphs_opts;
void hdl_graphs_open(hdl_graphs *out, const hdl_graphs_opts *opts);
void hdl_graphs_close(hdl_graphs *graphs);
/* Before what was recorded becomes wrong: communicators that end. */
void hdl_graphs_forget(hdl_graphs *graphs);

/* Rows that a step of so many is padded to. */
uint32_t hdl_graphs_size(const hdl_graphs *graphs, uint32_t n_rows);
/* Runs the body of a step of that many rows: body(arg, n_rows) asks for the same work every time.
 */
typedef hdl_err hdl_graph_body(void *arg, uint32_t n_rows);
hdl_err hdl_graphs_run(hdl_graphs *graphs, uint32_t n_rows, hdl_graph_body *body,
                       void *arg) HDL_MUST_CHECK;
