/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies: the first byte chooses chat or completion, the rest is JSON. What is taken must lie
 * inside the limits of the API; what is refused must say a status and a reason. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/front/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const hdl_engine_info info = {
    .ready = true, .max_len = 1000, .vocab = 2000, .kv_tokens_capacity = 5000};

static void check_number(double v, double lo, double hi)
{
    HDL_ASSERT(isnan(v) || (v >= lo && v <= hi));
}

static void check_taken(const hdl_api_params *p)
{
    check_number(p->temperature, 0, 2);
    check_number(p->top_p, 0, 1);
    check_number(p->min_p, 0, 1);
    check_number(p->frequency_penalty, -2, 2);
    check_number(p->presence_penalty, -2, 2);
    HDL_ASSERT(p->model != NULL);
    HDL_ASSERT(p->n >= 1 && p->n <= HDL_CHOICES_MAX);
    HDL_ASSERT(p->n_prompts >= 1 && p->n_prompts <= HDL_PROMPTS_MAX);
    HDL_ASSERT(p->n_stops <= HDL_STOP_STRINGS_MAX && p->n_bias <= HDL_LOGIT_BIAS_MAX);
    HDL_ASSERT(p->n_stop_ids <= HDL_STOP_IDS_MAX);
    HDL_ASSERT(p->priority >= 0 && p->priority < HDL_PRIORITIES);
    HDL_ASSERT(p->logprobs_n >= -1 && p->logprobs_n <= HDL_TOP_LOGPROBS_MAX);
    for (uint32_t i = 0; i < p->n_bias; i++)
        HDL_ASSERT(fabsf(p->bias[i].bias) <= 100 && p->bias[i].token < (int32_t)info.vocab);
    for (uint32_t i = 0; i < p->n_stops; i++)
        HDL_ASSERT(p->stops[i].len >= 1 && p->stops[i].len <= HDL_STOP_STRING_BYTES_MAX);
    for (size_t n_prompt = 0; n_prompt <= info.max_len + 1; n_prompt += 77) {
        uint32_t max_new = 0;
        hdl_api_error err;
        if (hdl_api_admit_length(p, &info, n_prompt, &max_new, &err))
            HDL_ASSERT(n_prompt + max_new <= info.max_len);
    }
}

static bool read_body(const hdl_json *doc, hdl_api_kind kind, hdl_api_error *err)
{
    hdl_api_params params;
    hdl_json *plain = NULL;
    hdl_api_message_facts facts = {0};
    hdl_jv root = hdl_json_root(doc);
    bool ok = hdl_api_parse(&params, kind, &root, err) && hdl_api_admit(&params, &info, err) &&
              (kind != HDL_API_CHAT || hdl_api_check_messages(&params.messages, &facts, err));
    if (ok)
        check_taken(&params);
    if (ok && kind == HDL_API_CHAT)
        HDL_ASSERT(hdl_api_plain_messages(&params.messages, !facts.calls, &plain, err));
    hdl_json_close(plain);
    hdl_api_params_deinit(&params);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_json *doc = NULL;
    hdl_api_error err;
    if (size < 1)
        return 0;
    hdl_api_kind kind = data[0] & 1 ? HDL_API_CHAT : HDL_API_COMPLETION;
    bool ok = hdl_api_parse_json(&doc, data + 1, size - 1, &err) && read_body(doc, kind, &err);
    if (!ok) {
        HDL_ASSERT(err.status >= 400 && err.message.text[0] != 0);
        hdl_buf out;
        hdl_buf_init(&out, 65536);
        hdl_api_error_write(&err, &out);
        HDL_ASSERT(hdl_buf_ok(&out));
        hdl_buf_deinit(&out);
    }
    hdl_json_close(doc);
    return 0;
}
