/* SPDX-License-Identifier: Apache-2.0 */
/* A worker on a device with memory of its own (rig_plugin.h): it loads, runs and shares every
 * architecture's model without touching that memory, and gives the bits of the CPU's reference
 * kernels, alone and over ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "rig.h"
#include "rig_plugin.h"

enum { N = 40, CHUNK = 24 };

typedef struct golden {
    const char *name;
} golden;

static uint32_t vocab_of(const char *config)
{
    static hdl_model_desc desc;
    hdl_errmsg why = {0};
    if (hdl_model_desc_parse(&desc, config, strlen(config), &why) != HDL_OK)
        fail_msg("%s", why.text);
    return desc.vocab;
}

static float *logits(rig_logits_opts opts, const hdl_plugin *plugin, uint32_t vocab)
{
    opts.worker.isa = HDL_ISA_REF;
    opts.worker.plugin = plugin;
    return rig_logits(&opts, vocab);
}

static bool possible(const char *config, hdl_layout layout)
{
    static hdl_model_desc desc;
    hdl_errmsg why = {0};
    return hdl_model_desc_parse(&desc, config, strlen(config), &why) == HDL_OK &&
           hdl_layout_check(&desc, &layout, &why) == HDL_OK;
}

static void test_golden(void **state)
{
    const golden *g = *state;
    char path[256], dir[256];
    size_t len;
    snprintf(path, sizeof path, RIG_GOLDENS "%s.json", g->name);
    char *config = rig_read(path, &len);
    uint32_t vocab = vocab_of(config);
    hdl_token ids[N];
    for (uint32_t i = 0; i < N; i++)
        ids[i] = (hdl_token)((i * 7 + 3) % vocab);
    rig_make_model(dir, config, HDL_DTYPE_BF16);
    const hdl_layout layouts[] = {{.tp = 1, .ep = 1, .pp = 1, .dp = 1},
                                  {.tp = 2, .ep = 1, .pp = 1, .dp = 1},
                                  {.tp = 2, .ep = 2, .pp = 1, .dp = 1}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(layouts); i++) {
        bool has_experts = strstr(config, "num_experts") || strstr(config, "experts_per_tok");
        if (!possible(config, layouts[i]) || (layouts[i].ep > 1) != (i > 0 && has_experts))
            continue;
        rig_logits_opts opts = {.worker = {.model_path = dir, .layout = layouts[i]},
                                .ids = ids,
                                .n = N,
                                .chunk = CHUNK,
                                .others = 2};
        float *want = logits(opts, NULL, vocab), *got = logits(opts, rig_plugin(), vocab);
        assert_memory_equal(want, got, (size_t)N * vocab * sizeof *want);
        free(want);
        free(got);
    }
    rig_remove(dir);
    free(config);
}

int main(void)
{
#define GOLDEN(id, name_) {name_},
    static golden goldens[] = {RIG_GOLDEN_LIST(GOLDEN)};
    static struct CMUnitTest tests[HDL_ARRAY_LEN(goldens)];
    for (size_t i = 0; i < HDL_ARRAY_LEN(goldens); i++)
        tests[i] = (struct CMUnitTest){
            .name = goldens[i].name, .test_func = test_golden, .initial_state = &goldens[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
