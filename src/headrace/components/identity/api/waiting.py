"""What waits in memory between the steps of a login: authorization codes, and devices that a person has to let in.

Codes are good for minutes; after a restart a person logs in again.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.components.identity.types import Person
    from headrace.machinery.clock import Clock

CODE_SECONDS = 300.0
DEVICE_SECONDS = 600
DEVICE_INTERVAL = 5
MAX_PENDING = 1000


@dataclass(slots=True)
class Code:
    """An authorization code that waits to be redeemed, in Authlib's words."""

    client_id: str
    person: Person
    redirect_uri: str
    scope: str
    ends: float
    nonce: str = ""
    code_challenge: str = ""
    code_challenge_method: str = ""
    auth_time: int = 0

    def get_redirect_uri(self) -> str:
        """Where it was sent."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What it stands for."""
        return self.scope

    def get_nonce(self) -> str:
        """What the client wants to see again in the ID token."""
        return self.nonce

    def get_auth_time(self) -> int:
        """When the person logged in."""
        return self.auth_time

    def get_acr(self) -> str:
        """No class of authentication is claimed."""
        return ""

    def get_amr(self) -> list[str]:
        """No method of authentication is claimed."""
        return []


@dataclass(slots=True)
class Device:
    """A device (the command line) that waits for a person to say yes."""

    client_id: str
    user_code: str
    scope: str
    ends: float
    clock: Clock
    asked: float = 0.0
    person: Person | None = None
    refused: bool = False

    def get_client_id(self) -> str:
        """Whose device it is."""
        return self.client_id

    def get_scope(self) -> str:
        """What it asks for."""
        return self.scope

    def get_user_code(self) -> str:
        """What the person types."""
        return self.user_code

    def get_nonce(self) -> str:
        """Devices have none."""
        return ""

    def get_auth_time(self) -> int:
        """Not claimed."""
        return 0

    def is_expired(self) -> bool:
        """Whether nobody may say yes any more."""
        return self.ends <= self.clock.monotonic()


@dataclass(slots=True)
class Pending:
    """What waits in memory."""

    clock: Clock
    codes: dict[str, Code] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)

    def tidy(self) -> None:
        """Forget what has ended; of too many, the oldest."""
        now = self.clock.monotonic()
        for table in (self.codes, self.devices):
            for key in [key for key, value in table.items() if value.ends <= now]:
                del table[key]
            while len(table) >= MAX_PENDING:
                del table[next(iter(table))]

    def device_of(self, user_code: str) -> Device | None:
        """The device that shows this code."""
        wanted = user_code.strip().upper().replace(" ", "-")
        if len(wanted) == 8 and "-" not in wanted:
            wanted = f"{wanted[:4]}-{wanted[4:]}"
        found = (d for d in self.devices.values() if hmac.compare_digest(d.user_code.encode(), wanted.encode()))
        device = next(found, None)
        return None if device is None or device.is_expired() else device
