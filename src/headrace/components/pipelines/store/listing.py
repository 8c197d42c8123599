"""Pages of rows: filters, sorting and keyset pagination over any listable table.

A page token carries where the last page ended and what was asked, so that a later page costs as much as the first
and rows that come or go in between shift nothing. Its content is data: it reaches SQL as bound values only, and
field names are looked up in the resource's own table.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import enum
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from headrace.api import _wire
from headrace.components.pipelines.store import schema as t

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, RowMapping

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 200
_LARGEST = 2**63 - 1
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class ListError(ValueError):
    """The list request cannot be answered; the message says why."""


class Operation(enum.StrEnum):
    """How a predicate compares."""

    EQUALS = "EQUALS"
    NOT_EQUALS = "NOT_EQUALS"
    GREATER_THAN = "GREATER_THAN"
    GREATER_THAN_EQUALS = "GREATER_THAN_EQUALS"
    LESS_THAN = "LESS_THAN"
    LESS_THAN_EQUALS = "LESS_THAN_EQUALS"
    IN = "IN"
    IS_SUBSTRING = "IS_SUBSTRING"


class Predicate(msgspec.Struct, frozen=True):
    """One condition. `value` is a string, an integer, a datetime or (IN) a list of the first two."""

    key: str
    operation: Operation
    value: Any


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a client asked for; `None` sorting means the default."""

    page_size: int = 0
    page_token: str = ""
    sort_by: str | None = None
    descending: bool = False
    predicates: tuple[Predicate, ...] = ()


class _Token(msgspec.Struct, array_like=True):
    sort_by: str
    descending: bool
    predicates: list[Predicate]
    value: str | int | float
    id: str


@dataclass(frozen=True, slots=True)
class Field:
    """A column that clients may sort and filter by."""

    column: sa.Column[Any]
    moment: bool = False
    values: dict[str, str] = field(default_factory=dict)
    """Older spellings of values and what they mean now."""
    upper: bool = False

    @property
    def expression(self) -> sa.ColumnElement[Any]:
        """The column as it is stored: moments as integers."""
        return sa.type_coerce(self.column, sa.BigInteger) if self.moment else self.column


@dataclass(frozen=True, slots=True)
class Listable:
    """A table and the API's names of its columns."""

    table: sa.Table
    fields: dict[str, Field]
    default_sort: str = "created_at"
    tagged: bool = False
    """Whether rows have tags, which filters name `tags.<key>`."""
    measured: bool = False
    """Whether rows have metrics, which sorting names `metric:<name>`."""

    def key(self, sort_by: str) -> sa.ColumnElement[Any] | None:
        """What rows are sorted by; None when they cannot be sorted by this."""
        if self.measured and sort_by.startswith(METRIC):
            c = t.run_metrics.c
            mine = (c.run_id == self.table.c.id, c.name == sort_by.removeprefix(METRIC))
            largest = sa.select(sa.func.max(c.number_value)).where(*mine).scalar_subquery()
            # A run without the metric is below all others, as upstream's NULL is.
            return sa.func.coalesce(largest, _NO_METRIC)
        found = self.fields.get(sort_by)
        return found.expression if found is not None else None

    def fits(self, sort_by: str, value: str | float) -> bool:
        """Whether a value is one that rows sorted by this have."""
        if self.measured and sort_by.startswith(METRIC):
            return isinstance(value, float)
        found = self.fields.get(sort_by)
        return found is not None and isinstance(value, int if found.moment else str)


METRIC = "metric:"
_NO_METRIC = -sys.float_info.max
_TAGS = "tags."
_STORAGE = {"STORAGESTATE_AVAILABLE": "AVAILABLE", "STORAGESTATE_ARCHIVED": "ARCHIVED"}


def _fields(table: sa.Table, names: str, **more: Field) -> dict[str, Field]:
    found = {name: Field(table.c[name], moment=name.endswith("_at")) for name in names.split()}
    if "storage_state" in found:
        found["storage_state"] = Field(table.c.storage_state, values=_STORAGE)
    return {"id": Field(table.c.id), **found, **more}


