"""Server-side apply: create the object, or merge the configuration into the current one under its manager's name.

The field manager computes the object and its managedFields; from there on it goes the way of every other write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire
from headrace.api.errors import AlreadyExists, Conflict, NotFound
from headrace.apiserver.admission import metadata
from headrace.apiserver.registry.scale import SCALE, ScalePaths, scale_of, with_replicas

if TYPE_CHECKING:
    from headrace.apiserver.registry.core import Core, Json
    from headrace.apiserver.registry.kinds import Served
    from headrace.apiserver.registry.writes import Asked, Writes


class Applies:
    """The verb, after authorization of `patch`."""

    def __init__(self, core: Core, writes: Writes) -> None:
        self._core, self._writes = core, writes

    async def apply(
        self,
        asked: Asked,
        served: Served,
        name: str,
        config: Json,
        namespace: str,
        *,
        force: bool,
    ) -> tuple[bytes, bool]:
        """The object as it now is, and whether it is new."""
        core, subresource, manager = self._core, asked.subresource, asked.field_manager
        if subresource == "scale":
            return await self._scale(asked, served, name, config, namespace, force=force), False
        sent = metadata.normalise(config, served.info)
        metadata.check_request_names(sent, name, namespace, served.info)
        shown, served, sent = served, core.hub(served), self._lifted(served, sent)
        info = served.info

        def merged(old: Json) -> Json:
            new = core.fields.applied(served, old, sent, manager=manager, force=force, subresource=subresource)
            new = metadata.normalise(new, info)
            metadata.check_request_names(new, name, namespace, info)
            return core.admission.decode(served, new, asked.field_validation, asked.warnings)

        while True:
            if subresource or core.store.get(served.key(namespace, name)) is not None:
                try:
                    raw = await self._writes.modify(asked, served, name, namespace, merged, applied=True)
                except NotFound:
                    if subresource or core.store.get(served.key(namespace, name)) is not None:
                        raise
                    continue  # it was deleted meanwhile: make it anew
                return core.present(shown, raw) if shown is not served else raw, False
            core.authorize(asked.user, "create", info, namespace, name)
            _check_uid(served, name, sent)
            body = core.fields.applied(served, None, sent, manager=manager, force=force)
            try:
                raw = await self._writes.create(asked, served, body, namespace, applied=True)
            except AlreadyExists:
                continue
            return core.present(shown, raw) if shown is not served else raw, True

    def _lifted(self, served: Served, config: Json) -> Json:
        """The configuration as the kind that is stored, when it is of another version."""
        if served.conversion is None:
            return config
        self._core.fields.check(served, config)
        info = self._core.hub(served).info
        lifted = {**served.conversion.up(config), "apiVersion": info.api_version, "kind": info.kind}
        return {k: v for k, v in lifted.items() if v or k in config}

    async def _scale(
        self,
        asked: Asked,
        served: Served,
        name: str,
        config: Json,
        namespace: str,
        *,
        force: bool,
    ) -> bytes:
        """Apply a Scale: what it owns of the object are the replicas."""
        paths = served.scale or ScalePaths()
        wanted = metadata.normalise(config, SCALE)
        metadata.check_request_names(wanted, name, namespace, served.info)

        def merged(old: Json) -> Json:
            version = wanted["metadata"].get("resourceVersion", "")
            if version and version != old["metadata"]["resourceVersion"]:
                raise metadata.modified(served.info, name)
            part: Json = {"apiVersion": served.info.api_version, "kind": served.info.kind, "metadata": {"name": name}}
            if "replicas" in (wanted.get("spec") or {}):
                part = with_replicas(part, wanted, paths)
            new = self._core.fields.applied(
                served, old, part, manager=asked.field_manager, force=force, subresource="scale"
            )
            return {**new, "metadata": {k: v for k, v in new["metadata"].items() if k != "resourceVersion"}}

        whole = asked._replace(subresource="")
        raw = await self._writes.modify(whole, served, name, namespace, merged, applied=True, scale=paths)
        return _wire.encode(scale_of(_wire.decode_any(raw), paths))


def _check_uid(served: Served, name: str, config: Json) -> None:
    """A configuration that names an object's uid is not meant for another object. Raises Conflict."""
    uid = config["metadata"].get("uid")
    if uid:
        raise Conflict(
            f'Operation cannot be fulfilled on {served.info.resource} "{name}": uid mismatch: the provided object '
            f"specified uid {uid}, and no existing object was found",
            kind=served.info.plural,
            group=served.info.group,
            name=name,
        )
