"""An admission webhook for tests: an HTTPS server of its own with an authority of its own, in the test's process.

It stands in for a server that a user runs, so it shares nothing with the code that calls it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

Json = dict[str, Any]
_NAMES = ("localhost", "hook.default.svc")


class WebhookServer:
    """Answers every review with what `answer(request)` returns: the response without its uid, or raw bytes to send."""

    def __init__(self, port: int, bundle: str) -> None:
        self.port = port
        self.bundle = bundle
        """caBundle, as a configuration has it."""
        self.reviews: list[Json] = []
        self.paths: list[str] = []
        self.headers: list[str] = []
        self.answer: Callable[[Json], Json | bytes] = lambda _request: {"allowed": True}

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.port}/review"

    async def dial(self, host: str, port: int) -> socket.socket:
        """A Dialer's way to the one service `hook.default:443`. Raises OSError for any other."""
        if (host, port) != ("hook.default", 443):
            raise ConnectionRefusedError(f"there is no service {host}:{port}")
        found = socket.socket()
        found.setblocking(False)
        await asyncio.get_running_loop().sock_connect(found, ("127.0.0.1", self.port))
        return found

    def respond(self, path: str, headers: str, body: bytes) -> bytes:
        """The whole HTTP answer."""
        review = json.loads(body)
        self.reviews.append(review)
        self.paths.append(path)
        self.headers.append(headers)
        found = self.answer(review["request"])
        if isinstance(found, bytes):
            return found
        response = {"uid": review["request"]["uid"], **found}
        answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return http(json.dumps(answer).encode())


def http(body: bytes, status: str = "200 OK") -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def patched(*steps: Json) -> Json:
    """A response with a JSON patch."""
    return {
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(json.dumps(list(steps)).encode()).decode(),
    }


@contextlib.asynccontextmanager
async def webhook_server(folder: Path) -> AsyncIterator[WebhookServer]:
    """A server on an ephemeral port; its keys are made in `folder`."""
    bundle, certificate, key = certificates(folder, _NAMES)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server: WebhookServer | None = None
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while server is not None:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length:")
                )
                writer.write(server.respond(head.split(" ")[1], head, await reader.readexactly(length)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return
        finally:
            writers.discard(writer)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server = WebhookServer(listener.sockets[0].getsockname()[1], bundle)
    try:
        yield server
    finally:
        listener.close()
        for writer in list(writers):
            writer.transport.abort()
        await asyncio.sleep(0)


def certificates(folder: Path, names: tuple[str, ...]) -> tuple[str, Path, Path]:
    """An authority (base64 of PEM, as a caBundle has it), and a certificate and key of it for these names."""
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "webhook test authority")])
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        builder(name, root)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in names]
    alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    served = (
        builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook")]), leaf)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "hook.crt", folder / "hook.key"
    certificate.write_bytes(served.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return base64.b64encode(authority.public_bytes(serialization.Encoding.PEM)).decode(), certificate, key
