"""A synchronous S3 client for programs inside pods: standard library only, so that it runs in every environment.

Invariants:
- requests are signed with SigV4 and carry the SHA-256 of their payload; bodies are streamed, never held whole
  (except by `put` and `get`, which say so);
- a file appears under its name only when all of it has arrived;
- refused connections, name lookups that fail, 5xx and 429 are tried again until `patience` seconds have passed,
  because the platform may restart under a running pod; every other answer is final;
- proxies of the environment are ignored: the store is on the pod network.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import hmac
import http.client
import io
import os
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
CHUNK = 1 << 20
MULTIPART_THRESHOLD = 64 << 20
PART_SIZE = 32 << 20
MAX_PARTS = 10_000
TIMEOUT = 60.0
IDLE = 3.0
"""Servers close idle connections (uvicorn after 5 seconds): ours is not used again after this many."""


class S3Error(Exception):
    """The store's answer (`NoSuchKey`, `AccessDenied` …), or `Unreachable` when there was none."""

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class _Again(Exception):
    """Worth another try; carries what to raise when patience ends."""

    def __init__(self, final: S3Error) -> None:
        super().__init__(str(final))
        self.final = final


Section = tuple[IO[bytes], int, int]
Strings = list[str]


@dataclass
class _Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    section: Section | None = None
    """A part of a file as the body, instead of `data`."""


