"""KFAM (`/kfam/v1`) and the central dashboard's workgroups (`/api/workgroup`), after kubeflow/dashboard.

Upstream asks nothing of who reads bindings or creates a profile; here one sees the bindings of namespaces that one is
in, and makes a profile for oneself. Whoever may delete Profiles (a cluster administrator) may do all of it for all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headrace import __version__
from headrace.api import _wire
from headrace.api.errors import BadRequest, Forbidden, NotFound, StatusError
from headrace.api.identity import AUTHENTICATED, User
from headrace.api.rbac import GROUP as RBAC
from headrace.api.rbac import RoleBinding
from headrace.components.profiles import policy, render
from headrace.components.profiles.types import GROUP, Binding, Profile
from headrace.machinery.requests import json_object, read_body, sender

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.client.base import Client
    from headrace.machinery.component import ASGIApp

EMAIL = re.compile(r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,120}[a-zA-Z0-9])?")
SERVICE_ACCOUNT = "system:serviceaccount:"
"""What the names of programs begin with: a pod must not get itself a namespace beyond its own namespace's quota."""
SIMPLE = {"admin": "owner", "edit": "contributor", "view": "viewer"}


class Bindings:
    """Who is what in which profile: the part that both dialects share."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def is_admin(self, user: User) -> bool:
        """Whether the user administers the cluster."""
        return await self._client.review_access(user, "delete", group=GROUP, resource=Profile.INFO.plural)

    async def profile(self, name: str) -> Profile:
        """Raises NotFound."""
        return await self._client.get(Profile, name)

    async def require_owner(self, user: User, namespace: str) -> None:
        """Raises Forbidden unless the user owns the profile or administers the cluster, NotFound."""
        if await self.is_admin(user):
            await self.profile(namespace)
            return
        try:
            profile = await self.profile(namespace)
        except NotFound:
            profile = None
        if profile is None or profile.spec.owner is None or profile.spec.owner.name != user.name:
            raise Forbidden(f"{user.name} does not own the profile {namespace!r}: its owner can do this")

    async def seen_by(self, asker: User, user: str = "", namespace: str = "", role: str = "") -> list[Binding]:
        """Bindings that fit the filters, of those that the asker may see."""
        names = [namespace] if namespace else [p.metadata.name for p in (await self._client.list(Profile)).items]
        admin = await self.is_admin(asker)
        found: list[Binding] = []
        for name in sorted(names):
            raw = (await self._client.list(RoleBinding, name)).items
            every = [b for each in raw if (b := policy.binding_of(name, _wire.to_builtins(each))) is not None]
            mine = admin or any(b.user and b.user.name == asker.name for b in every)
            if not mine and not await self._client.review_access(
                asker, "list", group=RBAC, resource=RoleBinding.INFO.plural, namespace=name
            ):
                continue
            found += [b for b in every if _fits(b, user, role)]
        return found

    async def create(self, binding: Binding) -> None:
        """Raises BadRequest, AlreadyExists."""
        user, role = binding.user, binding.role_ref
        if (
            user is None
            or not user.name
            or role is None
            or role.name not in policy.ROLES
            or not binding.referred_namespace
        ):
            raise BadRequest(f"a binding needs user, referredNamespace and RoleRef.name ({', '.join(policy.ROLES)})")
        name = policy.binding_name(user.kind, user.name, role.kind, role.name)
        body = {
            "metadata": {
                "name": name,
                "namespace": binding.referred_namespace,
                "annotations": {"user": user.name, "role": role.name},
            },
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": policy.ROLES[role.name]},
            "subjects": [{"apiGroup": RBAC, "kind": user.kind, "name": user.name}],
        }
        await self._client.create(_wire.convert(RoleBinding, body))

    async def delete(self, binding: Binding) -> None:
        """Raises BadRequest, NotFound."""
        user, role = binding.user, binding.role_ref
        if user is None or role is None:
            raise BadRequest("a binding needs user, referredNamespace and RoleRef")
        name = policy.binding_name(user.kind, user.name, role.kind, role.name)
        await self._client.delete(RoleBinding, name, binding.referred_namespace)

    async def create_profile(self, asker: User, profile: Profile) -> None:
        """Raises Forbidden, AlreadyExists, Invalid."""
        owner = profile.spec.owner
        if asker.name.startswith(SERVICE_ACCOUNT) and not await self.is_admin(asker):
            raise Forbidden(f"{asker.name} is a service account: people make profiles, and administrators for others")
        if (owner is None or owner.name != asker.name) and not await self.is_admin(asker):
            raise Forbidden(f"{asker.name} may make a profile for {asker.name} only")
        if profile.spec.resource_quota_spec.hard and not await self.is_admin(asker):
            raise Forbidden("quotas are for administrators to set")
        await self._client.create(profile)

    async def delete_profile(self, name: str) -> None:
        """Raises NotFound."""
        await self._client.delete(Profile, name)


def _fits(binding: Binding, user: str, role: str) -> bool:
    if user and (binding.user is None or binding.user.name != user):
        return False
    return not role or (binding.role_ref is not None and binding.role_ref.name == role)


class Kfam:
    """`/kfam/v1`."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/", self.index),
            Route("/v1/bindings", self.read, methods=["GET"]),
            Route("/v1/bindings", self.create, methods=["POST"]),
            Route("/v1/bindings", self.delete, methods=["DELETE"]),
            Route("/v1/profiles", self.create_profile, methods=["POST"]),
            Route("/v1/profiles/{profile}", self.delete_profile, methods=["DELETE"]),
            Route("/v1/role/clusteradmin", self.cluster_admin, methods=["GET"]),
        ]

    async def index(self, _request: Request) -> Response:
        """As upstream."""
        return PlainTextResponse("Hello World!")

    async def read(self, request: Request) -> Response:
        """GET bindings?user&namespace&role."""
        query = request.query_params
        found = await self._bindings.seen_by(
            sender(request), query.get("user", ""), query.get("namespace", ""), query.get("role", "")
        )
        return _json({"bindings": found})

    async def create(self, request: Request) -> Response:
        """POST a binding."""
        binding = await _read(request, Binding)
        await self._bindings.require_owner(sender(request), binding.referred_namespace)
        await self._bindings.create(binding)
        return Response(status_code=200)

    async def delete(self, request: Request) -> Response:
        """DELETE with a binding as body."""
        binding = await _read(request, Binding)
        await self._bindings.require_owner(sender(request), binding.referred_namespace)
        await self._bindings.delete(binding)
        return Response(status_code=200)

    async def create_profile(self, request: Request) -> Response:
        """POST a Profile."""
        await self._bindings.create_profile(sender(request), await _read(request, Profile))
        return Response(status_code=200)

    async def delete_profile(self, request: Request) -> Response:
        """DELETE one's own profile."""
        name = request.path_params["profile"]
        await self._bindings.require_owner(sender(request), name)
        await self._bindings.delete_profile(name)
        return Response(status_code=200)

    async def cluster_admin(self, request: Request) -> Response:
        """A bare boolean."""
        asker, name = sender(request), request.query_params.get("user", "")
        who = asker if name == asker.name else User(name, groups=(AUTHENTICATED,))
        return _json(bool(name) and await self._bindings.is_admin(who))


