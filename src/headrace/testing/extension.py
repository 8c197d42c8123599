"""A small extension API server for tests: group `wardle.example.com`, kind Flunder, in the test's process.

It stands in for a server that a user runs behind an APIService: it believes a front proxy that shows a certificate of
the authority which it was given, and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from headrace.testing.webhook import certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Json = dict[str, Any]

GROUP, VERSION = "wardle.example.com", "v1alpha1"
SERVICE, NAMESPACE = "wardle", "default"
_BASE = f"/apis/{GROUP}/{VERSION}"
_ITEMS = _BASE + "/namespaces/{namespace}/flunders"
_KIND = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NAME = "com.example.wardle.v1alpha1.Flunder"


class ExtensionServer:
    """What was asked is kept; `documents` are answered as they stand, everything below the kind from memory."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.port = 0
        self.asked: list[web.Request] = []
        self.documents: dict[str, Any] = {
            _BASE: {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/{VERSION}",
                "resources": [
                    {
                        "name": "flunders",
                        "singularName": "flunder",
                        "namespaced": True,
                        "kind": "Flunder",
                        "verbs": ["create", "delete", "get", "list", "watch"],
                        "shortNames": ["fl"],
                    },
                    {
                        "name": "flunders/status",
                        "singularName": "",
                        "namespaced": True,
                        "kind": "Flunder",
                        "verbs": ["get"],
                    },
                ],
            },
            "/openapi/v3": {"paths": {_BASE[1:]: {"serverRelativeURL": f"/openapi/v3{_BASE}?hash=1"}}},
            f"/openapi/v3{_BASE}": {
                "openapi": "3.0.0",
                "info": {"title": "wardle", "version": "1"},
                "paths": {
                    _ITEMS: {
                        "get": {
                            "x-kubernetes-action": "list",
                            "x-kubernetes-group-version-kind": _KIND,
                            "responses": {"200": {"description": "OK"}},
                        }
                    }
                },
                "components": {"schemas": {_NAME: _schema("#/components/schemas/"), _META: {"type": "object"}}},
            },
            "/openapi/v2": {
                "swagger": "2.0",
                "info": {"title": "wardle", "version": "1"},
                "paths": {_BASE + "/": {}, "/apis/other/v1/": {}},
                "definitions": {
                    _NAME: _schema("#/definitions/"),
                    _META: {"type": "object", "description": "another one"},
                    "unused": {"type": "object"},
                },
            },
        }
        self.objects: dict[tuple[str, str], Json] = {}
        self.kept: set[str] = set()
        """Names of objects that are not deleted yet when they should be."""

    @property
    def manifest(self) -> Json:
        """Its APIService."""
        return {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "groupPriorityMinimum": 1000,
                "versionPriority": 15,
                "caBundle": self.bundle,
                "service": {"name": SERVICE, "namespace": NAMESPACE, "port": 443},
            },
        }

    def service(self, address: str = "127.0.0.1") -> list[Json]:
        """A Service without selector and its Endpoints."""
        meta = {"name": SERVICE, "namespace": NAMESPACE}
        ports = [{"port": 443, "targetPort": self.port, "protocol": "TCP"}]
        subset = {"addresses": [{"ip": address}], "ports": [{"port": self.port, "protocol": "TCP"}]}
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}},
            {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]},
        ]

    async def dial(self, host: str, port: int) -> socket.socket:
        """A Dialer's way to its service. Raises OSError for any other."""
        if (host, port) != (f"{SERVICE}.{NAMESPACE}", 443):
            raise ConnectionRefusedError(f"there is no service {host}:{port}")
        found = socket.socket()
        found.setblocking(False)
        await asyncio.get_running_loop().sock_connect(found, ("127.0.0.1", self.port))
        return found

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Everything."""
        self.asked.append(request)
        if request.transport is None or not request.transport.get_extra_info("peercert"):
            return web.json_response({"kind": "Status", "code": 401, "message": "who are you?"}, status=401)
        document = self.documents.get(request.path)
        if document is not None:
            return web.json_response(document)
        parts = request.path.removeprefix(_BASE).strip("/").split("/")
        if parts[0] != "namespaces" or parts[2:3] != ["flunders"]:
            return web.json_response({"kind": "Status", "code": 404, "status": "Failure"}, status=404)
        namespace, name = parts[1], "".join(parts[3:4])
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._echo(request)
        if request.query.get("watch"):
            return await self._watch(request, namespace)
        return await self._object(request, namespace, name)

    async def _object(self, request: web.Request, namespace: str, name: str) -> web.Response:
        if request.method == "POST":
            made = await request.json()
            made["metadata"] |= {"namespace": namespace, "uid": "1", "annotations": {"by": _by(request)}}
            self.objects[namespace, made["metadata"]["name"]] = made
            return web.json_response(made, status=201)
        if not name:
            items = [o for (where, _), o in self.objects.items() if where == namespace]
            head = {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"resourceVersion": "1"}}
            return web.json_response({**head, "items": items})
        found = self.objects.get((namespace, name))
        if found is None:
            message = f'flunders.{GROUP} "{name}" not found'
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            return web.json_response({**status, "message": message}, status=404)
        if request.method == "DELETE" and name not in self.kept:
            del self.objects[namespace, name]
        return web.json_response(found)

    async def _watch(self, request: web.Request, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for (where, _), found in self.objects.items():
            if where == namespace:
                await response.write(json.dumps({"type": "ADDED", "object": found}).encode() + b"\n")
        return response

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        socket_ = web.WebSocketResponse(protocols=("echo.example.com",))
        await socket_.prepare(request)
        await socket_.send_str(_by(request))
        async for message in socket_:
            if message.type is WSMsgType.BINARY:
                await socket_.send_bytes(message.data)
            else:
                await socket_.send_str(str(message.data))
        return socket_


def _by(request: web.Request) -> str:
    return f"{request.headers.get('X-Remote-User')}:{','.join(request.headers.getall('X-Remote-Group', []))}"


def _schema(references: str) -> Json:
    return {
        "type": "object",
        "description": "Flunder is what wardle serves",
        "properties": {"metadata": {"$ref": f"{references}{_META}"}, "spec": {"type": "object"}},
        "x-kubernetes-group-version-kind": [_KIND],
    }


@contextlib.asynccontextmanager
async def extension_server(folder: Path, authority: Path) -> AsyncIterator[ExtensionServer]:
    """A server on an ephemeral port; its keys are made in `folder`, `authority` is the front proxy's."""
    bundle, certificate, key = certificates(folder, (f"{SERVICE}.{NAMESPACE}.svc",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(cafile=authority)
    tls.verify_mode = ssl.CERT_OPTIONAL
    made = ExtensionServer(bundle)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
