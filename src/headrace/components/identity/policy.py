"""Pure decisions about names, passwords, attempts and addresses."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import unquote

from headrace.machinery.people import SCOPES

EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,60}[A-Za-z0-9])?")
MAX_EMAIL = 120
"""The object's name is the address in base 32, and a name has 253 characters."""
MIN_PASSWORD, MAX_PASSWORD = 8, 1024
DEFAULT_PASSWORD = "12341234"  # noqa: S105 - Kubeflow's documented default; see `needs_own_password`
_FNV_OFFSET = bytes.fromhex("cbf29ce484222325")

FREE_ATTEMPTS = 5
"""Wrong passwords in a row, for one address or from one machine, before there is a wait."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0
FORGET_SECONDS = 3600.0

RESERVED_PREFIXES = ("system:", "kubernetes-admin")


class Refused(ValueError):
    """What was asked for is not possible; the message says why and what would be."""


def object_name(email: str) -> str:
    """The name of a Password: as Dex's idToName, base 32 of the address and FNV's offset, in lower case."""
    return base64.b32encode(email.lower().encode() + _FNV_OFFSET).decode().rstrip("=").lower()


def checked_email(text: str) -> str:
    """The address in the form in which it names a user. Raises Refused."""
    email = text.strip().lower()
    if len(email) > MAX_EMAIL or not EMAIL.fullmatch(email) or ".." in email:
        raise Refused(f"{text!r} is not an e-mail address: people are named by one, such as ada@example.com")
    return email


def checked_password(text: str, email: str) -> str:
    """A password that is good enough. Raises Refused."""
    if len(text) < MIN_PASSWORD:
        raise Refused(f"the password has {len(text)} characters: it needs {MIN_PASSWORD} or more")
    if len(text) > MAX_PASSWORD:
        raise Refused(f"the password has {len(text)} characters: {MAX_PASSWORD} is the limit")
    if text.lower() in {email, email.partition("@")[0]} or len(set(text)) < 4:
        raise Refused("the password is too easy to guess: use a few words")
    return text


def checked_groups(groups: list[str]) -> list[str]:
    """Groups that a person may have: none that Kubernetes keeps for itself. Raises Refused."""
    for group in groups:
        if not group or len(group) > MAX_EMAIL or any(c in group for c in ",\r\n"):
            raise Refused(f"{group!r} is no name of a group: use letters without commas")
        if group.startswith(RESERVED_PREFIXES):
            raise Refused(f"group {group!r} is kept for the system")
    return sorted(set(groups))


def safe_groups(groups: list[str]) -> tuple[str, ...]:
    """Of what an outside issuer says, the groups that it may say: never those that Kubernetes keeps for itself."""
    return tuple(g for g in groups if g and not g.startswith(RESERVED_PREFIXES) and not any(c in g for c in ",\r\n"))


def checked_scopes(scopes: list[str]) -> frozenset[str]:
    """Scopes of a personal access token. Raises Refused."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise Refused(f"there is no scope {unknown[0]!r}: there are {', '.join(SCOPES)}")
    if not scopes:
        raise Refused(f"a token needs a scope: {', '.join(SCOPES)}")
    return frozenset(scopes)


def local_path(target: str) -> str:
    """A path of this platform; anything else becomes the first page."""
    plain = unquote(target)
    if not plain.startswith("/") or plain.startswith(("//", "/\\")) or any(ord(c) < 32 for c in plain):
        return "/"
    if plain.startswith(("/oauth2/", "/dex/auth", "/dex/callback", "/login", "/logout")):
        return "/"
    return target


@dataclass(frozen=True, slots=True)
class Tries:
    """Wrong passwords in a row, and when the last one was (monotonic seconds)."""

    count: int = 0
    last: float = 0.0

    def after_failure(self, now: float) -> Tries:
        """One more; what is long past is forgotten."""
        return Tries(1 if now - self.last > FORGET_SECONDS else self.count + 1, now)

    def wait(self, now: float) -> float:
        """Seconds until the next attempt is looked at: none at first, then each twice the one before."""
        if self.count < FREE_ATTEMPTS:
            return 0.0
        pause = min(FIRST_WAIT * 2.0 ** min(self.count - FREE_ATTEMPTS, 20), LONGEST_WAIT)
        return max(0.0, self.last + pause - now)
