"""Webhooks: asked one after the other when they may change an object, all at once when they may refuse it.

The AdmissionReview is `admission.k8s.io/v1`. A webhook that cannot be asked refuses, unless its failurePolicy is
Ignore.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import InternalError, StatusError
from headrace.apiserver.admission.dynamic.caller import CallFailed, response_of, review
from headrace.apiserver.admission.dynamic.conversion import convert
from headrace.apiserver.admission.dynamic.expressions import Budget, conditions_hold, variables_of
from headrace.apiserver.admission.dynamic.matching import matched
from headrace.apiserver.cel.syntax import CompileError
from headrace.apiserver.cel.values import EvalError
from headrace.apiserver.patch.json_patch import apply_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.dynamic.attempt import Attempt
    from headrace.apiserver.admission.dynamic.caller import Caller
    from headrace.apiserver.admission.lookup import Lookup
    from headrace.apiserver.authz.rbac import Authorizer

Json = dict[str, Any]
log = logging.getLogger(__name__)

_DEFAULT_SECONDS = 10
_API, _KIND = "admission.k8s.io/v1", "AdmissionReview"


class Denied(StatusError):
    """A webhook has said no; code and reason are the webhook's."""

    def __init__(self, message: str, reason: str, code: int) -> None:
        super().__init__(message)
        self._reason, self._code = reason, code

    def to_status(self) -> dict[str, Any]:
        """See StatusError."""
        return super().to_status() | {"reason": self._reason, "code": self._code}


@dataclass(frozen=True, slots=True)
class Webhook:
    """One entry of a configuration."""

    text: Json

    @property
    def name(self) -> str:
        """As messages name it."""
        return str(self.text.get("name"))

    @property
    def ignores(self) -> bool:
        """Whether a failure lets the request pass."""
        return self.text.get("failurePolicy") == "Ignore"


@dataclass(frozen=True, slots=True)
class _Call:
    webhook: Webhook
    info: KindInfo


class Webhooks:
    """Asks the webhooks that a request is for."""

    def __init__(
        self,
        caller: Caller,
        lookup: Lookup,
        authorizer: Authorizer,
        versions: Callable[[KindInfo], list[KindInfo]],
    ) -> None:
        self._caller, self._lookup, self._authorizer, self._versions = caller, lookup, authorizer, versions

    async def mutate(self, attempt: Attempt, webhooks: Iterable[Webhook], decode: Callable[[Json], Json]) -> None:
        """Let each change the object. `decode` makes a patched object whole again. Raises StatusError."""
        again: list[Webhook] = []
        changed_since: set[str] = set()
        for webhook in webhooks:
            call = self._wanted(webhook, attempt)
            if call is None:
                continue
            changed = await self._change(call, attempt, decode)
            if changed:
                changed_since.update(w.name for w in again)
            if webhook.text.get("reinvocationPolicy") == "IfNeeded":
                again.append(webhook)
        for webhook in again:
            call = self._wanted(webhook, attempt) if webhook.name in changed_since else None
            if call is not None:
                await self._change(call, attempt, decode)

    async def validate(self, attempt: Attempt, webhooks: Iterable[Webhook]) -> None:
        """Raises StatusError when one refuses."""
        calls = [c for w in webhooks if (c := self._wanted(w, attempt)) is not None]
        if not calls:
            return
        answers = await asyncio.gather(*(self._ask(c, attempt) for c in calls), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def _wanted(self, webhook: Webhook, attempt: Attempt) -> _Call | None:
        text = webhook.text
        info = matched(text, text.get("rules") or (), attempt, self._versions(attempt.info), self._lookup)
        if info is None:
            return None
        conditions = text.get("matchConditions")
        if conditions:
            variables = variables_of(attempt, self._authorizer, attempt.request(info))
            try:
                if not conditions_hold(conditions, variables, Budget()):
                    return None
            except (EvalError, CompileError) as error:
                if webhook.ignores:
                    return None
                raise Denied(
                    f'{attempt.info.resource} "{attempt.name}" is forbidden: {error}', "Forbidden", 403
                ) from error
        return _Call(webhook, info)

    async def _change(self, call: _Call, attempt: Attempt, decode: Callable[[Json], Json]) -> bool:
        response = await self._ask(call, attempt)
        patch = response.get("patch")
        if not patch or attempt.obj is None:
            return False
        try:
            steps = _steps(patch, response.get("patchType"))
            new = apply_json(await self._seen(attempt, attempt.obj, call.info), steps)
            new = decode(await self._seen(attempt, new, attempt.info))
        except (CallFailed, StatusError, binascii.Error, ValueError, TypeError, KeyError) as error:
            if call.webhook.ignores:
                log.warning("the patch of webhook %s is left out: %s", call.webhook.name, error)
                return False
            raise _failed(call.webhook, str(error)) from error
        changed = new != attempt.obj
        attempt.obj = new
        return changed

    async def _seen(self, attempt: Attempt, obj: Json, info: KindInfo) -> Json:
        """An object in the version that a webhook asked for, or back in the request's own."""
        client = attempt.served.converter
        if client is not None and obj.get("apiVersion") != info.api_version:
            (obj,) = await convert(self._caller, client, info, [obj], info.version)
        return {**obj, "apiVersion": info.api_version, "kind": info.kind}

    async def _ask(self, call: _Call, attempt: Attempt) -> Json:
        webhook = call.webhook
        request = attempt.request(call.info)
        for key, obj in (("object", attempt.obj), ("oldObject", attempt.old)):
            request[key] = await self._seen(attempt, obj, attempt.kind or call.info) if obj is not None else None
        body = review(_API, _KIND, request)
        seconds = webhook.text.get("timeoutSeconds") or _DEFAULT_SECONDS
        try:
            answer = await self._caller.post(webhook.text.get("clientConfig") or {}, body, float(seconds))
            response = _response(answer, attempt.uid)
        except CallFailed as error:
            if webhook.ignores:
                log.warning("webhook %s could not be asked and is left out: %s", webhook.name, error)
                return {}
            raise _failed(webhook, f"failed to call webhook: {error}") from error
        for text in response.get("warnings") or ():
            attempt.warn(str(text))
        if response.get("allowed") is not True:
            raise _denied(webhook, response.get("status") or {})
        return response


def _steps(patch: str, kind: Any) -> list[Any]:
    if kind != "JSONPatch":
        raise CallFailed(f"patchType must be JSONPatch, got {kind!r}")
    steps = _wire.decode_any(base64.b64decode(patch, validate=True))
    if not isinstance(steps, list):
        raise CallFailed("the patch is no list of operations")
    return steps


def _response(answer: Json, uid: str) -> Json:
    try:
        return response_of(answer, _API, _KIND, uid)
    except CallFailed as error:
        raise CallFailed(f"received invalid webhook response: {error}") from error


def _failed(webhook: Webhook, why: str) -> InternalError:
    return InternalError(f'Internal error occurred: failed calling webhook "{webhook.name}": {why}')


def _denied(webhook: Webhook, status: Json) -> Denied:
    by = f'admission webhook "{webhook.name}" denied the request'
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    text = f"{by}: {message}" if message else f"{by}: {reason}" if reason else f"{by} without explanation"
    code = status.get("code")
    usable = isinstance(code, int) and 400 <= code < 600
    return Denied(text, reason or "Forbidden", code if usable and isinstance(code, int) else 403)
