"""Protobuf bodies: what kubectl 1.32 sends, and what nobody should."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.errors import BadRequest, StatusError, UnsupportedMediaType
from headrace.apiserver.http import protobuf


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """A field: ints as varints, floats as doubles, text and bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def body(api_version, kind, raw):
    return protobuf.MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


META = field(1, "name") + field(3, "ns") + field(8, b"") + field(11, field(1, "k") + field(2, "v"))


def test_a_config_map():
    raw = field(1, META) + field(2, field(1, "a") + field(2, "1")) + field(3, field(1, "b") + field(2, b"\xff"))
    assert protobuf.decode(body("v1", "ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "name", "namespace": "ns", "labels": {"k": "v"}},
        "data": {"a": "1"},
        "binaryData": {"b": "/w=="},
    }


def test_inline_structs_and_special_types():
    limits = field(1, field(1, "cpu") + field(2, field(1, "500m")))
    secret = field(1, field(1, "s")) + field(2, "key")
    env = field(1, "E") + field(3, field(4, secret))
    probe = field(1, field(2, field(1, "/healthz") + field(2, field(1, 1) + field(3, "http")))) + field(2, 5)
    container = field(1, "c") + field(2, "i") + field(7, env) + field(8, limits) + field(10, probe) + field(16, 0)
    volume = field(1, "v") + field(2, field(2, b""))
    spec = field(1, volume) + field(2, container) + field(4, 0) + field(11, 0)
    decoded = protobuf.decode(body("v1", "Pod", field(1, META) + field(2, spec)))
    assert decoded["spec"] == {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [
            {
                "name": "c",
                "image": "i",
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}],
                "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5},
            }
        ],
        "terminationGracePeriodSeconds": 0,  # a pointer: zero was meant
    }


def test_numbers_and_times():
    raw = field(1, field(9, field(1, 1_700_000_000) + field(2, 0))) + field(2, field(1, 0))
    decoded = protobuf.decode(body("apps/v1", "Deployment", raw))
    assert decoded["spec"]["replicas"] == 0
    assert decoded["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:20Z"
    value = field(1, META) + field(2, -5)
    assert protobuf.decode(body("scheduling.k8s.io/v1", "PriorityClass", value))["value"] == -5


def test_delete_options_of_every_group():
    raw = field(1, 0) + field(4, "Foreground")
    assert protobuf.decode(body("apps/v1", "DeleteOptions", raw)) == {
        "apiVersion": "apps/v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
    }


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", BadRequest),
        (b"{}", BadRequest),
        (protobuf.MAGIC, UnsupportedMediaType),
        (body("v1", "Nosuch", b""), UnsupportedMediaType),
        (body("v1", "ConfigMap", field(1, META)[:-2]), BadRequest),
        (body("v1", "ConfigMap", b"\x0b"), BadRequest),
        (body("v1", "ConfigMap", varint(1 << 3) + b"\xff" * 11), BadRequest),
        (body("v1", "ConfigMap", field(1, 7)), BadRequest),
        (body("v1", "ConfigMap", field(1, field(1, b"\xff\xfe"))), BadRequest),
        (body("apps/v1", "Deployment", field(1, field(9, field(1, 1 << 62)))), BadRequest),
    ],
)
def test_what_is_refused(sent, error):
    with pytest.raises(error):
        protobuf.decode(sent)


@given(st.binary(max_size=200), st.sampled_from(["Pod", "ConfigMap", "Service", "DeleteOptions", "Event"]))
@settings(max_examples=300, deadline=None)
def test_nothing_else_ever_comes_out(raw, kind):
    for sent in (protobuf.MAGIC + raw, body("v1", kind, raw)):
        try:
            decoded = protobuf.decode(sent)
        except StatusError:
            continue
        assert isinstance(decoded, dict)
