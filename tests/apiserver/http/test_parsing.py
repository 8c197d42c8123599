"""Pure parts of the HTTP layer by table: URLs, Accept headers, warnings, proxy names, users of certificates."""

import pytest

from headrace.api.core import Pod, PodStatus
from headrace.api.errors import BadRequest, NotAcceptable, NotFound
from headrace.api.meta import ObjectMeta
from headrace.apiserver.authn.requests import certificate_user
from headrace.apiserver.http.messages import decode, warning_headers
from headrace.apiserver.http.negotiation import Shape, Wanted, negotiate, wants_discovery
from headrace.apiserver.http.subresources import pod_address, split_proxy_name
from headrace.apiserver.http.targets import Target, parse


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1", Target("", "v1")),
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/pods/", Target("", "v1", "pods")),
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/n", Target("", "v1", "namespaces", "", "n")),
        ("/api/v1/namespaces/n/finalize", Target("", "v1", "namespaces", "", "n", "finalize")),
        ("/api/v1/namespaces/n/pods", Target("", "v1", "pods", "n")),
        ("/api/v1/namespaces/n/pods/p/log", Target("", "v1", "pods", "n", "p", "log")),
        (
            "/api/v1/namespaces/n/services/http:s:80/proxy/a/",
            Target("", "v1", "services", "n", "http:s:80", "proxy", ("a", "")),
        ),
        ("/apis/apps/v1", Target("apps", "v1")),
        ("/apis/apps/v1/namespaces/n/deployments/d/scale", Target("apps", "v1", "deployments", "n", "d", "scale")),
        ("/api", None),
        ("/apis", None),
        ("/apis/apps", None),
        ("/apis//v1/pods", None),
        ("/version", None),
        ("/", None),
        ("", None),
    ],
)
def test_targets(path, target):
    assert parse(path) == target


PROTOBUF = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", Wanted()),
        ("*/*", Wanted()),
        ("application/json", Wanted()),
        (f"{PROTOBUF}, application/json", Wanted()),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Wanted(Shape.TABLE)),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Wanted()),
        ("application/json;as=Other;v=v1;g=meta.k8s.io,*/*", Wanted()),
        ("application/json;q=0.5,application/yaml", Wanted(yaml=True)),
        ("application/json;q=broken", Wanted()),
        (
            "application/json; as=PartialObjectMetadata; v=v1beta1; g=meta.k8s.io",
            Wanted(Shape.METADATA, version="v1beta1"),
        ),
        ("text/html, application/xhtml+xml, */*;q=0.8", Wanted()),
    ],
)
def test_negotiation(accept, wanted):
    assert negotiate(accept) == wanted


@pytest.mark.parametrize("accept", [PROTOBUF, "text/plain", f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io"])
def test_nothing_acceptable(accept):
    with pytest.raises(NotAcceptable):
        negotiate(accept)
    with pytest.raises(NotAcceptable):
        wants_discovery(accept)


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("", ""),
        ("application/json", ""),
        ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", "v2"),
        ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", "v2beta1"),
        ("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json", ""),
    ],
)
def test_discovery(accept, version):
    assert wants_discovery(accept) == version


def test_warnings_are_safe_headers():
    ((name, value),) = warning_headers(['unknown field "spec.a\\b"\r\nX-Evil: 1 ü'])
    assert name == b"warning"
    assert value == b'299 - "unknown field \\"spec.a\\\\b\\"  X-Evil: 1 ?"'


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ("", "web", "")),
        ("web:80", ("", "web", "80")),
        ("http:web:http", ("http", "web", "http")),
        ("https:web:", ("https", "web", "")),
    ],
)
def test_proxy_names(text, parts):
    assert split_proxy_name(text) == parts


@pytest.mark.parametrize("port", ["0", "65536", "9" * 30, "²"])
def test_ports_that_cannot_be_dialled(port):
    pod = Pod(metadata=ObjectMeta(name="p"), status=PodStatus(pod_ip="10.199.0.9"))
    with pytest.raises((BadRequest, NotFound), match="port"):
        pod_address(pod, port)
    assert pod_address(pod, "8080") == ("10.199.0.9", 8080)


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"a": [1, 2.5, null]}', "", {"a": [1, 2.5, None]}),
        (b"a: 2020-01-01\nb: yes\n1: x\n", "application/yaml; charset=utf-8", {"a": "2020-01-01", "b": True, "1": "x"}),
    ],
)
def test_bodies(body, kind, value):
    assert decode(body, kind) == value


# nine levels, each nine times the one before: a few hundred bytes that would be four hundred million values
BOMB = "".join(
    f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x, x, x, x, x, x, x, x, x'}]\n" for i in range(9)
).encode()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"a: &a [*a]", "application/yaml"),
        (BOMB, "application/yaml"),
        (b"? [1, 2]\n: x", "application/yaml"),
        (b"a: 1\n---\nb: 2", "application/yaml"),
        (b"a: !!python/object/apply:os.system [ls]", "application/yaml"),
        (b"[" * 20_000, "application/yaml"),
        (b"[" * 300_000, "application/yaml"),
        (b"- " * 300_000, "application/yaml"),
    ],
)
def test_bodies_that_are_refused(body, kind):
    with pytest.raises(BadRequest):
        decode(body, kind)


def test_users_of_certificates():
    subject = ((("organizationName", "system:masters"),), (("organizationName", "b"),), (("commonName", "jane"),))
    user = certificate_user({"subject": subject})
    assert (user.name, user.groups) == ("jane", ("system:masters", "b", "system:authenticated"))
    assert certificate_user({}) is None
    assert certificate_user(None) is None
    assert certificate_user({"subject": ((("organizationName", "system:masters"),),)}) is None