EXPERIMENTS = Listable(
    t.experiments,
    _fields(
        t.experiments,
        "display_name description namespace storage_state created_at last_run_created_at",
        experiment_id=Field(t.experiments.c.id),
        name=Field(t.experiments.c.display_name),
    ),
)
PIPELINES = Listable(
    t.pipelines,
    _fields(t.pipelines, "name display_name description namespace created_at", pipeline_id=Field(t.pipelines.c.id)),
    tagged=True,
)
VERSIONS = Listable(
    t.versions,
    _fields(t.versions, "name display_name description created_at", pipeline_version_id=Field(t.versions.c.id)),
    tagged=True,
)
RUNS = Listable(
    t.runs,
    _fields(
        t.runs,
        "display_name description namespace storage_state state experiment_id created_at scheduled_at finished_at"
        " recurring_run_id",
        run_id=Field(t.runs.c.id),
        name=Field(t.runs.c.display_name),
        status=Field(t.runs.c.state, upper=True),
    ),
    measured=True,
)
RECURRING_RUNS = Listable(
    t.recurring_runs,
    _fields(
        t.recurring_runs,
        "display_name description namespace status experiment_id pipeline_id created_at updated_at",
        recurring_run_id=Field(t.recurring_runs.c.id),
        name=Field(t.recurring_runs.c.display_name),
    ),
)
ARTIFACTS = Listable(
    t.artifacts,
    _fields(t.artifacts, "name type uri namespace run_id task_id created_at", artifact_id=Field(t.artifacts.c.id)),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """A page: rows, how many there are on all pages, and the next page's token ("" on the last)."""

    rows: Sequence[RowMapping]
    total: int
    next_page_token: str


def list_rows(
    connection: Connection,
    listable: Listable,
    query: ListQuery,
    *scope: sa.ColumnElement[bool],
    columns: Sequence[sa.ColumnElement[Any]] = (),
) -> Rows:
    """A page of the rows within `scope`. Raises ListError."""
    size = _page_size(query.page_size)
    token = _position(listable, query)
    where = [*scope, *(_condition(listable, p) for p in token.predicates)]
    total = connection.scalar(sa.select(sa.func.count()).select_from(listable.table).where(*where)) or 0
    key, ident = listable.key(token.sort_by), listable.table.c.id
    if key is None:
        raise ListError(f"Cannot sort by {token.sort_by!r}.")
    if token.id:
        beyond = (key < token.value, ident < token.id) if token.descending else (key > token.value, ident > token.id)
        # The first condition says nothing new; it lets the index begin where the page does.
        bound = key <= token.value if token.descending else key >= token.value
        where += [bound, sa.or_(beyond[0], beyond[1])]
    order = (key.desc(), ident.desc()) if token.descending else (key.asc(), ident.asc())
    wanted = columns or (listable.table,)
    select = sa.select(*wanted, key.label("_key")).where(*where).order_by(*order).limit(size + 1)
    rows = list(connection.execute(select).mappings())
    following = ""
    if len(rows) > size:
        rows = rows[:size]
        token.value, token.id = rows[-1]["_key"], rows[-1]["id"]
        following = base64.urlsafe_b64encode(_wire.encode(token)).decode()
    return Rows(rows, total, following)


def _page_size(asked: int) -> int:
    if asked < 0:
        raise ListError(f"page_size must not be negative, got {asked}.")
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _position(listable: Listable, query: ListQuery) -> _Token:
    sort_by = query.sort_by or listable.default_sort
    if listable.key(sort_by) is None:
        more = [f"{METRIC}NAME"] if listable.measured else []
        raise ListError(f"Cannot sort by {sort_by!r}; fields are {', '.join([*sorted(listable.fields), *more])}.")
    asked = _Token(sort_by, query.descending, list(query.predicates), "", "")
    if not query.page_token:
        return asked
    try:
        token = _wire.decode(_Token, base64.urlsafe_b64decode(query.page_token))
    except (binascii.Error, ValueError) as error:  # msgspec's errors are ValueErrors
        raise ListError("page_token is not one that this server gave.") from error
    token.predicates = [Predicate(p.key, p.operation, _revive(listable, p)) for p in token.predicates]
    if not listable.fits(token.sort_by, token.value):
        raise ListError("page_token belongs to another list.")
    if isinstance(token.value, int) and abs(token.value) > _LARGEST:
        raise ListError("page_token is not one that this server gave.")
    if query.sort_by is not None and (token.sort_by, token.descending) != (sort_by, query.descending):
        raise ListError("page_token was given for another sort_by: ask for the first page again.")
    if query.predicates and [_plain(p) for p in token.predicates] != [_plain(p) for p in query.predicates]:
        raise ListError("page_token was given for another filter: ask for the first page again.")
    return token


def _plain(predicate: Predicate) -> bytes:
    return _wire.encode(predicate)


def _revive(listable: Listable, predicate: Predicate) -> Any:
    """A moment came back from the token as text."""
    found = listable.fields.get(predicate.key)
    if found is not None and found.moment and isinstance(predicate.value, str):
        return _wire.convert(dt.datetime, predicate.value)
    return predicate.value


def _condition(listable: Listable, predicate: Predicate) -> sa.ColumnElement[bool]:
    if listable.tagged and predicate.key.startswith(_TAGS):
        return _tagged(listable, predicate)
    found = listable.fields.get(predicate.key)
    if found is None:
        raise ListError(f"Cannot filter by {predicate.key!r}; fields are {', '.join(sorted(listable.fields))}.")
    column, operation = found.expression, predicate.operation
    if operation is Operation.IN:
        if not isinstance(predicate.value, list):
            raise ListError(f"IN on {predicate.key!r} needs a list of values.")
        return column.in_([_bind(found, predicate.key, v) for v in predicate.value])
    if isinstance(predicate.value, list):
        raise ListError(f"{operation} on {predicate.key!r} needs one value, not a list.")
    if operation is Operation.IS_SUBSTRING:
        if not isinstance(predicate.value, str) or found.moment:
            raise ListError(f"IS_SUBSTRING on {predicate.key!r} needs a text field and a string value.")
        return column.icontains(predicate.value, autoescape=True)
    value = _bind(found, predicate.key, predicate.value)
    match operation:
        case Operation.EQUALS:
            return column == value
        case Operation.NOT_EQUALS:
            return column != value
        case Operation.GREATER_THAN:
            return column > value
        case Operation.GREATER_THAN_EQUALS:
            return column >= value
        case Operation.LESS_THAN:
            return column < value
        case Operation.LESS_THAN_EQUALS:
            return column <= value


def _tagged(listable: Listable, predicate: Predicate) -> sa.ColumnElement[bool]:
    """Has such a tag."""
    c, value = t.tags.c, predicate.value
    matches: sa.ColumnElement[bool]
    if predicate.operation is Operation.IN and isinstance(value, list):
        matches = c.value.in_([str(v) for v in value])
    elif predicate.operation is Operation.EQUALS and isinstance(value, str):
        matches = c.value == value
    else:
        raise ListError(f"A filter on {predicate.key!r} takes EQUALS with a string_value or IN with string_values.")
    mine = (c.owner_id == listable.table.c.id, c.key == predicate.key.removeprefix(_TAGS), matches)
    return sa.exists().where(*mine)


def _bind(found: Field, key: str, value: Any) -> str | int:
    """A value as the column stores it; integers for moments are seconds, as upstream stores them."""
    if found.moment:
        if isinstance(value, dt.datetime):
            return (value - _EPOCH) // dt.timedelta(microseconds=1)
        if isinstance(value, int):
            if abs(value) > _LARGEST // 1_000_000:
                raise ListError(f"A filter on {key!r} compares with {value}, which is no moment.")
            return value * 1_000_000
        raise ListError(f"A filter on {key!r} needs a timestamp_value.")
    text = str(value)
    text = text.upper() if found.upper else text
    return found.values.get(text, text)
