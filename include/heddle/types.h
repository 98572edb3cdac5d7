/* SPDX-License-Identifier: Apache-2.0 */
/* Words that every folder shares: element types, ids. No function has a body outside this header;
 * no state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Small pure functions that a GPU's kernels call, too. */
#ifdef __CUDACC__
#define HDL_INLINE static inline __host__ __device__
#else
#define HDL_INLINE static inline
#endif

/* Element types of tensors and weights on disk. Block formats (GGUF, MX, ...) join the list with
 * their loaders. name     bits   text */
#define HDL_DTYPE_LIST(X)                                                                          \
    X(F32, 32, "f32")                                                                              \
    X(F16, 16, "f16")                                                                              \
    X(BF16, 16, "bf16")                                                                            \
    X(I8, 8, "i8")                                                                                 \
    X(U8, 8, "u8")                                                                                 \
    X(I32, 32, "i32")                                                                              \
    X(I64, 64, "i64")                                                                              \
    X(E4M3, 8, "f8_e4m3")                                                                          \
    X(E8M0, 8, "f8_e8m0")

#define HDL_DTYPE_ENUM(name, bits, text) HDL_DTYPE_##name,
typedef enum hdl_dtype { HDL_DTYPE_LIST(HDL_DTYPE_ENUM) HDL_DTYPE_COUNT } hdl_dtype;
#undef HDL_DTYPE_ENUM

static inline size_t hdl_dtype_bytes(hdl_dtype dtype)
{
#define HDL_DTYPE_SIZE(name, bits, text) (bits) / 8,
    static const unsigned char size[] = {HDL_DTYPE_LIST(HDL_DTYPE_SIZE)};
#undef HDL_DTYPE_SIZE
    return size[dtype];
}

static inline const char *hdl_dtype_name(hdl_dtype dtype)
{
#define HDL_DTYPE_TEXT(name, bits, text) text,
    static const char *const name[] = {HDL_DTYPE_LIST(HDL_DTYPE_TEXT)};
#undef HDL_DTYPE_TEXT
    return name[dtype];
}

/* Token ids are indices into the vocabulary, >= 0. */
typedef int32_t hdl_token;

/* Ids are one-field structs so that a block cannot be passed as a slot. */
typedef struct hdl_req_id {
    uint64_t v;
} hdl_req_id; /* server-made, never reused, never 0 */
typedef struct hdl_slot_id {
    uint32_t v;
} hdl_slot_id; /* a running sequence's place on the workers */
typedef struct hdl_block_id {
    uint32_t v;
} hdl_block_id; /* a KV block of one group's pool */

#define HDL_NONE_U32 UINT32_MAX

HDL_INLINE size_t hdl_min_size(size_t a, size_t b) { return a < b ? a : b; }
HDL_INLINE uint32_t hdl_min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
HDL_INLINE uint32_t hdl_max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
HDL_INLINE uint32_t hdl_div_ceil_u32(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

/* From a pointer to a member to the struct that holds it. */
#define HDL_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define HDL_ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
