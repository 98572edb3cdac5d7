/* SPDX-License-Identifier: Apache-2.0 */
/* A matrix as a file stores it, in any encoding, and the two ways to read it: as exact f32 values,
 * or as small integers with a scale (and a minimum) per group.
 *
 * A source is a window over borrowed bytes: the loader makes one per tensor, narrows it to what a
 * rank holds, and hands it to ops->weight_pack or the embed op. Whoever makes one has checked that
 * every plane covers the window; readers trust it. Cold, except a row of an embedding; any thread.
 *
 * Every value is fma(code, scale, min), rounded once, or code * scale where there is no minimum
 * (then -0 stays -0). In all encodings of today the product alone is exact in f32, so this equals
 * what their own libraries compute in f32. */
#pragma once

#include <heddle/tensor.h>

/* ggml's blocks carry their scales; the others keep codes and scales in tensors of their own. */
/*    name         text */
#define HDL_ENC_LIST(X)                                                                            \
    X(F32, "f32")                                                                                  \
    X(F16, "f16")                                                                                  \
    X(BF16, "bf16")                                                                                \
    X(E4M3, "fp8-e4m3")         /* scales per tensor, per row or per block of any extent */        \
    X(MXFP4, "mxfp4")           /* two E2M1 a byte, low half first; E8M0 per 32 */                 \
    X(NVFP4, "nvfp4")           /* two E2M1 a byte, low half first; E4M3 per 16 */                 \
    X(INT4, "int4")             /* compressed-tensors: two a byte, low half first, offset 8 */     \
    X(INT4Z, "int4-zero")       /* the same with zero points, [n / 8, groups] words */             \
    X(INT8, "int8")             /* one a byte, offset 128 in words, two's complement else */       \
    X(AWQ4, "awq-int4")         /* [k, n / 8] words in AWQ's order of halves; zeros likewise */    \
    X(GPTQ4, "gptq-int4")       /* [k / 8, n] words, all zero points 8 */                          \
    X(GPTQ4Z, "gptq-int4-zero") /* the same with zero points, [groups, n / 8] words */             \
    X(GPTQ4G, "gptq-int4-act")  /* the same, and every column names its group */                   \
    X(GPTQ8, "gptq-int8")       /* [k / 4, n] words, all zero points 128 */                        \
    X(GPTQ8Z, "gptq-int8-zero") /* the same with zero points, [groups, n / 4] words */             \
    X(GPTQ8G, "gptq-int8-act")  /* the same, and every column names its group */                   \
    X(TERNARY, "bitnet")        /* -1, 0, 1: four rows a byte, a quarter of the matrix apart */    \
    X(GGML_Q4_0, "q4_0")                                                                           \
    X(GGML_Q4_1, "q4_1")                                                                           \
    X(GGML_Q5_0, "q5_0")                                                                           \
    X(GGML_Q5_1, "q5_1")                                                                           \
    X(GGML_Q8_0, "q8_0")                                                                           \
    X(GGML_Q2_K, "q2_k")                                                                           \
    X(GGML_Q3_K, "q3_k")                                                                           \
    X(GGML_Q4_K, "q4_k")                                                                           \
    X(GGML_Q5_K, "q5_k")                                                                           \
    X(GGML_Q6_K, "q6_k")                                                                           \
    X(GGML_IQ4_NL, "iq4_nl")                                                                       \
    X(GGML_IQ4_XS, "iq4_xs")                                                                       \
    X(GGML_IQ2_XXS, "iq2_xxs")                                                                     \
    X(GGML_IQ3_XXS, "iq3_xxs")                                                                     \
    X(GGML_TQ1_0, "tq1_0")                                                                         \
    X(GGML_TQ2_0, "tq2_0")                                                                         \
    X(GGML_MXFP4, "ggml-mxfp4")

#define HDL_ENC_ENUM(name, text) HDL_ENC_##name,
typedef enum hdl_enc { HDL_ENC_LIST(HDL_ENC_ENUM) HDL_ENC_COUNT } hdl_enc;
#undef HDL_ENC_ENUM

/* Columns at which windows and reads of encodings with codes may begin and end. */
enum { HDL_SOURCE_UNIT = 32 };

/* Numbers of one kind. Steps are in bytes and may be of any size, so that a transposed, stacked or
 * interleaved tensor needs no encoding of its own. They lead from the whole matrix's row 0, column
 * 0, not from the window's. */
typedef struct hdl_plane {
    const void *data; /* borrowed: until the file is closed; NULL: there is none */
    hdl_dtype dtype;  /* of scales and zero points; codes follow the encoding */
    int64_t row_step; /* codes: from row to row; scales: to the scale of the next scale_rows rows */
    int64_t col_step; /* codes: from block to block (codec); scales: over scale_cols columns */
} hdl_plane;

/* Heads whose columns the file has in another order: groups of `per_group` heads of `each` columns
 * are the matrix's order, and the file has the first head of every group, then the second of every
 * group, and so on (llama.cpp, of Gated DeltaNet's values). each 0: in order. */
