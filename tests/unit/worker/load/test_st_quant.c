/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised matrices of safetensors files. Every layout as its tool packs it (tests/golden/quant)
 * is read to the values that the tool reads; a tensor that is missing, of another shape or of
 * another type is refused by name; a window of a matrix reads no byte of another part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"
#include "worker/load/st_quant.h"

#define CASES HDL_SOURCE_DIR "/tests/golden/quant/cases.safetensors"
#define FP8   HDL_QUANT_FP8
#define CT    HDL_QUANT_COMPRESSED

typedef struct layout_case {
    const char *name, *matrix; /* of the case; of the matrix in it */
    hdl_quant_desc quant;
    uint64_t experts, rows, cols;
    uint32_t expert;
    hdl_enc encoding;
} layout_case;

#define SCHEME(method_, encoding_, rows_, cols_)                                                   \
    {                                                                                              \
        .method = (method_), .n_schemes = 1, .schemes = {                                          \
            {.encoding = (encoding_), .scale_rows = (rows_), .scale_cols = (cols_)}                \
        }                                                                                          \
    }
#define GPTQ(encoding_, add_)                                                                      \
    {                                                                                              \
        .method = HDL_QUANT_GPTQ, .n_schemes = 1,                                                  \
        .schemes = {{.encoding = (encoding_), .scale_rows = 1, .scale_cols = 64}},                 \
        .zero_add = (add_)                                                                         \
    }
#define BITNET(divides)                                                                            \
    {                                                                                              \
        .method = HDL_QUANT_BITNET, .scale_divides = (divides)                                     \
    }

static const layout_case cases[] = {
    {"fp8_block", "w.weight", SCHEME(FP8, HDL_ENC_E4M3, 128, 128), 1, 152, 320, 0, HDL_ENC_E4M3},
    {"fp8_ue8m0", "w.weight", SCHEME(FP8, HDL_ENC_E4M3, 128, 128), 1, 152, 320, 0, HDL_ENC_E4M3},
    {"fp8_tensor", "w.weight", SCHEME(HDL_QUANT_MODELOPT, HDL_ENC_E4M3, 0, 0), 1, 152, 320, 0,
     HDL_ENC_E4M3},
    {"fp8_channel", "w.weight", SCHEME(CT, HDL_ENC_E4M3, 1, 0), 1, 24, 64, 0, HDL_ENC_E4M3},
    {"int4_g32", "w.weight", SCHEME(CT, HDL_ENC_INT4, 1, 32), 1, 24, 128, 0, HDL_ENC_INT4},
    {"int4_g128", "w.weight", SCHEME(CT, HDL_ENC_INT4, 1, 128), 1, 8, 256, 0, HDL_ENC_INT4},
    {"int4_zero", "w.weight", SCHEME(CT, HDL_ENC_INT4Z, 1, 64), 1, 24, 128, 0, HDL_ENC_INT4Z},
    {"int4_channel", "w.weight", SCHEME(CT, HDL_ENC_INT4, 1, 0), 1, 8, 96, 0, HDL_ENC_INT4},
    {"int8_packed", "w.weight", SCHEME(CT, HDL_ENC_INT8, 1, 32), 1, 8, 64, 0, HDL_ENC_INT8},
    {"int8", "w.weight", SCHEME(CT, HDL_ENC_INT8, 1, 0), 1, 8, 96, 0, HDL_ENC_INT8},
    {"nvfp4", "w.weight", SCHEME(CT, HDL_ENC_NVFP4, 1, 16), 1, 24, 128, 0, HDL_ENC_NVFP4},
    {"nvfp4_modelopt", "w.weight", SCHEME(HDL_QUANT_MODELOPT, HDL_ENC_NVFP4, 1, 16), 1, 24, 128, 0,
     HDL_ENC_NVFP4},
    {"mxfp4", "w.weight", SCHEME(CT, HDL_ENC_MXFP4, 1, 32), 1, 24, 128, 0, HDL_ENC_MXFP4},
    {"mxfp4_experts", "w", SCHEME(HDL_QUANT_MXFP4, HDL_ENC_MXFP4, 1, 32), 2, 24, 128, 1,
     HDL_ENC_MXFP4},
    {"bitnet", "w.weight", BITNET(true), 1, 16, 64, 0, HDL_ENC_TERNARY},
    {"bitnet_auto", "w.weight", BITNET(false), 1, 16, 64, 0, HDL_ENC_TERNARY},
    {"awq", "w.weight", SCHEME(HDL_QUANT_AWQ, HDL_ENC_AWQ4, 1, 128), 1, 24, 256, 0, HDL_ENC_AWQ4},
    {"gptq_sym", "w.weight", GPTQ(HDL_ENC_GPTQ4, 1), 1, 16, 128, 0, HDL_ENC_GPTQ4},
    {"gptq_zero", "w.weight", GPTQ(HDL_ENC_GPTQ4Z, 1), 1, 16, 128, 0, HDL_ENC_GPTQ4Z},
    {"gptq_v2", "w.weight", GPTQ(HDL_ENC_GPTQ4Z, 0), 1, 16, 128, 0, HDL_ENC_GPTQ4Z},
    {"gptq_act", "w.weight", GPTQ(HDL_ENC_GPTQ4G, 1), 1, 16, 128, 0, HDL_ENC_GPTQ4G},
    {"gptq8", "w.weight", GPTQ(HDL_ENC_GPTQ8, 1), 1, 16, 128, 0, HDL_ENC_GPTQ8},
    {"gptq8_zero", "w.weight", GPTQ(HDL_ENC_GPTQ8Z, 1), 1, 16, 128, 0, HDL_ENC_GPTQ8Z},
};

