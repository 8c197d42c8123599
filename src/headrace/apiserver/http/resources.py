"""The verbs of the resource API, over the registry.

One method a verb; what an object's parts (log, scale, token …) do differently lies in `subresources`.
"""

from __future__ import annotations

import json
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import BadRequest, Cause, Gone, Invalid, MethodNotAllowed, UnsupportedMediaType
from headrace.apiserver.http.messages import Response, decode, decode_yaml, media_type, success, warning_headers
from headrace.apiserver.http.negotiation import Shape, negotiate
from headrace.apiserver.http.representation import listed
from headrace.apiserver.http.streams import FailedWatch, WatchStream
from headrace.client.base import PatchType

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.http.messages import Request, Sendable
    from headrace.apiserver.http.repeats import Repeats
    from headrace.apiserver.http.representation import Representations
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.registry import Registry
    from headrace.client.base import Propagation, RawEvent

FIELD_VALIDATION = frozenset({"Ignore", "Warn", "Strict"})
MAX_MANAGER = 128
"""Bytes in the name of a field manager."""
DEFAULT_FIELD_VALIDATION = "Warn"
WATCH_SECONDS = (1800, 3600)
"""A watch without timeoutSeconds ends somewhere between these, so that watchers do not all come back together."""
RETURNS_DELETED = frozenset(
    {
        ("", "pods"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("", "resourcequotas"),
        ("storage.k8s.io", "storageclasses"),
    }
)
"""Kinds whose delete answers with the object instead of a Status, as in Kubernetes: client libraries know which."""


class Resources:
    """Get, list, watch, create, update, patch, delete, deletecollection."""

    def __init__(self, registry: Registry, shapes: Representations, stopping: asyncio.Event, repeats: Repeats) -> None:
        self._registry, self._shapes, self._stopping, self._repeats = registry, shapes, stopping, repeats

    async def handle(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        """Answer a request for a kind's objects, or their status, scale or finalizers."""
        method = request.method
        if method in {"GET", "HEAD"} and (target.watch or (request.query and request.flag("watch"))):
            if target.subresource:
                raise not_allowed()
            return self._watch(request, user, info, target)
        if target.watch:
            raise not_allowed()
        if not target.name:
            match method:
                case "GET" | "HEAD":
                    return await self._list(request, user, info, target)
                case "POST":
                    return await self._create(request, user, info, target)
                case "DELETE":
                    return await self._delete_collection(request, user, info, target)
        else:
            match method:
                case "GET" | "HEAD":
                    return await self._get(request, user, info, target)
                case "PUT":
                    return await self._update(request, user, info, target)
                case "PATCH":
                    return await self._patch(request, user, info, target)
                case "DELETE" if not target.subresource:
                    return await self._delete(request, user, info, target)
        raise not_allowed()

    async def _get(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        raw = await self._registry.get(user, info, target.name, target.namespace, subresource=target.subresource)
        if wanted.shape is Shape.OBJECT and not wanted.yaml:
            self._repeats.learn(request, info, target)
            return Response(raw)
        return self._shapes.one(info, raw, wanted, include=include_object(request))

    async def _list(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        query = request.query
        page = await self._registry.list(
            user,
            info,
            target.namespace,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            limit=max(request.integer("limit") or 0, 0),
            continue_token=query.get("continue", ""),
            resource_version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
        )
        return self._shapes.page(info, page, wanted, include=include_object(request))

    def _watch(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        query = request.query
        initial = request.flag("sendInitialEvents")
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            why = Cause(
                "resourceVersionMatch", "Forbidden: sendInitialEvents requires resourceVersionMatch NotOlderThan"
            )
            raise Invalid("ListOptions.meta.k8s.io is invalid: " + f"{why.field}: {why.message}", causes=[why])
        events: AsyncIterator[RawEvent]
        try:
            events = self._registry.watch(
                user,
                info,
                target.namespace,
                resource_version=query.get("resourceVersion", ""),
                labels=query.get("labelSelector", ""),
                fields=_of_one(target.name, query.get("fieldSelector", "")),
                bookmarks=request.flag("allowWatchBookmarks"),
                send_initial_events=initial,
            )
        except Gone as error:
            events = FailedWatch(error)
        include = include_object(request)

        def line(event: RawEvent, first: bool) -> bytes:
            return self._shapes.event(info, event, wanted, include, first=first)

        seconds = request.integer("timeoutSeconds")
        timeout = float(seconds) if seconds else random.uniform(*WATCH_SECONDS)  # noqa: S311 - spreads load only
        return WatchStream(request, events, line, self._stopping, timeout)

    async def _create(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        body = as_object(await request.decoded(), info)
        warnings: list[str] = []
        raw = await self._registry.create(
            user,
            info,
            body,
            target.namespace,
            dry_run=dry_run(request),
            field_validation=field_validation(request),
            warnings=warnings,
            field_manager=field_manager(request),
        )
        return self._shapes.one(info, raw, wanted, status=201, headers=warning_headers(warnings))

    async def _update(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        body = as_object(await request.decoded(), info)
        warnings: list[str] = []
        raw = await self._registry.update(
            user,
            info,
            target.name,
            body,
            target.namespace,
            subresource=target.subresource,
            dry_run=dry_run(request),
            field_validation=field_validation(request),
            warnings=warnings,
            field_manager=field_manager(request),
        )
        return self._shapes.one(info, raw, wanted, headers=warning_headers(warnings))

    async def _patch(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        patch_type, patch = await patch_of(request)
        warnings: list[str] = []
        if patch_type is PatchType.APPLY:
            return await self._apply(request, user, info, target, patch)
        if "force" in request.query:
            raise _bad_option("force", "Forbidden: may not be specified for non-apply patch", "FieldValueForbidden")
        raw = await self._registry.patch(
            user,
            info,
            target.name,
            patch,
            target.namespace,
            patch_type=patch_type,
            subresource=target.subresource,
            dry_run=dry_run(request),
            field_validation=field_validation(request),
            warnings=warnings,
            field_manager=field_manager(request),
        )
        return self._shapes.one(info, raw, wanted, headers=warning_headers(warnings))

    async def _apply(self, request: Request, user: User, info: KindInfo, target: Target, config: Any) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        if not request.query.get("fieldManager"):
            raise _bad_option("fieldManager", "Required value: is required for apply patch", "FieldValueRequired")
        warnings: list[str] = []
        raw, new = await self._registry.apply(
            user,
            info,
            target.name,
            as_object(config, info),
            target.namespace,
            field_manager=field_manager(request),
            force=request.flag("force"),
            subresource=target.subresource,
            dry_run=dry_run(request),
            field_validation=field_validation(request),
            warnings=warnings,
        )
        return self._shapes.one(info, raw, wanted, status=201 if new else 200, headers=warning_headers(warnings))

    async def _delete(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        wanted = negotiate(request.header(b"accept"))
        options = await delete_options(request)
        preconditions = options.get("preconditions") or {}
        warnings: list[str] = []
        raw = await self._registry.delete(
            user,
            info,
            target.name,
            target.namespace,
            uid=str(preconditions.get("uid") or ""),
            resource_version=str(preconditions.get("resourceVersion") or ""),
            propagation=propagation(options),
            grace_period_seconds=grace(options),
            dry_run=is_dry(options.get("dryRun") or []),
            warnings=warnings,
        )
        said = warning_headers(warnings)
        meta = _wire.decode_any(raw).get("metadata") or {}
        if meta.get("deletionTimestamp") or (info.group, info.plural) in RETURNS_DELETED:
            return self._shapes.one(info, raw, wanted, headers=said)
        about = {"name": target.name, "group": info.group, "kind": info.plural, "uid": meta.get("uid", "")}
        return success(about, headers=said)

    async def _delete_collection(self, request: Request, user: User, info: KindInfo, target: Target) -> Sendable:
        options = await delete_options(request)
        query, warnings = request.query, list[str]()
        deleted = await self._registry.delete_collection(
            user,
            info,
            target.namespace,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            propagation=propagation(options),
            grace_period_seconds=grace(options),
            dry_run=is_dry(options.get("dryRun") or []),
            warnings=warnings,
        )
        return Response(listed(info, deleted, {}), headers=warning_headers(warnings))


def _of_one(name: str, fields: str) -> str:
    """A field selector that takes this object alone, when there is a name."""
    return ",".join(part for part in (fields, f"metadata.name={name}" if name else "") if part)


def not_allowed() -> MethodNotAllowed:
    """In the words of Kubernetes."""
    return MethodNotAllowed("the server does not allow this method on the requested resource")


def include_object(request: Request) -> str:
    """What rows of a table carry. Raises BadRequest."""
    value = request.query.get("includeObject", "")
    if value not in {"", "None", "Metadata", "Object"}:
        raise BadRequest(f'invalid value "{value}" of query parameter includeObject: use None, Metadata or Object')
    return value


def as_object(body: Any, info: KindInfo) -> dict[str, Any]:
    """A body that is an object. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {info.kind}): expected a JSON object, got "
            f"{type(body).__name__}"
        )
    return body


def is_dry(values: list[str] | str) -> bool:
    """Whether `dryRun` asks for a trial. Raises Invalid for anything but All."""
    listed_values = [values] if isinstance(values, str) else values
    wrong = [v for v in listed_values if v not in {"", "All"}]
    if wrong:
        cause = Cause("dryRun", f'Unsupported value: "{wrong[0]}": supported values: "All"', "FieldValueNotSupported")
        raise Invalid(f"options is invalid: dryRun: {cause.message}", causes=[cause])
    return "All" in listed_values


def dry_run(request: Request) -> bool:
    """The parameter `dryRun`."""
    value = request.query.get("dryRun")
    return is_dry(value) if value else False


def field_manager(request: Request) -> str:
    """Who the fields that a request changes belong to: `fieldManager`, else the first word of the user agent.

    Raises Invalid.
    """
    named = request.query.get("fieldManager", "")
    if not named:
        return _manager_of(request.header(b"user-agent"))
    if len(named.encode()) > MAX_MANAGER:
        raise _bad_option("fieldManager", f"Too long: may not be more than {MAX_MANAGER} bytes", "FieldValueTooLong")
    if not named.isprintable():
        why = f"Invalid value: {json.dumps(named)}: should only contain printable characters"
        raise _bad_option("fieldManager", why, "FieldValueInvalid")
    return named


@lru_cache(maxsize=256)
def _manager_of(agent: str) -> str:
    return "".join(c for c in agent.partition("/")[0] if c.isprintable())[:MAX_MANAGER] or "unknown"


def _bad_option(field: str, why: str, reason: str) -> Invalid:
    cause = Cause(field, why, reason)
    return Invalid(
        f'PatchOptions.meta.k8s.io "" is invalid: {field}: {why}',
        causes=[cause],
        kind="PatchOptions",
        group="meta.k8s.io",
    )


def field_validation(request: Request) -> str:
    """The parameter `fieldValidation`, Warn when absent. Raises Invalid."""
    value = request.query.get("fieldValidation", "") or DEFAULT_FIELD_VALIDATION
    if value not in FIELD_VALIDATION:
        supported = ", ".join(f'"{v}"' for v in sorted(FIELD_VALIDATION))
        cause = Cause(
            "fieldValidation", f'Unsupported value: "{value}": supported values: {supported}', "FieldValueNotSupported"
        )
        raise Invalid(f"options is invalid: fieldValidation: {cause.message}", causes=[cause])
    return value


async def patch_of(request: Request) -> tuple[PatchType, Any]:
    """The patch and its type. Raises UnsupportedMediaType, BadRequest."""
    sent = media_type(request.header(b"content-type"))
    try:
        patch_type = PatchType(sent)
    except ValueError as error:
        accepted = ", ".join(t.value for t in PatchType)
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        ) from error
    body = await request.body()
    if patch_type is PatchType.APPLY and not body.lstrip().startswith(b"{"):
        return patch_type, decode_yaml(body)
    return patch_type, decode(body, "application/json")


async def delete_options(request: Request) -> dict[str, Any]:
    """DeleteOptions out of the body, else out of the query. Raises BadRequest."""
    raw = await request.body()
    options: dict[str, Any] = {}
    if raw.strip():
        sent = await request.decoded()
        if not isinstance(sent, dict):
            raise BadRequest("the body of a delete request must be DeleteOptions")
        options.update(sent)
    query = request.query
    if "propagationPolicy" in query:
        options.setdefault("propagationPolicy", query["propagationPolicy"])
    if "orphanDependents" in query:
        options.setdefault("orphanDependents", request.flag("orphanDependents"))
    if "gracePeriodSeconds" in query:
        options.setdefault("gracePeriodSeconds", request.integer("gracePeriodSeconds"))
    if "dryRun" in query:
        options.setdefault("dryRun", [query["dryRun"]])
    return options


def propagation(options: dict[str, Any]) -> Propagation | None:
    """The policy that the options name. Raises BadRequest, Invalid."""
    policy, orphan = options.get("propagationPolicy"), options.get("orphanDependents")
    if policy is not None and orphan is not None:
        raise BadRequest("orphanDependents and propagationPolicy must not both be set")
    match policy:
        case "Background" | "Foreground" | "Orphan":
            return policy  # type: ignore[no-any-return]
        case None:
            return None if orphan is None else "Orphan" if orphan else "Background"
        case _:
            cause = Cause(
                "propagationPolicy",
                f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"',
                "FieldValueNotSupported",
            )
            raise Invalid(f"DeleteOptions is invalid: {cause.field}: {cause.message}", causes=[cause])


def grace(options: dict[str, Any]) -> int | None:
    """Seconds that the options grant, None when they say nothing. Raises BadRequest."""
    value = options.get("gracePeriodSeconds")
    if value is not None and (not isinstance(value, int) or value < 0):
        raise BadRequest("gracePeriodSeconds must be a whole number that is not negative")
    return value
