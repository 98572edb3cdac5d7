/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign chat templates: refused, stopped by a limit, or rendered; never more. The chat is fixed
 * and has everything in it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/text/template.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const char CHAT[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be "
    "brief.\"},{\"role\":\"user\",\"content\":\" \u00e9 <b> \\\"x\\\" \"},"
    "{\"role\":\"assistant\",\"content\":\"ok\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
    "\"arguments\":{\"a\":1}}}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"x\":[1,2.5,"
    "null,true]}}}],"
    "\"kwargs\":{\"n\":7,\"words\":[\"b\",\"A\"],\"nested\":{\"k\":{\"l\":[1]}}}}";

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static hdl_json *doc;
    hdl_errmsg why = {""};
    if (doc == NULL)
        HDL_ASSERT(hdl_json_parse(CHAT, sizeof CHAT - 1, 0, &doc, &why) == HDL_OK);
    hdl_template *tpl;
    if (hdl_template_open(&tpl, (const char *)data, size, &why) != HDL_OK) {
        HDL_ASSERT(why.text[0] != '\0');
        return 0;
    }
    hdl_jv root = hdl_json_root(doc), messages = hdl_jv_get(&root, "messages"),
           tools = hdl_jv_get(&root, "tools");
    hdl_jv kwargs = hdl_jv_get(&root, "kwargs");
    hdl_special_texts special = {.bos = "<s>", .eos = "</s>"};
    hdl_chat chat = {.messages = &messages,
                     .tools = &tools,
                     .kwargs = &kwargs,
                     .special = &special,
                     .continue_final = size % 2,
                     .add_generation_prompt = size % 2 == 0,
                     .now_wall_us = 1767632946000000};
    hdl_buf out;
    hdl_buf_init(&out, 1 << 20);
    if (hdl_template_render(tpl, &chat, &out, &why) != HDL_OK)
        HDL_ASSERT(why.text[0] != '\0');
    hdl_buf_deinit(&out);
    hdl_template_free(tpl);
    return 0;
}
