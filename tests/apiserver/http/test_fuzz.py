"""Whatever comes over the wire is answered, soon, and never with an error of the server; no descriptor stays open.

The short run is the same every time. `pytest tests/apiserver/http/test_fuzz.py --slow` sends tens of thousands of
requests that are new each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import ssl
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.apiserver.registry import BUILTIN
from headrace.testing.contracts.client import Widget
from headrace.testing.http import http_cluster

from ..registry.test_fuzz import GOOD, META, mutated, values  # noqa: TID252 - the documents are the same
from ..registry.test_fuzz import NAMES as FIXED  # noqa: TID252

SECONDS = 30.0
"""A request that takes longer hangs, also on a busy machine."""
KINDS = {info.plural: info for info in (*BUILTIN, Widget.INFO)}
ODD = ["", " ", ".", "..", "-", "%", "\x00", "é", "a/b", "x" * 300, "*", "namespaces", "x.fuzz.dev", "\U0001f600"]
PARTS = ["status", "scale", "log", "exec", "attach", "portforward", "token", "eviction", "binding", "finalize", "proxy"]
PARTS += ["proxy/a/b", "approval", "ephemeralcontainers", "resize", "nope"]
QUERIES = {
    "limit": ["1", "2", "-1", "x", "9" * 30],
    "continue": ["x", "eyJydiI6MSwic3RhcnQiOiJhIn0", "e30"],
    "resourceVersion": ["0", "1", "x", "9" * 30, "-1"],
    "resourceVersionMatch": ["Exact", "NotOlderThan", "x"],
    "labelSelector": ["a=b", "a in (b,c)", "!a", "a notin", "((", "a=b,c!=d", "=" * 20],
    "fieldSelector": ["metadata.name=x", "status.phase=Running", "nope=1", "=", "metadata.name!=x"],
    "watch": ["true", "1", "x"],
    "timeoutSeconds": ["1", "0", "-5", "x", "9" * 30],
    "allowWatchBookmarks": ["true", "x"],
    "sendInitialEvents": ["true", "x"],
    "dryRun": ["All", "x"],
    "fieldValidation": ["Strict", "Warn", "Ignore", "x"],
    "fieldManager": ["me", "x" * 200],
    "force": ["true", "x"],
    "gracePeriodSeconds": ["0", "-1", "x", "9" * 30],
    "propagationPolicy": ["Foreground", "Orphan", "x"],
    "orphanDependents": ["true", "x"],
    "includeObject": ["None", "Object", "x"],
    "pretty": ["true"],
    "follow": ["true"],
    "tailLines": ["1", "x", "-1"],
    "sinceSeconds": ["1", "x", "0"],
    "container": ["c", "x"],
    "command": ["ls"],
    "stdin": ["true"],
    "ports": ["80", "x", "99999"],
    "path": ["/x", "x"],
    "exclude": ["ping"],
    "verbose": [""],
}
MEDIA = [
    "application/json",
    "application/yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    "",
    "application/json; charset=latin-1",
]
ACCEPT = [
    "application/json",
    "application/yaml",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "application/vnd.kubernetes.protobuf",
    "*/*",
    ";;,q=x",
]
HEADERS = [
    "Impersonate-User: someone",
    "Impersonate-Group: system:masters",
    "Impersonate-Extra-a%zz: b",
    "Authorization: Bearer x.y.z",
    "Authorization: Basic eDp5",
    "Upgrade: SPDY/3.1\r\nConnection: Upgrade",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Expect: 100-continue",
    "If-None-Match: x",
    "Range: bytes=0-1",
]
DOCUMENTS = ["/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/metrics", "/healthz"]
DOCUMENTS += ["/readyz/ping", "/openapi/v3", "/openapi/v3/apis/policy/v1", "/openid/v1/jwks", "/apis/nope/v1", "/x/y"]
QUESTIONS = [
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    "/apis/metrics.k8s.io/v1beta1/nodes",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
]
NAMES = st.sampled_from(["x", "x", "x", "default", *ODD]) | st.text(max_size=8)


@st.composite
def paths(draw) -> tuple[str, str]:
    """A path, and the plural of the kind that it is probably about."""
    match draw(st.integers(0, 9)):
        case 0:
            return draw(st.sampled_from(DOCUMENTS + QUESTIONS)), ""
        case 1:
            return "/" + "/".join(quote(draw(NAMES), safe="") for _ in range(draw(st.integers(0, 6)))), ""
        case _:
            plural = draw(st.sampled_from(sorted(KINDS)))
            info = KINDS[plural]
            namespace = draw(st.sampled_from(["default", "default", "default", "missing", "", *ODD]))
            name = draw(st.none() | NAMES)
            namespace = "default" if info.namespaced and draw(st.integers(0, 2)) else namespace
            path = info.path(quote(namespace, safe=""), quote(name, safe="") if name is not None else None)
            if name is not None and draw(st.integers(0, 2)) == 0:
                path += "/" + draw(st.sampled_from(PARTS))
            return path, plural


@st.composite
def bodies(draw, plural: str) -> bytes:
    """A document of the kind, good or nearly; any JSON; a patch; or any bytes."""
    info = KINDS.get(plural)
    kind = info.kind if info else ""
    good = {"metadata": {"name": FIXED.get(kind, "x"), **META}, **GOOD.get(kind, {"spec": {}})}
    match draw(st.integers(0, 7)):
        case 0:
            return draw(st.binary(max_size=60))
        case 1:
            return json.dumps(draw(values)).encode()
        case 2:
            places = st.sampled_from(["/metadata/labels/a", "/spec", "", "/metadata", "/-", "/spec/~2", "x"])
            verbs = st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"])
            step = st.fixed_dictionaries({"op": verbs, "path": places, "from": places, "value": values})
            return json.dumps(draw(st.lists(step, max_size=3))).encode()
        case 3:
            return b"k8s\x00" + draw(st.binary(max_size=80))
        case 4:
            return json.dumps(good).encode()
        case _:
            return json.dumps(draw(mutated(good))).encode()


@st.composite
def requests(draw) -> bytes:
    """One HTTP request."""
    path, plural = draw(paths())
    named = bool(plural) and not path.endswith(f"/{plural}")
    fitting = ["GET", "PUT", "PATCH"] if named else ["GET", "POST"]
    method = draw(st.sampled_from(fitting * 4 + ["DELETE", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"]))
    if method == "DELETE" and path in {"/api/v1/namespaces", "/api/v1/namespaces/default"}:
        method = "GET"
    names = draw(st.lists(st.sampled_from(sorted(QUERIES)), max_size=3))
    query = "&".join(f"{n}={quote(draw(st.sampled_from(QUERIES[n]) | st.text(max_size=5)), safe='')}" for n in names)
    lines = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1", "Host: fuzz"]
    lines.append(f"Accept: {draw(st.sampled_from(ACCEPT[:1] * 12 + ACCEPT))}")
    if draw(st.integers(0, 5)) == 0:
        lines.append(draw(st.sampled_from(HEADERS)))
    body = draw(bodies(plural)) if method in {"POST", "PUT", "PATCH", "DELETE"} else b""
    if body or method in {"POST", "PUT", "PATCH"}:
        lines += [
            f"Content-Type: {draw(st.sampled_from((MEDIA[2:6] if method == 'PATCH' else MEDIA[:1]) * 5 + MEDIA))}",
            f"Content-Length: {len(body)}",
        ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Client:
    """Sends requests over one connection for as long as the server keeps it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port, self._context = port, context
        self._streams = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body, of a stream its beginning. A connection that the server closed is opened again once."""
        fresh = self._streams is None
        if fresh:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._context, server_hostname="localhost"
            )
        reader, writer = self._streams
        try:
            writer.write(request)
            return await self._answer(request, reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            if fresh:
                raise
            return await self.ask(request)

    async def _answer(self, request, reader) -> tuple[int, bytes]:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            status = int(head.split()[1])
            if status != 100:
                break
        if status == 101:
            self.close()
            return status, b""
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = b""
        if "content-length" in fields:
            if not request.startswith(b"HEAD ") and status not in {204, 304}:
                body = await reader.readexactly(int(fields["content-length"]))
        elif not request.startswith(b"HEAD "):
            self.close()  # a stream: its head is answer enough
            return status, b""
        if "connection" in fields:
            self.close()
        return status, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def excused(request: bytes, status: int, body: bytes) -> bool:
    """What is no fault of the server: no pods run under this one, and the future has no versions yet."""
    if request.startswith(b"HEAD "):
        return status in {503, 504}
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return (status == 503 and told["reason"] == "ServiceUnavailable") or (
        status == 504 and told["message"].startswith("Too large resource version")
    )


@contextlib.asynccontextmanager
async def client(home, pki):
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(pki.admin, pki.admin_key)
    async with http_cluster(home, pki=pki, kinds=[Widget]) as cluster:
        made = Client(cluster.server.port, context)
        yield made
        made.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def send(home, pki, sent: list[bytes]) -> None:
    async with client(home, pki) as fuzzing:
        await fuzzing.ask(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        fuzzing.close()
        before = None
        for request in sent:
            try:
                status, body = await asyncio.wait_for(fuzzing.ask(request), SECONDS)
            except TimeoutError:
                raise AssertionError(f"no answer to {request!r}") from None
            assert status < 500 or status == 501 or excused(request, status, body), (request, status, body[:500])
            if before is None:
                before = descriptors()
        fuzzing.close()
        healthy, body = await asyncio.wait_for(fuzzing.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"), SECONDS)
        assert (healthy, body) == (200, b"ok")
        fuzzing.close()
        async with asyncio.timeout(SECONDS):  # what has been closed is heard of soon
            while before is not None and descriptors() > before:
                gc.collect()
                await asyncio.sleep(0.01)


def fuzz(pki, sent: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(send(Path(folder), pki, sent))


BATCH = st.lists(requests(), min_size=20, max_size=40)
ANYTHING = list(HealthCheck)


@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=ANYTHING)
@given(sent=BATCH)
def test_every_request_is_answered(pki, sent):
    fuzz(pki, sent)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=1000, deadline=None, suppress_health_check=ANYTHING)
@given(sent=BATCH)
def test_tens_of_thousands_of_requests_are_answered(pki, sent):
    fuzz(pki, sent)
