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

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.dynamic.attempt import Attempt
    from headrace.apiserver.admission.dynamic.policies import Policies, Policy
    from headrace.apiserver.admission.dynamic.webhooks import Webhook, Webhooks
    from headrace.apiserver.admission.lookup import Lookup
    from headrace.apiserver.authz.rbac import Authorizer
    from headrace.apiserver.registry.kinds import KindCatalog
    from headrace.machinery.component import Dialer

Json = dict[str, Any]

PREFIX = f"/registry/{GROUP}/"


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
        if self._mutating and not exempt(attempt) and attempt.obj is not None:
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
        if self._webhooks is not None:
            await self._webhooks.close()

    def _asking(self) -> Webhooks:
        if self._webhooks is None:
            from headrace.apiserver.admission.dynamic.caller import Caller  # noqa: PLC0415 - brings aiohttp
            from headrace.apiserver.admission.dynamic.webhooks import Webhooks  # noqa: PLC0415

            self._webhooks = Webhooks(
                Caller(lambda: self.dialer), self._lookup, self._authorizer, self._versions
            )
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
        self._mutating = [Webhook(w) for c in self._all(MutatingWebhookConfiguration.INFO) for w in c.get("webhooks") or ()]
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
