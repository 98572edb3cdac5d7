/* SPDX-License-Identifier: Apache-2.0 */
/* `test_worker_pipeline FILE`: steps of a device that samples, on a plugin's kernels. However they
 * are sent (one by one, two at a time), padded and recorded or not, the stream of tokens and
 * log-probabilities is the same, and it is what the host's sampler gives for the same logits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

#include "rig_plugin.h"
#include "rig_talk.h"
#include "worker/graph.h"

enum { VOCAB = 97 };

static const hdl_plugin *plugin;

typedef struct way {
    uint32_t graphs, in_flight, order;
    hdl_layout layout; /* of ranks whose devices have collectives */
} way;

static rig_talk *talk(const char *model, way how)
{
    rig_talk_opts opts = {.worker = {.model_path = model,
                                     .plugin = plugin,
                                     .graphs = how.graphs,
                                     .gpu_order = how.order,
                                     .layout = how.layout,
                                     .nccl = how.layout.tp > 1 ? HDL_NCCL_REQUIRED : 0},
                          .vocab = VOCAB,
                          .in_flight = how.in_flight,
                          .n_slots = 4,
                          .n_tenants = 2};
    rig_talk *t = rig_talk_run(&opts);
    assert_int_equal(t->n_deep, how.in_flight == 2 ? t->n_steps - 1 : 0);
    assert_true((t->n_graphs > 0) == (how.graphs == HDL_GRAPHS_AUTO));
    return t;
}

/* A model, and what single steps, neither padded nor recorded, give. */
typedef struct subject {
    char dir[256];
    rig_talk *plain; /* owned */
} subject;

static subject dense, mixture, even; /* even: a vocabulary that two ranks halve */

static void compare(subject *s, way how)
{
    if (!s->plain)
        s->plain = talk(s->dir, (way){.graphs = HDL_GRAPHS_NEVER, .in_flight = 1});
    rig_talk *other = talk(s->dir, how);
    assert_true(other->n_rows > 40 && other->n_probs > 20);
    rig_talk_same(s->plain, other);
    free(other);
}

static void test_two_at_a_time(void **state)
{
    (void)state;
    compare(&dense, (way){.graphs = HDL_GRAPHS_NEVER, .in_flight = 2, .order = 1});
}

static void test_padded(void **state)
{
    (void)state;
    compare(&dense, (way){.graphs = HDL_GRAPHS_PADDED, .in_flight = 1, .order = 2});
}

static void test_recorded(void **state)
{
    (void)state;
    compare(&mixture, (way){.graphs = HDL_GRAPHS_AUTO, .in_flight = 2, .order = 1});
}

/* Devices that merge their logits and share what the first of them samples. */
static void test_ranks(void **state)
{
    (void)state;
    way how = {.graphs = HDL_GRAPHS_AUTO, .in_flight = 2, .layout = {.tp = 2, .ep = 1}};
    compare(&even, how);
    how.layout.ep = 2;
    compare(&mixture, how);
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

static void make_even(void)
{
    char config[2048];
    snprintf(config, sizeof config, "%s", rig_config_llama);
    char *size = strstr(config, "\"vocab_size\":97");
    HDL_ASSERT(size != NULL);
    size[strlen("\"vocab_size\":9")] = '8';
    rig_make_model(even.dir, config, HDL_DTYPE_BF16);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    if (argc < 2 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: test_worker_pipeline FILE; %s\n", why.text);
        return 2;
    }
    rig_make_model(dense.dir, rig_config_llama, HDL_DTYPE_BF16);
    make_even();
    rig_make_model(mixture.dir, rig_config_moe, HDL_DTYPE_BF16);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_at_a_time),
        cmocka_unit_test(test_padded),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test_prestate(test_as_on_the_host, dense.dir),
        cmocka_unit_test_prestate(test_as_on_the_host, mixture.dir),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    subject *all[] = {&dense, &mixture, &even};
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++) {
        rig_remove(all[i]->dir);
        free(all[i]->plain);
    }
    return failed;
}
