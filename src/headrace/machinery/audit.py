"""Who changed what, from where: one JSON line an event, in a file that rotates.

Recorded are changes through the gateway and everything about logins and credentials; reading is not, and neither are
predictions, which are the models' own traffic. Invariants: an entry holds no secret (paths come without their query);
writing never fails a request; the file is readable by the platform's user alone.
"""

from __future__ import annotations

import collections
import logging
import os
from typing import TYPE_CHECKING, Protocol

from headrace.api import _wire
from headrace.api.meta import Struct, Time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.machinery.clock import Clock

log = logging.getLogger(__name__)

MAX_BYTES = 10 * 1024 * 1024
KEPT = 4
"""Files, the current one included."""
MAX_TEXT = 512


class Entry(Struct):
    """One event. `outcome` is an HTTP status, or 0 where there was no request."""

    time: Time
    user: str
    address: str
    action: str
    target: str
    outcome: int = 0
    detail: str = ""


class Auditor(Protocol):
    """Takes entries and finds recent ones."""

    def record(
        self, user: str, action: str, target: str, *, address: str = "", outcome: int = 0, detail: str = ""
    ) -> None:
        """Something happened just now."""
        ...

    def recent(self, limit: int, *, user: str = "") -> list[Entry]:
        """The newest entries first, of one user or of all."""
        ...

    def subscribe(self, callback: Callable[[Entry], None]) -> Callable[[], None]:
        """Call `callback` with each entry from now on; the result ends that."""
        ...


class AuditLog:
    """Implements Auditor in `folder/audit.jsonl`; older files are `audit.jsonl.1` and so on."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path, self._clock = folder / "audit.jsonl", clock
        self._fd = -1
        self._size = 0
        self._listeners: list[Callable[[Entry], None]] = []

    def subscribe(self, callback: Callable[[Entry], None]) -> Callable[[], None]:
        """See Auditor."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def record(
        self, user: str, action: str, target: str, *, address: str = "", outcome: int = 0, detail: str = ""
    ) -> None:
        """See Auditor."""
        entry = Entry(
            time=self._clock.precise(),
            user=user[:MAX_TEXT],
            address=address[:MAX_TEXT],
            action=action,
            target=target[:MAX_TEXT],
            outcome=outcome,
            detail=detail[:MAX_TEXT],
        )
        line = _wire.encode(entry) + b"\n"
        try:
            if self._fd < 0 or self._size + len(line) > MAX_BYTES:
                self._open(rotate=self._fd >= 0)
            self._size += os.write(self._fd, line)
        except OSError:
            log.exception("the audit log cannot be written: %s", line.decode())
        for callback in tuple(self._listeners):
            callback(entry)

    def close(self) -> None:
        """Nothing more comes."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def recent(self, limit: int, *, user: str = "") -> list[Entry]:
        """See Auditor."""
        found: collections.deque[Entry] = collections.deque(maxlen=limit)
        for path in reversed(self._files()):
            try:
                with path.open("rb") as lines:
                    for line in lines:
                        entry = _entry(line)
                        if entry is not None and (not user or entry.user == user):
                            found.append(entry)
            except FileNotFoundError:
                continue
        return list(reversed(found))

    def _files(self) -> list[Path]:
        """The newest first."""
        return [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, KEPT))]

    def _open(self, *, rotate: bool) -> None:
        self.close()
        if rotate or (self._path.exists() and self._path.stat().st_size >= MAX_BYTES):
            files = self._files()
            for older, newer in zip(reversed(files[1:]), reversed(files[:-1]), strict=True):
                if newer.exists():
                    newer.replace(older)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size


class NoAudit:
    """Implements Auditor where nothing is kept: parts of a platform that run by themselves."""

    def record(
        self, user: str, action: str, target: str, *, address: str = "", outcome: int = 0, detail: str = ""
    ) -> None:
        """Forget."""

    def recent(self, limit: int, *, user: str = "") -> list[Entry]:
        """Nothing."""
        del limit, user
        return []

    def subscribe(self, callback: Callable[[Entry], None]) -> Callable[[], None]:
        """Nothing comes."""
        del callback
        return lambda: None


def _entry(line: bytes) -> Entry | None:
    """An entry; None for a line that a crash cut off."""
    try:
        return _wire.decode(Entry, line)
    except (_wire.DecodeError, _wire.ValidationError):
        return None
