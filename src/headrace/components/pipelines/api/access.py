"""Who asks, in which namespace, and whether they may.

The gateway authenticates and puts the user into the scope; this API authorizes every request by a
SubjectAccessReview on `runs`, `experiments` or `pipelines` of pipelines.kubeflow.org.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.types.rest import Code, RpcError
from headrace.machinery.settings import DEFAULT_NAMESPACE, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.client.base import Client

GROUP = "pipelines.kubeflow.org"
_SERVICE_ACCOUNT = "system:serviceaccount:"


def user_of(scope: Any) -> User:
    """The authenticated user of a request. Raises RpcError (UNAUTHENTICATED)."""
    user: User | None = (scope.get("state") or {}).get("user")
    if user is None:
        raise RpcError(Code.UNAUTHENTICATED, "Send a bearer token: `headrace token` prints one.")
    return user


def home_namespace(user: User) -> str:
    """The namespace that is meant when a request names none: a service account's own, else the default profile's."""
    if user.name.startswith(_SERVICE_ACCOUNT):
        return user.name.removeprefix(_SERVICE_ACCOUNT).split(":", 1)[0]
    return DEFAULT_NAMESPACE


def is_service_account(user: User, namespace: str, name: str) -> bool:
    """Whether the user is this service account."""
    return user.name == f"{_SERVICE_ACCOUNT}{namespace}:{name}"


class Access:
    """Asks the API server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def require_pipelines(self, user: User, verb: str, namespace: str, name: str = "") -> None:
        """As `require`, for pipelines: those without a namespace are shared. Whoever is authenticated may read them;
        to change them takes the right in the system's namespace (upstream: pipeline_server.go, canAccessPipeline).
        """
        if namespace or verb not in {"get", "list"}:
            await self.require(user, verb, "pipelines", namespace or SYSTEM_NAMESPACE, name)

    async def require(
        self, user: User, verb: str, resource: str, namespace: str, name: str = "", *, group: str = GROUP
    ) -> None:
        """Raises RpcError (PERMISSION_DENIED) unless the user may."""
        allowed = await self._client.review_access(
            user, verb, group=group, resource=resource, namespace=namespace, name=name
        )
        if not allowed:
            raise RpcError(
                Code.PERMISSION_DENIED,
                f"User {user.name!r} may not {verb} {resource} in namespace {namespace!r};"
                " ask an owner of that namespace to add you as a contributor.",
            )
