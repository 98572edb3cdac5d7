/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files for the tests of the loader: models of the rig as llama.cpp's converter writes them,
 * and models whose matrices are of any ggml type. */
#pragma once

#include "rig.h"

/* Bytes of a tests/golden/gguf/NAME.head. */
typedef struct rig_head {
    const char *bytes;
    size_t len;
} rig_head;
/* Makes a new folder `dir` with model.gguf: the weights of hf_dir, which rig_make_model has made of
 * config_json in F32, at the places where the converter would write them. Fails the test when some
 * tensor's data are not those that the converter made. */
void rig_make_gguf(char dir[256], const char *hf_dir, const char *config_json, rig_head head);

/* A model of the architecture "llama", with experts a Mixtral, without them a Llama. */
typedef struct rig_gguf_spec {
    uint32_t type;   /* ggml's number, of all matrices but the router */
    uint32_t larger; /* of the head, v and down (Q4_K_M does so); 0: the same */
    bool values;     /* their values as F32 instead */
    uint32_t hidden, inter, n_layers, n_heads, n_kv_heads, vocab;
    uint32_t n_experts; /* two of them for each token */
    const char *extra;  /* a further key with a u32; NULL: none */
    uint32_t extra_value;
} rig_gguf_spec;
/* Random blocks, the same for the same shape and type, of weights as large as the rig's others. */
void rig_write_gguf(const char *path, const rig_gguf_spec *spec);