class _SectionReader(io.RawIOBase):
    """A part of a file, for http.client, which reads it in blocks."""

    def __init__(self, file: IO[bytes], start: int, length: int) -> None:
        super().__init__()
        file.seek(start)
        self._file, self._left = file, length

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the section's end."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class S3:
    """One endpoint with one key pair; path-style. Safe to use from several threads."""

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        region: str = "us-east-1",
        patience: float = 120.0,
        *,
        verify: bool = True,
        ca_file: str | None = None,
    ) -> None:
        url = urllib.parse.urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise S3Error("InvalidEndpoint", f"{endpoint!r} is not an S3 endpoint: give http://host:port")
        self._host, self._port, self._tls = url.hostname, url.port, url.scheme == "https"
        self._netloc = url.netloc.rpartition("@")[2]
        self._prefix = url.path.rstrip("/")
        self._key, self._secret, self._region, self._patience = access_key, secret_key, region, patience
        self._verify, self._ca_file = verify, ca_file
        self._local = threading.local()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, patience: float = 120.0) -> S3:
        """From AWS_ENDPOINT_URL or S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION."""
        endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("S3_ENDPOINT")
        if not endpoint:
            raise S3Error("InvalidEndpoint", "no S3 endpoint: set AWS_ENDPOINT_URL to http://host:port")
        if "://" not in endpoint and env.get("S3_USE_HTTPS", "0") not in {"0", "false", "False"}:
            endpoint = f"https://{endpoint}"
        return cls(
            endpoint,
            env.get("AWS_ACCESS_KEY_ID", ""),
            env.get("AWS_SECRET_ACCESS_KEY", ""),
            env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1",
            patience,
            verify=env.get("S3_VERIFY_SSL", "1") not in {"0", "false", "False"},
            ca_file=env.get("AWS_CA_BUNDLE") or None,
        )

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is not None:
            found.close()

    # Objects

    def get(self, bucket: str, key: str) -> bytes:
        """The whole object in memory. Raises S3Error (NoSuchKey …)."""
        return self._call("GET", bucket, key)[1]

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None = None) -> None:
        """Write an object from memory."""
        headers = {"content-type": content_type} if content_type else {}
        self._call("PUT", bucket, key, headers=headers, data=data)

    def exists(self, bucket: str, key: str) -> bool:
        """Whether the object is there. Raises S3Error when that cannot be known (AccessDenied …)."""
        return self.head(bucket, key) is not None

    def head(self, bucket: str, key: str) -> dict[str, str] | None:
        """The object's headers with lower-case names, or None."""
        try:
            return self._call("HEAD", bucket, key)[0]
        except S3Error as error:
            if error.status == 404:
                return None
            raise

    def delete(self, bucket: str, key: str) -> None:
        """Remove the object; one that is not there is removed too."""
        self._call("DELETE", bucket, key)

    def list(self, bucket: str, prefix: str = "") -> list[tuple[str, int]]:
        """Every key below a prefix with its size in bytes, in key order."""
        found: list[tuple[str, int]] = []
        token = ""
        while True:
            query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
            if token:
                query["continuation-token"] = token
            root = _xml(self._call("GET", bucket, "", query=query)[1])
            found.extend(
                (urllib.parse.unquote_plus(_text(item, "Key")), int(_text(item, "Size") or 0))
                for item in _children(root, "Contents")
            )
            token = _text(root, "NextContinuationToken")
            if _text(root, "IsTruncated") != "true" or not token:
                return found

    def download(self, bucket: str, key: str, path: str | os.PathLike[str]) -> None:
        """Write the object to a file; folders are made. A broken transfer goes on where it broke."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{os.getpid()}.{threading.get_ident()}.part")
        etag = ""
        try:
            with part.open("wb") as file:

                def fetch() -> None:
                    nonlocal etag
                    headers = {"range": f"bytes={file.tell()}-", "if-match": etag} if file.tell() and etag else {}
                    if not headers:
                        file.seek(0)
                        file.truncate()
                    try:
                        with self._open(_Request("GET", bucket, key, headers=headers)) as response:
                            etag = response.getheader("etag") or ""
                            _copy(response, file)
                    except S3Error as error:
                        if error.status not in {412, 416}:
                            raise
                        etag = ""  # replaced meanwhile: begin anew
                        raise _Again(error) from error

                self._patiently(fetch)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def upload(self, bucket: str, key: str, path: str | os.PathLike[str], content_type: str | None = None) -> None:
        """Write a file as an object; a large one goes in parts."""
        size = Path(path).stat().st_size
        headers = {"content-type": content_type} if content_type else {}
        with Path(path).open("rb") as file:
            if size > MULTIPART_THRESHOLD:
                self._upload_parts(bucket, key, file, size, headers)
            else:
                self._call("PUT", bucket, key, headers=headers, section=(file, 0, size))

    def _upload_parts(self, bucket: str, key: str, file: IO[bytes], size: int, headers: dict[str, str]) -> None:
        part_size = max(PART_SIZE, -(-size // MAX_PARTS))
        created = self._call("POST", bucket, key, query={"uploads": ""}, headers=headers)[1]
        upload_id = _text(_xml(created), "UploadId")
        try:
            etags: Strings = []
            for number, start in enumerate(range(0, size, part_size), 1):
                query = {"partNumber": str(number), "uploadId": upload_id}
                section = (file, start, min(part_size, size - start))
                etags.append(self._call("PUT", bucket, key, query=query, section=section)[0].get("etag", ""))
            body = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
                for number, etag in enumerate(etags, 1)
            )
            document = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
            self._complete(bucket, key, upload_id, document, etags)
        except BaseException:
            with contextlib.suppress(S3Error):
                self._call("DELETE", bucket, key, query={"uploadId": upload_id}, patience=2.0)
            raise

    def _complete(self, bucket: str, key: str, upload_id: str, document: bytes, etags: Strings) -> None:
        try:
            answer = self._call("POST", bucket, key, query={"uploadId": upload_id}, data=document)[1]
        except S3Error as error:
            digests = b"".join(bytes.fromhex(etag.strip('"')) for etag in etags)
            whole = f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"'
            # A retried completion finds no upload when the first one went through and only its answer was lost.
            if error.code == "NoSuchUpload" and (self.head(bucket, key) or {}).get("etag") == whole:
                return
            raise
        root = _xml(answer)
        if _local_name(root) == "Error":  # a 200 that failed late
            raise S3Error(_text(root, "Code"), _text(root, "Message"), 500)

    # Transport

    def _call(
        self, method: str, bucket: str, key: str, *, patience: float | None = None, **fields: Any
    ) -> tuple[dict[str, str], bytes]:
        request = _Request(method, bucket, key, **fields)

        def once() -> tuple[dict[str, str], bytes]:
            with self._open(request) as response:
                body = response.read()
                return {name.lower(): value for name, value in response.getheaders()}, body

        return self._patiently(once, patience)

    def _patiently(self, action: Callable[[], T], patience: float | None = None) -> T:
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        delay = 0.1
        while True:
            try:
                return action()
            except _Again as again:
                if time.monotonic() + delay > deadline:
                    raise again.final from again.__cause__
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, ssl.SSLCertVerificationError) or time.monotonic() + delay > deadline:
                    where = f"{self._host}:{self._port or (443 if self._tls else 80)}"
                    raise S3Error("Unreachable", f"the object store at {where} does not answer: {error}") from error
            time.sleep(delay)
            delay = min(delay * 2, 5.0)

    @contextlib.contextmanager
    def _open(self, request: _Request) -> Iterator[http.client.HTTPResponse]:
        path = f"{self._prefix}/{_quote(request.bucket)}" + (f"/{_quote(request.key, '/')}" if request.key else "")
        body: Any = request.data
        length, digest = len(request.data), hashlib.sha256(request.data).hexdigest()
        if request.section is not None:
            length, digest = request.section[2], _digest(request.section)
            body = _SectionReader(*request.section)
        method, query = request.method, request.query
        signed = self._sign(method, path, query, request.headers, digest)
        if length or method in {"PUT", "POST"}:
            signed["content-length"] = str(length)
        target = path + (f"?{_query(query)}" if query else "")
        connection = self._connection()
        clean = False
        try:
            connection.request(method, target, body=body if length else None, headers=signed)
            response = connection.getresponse()
            if response.status >= 300:
                error = _error(response.status, response.read(), method, request.key)
                clean = True
                if (response.status >= 500 and response.status != 501) or response.status == 429:
                    raise _Again(error)
                raise error
            yield response
            clean = response.isclosed()
        finally:
            if not clean:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is not None and time.monotonic() - self._local.used > IDLE:
            found.close()
        self._local.used = time.monotonic()
        if found is None:
            if self._tls:
                context = ssl.create_default_context(cafile=self._ca_file)
                if not self._verify:
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                found = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=context)
            else:
                found = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
            self._local.connection = found
        return found

    def _sign(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], digest: str
    ) -> dict[str, str]:
        out = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        out["host"] = self._netloc
        if not self._key:
            return out  # anonymous
        moment = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")  # noqa: UP017 - pods may have Python < 3.11
        out["x-amz-date"] = moment
        out["x-amz-content-sha256"] = digest
        names = ";".join(sorted(out))
        canonical = "\n".join(
            [method, path, _query(query), *(f"{name}:{out[name]}" for name in sorted(out)), "", names, digest]
        )
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signing_key = f"AWS4{self._secret}".encode()
        for piece in scope.split("/"):
            signing_key = hmac.new(signing_key, piece.encode(), hashlib.sha256).digest()
        signature = hmac.new(signing_key, text.encode(), hashlib.sha256).hexdigest()
        out["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return out


def _quote(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text, safe=f"-_.~{safe}")


def _query(query: dict[str, str]) -> str:
    return "&".join(f"{_quote(name)}={_quote(value)}" for name, value in sorted(query.items()))


def _digest(section: Section) -> str:
    digest, reader = hashlib.sha256(), _SectionReader(*section)
    while data := reader.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()


def _copy(response: http.client.HTTPResponse, file: IO[bytes]) -> None:
    expected = response.length
    received = 0
    while data := response.read(CHUNK):
        file.write(data)
        received += len(data)
    if expected is not None and received < expected:
        raise http.client.IncompleteRead(b"", expected - received)


def _xml(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - expat without external entities; the store is the platform's own
    except ET.ParseError as error:
        raise S3Error("InvalidResponse", f"the store's answer is not XML: {body[:200]!r}") from error


def _local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ET.Element, name: str) -> list[ET.Element]:
    return [child for child in element if _local_name(child) == name]


def _text(element: ET.Element, name: str) -> str:
    found = _children(element, name)
    return (found[0].text or "") if found else ""


def _error(status: int, body: bytes, method: str, key: str) -> S3Error:
    if body.lstrip().startswith(b"<"):
        with contextlib.suppress(S3Error):
            root = _xml(body)
            return S3Error(_text(root, "Code") or str(status), _text(root, "Message"), status)
    codes = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}
    return S3Error(codes.get(status, f"HTTP{status}"), f"{method} {key or 'bucket'} was answered with {status}", status)
