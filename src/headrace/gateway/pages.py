"""What the gateway itself says: errors in KServe's shape, and the page at the root."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from headrace.api import _wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.gateway.upstream import Header

JSON = b"application/json"
UNAUTHENTICATED = 16
"""google.rpc.Code."""
HOW_TO_AUTHENTICATE = (
    "Send 'Authorization: Bearer TOKEN'; `kubectl -n NAMESPACE create token default-editor` or `headrace token` prints "
    "a token."
)


async def answer(
    send: Any, status: int, body: bytes, content_type: bytes = JSON, headers: Iterable[Header] = ()
) -> None:
    """A whole response."""
    fields = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def error(send: Any, status: int, message: str, headers: Iterable[Header] = ()) -> None:
    """`{"error": message}`, as KServe's servers answer."""
    await answer(send, status, _wire.encode({"error": message}), headers=headers)


async def unauthorized(send: Any, reason: str) -> None:
    """401, and how to do better: for KServe's clients and, as google.rpc.Status, for those of pipelines."""
    challenge = (b"www-authenticate", b'Bearer realm="headrace"')
    message = f"{reason} {HOW_TO_AUTHENTICATE}"
    body = {"error": message, "code": UNAUTHENTICATED, "message": message, "details": []}
    await answer(send, 401, _wire.encode(body), headers=[challenge])


async def root(send: Any, accept: bytes, url: str, mounts: Iterable[str]) -> None:
    """What is here, for a browser as a page and for programs as JSON."""
    apis = sorted(mounts)
    models = f"{url}/serving/NAMESPACE/NAME/v1/models/NAME:predict"
    if b"text/html" not in accept:
        what = {
            "name": "headrace",
            "apis": apis,
            "models": models,
            "health": "/healthz",
            "authentication": HOW_TO_AUTHENTICATE,
        }
        await answer(send, 200, _wire.encode(what))
        return
    items = "".join(f"<li><code>{html.escape(path)}</code></li>" for path in apis)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Headrace</title>'
        "<style>body{font:16px/1.5 system-ui;max-width:44rem;margin:3rem auto;padding:0 1rem}"
        "code{background:#8882;padding:.1em .3em;border-radius:.2em}</style>"
        "<h1>Headrace</h1><p>The gateway of this platform is running. It serves these APIs:</p>"
        f"<ul>{items}</ul>"
        "<p>Models that an InferenceService serves answer by host name "
        "(<code>NAME-NAMESPACE.example.com</code>) and by path:</p>"
        f"<p><code>{html.escape(models)}</code></p>"
        f"<p>{html.escape(HOW_TO_AUTHENTICATE)}</p>"
        "<p>The dashboard is not among the enabled components; <code>kubectl get pods -A</code> shows what "
        "runs.</p></html>"
    )
    await answer(send, 200, page.encode(), b"text/html; charset=utf-8")
