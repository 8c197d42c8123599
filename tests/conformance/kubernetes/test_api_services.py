"""kubectl and an extension API server: registered by a manifest, used as any other kind, told when it is away."""

import json
import shutil

import pytest

from headrace.api.identity import ADMIN
from headrace.client.embedded import EmbeddedClient
from headrace.controllermanager.apiservices import AvailabilityController, RegistrationController
from headrace.testing.extension import extension_server

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]
NAME = "apiservice/v1alpha1.wardle.example.com"
FLUNDER = {"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "one"}, "spec": {}}


class Late:
    """A Dialer whose server comes later."""

    def __init__(self):
        self.server = None

    async def dial(self, host, port):
        return await self.server.dial(host, port)


@pytest.fixture(scope="module")
def dialer():
    return Late()


@pytest.fixture(scope="module")
def wardle(background, dialer, tmp_path_factory):
    """The server, and the controllers that look after API services."""
    http = background.http
    made = extension_server(tmp_path_factory.mktemp("wardle"), http.pki.front_proxy_ca)
    dialer.server = background.run(made.__aenter__())

    async def start():
        system, manager = EmbeddedClient(http.cluster.registry, ADMIN), http.cluster.manager
        manager.add(RegistrationController(system, http.server.extensions), system)
        manager.add(AvailabilityController(system, http.cluster.clock, http.server.extensions), system)
        await manager.start()

    background.run(start())
    yield dialer.server
    background.run(made.__aexit__(None, None, None))


def test_an_extension_server_from_its_manifest_to_its_end(kubectl, wardle):
    kubectl("wait", "apiservice/v1.apps", "--for=create", "--timeout=25s")
    manifests = "\n".join(json.dumps(m) for m in (*wardle.service(), wardle.manifest))
    kubectl("apply", "-f", "-", stdin=manifests)
    kubectl("wait", NAME, "--for=condition=Available", "--timeout=25s")
    line = next(x for x in kubectl("get", "apiservices").splitlines() if x.startswith("v1alpha1.wardle"))
    assert line.split()[1:3] == ["default/wardle", "True"]
    assert "flunders" in kubectl("api-resources", "--api-group=wardle.example.com", "--no-headers")
    assert "Flunder is what wardle serves" in kubectl("explain", "flunder")
    assert "created" in kubectl("create", "-f", "-", stdin=json.dumps(FLUNDER))
    shown = kubectl("get", "fl", "-o", "jsonpath={.items[*].metadata.name} {.items[*].metadata.annotations.by}")
    assert shown.startswith("one kubernetes-admin:system:masters")
    assert "NotFound" in kubectl.fails("get", "flunders", "two")
    assert "forbidden" in kubectl.fails("get", "flunders", "--as=somebody").lower()
    assert "deleted" in kubectl("delete", "flunder", "one")
    kubectl("delete", "service", "wardle")
    kubectl("wait", NAME, "--for=condition=Available=False", "--timeout=25s")
    assert "False (ServiceNotFound)" in kubectl("get", NAME)
    assert "service unavailable" in kubectl.fails("get", "--raw", "/apis/wardle.example.com/v1alpha1")
