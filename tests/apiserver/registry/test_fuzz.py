"""Whatever a client sends, the answer is an object or an API error: no other exception, no half-written state."""

import asyncio
import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.api import _wire
from headrace.api.errors import InternalError, StatusError
from headrace.api.identity import ADMIN
from headrace.apiserver.registry import BUILTIN
from headrace.client.base import PatchType
from headrace.testing import embedded_cluster

NS = "default"
POD = {
    "containers": [
        {
            "name": "c",
            "image": "i:1",
            "ports": [{"containerPort": 80, "name": "web"}],
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}},
            "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
        }
    ],
    "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m"}}]}}],
}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
RULES = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
SCHEMA = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["nodes"]}
WEBHOOKS = {
    "webhooks": [
        {
            "name": "a.b.c",
            "clientConfig": {"service": {"name": "x", "namespace": "y"}},
            "rules": [RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
            "matchConditions": [{"name": "c", "expression": "object.metadata.name == 'x'"}],
        }
    ]
}
GOOD = {
    "Pod": {"spec": POD},
    "Service": {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    "Endpoints": {"subsets": [{"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 1}]}]},
    "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "eA=="}},
    "Secret": {"data": {"a": "eA=="}, "stringData": {"b": "c"}},
    "PersistentVolumeClaim": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}},
    "PersistentVolume": {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}}},
    "Event": {"involvedObject": {"name": "x"}, "firstTimestamp": "2026-01-01T00:00:00Z"},
    "ResourceQuota": {
        "spec": {
            "hard": {"pods": "4", "requests.cpu": "1", "count/pods": 2},
            "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]},
        }
    },
    "LimitRange": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}}]}},
    "Deployment": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    "ReplicationController": {"spec": {"selector": {"a": "b"}, "template": TEMPLATE}},
    "ReplicaSet": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    "StatefulSet": {
        "spec": {
            "serviceName": "x",
            "selector": {"matchLabels": {"a": "b"}},
            "template": TEMPLATE,
            "volumeClaimTemplates": [
                {"metadata": {"name": "v"}, "spec": {"resources": {"requests": {"storage": "1"}}}}
            ],
        }
    },
    "DaemonSet": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
    "ControllerRevision": {"revision": 1, "data": {"spec": {"template": TEMPLATE}}},
    "Job": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
    "CronJob": {
        "spec": {
            "schedule": "*/5 * * * *",
            "timeZone": "Europe/Berlin",
            "jobTemplate": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
        }
    },
    "Role": {"rules": RULES},
    "ClusterRole": {"rules": RULES, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}},
    "RoleBinding": {"roleRef": REF, "subjects": [{"kind": "User", "name": "u"}]},
    "ClusterRoleBinding": {"roleRef": REF, "subjects": [{"kind": "User", "name": "u"}]},
    "StorageClass": {"provisioner": "p"},
    "Ingress": {
        "spec": {
            "rules": [
                {
                    "host": "*.a.b",
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "x", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ]
        }
    },
    "IngressClass": {"spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n"}}},
    "NetworkPolicy": {
        "spec": {
            "podSelector": {"matchLabels": {"a": "b"}},
            "ingress": [
                {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 1}]}
            ],
        }
    },
    "PodDisruptionBudget": {"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}},
    "EndpointSlice": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "nodeName": "n"}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    },
    "PriorityClass": {"value": 5, "globalDefault": False},
    "RuntimeClass": {"handler": "runc", "overhead": {"podFixed": {"cpu": "1m"}}},
    **dict.fromkeys(("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"), WEBHOOKS),
    "ValidatingAdmissionPolicy": {
        "spec": {
            "matchConstraints": {"resourceRules": [RULE]},
            "validations": [{"expression": "object.metadata.name != 'x'", "reason": "Forbidden"}],
            "variables": [{"name": "a", "expression": "1"}],
        }
    },
    "ValidatingAdmissionPolicyBinding": {"spec": {"policyName": "a", "validationActions": ["Audit"]}},
    "HorizontalPodAutoscaler": {
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}},
                }
            ],
        }
    },
    "APIService": {
        "spec": {
            "group": "fuzz.dev",
            "version": "v1",
            "groupPriorityMinimum": 5,
            "versionPriority": 5,
            "service": {"name": "x", "namespace": "y"},
            "caBundle": "YQ==",
        }
    },
    "CustomResourceDefinition": {
        "spec": {
            "group": "fuzz.dev",
            "scope": "Namespaced",
            "names": {"plural": "x", "kind": "Fuzz"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": SCHEMA},
                    "subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                    "selectableFields": [{"jsonPath": ".spec.n"}],
                }
            ],
        }
    },
}
NAMES = {"CustomResourceDefinition": "x.fuzz.dev", "APIService": "v1.fuzz.dev"}
"""Of kinds whose name follows from what they are."""
OWNED = {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {'k:{"a":1}': {}, 'v:"x"': {}}}
MANAGED = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": OWNED}
META = {
    "labels": {"a": "b"},
    "annotations": {"c": "d"},
    "ownerReferences": [],
    "finalizers": [],
    "managedFields": [MANAGED],
}
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["", "1Gi", "-1", "x" * 300, "a.b/c", "2026-01-01T00:00:00Z", "None", "*", "object", "("]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Every path in a document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from places(inner, (*path, key))


