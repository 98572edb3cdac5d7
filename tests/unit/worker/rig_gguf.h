/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files of the rig's models: as llama.cpp's converter writes them (tests/golden/gguf), with
 * the formula's weights. */
#pragma once

#include "rig.h"

/* Writes dir/model.gguf and its path into `path`. `head` is the bytes of a NAME.head; config_json
 * that of the model it was made of. Fails the test when some tensor's data are not what the
 * converter made. */
typedef struct rig_head {
    const char *bytes;
    size_t len;
} rig_head;
void rig_make_gguf(char dir[256], char path[300], const char *config_json, rig_head head);
