"""Kinds that are questions, not objects: they are created, answered and forgotten.

authentication.k8s.io TokenReview and SelfSubjectReview, authorization.k8s.io …AccessReview and …RulesReview. The
self-reviews are for everybody who is authenticated; the others need the verb `create` on their resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.errors import BadRequest, Cause, Invalid
from headrace.api.identity import MASTERS, UNAUTHENTICATED, User
from headrace.api.meta import KindInfo
from headrace.apiserver.admission.dynamic.gate import admit_question
from headrace.apiserver.authn.requests import AUTHENTICATION_GROUP
from headrace.apiserver.authn.tokens import ISSUER
from headrace.apiserver.authz.rbac import Attributes
from headrace.apiserver.http.messages import Response, json, warning_headers
from headrace.apiserver.http.resources import as_object, not_allowed
from headrace.apiserver.registry.core import forbidden

if TYPE_CHECKING:
    from headrace.apiserver.authn.requests import Requests
    from headrace.apiserver.authn.tokens import TokenIssuer
    from headrace.apiserver.http.messages import Request
    from headrace.apiserver.http.targets import Target
    from headrace.apiserver.registry import Registry

AUTHORIZATION_GROUP = "authorization.k8s.io"


def _kind(group: str, kind: str, *, namespaced: bool = False) -> KindInfo:
    return KindInfo(group, "v1", kind, f"{kind.lower()}s", namespaced=namespaced, subresources=frozenset())


TOKEN_REVIEW = _kind(AUTHENTICATION_GROUP, "TokenReview")
SELF_SUBJECT = _kind(AUTHENTICATION_GROUP, "SelfSubjectReview")
SUBJECT_ACCESS = _kind(AUTHORIZATION_GROUP, "SubjectAccessReview")
SELF_ACCESS = _kind(AUTHORIZATION_GROUP, "SelfSubjectAccessReview")
SELF_RULES = _kind(AUTHORIZATION_GROUP, "SelfSubjectRulesReview")
LOCAL_ACCESS = _kind(AUTHORIZATION_GROUP, "LocalSubjectAccessReview", namespaced=True)
KINDS = (TOKEN_REVIEW, SELF_SUBJECT, SUBJECT_ACCESS, SELF_ACCESS, SELF_RULES, LOCAL_ACCESS)
SELF = frozenset({SELF_SUBJECT, SELF_ACCESS, SELF_RULES})
BY_PATH = {(k.group, k.version, k.plural): k for k in KINDS}


class Reviews:
    """Answers reviews."""

    def __init__(self, registry: Registry, tokens: TokenIssuer, who: Requests) -> None:
        self._registry, self._tokens, self._who = registry, tokens, who

    async def handle(self, request: Request, user: User, info: KindInfo, target: Target) -> Response:
        """One question. Raises Forbidden, BadRequest, Invalid."""
        if request.method != "POST" or target.name:
            raise not_allowed()
        if info not in SELF:
            asked = Attributes("create", info.group, info.plural, "", target.namespace)
            if not self._registry.authorizer.allows(user, asked):
                raise forbidden(user, asked)
        warnings: list[str] = []
        body = as_object(await request.decoded(), info)
        body = await admit_question(self._registry, user, info, body, warnings)
        spec = body.get("spec") or {}
        if not isinstance(spec, dict):
            raise BadRequest(f"{info.kind}: spec must be an object")
        match info:
            case _ if info == TOKEN_REVIEW:
                status = await self._token(spec)
            case _ if info == SELF_SUBJECT:
                status = {"userInfo": user_info(user)}
            case _ if info == SELF_RULES:
                status = self._rules(user, str(spec.get("namespace") or ""))
            case _:
                who = user if info == SELF_ACCESS else _subject(spec, info)
                status = self._access(who, spec, info, target.namespace)
        answer = {
            "kind": info.kind,
            "apiVersion": info.api_version,
            "metadata": {**(body.get("metadata") or {}), "creationTimestamp": None},
            "spec": spec,
            "status": status,
        }
        return json(answer, 201, warning_headers(warnings))

    async def _token(self, spec: dict[str, Any]) -> dict[str, Any]:
        token = spec.get("token")
        if not isinstance(token, str) or not token:
            raise _required(TOKEN_REVIEW, "spec.token")
        audiences = tuple(str(a) for a in spec.get("audiences") or ())
        user, meant_for = await self._tokens.review(token, audiences), self._tokens.audiences(token)
        if user is None and ISSUER in (audiences or (ISSUER,)):
            user, meant_for = await self._who.person(token), (ISSUER,)
        if user is None:
            return {
                "user": {},
                "error": "the token is not valid for these audiences, has expired, or its owner is gone",
            }
        return {
            "authenticated": True,
            "user": user_info(user),
            "audiences": [a for a in meant_for if not audiences or a in audiences],
        }

    def _access(self, who: User, spec: dict[str, Any], info: KindInfo, namespace: str) -> dict[str, Any]:
        resource: dict[str, Any] = spec.get("resourceAttributes") or {}
        path: dict[str, Any] = spec.get("nonResourceAttributes") or {}
        if bool(resource) == bool(path):
            raise _invalid(
                info,
                "spec.resourceAttributes",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        if path:
            asked = Attributes(str(path.get("verb", "")).lower(), path=str(path.get("path", "")))
        else:
            found = {k: str(resource.get(k) or "") for k in ("verb", "group", "resource", "subresource", "name")}
            where = str(resource.get("namespace") or "")
            if info == LOCAL_ACCESS and where != namespace:
                raise _invalid(info, "spec.resourceAttributes.namespace", "must match metadata.namespace")
            asked = Attributes(
                found["verb"], found["group"], found["resource"], found["subresource"], where, found["name"]
            )
        return {"allowed": self._registry.authorizer.allows(who, asked)}

    def _rules(self, user: User, namespace: str) -> dict[str, Any]:
        if not namespace:
            raise _required(SELF_RULES, "spec.namespace")
        if MASTERS in user.groups:
            every = ["*"]
            resource_rules: list[dict[str, Any]] = [{"verbs": every, "apiGroups": every, "resources": every}]
            path_rules: list[dict[str, Any]] = [{"verbs": every, "nonResourceURLs": every}]
        else:
            rules = [_wire.to_builtins(r) for r in self._registry.authorizer.rules_for(user, namespace)]
            resource_rules = [
                {k: r[k] for k in ("verbs", "apiGroups", "resources", "resourceNames") if k in r}
                for r in rules
                if r.get("resources")
            ]
            path_rules = [{k: r[k] for k in ("verbs", "nonResourceURLs")} for r in rules if r.get("nonResourceURLs")]
        for kind in sorted(SELF, key=lambda k: k.plural):
            resource_rules.append({"verbs": ["create"], "apiGroups": [kind.group], "resources": [kind.plural]})
        return {"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": False}


def user_info(user: User) -> dict[str, Any]:
    """The user as authentication.k8s.io UserInfo."""
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {k: list(v) for k, v in user.extra.items()}
    return info


def _subject(spec: dict[str, Any], info: KindInfo) -> User:
    name, groups = str(spec.get("user") or ""), tuple(str(g) for g in spec.get("groups") or ())
    if not name and not groups:
        raise _invalid(info, "spec.user", "at least one of user or group must be specified")
    return User(name or UNAUTHENTICATED, str(spec.get("uid") or ""), groups)


def _invalid(info: KindInfo, field: str, why: str) -> Invalid:
    return Invalid.of(info, "", [Cause(field, f"Invalid value: {why}")])


def _required(info: KindInfo, field: str) -> Invalid:
    return Invalid.of(info, "", [Cause(field, "Required value", "FieldValueRequired")])
