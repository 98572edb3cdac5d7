/* SPDX-License-Identifier: Apache-2.0 */
/* Renders chat templates on request, for templates.py to compare with transformers.
 *
 * Each record on stdin: u32 length of the template, template (or "model_type:TYPE",
 * "tekken:VERSION" of a model that has none), u32 length of the chat, chat as JSON {messages,
 * tools, documents, kwargs, special, add_generation_prompt, continue_final, now}. Answer: u32
 * hdl_err, u32 length, text or message, u32 count, where the text is the template's own (u32 at,
 * u32 end each). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/template.h"
#include "scheduler/text/vocab.h"

static char *read_block(uint32_t *len)
{
    if (fread(len, sizeof *len, 1, stdin) != 1 || *len > 64u << 20)
        return NULL;
    char *block = malloc((size_t)*len + 1);
    if (block != NULL && fread(block, 1, *len, stdin) != *len) {
        free(block);
        return NULL;
    }
    if (block != NULL)
        block[*len] = '\0';
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

static hdl_err open_template(hdl_template **out, hdl_text source, hdl_errmsg *why)
{
    static const char type[] = "model_type:", tekken[] = "tekken:";
    hdl_tok_info info = {0};
    if (strncmp(source.p, type, sizeof type - 1) == 0)
        info.model_type = source.p + sizeof type - 1;
    else if (strncmp(source.p, tekken, sizeof tekken - 1) == 0)
        info.tekken_version = source.p + sizeof tekken - 1;
    else
        return hdl_template_open(out, source.p, source.len, why);
    return hdl_template_open_model(out, &info, why);
}

typedef struct answer {
    hdl_buf text;
    hdl_ranges own;
    hdl_errmsg why;
} answer;

static hdl_err render(hdl_text source, const hdl_jv *root, answer *out)
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
                     .now_wall_us = (uint64_t)now_us,
                     .own = &out->own};
    hdl_template *tpl;
    HDL_TRY(open_template(&tpl, source, &out->why));
    hdl_err err = hdl_template_render(tpl, &chat, &out->text, &out->why);
    hdl_template_free(tpl);
    return err;
}

static void put(uint32_t v) { fwrite(&v, sizeof v, 1, stdout); }

static void write_answer(hdl_err err, const answer *a)
{
    const char *text = err == HDL_OK ? (const char *)hdl_buf_data(&a->text) : a->why.text;
    uint32_t len = (uint32_t)(err == HDL_OK ? a->text.len : strlen(text));
    put((uint32_t)err);
    put(len);
    fwrite(text, 1, len, stdout);
    put((uint32_t)a->own.n);
    for (size_t i = 0; i < a->own.n; i++) {
        put((uint32_t)a->own.v[i].at);
        put((uint32_t)a->own.v[i].end);
    }
    fflush(stdout);
}

int main(void)
{
    uint32_t n_source, n_chat;
    for (char *source; (source = read_block(&n_source)) != NULL; free(source)) {
        char *chat = read_block(&n_chat);
        hdl_json *doc;
        answer a = {0};
        if (chat == NULL || hdl_json_parse(chat, n_chat, 0, &doc, &a.why) != HDL_OK) {
            fprintf(stderr, "template_probe: %s\n", a.why.text);
            return 1;
        }
        hdl_buf_init(&a.text, 64u << 20);
        hdl_jv root = hdl_json_root(doc);
        write_answer(render((hdl_text){source, n_source}, &root, &a), &a);
        hdl_buf_deinit(&a.text);
        hdl_ranges_deinit(&a.own);
        hdl_json_close(doc);
        free(chat);
    }
    return 0;
}
