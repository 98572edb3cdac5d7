/* SPDX-License-Identifier: Apache-2.0 */
/* Llama 2 to 3.3 and what is distilled into them: dense, grouped-query attention, SwiGLU.
 * HF: modeling_llama.py. */
#include "worker/model/arch_hf.h"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("attention_bias", hdl_arch_key_bias),
    HDL_K_BOOL("mlp_bias", ffn_bias),
    HDL_K_EXPECT("pretraining_tp", "1", "sums cut up as in pre-training are not supported"),
    HDL_K_EXPECT("rope_interleaved", "false", "interleaved rotation is not supported"),
    HDL_K_SKIP("is_llama_config"), /* SmolLM's converter */
    HDL_K_REFUSE("sliding_window", "Llama has no sliding window; is this another architecture?"),
};

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),  HDL_HF_ATTENTION(""),     HDL_HF_QKV_BIAS(""),
    HDL_HF_O_BIAS(""), HDL_HF_DENSE("", "mlp."), HDL_HF_DENSE_BIAS("", "mlp."),
};

const hdl_arch hdl_arch_llama = {
    .name = "LlamaForCausalLM",
    .model_type = "llama",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
};