class Workgroup:
    """`/api/workgroup` of the central dashboard."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/exists", self.exists),
            Route("/create", self.create, methods=["POST"]),
            Route("/env-info", self.env_info),
            Route("/nuke-self", self.nuke_self, methods=["DELETE"]),
            Route("/get-all-namespaces", self.all_namespaces),
            Route("/get-contributors/{namespace}", self.contributors),
            Route("/add-contributor/{namespace}", self.add, methods=["POST"]),
            Route("/remove-contributor/{namespace}", self.remove, methods=["DELETE"]),
        ]

    async def exists(self, request: Request) -> Response:
        """Whether the user owns a profile, and may make one."""
        user = sender(request)
        mine = await self._bindings.seen_by(user, user.name, role="admin")
        return _json(
            {
                "hasAuth": True,
                "user": user.name.partition("@")[0],
                "hasWorkgroup": bool(mine),
                "registrationFlowAllowed": True,
            }
        )

    async def create(self, request: Request) -> Response:
        """`{"namespace": …, "user": …}`, both optional."""
        asker, body = sender(request), json_object(await read_body(request) or b"{}")
        namespace = str(body.get("namespace") or asker.name.partition("@")[0])
        profile = render.default_profile(namespace, str(body.get("user") or asker.name))
        await self._bindings.create_profile(asker, profile)
        return _json({"message": f"Created namespace {namespace}"})

    async def env_info(self, request: Request) -> Response:
        """Who asks, where they are what, and what runs here."""
        user = sender(request)
        found = await self._bindings.seen_by(user, user.name)
        platform = {
            "provider": "headrace",
            "providerName": "headrace",
            "kubeflowVersion": __version__,
            "logoutUrl": "/logout",
        }
        return _json(
            {
                "user": user.name,
                "platform": platform,
                "namespaces": [_simple(b) for b in found],
                "isClusterAdmin": await self._bindings.is_admin(user),
            }
        )

    async def nuke_self(self, request: Request) -> Response:
        """Delete the profile that bears the user's name."""
        user = sender(request)
        name = user.name.partition("@")[0]
        await self._bindings.require_owner(user, name)
        await self._bindings.delete_profile(name)
        return _json({"message": f"Removed namespace/profile {name}"})

    async def all_namespaces(self, request: Request) -> Response:
        """Rows of namespace, owner and contributors."""
        rows: dict[str, list[Any]] = {}
        for binding in await self._bindings.seen_by(sender(request)):
            simple = _simple(binding)
            row = rows.setdefault(simple["namespace"], [simple["namespace"], "", []])
            if simple["role"] == "owner":
                row[1] = simple["user"]
            else:
                row[2].append(simple["user"])
        return _json([[name, owner, ", ".join(others)] for name, owner, others in rows.values()])

    async def contributors(self, request: Request) -> Response:
        """Addresses of those with the role `edit`."""
        return _json(await self._contributors(request))

    async def add(self, request: Request) -> Response:
        """`{"contributor": address}`; the answer lists all."""
        await self._bindings.require_owner(sender(request), request.path_params["namespace"])
        await self._bindings.create(await self._named(request))
        return _json(await self._contributors(request))

    async def remove(self, request: Request) -> Response:
        """`{"contributor": address}`; the answer lists who is left."""
        await self._bindings.require_owner(sender(request), request.path_params["namespace"])
        await self._bindings.delete(await self._named(request))
        return _json(await self._contributors(request))

    async def _contributors(self, request: Request) -> list[str]:
        namespace = request.path_params["namespace"]
        found = await self._bindings.seen_by(sender(request), namespace=namespace, role="edit")
        return [b.user.name for b in found if b.user is not None]

    async def _named(self, request: Request) -> Binding:
        contributor = str(json_object(await read_body(request) or b"{}").get("contributor", ""))
        if not contributor:
            raise BadRequest("Missing contributor field.")
        if not EMAIL.fullmatch(contributor):
            raise BadRequest("Contributor doesn't look like a valid email address")
        body = {
            "user": {"kind": "User", "name": contributor},
            "referredNamespace": request.path_params["namespace"],
            "RoleRef": {"kind": "ClusterRole", "name": "edit"},
        }
        return _wire.convert(Binding, body)


