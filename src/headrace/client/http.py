"""The client over HTTP: any Kubernetes API server, by kubeconfig or from inside a pod.

Behaves as the embedded client does; one contract suite runs over both. A server that does not answer is
ServiceUnavailable, so that callers see API errors and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Any, Generic, Literal, Self

import aiohttp
import msgspec

from headrace import __version__
from headrace.api import _wire, errors
from headrace.api.errors import AlreadyExists, Gone, InternalError, NotFound, ServiceUnavailable, StatusError
from headrace.api.identity import User
from headrace.client.base import EventType, ObjectList, PatchType, T, WatchEvent
from headrace.client.embedded import fields_to_apply
from headrace.client.kubeconfig import Cluster, NoCluster, from_kubeconfig, in_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from headrace.client.base import Propagation

REQUEST_SECONDS = 60.0
CONNECT_SECONDS = 10.0
RECONNECT_SECONDS = 0.2
STREAMED_BYTES = 1 << 20
"""Bodies beyond this are sent in pieces, so that one write does not hold up the loop."""
JSON = "application/json"
USER_AGENT = f"headrace/{__version__}"
"""Its first word is the field manager of everything that this client writes."""

_BY_CODE: dict[int, type[StatusError]] = {
    cls.code: cls
    for cls in (
        errors.BadRequest,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.NotAcceptable,
        errors.Conflict,
        errors.Gone,
        errors.RequestEntityTooLarge,
        errors.UnsupportedMediaType,
        errors.Invalid,
        errors.TooManyRequests,
        errors.ServiceUnavailable,
        errors.Timeout,
    )
}


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class HttpClient:
    """See `client.base.Client`. Close it when done, or use it as a context."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(cls, path: Path | None = None, context: str = "") -> HttpClient:
        """By kubeconfig: the given one, else `$KUBECONFIG`, else ~/.kube/config. Raises NoCluster."""
        return cls(from_kubeconfig(path, context))

    @classmethod
    def in_cluster(cls) -> HttpClient:
        """As the service account of this pod. Raises NoCluster."""
        return cls(in_cluster())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self, kind: type[T], name: str, namespace: str | None = None, *, subresource: Literal["", "scale"] = ""
    ) -> T:
        """See Client."""
        return _wire.decode(kind, await self._call("GET", kind.INFO.path(namespace, name, subresource)))

    async def list(
        self, kind: type[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> ObjectList[T]:
        """See Client."""
        raw = await self._call("GET", kind.INFO.path(namespace), query=_selectors(labels, fields))
        page = _wire.decode(_List, raw)
        return ObjectList(
            [_wire.decode(kind, bytes(item)) for item in page.items or ()], page.metadata.resource_version
        )

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """See Client. Connects with the first step; goes on behind the server's time-outs."""
        return _Watch(self, kind, namespace, resource_version, _selectors(labels, fields))

    async def create(self, obj: T) -> T:
        """See Client."""
        raw = await self._call("POST", obj.INFO.path(obj.metadata.namespace), body=_wire.encode(obj))
        return _wire.decode(type(obj), raw)

    async def update(self, obj: T) -> T:
        """See Client."""
        meta = obj.metadata
        raw = await self._call("PUT", obj.INFO.path(meta.namespace, meta.name), body=_wire.encode(obj))
        return _wire.decode(type(obj), raw)

    async def patch(
        self,
        kind: type[T],
        name: str,
        patch: dict[str, Any],
        namespace: str | None = None,
        *,
        subresource: Literal["", "status", "scale", "finalize", "binding"] = "",
        resource_version: str = "",
    ) -> T:
        """See Client."""
        body = patch
        if resource_version:
            body = {**patch, "metadata": {**(patch.get("metadata") or {}), "resourceVersion": resource_version}}
        raw = await self._call(
            "PATCH",
            kind.INFO.path(namespace, name, subresource or None),
            body=_wire.encode(body),
            content=PatchType.MERGE.value,
        )
        if subresource == "scale":
            return await self.get(kind, name, namespace)
        return _wire.decode(kind, raw)

    async def apply(self, obj: T) -> T:
        """See Client."""
        kind, meta = type(obj), obj.metadata
        body = fields_to_apply(obj)
        while True:
            try:
                return await self.patch(kind, meta.name, body, meta.namespace or None)
            except NotFound as missing:
                if missing.kind != kind.INFO.plural or missing.name != meta.name:
                    raise
            try:
                raw = await self._call("POST", kind.INFO.path(meta.namespace), body=_wire.encode(body))
            except AlreadyExists:
                continue
            return _wire.decode(kind, raw)

    async def delete(
        self,
        kind: type[T],
        name: str,
        namespace: str | None = None,
        *,
        uid: str = "",
        propagation: Propagation = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        """See Client."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self._call("DELETE", kind.INFO.path(namespace, name), body=_wire.encode(options))

    async def request_token(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        pod_name: str = "",
        pod_uid: str = "",
    ) -> str:
        """See Client."""
        spec: dict[str, Any] = {"audiences": list(audiences), "expirationSeconds": expiration_seconds}
        if pod_name:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod_name, "uid": pod_uid}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        answer = await self._ask("authentication.k8s.io", "TokenRequest", path, spec)
        return str(answer["token"])

    async def review_token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """See Client."""
        group = "authentication.k8s.io"
        spec = {"token": token, "audiences": list(audiences)}
        answer = await self._ask(group, "TokenReview", f"/apis/{group}/v1/tokenreviews", spec)
        if not answer.get("authenticated"):
            return None
        info = answer.get("user") or {}
        extra = {k: tuple(v) for k, v in (info.get("extra") or {}).items()}
        return User(info.get("username", ""), info.get("uid", ""), tuple(info.get("groups") or ()), extra)

    async def review_access(
        self,
        user: User,
        verb: str,
        *,
        group: str = "",
        resource: str,
        subresource: str = "",
        namespace: str = "",
        name: str = "",
    ) -> bool:
        """See Client."""
        attributes = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {k: list(v) for k, v in user.extra.items()},
            "resourceAttributes": attributes,
        }
        where = "authorization.k8s.io"
        answer = await self._ask(where, "SubjectAccessReview", f"/apis/{where}/v1/subjectaccessreviews", spec)
        return bool(answer.get("allowed"))

    async def _ask(self, group: str, kind: str, path: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Create a review, return its status."""
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
        answer = _wire.decode_any(await self._call("POST", path, body=_wire.encode(body)))
        status: dict[str, Any] = answer.get("status") or {}
        return status

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content: str = JSON,
        query: dict[str, str] | None = None,
    ) -> bytes:
        async with self.open(method, path, body=body, content=content, query=query) as response:
            try:
                return await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._unreachable(error) from error

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content: str = JSON,
        query: dict[str, str] | None = None,
        timeout: float | None = REQUEST_SECONDS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body is not read yet. Raises what the server's Status says."""
        headers = {"Accept": JSON, **dict(self._cluster.headers)}
        if body is not None:
            headers["Content-Type"] = content
        try:
            authorization = await self._cluster.credentials.header()
            if authorization:
                headers["Authorization"] = authorization
            response = await self._connected().request(
                method,
                self._cluster.server + path,
                params=query,
                data=io.BytesIO(body) if body is not None and len(body) > STREAMED_BYTES else body,
                headers=headers,
                server_hostname=self._cluster.server_name or None,
                proxy=self._cluster.proxy or None,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
            )
        except (aiohttp.ClientError, OSError, TimeoutError, NoCluster) as error:
            raise self._unreachable(error) from error
        try:
            if response.status >= 400:
                raise failure(response.status, await response.read())
            yield response
        finally:
            response.release()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._cluster.tls or True, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": USER_AGENT}
            )
        return self._session

    def _unreachable(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(f"{self._cluster.server} does not answer: {error!r}")


class _Watch(Generic[T]):
    """Events of one or more connections, one after the other."""

    def __init__(
        self, client: HttpClient, kind: type[T], namespace: str | None, version: str, query: dict[str, str]
    ) -> None:
        self._client, self._kind, self._path = client, kind, kind.INFO.path(namespace)
        self._version, self._query = version, query
        self._events = self._run()

    def __aiter__(self) -> _Watch[T]:
        return self

    async def __anext__(self) -> WatchEvent[T]:
        return await anext(self._events)

    async def aclose(self) -> None:
        """End the watch."""
        await self._events.aclose()

    async def _run(self) -> Any:
        while True:
            query = {
                **self._query,
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": self._version,
            }
            seen = False
            async with self._client.open("GET", self._path, query=query, timeout=None) as response:
                async for line in _lines(response):
                    seen = True
                    event = self._event(line)
                    if event is not None:
                        yield event
            if not seen:
                await asyncio.sleep(RECONNECT_SECONDS)  # a server that hangs up at once is not asked in a tight loop

    def _event(self, line: bytes) -> WatchEvent[T] | None:
        parsed = _wire.decode(_Line, line)
        raw = bytes(parsed.object)
        if parsed.type == "ERROR":
            raise failure(int(_wire.decode_any(raw).get("code") or InternalError.code), raw)
        if parsed.type == EventType.BOOKMARK:
            self._version = str((_wire.decode_any(raw).get("metadata") or {}).get("resourceVersion") or self._version)
            return None
        obj = _wire.decode(self._kind, raw)
        self._version = obj.metadata.resource_version or self._version
        return WatchEvent(EventType(parsed.type), obj)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines, of any length; a connection that breaks ends them."""
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
    except (aiohttp.ClientError, OSError):
        return


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in query.items() if value}


def failure(code: int, body: bytes) -> StatusError:
    """The error that a response stands for, also when it is no Status."""
    try:
        parsed = _wire.decode_any(body)
    except _wire.DecodeError:
        parsed = None
    if isinstance(parsed, dict) and parsed.get("kind") == "Status":
        error = errors.from_status(parsed)
        if code == Gone.code and not isinstance(error, Gone):
            return Gone(error.message)
        if not isinstance(error, InternalError) or code == InternalError.code:
            return error
        return _BY_CODE.get(code, InternalError)(error.message)
    text = body[:300].decode(errors="replace").strip() or "no explanation"
    return _BY_CODE.get(code, InternalError)(f"the server answered {code}: {text}")
