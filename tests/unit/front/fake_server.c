/* SPDX-License-Identifier: Apache-2.0 */
/* A server around the fake engine, for trying clients by hand: `fake_server [PORT [PACE_US]]`. Its
 * answers repeat the prompt. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "fake_engine.h"
#include "scheduler/front/front.h"

static const char template_source[] =
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    hdl_tokenizer *tok;
    hdl_template *chat;
    hdl_front *front;
    sigset_t set;
    int sig;
    hdl_thread_block_signals();
    fake_engine *engine = fake_engine_open();
    fake_engine_pace(engine, argc > 2 ? (uint32_t)atoi(argv[2]) : 2000);
    if (hdl_tokenizer_open(&tok, HDL_SOURCE_DIR "/deploy/demo-model", &why) != HDL_OK ||
        hdl_template_open(&chat, template_source, sizeof template_source - 1, &why) != HDL_OK) {
        fprintf(stderr, "fake_server: %s\n", why.text);
        return 1;
    }
    hdl_front_model model = {
        .engine = fake_engine_vtable(engine), .tokenizer = tok, .chat = chat, .name = "fake"};
    hdl_front_opts opts = {
        .port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 0), .n_threads = 2, .model = &model};
    if (hdl_front_open(&front, &opts, &why) != HDL_OK) {
        fprintf(stderr, "fake_server: %s\n", why.text);
        return 1;
    }
    printf("http://127.0.0.1:%u\n", hdl_front_port(front));
    fflush(stdout);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &sig);
    hdl_front_stop(front);
    fake_engine_close(engine);
    hdl_front_close(front);
    hdl_template_free(chat);
    hdl_tokenizer_free(tok);
    return 0;
}
