/* SPDX-License-Identifier: Apache-2.0 */
/* What benches stand on where the device is a plugin's: `test_bench_device FILE`. Times are read,
 * never judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <heddle/device.h>

static const hdl_plugin *plugin;

static hdl_plugin_device *open_device(void)
{
    hdl_plugin_device *device = NULL;
    hdl_errmsg why = {0};
    if (plugin->open(&device, &(hdl_plugin_opts){.scratch_bytes = 1 << 20}, &why) != HDL_OK)
        fail_msg("%s", why.text);
    return device;
}

static void test_roofs(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    static const struct {
        hdl_plugin_arith arith;
        double flop; /* of one block of the GPU's grid and round: 8 warps, 8 products each */
    } kinds[] = {{HDL_PLUGIN_BF16, 2.0 * 16 * 8 * 16 * 64},
                 {HDL_PLUGIN_INT8, 2.0 * 16 * 8 * 32 * 64}};
    hdl_plugin_device *device = open_device();
    hdl_plugin_roof *roof = NULL;
    hdl_errmsg why = {0};
    void *memory = plugin->alloc(device, BYTES);
    assert_non_null(memory);
    assert_int_equal(plugin->roofs->open(&roof, device, &why), HDL_OK);
    assert_int_equal(plugin->roofs->read(roof, memory, BYTES), HDL_OK);
    assert_int_equal(plugin->roofs->read(roof, memory, 16), HDL_OK); /* less than a thread each */
    for (size_t i = 0; i < HDL_ARRAY_LEN(kinds); i++) {
        double flop = 0;
        const char *by = NULL;
        assert_int_equal(plugin->roofs->matmul(roof, kinds[i].arith, &flop, &by), HDL_OK);
        assert_string_equal(by, "mma.sync"); /* fibers have no library */
        double blocks = flop / kinds[i].flop;
        assert_true(blocks >= 1 && blocks == (double)(uint32_t)blocks);
    }
    assert_int_equal(plugin->sync(device), HDL_OK);
    plugin->roofs->close(roof);
    plugin->close(device);
}

static void test_times(void **state)
{
    (void)state;
    hdl_plugin_device *device = open_device();
    hdl_plugin_event *marks[3];
    double us[2], both = 0;
    uint32_t *words = plugin->alloc(device, 4096);
    for (int i = 0; i < 3; i++) {
        marks[i] = plugin->event_new_timed(device);
        assert_non_null(marks[i]);
        assert_int_equal(plugin->event_record(marks[i]), HDL_OK);
        assert_int_equal(plugin->fill(device, words, 1, 1024), HDL_OK);
    }
    assert_int_equal(plugin->event_wait(marks[2]), HDL_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(plugin->event_elapsed(marks[i], marks[i + 1], &us[i]), HDL_OK);
    assert_int_equal(plugin->event_elapsed(marks[0], marks[2], &both), HDL_OK);
    assert_true(us[0] >= 0 && us[1] >= 0);
    assert_true(both - us[0] - us[1] < 1 &&
                us[0] + us[1] - both < 1); /* a GPU's clock ticks in 0.5 us */
    for (int i = 0; i < 3; i++)
        plugin->event_free(marks[i]);
    plugin->close(device);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_roofs), cmocka_unit_test(test_times)};
    if (argc < 2 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: test_bench_device FILE; %s\n", why.text);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
