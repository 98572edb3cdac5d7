/* SPDX-License-Identifier: Apache-2.0 */
/* Published pre-tokeniser patterns that more than one format refers to without carrying them. */
#pragma once

/* GPT-2's own, which ByteLevel uses unless it is told not to. */
#define HDL_PATTERN_GPT2                                                                           \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#define HDL_PATTERN_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

/* Kimi K2 (tokenization_kimi.py): Han characters are words of their own; the classes "and not Han"
 * are written with a look-ahead here. */
#define HDL_PATTERN_KIMI_UPPER "(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])"
#define HDL_PATTERN_KIMI_LOWER "(?:(?!\\p{Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])"
#define HDL_PATTERN_KIMI                                                                           \
    "\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?" HDL_PATTERN_KIMI_UPPER "*" HDL_PATTERN_KIMI_LOWER           \
    "+" HDL_PATTERN_CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?" HDL_PATTERN_KIMI_UPPER                 \
    "+" HDL_PATTERN_KIMI_LOWER "*" HDL_PATTERN_CONTRACTIONS                                        \
    "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
