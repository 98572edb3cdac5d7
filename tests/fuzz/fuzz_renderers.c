/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign conversations through each renderer of models without a template. What comes out is one
 * text with ascending ranges of the renderer's own. Input: a conversation as JSON {messages, tools,
 * kwargs, continue_final}. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/text/render.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void render(const hdl_renderer *renderer, hdl_chat chat)
{
    hdl_errmsg why = {""};
    hdl_ranges own;
    hdl_buf out;
    hdl_buf_init(&out, 1 << 20);
    hdl_ranges_init(&own);
    chat.own = &own;
    if (hdl_renderer_run(renderer, &chat, &out, &why) != HDL_OK)
        HDL_ASSERT(why.text[0] != '\0');
    for (size_t i = 0; i < own.n; i++)
        HDL_ASSERT(own.v[i].at < own.v[i].end && own.v[i].end <= out.len &&
                   (i == 0 || own.v[i - 1].end < own.v[i].at));
    hdl_ranges_deinit(&own);
    hdl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const hdl_renderer *const all[] = {&hdl_harmony,    &hdl_dsml_v32,   &hdl_dsml_v4,
                                              &hdl_mistral_v3, &hdl_mistral_v7, &hdl_mistral_v11,
                                              &hdl_mistral_v13};
    hdl_json *doc;
    hdl_errmsg why = {""};
    bool open = false;
    if (hdl_json_parse((const char *)data, size, 0, &doc, &why) != HDL_OK)
        return 0;
    hdl_jv root = hdl_json_root(doc), messages = hdl_jv_get(&root, "messages"),
           tools = hdl_jv_get(&root, "tools"), kwargs = hdl_jv_get(&root, "kwargs"),
           final = hdl_jv_get(&root, "continue_final");
    (void)!hdl_jv_bool(&final, &open, NULL);
    hdl_chat chat = {.messages = &messages,
                     .tools = hdl_jv_given(&tools) ? &tools : NULL,
                     .kwargs = hdl_jv_given(&kwargs) ? &kwargs : NULL,
                     .continue_final = open,
                     .add_generation_prompt = !open,
                     .now_wall_us = 1767632946000000};
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++)
        render(all[i], chat);
    hdl_json_close(doc);
    return 0;
}
