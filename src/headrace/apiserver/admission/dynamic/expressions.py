"""CEL in admission: what an expression sees of a request, compiled once, and conditions that must all hold."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from headrace.api.identity import User, service_account
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.cel import types as t
from headrace.apiserver.cel.kubernetes import Attributes as Asked
from headrace.apiserver.cel.kubernetes import AuthorizerValue
from headrace.apiserver.cel.program import CALL_LIMIT, Program, compile_text
from headrace.apiserver.cel.values import CostExceeded, EvalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.apiserver.admission.dynamic.attempt import Attempt
    from headrace.apiserver.authz.rbac import Authorizer

Json = dict[str, Any]

BUDGET = 2_000_000
"""What all expressions of one policy may cost for one request: about a second. Upstream allows five times as much."""
REQUEST_RESOURCE = "authorizer.requestResource"


class Fields(dict[str, tuple[str, t.Type]]):
    """Fields of an object type that have the same name in expressions."""

    @classmethod
    def of(cls, **types: t.Type) -> Fields:
        """By name."""
        return cls({name: (name, kind) for name, kind in types.items()})


def _object(title: str, /, **types: t.Type) -> t.Type:
    return t.Type(title, fields=Fields.of(**types))


_KIND = _object("kind", group=t.STRING, version=t.STRING, kind=t.STRING)
_RESOURCE = _object("resource", group=t.STRING, version=t.STRING, resource=t.STRING)
_USER = _object(
    "userInfo",
    username=t.STRING,
    uid=t.STRING,
    groups=t.list_of(t.STRING),
    extra=t.map_of(t.STRING, t.list_of(t.STRING)),
)
REQUEST = _object(
    "request",
    uid=t.STRING,
    kind=_KIND,
    resource=_RESOURCE,
    subResource=t.STRING,
    requestKind=_KIND,
    requestResource=_RESOURCE,
    requestSubResource=t.STRING,
    name=t.STRING,
    namespace=t.STRING,
    operation=t.STRING,
    userInfo=_USER,
    dryRun=t.BOOL,
    options=t.DYN,
)
_BASE = {
    "object": t.DYN,
    "oldObject": t.DYN,
    "request": REQUEST,
    "authorizer": t.Type("authorizer"),
    REQUEST_RESOURCE: t.Type("authorizer"),
}


@lru_cache(maxsize=1024)
def compiled(text: str, *more: str) -> Program:
    """An expression over a request; `more` names further variables. Raises CompileError."""
    return compile_text(text, _BASE | dict.fromkeys(more, t.DYN))


class Lazy(dict[str, Any]):
    """`variables`: each is found when an expression first asks for it."""

    KIND: ClassVar[str] = "map"

    def __init__(self, finders: dict[str, Callable[[], Any]]) -> None:
        super().__init__()
        self._finders = finders

    def __contains__(self, key: object) -> bool:
        return key in self._finders

    def __missing__(self, key: str) -> Any:
        # A failure is kept too: it belongs to every expression that uses the variable.
        found = self[key] = self._finders[key]()
        return found


class Budget:
    """What is left for the expressions of one policy."""

    def __init__(self, amount: int = BUDGET) -> None:
        self.left = amount

    def run(self, program: Program, variables: Json) -> Any:
        """Raises EvalError, also when the budget is spent."""
        try:
            value, cost = program.run(variables, max(min(CALL_LIMIT, self.left), 0))
        except CostExceeded as error:
            self.left = 0
            raise EvalError(
                "validation failed due to running out of cost budget, no further validation rules will be run"
            ) from error
        self.left -= cost
        return value


def variables_of(attempt: Attempt, authorizer: Authorizer, request: Json) -> Json:
    """What every expression sees."""
    asking = AuthorizerValue(_answers(attempt.user, authorizer))
    own = Asked(
        group=attempt.info.group,
        resource=attempt.info.plural,
        subresource=attempt.subresource,
        namespace=attempt.namespace,
        name=attempt.name,
    )
    return {
        "object": attempt.obj,
        "oldObject": attempt.old,
        "request": request,
        "authorizer": asking,
        REQUEST_RESOURCE: AuthorizerValue(asking.allows, own),
    }


def _answers(user: User, authorizer: Authorizer) -> Callable[[Asked, str], bool]:
    def allows(asked: Asked, account: str) -> bool:
        who = user
        if account:
            namespace, _, name = account.partition(":")
            who = service_account(namespace, name)
        wanted = Attributes(
            asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace, asked.name, asked.path
        )
        return authorizer.allows(who, wanted)

    return allows


def conditions_hold(conditions: Iterable[Json], variables: Json, budget: Budget, *more: str) -> bool:
    """Whether every match condition is true; one that is false decides over one that fails. Raises EvalError."""
    failed: EvalError | None = None
    for condition in conditions:
        try:
            if budget.run(compiled(condition["expression"], *more), variables) is not True:
                return False
        except EvalError as error:
            failed = failed or EvalError(f"expression '{condition['expression']}' resulted in error: {error}")
    if failed is not None:
        raise failed
    return True
