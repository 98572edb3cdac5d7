/* SPDX-License-Identifier: Apache-2.0 */
/* When a step of decoding runs plainly, is recorded, and is one launch; and what becomes of it
 * where recording fails. The plugin counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig_plugin.h"
#include "worker/graph.h"

enum { ROWS_MAX = 24 };

struct hdl_plugin_graph {
    uint32_t unused;
};

static struct {
    uint32_t n_begun, n_runs, n_freed, n_bodies, body_rows;
    hdl_err end, body;
} seen;

static hdl_err graph_begin(hdl_plugin_device *device)
{
    (void)device;
    seen.n_begun++;
    return HDL_OK;
}

static hdl_err graph_end(hdl_plugin_device *device, hdl_plugin_graph **out)
{
    (void)device;
    *out = seen.end == HDL_OK ? calloc(1, sizeof **out) : NULL;
    return seen.end;
}

static hdl_err graph_run(hdl_plugin_graph *graph)
{
    assert_non_null(graph);
    seen.n_runs++;
    return HDL_OK;
}

static void graph_free(hdl_plugin_graph *graph)
{
    seen.n_freed++;
    free(graph);
}

static hdl_err body(void *arg, uint32_t n_rows)
{
    assert_ptr_equal(arg, &seen);
    seen.n_bodies++;
    seen.body_rows = n_rows;
    return seen.body;
}

static hdl_plugin plugin;
static hdl_device *device;
static hdl_graphs graphs;

static int setup(void **state)
{
    (void)state;
    hdl_errmsg why = {0};
    plugin = *rig_plugin();
    plugin.graph_begin = graph_begin;
    plugin.graph_end = graph_end;
    plugin.graph_run = graph_run;
    plugin.graph_free = graph_free;
    hdl_plugin_device_opts opts = {
        .plugin = &plugin, .device = {.scratch_bytes = 4096}, .host = {.n_threads = 1}};
    assert_int_equal(hdl_device_open_plugin(&device, &opts, &why), HDL_OK);
    hdl_graphs_opts g = {.device = device, .n_rows_max = ROWS_MAX, .use = HDL_GRAPHS_AUTO};
    hdl_graphs_open(&graphs, &g);
    memset(&seen, 0, sizeof seen);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hdl_graphs_close(&graphs);
    hdl_device_close(device);
    return 0;
}

static hdl_err run(uint32_t n_rows)
{
    return hdl_graphs_run(&graphs, hdl_graphs_size(&graphs, n_rows), body, &seen);
}

static void test_sizes(void **state)
{
    static const uint32_t sizes[][2] = {{1, 1},  {2, 2},   {3, 4},  {8, 8},
                                        {9, 16}, {17, 24}, {24, 24}};
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(sizes); i++)
        assert_int_equal(hdl_graphs_size(&graphs, sizes[i][0]), sizes[i][1]);
    graphs.padded = false;
    assert_int_equal(hdl_graphs_size(&graphs, 3), 3);
}

static void test_plain_then_recorded_then_run(void **state)
{
    (void)state;
    assert_int_equal(run(3), HDL_OK);
    assert_int_equal(seen.n_bodies, 1);
    assert_int_equal(seen.body_rows, 4);
    assert_int_equal(seen.n_begun, 0);
    assert_int_equal(run(4), HDL_OK); /* of the same size */
    assert_int_equal(seen.n_begun, 1);
    assert_int_equal(seen.n_bodies, 2);
    assert_int_equal(seen.n_runs, 1);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(run(3), HDL_OK);
    assert_int_equal(seen.n_bodies, 2);
    assert_int_equal(seen.n_runs, 6);
    assert_int_equal(run(24), HDL_OK); /* another size begins anew */
    assert_int_equal(seen.n_bodies, 3);
    hdl_graphs_forget(&graphs);
    assert_int_equal(seen.n_freed, 1);
    assert_int_equal(run(3), HDL_OK);
    assert_int_equal(seen.n_bodies, 4);
    assert_int_equal(seen.n_runs, 6);
}

/* Steps run, plainly. */
static void test_recording_fails(void **state)
{
    (void)state;
    seen.end = HDL_UNSUPPORTED;
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(run(2), HDL_OK);
    assert_int_equal(seen.n_begun, 1);
    assert_int_equal(seen.n_runs, 0);
    assert_int_equal(seen.n_bodies, 5); /* once for the recording that failed */
}

/* A peer that is lost meanwhile is no fault of the recording. */
static void test_a_peer_is_lost(void **state)
{
    (void)state;
    assert_int_equal(run(2), HDL_OK);
    seen.body = HDL_CANCELLED;
    assert_int_equal(run(2), HDL_CANCELLED);
    assert_int_equal(seen.n_freed, 1);
    seen.body = HDL_OK;
    assert_int_equal(run(2), HDL_OK);
    assert_int_equal(seen.n_begun, 2);
    assert_int_equal(seen.n_runs, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_sizes),
        TEST(test_plain_then_recorded_then_run),
        TEST(test_recording_fails),
        TEST(test_a_peer_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
