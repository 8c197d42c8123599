"""Reading requests: bodies within bounds, list parameters, the services that handlers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from headrace.api import _wire
from headrace.components.pipelines.api.access import home_namespace, user_of
from headrace.components.pipelines.store.listing import METRIC, ListQuery, Operation, Predicate
from headrace.components.pipelines.types.rest import decode_body, decode_filter, invalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.api.identity import User
    from headrace.components.pipelines.api.access import Access
    from headrace.components.pipelines.api.fetch import Packages
    from headrace.components.pipelines.api.objects import Objects
    from headrace.components.pipelines.store.catalog import Catalog, Page
    from headrace.components.pipelines.store.lineage import Lineage
    from headrace.components.pipelines.store.metrics import Metrics
    from headrace.components.pipelines.store.recurring import RecurringRuns
    from headrace.components.pipelines.store.repository import RunRepository
    from headrace.machinery.component import PodLogs

T = TypeVar("T")
MAX_BODY = 33 << 20
"""A package of 32 MiB and its multipart frame."""
MAX_NAMESPACE = 63


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with."""

    catalog: Catalog
    runs: RunRepository
    recurring: RecurringRuns
    access: Access
    objects: Objects
    metrics: Metrics
    lineage: Lineage
    packages: Packages
    forget: Callable[[str, str, str], Awaitable[None]]
    """Deletes the Kubernetes object that a record came from, by kind, namespace and uid."""
    logs: PodLogs
    """What steps said."""


def answer(value: Any) -> Response:
    """A JSON response."""
    return Response(_wire.encode(value), media_type="application/json")


def page(name: str, items: list[dict[str, Any]], found: Page[Any]) -> Response:
    """A list response."""
    body: dict[str, Any] = {name: items, "total_size": found.total, "next_page_token": found.next_page_token}
    return answer({key: value for key, value in body.items() if value})


def limited(request: Request) -> Request:
    """The same request, whose body may not exceed MAX_BODY."""
    received = 0

    async def receive() -> Any:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise invalid(f"The request body is larger than {MAX_BODY >> 20} MiB.")
        return message

    return Request(request.scope, receive)


async def body(request: Request, kind: type[T]) -> T:
    """The JSON body. Raises RpcError."""
    return decode_body(kind, await limited(request).body())


def requester(request: Request) -> User:
    """Who asks. Raises RpcError."""
    return user_of(request.scope)


def namespace_of(request: Request, given: str | None = None) -> str:
    """The namespace that a request means: the body's, the query's, or the user's own. Raises RpcError."""
    namespace = given or request.query_params.get("namespace") or home_namespace(requester(request))
    if len(namespace) > MAX_NAMESPACE:
        raise invalid(f"A namespace has at most {MAX_NAMESPACE} characters.")
    return namespace


def check_length(what: str, value: str, limit: int) -> str:
    """The value. Raises RpcError when it is too long for its column."""
    if len(value) > limit:
        raise invalid(f"{what} has at most {limit} characters, got {len(value)}.")
    return value


def list_query(request: Request) -> ListQuery:
    """page_size, page_token, sort_by and filter. Raises RpcError."""
    params = request.query_params
    words = params.get("sort_by", "").split()
    direction = [word.lower() for word in words[1:]]
    if len(words) > 2 or direction not in ([], ["asc"], ["desc"]):
        raise invalid('sort_by must be "field", "field asc" or "field desc".')
    try:
        size = int(params.get("page_size") or 0)
    except ValueError as error:
        raise invalid("page_size must be a whole number.") from error
    predicates = tuple(
        Predicate(key, Operation(op), value) for key, op, value in decode_filter(params.get("filter", ""))
    )
    return ListQuery(
        page_size=size,
        page_token=params.get("page_token", ""),
        # The name of a metric is its author's; fields are ours.
        sort_by=(words[0] if words[0].startswith(METRIC) else words[0].lower()) if words else None,
        descending=direction == ["desc"],
        predicates=predicates,
    )
