"""`/profiles/{name}`: who is in it and as what, what it may use and does, its object-store keys, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api import _wire, quantity
from headrace.api.errors import Forbidden, NotFound
from headrace.api.limits import ResourceQuota
from headrace.api.rbac import RoleBinding
from headrace.components.profiles import render
from headrace.components.profiles.api import EMAIL
from headrace.components.profiles.types import Binding, Profile
from headrace.components.profiles.ui import quota
from headrace.components.profiles.ui.profiles import owner_of, role_words, state
from headrace.machinery import fields, look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Done, Fragment, PageError, authorize, both, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.components.profiles.api import Bindings
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

LIMITS = ("cpu", "memory", "requests.nvidia.com/gpu", "pods", "requests.storage")
"""What the form can limit; others stay as they are."""


class ProfilePage:
    """Everything goes through the bindings that KFAM uses, and is asked for there as KFAM asks."""

    def __init__(self, context: Context, bindings: Bindings) -> None:
        self._context, self._bindings = context, bindings

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """The profile, its bindings and its quotas."""
        changes, name = self._context.site.changes, request.parameters.get("profile", request.namespace)
        return both(
            changes(Profile).subscribe(wake),
            changes(RoleBinding).subscribe(wake, name),
            changes(ResourceQuota).subscribe(wake, name),
        )

    async def panel(self, request: PageRequest) -> Markup:
        """For the first page: the quotas of the namespace."""
        await authorize(self._context.client, request, "list", "resourcequotas")
        return quota.bars(list((await self._context.site.cache(ResourceQuota)).all(request.namespace)))

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        name, user = request.parameters["profile"], request.user
        admin = await self._bindings.is_admin(user)
        found = await self._bindings.seen_by(user, namespace=name)
        profile = (await self._context.site.cache(Profile)).get(name)
        if profile is None or not (admin or found):
            words = _("There is no profile {name}, or you are not in it: its owner can add you.", name=name)
            raise PageError(404, _("There is no such profile"), words)
        owner = owner_of(profile)
        manages = admin or owner == user.name
        kind, word, why = state(profile)
        head = el(
            "div",
            el("h1", name),
            look.pill(kind, word),
            el("span", _("of {name}", name=owner), class_="dim"),
            el("a", _("Workloads"), href=f"/workloads?ns={name}", class_="btn push"),
            el("a", _("Runs"), href=f"/runs?ns={name}", class_="btn"),
            class_="row",
        )
        quotas = list((await self._context.site.cache(ResourceQuota)).all(name))
        bars = quota.bars(quotas) or look.empty(_("No limits: it may use what the machine has."))
        keys = podlook.facts(((_("Secret"), el("span", render.KEYS_SECRET, class_="mono")),))
        command = look.command(f"kubectl -n {name} get secret {render.KEYS_SECRET} -o yaml")
        body = el(
            "div",
            head,
            look.why(_("Why it is not ready"), why) if why else None,
            el(
                "div",
                el(
                    "div",
                    _box(_("Members"), _members(found, owner, manages=manages), _add() if manages else None),
                    _box(_("Delete"), _end(name)) if manages else None,
                    class_="stack",
                ),
                el(
                    "div",
                    _box(_("Quota"), bars, _limits(profile) if admin else None),
                    _box(
                        _("Object-store keys"),
                        keys,
                        el("p", _("They reach the objects of this profile and nothing else."), class_="said dim"),
                        el("div", command, class_="said"),
                    ),
                    class_="stack",
                ),
                class_="cols",
            ),
            class_="wrap",
        )
        return Fragment(name, body, namespace=name)

    async def add(self, request: PageRequest, form: Form) -> Done:
        """Add somebody, or give somebody another role."""
        name, who, role = request.parameters["profile"], form.text("user").strip(), form.text("role")
        if role not in {"edit", "view"}:
            raise PageError(400, _("That was refused"), _("Choose contributor or viewer."))
        if not EMAIL.fullmatch(who):
            words = _("{name} is not an e-mail address: people are named by one.", name=who)
            raise PageError(400, _("That was refused"), words)
        with fields.refusals():
            await self._bindings.require_owner(request.user, name)
            before = await self._bindings.seen_by(request.user, who, name)
            await self._bindings.create(_binding(name, who, role))
            for each in before:
                if each.role_ref is not None and each.role_ref.name in {"edit", "view"}:
                    await self._bindings.delete(each)
        return Done(message=_("{name} is {role} now.", name=who, role=role_words(role)))

    async def remove(self, request: PageRequest, form: Form) -> Done:
        """Take somebody's role away; the owner's stays."""
        name, who, role = request.parameters["profile"], form.text("user"), form.text("role")
        with fields.refusals():
            await self._bindings.require_owner(request.user, name)
            profile = await self._bindings.profile(name)
            if role == "admin" and owner_of(profile) == who:
                raise Forbidden("a profile has an owner: delete the profile, or change spec.owner")
            await self._bindings.delete(_binding(name, who, role))
        return Done(message=_("{name} is no longer {role}.", name=who, role=role_words(role)))

    async def quota(self, request: PageRequest, form: Form) -> Done:
        """Other limits; administrators only."""
        name = request.parameters["profile"]
        if not await self._bindings.is_admin(request.user):
            raise PageError(403, _("That was refused"), _("Quotas are for administrators to set."))
        with fields.refusals():
            hard: dict[str, str | None] = {}
            for limit in LIMITS:
                value = form.text(limit).strip()
                if value and quantity.parse(value) < 0:
                    raise ValueError(f"{limit}: {value} is less than nothing")
                hard[limit] = value or None
            patch = {"spec": {"resourceQuotaSpec": {"hard": hard}}}
            await self._context.client.patch(Profile, name, patch)
        return Done(message=_("Saved."))

    async def delete(self, request: PageRequest, form: Form) -> Done:
        """The profile and all that is in it."""
        name = request.parameters["profile"]
        with fields.refusals():
            await self._bindings.require_owner(request.user, name)
            if form.text("typed").strip() != name:
                words = _("Type {name} to delete it: nothing has happened.", name=name)
                raise PageError(400, _("That was refused"), words)
            try:
                await self._bindings.delete_profile(name)
            except NotFound:
                return Done("/profiles")
        return Done("/profiles", _("{name} and everything in it is being removed.", name=name))


def _binding(namespace: str, user: str, role: str) -> Binding:
    body = {
        "user": {"kind": "User", "name": user},
        "referredNamespace": namespace,
        "RoleRef": {"kind": "ClusterRole", "name": role},
    }
    return _wire.convert(Binding, body)


def _box(title: str, *inner: Child) -> Markup:
    return el("section", el("div", el("h2", title), class_="ph"), inner, class_="panel", aria_label=title)


def _members(found: list[Binding], owner: str, *, manages: bool) -> Markup:
    rows = []
    order = {"admin": 0, "edit": 1, "view": 2}
    known = [(b.role_ref.name, b.user.name) for b in found if b.user is not None and b.role_ref is not None]
    for role, who in sorted(known, key=lambda each: (order.get(each[0], 3), each[1])):
        fixed = not manages or (role == "admin" and who == owner)
        press = button(_("Remove"), "remove", user=who, role=role) if not fixed else ""
        rows.append(
            el(
                "tr",
                el("td", who, class_="wrap-any"),
                el("td", look.pill(look.OK if role == "admin" else look.RUN, role_words(role))),
                el("td", press, class_="right"),
                id=f"member-{role}-{who}",
            )
        )
    head = el("tr", el("th", _("Who")), el("th", _("Role")), el("th", ""))
    return el("table", el("thead", head), el("tbody", rows))


def _add() -> Markup:
    return fields.form(
        "add",
        fields.field(_("E-mail address"), "user", kind="email", required=True),
        fields.select(_("Role"), "role", (("edit", role_words("edit")), ("view", role_words("view")))),
        submit=_("Add"),
        row=True,
    )


def _limits(profile: Profile) -> Markup:
    hard = profile.spec.resource_quota_spec.hard
    labels = {
        "cpu": (_("CPUs"), "4"),
        "memory": (_("Memory"), "8Gi"),
        "requests.nvidia.com/gpu": (_("GPUs"), "1"),
        "pods": (_("Pods"), "20"),
        "requests.storage": (_("Volumes"), "50Gi"),
    }
    entries = [
        fields.field(labels[limit][0], limit, value=str(hard.get(limit, "")), placeholder=labels[limit][1])
        for limit in LIMITS
    ]
    form = fields.form("quota", entries, submit=_("Set the quota"))
    return el("details", el("summary", _("Change the quota")), form, class_="fold")


def _end(name: str) -> Markup:
    form = fields.form(
        "delete",
        el("p", _("Pods, volumes, secrets and models in it go with it. There is no way back."), class_="dim"),
        fields.field(_("Type {name} to confirm", name=name), "typed", required=True),
        submit=_("Delete the profile"),
        kind="danger",
    )
    return el("details", el("summary", _("Delete this profile …")), form, class_="fold")
