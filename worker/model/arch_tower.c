/* SPDX-License-Identifier: Apache-2.0 */
/* How many parameters the tower of images has that stands in a model's files and is not run: so
 * that heddle inspect can print the count that the publisher prints. HF: modeling_llama4.py
 * (Llama4VisionModel, Llama4MultiModalProjector), modeling_siglip.py, modeling_gemma3.py. */
#include "worker/model/arch.h"

/* A transformer over patches of a picture: with biases, two norms of weight and bias a layer. */
typedef struct tower {
    int64_t width, inner, n_layers, picture, patch;
    int64_t join_in, join_out, out; /* Llama 4: after four patches became one */
} tower;

static const tower llama4 = {.width = 1408,
                             .inner = 5632,
                             .n_layers = 34,
                             .picture = 336,
                             .patch = 14,
                             .join_in = 4096,
                             .join_out = 4096,
                             .out = 4096};
static const tower gemma3 = {
    .width = 1152, .inner = 4304, .n_layers = 27, .picture = 896, .patch = 14};

static hdl_err read_tower(tower *out, const hdl_jv *v, hdl_errmsg *why)
{
    const struct {
        const char *key;
        int64_t *at;
    } keys[] = {
        {"hidden_size", &out->width},
        {"intermediate_size", &out->inner},
        {"num_hidden_layers", &out->n_layers},
        {"image_size", &out->picture},
        {"patch_size", &out->patch},
        {"projector_input_dim", &out->join_in},
        {"projector_output_dim", &out->join_out},
        {"vision_output_dim", &out->out},
    };
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_expect(v, HDL_JSON_OBJECT, why));
    for (size_t i = 0; i < HDL_ARRAY_LEN(keys); i++) {
        hdl_jv value = hdl_jv_get(v, keys[i].key);
        if (hdl_jv_given(&value))
            HDL_TRY(hdl_jv_int(&value, (hdl_jv_range){1, 1 << 16}, keys[i].at, why));
    }
    return HDL_OK;
}

static uint64_t layers_params(const tower *t)
{
    int64_t attention = 4 * t->width * (t->width + 1);
    int64_t ffn = 2 * t->width * t->inner + t->inner + t->width, norms = 4 * t->width;
    return (uint64_t)(t->n_layers * (attention + ffn + norms));
}

static int64_t patches(const tower *t)
{
    int64_t side = t->picture / t->patch;
    return side * side;
}

static int64_t patch_values(const tower *t) { return 3 * t->patch * t->patch; }

/* A vector for the whole picture beside the patches; norms before and after the layers; a
 * multi-layer perceptron after them. */
static hdl_tower llama4_of(const tower *t)
{
    int64_t around = t->width * (patch_values(t) + 1 + patches(t) + 1 + 4);
    int64_t join = t->inner * t->join_in + t->join_in * t->join_out;
    return (hdl_tower){.n_params = layers_params(t) + (uint64_t)(around + join),
                       .out_dim = (uint32_t)t->out};
}

/* A bias of the patches, a norm after the layers; a norm without a bias before the text model. */
static hdl_tower gemma3_of(const tower *t)
{
    int64_t around = t->width * (patch_values(t) + 1 + patches(t) + 2 + 1);
    return (hdl_tower){.n_params = layers_params(t) + (uint64_t)around,
                       .out_dim = (uint32_t)t->width};
}

hdl_tower hdl_arch_llama4_tower(void) { return llama4_of(&llama4); }

hdl_err hdl_arch_key_llama4_tower(hdl_model_desc *desc, const hdl_jv *value, hdl_errmsg *why)
{
    tower t = llama4;
    HDL_TRY(read_tower(&t, value, why));
    desc->tower = llama4_of(&t);
    return HDL_OK;
}

hdl_err hdl_arch_key_gemma3_tower(hdl_model_desc *desc, const hdl_jv *value, hdl_errmsg *why)
{
    tower t = gemma3;
    HDL_TRY(read_tower(&t, value, why));
    desc->tower = gemma3_of(&t);
    return HDL_OK;
}
