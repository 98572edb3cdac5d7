/* SPDX-License-Identifier: Apache-2.0 */
/* `test_worker_pipeline FILE`: steps of a device that samples, on a plugin's kernels. However they
 * are sent (one by one, two at a time), padded and recorded or not, the stream of tokens and
 * log-probabilities is the same, and it is what the host's sampler gives for the same logits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "rig_plugin.h"
#include "rig_talk.h"
#include "worker/graph.h"

enum { VOCAB = 97 };

static const hdl_plugin *plugin;
static char dense[256], mixture[256];

typedef struct way {
    uint32_t graphs, in_flight, order;
} way;

static rig_talk *talk(const char *model, way how)
{
    rig_talk_opts opts = {.worker = {.model_path = model,
                                     .plugin = plugin,
                                     .graphs = how.graphs,
                                     .gpu_order = how.order},
                          .vocab = VOCAB,
                          .in_flight = how.in_flight,
                          .n_slots = 5,
                          .n_tenants = 2};
    rig_talk *t = rig_talk_run(&opts);
    assert_int_equal(t->n_deep, how.in_flight == 2 ? t->n_steps - 1 : 0);
    assert_true((t->n_graphs > 0) == (how.graphs == HDL_GRAPHS_AUTO));
    return t;
}

static void compare(const char *model, way one, way other)
{
    rig_talk *a = talk(model, one), *b = talk(model, other);
    assert_true(a->n_rows > 50 && a->n_probs > 20);
    rig_talk_same(a, b);
    free(a);
    free(b);
}

static void test_two_at_a_time(void **state)
{
    (void)state;
    compare(dense, (way){HDL_GRAPHS_NEVER, 1, 0}, (way){HDL_GRAPHS_NEVER, 2, 1});
}

static void test_padded(void **state)
{
    (void)state;
    compare(dense, (way){HDL_GRAPHS_NEVER, 2, 0}, (way){HDL_GRAPHS_PADDED, 1, 2});
}

static void test_recorded(void **state)
{
    (void)state;
    compare(dense, (way){HDL_GRAPHS_AUTO, 1, 0}, (way){HDL_GRAPHS_NEVER, 2, 3});
    compare(mixture, (way){HDL_GRAPHS_NEVER, 1, 0}, (way){HDL_GRAPHS_AUTO, 2, 1});
}

/* The reference kernels behind a wall sample as they do in the host's hands. */
static void test_as_on_the_host(void **state)
{
    rig_talk_opts opts = {.worker = {.model_path = *state, .isa = HDL_ISA_REF},
                          .vocab = VOCAB,
                          .in_flight = 1,
                          .n_slots = RIG_TALK_SLOTS,
                          .n_tenants = 3};
    rig_talk *host = rig_talk_run(&opts);
    opts.worker.plugin = rig_plugin();
    opts.in_flight = 2;
    rig_talk *there = rig_talk_run(&opts);
    rig_talk_same(host, there);
    free(host);
    free(there);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    if (argc < 2 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: test_worker_pipeline FILE; %s\n", why.text);
        return 2;
    }
    rig_make_model(dense, rig_config_llama, HDL_DTYPE_BF16);
    rig_make_model(mixture, rig_config_moe, HDL_DTYPE_BF16);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_at_a_time),
        cmocka_unit_test(test_padded),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test_prestate(test_as_on_the_host, dense),
        cmocka_unit_test_prestate(test_as_on_the_host, mixture),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rig_remove(dense);
    rig_remove(mixture);
    return failed;
}