static char *file;
static size_t file_len;

static int setup(void **state)
{
    (void)state;
    file = rig_read(CASES, &file_len);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(file);
    return 0;
}

static uint32_t fnv(const float *x, uint32_t n)
{
    uint32_t h = 0x811c9dc5;
    for (uint32_t i = 0; i < n; i++) {
        float value = x[i] + 0.0f; /* -0 is read as +0 */
        unsigned char bytes[4];
        memcpy(bytes, &value, sizeof(bytes));
        for (int j = 0; j < 4; j++)
            h = (h ^ bytes[j]) * 0x01000193u;
    }
    return h;
}

/* An open file and the search for a case's matrix in it. */
typedef struct look {
    hdl_st *st;
    unsigned char used[512];
    char name[64];
    hdl_st_quant ask;
    hdl_source found;
    const char *codes;
    hdl_errmsg why;
} look;

static hdl_err look_open(look *l, const layout_case *c, const char *bytes)
{
    memset(l, 0, sizeof(*l));
    if (hdl_st_open_bytes(&l->st, bytes, file_len, &l->why) != HDL_OK)
        fail_msg("%s", l->why.text);
    assert_true(hdl_st_count(l->st) <= sizeof(l->used));
    snprintf(l->name, sizeof(l->name), "%s.%s", c->name, c->matrix);
    l->ask = (hdl_st_quant){.st = l->st,
                            .used = l->used,
                            .quant = &c->quant,
                            .name = l->name,
                            .experts = c->experts,
                            .rows = c->rows,
                            .cols = c->cols,
                            .expert = c->expert};
    return hdl_st_quant_find(&l->ask, &l->found, &l->codes, &l->why);
}

static void test_layouts(void **state)
{
    static look l;
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        const layout_case *c = &cases[i];
        char sums[64];
        if (look_open(&l, c, file) != HDL_OK)
            fail_msg("%s: %s", c->name, l.why.text);
        assert_non_null(l.codes);
        assert_int_equal(l.found.encoding, c->encoding);
        assert_true(hdl_source_is_finite(&l.found));
        snprintf(sums, sizeof(sums), "%s.sums", c->name);
        const int64_t *want = hdl_st_find(l.st, sums)->data;
        float *row = malloc(c->cols * sizeof(*row));
        for (uint32_t r = 0; r < c->rows; r++) {
            hdl_source_values(&l.found, (hdl_span){.row = r, .n = (uint32_t)c->cols}, row);
            if (fnv(row, (uint32_t)c->cols) != (uint32_t)want[r])
                fail_msg("%s: row %u has other values than its tool reads", c->name, r);
        }
        for (size_t t = 0; t < hdl_st_count(l.st); t++) {
            const char *name = hdl_st_at(l.st, t)->name;
            bool of_case = strncmp(name, l.name, strcspn(l.name, ".") + 1) == 0;
            if (of_case && !l.used[t] && strcmp(name, sums) != 0 && !hdl_st_quant_ignores(name))
                fail_msg("%s is not marked as used", name);
        }
        free(row);
        hdl_st_close(l.st);
    }
}

/* ---- lies --------------------------------------------------------------------------------- */

/* A copy of the file in which one piece of the header is another of the same length. */
static char *spoilt(const char *from, const char *to)
{
    char *copy = malloc(file_len);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(copy, file, file_len);
    char *at = memmem(copy, file_len, from, strlen(from));
    if (!at)
        fail_msg("the cases hold no %s", from);
    memcpy(at, to, strlen(to));
    return copy;
}

static const layout_case *case_of(const char *name)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++)
        if (strcmp(cases[i].name, name) == 0)
            return &cases[i];
    fail_msg("no case %s", name);
    return NULL;
}

