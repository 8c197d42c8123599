"""exec, attach and port-forward: who may, into which container, in which protocol.

Everything that can be refused is refused before the WebSocket is accepted, as a `Status`, and in the same words when
it was asked by plain HTTP or by the older upgrade to SPDY, which kubectl tries after a refusal to print its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

from headrace.api import _wire
from headrace.api.core import Pod
from headrace.api.errors import BadRequest, ServiceUnavailable
from headrace.apiserver.admission.dynamic.gate import admit_part
from headrace.apiserver.authn.tokens import SYSTEM
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http import channels, portforward
from headrace.apiserver.http.containers import choose_container
from headrace.apiserver.http.resources import not_allowed
from headrace.apiserver.registry.core import forbidden
from headrace.machinery.component import SessionRefused

if TYPE_CHECKING:
    import asyncio
    import socket

    from headrace.api.identity import User
    from headrace.apiserver.http.messages import Request
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.http.websocket import WebSocket
    from headrace.apiserver.registry import Registry
    from headrace.machinery.component import Dialer, PodStreams

PARTS = frozenset({"exec", "attach", "portforward"})
VERBS = {"GET": "get", "POST": "create"}
NO_UPGRADE = "Upgrade request required: sessions in pods are WebSockets"
NO_SPDY = (
    "upgrading to SPDY is not supported, sessions in pods are WebSockets: use kubectl 1.31 or newer and leave "
    "KUBECTL_REMOTE_COMMAND_WEBSOCKETS and KUBECTL_PORT_FORWARD_WEBSOCKETS unset"
)


class Sessions:
    """Opens sessions in pods."""

    def __init__(
        self, registry: Registry, stopping: asyncio.Event, *, streams: PodStreams | None, dialer: Dialer | None
    ) -> None:
        self._registry, self._stopping = registry, stopping
        self._streams, self._dialer = streams, dialer

    async def refuse(self, request: Request, user: User, target: Target) -> NoReturn:
        """Answer a request that is no WebSocket: always raises, first of all what a WebSocket would be refused for."""
        pod = await self._admit(request, user, target)
        if target.subresource == "portforward":
            self._dial(pod)
        else:
            await self._check(request, pod, target.subresource)
        if not request.header(b"upgrade"):
            raise BadRequest(NO_UPGRADE)
        raise BadRequest(NO_SPDY)

    async def run(self, request: Request, user: User, target: Target, socket: WebSocket) -> None:
        """Accept and serve. Raises StatusError before it accepts."""
        pod = await self._admit(request, user, target)
        if target.subresource == "portforward":
            await self._forward(request, pod, socket)
        else:
            await self._command(request, pod, target.subresource, socket)

    async def _admit(self, request: Request, user: User, target: Target) -> Pod:
        verb = VERBS.get(request.method)
        if verb is None or target.rest:
            raise not_allowed()
        asked = Attributes(verb, "", "pods", target.subresource, target.namespace, target.name)
        return await admitted(self._registry, user, asked, _options(request, target.subresource))

    async def _forward(self, request: Request, pod: Pod, socket: WebSocket) -> None:
        protocol = chosen(socket, portforward.PROTOCOLS)
        dial = self._dial(pod)
        ports: list[int] = []
        if protocol == portforward.V4:
            ports = wanted_ports(repeated(request, "ports"))
        await socket.accept(protocol)
        await portforward.serve(socket, protocol, ports, dial, self._stopping)

    def _dial(self, pod: Pod) -> portforward.Dial:
        dialer = self._dialer
        if dialer is None:
            raise ServiceUnavailable("no pod network is here to forward to", retry_after=5)
        if not pod.status.pod_ip:
            raise BadRequest(f"pod {pod.metadata.name} does not have an address allocated: wait until it runs")
        address = pod.status.pod_ip

        async def dial(port: int) -> socket.socket:
            return await dialer.dial(address, port)

        return dial

    async def _check(self, request: Request, pod: Pod, part: str) -> tuple[str, channels.Options, tuple[str, ...]]:
        """The container, what to connect, and the command. Raises what is wrong with them."""
        options = channels.Options(
            request.flag("stdin"), request.flag("stdout"), request.flag("stderr"), request.flag("tty")
        )
        if not (options.stdin or options.stdout or options.stderr):
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        command = tuple(repeated(request, "command"))
        if part == "exec" and not command:
            raise BadRequest("you must specify at least one command for the container")
        container = choose_container(pod, request.query.get("container", ""))
        if not pod.spec.node_name:
            raise BadRequest(f"pod {pod.metadata.name} does not have a host assigned")
        if self._streams is None:
            raise ServiceUnavailable("no node agent runs here, so there are no sessions", retry_after=5)
        await self._streams.check(pod, container, stdin=options.stdin and part == "attach")
        return container, options, command

    async def _command(self, request: Request, pod: Pod, part: str, socket: WebSocket) -> None:
        container, options, command = await self._check(request, pod, part)
        if self._streams is None:
            raise AssertionError
        protocol = chosen(socket, channels.PROTOCOLS)
        try:
            if part == "attach":
                session = await self._streams.attach(pod, container, stdin=options.stdin, tty=options.tty)
            else:
                session = await self._streams.exec(pod, container, command, stdin=options.stdin, tty=options.tty)
        except SessionRefused as refused:
            await socket.accept(protocol)
            await channels.finish(socket, channels.not_started(str(refused)))
            return
        try:
            await socket.accept(protocol)
            await channels.serve(socket, session, options, self._stopping)
        finally:
            await session.close()


async def admitted(registry: Registry, user: User, asked: Attributes, sent: dict[str, Any]) -> Pod:
    """The pod, when the user may have the session in it. Raises Forbidden, NotFound, and what admission says."""
    if not registry.authorizer.allows(user, asked):
        raise forbidden(user, asked)
    pod = _wire.decode(Pod, await registry.get(SYSTEM, Pod.INFO, asked.name, asked.namespace))
    meta = {"name": asked.name, "namespace": asked.namespace}
    await admit_part(registry, user, Pod.INFO, meta, part=asked.subresource, sent=sent)
    return pod


def _options(request: Request, part: str) -> dict[str, Any]:
    """What is asked for, as the object that admission is shown."""
    if part == "portforward":
        listed = ",".join(repeated(request, "ports")).split(",")
        ports = [int(p) for p in listed if p.isascii() and p.isdecimal() and len(p) < 6]
        return {"apiVersion": "v1", "kind": "PodPortForwardOptions", "ports": ports}
    out: dict[str, Any] = {"apiVersion": "v1", "kind": "PodExecOptions" if part == "exec" else "PodAttachOptions"}
    out |= {name: True for name in ("stdin", "stdout", "stderr", "tty") if request.flag(name)}
    if request.query.get("container"):
        out["container"] = request.query["container"]
    if part == "exec":
        out["command"] = repeated(request, "command")
    return out


def repeated(request: Request, name: str) -> list[str]:
    """Every value of a query parameter."""
    raw = (request.scope.get("query_string") or b"").decode("latin-1")
    return [value for key, value in parse_qsl(raw, keep_blank_values=True) if key == name]


def chosen(socket: WebSocket, spoken: tuple[str, ...]) -> str:
    """The first subprotocol of the client's that is spoken here. Raises BadRequest."""
    for offered in socket.offered:
        if offered in spoken:
            return offered
    listed = ", ".join(socket.offered) or "none"
    raise BadRequest(f"no subprotocol in common: the client offers {listed}, here are {', '.join(spoken)}")


def wanted_ports(values: list[str]) -> list[int]:
    """The parameters `ports`, each perhaps several. Raises BadRequest."""
    texts = [text for value in values for text in value.split(",")]
    ports = [portforward.port_number(text) for text in texts]
    if not ports:
        raise BadRequest("query parameter ports is required")
    if len(ports) > portforward.MAX_PORTS:
        raise BadRequest(f"at most {portforward.MAX_PORTS} ports can be forwarded at once")
    bad = next((text for text, port in zip(texts, ports, strict=True) if port is None), None)
    if bad is not None:
        raise BadRequest(f'invalid port "{bad}": must be a number from 1 to 65535')
    return [port for port in ports if port is not None]
