"""Login links that work once: a code in the address, and whom it logs in, in a file that only this user can write.

Whoever can write there runs the platform, and could read its database: so the link asks for no password.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.machinery.settings import Settings

SECONDS = 3600.0
"""How long a link that nobody has used stays good."""
_CODE = re.compile(r"[A-Za-z0-9_-]{32}")


def offer(settings: Settings, email: str) -> str:
    """A code that `take` exchanges for the person, once."""
    folder = _folder(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.iterdir():
        if _age(old) > SECONDS:
            old.unlink(missing_ok=True)
    code = secrets.token_urlsafe(24)
    target = folder / code
    target.touch(mode=0o600)
    target.write_text(email)
    return code


def take(settings: Settings, code: str) -> str:
    """The person of a code, which is worthless from now on; nothing when it is unknown, used or too old."""
    if not _CODE.fullmatch(code):
        return ""
    found = _folder(settings) / code
    taken = found.with_suffix(".taken")
    try:
        age = _age(found)
        found.rename(taken)  # of two that come at once, one has it
        email = taken.read_text()
    except FileNotFoundError:
        return ""
    taken.unlink(missing_ok=True)
    return email if age <= SECONDS else ""


def _folder(settings: Settings) -> Path:
    return settings.run / "logins"


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
