/* SPDX-License-Identifier: Apache-2.0 */
/* Private to wire*.c: the generated messages under short names, and the few helpers that control
 * messages (wire.c) and step messages (wire_step.c) share. */
#pragma once

#include "heddle.pb-c.h"
#include "proto/wire.h"

typedef Heddle__V1__WorkerMessage pb_worker;
typedef Heddle__V1__SchedulerMessage pb_sched;
typedef Heddle__V1__Step pb_step;
typedef Heddle__V1__Result pb_result;

/* Packs a message into the encoder's memory from `at` on. */
hdl_err wire_pack(hdl_wire_encoder *encoder, size_t at, const ProtobufCMessage *msg,
                  hdl_wire_bytes *out) HDL_MUST_CHECK;

/* The step's samplings and biases as words at the start of the encoder's memory; *used is where the
 * packed message may begin. */
hdl_err wire_step_fill(hdl_wire_encoder *encoder, const hdl_msg_step *msg, pb_step *pb,
                       size_t *used) HDL_MUST_CHECK;
hdl_err wire_step_read(const pb_step *pb, hdl_arena *arena, hdl_msg_step *out,
                       hdl_errmsg *why) HDL_MUST_CHECK;

void wire_result_fill(const hdl_result *result, pb_result *pb);
hdl_err wire_result_read(const pb_result *pb, hdl_result *out, hdl_errmsg *why) HDL_MUST_CHECK;

hdl_err wire_refuse_bytes(hdl_errmsg *why, const hdl_arena *arena) HDL_MUST_CHECK;
/* Resets the arena and unpacks into it; NULL: not protobuf, or too large. */
ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *descriptor, hdl_wire_bytes bytes,
                              hdl_arena *arena);

/* Texts are `bytes` on the wire: printable, without NUL, shorter than their field. */
typedef struct wire_text {
    char *text;
    size_t size;
} wire_text;
ProtobufCBinaryData wire_text_of(const char *text, size_t size);
#define WIRE_TEXT_OF(array) wire_text_of((array), sizeof(array))
hdl_err wire_read_text(wire_text out, const ProtobufCBinaryData *bytes, const char *field,
                       hdl_errmsg *why) HDL_MUST_CHECK;
#define WIRE_TRY_TEXT(array, bytes, field)                                                         \
    HDL_TRY(wire_read_text((wire_text){(array), sizeof(array)}, &(bytes), (field), why))

/* `field: value is out of range` */
hdl_err wire_refuse(hdl_errmsg *why, const char *field, uint64_t value) HDL_MUST_CHECK;
