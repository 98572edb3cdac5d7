/* SPDX-License-Identifier: Apache-2.0 */
/* Architectures that people may ask for and what this version lacks for them. */
#include <string.h>

#include "worker/model/arch_list.h"

#define INDEXER "the indexer that chooses the positions of its sparse attention"
#define MAMBA   "Mamba-2 layers, and the mixture in a smaller space that Nemotron 3 has"

static const struct {
    const char *name, *lacks;
} missing[] = {
    {"DeepseekV32ForCausalLM", INDEXER},
    {"DeepseekV4ForCausalLM", "attention over compressed keys and several residual streams"},
    {"DeciLMForCausalLM", "layers of different shapes, some without attention"},
    {"Gemma4ForConditionalGeneration",
     "heads of two widths, keys that are values too, and a mixture beside a dense layer"},
    {"GlmMoeDsaForCausalLM", INDEXER},
    {"KimiK3ForConditionalGeneration",
     "recurrent layers with a decay per channel and attention over earlier residual streams"},
    {"KimiLinearForCausalLM", "recurrent layers with a decay per channel"},
    {"MiMoForCausalLM", "a table of its weights"},
    {"MiMoV2FlashForCausalLM", "keys and values of different widths, by kind of layer"},
    {"MiniMaxM3ForCausalLM", "the index that chooses blocks of keys for its sparse attention"},
    {"NemotronHForCausalLM", MAMBA},
    {"Step3p7FlashForCausalLM", "heads in different numbers by kind of layer, with a gate each"},
};

const char *hdl_arch_lacks(const char *name)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(missing); i++)
        if (strcmp(missing[i].name, name) == 0)
            return missing[i].lacks;
    return "a table of its keys and weights";
}
