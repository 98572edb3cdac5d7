# SPDX-License-Identifier: Apache-2.0
"""Schemas of the custom resources that deploy/k8s uses, as far as it uses them: what stands here was looked up in the resource's
definition, and everything else is refused, so that a new field is looked up, too."""


def obj(required=(), **properties):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


STRING, INT = {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": STRING}
METADATA = obj(["name"], name=STRING, namespace=STRING, labels=TEXTS, annotations=TEXTS)


def resource(version, kind, spec):
    return obj(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": version}, kind={"const": kind}, metadata=METADATA,
               spec=spec)


RULES = obj(stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
            selectPolicy={"enum": ["Max", "Min", "Disabled"]},
            policies={"type": "array", "items": obj(["type", "value", "periodSeconds"], type={"enum": ["Pods", "Percent"]}, value=INT,
                                                    periodSeconds=INT)})
SCHEMAS = {
    "ScaledObject": resource("keda.sh/v1alpha1", "ScaledObject", obj(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=obj(["name"], apiVersion=STRING, kind=STRING, name=STRING, envSourceContainerName=STRING),
        pollingInterval=INT, initialCooldownPeriod=INT, cooldownPeriod=INT, idleReplicaCount=INT, minReplicaCount=INT, maxReplicaCount=INT,
        fallback=obj(["failureThreshold", "replicas"], failureThreshold=INT, replicas=INT,
                     behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower",
                                        "scalingModifiers"]}),
        advanced=obj(restoreToOriginalReplicaCount={"type": "boolean"},
                     horizontalPodAutoscalerConfig=obj(name=STRING, behavior=obj(scaleUp=RULES, scaleDown=RULES))),
        triggers={"type": "array", "minItems": 1, "items": obj(
            ["type", "metadata"], type=STRING, name=STRING, metadata=TEXTS, metricType={"enum": ["AverageValue", "Value", "Utilization"]},
            useCachedMetrics={"type": "boolean"}, authenticationRef=obj(["name"], name=STRING, kind=STRING))})),
    "TriggerAuthentication": resource("keda.sh/v1alpha1", "TriggerAuthentication", obj(
        secretTargetRef={"type": "array", "items": obj(["parameter", "name", "key"], parameter=STRING, name=STRING, key=STRING)})),
}
