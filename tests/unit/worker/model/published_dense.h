/* SPDX-License-Identifier: Apache-2.0 */
/* Published configurations of dense models that do not lie beside the project, cut to the keys that
 * a description needs, for test_published.c. */
#pragma once

#define NEMO_KEYS                                                                                  \
    "\"architectures\":[\"MistralForCausalLM\"],\"head_dim\":128,\"hidden_act\":\"silu\","         \
    "\"hidden_size\":5120,\"num_attention_heads\":32,\"num_hidden_layers\":40,"                    \
    "\"num_key_value_heads\":8,\"rms_norm_eps\":1e-05,\"sliding_window\":null,"                    \
    "\"tie_word_embeddings\":false,\"vocab_size\":131072"
static const char mistral_nemo[] =
    "{" NEMO_KEYS ",\"intermediate_size\":14336,\"max_position_embeddings\":131072,"
    "\"rope_theta\":1000000.0}";
static const char mistral_small[] =
    "{" NEMO_KEYS ",\"intermediate_size\":32768,\"max_position_embeddings\":32768,"
    "\"rope_theta\":100000000.0}";
static const char ministral_8b[] =
    "{\"architectures\":[\"MistralForCausalLM\"],\"head_dim\":128,\"hidden_act\":\"silu\","
    "\"hidden_size\":4096,\"intermediate_size\":12288,\"max_position_embeddings\":32768,"
    "\"num_attention_heads\":32,\"num_hidden_layers\":36,\"num_key_value_heads\":8,"
    "\"rms_norm_eps\":1e-05,\"rope_theta\":100000000.0,\"sliding_window\":32768,"
    "\"tie_word_embeddings\":false,\"vocab_size\":131072}";

#define LLAMA32_KEYS                                                                               \
    "\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"mlp_bias\":false,"        \
    "\"hidden_act\":\"silu\",\"intermediate_size\":8192,\"max_position_embeddings\":131072,"       \
    "\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,"                       \
    "\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,"          \
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"                         \
    "\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"vocab_size\":128256"
static const char llama32_1b[] =
    "{" LLAMA32_KEYS ",\"head_dim\":64,\"hidden_size\":2048,\"num_attention_heads\":32,"
    "\"num_hidden_layers\":16}";
static const char llama32_3b[] =
    "{" LLAMA32_KEYS ",\"head_dim\":128,\"hidden_size\":3072,\"num_attention_heads\":24,"
    "\"num_hidden_layers\":28}";
static const char llama2_7b[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_act\":\"silu\",\"hidden_size\":4096,"
    "\"intermediate_size\":11008,\"max_position_embeddings\":4096,\"num_attention_heads\":32,"
    "\"num_hidden_layers\":32,\"num_key_value_heads\":32,\"pretraining_tp\":1,"
    "\"rms_norm_eps\":1e-05,\"rope_scaling\":null,\"tie_word_embeddings\":false,"
    "\"vocab_size\":32000}";

#define QWEN25_KEYS                                                                                \
    "\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-06,"     \
    "\"rope_theta\":1000000.0,\"tie_word_embeddings\":false,\"use_mrope\":false,"                  \
    "\"use_sliding_window\":false,\"sliding_window\":131072,\"max_position_embeddings\":131072"
static const char qwen25_7b[] =
    "{" QWEN25_KEYS ",\"hidden_size\":3584,\"intermediate_size\":18944,\"max_window_layers\":28,"
    "\"num_attention_heads\":28,\"num_hidden_layers\":28,\"num_key_value_heads\":4,"
    "\"vocab_size\":152064}";
static const char r1_qwen_32b[] =
    "{" QWEN25_KEYS ",\"hidden_size\":5120,\"intermediate_size\":27648,\"max_window_layers\":64,"
    "\"num_attention_heads\":40,\"num_hidden_layers\":64,\"num_key_value_heads\":8,"
    "\"vocab_size\":152064}";

#define GEMMA_KEYS                                                                                 \
    "\"attention_bias\":false,\"hidden_activation\":\"gelu_pytorch_tanh\",\"rms_norm_eps\":1e-06"
#define GEMMA2_KEYS                                                                                \
    "\"architectures\":[\"Gemma2ForCausalLM\"]," GEMMA_KEYS ",\"attn_logit_softcapping\":50.0,"    \
    "\"cache_implementation\":\"hybrid\",\"final_logit_softcapping\":30.0,"                        \
    "\"hidden_act\":\"gelu_pytorch_tanh\",\"max_position_embeddings\":8192,"                       \
    "\"rope_theta\":10000.0,\"sliding_window\":4096,\"vocab_size\":256000"
static const char gemma2_2b[] =
    "{" GEMMA2_KEYS ",\"head_dim\":256,\"hidden_size\":2304,\"intermediate_size\":9216,"
    "\"num_attention_heads\":8,\"num_hidden_layers\":26,\"num_key_value_heads\":4,"
    "\"query_pre_attn_scalar\":256}";
static const char gemma2_9b[] =
    "{" GEMMA2_KEYS ",\"head_dim\":256,\"hidden_size\":3584,\"intermediate_size\":14336,"
    "\"num_attention_heads\":16,\"num_hidden_layers\":42,\"num_key_value_heads\":8,"
    "\"query_pre_attn_scalar\":256}";
static const char gemma2_27b[] =
    "{" GEMMA2_KEYS ",\"head_dim\":128,\"hidden_size\":4608,\"intermediate_size\":36864,"
    "\"num_attention_heads\":32,\"num_hidden_layers\":46,\"num_key_value_heads\":16,"
    "\"query_pre_attn_scalar\":144}";
static const char gemma3_1b[] =
    "{\"architectures\":[\"Gemma3ForCausalLM\"]," GEMMA_KEYS ",\"attn_logit_softcapping\":null,"
    "\"final_logit_softcapping\":null,\"head_dim\":256,\"hidden_size\":1152,"
    "\"intermediate_size\":6912,\"max_position_embeddings\":32768,\"num_attention_heads\":4,"
    "\"num_hidden_layers\":26,\"num_key_value_heads\":1,\"query_pre_attn_scalar\":256,"
    "\"rope_local_base_freq\":10000,\"rope_scaling\":null,\"rope_theta\":1000000,"
    "\"sliding_window\":512,\"sliding_window_pattern\":6,\"vocab_size\":262144}";
static const char gemma3_27b[] =
    "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"vision_config\":{},"
    "\"text_config\":{\"head_dim\":128,\"hidden_size\":5376,\"intermediate_size\":21504,"
    "\"model_type\":\"gemma3_text\",\"num_attention_heads\":32,\"num_hidden_layers\":62,"
    "\"num_key_value_heads\":16,\"query_pre_attn_scalar\":168,\"sliding_window\":1024,"
    "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"}}}";

