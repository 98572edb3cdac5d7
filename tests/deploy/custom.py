# SPDX-License-Identifier: Apache-2.0
"""Schemas of the custom resources that deploy/k8s uses, written down from the resources' definitions: all fields of their upper
levels, whatever is not here is refused, so that a misspelt field is a fault. Pod templates inside them are checked against
Kubernetes' own schema.

LeaderWorkerSet v0.9 (api/leaderworkerset/v1/leaderworkerset_types.go), KEDA 2.20 (apis/keda/v1alpha1/*_types.go)."""
try:
    import jsonschema
    import kubernetes_validate
except ImportError:  # run by hand, without the environment of tests/run.sh: overlays.py skips
    kubernetes_validate = None

VERSION = "1.34"  # of Kubernetes


def obj(required=(), **properties):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def items(schema, least=0):
    return {"type": "array", "items": schema, "minItems": least}


STRING, BOOL, INT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": STRING}
INT_OR_PERCENT = {"oneOf": [INT, {"type": "string", "pattern": "^[0-9]+%$"}]}
ELSEWHERE = {"type": "object"}  # checked by Kubernetes' schema; see templates()
METADATA = obj(["name"], name=STRING, namespace=STRING, labels=TEXTS, annotations=TEXTS, finalizers=items(STRING))


def resource(version, kind, spec):
    return obj(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": version}, kind={"const": kind}, metadata=METADATA,
               spec=spec)


def one_of(*words):
    return {"enum": list(words)}


LEADER_WORKER_SET = obj(
    ["leaderWorkerTemplate"], replicas=INT, startupPolicy=one_of("LeaderCreated", "LeaderReady"),
    leaderWorkerTemplate=obj(
        ["workerTemplate"], leaderTemplate=ELSEWHERE, workerTemplate=ELSEWHERE, size={"type": "integer", "minimum": 1},
        restartPolicy=one_of("Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"),
        subGroupPolicy=obj(subGroupPolicyType=one_of("LeaderWorker", "LeaderExcluded"), subGroupSize=INT),
        volumeClaimTemplates=items(ELSEWHERE),
        persistentVolumeClaimRetentionPolicy=obj(whenDeleted=one_of("Delete", "Retain"), whenScaled=one_of("Delete", "Retain"))),
    rolloutStrategy=obj(type=one_of("RollingUpdate"), rollingUpdateConfiguration=obj(
        partition=INT, maxUnavailable=INT_OR_PERCENT, maxSurge=INT_OR_PERCENT)),
    networkConfig=obj(["subdomainPolicy"], subdomainPolicy=one_of("Shared", "UniquePerReplica")))

HPA_RULES = obj(stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
                selectPolicy=one_of("Max", "Min", "Disabled"), tolerance=STRING,
                policies=items(obj(["type", "value", "periodSeconds"], type=one_of("Pods", "Percent"), value=INT, periodSeconds=INT)))

SCALED_OBJECT = obj(
    ["scaleTargetRef", "triggers"],
    scaleTargetRef=obj(["name"], apiVersion=STRING, kind=STRING, name=STRING, envSourceContainerName=STRING),
    pollingInterval=INT, initialCooldownPeriod=INT, cooldownPeriod=INT, idleReplicaCount=INT, minReplicaCount=INT,
    maxReplicaCount=INT,
    fallback=obj(["failureThreshold", "replicas"], failureThreshold=INT, replicas=INT,
                 behavior=one_of("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower",
                                 "scalingModifiers")),
    advanced=obj(restoreToOriginalReplicaCount=BOOL,
                 horizontalPodAutoscalerConfig=obj(name=STRING, behavior=obj(scaleUp=HPA_RULES, scaleDown=HPA_RULES)),
                 scalingModifiers=obj(formula=STRING, target=STRING, activationTarget=STRING,
                                      metricType=one_of("AverageValue", "Value"))),
    triggers=items(obj(
        ["type", "metadata"], type=STRING, name=STRING, metadata=TEXTS, metricType=one_of("AverageValue", "Value", "Utilization"),
        useCachedMetrics=BOOL,
        authenticationRef=obj(["name"], name=STRING, kind=one_of("TriggerAuthentication", "ClusterTriggerAuthentication"))), 1))

KEY_OF = items(obj(["parameter", "name", "key"], parameter=STRING, name=STRING, key=STRING))
# Vaults are not spelt out: who uses one looks its fields up here first.
TRIGGER_AUTHENTICATION = obj(
    secretTargetRef=KEY_OF, configMapTargetRef=KEY_OF,
    env=items(obj(["parameter", "name"], parameter=STRING, name=STRING, containerName=STRING)),
    boundServiceAccountToken=items(obj(["parameter", "serviceAccountName"], parameter=STRING, serviceAccountName=STRING)),
    podIdentity=obj(["provider"], provider=one_of("azure-workload", "gcp", "aws", "aws-eks", "none"), identityId=STRING,
                    identityTenantId=STRING, identityAuthorityHost=STRING, roleArn=STRING, identityOwner=one_of("keda", "workload")))

SCHEMAS = {
    "LeaderWorkerSet": resource("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", LEADER_WORKER_SET),
    "ScaledObject": resource("keda.sh/v1alpha1", "ScaledObject", SCALED_OBJECT),
    "TriggerAuthentication": resource("keda.sh/v1alpha1", "TriggerAuthentication", TRIGGER_AUTHENTICATION),
}


def templates(o):
    """What of Kubernetes' own a custom resource holds, as objects of their own."""
    if o["kind"] != "LeaderWorkerSet":
        return
    inner = o["spec"]["leaderWorkerTemplate"]
    for key in ("leaderTemplate", "workerTemplate"):
        if key in inner:
            yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": o["metadata"]["name"]}, "template": inner[key]}
    for claim in inner.get("volumeClaimTemplates", []):
        yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}


def validate(o):
    """Strictly: jsonschema's or kubernetes_validate's ValidationError for a field that does not exist or has the wrong type."""
    if o["kind"] not in SCHEMAS:
        kubernetes_validate.validate(o, VERSION, strict=True)
        return
    jsonschema.validate(o, SCHEMAS[o["kind"]])
    for inner in templates(o):
        kubernetes_validate.validate(inner, VERSION, strict=True)