typedef struct hdl_tiles {
    uint32_t each, n_groups, per_group;
} hdl_tiles;

static inline uint32_t hdl_tile_of(const hdl_tiles *t, uint32_t head)
{
    return head % t->per_group * t->n_groups + head / t->per_group;
}

typedef struct hdl_source {
    hdl_enc encoding;
    uint32_t row_at, n_rows; /* the window, in the whole matrix */
    uint32_t col_at, n_cols; /* with codes: multiples of HDL_SOURCE_UNIT, or the matrix's end */
    uint32_t whole_rows;     /* of the matrix */
    bool by_columns; /* what the window calls rows are the planes' columns: values alone, slowly */
    hdl_plane codes;
    /* Encodings whose blocks have no scales inside; zero else. */
    hdl_plane scales, zeros;
    uint32_t scale_rows, scale_cols; /* extent of one scale */
    float scale_mul, scale_div;      /* of the whole matrix: each scale is s * mul / div; 1: none */
    int32_t zero_add;                /* GPTQ: zero points are stored less this */
    const int32_t *col_group;        /* GPTQ4G, GPTQ8G: [whole columns], below the groups' number */
    hdl_tiles tiles;                 /* of columns; each: of codes a multiple of HDL_SOURCE_UNIT */
} hdl_source;

/* n columns of a row, counted from the window's start. */
typedef struct hdl_span {
    uint32_t row, col, n;
} hdl_span;

/* Where codes go: [n], [n / group], [n / group] (mins unused where the codec has none). */
typedef struct hdl_codes {
    int8_t *codes;
    float *scales, *mins;
} hdl_codes;

/* What holds an encoding's scales exactly. FACTORS: each is an f16, the same for the scales of 32
 * columns and more, times an int8; minima likewise. */
typedef enum hdl_scale_form { HDL_SCALES_F32, HDL_SCALES_F16, HDL_SCALES_FACTORS } hdl_scale_form;

/* Of 32 columns: scales[g] = scale * scale_ints[g], mins[g] = min * min_ints[g], without rounding.
 */
typedef struct hdl_factors {
    uint16_t scale, min; /* f16 */
    int8_t scale_ints[2], min_ints[2];
} hdl_factors;

/* What an encoding is. One constant per encoding, in kernels/codec. */
typedef struct hdl_codec {
    uint32_t block_cols, block_bytes; /* neighbouring columns of a row that share so many bytes */
    uint32_t group;                   /* columns per scale that `codes` yields: 16, 32; 0: none */
    bool has_mins;
    /* The sixteen integers that `codes` yields, some perhaps twice; NULL: any int8. Linear codes
     * too: such a matrix fits into 4 bits. Compared by address. */
    const int8_t *codebook;
    uint32_t bits; /* of a code that has no codebook; 0: 8 */
    hdl_scale_form scales;
    /* FACTORS; of 32 columns. */
    void (*factors)(const hdl_source *s, hdl_span at, hdl_factors *out);
    /* Exact values; NULL: fma(code, scale, min). */
    void (*values)(const hdl_source *s, hdl_span at, float *out);
    /* NULL: the encoding is not made of small integers (group 0). */
    void (*codes)(const hdl_source *s, hdl_span at, const hdl_codes *out);
} hdl_codec;

/* NULL: not supported by this version. */
const hdl_codec *hdl_codec_of(hdl_enc encoding);
const char *hdl_enc_name(hdl_enc encoding);

/* Codebooks: -8..7, 0..15, E2M1 doubled (0 1 2 3 4 6 8 12 and negative), IQ4_NL's. */
extern const int8_t hdl_codebook_s4[16], hdl_codebook_u4[16], hdl_codebook_e2m1[16],
    hdl_codebook_iq4nl[16], hdl_codebook_t2[16];

/* A row-major or strided tensor of F32, F16 or BF16, whole. */
hdl_source hdl_source_of_tensor(const hdl_tensor *t);
/* Part of a window: rows and columns counted from its start. */
typedef struct hdl_window {
    uint32_t row_at, n_rows, col_at, n_cols;
} hdl_window;
hdl_source hdl_source_part(const hdl_source *s, hdl_window part);
/* Rows for columns: the same window read the other way (by_columns), and back. */
hdl_source hdl_source_turned(const hdl_source *s);

/* at.col and at.n: multiples of HDL_SOURCE_UNIT or to the window's end when the encoding has codes
 * or blocks. */
void hdl_source_values(const hdl_source *s, hdl_span at, float *out);
void hdl_source_codes(const hdl_source *s, hdl_span at, const hdl_codes *out);
/* Of an encoding that has them; at.n is 32. */
hdl_factors hdl_source_factors(const hdl_source *s, hdl_span at);
/* Are the scales of the window that lie in a plane of their own finite, and E4M3 codes numbers? */
bool hdl_source_is_finite(const hdl_source *s);
/* Bytes of the window in the file, scales included. */
uint64_t hdl_source_bytes(const hdl_source *s);
