"""JSON schemas of the Kubernetes and KubeRay objects that cluster/ and jobs/ write, from their API references.

Small but strict: they know the fields that are used here, and of those that are near them enough that another good
manifest would pass; a field that they don't know is refused, since the API server drops it silently. Written by
hand after KubeRay's API reference (ray.io/v1, fields up to about 1.6) and Kubernetes' core/v1 and apps/v1.
"""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string", "minLength": 1}
BOOL: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
PORT: Schema = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, NAME]}


def thing(*required: str, **fields: Schema) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def many(item: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": item, "minItems": least}


def choice(*values: str) -> Schema:
    return {"enum": list(values)}


METADATA = thing(
    name=NAME,
    generateName={"type": "string", "pattern": "^[a-z0-9][-a-z0-9]*-$"},
    namespace=NAME,
    labels=STRINGS,
    annotations=STRINGS,
)
KEY_OF = thing("name", "key", name=NAME, key=STRING, optional=BOOL)
VALUE_FROM = thing(secretKeyRef=KEY_OF, configMapKeyRef=KEY_OF, fieldRef=thing("fieldPath", fieldPath=STRING))
ENV = {
    **thing("name", name=STRING, value={"type": "string"}, valueFrom=VALUE_FROM),
    "oneOf": [{"required": ["value"]}, {"required": ["valueFrom"]}],
}
FROM = thing("name", name=NAME, optional=BOOL)
ENV_FROM = thing(configMapRef=FROM, secretRef=FROM)
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY}
RESOURCES = thing("requests", "limits", requests=AMOUNTS, limits=AMOUNTS)
TIMES = {
    "initialDelaySeconds": COUNT,
    "periodSeconds": COUNT,
    "timeoutSeconds": COUNT,
    "failureThreshold": COUNT,
    "successThreshold": COUNT,
}
PROBE = {
    **thing(
        exec=thing("command", command=many(STRING, 1)),
        httpGet=thing("port", path=STRING, port=PORT, scheme=choice("HTTP", "HTTPS")),
        tcpSocket=thing("port", port=PORT),
        **TIMES,
    ),
    "oneOf": [{"required": [kind]} for kind in ("exec", "httpGet", "tcpSocket")],
}
SECCOMP = thing("type", type=choice("RuntimeDefault", "Unconfined", "Localhost"))
CONTAINER_SECURITY = thing(
    allowPrivilegeEscalation=BOOL,
    privileged=BOOL,
    readOnlyRootFilesystem=BOOL,
    runAsNonRoot=BOOL,
    runAsUser=COUNT,
    runAsGroup=COUNT,
    seccompProfile=SECCOMP,
    capabilities=thing(drop=many(STRING), add=many(STRING)),
)
CONTAINER = thing(
    "name",
    "image",
    "resources",
    name=NAME,
    image=STRING,
    imagePullPolicy=choice("Always", "IfNotPresent", "Never"),
    command=many(STRING),
    args=many(STRING),
    env=many(ENV),
    envFrom=many(ENV_FROM),
    ports=many(
        thing("containerPort", containerPort=PORT, name=NAME, protocol=choice("TCP", "UDP")),
    ),
    resources=RESOURCES,
    securityContext=CONTAINER_SECURITY,
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    volumeMounts=many(
        thing("name", "mountPath", name=NAME, mountPath={"type": "string", "pattern": "^/"}, readOnly=BOOL)
    ),
)
VOLUME = thing(
    "name",
    name=NAME,
    emptyDir=thing(medium=choice("", "Memory"), sizeLimit=QUANTITY),
    secret=thing("secretName", secretName=NAME),
    configMap=thing("name", name=NAME),
    persistentVolumeClaim=thing("claimName", claimName=NAME),
)
TOLERATION = thing(
    key=STRING,
    operator=choice("Exists", "Equal"),
    value=STRING,
    effect=choice("NoSchedule", "PreferNoSchedule", "NoExecute"),
)
POD = thing(
    "containers",
    containers=many(CONTAINER, 1),
    initContainers=many(CONTAINER),
    volumes=many(VOLUME),
    nodeSelector=STRINGS,
    tolerations=many(TOLERATION),
    serviceAccountName=NAME,
    automountServiceAccountToken=BOOL,
    restartPolicy=choice("Always", "OnFailure", "Never"),
    terminationGracePeriodSeconds=COUNT,
    securityContext=thing(
        runAsNonRoot=BOOL,
        runAsUser=COUNT,
        runAsGroup=COUNT,
        fsGroup=COUNT,
        seccompProfile=SECCOMP,
    ),
)
POD_TEMPLATE = thing("spec", metadata=METADATA, spec=POD)
START_PARAMS = STRINGS
CREDENTIAL = thing(value=STRING, valueFrom=VALUE_FROM)
CLUSTER_SPEC = thing(
    "rayVersion",
    "headGroupSpec",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    enableInTreeAutoscaling=BOOL,
    suspend=BOOL,
    autoscalerOptions=thing(
        version=choice("v1", "v2"),
        upscalingMode=choice("Default", "Aggressive", "Conservative"),
        idleTimeoutSeconds=COUNT,
        resources=RESOURCES,
        env=many(ENV),
        envFrom=many(ENV_FROM),
        image=STRING,
        imagePullPolicy=STRING,
        securityContext=CONTAINER_SECURITY,
    ),
    authOptions=thing(mode=choice("token", "disabled"), secretName=NAME, enableK8sTokenAuth=BOOL),
    gcsFaultToleranceOptions=thing(
        redisAddress=STRING,
        redisUsername=CREDENTIAL,
        redisPassword=CREDENTIAL,
        externalStorageNamespace=STRING,
    ),
    headGroupSpec=thing(
        "template",
        serviceType=choice("ClusterIP", "NodePort", "LoadBalancer"),
        enableIngress=BOOL,
        rayStartParams=START_PARAMS,
        template=POD_TEMPLATE,
    ),
    workerGroupSpecs=many(
        thing(
            "groupName",
            "template",
            groupName=NAME,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            idleTimeoutSeconds=COUNT,
            numOfHosts=COUNT,
            suspend=BOOL,
            rayStartParams=START_PARAMS,
            template=POD_TEMPLATE,
        )
    ),
)
JOB_SPEC = {
    **thing(
        "entrypoint",
        entrypoint=STRING,
        runtimeEnvYAML=STRING,
        clusterSelector=STRINGS,
        rayClusterSpec=CLUSTER_SPEC,
        submissionMode=choice("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        submitterPodTemplate=POD_TEMPLATE,
        submitterConfig=thing(backoffLimit=COUNT),
        entrypointNumCpus={"type": "number"},
        entrypointNumGpus={"type": "number"},
        backoffLimit=COUNT,
        activeDeadlineSeconds=COUNT,
        ttlSecondsAfterFinished=COUNT,
        shutdownAfterJobFinishes=BOOL,
        suspend=BOOL,
        jobId=STRING,
    ),
    "oneOf": [{"required": ["clusterSelector"]}, {"required": ["rayClusterSpec"]}],
}
SELECTOR = thing("matchLabels", matchLabels=STRINGS)


def kind(api: str, name: str, **fields: Schema) -> Schema:
    """A whole object: its API version, kind, metadata and what else belongs to it."""
    return thing(
        "apiVersion",
        "kind",
        "metadata",
        *fields,
        apiVersion={"const": api},
        kind={"const": name},
        metadata=METADATA,
        **fields,
    )


OBJECTS: dict[str, Schema] = {
    "RayCluster": kind("ray.io/v1", "RayCluster", spec=CLUSTER_SPEC),
    "RayJob": kind("ray.io/v1", "RayJob", spec=JOB_SPEC),
    "ServiceAccount": kind("v1", "ServiceAccount"),
    "ConfigMap": kind("v1", "ConfigMap", data=STRINGS),
    "Service": kind(
        "v1",
        "Service",
        spec=thing(
            "selector",
            "ports",
            selector=STRINGS,
            type=choice("ClusterIP"),
            clusterIP=STRING,
            ports=many(thing("port", port=PORT, targetPort=PORT, name=NAME, protocol=STRING), 1),
        ),
    ),
    "Deployment": kind(
        "apps/v1",
        "Deployment",
        spec=thing("selector", "template", replicas=COUNT, selector=SELECTOR, template=POD_TEMPLATE),
    ),
    "StatefulSet": kind(
        "apps/v1",
        "StatefulSet",
        spec=thing(
            "selector",
            "serviceName",
            "template",
            replicas=COUNT,
            selector=SELECTOR,
            serviceName=NAME,
            template=POD_TEMPLATE,
            volumeClaimTemplates=many(
                thing(
                    "metadata",
                    "spec",
                    metadata=METADATA,
                    spec=thing(
                        accessModes=many(choice("ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany")),
                        storageClassName=STRING,
                        resources=thing("requests", requests=AMOUNTS, limits=AMOUNTS),
                    ),
                )
            ),
        ),
    ),
    "PodMonitor": kind(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        spec=thing(
            "selector",
            "podMetricsEndpoints",
            selector=SELECTOR,
            podMetricsEndpoints=many(thing("port", port=NAME, path=STRING, interval=STRING), 1),
        ),
    ),
}
