"""Where admission by configuration begins: which webhooks and policies there are, and who is asked.

`active` is all that a write looks at while there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.admissionregistration import (
    GROUP,
    MutatingWebhookConfiguration,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
)
from headrace.api.meta import KindInfo
from headrace.apiserver.admission import metadata
from headrace.apiserver.admission.dynamic.attempt import CONNECT, CREATE, DELETE, Attempt
from headrace.apiserver.registry.kinds import Served
from headrace.apiserver.registry.scale import SCALE, scale_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.identity import User
    from headrace.apiserver.admission.dynamic.caller import Caller
    from headrace.apiserver.admission.dynamic.policies import Policies, Policy
    from headrace.apiserver.admission.dynamic.webhooks import Webhook, Webhooks
    from headrace.apiserver.admission.lookup import Lookup
    from headrace.apiserver.authz.rbac import Authorizer
    from headrace.apiserver.registry.core import Core
    from headrace.apiserver.registry.kinds import KindCatalog
    from headrace.apiserver.registry.registry import Registry
    from headrace.apiserver.registry.scale import ScalePaths
    from headrace.client.base import Warnings
    from headrace.machinery.component import Dialer

Json = dict[str, Any]

PREFIX = f"/registry/{GROUP}/"
CREATED = frozenset({"binding", "eviction", "token"})
"""Parts that are created; all others are connected to."""


class Gate:
    """Asks whom the configuration names before something is written."""

    def __init__(self, lookup: Lookup, authorizer: Authorizer, kinds: KindCatalog) -> None:
        self.active = False
        """Whether anything is configured."""
        self.dialer: Dialer | None = None
        """The way to services; set when the pod network is there."""
        self._lookup, self._authorizer, self._kinds = lookup, authorizer, kinds
        self._changed = True
        self._mutating: list[Webhook] = []
        self._validating: list[Webhook] = []
        self._policies: list[Policy] = []
        self._caller: Caller | None = None
        self._webhooks: Webhooks | None = None
        self._judge: Policies | None = None

    def changed(self) -> None:
        """A configuration was written, or there may be some from before."""
        self._changed = True
        self.active = any(
            next(iter(self._lookup.all(kind.INFO)), None) is not None
            for kind in (MutatingWebhookConfiguration, ValidatingWebhookConfiguration, ValidatingAdmissionPolicyBinding)
        )

    async def mutate(self, attempt: Attempt, decode: Callable[[Json], Json]) -> Json | None:
        """The object as webhooks want it. Raises StatusError."""
        from headrace.apiserver.admission.dynamic.matching import exempt  # noqa: PLC0415 - only when configured

        self._read()
        if self._mutating and not exempt(attempt):
            await self._asking().mutate(attempt, self._mutating, decode)
        return attempt.obj

    async def validate(self, attempt: Attempt) -> None:
        """Raises StatusError when somebody refuses."""
        from headrace.apiserver.admission.dynamic.matching import exempt  # noqa: PLC0415 - only when configured

        self._read()
        if exempt(attempt):
            return
        if self._policies:
            self._judging().validate(attempt, self._policies)
        if self._validating:
            await self._asking().validate(attempt, self._validating)

    async def close(self) -> None:
        """Drop connections to webhooks."""
        if self._caller is not None:
            await self._caller.close()

    def caller(self) -> Caller:
        """The way to webhooks."""
        if self._caller is None:
            from headrace.apiserver.admission.dynamic.caller import Caller  # noqa: PLC0415 - brings aiohttp

            self._caller = Caller(lambda: self.dialer)
        return self._caller

    def _asking(self) -> Webhooks:
        if self._webhooks is None:
            from headrace.apiserver.admission.dynamic.webhooks import Webhooks  # noqa: PLC0415 - brings aiohttp

            self._webhooks = Webhooks(self.caller(), self._lookup, self._authorizer, self._versions)
        return self._webhooks

    def _judging(self) -> Policies:
        if self._judge is None:
            from headrace.apiserver.admission.dynamic.policies import Policies  # noqa: PLC0415 - brings CEL

            self._judge = Policies(self._lookup, self._authorizer, self._kinds, self._versions)
        return self._judge

    def _versions(self, info: KindInfo) -> list[KindInfo]:
        return [s.info for s in self._kinds.versions(info.group, info.plural)]

    def _read(self) -> None:
        if not self._changed:
            return
        from headrace.apiserver.admission.dynamic.policies import Policy  # noqa: PLC0415 - brings CEL
        from headrace.apiserver.admission.dynamic.webhooks import Webhook  # noqa: PLC0415 - brings CEL

        self._changed = False
        self._mutating = [
            Webhook(w) for c in self._all(MutatingWebhookConfiguration.INFO) for w in c.get("webhooks") or ()
        ]
        self._validating = [
            Webhook(w) for c in self._all(ValidatingWebhookConfiguration.INFO) for w in c.get("webhooks") or ()
        ]
        bindings = self._all(ValidatingAdmissionPolicyBinding.INFO)
        self._policies = []
        for text in self._all(ValidatingAdmissionPolicy.INFO):
            name = text["metadata"]["name"]
            own = tuple(b for b in bindings if (b.get("spec") or {}).get("policyName") == name)
            if own:
                self._policies.append(Policy(text, own))

    def _all(self, info: KindInfo) -> list[Json]:
        return sorted(self._lookup.all(info), key=lambda o: str(o["metadata"]["name"]))


async def admit_create(core: Core, attempt: Attempt, own: Callable[[Json], None]) -> Json:
    """Admission of a new object where something is configured: webhooks, the server's own, then who may refuse.

    `own` says who owns the fields of an object that a webhook has changed.
    """
    served, obj = attempt.served, attempt.obj or {}

    def decode(patched: Json) -> Json:
        whole = _whole(core, served, patched)
        for key in metadata.SERVER_OWNED:
            if key in obj["metadata"]:
                whole["metadata"][key] = obj["metadata"][key]
        own(whole)
        return whole

    changed = await core.gate.mutate(attempt, decode)
    attempt.obj = candidate = core.admission.create(attempt.user, served, changed or obj)
    return await _judged(core, attempt, candidate)


async def admit_update(
    core: Core, attempt: Attempt, own: Callable[[Json], None], scale: ScalePaths | None = None
) -> Json:
    """The same for a change."""
    from headrace.apiserver.registry.writes import merge_subresource  # noqa: PLC0415 - writes come here

    served, part = attempt.served, attempt.subresource
    old, new = attempt.old or {}, attempt.obj or {}

    def decode(patched: Json) -> Json:
        kept = merge_subresource(served, _whole(core, served, patched), old, part)
        metadata.prepare_update(kept, old, served.info)
        kept["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        own(kept)
        return kept

    if scale is None:
        new = await core.gate.mutate(attempt, decode) or new
    attempt.obj = new = core.admission.update(attempt.user, served, new, old, subresource=part)
    if scale is not None:
        attempt.subresource, attempt.kind = "scale", SCALE
        attempt.obj, attempt.old = scale_of(new, scale), scale_of(old, scale)
    return await _judged(core, attempt, new)


def _whole(core: Core, served: Served, patched: Json) -> Json:
    """What a webhook has made of an object, read as if a client had sent it."""
    return core.admission.decode(served, metadata.normalise(patched, served.info), "Ignore", None)


async def _judged(core: Core, attempt: Attempt, admitted: Json) -> Json:
    """What the server's own admission has let through, unless somebody refuses; then it hears that it is over."""
    try:
        await core.gate.validate(attempt)
    except BaseException:
        core.admission.written(attempt.served.info, admitted)
        raise
    return admitted


