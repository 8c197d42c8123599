"""Bytes of artifacts, read from the object store with the keys of the artifact's own namespace.

So nobody reads through this API what a pod of that namespace could not read. Bytes are passed on as they come; nothing
is held. Requests are presigned (AWS Signature Version 4 in the query), which also makes links to hand out.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.api.core import Secret
from headrace.api.errors import NotFound
from headrace.components.pipelines.types.rest import Code, RpcError, invalid

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    import aiohttp

    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

CREDENTIALS = "mlpipeline-minio-artifact"
LINK_SECONDS = 900
MAX_DELETED = 1000
"""Objects that one request deletes: S3's bound."""
CHUNK = 1 << 18
_ALGORITHM, _REGION = "AWS4-HMAC-SHA256", "us-east-1"
_SCHEMES = ("minio://", "s3://")
PASSED = ("range", "if-none-match", "if-modified-since", "if-range")
"""Request headers that the store answers."""


class Objects:
    """Reads what URIs name. `endpoint` is the store's address on this machine."""

    def __init__(self, client: Client, clock: Clock, endpoint: str) -> None:
        self._client, self._clock, self._endpoint = client, clock, endpoint

    async def link(self, namespace: str, uri: str) -> str:
        """A URL that reads the object for LINK_SECONDS, by whoever has it. Raises RpcError."""
        return await self._signed("GET", namespace, uri)

    async def _signed(self, method: str, namespace: str, uri: str) -> str:
        url, keys = f"{self._endpoint}{_path(uri)}", await self._keys(namespace)
        return presign(url, keys, self._clock.now(), LINK_SECONDS, method)

    async def ask(self, namespace: str, path: str, query: Mapping[str, str]) -> bytes:
        """The store's answer, a document, to GET of a path that is no object. Raises RpcError."""
        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody looks
        from yarl import URL  # noqa: PLC0415

        keys = await self._keys(namespace)
        link = presign(f"{self._endpoint}{path}", keys, self._clock.now(), LINK_SECONDS, query=query)
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with session.get(URL(link, encoded=True)) as response:
                    if response.status == 403:
                        raise RpcError(Code.PERMISSION_DENIED, f"The keys of namespace {namespace!r} do not open this.")
                    if response.status == 404:
                        raise RpcError(Code.NOT_FOUND, f"There is nothing at {path} in the object store.")
                    if response.status >= 300:
                        raise RpcError(Code.INVALID_ARGUMENT, f"The object store answered {response.status}.")
                    return await response.read()
            except aiohttp.ClientConnectionError as error:
                raise RpcError(Code.UNAVAILABLE, "The object store does not answer; try again soon.") from error

    async def write(self, namespace: str, uri: str, body: AsyncIterator[bytes], length: int) -> None:
        """Store what comes, of a length that is known. Raises RpcError."""
        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody writes
        from yarl import URL  # noqa: PLC0415

        link = URL(await self._signed("PUT", namespace, uri), encoded=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with session.put(link, data=body, headers={"content-length": str(length)}) as response:
                    if response.status == 403:
                        raise RpcError(
                            Code.PERMISSION_DENIED, f"Namespace {namespace!r} may not write {uri} in the object store."
                        )
                    if response.status >= 300:
                        raise RpcError(Code.UNAVAILABLE, f"The object store answered {response.status} for {uri}.")
            except aiohttp.ClientConnectionError as error:
                raise RpcError(Code.UNAVAILABLE, "The object store does not answer; try again soon.") from error

    async def delete(self, namespace: str, bucket: str, keys: Sequence[str]) -> None:
        """Delete objects of a bucket, at most MAX_DELETED. Raises RpcError for the first that stays."""
        import xml.etree.ElementTree as ET  # noqa: PLC0415 - few requests need it

        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody deletes
        from yarl import URL  # noqa: PLC0415

        root = ET.Element("Delete")
        for key in keys:
            ET.SubElement(ET.SubElement(root, "Object"), "Key").text = key
        ET.SubElement(root, "Quiet").text = "true"
        url, signed = f"{self._endpoint}/{quote(bucket, safe='-_.~')}", await self._keys(namespace)
        link = presign(url, signed, self._clock.now(), LINK_SECONDS, "POST", {"delete": ""})
        timeout = aiohttp.ClientTimeout(total=120, sock_connect=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with session.post(URL(link, encoded=True), data=ET.tostring(root)) as response:
                    told = await response.read()
                    if response.status >= 300:
                        raise RpcError(Code.UNAVAILABLE, f"The object store answered {response.status}.")
            except aiohttp.ClientConnectionError as error:
                raise RpcError(Code.UNAVAILABLE, "The object store does not answer; try again soon.") from error
        failed = [e for e in ET.fromstring(told) if e.tag.rpartition("}")[2] == "Error"]  # noqa: S314 - our own store's
        if failed:
            said = {e.tag.rpartition("}")[2]: e.text or "" for e in failed[0]}
            where = f"minio://{bucket}/{said.get('Key', '')}"
            if said.get("Code") == "AccessDenied":
                raise RpcError(
                    Code.PERMISSION_DENIED, f"Namespace {namespace!r} may not delete {where} in the object store."
                )
            raise RpcError(Code.UNAVAILABLE, f"{where} was not deleted: {said.get('Message', '')}")

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, uri: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The store's answer to reading the object: 200, 206, 304 or 416. Raises RpcError."""
        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody reads

        link = await self.link(namespace, uri)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            from yarl import URL  # noqa: PLC0415

            try:
                async with session.get(URL(link, encoded=True), headers=headers) as response:
                    if response.status == 404:
                        raise RpcError(Code.NOT_FOUND, f"There is no object at {uri} (any more).")
                    if response.status == 403:
                        raise RpcError(
                            Code.PERMISSION_DENIED, f"Namespace {namespace!r} may not read {uri} in the object store."
                        )
                    if response.status not in {200, 206, 304, 416}:
                        raise RpcError(Code.UNAVAILABLE, f"The object store answered {response.status} for {uri}.")
                    yield response
            except aiohttp.ClientConnectionError as error:
                raise RpcError(Code.UNAVAILABLE, "The object store does not answer; try again soon.") from error

    async def _keys(self, namespace: str) -> tuple[str, str]:
        try:
            secret = await self._client.get(Secret, CREDENTIALS, namespace)
            access, key = (base64.b64decode(secret.data[name]).decode() for name in ("accesskey", "secretkey"))
        except (NotFound, KeyError, binascii.Error, UnicodeDecodeError) as error:
            raise RpcError(
                Code.FAILED_PRECONDITION,
                f"Namespace {namespace!r} has no usable Secret {CREDENTIALS!r} with the keys of the object store.",
            ) from error
        return access, key


def presign(  # noqa: PLR0917 - what is signed
    url: str,
    keys: tuple[str, str],
    now: dt.datetime,
    seconds: int,
    method: str = "GET",
    query: Mapping[str, str] | None = None,
) -> str:
    """The URL of an object, made readable (or what else `method` does) until `seconds` have passed."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{_REGION}/s3/aws4_request"
    host, slash, path = url.split("://", 1)[1].partition("/")
    parameters = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys[0]}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
        **(query or {}),
    }
    signed = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(parameters.items()))
    canonical = "\n".join((method, slash + path, signed, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"))
    text = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signing = f"AWS4{keys[1]}".encode()
    for piece in scope.split("/"):
        signing = hmac.new(signing, piece.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    return f"{url}?{signed}&X-Amz-Signature={signature}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What the store says of a part of a bucket; names are quoted as in URLs."""

    objects: list[tuple[str, int]]
    next_token: str


def read_listing(raw: bytes) -> Listing:
    """The store's answer to a question for objects. Raises RpcError."""
    import xml.etree.ElementTree as ET  # noqa: PLC0415 - few requests need it

    try:
        root = ET.fromstring(raw)  # noqa: S314 - written by this platform's own store
    except ET.ParseError as error:
        raise RpcError(Code.UNAVAILABLE, "The object store's answer could not be read.") from error
    found = Listing([], _text(root, "NextContinuationToken"))
    for child in root:
        if child.tag.rpartition("}")[2] == "Contents":
            found.objects.append((_text(child, "Key"), int(_text(child, "Size") or 0)))
    return found


def _text(element: Element, name: str) -> str:
    return next((child.text or "" for child in element if child.tag.rpartition("}")[2] == name), "")


async def base64_json(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """`{"data": "<base64>"}` of a body as it comes."""
    yield b'{"data":"'
    rest = b""
    async for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        yield base64.b64encode(data[:whole])
    yield base64.b64encode(rest) + b'"}'


def _path(uri: str) -> str:
    """Bucket and key as the path of a URL."""
    scheme = next((s for s in _SCHEMES if uri.startswith(s)), None)
    bucket, _, key = uri.removeprefix(scheme or "").partition("/")
    if scheme is None or not bucket or not key:
        raise invalid(f"{uri or 'The artifact'} does not lie in this platform's object store: read it where it is.")
    return f"/{quote(bucket, safe='-_.~')}/{quote(key, safe='/-_.~')}"