static void test_lies(void **state)
{
    static const struct {
        const char *name, *from, *to, *word;
    } lies[] = {
        {"fp8_block", "fp8_block.w.weight_scale_inv", "fp8_block.w.weight_scale_inx", "no scales"},
        {"fp8_block", "\"shape\":[152,320]", "\"shape\":[320,152]", "shape"},
        {"int4_g32", "int4_g32.w.weight_scale", "int4_g32.w.weight_scalx", "no scales"},
        {"int4_zero", "int4_zero.w.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[24,2]",
         "int4_zero.w.weight_scale\":{\"dtype\":\"BF16\",\"shape\":[12,4]", "weight_scale"},
        {"int4_zero", "weight_zero_point\":{\"dtype\":\"I32\",\"shape\":[3,2]",
         "weight_zero_point\":{\"dtype\":\"I32\",\"shape\":[2,3]", "zero"},
        {"nvfp4", "nvfp4.w.weight_scale\":{\"dtype\":\"F8_E4M3\",\"shape\":[24,8]",
         "nvfp4.w.weight_scale\":{\"dtype\":\"F8_E4M3\",\"shape\":[48,4]", "weight_scale"},
        {"mxfp4_experts", "\"shape\":[2,24,4,16]", "\"shape\":[2,24,8, 8]", "shape"},
        {"mxfp4_experts", "mxfp4_experts.w_scales", "mxfp4_experts.w_scalez", "no scales"},
        {"bitnet", "bitnet.w.weight_scale", "bitnet.w.weight_scalx", "no scales"},
        {"bitnet", "bitnet.w.weight\":{\"dtype\":\"U8\",\"shape\":[4,64]",
         "bitnet.w.weight\":{\"dtype\":\"U8\",\"shape\":[8,32]", "shape"},
        {"awq", "awq.w.qzeros", "awq.w.qzerox", "no scales"},
        {"awq", "awq.w.qweight\":{\"dtype\":\"I32\",\"shape\":[256,3]",
         "awq.w.qweight\":{\"dtype\":\"I32\",\"shape\":[3,256]", "shape"},
        {"gptq_act", "gptq_act.w.scales\":{\"dtype\":\"F16\",\"shape\":[2,16]",
         "gptq_act.w.scales\":{\"dtype\":\"F16\",\"shape\":[16,2]", "scales"},
        {"gptq_act", "gptq_act.w.g_idx\":{\"dtype\":\"I32\",\"shape\":[128]",
         "gptq_act.w.g_idx\":{\"dtype\":\"F32\",\"shape\":[128]", "group"},
    };
    static look l;
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(lies); i++) {
        char *bytes = spoilt(lies[i].from, lies[i].to);
        hdl_err err = look_open(&l, case_of(lies[i].name), bytes);
        if (err == HDL_OK || !strstr(l.why.text, lies[i].word))
            fail_msg("%s: \"%s\" does not say %s", lies[i].to, l.why.text, lies[i].word);
        hdl_st_close(l.st);
        free(bytes);
    }
}

/* Bytes of a tensor of the cases, to be overwritten in a copy. */
static char *bytes_of(char *copy, const char *name)
{
    hdl_st *st = NULL;
    hdl_errmsg why = {0};
    assert_int_equal(hdl_st_open_bytes(&st, copy, file_len, &why), HDL_OK);
    char *at = (char *)(uintptr_t)hdl_st_find(st, name)->data;
    hdl_st_close(st);
    return at;
}

static void test_numbers_that_are_none(void **state)
{
    static look l;
    const float nan = 0.0f / 0.0f * -1, minus = -1;
    const int32_t group = 2;
    (void)state;
    char *copy = malloc(file_len);
    memcpy(copy, file, file_len);
    memcpy(bytes_of(copy, "fp8_block.w.weight_scale_inv") + 8, &nan, 4);
    assert_int_equal(look_open(&l, case_of("fp8_block"), copy), HDL_OK);
    assert_false(hdl_source_is_finite(&l.found));
    hdl_window without = {.n_rows = 152, .n_cols = 256}; /* the NaN lies in the third column */
    hdl_source part = hdl_source_part(&l.found, without);
    assert_true(hdl_source_is_finite(&part));
    hdl_st_close(l.st);

    bytes_of(copy, "fp8_tensor.w.weight")[17] = 0x7f; /* E4M3's NaN */
    assert_int_equal(look_open(&l, case_of("fp8_tensor"), copy), HDL_OK);
    assert_false(hdl_source_is_finite(&l.found));
    hdl_st_close(l.st);

    memcpy(bytes_of(copy, "nvfp4.w.weight_global_scale"), &minus, 4);
    assert_int_equal(look_open(&l, case_of("nvfp4"), copy), HDL_CORRUPT);
    hdl_st_close(l.st);

    memcpy(bytes_of(copy, "gptq_act.w.g_idx") + 40, &group, 4);
    assert_int_equal(look_open(&l, case_of("gptq_act"), copy), HDL_CORRUPT);
    assert_non_null(strstr(l.why.text, "does not exist"));
    hdl_st_close(l.st);
    free(copy);
}

/* What is asked for is not there, or of another shape than the model's: not found, or refused. */
static void test_other_models(void **state)
{
    static look l;
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        layout_case other = cases[i];
        other.rows += 8;
        hdl_err err = look_open(&l, &other, file);
        assert_int_not_equal(err, HDL_OK);
        assert_non_null(strstr(l.why.text, cases[i].name));
        hdl_st_close(l.st);
        other = cases[i];
        other.matrix = "v.weight";
        assert_int_equal(look_open(&l, &other, file), HDL_OK);
        assert_null(l.codes);
        hdl_st_close(l.st);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_numbers_that_are_none),
        cmocka_unit_test(test_other_models),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
