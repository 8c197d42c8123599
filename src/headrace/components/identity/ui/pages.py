"""The pages of the login: whole documents without scripts, in the dashboard's colours."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

from headrace.machinery.html import Child, Markup, el
from headrace.machinery.words import _, language

if TYPE_CHECKING:
    from collections.abc import Iterable

_STYLE = """
:root{color-scheme:light dark;--bg:#f6f8f9;--panel:#fff;--line:#dde4e8;--strong:#c3ced5;--text:#14232b;--dim:#4b606b;
--accent:#0b7285;--on:#fff;--bad:#c92a2a;--bad-soft:#fdeaea}
@media(prefers-color-scheme:dark){:root{--bg:#0f171b;--panel:#162126;--line:#26353c;--strong:#374a53;--text:#e6eef1;
--dim:#a9bbc3;--accent:#3bc0d4;--on:#06232a;--bad:#ff6b6b;--bad-soft:#3a1a1c}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);
color:var(--text);font:15px/1.5 ui-sans-serif,system-ui,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{width:min(26rem,92vw);background:var(--panel);border:1px solid var(--line);border-radius:12px;
padding:28px 32px 30px}
.brand{display:flex;gap:8px;align-items:center;color:var(--accent);font-weight:700;letter-spacing:-.02em}
h1{font-size:1.3rem;margin:.7em 0 .2em;letter-spacing:-.01em}p{margin:.5em 0;color:var(--dim)}
label{display:block;font-weight:600;font-size:.875rem;margin:1.1em 0 .3em}
input{width:100%;font:inherit;padding:9px 11px;color:inherit;background:var(--bg);border:1px solid var(--strong);
border-radius:6px}input:focus-visible,button:focus-visible,a:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}button,.go{display:block;width:100%;margin-top:1.4em;font:inherit;font-weight:600;padding:10px;
text-align:center;text-decoration:none;border:1px solid var(--accent);border-radius:6px;background:var(--accent);
color:var(--on);cursor:pointer}.second{background:none;color:var(--text);border-color:var(--strong);margin-top:.7em}
.bad{margin:1em 0 0;padding:9px 12px;border-radius:6px;background:var(--bad-soft);color:var(--bad)}
code{display:block;font:14px/1.4 ui-monospace,monospace;background:var(--bg);border:1px solid var(--line);
border-radius:6px;padding:.5em .7em;color:var(--text);margin:.8em 0;overflow-wrap:anywhere}a{color:var(--accent)}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_WAVES = Markup(
    '<svg width="22" height="22" viewBox="0 0 22 22" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" aria-hidden="true"><path d="M2 7c3-3 6 3 9 0s6 3 9 0M2 13c3-3 6 3 9 0s6 3 9 0"/></svg>'
)


def page(
    title: str, *body: Child, status: int = 200, form_to: str = "", headers: dict[str, str] | None = None
) -> HTMLResponse:
    """A document. `form_to` is the origin of another site that a form's answer may lead to."""
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self' {form_to}".rstrip()
    )
    document = el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("title", f"{title} · Headrace"),
            Markup('<link rel="icon" href="data:,">'),
            el("style", Markup(_STYLE)),
        ),
        el("body", el("main", el("div", _WAVES, "Headrace", class_="brand"), el("h1", title), *body)),
        lang=language(),
    )
    fields = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cache-control": "no-store",
        **(headers or {}),
    }
    return HTMLResponse(f"<!doctype html>{document}", status, fields)


def login(
    action: str, client: str, *, email: str = "", wrong: str = "", status: int = 200, form_to: str = ""
) -> HTMLResponse:
    """Address and password; the fields are named as Dex names them."""
    return page(
        _("Log in"),
        el("p", _("to go on to {client}", client=client)) if client else None,
        el("p", wrong, class_="bad", role="alert") if wrong else None,
        el(
            "form",
            el("label", _("E-mail address"), for_="login"),
            el(
                "input",
                id="login",
                name="login",
                type="email",
                value=email,
                autocomplete="username",
                required=True,
                autofocus=not email,
            ),
            el("label", _("Password"), for_="password"),
            el(
                "input",
                id="password",
                name="password",
                type="password",
                autocomplete="current-password",
                required=True,
                autofocus=bool(email),
            ),
            el("button", _("Log in"), type="submit"),
            method="post",
            action=action,
        ),
        status=status,
        form_to=form_to,
    )


def choose(ways: Iterable[tuple[str, str]]) -> HTMLResponse:
    """Several ways to log in: names and addresses."""
    links = [el("a", _("Log in with {way}", way=name), href=href, class_="go second") for name, href in ways]
    return page(_("Log in"), links)


def device(action: str, code: str, *, wrong: str = "", who: str = "", status: int = 200) -> HTMLResponse:
    """The code that a command line shows, and yes or no."""
    return page(
        _("Log in on another device"),
        el("p", _("You are {who}. Type the code that the device shows, and only if it is you who started it.", who=who))
        if who
        else None,
        el("p", wrong, class_="bad", role="alert") if wrong else None,
        el(
            "form",
            el("label", _("Code"), for_="user_code"),
            el("input", id="user_code", name="user_code", value=code, autocomplete="off", required=True),
            el("button", _("Let it in"), type="submit", name="answer", value="yes"),
            el("button", _("No"), type="submit", name="answer", value="no", class_="second"),
            method="post",
            action=action,
        ),
        status=status,
    )


def message(
    title: str,
    words: str,
    *,
    status: int = 200,
    command: str = "",
    link: tuple[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> HTMLResponse:
    """A sentence, perhaps a command, perhaps where to go from here."""
    return page(
        title,
        el("p", words),
        el("code", command) if command else None,
        el("a", link[0], href=link[1], class_="go") if link else None,
        status=status,
        headers=headers,
    )
