/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, section 4) as vocabulary files carry bytes. Pure; any thread. */
#pragma once

#include "scheduler/text/vocab.h"

/* Writes at most 3 * (text.len / 4) bytes. False when the text is no base64 with its padding. */
bool hdl_base64_decode(hdl_text text, unsigned char *out, size_t *n);
