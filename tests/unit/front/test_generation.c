/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling defaults from generation_config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "scheduler/front/front.h"
#include "unit.h"

static hdl_err load(hdl_front_sampling *out, const char *text, hdl_errmsg *why)
{
    char dir[128], path[192];
    assert_int_equal(hdl_fs_mkdtemp(dir, sizeof dir, "front", why), HDL_OK);
    (void)snprintf(path, sizeof path, "%s/generation_config.json", dir);
    if (text)
        assert_int_equal(hdl_fs_write_atomic(path, (hdl_fs_bytes){text, strlen(text)}, why),
                         HDL_OK);
    hdl_err err = hdl_front_sampling_load(out, dir, why);
    assert_int_equal(hdl_fs_remove_tree(dir), HDL_OK);
    return err;
}

static void test_values(void **state)
{
    (void)state;
    hdl_front_sampling s;
    hdl_errmsg why = {0};
    assert_int_equal(load(&s,
                          "{\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.95,\"top_k\":20,"
                          "\"min_p\":0.05,\"repetition_penalty\":1.1,\"eos_token_id\":[1]}",
                          &why),
                     HDL_OK);
    assert_true(s.temperature == 0.6F && s.top_p == 0.95F && s.top_k == 20);
    assert_true(s.min_p == 0.05F && s.repetition_penalty == 1.1F);
    assert_int_equal(load(&s, "{\"do_sample\":false,\"temperature\":0.6}", &why), HDL_OK);
    assert_true(s.temperature == 0);
}

static void test_defaults(void **state)
{
    (void)state;
    hdl_front_sampling s;
    hdl_errmsg why = {0};
    assert_int_equal(load(&s, NULL, &why), HDL_OK);
    assert_true(s.temperature < 0 && s.top_p == 1 && s.top_k == 0 && s.repetition_penalty == 1);
    assert_int_equal(hdl_front_sampling_load(&s, "/no/such/model.gguf", &why), HDL_OK);
    assert_true(s.temperature < 0);
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const texts[] = {"{", "{\"temperature\":\"hot\"}", "{\"top_k\":1.5}",
                                        "{\"do_sample\":1}", "{\"top_p\":-1}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        hdl_front_sampling s;
        hdl_errmsg why = {0};
        assert_int_equal(load(&s, texts[i], &why), HDL_INVALID);
        assert_non_null(strstr(why.text, "generation_config.json"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_broken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
