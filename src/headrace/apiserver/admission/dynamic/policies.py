"""ValidatingAdmissionPolicy: rules in CEL, bound to requests and parameters by bindings.

A policy or binding that cannot be evaluated counts as its failurePolicy says. What a rule refuses is an error, a
warning or, for audit, nothing here: this server keeps no audit log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api.errors import Cause
from headrace.apiserver.admission.dynamic.expressions import (
    Budget,
    Lazy,
    compiled,
    conditions_hold,
    variables_of,
)
from headrace.apiserver.admission.dynamic.matching import labels_match, matched, namespace_of, rule_matches
from headrace.apiserver.admission.dynamic.webhooks import Denied
from headrace.apiserver.cel.syntax import CompileError
from headrace.apiserver.cel.values import EvalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.dynamic.attempt import Attempt
    from headrace.apiserver.admission.lookup import Lookup
    from headrace.apiserver.authz.rbac import Authorizer
    from headrace.apiserver.registry.kinds import KindCatalog

Json = dict[str, Any]
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_MORE = ("params", "namespaceObject", "variables")


class PolicyFailed(Exception):
    """A policy cannot be evaluated for this request."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy with the bindings that put it in force."""

    text: Json
    bindings: tuple[Json, ...]


class Policies:
    """Evaluates policies."""

    def __init__(
        self,
        lookup: Lookup,
        authorizer: Authorizer,
        kinds: KindCatalog,
        versions: Callable[[KindInfo], list[KindInfo]],
    ) -> None:
        self._lookup, self._authorizer, self._kinds, self._versions = lookup, authorizer, kinds, versions

    def validate(self, attempt: Attempt, policies: Iterable[Policy]) -> None:
        """Raises StatusError with the first refusal; warnings are added to the attempt."""
        for policy in policies:
            spec = policy.text.get("spec") or {}
            info = self._meant(spec.get("matchConstraints") or {}, attempt)
            if info is None:
                continue
            for binding in policy.bindings:
                if self._meant((binding.get("spec") or {}).get("matchResources"), attempt) is not None:
                    self._bound(policy.text, binding, attempt, info)

    def _meant(self, where: Json | None, attempt: Attempt) -> KindInfo | None:
        if where is None:
            return attempt.info
        rules = where.get("resourceRules")
        if any(rule_matches(r, attempt, attempt.info) for r in where.get("excludeResourceRules") or ()):
            return None
        # A binding without rules is for everything that its policy is for.
        everything = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "*/*"]}]
        return matched(where, rules or everything, attempt, self._versions(attempt.info), self._lookup)

    def _bound(self, policy: Json, binding: Json, attempt: Attempt, info: KindInfo) -> None:
        spec = policy.get("spec") or {}
        try:
            found = self._parameters(spec, binding, attempt)
            for params in found:
                self._evaluate(policy, binding, attempt, info, params)
        except PolicyFailed as error:
            if spec.get("failurePolicy") != "Ignore":
                self._refuse(policy, binding, attempt, str(error), "Invalid")

    def _evaluate(self, policy: Json, binding: Json, attempt: Attempt, info: KindInfo, params: Json | None) -> None:
        spec = policy.get("spec") or {}
        budget = Budget()
        seen: Json = variables_of(attempt, self._authorizer, attempt.request(info))
        seen |= {"params": params, "namespaceObject": namespace_of(attempt, self._lookup)}
        finders: dict[str, Callable[[], Any]] = {}
        seen["variables"] = Lazy(finders)
        for variable in spec.get("variables") or ():
            finders[variable["name"]] = _finder(variable, seen, budget)
        try:
            if not conditions_hold(spec.get("matchConditions") or (), seen, budget, *_MORE):
                return
        except (EvalError, CompileError) as error:
            raise PolicyFailed(str(error)) from error
        for rule in spec.get("validations") or ():
            text = rule["expression"]
            try:
                if budget.run(compiled(text, *_MORE), seen) is True:
                    continue
            except (EvalError, CompileError) as error:
                raise PolicyFailed(f"expression '{text}' resulted in error: {error}") from error
            message = _message(rule, seen, budget)
            self._refuse(policy, binding, attempt, message, str(rule.get("reason") or "Invalid"))

    def _refuse(self, policy: Json, binding: Json, attempt: Attempt, message: str, reason: str) -> None:
        names = policy["metadata"]["name"], binding["metadata"]["name"]
        actions = (binding.get("spec") or {}).get("validationActions") or ()
        if "Warn" in actions:
            attempt.warn(
                f"Validation failed for ValidatingAdmissionPolicy '{names[0]}' with binding '{names[1]}': {message}"
            )
        if "Deny" not in actions:
            return
        why = f"ValidatingAdmissionPolicy '{names[0]}' with binding '{names[1]}' denied request: {message}"
        info = attempt.info
        error = Denied(f'{info.resource} "{attempt.name}" is forbidden: {why}', reason, _CODES.get(reason, 422))
        error.kind, error.group, error.name = info.plural, info.group, attempt.name
        error.causes = (Cause("", why, ""),)
        raise error

    def _parameters(self, spec: Json, binding: Json, attempt: Attempt) -> list[Json | None]:
        """The objects for each of which the rules are evaluated; None for a policy without parameters."""
        kind = spec.get("paramKind")
        reference = (binding.get("spec") or {}).get("paramRef")
        if not kind or not reference:
            return [None]
        group, _, version = str(kind.get("apiVersion") or "").rpartition("/")
        info = self._kinds.by_kind(group, version, str(kind.get("kind")))
        if info is None:
            raise PolicyFailed(
                f"failed to find resource referenced by paramKind: '{kind.get('apiVersion')}, Kind={kind.get('kind')}'"
            )
        namespace = ""
        if info.namespaced:
            namespace = str(reference.get("namespace") or attempt.namespace)
            if not namespace:
                raise PolicyFailed(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif reference.get("namespace"):
            raise PolicyFailed("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        if reference.get("name"):
            one = self._lookup.get(info, namespace, str(reference["name"]))
            found: list[Json | None] = [one] if one is not None else []
        else:
            every = self._lookup.within(info, namespace) if namespace else self._lookup.all(info)
            selector = reference.get("selector") or {}
            found = [o for o in every if labels_match(selector, (o.get("metadata") or {}).get("labels") or {})]
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise PolicyFailed("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found


def _finder(variable: Json, seen: Json, budget: Budget) -> Callable[[], Any]:
    def find() -> Any:
        try:
            return budget.run(compiled(variable["expression"], *_MORE), seen)
        except CompileError as error:
            raise EvalError(f'composited variable "{variable["name"]}" fails to compile: {error}') from error
        except EvalError as error:
            raise EvalError(f'composited variable "{variable["name"]}" fails to evaluate: {error}') from error

    return find


def _message(rule: Json, seen: Json, budget: Budget) -> str:
    if rule.get("messageExpression"):
        try:
            text = budget.run(compiled(rule["messageExpression"], *_MORE), seen)
        except (EvalError, CompileError):
            text = ""
        if isinstance(text, str) and text.strip() and "\n" not in text.strip():
            return text.strip()
    return str(rule.get("message") or "").strip() or f"failed expression: {rule['expression'].strip()}"
