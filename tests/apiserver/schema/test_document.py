"""Decoding by the official types: unknown fields, wrong types, nulls, required fields."""

import pytest

from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Event, Pod, Secret
from headrace.apiserver.registry import BUILTIN, KindCatalog
from headrace.apiserver.registry.kinds import builtin
from headrace.apiserver.schema import SchemaCatalog
from headrace.apiserver.schema.document import decode, missing


@pytest.fixture(scope="module")
def schemas():
    kinds = KindCatalog()
    kinds.add(builtin(BUILTIN))
    return SchemaCatalog(kinds)


def wrong(schemas, kind, obj):
    return dict(decode(obj, schemas.node(kind.INFO))[1].wrong)


def container(**fields):
    return {"spec": {"containers": [{"name": "c", **fields}]}}


@pytest.mark.parametrize("info", BUILTIN, ids=lambda i: i.kind)
def test_every_served_kind_has_its_official_schema(schemas, info):
    assert schemas.has(info)
    assert {"apiVersion", "kind", "metadata"} <= schemas.node(info).fields.keys()


@pytest.mark.parametrize(
    ("kind", "obj", "path", "sentence"),
    [
        (
            Pod,
            container(ports=[{"containerPort": "80"}]),
            "spec.containers[0].ports[0].containerPort",
            (
                "json: cannot unmarshal string into Go struct field "
                "ContainerPort.spec.containers.ports.containerPort of type int32"
            ),
        ),
        (
            Deployment,
            {"spec": {"replicas": "three"}},
            "spec.replicas",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            Deployment,
            {"spec": {"replicas": 1.5}},
            "spec.replicas",
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            Deployment,
            {"spec": {"replicas": 1 << 40}},
            "spec.replicas",
            (
                "json: cannot unmarshal number 1099511627776 into Go struct field "
                "DeploymentSpec.spec.replicas of type int32"
            ),
        ),
        (
            Pod,
            {"metadata": {"labels": {"a": 1}}},
            "metadata.labels[a]",
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            Pod,
            {"spec": {"containers": {"name": "c"}}},
            "spec.containers",
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            Pod,
            {"spec": []},
            "spec",
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            ConfigMap,
            {"data": {"a": True}},
            "data[a]",
            "json: cannot unmarshal bool into Go struct field ConfigMap.data of type string",
        ),
        (
            ConfigMap,
            {"data": ["a"]},
            "data",
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (Secret, {"data": {"a": "not base64!"}}, "data[a]", "illegal base64 data at input byte 3"),
        (
            Event,
            {"firstTimestamp": "yesterday"},
            "firstTimestamp",
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            Pod,
            container(resources={"limits": {"cpu": True}}),
            "spec.containers[0].resources.limits[cpu]",
            (
                "json: cannot unmarshal bool into Go struct field "
                "ResourceRequirements.spec.containers.resources.limits of type resource.Quantity"
            ),
        ),
    ],
)
def test_wrong_types_in_the_decoders_words(schemas, kind, obj, path, sentence):
    assert wrong(schemas, kind, obj) == {path: sentence}
    assert not schemas.flawless(kind.INFO, obj)


@pytest.mark.parametrize(
    ("kind", "obj"),
    [
        (Pod, container(resources={"limits": {"cpu": 1, "memory": "1Gi"}}, livenessProbe={"httpGet": {"port": "web"}})),
        (Pod, container(livenessProbe={"httpGet": {"port": 80}})),
        (Secret, {"data": {"a": "eA==", "b": ""}}),
        (Event, {"metadata": {}, "involvedObject": {}, "eventTime": "2026-01-01T00:00:00.123456Z"}),
        (Pod, {"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"anything": 1}}}]}}),
    ],
)
def test_right_ones_pass_fast_and_slow(schemas, kind, obj):
    out, report = decode(obj, schemas.node(kind.INFO))
    assert (out, report.unknown, report.wrong) == (obj, [], [])
    assert schemas.flawless(kind.INFO, obj)


def test_unknown_fields_and_nulls_vanish(schemas):
    sent = {
        "metadata": {"name": "x", "creationTimestamp": None, "labels": {"a": None, "b": "c"}},
        "spec": {"containers": [{"name": "c", "imag": "x", "env": None}], "colour": "red"},
        "extra": 1,
    }
    out, report = decode(sent, schemas.node(Pod.INFO))
    assert out == {"metadata": {"name": "x", "labels": {"b": "c"}}, "spec": {"containers": [{"name": "c"}]}}
    assert report.unknown == ["spec.containers[0].imag", "spec.colour", "extra"]
    assert report.wrong == []


def test_missing_fields_are_named_but_not_in_status(schemas):
    node = schemas.node(Pod.INFO)
    assert missing({"spec": {"containers": [{}, {"name": "a", "env": [{}]}]}}, node) == [
        "spec.containers[0].name",
        "spec.containers[1].env[0].name",
    ]
    assert missing({"spec": {"containers": []}, "status": {"containerStatuses": [{}]}}, node) == []


def test_published_definitions_are_closed(schemas):
    import json
    import re

    for gv in ("v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "apiextensions.k8s.io/v1"):
        definitions = schemas.definitions(gv)
        used = set(re.findall(r'"#/definitions/([^"]+)"', json.dumps(definitions)))
        assert used <= definitions.keys()
    pod = schemas.for_kind(Pod.INFO)
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "Pod", "version": "v1"}]
    assert "Pod is a collection of containers" in pod["description"]
