"""Service-account tokens of one pod: bound to it, and renewed before they run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.errors import StatusError
from headrace.node.volumes import VolumeError

if TYPE_CHECKING:
    from headrace.api.core import Pod, ServiceAccountTokenProjection
    from headrace.client.base import Client
    from headrace.machinery.clock import Clock

RENEW_AT = 0.8
"""Share of a token's life after which it is replaced."""
MAX_AGE_SECONDS = 24 * 3600.0


class PodTokens:
    """See content.Tokens. A token is kept until it has to be renewed."""

    def __init__(self, client: Client, clock: Clock, pod: Pod) -> None:
        self._client, self._clock, self._pod = client, clock, pod
        self._held: dict[tuple[str, int], tuple[float, str]] = {}

    async def token(self, projection: ServiceAccountTokenProjection) -> str:
        """See content.Tokens. Raises VolumeError."""
        key = (projection.audience, projection.expiration_seconds)
        held = self._held.get(key)
        now = self._clock.monotonic()
        if held is not None and now < held[0]:
            return held[1]
        meta = self._pod.metadata
        account = self._pod.spec.service_account_name or "default"
        try:
            token = await self._client.request_token(
                meta.namespace,
                account,
                audiences=[projection.audience] if projection.audience else [],
                expiration_seconds=projection.expiration_seconds,
                pod_name=meta.name,
                pod_uid=meta.uid,
            )
        except StatusError as error:
            raise VolumeError(f"failed to fetch token: {error.message}") from error
        life = min(projection.expiration_seconds * RENEW_AT, MAX_AGE_SECONDS)
        self._held[key] = (now + life, token)
        return token

    @property
    def renew_in(self) -> float | None:
        """Seconds until the first of the held tokens must be renewed; None when none is held."""
        if not self._held:
            return None
        return max(0.0, min(due for due, _ in self._held.values()) - self._clock.monotonic())
