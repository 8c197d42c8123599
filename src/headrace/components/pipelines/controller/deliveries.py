"""Messages to the outside: a signed POST, or a mail. What may be reached is `policy.notifications`' rule.

The address that is asked about is the address that is used: a name is resolved once, so that it cannot lead elsewhere
in between. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.api.core import ConfigMap, Secret
from headrace.api.errors import NotFound
from headrace.components.pipelines.policy import notifications
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.client.base import Client
    from headrace.components.pipelines.store.models import FollowUp

TIMEOUT_SECONDS = 20.0
_PORTS = {"none": 25, "starttls": 587, "ssl": 465}


class Undeliverable(Exception):
    """The message did not arrive; `final` when it never will."""

    def __init__(self, sentence: str, *, final: bool = False) -> None:
        super().__init__(sentence)
        self.final = final


class Deliveries:
    """Sends one message, once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def post(self, followup: FollowUp) -> None:
        """POST a webhook's body; any answer of 2xx is an acceptance. Raises Undeliverable."""
        import aiohttp  # noqa: PLC0415 - heavy, and not needed until somebody is told

        target: dict[str, Any] = followup.payload["target"]
        body = notifications.body_of(followup.payload)
        headers = {"content-type": "application/json", notifications.DELIVERY: followup.id}
        if target.get("secret"):
            key = (await self._secret(followup.namespace, target["secret"])).get("key")
            if not key:
                raise Undeliverable(f"Secret {followup.namespace}/{target['secret']} has no key named 'key'.")
            headers[notifications.SIGNATURE] = notifications.sign(key, body)
        url = urlsplit(target["url"])
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._addresses(host, port)
        connector = aiohttp.TCPConnector(resolver=_resolved(addresses), use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.post(target["url"], data=body, headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Undeliverable(f"The webhook at {host}:{port} cannot be reached: {_said(error)}.") from error
        if not 200 <= status < 300:
            more = "; redirects are not followed" if 300 <= status < 400 else ""
            raise Undeliverable(f"The webhook at {host}:{port} answered {status}{more}.")

    async def mail(self, followup: FollowUp) -> None:
        """Hand a mail to the server that the rule's Secret describes. Raises Undeliverable."""
        target: dict[str, Any] = followup.payload["target"]
        name = f"{followup.namespace}/{target['secret']}"
        settings = {
            key: value.decode(errors="replace").strip()
            for key, value in (await self._secret(followup.namespace, target["secret"])).items()
        }
        host, tls = settings.get("host", ""), settings.get("tls", "starttls")
        if not host or "@" not in settings.get("from", "") or tls not in _PORTS:
            problem = "needs the keys host and from (a mail address), and tls as one of starttls, ssl and none"
            raise Undeliverable(f"Secret {name} {problem}.")
        port = int(settings["port"]) if settings.get("port", "").isdigit() else _PORTS[tls]
        addresses = await self._addresses(host, port)
        try:
            await asyncio.to_thread(_send, followup, settings, tls, addresses[0], port)
        except OSError as error:  # smtplib's errors are such
            raise Undeliverable(f"The mail server {host}:{port} did not take the mail: {_said(error)}.") from error

    async def _secret(self, namespace: str, name: str) -> dict[str, bytes]:
        try:
            found = await self._client.get(Secret, name, namespace)
        except NotFound:
            raise Undeliverable(f"There is no Secret {namespace}/{name}.") from None
        try:
            return {key: base64.b64decode(value) for key, value in found.data.items()}
        except (binascii.Error, ValueError) as error:
            raise Undeliverable(f"Secret {namespace}/{name} is not in base64.") from error

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Undeliverable(f"The host {host!r} has no address: {_said(error)}.") from error
        addresses = [str(entry[4][0]) for entry in found]
        try:
            system: Mapping[str, str] = (
                await self._client.get(ConfigMap, notifications.CONFIG_MAP, SYSTEM_NAMESPACE)
            ).data
        except NotFound:
            system = {}
        why = notifications.refusal(host, port, addresses, notifications.allowed_hosts(system))
        if why:
            raise Undeliverable(why, final=True)
        return addresses


def _resolved(addresses: list[str]) -> Any:
    """A resolver that knows one answer."""
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415 - see Deliveries.post

    class Known(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            del family
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in addresses
            ]

        async def close(self) -> None:
            """Nothing is open."""

    return Known()


def _send(followup: FollowUp, settings: Mapping[str, str], tls: str, address: str, port: int) -> None:
    """In a thread: smtplib waits. The connection goes to the address that was asked about."""
    import smtplib  # noqa: PLC0415 - not needed until somebody is told
    import ssl  # noqa: PLC0415
    from email.message import EmailMessage  # noqa: PLC0415
    from email.utils import parseaddr  # noqa: PLC0415

    subject, text = notifications.mail_of(followup.payload)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = settings["from"], ", ".join(followup.payload["target"]["to"]), subject
    mail["Message-ID"] = f"<{followup.id}@{parseaddr(settings['from'])[1].rpartition('@')[2]}>"
    mail[notifications.DELIVERY] = followup.id
    mail.set_content(text)
    context = ssl.create_default_context()
    host = settings["host"]

    def connect() -> socket.socket:
        plain = socket.create_connection((address, port), TIMEOUT_SECONDS)
        return context.wrap_socket(plain, server_hostname=host) if tls == "ssl" else plain

    class Connected(smtplib.SMTP):
        def _get_socket(self, _host: str, _port: int, _timeout: float) -> socket.socket:
            return connect()

    with Connected(host, port, timeout=TIMEOUT_SECONDS) as server:
        if tls == "starttls":
            server.starttls(context=context)
        if settings.get("username"):
            server.login(settings["username"], settings.get("password", ""))
        server.send_message(mail)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