async def admit_delete(
    core: Core, user: User, served: Served, old: Json, *, dry_run: bool, warnings: Warnings | None = None
) -> None:
    """Whoever is asked about deletions may refuse this one."""
    attempt = Attempt(user, DELETE, served, None, old, dry_run=dry_run, warnings=warnings)
    await core.gate.mutate(attempt, lambda patched: patched)
    await core.gate.validate(attempt)


async def admit_part(
    registry: Registry,
    user: User,
    info: KindInfo,
    meta: Json,
    *,
    part: str,
    sent: Json,
    dry_run: bool = False,
    warnings: Warnings | None = None,
) -> Json:
    """Whoever is asked about a part of an object (a session in it, a way through it, its eviction, binding, token)
    may refuse it. `sent` is what the client wants, as an object: PodExecOptions, Eviction …; it comes back as webhooks
    want it, which counts for those that are created.
    """
    if not registry.gate.active:
        return sent
    group, _, version = sent["apiVersion"].rpartition("/")
    attempt = Attempt(
        user,
        CREATE if part in CREATED else CONNECT,
        registry.core.served(info),
        sent,
        subresource=part,
        kind=KindInfo(group, version, sent["kind"], info.plural),
        place=meta,
        dry_run=dry_run,
        warnings=warnings,
    )
    return await _admitted(registry, attempt)


async def admit_question(registry: Registry, user: User, info: KindInfo, sent: Json, warnings: Warnings) -> Json:
    """The same for what is created only to be answered: a review."""
    if not registry.gate.active:
        return sent
    body = {**sent, "apiVersion": info.api_version, "kind": info.kind}
    return await _admitted(registry, Attempt(user, CREATE, Served(info, info.version), body, warnings=warnings))


async def _admitted(registry: Registry, attempt: Attempt) -> Json:
    changed = await registry.gate.mutate(attempt, lambda patched: patched)
    await registry.gate.validate(attempt)
    return changed or {}