def build_apps(client: Client) -> dict[str, ASGIApp]:
    """An application for each mount."""
    bindings = Bindings(client)
    handlers: dict[Any, Any] = {StatusError: _error, 404: _missing, 405: _missing}
    return {
        "/kfam": Starlette(routes=Kfam(bindings).routes(), exception_handlers=handlers),
        "/api/workgroup": Starlette(routes=Workgroup(bindings).routes(), exception_handlers=handlers),
    }


def _simple(binding: Binding) -> dict[str, str]:
    user, role = binding.user, binding.role_ref
    return {
        "user": user.name if user else "",
        "namespace": binding.referred_namespace,
        "role": SIMPLE.get(role.name if role else "", ""),
    }


async def _read(request: Request, kind: type[Any]) -> Any:
    try:
        return _wire.decode(kind, await read_body(request))
    except (_wire.ValidationError, _wire.DecodeError) as error:
        raise BadRequest(f"the body is not a {kind.__name__}: {error}") from error


def _json(body: Any, status: int = 200) -> Response:
    return Response(_wire.encode(body), status, media_type="application/json")


async def _error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StatusError)  # noqa: S101 - that is what the handler is registered for
    return _json({"error": error.message}, error.code)


async def _missing(request: Request, error: Exception) -> Response:
    words = f"{request.method} {request.url.path} is not served."
    return _json({"error": words}, getattr(error, "status_code", 404))
