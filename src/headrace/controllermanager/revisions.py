"""The history of StatefulSets and DaemonSets: a ControllerRevision a template (upstream: pkg/controller/history).

`data` is the patch with which `kubectl rollout undo` brings a template back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.apps import ControllerRevision
from headrace.api.errors import AlreadyExists, NotFound
from headrace.api.meta import ObjectMeta
from headrace.controllermanager import adoption
from headrace.controllermanager.deployment_policy import template_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.api.meta import LabelSelector, Object
    from headrace.client.base import Client
    from headrace.controllermanager.types import Template

HASH_LABEL = "controller.kubernetes.io/hash"
POD_LABEL = "controller-revision-hash"


def data_of(template: Template) -> dict[str, Any]:
    """The patch that restores a template."""
    return {"spec": {"template": {**template, "$patch": "replace"}}}


def template_of(revision: ControllerRevision) -> Template:
    """The template that a revision keeps."""
    found = (revision.data.get("spec") or {}).get("template") or {}
    return {key: value for key, value in found.items() if key != "$patch"}


def order(revisions: Iterable[ControllerRevision]) -> list[ControllerRevision]:
    """Oldest first."""
    return sorted(revisions, key=lambda r: (r.revision, r.metadata.name))


def expendable(revisions: Sequence[ControllerRevision], live: set[str], limit: int) -> list[ControllerRevision]:
    """Revisions that nothing uses and that are more than the history's limit, oldest first."""
    unused = [r for r in order(revisions) if r.metadata.name not in live]
    return unused[: max(len(unused) - limit, 0)]


class History:
    """Reads and writes the revisions of one kind of owner."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of(self, owner: Object, selector: LabelSelector) -> list[ControllerRevision]:
        """The owner's revisions, oldest first."""
        return order(await adoption.claim(self._client, ControllerRevision, owner, selector))

    async def latest(
        self, owner: Object, template: Template, known: list[ControllerRevision], collisions: int
    ) -> ControllerRevision:
        """The revision of the present template: found, found and renumbered (a rollback), or made and added to
        `known`. Raises AlreadyExists when somebody else has its name: then another collision is to be counted.
        """
        data = data_of(template)
        number = known[-1].revision + 1 if known else 1
        found = next((r for r in reversed(known) if r.data == data), None)
        if found is not None:
            if found is not known[-1]:
                meta = found.metadata
                written = await self._client.patch(ControllerRevision, meta.name, {"revision": number}, meta.namespace)
                found.revision, meta.resource_version = written.revision, written.metadata.resource_version
            return found
        digest = template_hash(data, collisions)
        labels = dict((template.get("metadata") or {}).get("labels") or {})
        wanted = ControllerRevision(
            metadata=ObjectMeta(
                name=f"{owner.metadata.name[:223]}-{digest}",
                namespace=owner.metadata.namespace,
                labels={**labels, HASH_LABEL: digest},
                annotations=dict(owner.metadata.annotations),
                owner_references=[owner.owner_reference()],
            ),
            data=data,
            revision=number,
        )
        try:
            made = await self._client.create(wanted)
        except AlreadyExists:
            made = await self._client.get(ControllerRevision, wanted.metadata.name, owner.metadata.namespace)
            if made.data != data or not any(r.uid == owner.metadata.uid for r in made.metadata.owner_references):
                raise
        known.append(made)
        return made

    async def trim(self, known: list[ControllerRevision], live: set[str], limit: int) -> None:
        """Delete what is beyond the limit."""
        for revision in expendable(known, live, limit):
            meta = revision.metadata
            try:
                await self._client.delete(ControllerRevision, meta.name, meta.namespace, uid=meta.uid)
            except NotFound:
                continue
