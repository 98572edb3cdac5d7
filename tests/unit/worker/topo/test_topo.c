/* SPDX-License-Identifier: Apache-2.0 */
/* Topologies from XML files, and the CPUs that workers get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/topo.h>

static hdl_topo topo;

static void load(const char *name)
{
    char path[512];
    hdl_errmsg why = {0};
    snprintf(path, sizeof(path), HDL_SOURCE_DIR "/tests/unit/worker/topo/%s", name);
    if (hdl_topo_load(&topo, path, &why) != HDL_OK)
        fail_msg("%s", why.text);
}

static hdl_topo_pick pick(uint32_t idx, uint32_t n_workers, uint32_t n_threads)
{
    hdl_topo_pick p;
    hdl_topo_pick_cpus(&topo, (hdl_topo_ask){idx, n_workers, n_threads}, &p);
    return p;
}

/* Two packages, a NUMA node each, four cores of two threads. */
static void test_two_nodes(void **state)
{
    (void)state;
    load("two_nodes.xml");
    assert_false(topo.this_machine);
    assert_int_equal(topo.n_cpus, 16);
    assert_int_equal(topo.n_cores, 8);
    assert_int_equal(topo.n_numa, 2);
    assert_int_equal(topo.n_packages, 2);
    hdl_topo_pick a = pick(0, 2, 0), b = pick(1, 2, 0);
    assert_int_equal(a.n_cpus, 4); /* one thread per core */
    assert_int_equal(b.n_cpus, 4);
    assert_int_equal(a.numa, 0);
    assert_int_equal(b.numa, 1);
    hdl_topo_pick all = pick(0, 1, 0);
    assert_int_equal(all.n_cpus, 8);
    hdl_topo_pick smt = pick(1, 2, 8); /* asked for more: the second threads too */
    assert_int_equal(smt.n_cpus, 8);
    assert_int_equal(smt.n_threads, 8);
}

/* For every number of workers up to the cores: disjoint CPUs, as even as can be. */
static void test_disjoint(void **state)
{
    static const char *const files[] = {"two_nodes.xml", "two_cores.xml"};
    (void)state;
    for (size_t f = 0; f < HDL_ARRAY_LEN(files); f++) {
        load(files[f]);
        for (uint32_t n = 1; n <= topo.n_cores; n++) {
            bool used[64] = {0};
            uint32_t least = 64, most = 0;
            for (uint32_t i = 0; i < n; i++) {
                hdl_topo_pick p = pick(i, n, 0);
                least = p.n_cpus < least ? p.n_cpus : least;
                most = p.n_cpus > most ? p.n_cpus : most;
                for (uint32_t c = 0; c < p.n_cpus; c++) {
                    assert_false(used[p.cpus[c]]);
                    used[p.cpus[c]] = true;
                }
            }
            assert_true(least >= 1 && most <= 2 * least);
        }
    }
}

static void test_more_workers_than_cores(void **state)
{
    (void)state;
    load("two_cores.xml");
    for (uint32_t i = 0; i < 4; i++) {
        hdl_topo_pick p = pick(i, 4, 0);
        assert_int_equal(p.n_cpus, 1);
        assert_int_equal(p.n_threads, 1);
    }
    hdl_topo_pick p = pick(1, 4, 3); /* more threads than CPUs: they share */
    assert_int_equal(p.n_threads, 3);
    assert_int_equal(p.n_cpus, 1);
}

static void test_this_machine(void **state)
{
    hdl_errmsg why = {0};
    (void)state;
    assert_int_equal(hdl_topo_load(&topo, NULL, &why), HDL_OK);
    assert_true(topo.this_machine && topo.n_cpus >= 1 && topo.n_cores >= 1);
    assert_true(topo.n_cores <= topo.n_cpus);
    hdl_topo_pick p = pick(0, 1, 1);
    assert_int_equal(p.n_cpus, 1);
}

static void test_bad_files(void **state)
{
    hdl_errmsg why = {0};
    (void)state;
    assert_int_not_equal(hdl_topo_load(&topo, "/nonexistent.xml", &why), HDL_OK);
    assert_int_not_equal(hdl_topo_load(&topo, __FILE__, &why), HDL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_nodes),
        cmocka_unit_test(test_disjoint),
        cmocka_unit_test(test_more_workers_than_cores),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
