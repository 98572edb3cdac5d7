/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of heddle.proto, checked on the descriptors: no message contains itself (protobuf-c
 * unpacks by recursion without a limit), no `optional`, no map, no `string` (an embedded NUL would
 * cut it short), words of steps are packed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "externalscaler.pb-c.h"
#include "health.pb-c.h"
#include "heddle.pb-c.h"

enum { DEPTH_MAX = 16 };

static const ProtobufCServiceDescriptor *const services[] = {
    &heddle__v1__control__descriptor,
    &grpc__health__v1__health__descriptor,
    &externalscaler__external_scaler__descriptor,
};

typedef void visit_fn(const ProtobufCMessageDescriptor *message,
                      const ProtobufCFieldDescriptor *field);

static void walk(const ProtobufCMessageDescriptor *message, const ProtobufCMessageDescriptor **path,
                 unsigned depth, visit_fn *visit)
{
    for (unsigned i = 0; i < depth; i++)
        if (path[i] == message)
            fail_msg("%s contains itself", message->name);
    assert_true(depth < DEPTH_MAX);
    path[depth] = message;
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        visit(message, field);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            walk(field->descriptor, path, depth + 1, visit);
    }
}

static void walk_all(visit_fn *visit)
{
    const ProtobufCMessageDescriptor *path[DEPTH_MAX];
    for (unsigned s = 0; s < sizeof services / sizeof services[0]; s++)
        for (unsigned m = 0; m < services[s]->n_methods; m++) {
            walk(services[s]->methods[m].input, path, 0, visit);
            walk(services[s]->methods[m].output, path, 0, visit);
        }
}

static void visit_nothing(const ProtobufCMessageDescriptor *message,
                          const ProtobufCFieldDescriptor *field)
{
    (void)message;
    (void)field;
}

static void no_message_contains_itself(void **state)
{
    (void)state;
    walk_all(visit_nothing);
}

static void visit_field(const ProtobufCMessageDescriptor *message,
                        const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL || field->label == PROTOBUF_C_LABEL_REQUIRED)
        fail_msg("%s.%s is optional or required", message->name, field->name);
    bool ours = strcmp(message->package_name, "heddle.v1") == 0;
    if (ours && field->type == PROTOBUF_C_TYPE_STRING)
        fail_msg("%s.%s is a string; use bytes", message->name, field->name);
    if (ours && field->label == PROTOBUF_C_LABEL_REPEATED &&
        field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_FIXED32)
        fail_msg("%s.%s is repeated but neither fixed32 nor a message", message->name, field->name);
    if (ours && field->type == PROTOBUF_C_TYPE_FIXED32 &&
        (field->label != PROTOBUF_C_LABEL_REPEATED ||
         !(field->flags & PROTOBUF_C_FIELD_FLAG_PACKED)))
        fail_msg("%s.%s is not packed", message->name, field->name);
}

static void fields_keep_the_rules(void **state)
{
    (void)state;
    walk_all(visit_field);
}

/* The wire rule that wire.c relies on: the oneof's numbers are those of its enum plus one. */
static void bodies_are_numbered_in_order(void **state)
{
    (void)state;
    static const char *const worker[] = {"hello",  "progress", "ready",     "joined",
                                         "result", "failed",   "heartbeat", "listening"};
    static const char *const sched[] = {"assign",    "join",    "step",  "abort",
                                        "heartbeat", "goodbye", "listen"};
    for (unsigned i = 0; i < sizeof worker / sizeof worker[0]; i++)
        assert_int_equal(protobuf_c_message_descriptor_get_field_by_name(
                             &heddle__v1__worker_message__descriptor, worker[i])
                             ->id,
                         i + 1);
    for (unsigned i = 0; i < sizeof sched / sizeof sched[0]; i++)
        assert_int_equal(protobuf_c_message_descriptor_get_field_by_name(
                             &heddle__v1__scheduler_message__descriptor, sched[i])
                             ->id,
                         i + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_message_contains_itself),
        cmocka_unit_test(fields_keep_the_rules),
        cmocka_unit_test(bodies_are_numbered_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
