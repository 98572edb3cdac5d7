/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling defaults of a checkpoint: its generation_config.json. */
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "scheduler/front/front.h"

enum { FILE_BYTES_MAX = 1 << 20, PATH_BYTES_MAX = 4096 };

static hdl_err read_real(const hdl_jv *root, const char *key, float *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(root, key);
    double value;
    if (!hdl_jv_given(&v))
        return HDL_OK;
    HDL_TRY(hdl_jv_double(&v, &value, why));
    if (!(value >= 0 && value <= 100))
        return hdl_jv_fail(&v, why, "must be between 0 and 100");
    *out = (float)value;
    return HDL_OK;
}

static hdl_err read_config(hdl_front_sampling *out, const hdl_jv *root, hdl_errmsg *why)
{
    hdl_jv sample = hdl_jv_get(root, "do_sample"), top_k = hdl_jv_get(root, "top_k");
    bool do_sample = true;
    int64_t k = 0;
    HDL_TRY(read_real(root, "temperature", &out->temperature, why));
    HDL_TRY(read_real(root, "top_p", &out->top_p, why));
    HDL_TRY(read_real(root, "min_p", &out->min_p, why));
    HDL_TRY(read_real(root, "repetition_penalty", &out->repetition_penalty, why));
    if (hdl_jv_given(&top_k))
        HDL_TRY(hdl_jv_int(&top_k, (hdl_jv_range){-1, INT32_MAX}, &k, why));
    out->top_k = (int32_t)k;
    if (hdl_jv_given(&sample))
        HDL_TRY(hdl_jv_bool(&sample, &do_sample, why));
    if (!do_sample)
        out->temperature = 0; /* the model's makers mean greedy */
    return HDL_OK;
}

hdl_err hdl_front_sampling_load(hdl_front_sampling *out, const char *model_dir, hdl_errmsg *why)
{
    char path[PATH_BYTES_MAX];
    char *text = NULL;
    size_t len = 0;
    hdl_json *doc = NULL;
    *out = (hdl_front_sampling){.temperature = -1, .top_p = 1, .repetition_penalty = 1};
    if (!hdl_fs_is_dir(model_dir))
        return HDL_OK;
    HDL_TRY(hdl_fs_join(path, sizeof path, model_dir, "generation_config.json"));
    if (!hdl_fs_exists(path))
        return HDL_OK;
    HDL_TRY(hdl_fs_read(path, FILE_BYTES_MAX, &text, &len, why));
    hdl_err err = hdl_json_parse(text, len, 0, &doc, why);
    if (err == HDL_OK) {
        hdl_jv root = hdl_json_root(doc);
        err = read_config(out, &root, why);
    }
    if (err != HDL_OK)
        (void)hdl_fail_prefix(err, why, "%s", path);
    hdl_json_close(doc);
    free(text);
    return err;
}
