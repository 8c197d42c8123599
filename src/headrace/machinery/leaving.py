"""What a part keeps for a profile beside the API server (rows, objects, logs) goes with the profile's namespace.

A finalizer on the namespace says that there may be something; it is let go when everything has been forgotten, so that
a crash in between loses nothing of the work, and a namespace that is made again under the name begins with nothing.
Invariant: the last look comes after the last pod, because what runs may still write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Namespace, Pod
from headrace.machinery.controller import DONE, Controller, Result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.client.base import Client

PROFILE_LABEL = ("app.kubernetes.io/part-of", "kubeflow-profile")
"""On the namespaces of profiles."""
AGAIN_SECONDS = 0.5


class Leaving(Controller[Namespace]):
    """Calls `forget` for a namespace that ends; `part` names the finalizer. `forget` may be called again and again."""

    kind = Namespace
    reads = (Pod,)
    workers = 1

    def __init__(self, part: str, client: Client, forget: Callable[[str], Awaitable[None]]) -> None:
        self.name = f"{part}-leaving"  # type: ignore[misc]  # one class serves every part
        self.finalizer = f"headrace.dev/{part}"
        self._client, self._forget = client, forget

    async def reconcile(self, obj: Namespace) -> Result:
        """See Controller."""
        meta = obj.metadata
        held = self.finalizer in meta.finalizers
        if meta.deletion_timestamp is None:
            label, value = PROFILE_LABEL
            if not held and meta.labels.get(label) == value:
                await self._keep(obj, [*meta.finalizers, self.finalizer])
            return DONE
        if not held:
            return DONE
        running = any(pod.metadata.namespace == meta.name for pod in self.cache(Pod).all())
        await self._forget(meta.name)
        if running:
            return Result(after=AGAIN_SECONDS)
        await self._keep(obj, [name for name in meta.finalizers if name != self.finalizer])
        return DONE

    async def _keep(self, namespace: Namespace, finalizers: list[str]) -> None:
        """By resource version: what another part has set meanwhile is not lost."""
        meta = namespace.metadata
        patch = {"metadata": {"finalizers": finalizers or None}}
        await self._client.patch(Namespace, meta.name, patch, resource_version=meta.resource_version)
