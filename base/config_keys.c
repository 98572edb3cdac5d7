/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config_keys.h"

#include <heddle/config.h>
#include <heddle/types.h>

_Static_assert(sizeof(hdl_config_list) == sizeof(hdl_cfg_list), "one layout under two names");

static const char *const choices_model_weights[] = {HDL_CHOICES_model_weights, NULL};
static const char *const choices_device[] = {HDL_CHOICES_device, NULL};
static const char *const choices_isa[] = {HDL_CHOICES_isa, NULL};
static const char *const choices_head_screen[] = {HDL_CHOICES_head_screen, NULL};
static const char *const choices_collectives[] = {HDL_CHOICES_collectives, NULL};
static const char *const choices_numerics[] = {HDL_CHOICES_numerics, NULL};
static const char *const choices_kv_type[] = {HDL_CHOICES_kv_type, NULL};
static const char *const choices_speculate[] = {HDL_CHOICES_speculate, NULL};
static const char *const choices_log_level[] = {HDL_CHOICES_log_level, NULL};
static const char *const choices_log_format[] = {HDL_CHOICES_log_format, NULL};

#define CHOICES_BOOL(field)     NULL
#define CHOICES_INT(field)      NULL
#define CHOICES_SIZE(field)     NULL
#define CHOICES_DURATION(field) NULL
#define CHOICES_STRING(field)   NULL
#define CHOICES_LIST(field)     NULL
#define CHOICES_ENUM(field)     choices_##field

#define KEY(type_, field, path_, def_, min_, max_, doc_)                                           \
    {.path = (path_),                                                                              \
     .type = HDL_CFG_##type_,                                                                      \
     .offset = offsetof(hdl_config, field),                                                        \
     .def = (def_),                                                                                \
     .doc = (doc_),                                                                                \
     .min = (min_),                                                                                \
     .max = (max_),                                                                                \
     .choices = CHOICES_##type_(field)},

const hdl_cfg_key hdl_config_keys[] = {HDL_CONFIG_LIST(KEY)};
const size_t hdl_config_keys_count = HDL_ARRAY_LEN(hdl_config_keys);
