/* SPDX-License-Identifier: Apache-2.0 */
/* KEDA's messages (externalscaler.proto). */
#include <string.h>

#include "base/arena.h"
#include "externalscaler.pb-c.h"
#include "proto/wire.h"
#include "proto/wire_pb.h"

/* A text of at most size - 1 bytes without NUL; longer ones are refused. */
static bool copy_text(const ProtobufCBinaryData *from, char *out, size_t size)
{
    if (from->len >= size || (from->len && memchr(from->data, '\0', from->len)))
        return false;
    if (from->len)
        memcpy(out, from->data, from->len);
    out[from->len] = '\0';
    return true;
}

static hdl_err read_ref(const Externalscaler__ScaledObjectRef *pb, hdl_scaler_request *out)
{
    for (size_t i = 0; i < pb->n_scalermetadata; i++) {
        const Externalscaler__MetadataEntry *entry = pb->scalermetadata[i];
        if (entry->key.len == 6 && memcmp(entry->key.data, "signal", 6) == 0 &&
            !copy_text(&entry->value, out->signal, sizeof out->signal))
            return HDL_INVALID;
    }
    return HDL_OK;
}

hdl_err hdl_wire_decode_scaler_ref(hdl_wire_bytes bytes, hdl_arena *arena, hdl_scaler_request *out)
{
    *out = (hdl_scaler_request){0};
    const Externalscaler__ScaledObjectRef *pb =
        (const void *)wire_unpack(&externalscaler__scaled_object_ref__descriptor, bytes, arena);
    return pb ? read_ref(pb, out) : HDL_INVALID;
}

hdl_err hdl_wire_decode_scaler_metrics(hdl_wire_bytes bytes, hdl_arena *arena,
                                       hdl_scaler_request *out)
{
    *out = (hdl_scaler_request){0};
    const Externalscaler__GetMetricsRequest *pb =
        (const void *)wire_unpack(&externalscaler__get_metrics_request__descriptor, bytes, arena);
    if (!pb || !copy_text(&pb->metricname, out->metric, sizeof out->metric))
        return HDL_INVALID;
    return pb->scaledobjectref ? read_ref(pb->scaledobjectref, out) : HDL_OK;
}

hdl_err hdl_wire_encode_scaler_active(hdl_wire_encoder *encoder, bool active, hdl_wire_bytes *out)
{
    Externalscaler__IsActiveResponse pb = EXTERNALSCALER__IS_ACTIVE_RESPONSE__INIT;
    pb.result = active;
    return wire_pack(encoder, 0, &pb.base, out);
}

static ProtobufCBinaryData text_of(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

hdl_err hdl_wire_encode_scaler_spec(hdl_wire_encoder *encoder, const hdl_scaler_metric *metric,
                                    hdl_wire_bytes *out)
{
    Externalscaler__MetricSpec spec = EXTERNALSCALER__METRIC_SPEC__INIT, *list[] = {&spec};
    Externalscaler__GetMetricSpecResponse pb = EXTERNALSCALER__GET_METRIC_SPEC_RESPONSE__INIT;
    spec.metricname = text_of(metric->name);
    spec.targetsize = metric->value;
    spec.targetsizefloat = (double)metric->value;
    pb.n_metricspecs = 1;
    pb.metricspecs = list;
    return wire_pack(encoder, 0, &pb.base, out);
}

/* KEDA takes the float when it is above 0, else the integer: both are sent. */
hdl_err hdl_wire_encode_scaler_value(hdl_wire_encoder *encoder, const hdl_scaler_metric *metric,
                                     hdl_wire_bytes *out)
{
    Externalscaler__MetricValue value = EXTERNALSCALER__METRIC_VALUE__INIT, *list[] = {&value};
    Externalscaler__GetMetricsResponse pb = EXTERNALSCALER__GET_METRICS_RESPONSE__INIT;
    value.metricname = text_of(metric->name);
    value.metricvalue = metric->value;
    value.metricvaluefloat = (double)metric->value;
    pb.n_metricvalues = 1;
    pb.metricvalues = list;
    return wire_pack(encoder, 0, &pb.base, out);
}