#define PHI_KEYS                                                                                   \
    "\"architectures\":[\"Phi3ForCausalLM\"],\"attention_bias\":false,\"hidden_act\":\"silu\","    \
    "\"rms_norm_eps\":1e-05,\"resid_pdrop\":0.0,\"embd_pdrop\":0.0"
static const char phi3_mini[] =
    "{" PHI_KEYS ",\"hidden_size\":3072,\"intermediate_size\":8192,"
    "\"max_position_embeddings\":4096,\"num_attention_heads\":32,\"num_hidden_layers\":32,"
    "\"num_key_value_heads\":32,\"original_max_position_embeddings\":4096,"
    "\"rope_scaling\":null,\"sliding_window\":2047,\"tie_word_embeddings\":false,"
    "\"vocab_size\":32064}";
static const char phi4[] =
    "{" PHI_KEYS ",\"hidden_size\":5120,\"intermediate_size\":17920,"
    "\"max_position_embeddings\":16384,\"num_attention_heads\":40,\"num_hidden_layers\":40,"
    "\"num_key_value_heads\":10,\"original_max_position_embeddings\":16384,"
    "\"rope_scaling\":null,\"rope_theta\":250000,\"sliding_window\":null,"
    "\"tie_word_embeddings\":false,\"vocab_size\":100352}";
static const char phi4_mini[] =
    "{" PHI_KEYS ",\"full_attn_mod\":1,\"hidden_size\":3072,\"intermediate_size\":8192,"
    "\"interpolate_factor\":1,\"lm_head_bias\":false,\"max_position_embeddings\":131072,"
    "\"mlp_bias\":false,\"num_attention_heads\":24,\"num_hidden_layers\":32,"
    "\"num_key_value_heads\":8,\"original_max_position_embeddings\":4096,"
    "\"partial_rotary_factor\":0.75,\"rope_theta\":10000.0,\"sliding_window\":262144,"
    "\"tie_word_embeddings\":true,\"vocab_size\":200064}";

#define OLMO2_KEYS                                                                                 \
    "\"architectures\":[\"Olmo2ForCausalLM\"],\"attention_bias\":false,\"hidden_act\":\"silu\","   \
    "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-06,\"rope_theta\":500000,"               \
    "\"tie_word_embeddings\":false,\"vocab_size\":100352"
static const char olmo2_7b[] =
    "{" OLMO2_KEYS ",\"hidden_size\":4096,\"intermediate_size\":11008,\"num_attention_heads\":32,"
    "\"num_hidden_layers\":32,\"num_key_value_heads\":32}";
static const char olmo2_32b[] =
    "{" OLMO2_KEYS ",\"hidden_size\":5120,\"intermediate_size\":27648,\"num_attention_heads\":40,"
    "\"num_hidden_layers\":64,\"num_key_value_heads\":8}";

/* Ternary matrices; the packed file's bytes are another count. */
static const char bitnet_2b4t[] =
    "{\"architectures\":[\"BitNetForCausalLM\"],\"auto_map\":{\"AutoConfig\":\"configuration_"
    "bitnet."
    "BitNetConfig\"},\"bos_token_id\":128000,\"eos_token_id\":128001,\"hidden_act\":\"relu2\","
    "\"hidden_size\":2560,\"initializer_range\":0.02,\"intermediate_size\":6912,"
    "\"max_position_embeddings\":4096,\"model_type\":\"bitnet\",\"num_attention_heads\":20,"
    "\"num_hidden_layers\":30,\"num_key_value_heads\":5,\"rms_norm_eps\":1e-05,"
    "\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
    "\"use_cache\":true,\"vocab_size\":128256,\"quantization_config\":{\"quant_method\":\"bitnet\","
    "\"linear_class\":\"autobitlinear\",\"quantization_mode\":\"offline\"}}";
