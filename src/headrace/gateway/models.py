"""Which InferenceService a request is for, and where its pods are: tables that informers keep."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api.meta import KindInfo, dynamic_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.core import Endpoints
    from headrace.api.meta import Unstructured
    from headrace.gateway.upstream import Address, Pool
    from headrace.machinery.informer import Informer

GROUP, RESOURCE = "serving.kserve.io", "inferenceservices"
INFERENCE_SERVICE = dynamic_kind(KindInfo(GROUP, "v1beta1", "InferenceService", RESOURCE))
"""The gateway reads a few fields; the type itself belongs to the serving component."""
DOMAIN = "example.com"
TIMEOUT_SECONDS = 300.0
PATH = "/serving/"
FAILED = frozenset({"BlockedByFailedLoad", "InvalidSpec"})
"""modelStatus.transitionStatus of a model that will not answer until somebody changes it."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the gateway knows of one InferenceService."""

    namespace: str
    name: str
    timeout: float
    ready: bool
    coming: bool
    """Not failed: pods are there, or being started or replaced."""
    why: str
    """Why it does not answer, as its Ready condition says."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def hosts(namespace: str, name: str) -> tuple[str, ...]:
    """Host names under which a model answers: of Standard and of Knative mode, and one that browsers resolve."""
    return (
        f"{name}-{namespace}.{DOMAIN}",
        f"{name}.{namespace}.{DOMAIN}",
        f"{name}-predictor-{namespace}.{DOMAIN}",
        f"{name}-predictor.{namespace}.{DOMAIN}",
        f"{name}.{namespace}.localhost",
    )


def looks_like_model(host: str) -> bool:
    """Whether a host can only be meant for a model, known or not."""
    return host.endswith((f".{DOMAIN}", ".localhost"))


def split_path(path: str) -> tuple[str, str, str] | None:
    """Namespace, name and prefix of `/serving/<namespace>/<name>/…`."""
    if not path.startswith(PATH):
        return None
    namespace, _, rest = path[len(PATH) :].partition("/")
    name = rest.partition("/")[0]
    return (namespace, name, f"{PATH}{namespace}/{name}") if namespace and name else None


def read(obj: Unstructured) -> Model:
    """The fields that matter here."""
    predictor = obj.spec.get("predictor")
    given = predictor.get("timeout") if isinstance(predictor, dict) else None
    found = [c for c in obj.status.get("conditions") or () if isinstance(c, dict) and c.get("type") == "Ready"]
    ready: dict[str, Any] = found[0] if found else {}
    return Model(
        obj.metadata.namespace,
        obj.metadata.name,
        float(given) if isinstance(given, int | float) and given > 0 else TIMEOUT_SECONDS,
        ready.get("status") == "True",
        bool(ready) and (obj.status.get("modelStatus") or {}).get("transitionStatus") not in FAILED,
        str(ready.get("message") or ready.get("reason") or "it is being created"),
    )


class Models:
    """Models by host and by key, and the addresses of their ready pods."""

    def __init__(self, pool: Pool, node_ip: str = "") -> None:
        self._pool, self._node_ip = pool, node_ip
        self._objects: dict[str, Unstructured] = {}
        self._models: dict[str, Model] = {}
        self._hosts: dict[str, Model] = {}
        self._addresses: dict[str, tuple[Address, ...]] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._sources: tuple[Informer[Any], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the tables hold everything that exists; not in the first moments after a start."""
        return all(source.synced.is_set() for source in self._sources)

    def follow(self, services: Informer[Any], endpoints: Informer[Any]) -> None:
        """Keep the tables from now on."""
        self._sources = (services, endpoints)
        services.on_change(self._on_service)
        endpoints.on_change(self._on_endpoints)

    def by_host(self, host: str) -> Model | None:
        """The model that answers for a host name (lower case, without port)."""
        return self._hosts.get(host)

    def by_key(self, namespace: str, name: str) -> Model | None:
        """The model of that name."""
        return self._models.get(f"{namespace}/{name}")

    def addresses(self, model: Model) -> tuple[Address, ...]:
        """Addresses of ready pods."""
        return self._addresses.get(f"{model.key}-predictor", ())

    async def wait_for_addresses(self, model: Model, seconds: float) -> tuple[Address, ...]:
        """Addresses as soon as there are any; nothing when time is up, or when the model has failed."""
        key = f"{model.key}-predictor"
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(key, set())
        waiters.add(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            waiters.discard(future)
            if not waiters:
                self._waiters.pop(key, None)
        return self._addresses.get(key, ())

    def _on_service(self, old: Unstructured | None, new: Unstructured | None) -> None:
        if new is not None:
            self._objects[new.key] = new
            self._models[new.key] = model = read(new)
            if not model.coming:
                self._wake(f"{new.key}-predictor")
        elif old is not None:
            self._objects.pop(old.key, None)
            self._models.pop(old.key, None)
        self._hosts = {}
        # Two services may stand for one host ("a-b" in "c", "a" in "b-c"): it stays with the older one.
        for obj in sorted(self._objects.values(), key=_age):
            for host in hosts(obj.metadata.namespace, obj.metadata.name):
                self._hosts.setdefault(host, self._models[obj.key])

    def _wake(self, key: str) -> None:
        for future in self._waiters.get(key, ()):
            if not future.done():
                future.set_result(None)

    def _on_endpoints(self, old: Endpoints | None, new: Endpoints | None) -> None:
        key = new.key if new is not None else old.key if old is not None else ""
        before = self._addresses.pop(key, ())
        # Behind the node's address are the servers of this machine: nobody reaches those by writing Endpoints.
        found = [(ip, port) for ip, port in _ready(new) if ip != self._node_ip] if new is not None else []
        now = tuple(self._pool.address(ip, port) for ip, port in found)
        if now:
            self._addresses[key] = now
            self._wake(key)
        for address in before:
            if address not in now:
                self._pool.forget(address)


def _ready(endpoints: Endpoints) -> Iterator[tuple[str, int]]:
    for subset in endpoints.subsets:
        for port in subset.ports[:1]:
            for address in subset.addresses:
                yield address.ip, port.port


def _age(obj: Unstructured) -> tuple[Any, str]:
    created = obj.metadata.creation_timestamp
    return (created.timestamp() if created else 0.0, obj.key)
