"""HTTPS to webhooks, by URL or through the pod network to a service; connections are kept.

A certificate is checked against the webhook's caBundle, or the machine's authorities when it has none. Redirects are
not followed, and nothing of the caller's credentials is sent.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

from headrace.api import _wire
from headrace.apiserver.http.dialing import DialConnector

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.machinery.component import Dialer

Json = dict[str, Any]

_LARGEST_ANSWER = 4 * 1024 * 1024
_KEPT_SESSIONS = 64
_IDLE_SECONDS = 15


class CallFailed(Exception):
    """No usable answer came."""


class Caller:
    """Posts reviews. `dialer` says what the way into the pod network is, if there is one by now."""

    def __init__(self, dialer: Callable[[], Dialer | None]) -> None:
        self._dialer = dialer
        self._sessions: dict[tuple[bool, str], aiohttp.ClientSession] = {}

    async def post(self, client: Json, body: Json, seconds: float) -> Json:
        """The answer to a review. Raises CallFailed with a sentence."""
        url = address(client)
        try:
            session = await self._session(client)
            async with asyncio.timeout(seconds):
                return await self._ask(session, url, body)
        except TimeoutError as error:
            raise CallFailed(f'Post "{url}?timeout={seconds:g}s": context deadline exceeded') from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise CallFailed(f'Post "{url}?timeout={seconds:g}s": {error}') from error

    async def _ask(self, session: aiohttp.ClientSession, url: str, body: Json) -> Json:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        async with session.post(url, data=_wire.encode(body), headers=headers, allow_redirects=False) as answer:
            raw = await answer.content.read(_LARGEST_ANSWER + 1)
            while len(raw) <= _LARGEST_ANSWER and not answer.content.at_eof():
                raw += await answer.content.read(_LARGEST_ANSWER + 1 - len(raw))
        if len(raw) > _LARGEST_ANSWER:
            raise CallFailed(f"the answer of {url} is larger than {_LARGEST_ANSWER} bytes")
        if answer.status != 200:
            raise CallFailed(f"the server answered {answer.status}: {raw[:200].decode(errors='replace')}")
        try:
            decoded = _wire.decode_any(raw)
        except _wire.DecodeError as error:
            raise CallFailed(f"the answer is not JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise CallFailed("the answer is no AdmissionReview")
        return decoded

    async def _session(self, client: Json) -> aiohttp.ClientSession:
        service, bundle = "service" in client, str(client.get("caBundle") or "")
        key = (service, bundle)
        found = self._sessions.get(key)
        if found is not None:
            return found
        try:
            tls = ssl.create_default_context(cadata=base64.b64decode(bundle).decode("ascii") if bundle else None)
        except (ssl.SSLError, ValueError, binascii.Error) as error:
            raise CallFailed(f"its caBundle cannot be used: {error}") from error
        dialer = self._dialer()
        if service and dialer is None:
            raise CallFailed("no pod network is up here, so no service can be reached")
        if len(self._sessions) >= _KEPT_SESSIONS:
            await self.close()
        connector: aiohttp.BaseConnector
        if service and dialer is not None:
            connector = DialConnector(dialer, tls)
        else:
            connector = aiohttp.TCPConnector(ssl=tls, keepalive_timeout=_IDLE_SECONDS)
        self._sessions[key] = session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        return session

    async def close(self) -> None:
        """Drop kept connections."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()


def review(api: str, kind: str, request: Json) -> Json:
    """What is posted."""
    return {"kind": kind, "apiVersion": api, "request": request}


def response_of(answer: Json, api: str, kind: str, uid: str) -> Json:
    """What stands in the answer to a review. Raises CallFailed when it is no answer to that one."""
    if answer.get("kind") != kind or answer.get("apiVersion") != api:
        found = f"{answer.get('apiVersion')}, Kind={answer.get('kind')}"
        raise CallFailed(f"expected webhook response of {api}, Kind={kind}, got {found}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise CallFailed("webhook response was absent")
    if response.get("uid") != uid:
        raise CallFailed(f'expected response.uid="{uid}", got "{response.get("uid")}"')
    return response


def address(client: Json) -> str:
    """The URL of a clientConfig; a service by its name in the cluster."""
    service = client.get("service")
    if not service:
        return str(client.get("url") or "")
    host = f"{service.get('name')}.{service.get('namespace')}.svc"
    return f"https://{host}:{service.get('port') or 443}{service.get('path') or '/'}"
