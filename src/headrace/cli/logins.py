"""What `headrace login` keeps: one file for each login, with the tokens of a person at one platform.

The files are 0600 below the person's configuration folder. A refresh token works once, and several kubectls may ask for
a new token at the same time, so whoever refreshes holds a lock and looks again first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import fcntl
import json
import os
import re
import ssl
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.machinery.people import KUBECTL_CLIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EARLY_SECONDS = 60
"""A token that ends this soon is replaced now."""
TIMEOUT_SECONDS = 30
SCOPE = "openid email groups offline_access"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True)
class Login:
    """A person's login at a platform."""

    name: str
    """The context in the kubeconfig, and the user there."""
    gateway: str
    ca: str = ""
    """The file with the authority of an HTTPS gateway; nothing for what the machine trusts."""
    kubeconfig: str = ""
    id_token: str = ""
    refresh_token: str = ""

    @property
    def ends(self) -> float:
        """When the ID token ends."""
        return float(claims_of(self.id_token).get("exp", 0))


class Refused(click.ClickException):
    """The issuer said no; `error` is OAuth's word for it."""

    def __init__(self, error: str, words: str) -> None:
        super().__init__(words)
        self.error = error


def folder() -> Path:
    """Where logins are kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "headrace" / "logins"


def path_of(name: str) -> Path:
    """The file of a login."""
    return folder() / f"{re.sub(r'[^A-Za-z0-9.@_-]', '_', name)}.json"


def read(name: str) -> Login:
    """A login by its name. Raises ClickException."""
    try:
        found = Login(**json.loads(path_of(name).read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise click.ClickException(f"there is no login {name!r} on this machine: `headrace login` makes one") from error
    return found


def every() -> list[Login]:
    """All of them, by name."""
    found = []
    for path in sorted(folder().glob("*.json")):
        with contextlib.suppress(click.ClickException):
            found.append(read(path.stem))
    return found


def write(login: Login) -> None:
    """Keep it."""
    target = path_of(login.name)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(login), file, indent=2)
    temporary.replace(target)


def forget(login: Login) -> None:
    """Keep it no longer."""
    path_of(login.name).unlink(missing_ok=True)
    path_of(login.name).with_suffix(".lock").unlink(missing_ok=True)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Nobody else changes this login meanwhile."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    with path_of(name).with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def claims_of(token: str) -> dict[str, Any]:
    """What a token says; whoever uses it checks the signature."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)) or b"{}")
    except (ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def current(name: str) -> Login:
    """The login with a token that is good for a while. Raises ClickException."""
    login = read(name)
    if login.ends - EARLY_SECONDS > time.time():
        return login
    with locked(name):
        login = read(name)  # somebody else may have refreshed it
        if login.ends - EARLY_SECONDS > time.time():
            return login
        try:
            login = asyncio.run(refreshed(login))
        except Refused as error:
            words = f"the login {name} has ended ({error.message}): `headrace login {login.gateway}` begins another"
            raise click.ClickException(words) from error
        write(login)
    return login


async def refreshed(login: Login) -> Login:
    """With new tokens. Raises Refused, ClickException."""
    form = {"grant_type": "refresh_token", "client_id": KUBECTL_CLIENT, "refresh_token": login.refresh_token}
    found = await ask(login, "/dex/token", form)
    return replace(login, id_token=found["id_token"], refresh_token=found.get("refresh_token", login.refresh_token))


async def by_device(login: Login, show: Callable[[str, str], None]) -> Login:
    """Let a person say yes in a browser: `show` is given the address and the code. Raises ClickException."""
    begun = await ask(login, "/dex/device/code", {"client_id": KUBECTL_CLIENT, "scope": SCOPE})
    show(begun.get("verification_uri_complete") or begun["verification_uri"], begun["user_code"])
    pause, ends = float(begun.get("interval", 5)), time.monotonic() + float(begun["expires_in"])
    form = {"grant_type": DEVICE_GRANT, "client_id": KUBECTL_CLIENT, "device_code": begun["device_code"]}
    while time.monotonic() < ends:
        await asyncio.sleep(pause)
        try:
            found = await ask(login, "/dex/token", form)
        except Refused as error:
            if error.error == "access_denied":
                raise click.ClickException("the login was refused in the browser") from error
            if error.error not in {"authorization_pending", "slow_down"}:
                raise
            pause += 5 if error.error == "slow_down" else 0
            continue
        return replace(login, id_token=found["id_token"], refresh_token=found.get("refresh_token", ""))
    raise click.ClickException("nobody said yes in time: run `headrace login` again")


async def ask(login: Login, path: str, form: dict[str, str] | None = None, *, token: str = "") -> dict[str, Any]:
    """JSON from the gateway. Raises Refused, ClickException."""
    import aiohttp  # imported when a platform is asked: kubectl calls this command each time

    headers = {"accept": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    trust: ssl.SSLContext | bool = ssl.create_default_context(cafile=login.ca) if login.ca else True
    method, url = "GET" if form is None else "POST", login.gateway + path
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), trust_env=True) as session,
            session.request(method, url, data=form, headers=headers, ssl=trust) as answer,
        ):
            found = json.loads(await answer.read() or b"{}")
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        why = str(error) or "no answer in time"
        raise click.ClickException(f"the platform does not answer at {login.gateway}: {why}") from error
    if status != 200 or not isinstance(found, dict):
        said = found if isinstance(found, dict) else {}
        raise Refused(str(said.get("error", "")), str(said.get("error_description") or said.get("error") or status))
    return found
