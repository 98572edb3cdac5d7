/* SPDX-License-Identifier: Apache-2.0 */
/* Renders chat templates on request, for templates.py to compare with transformers.
 *
 * Each record on stdin: u32 length of the template, template, u32 length of the chat, chat as JSON
 * {messages, tools, documents, kwargs, special, add_generation_prompt, continue_final, now}.
 * Answer: u32 hdl_err, u32 length, text or message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/template.h"

static char *read_block(uint32_t *len)
{
    if (fread(len, sizeof *len, 1, stdin) != 1 || *len > 64u << 20)
        return NULL;
    char *block = malloc((size_t)*len + 1);
    if (block != NULL && fread(block, 1, *len, stdin) != *len) {
        free(block);
        return NULL;
    }
    return block;
}

static const char *text_of(const hdl_jv *object, const char *key)
{
    const char *text = NULL;
    hdl_jv v = hdl_jv_get(object, key);
    return hdl_jv_string(&v, &text, NULL, NULL) == HDL_OK ? text : NULL;
}

static bool flag_of(const hdl_jv *object, const char *key)
{
    bool flag = false;
    hdl_jv v = hdl_jv_get(object, key);
    return hdl_jv_bool(&v, &flag, NULL) == HDL_OK && flag;
}

static hdl_err render(const char *source, uint32_t n_source, const hdl_jv *root, hdl_buf *out,
                      hdl_errmsg *why)
{
    const hdl_jv_range any = {0, INT64_MAX};
    hdl_jv messages = hdl_jv_get(root, "messages"), tools = hdl_jv_get(root, "tools");
    hdl_jv documents = hdl_jv_get(root, "documents"), kwargs = hdl_jv_get(root, "kwargs");
    hdl_jv special = hdl_jv_get(root, "special"), now = hdl_jv_get(root, "now");
    hdl_special_texts texts = {text_of(&special, "bos_token"), text_of(&special, "eos_token"),
                               text_of(&special, "pad_token"), text_of(&special, "unk_token")};
    int64_t now_us = 0;
    (void)!hdl_jv_int(&now, any, &now_us, NULL);
    hdl_chat chat = {.messages = &messages,
                     .tools = hdl_jv_given(&tools) ? &tools : NULL,
                     .documents = hdl_jv_given(&documents) ? &documents : NULL,
                     .kwargs = hdl_jv_given(&kwargs) ? &kwargs : NULL,
                     .special = &texts,
                     .add_generation_prompt = flag_of(root, "add_generation_prompt"),
                     .continue_final = flag_of(root, "continue_final"),
                     .now_wall_us = (uint64_t)now_us};
    hdl_template *tpl;
    HDL_TRY(hdl_template_open(&tpl, source, n_source, why));
    hdl_err err = hdl_template_render(tpl, &chat, out, why);
    hdl_template_free(tpl);
    return err;
}

int main(void)
{
    uint32_t n_source, n_chat;
    for (char *source; (source = read_block(&n_source)) != NULL; free(source)) {
        char *chat = read_block(&n_chat);
        hdl_json *doc;
        hdl_errmsg why = {""};
        hdl_buf out;
        if (chat == NULL || hdl_json_parse(chat, n_chat, 0, &doc, &why) != HDL_OK) {
            fprintf(stderr, "template_probe: %s\n", why.text);
            return 1;
        }
        hdl_buf_init(&out, 64u << 20);
        hdl_jv root = hdl_json_root(doc);
        uint32_t err = render(source, n_source, &root, &out, &why);
        uint32_t len = err == HDL_OK ? (uint32_t)out.len : (uint32_t)strlen(why.text);
        fwrite(&err, sizeof err, 1, stdout);
        fwrite(&len, sizeof len, 1, stdout);
        fwrite(err == HDL_OK ? (const char *)hdl_buf_data(&out) : why.text, 1, len, stdout);
        fflush(stdout);
        hdl_buf_deinit(&out);
        hdl_json_close(doc);
        free(chat);
    }
    return 0;
}
