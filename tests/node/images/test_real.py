"""When images as they are are pulled, and how the agent sees them."""

from __future__ import annotations

import pytest

from headrace.node.images.real import environment, policy_of
from headrace.node.images.service import SYSTEM_PATH
from headrace.node.runtime.engines import RealImage


@pytest.mark.parametrize(
    ("image", "policy", "wanted"),
    [
        ("acme/tool:1", "", "IfNotPresent"),
        ("acme/tool", "", "Always"),
        ("acme/tool:latest", "", "Always"),
        ("acme/tool@sha256:" + "0" * 64, "", "IfNotPresent"),
        ("acme/tool:1", "Always", "Always"),
        ("acme/tool", "Never", "Never"),
        ("localhost/tool", "", "IfNotPresent"),
        ("localhost/tool", "Always", "IfNotPresent"),
        ("localhost/tool", "Never", "Never"),
    ],
)
def test_when_to_pull(image, policy, wanted):
    assert policy_of(image, policy) == wanted


def test_an_image_as_the_agent_sees_it():
    found = environment("acme:1", RealImage("12", ("e",), ("c",), {"PATH": "/a:/b", "X": "y"}, "/w", "nobody", 7))
    assert (found.id, found.real, found.python) == ("acme:1@sha256:12", True, None)
    assert (found.path, found.env) == (("/a", "/b"), {"X": "y"})
    assert (found.entrypoint, found.command, found.workdir, found.user) == (("e",), ("c",), "/w", "nobody")
    assert environment("acme:1", RealImage("12")).path == SYSTEM_PATH
