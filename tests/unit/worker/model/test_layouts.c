/* SPDX-License-Identifier: Apache-2.0 */
/* The numerics contract on every golden configuration: the same bytes of logits from every layout
 * of tp and ep in {1, 2, 4} that its shape allows, in other chunks, beside other sequences, and
 * from the reference kernels. test_exact goes deeper on two models; this one goes over all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "goldens.h"
#include "rig.h"

enum { N = 70 }; /* over two blocks, ending inside the third */

typedef struct model {
    const char *name;
    char *config; /* owned */
    char dir[256];
    hdl_model_desc *desc; /* owned */
    hdl_token ids[N];
    float *expected; /* owned: [N, vocab] one rank, one chunk */
} model;

static void open_model(model *m, const char *name)
{
    char path[512];
    size_t len = 0;
    hdl_errmsg why = {0};
    *m = (model){.name = name, .desc = malloc(sizeof(*m->desc))};
    snprintf(path, sizeof(path), RIG_GOLDENS "%s.json", name);
    m->config = rig_read(path, &len);
    if (hdl_model_desc_parse(m->desc, m->config, len, &why) != HDL_OK)
        fail_msg("%s", why.text);
    for (uint32_t i = 0; i < N; i++)
        m->ids[i] = (hdl_token)((i * 37 + i * i * 5 + 11) % m->desc->vocab);
    rig_make_model(m->dir, m->config, HDL_DTYPE_BF16);
}

static void close_model(model *m)
{
    rig_remove(m->dir);
    free(m->expected);
    free(m->desc);
    free(m->config);
}

static rig_logits_opts options(const model *m)
{
    return (rig_logits_opts){
        .worker = {.model_path = m->dir, .weights = HDL_WFORMAT_BF16}, .ids = m->ids, .n = N};
}

static void check(const model *m, const rig_logits_opts *o, const char *what)
{
    float *got = rig_logits(o, m->desc->vocab);
    if (memcmp(got, m->expected, sizeof(*got) * N * m->desc->vocab) != 0)
        fail_msg("%s, %s: other logits than one rank alone", m->name, what);
    free(got);
}

static void check_layouts(const model *m)
{
    static const uint32_t sizes[] = {1, 2, 4};
    for (size_t t = 0; t < HDL_ARRAY_LEN(sizes); t++)
        for (size_t e = 0; e < HDL_ARRAY_LEN(sizes); e++) {
            hdl_layout layout = {.tp = sizes[t], .ep = sizes[e], .pp = 1, .dp = 1};
            hdl_errmsg why;
            char what[32];
            if (t + e == 0 || hdl_layout_check(m->desc, &layout, &why) != HDL_OK)
                continue;
            snprintf(what, sizeof(what), "layout tp%u ep%u", layout.tp, layout.ep);
            rig_logits_opts o = options(m);
            o.worker.layout = layout;
            o.coll = "check+shm";
            o.chunk = t == e ? 0 : 33;
            check(m, &o, what);
            rig_covered_arch(m->config, what);
        }
}

static void check_golden(const char *name)
{
    model m;
    open_model(&m, name);
    rig_logits_opts o = options(&m);
    m.expected = rig_logits(&o, m.desc->vocab);
    o.chunk = 7;
    o.others = 5;
    check(&m, &o, "chunk 7 beside 5 others");
    o = options(&m);
    o.worker.isa = HDL_ISA_REF;
    o.worker.n_threads = 2;
    check(&m, &o, "reference kernels");
    check_layouts(&m);
    close_model(&m);
}

#define LAYOUTS_TEST(id, name)                                                                     \
    static void test_##id(void **state)                                                            \
    {                                                                                              \
        (void)state;                                                                               \
        check_golden(name);                                                                        \
    }
RIG_GOLDEN_LIST(LAYOUTS_TEST)

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ENTRY(id, name) cmocka_unit_test(test_##id),
        RIG_GOLDEN_LIST(ENTRY)
#undef ENTRY
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
