/* SPDX-License-Identifier: Apache-2.0 */
/* The patterns are those of the tokenizer.json that each name was given to; where a name stands for
 * nothing published, those of the program that gave it (llama.cpp). */
#include "scheduler/text/gguf_pre.h"

#include <string.h>

#include "scheduler/text/pattern.h"

#define LINES_TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3                                                                                     \
    HDL_PATTERN_CONTRACTIONS                                                                       \
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" LINES_TAIL
#define QWEN2                                                                                      \
    HDL_PATTERN_CONTRACTIONS                                                                       \
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" LINES_TAIL
#define QWEN35                                                                                     \
    HDL_PATTERN_CONTRACTIONS                                                                       \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "                                              \
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" LINES_TAIL

/* Words of upper-case-like letters and then lower-case-like ones, at least one of the one or of the
 * other kind. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(after)                                                                               \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" after "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER   \
    "*" after
#define O200K                                                                                      \
    CASED(HDL_PATTERN_CONTRACTIONS "?")                                                            \
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" LINES_TAIL
#define TEKKEN        CASED("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" LINES_TAIL

#define CJK_DEEPSEEK3 "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./"                                                                          \
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]"                \
    "+| ?[\\p{P}\\p{S}]+[\\r\\n]*" LINES_TAIL
#define CJK_DEEPSEEK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
/* Letters with upper and lower case, as listed in DeepSeek LLM's tokenizer.json. */
#define CASED_DEEPSEEK                                                                             \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}"                          \
    "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"                  \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"                         \
    "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}"                 \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"                 \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                 \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"                            \
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"                           \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"                 \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}"                  \
    "\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}"                   \
    "\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}"                  \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"                  \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"                              \
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

static const hdl_gguf_pre PRES[] = {
    {.names = "default",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+", HDL_PATTERN_GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2",
     .patterns = {LLAMA3},
     .ignore_merges = true,
     .add_bos = true},
    {.names = "dbrx smaug-bpe glm4 chatglm-bpe", .patterns = {LLAMA3}},
    {.names = "qwen2 deepseek-r1-qwen megrez", .patterns = {QWEN2}, .nfc = true},
    {.names = "stablelm2 hunyuan grok-2 solar-open", .patterns = {QWEN2}},
    {.names = "qwen35", .patterns = {QWEN35}, .nfc = true},
    {.names = "gpt-4o llama4 minimax-m2 kanana2", .patterns = {O200K}},
    {.names = "tekken", .patterns = {TEKKEN}, .ignore_merges = true, .add_bos = true},
    {.names = "kimi-k2", .patterns = {HDL_PATTERN_KIMI}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm",
     .patterns = {"\\p{N}{1,3}", CJK_DEEPSEEK3, DEEPSEEK3}},
    {.names = "deepseek-llm",
     .patterns = {"[\\r\\n]", "\\s?[" CASED_DEEPSEEK "]+",
                  "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}"
                  "\\x{3000}-\\x{3002}]+",
                  "\\s+$", CJK_DEEPSEEK, "\\p{N}"}},
    {.names = "deepseek-coder",
     .patterns = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_DEEPSEEK, "\\p{N}"}},
    {.names = "falcon",
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", HDL_PATTERN_GPT2, "[0-9][0-9][0-9]"}},
    {.names = "starcoder refact smollm codeshell exaone minerva-7b mellum2",
     .patterns = {"\\p{N}", HDL_PATTERN_GPT2}},
    {.names = "command-r", .patterns = {"\\p{N}", HDL_PATTERN_GPT2}, .nfc = true},
    {.names = "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4",
     .patterns = {HDL_PATTERN_GPT2}},
    {.names = "bloom poro-chat gpt3-finnish", .patterns = {BLOOM}},
    {.names = "viking", .patterns = {BLOOM, "\\p{N}"}},
    {.names = "bailingmoe bailingmoe2 llada-moe",
     .patterns = {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]"
                  "++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
};

const hdl_gguf_pre *hdl_gguf_pre_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof PRES / sizeof *PRES; i++)
        for (const char *p = PRES[i].names; *p != '\0';) {
            size_t n = strcspn(p, " ");
            if (n == len && memcmp(p, name, n) == 0)
                return &PRES[i];
            p += n + (p[n] == ' ');
        }
    return NULL;
}