@st.composite
def mutated(draw, good):
    """The good document with one to three places changed, removed or given a new key."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        paths = [p for p in places(document) if p and p not in (("metadata",), ("metadata", "name"))]
        path = draw(st.sampled_from(paths))
        place = document
        for part in path[:-1]:
            place = place[part]
        match draw(st.sampled_from(["set", "remove", "add"])):
            case "remove":
                del place[path[-1]]
            case "add" if isinstance(place[path[-1]], dict):
                place[path[-1]][draw(st.text(max_size=5))] = draw(values)
            case _:
                place[path[-1]] = draw(values)
    return document


async def attempt(call):
    try:
        return _wire.decode_any(await call)
    except InternalError:
        raise
    except StatusError as error:
        assert error.message
        assert error.to_status()["code"] < 500
        return None


async def applied(registry, info, config, *, name, part=""):
    if isinstance(config.get("metadata"), dict):
        config["metadata"] = {k: v for k, v in config["metadata"].items() if k not in ("managedFields", "name")}
    options = {"field_manager": "kubectl", "force": True, "subresource": part}
    raw, _ = await registry.apply(ADMIN, info, name, config, NS if info.namespaced else "", **options)
    return raw


@pytest.mark.parametrize("info", BUILTIN, ids=lambda i: i.kind)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_kind_takes_or_refuses_anything(info, data):
    good = {"metadata": {"name": "x", **copy.deepcopy(META)}, **copy.deepcopy(GOOD.get(info.kind, {"spec": {}}))}
    good["metadata"]["name"] = NAMES.get(info.kind, "x")
    body = data.draw(mutated(good))
    patch = data.draw(mutated(good))
    kind = data.draw(st.sampled_from([PatchType.MERGE, PatchType.STRATEGIC]))
    part = data.draw(st.sampled_from(["", "status", "scale"]))
    namespace = NS if info.namespaced else ""
    name = good["metadata"]["name"]

    async def run():
        async with embedded_cluster() as cluster:
            registry = cluster.registry
            made = await attempt(registry.create(ADMIN, info, body, namespace))
            if made is None:
                made = await attempt(registry.create(ADMIN, info, good, namespace))
                assert made is not None, "the unchanged document is good"
            name = made["metadata"]["name"]
            await attempt(registry.patch(ADMIN, info, name, patch, namespace, patch_type=kind, subresource=part))
            await attempt(registry.update(ADMIN, info, name, patch, namespace))
            for config in (patch, body):
                await attempt(applied(registry, info, config, name=name, part=part))
                await attempt(applied(registry, info, config, name=f"new-{name}"))
            stored = _wire.decode_any(await registry.get(ADMIN, info, name, namespace))
            again = await registry.patch(ADMIN, info, name, {"metadata": {"annotations": {"z": "1"}}}, namespace)
            assert _wire.decode_any(again)["metadata"]["annotations"]["z"] == "1", "what is stored stays acceptable"
            assert stored["metadata"]["uid"] == made["metadata"]["uid"]

    del name
    asyncio.run(run())
