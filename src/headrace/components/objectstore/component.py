"""The object store as a component: an S3 server of its own beside the gateway."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from headrace.machinery.component import Component, Context, HostService, Listener, Parts
from headrace.machinery.settings import CLUSTER_DOMAIN, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings

log = logging.getLogger(__name__)

SERVICES = ("minio-service", "minio")
SERVICE_PORT = 9000


def domains() -> tuple[str, ...]:
    """The names under which the store is reached; a bucket may stand before one of them."""
    names = [
        f"{service}{suffix}"
        for service in SERVICES
        for suffix in (
            "",
            f".{SYSTEM_NAMESPACE}",
            f".{SYSTEM_NAMESPACE}.svc",
            f".{SYSTEM_NAMESPACE}.svc.{CLUSTER_DOMAIN}",
        )
    ]
    return (*names, "localhost", "s3.localhost")


def _objects(_settings: Settings) -> list[dict[str, Any]]:
    from headrace.components.objectstore import policy  # noqa: PLC0415 - imported when enabled

    administrator = policy.ADMINISTRATOR
    values = {"accesskey": administrator.access_key, "secretkey": administrator.secret_key}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": policy.SECRET_NAME, "namespace": SYSTEM_NAMESPACE},
            "type": "Opaque",
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        },
    ]


def build(context: Context) -> Parts:
    """The server, its keyring and its service names."""
    from headrace.components.objectstore import policy  # noqa: PLC0415 - imported when enabled
    from headrace.components.objectstore.api.app import App  # noqa: PLC0415
    from headrace.components.objectstore.controller import Keyring, KeyringController  # noqa: PLC0415
    from headrace.components.objectstore.store.objects import ObjectStore  # noqa: PLC0415
    from headrace.machinery.leaving import Leaving  # noqa: PLC0415

    store = ObjectStore(context.settings.state / "objectstore")
    keyring = Keyring(context.client, context.clock)
    port = context.settings.ports.objectstore
    collector: list[asyncio.Task[None]] = []

    async def collect() -> None:
        removed = await store.collect()
        if removed:
            log.info("removed %d content files that an interrupted upload had left", removed)

    async def forget(namespace: str) -> None:
        for prefix in policy.PROFILE_PREFIXES:
            await store.delete_below(policy.DEFAULT_BUCKET, prefix.format(ns=namespace))

    async def start() -> None:
        store.open()
        await store.create_bucket(policy.DEFAULT_BUCKET, context.clock.precise())
        collector.append(asyncio.create_task(collect(), name="objectstore collector"))

    async def stop() -> None:
        for task in collector:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await store.close()

    return Parts(
        controllers=(KeyringController(keyring), Leaving("objectstore", context.client, forget)),
        listeners=(Listener(port, App(store, context.clock, keyring.find, domains())),),
        services=tuple(HostService(name, SYSTEM_NAMESPACE, SERVICE_PORT, port) for name in SERVICES),
        start=start,
        stop=stop,
    )


COMPONENT = Component(name="objectstore", title="Object store", build=build, objects=_objects)
