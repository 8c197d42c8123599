"""What of a ServiceEntry is so, and what is said to be without effect."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.components.istio.policy import service_entry

PLAIN: dict[str, Any] = {
    "hosts": ["api.example.com", "*.example.org"],
    "location": "MESH_EXTERNAL",
    "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
    "resolution": "DNS",
}


@pytest.mark.parametrize(
    ("changed", "ignored"),
    [
        ({}, []),
        ({"resolution": "NONE", "exportTo": ["*"]}, []),
        ({"exportTo": ["."]}, ["spec.exportTo"]),
        ({"endpoints": [{"address": "10.0.0.1"}], "resolution": "STATIC"}, ["spec.endpoints"]),
        ({"addresses": ["192.0.2.1"]}, ["spec.addresses"]),
        ({"workloadSelector": {"labels": {"a": "b"}}}, ["spec.workloadSelector"]),
        ({"hosts": []}, ["spec.hosts"]),
        ({"hosts": ["a.example", "127.0.0.1", "localhost"]}, ["spec.hosts[1]", "spec.hosts[2]"]),
        (
            {"ports": [{"number": 443, "protocol": "https"}, {"number": 53, "protocol": "UDP"}]},
            ["spec.ports[1].protocol"],
        ),
        ({"ports": [{"number": 27017, "protocol": "MONGO"}]}, ["spec.ports[0].protocol"]),
        ({"subjectAltNames": ["x"], "unheardOf": 1}, ["spec.subjectAltNames", "spec.unheardOf"]),
    ],
)
def test_what_has_no_effect_is_named(changed: dict[str, Any], ignored: list[str]) -> None:
    assert [each.partition(" ")[0] for each in service_entry(PLAIN | changed)] == ignored
