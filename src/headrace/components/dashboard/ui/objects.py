"""One object's YAML, and what a person may do to it.

Every write goes to the API server as the person who asks, never as the dashboard: it authorizes, validates (strictly,
unknown fields are refused) and admits as it does for kubectl. An edit sends only what was changed, so that it does
not undo what controllers wrote meanwhile; where it replaces a list, the object must not have moved on.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headrace.api import _wire, _yaml
from headrace.api.errors import Conflict, Forbidden, NotFound, StatusError
from headrace.components.dashboard.ui import kinds
from headrace.machinery.diff import merge_patch, touches_list
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Done, PageError, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.meta import KindInfo, Object
    from headrace.client.base import Registry
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Action, Form, PageRequest

FIXED = (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid"))
RESTARTED = "kubectl.kubernetes.io/restartedAt"
MAX_REPLICAS = 1000
MAX_TEXT = 512 * 1024
"""Characters of YAML: far more than a person writes, and read in a moment."""
MANAGER = "headrace-dashboard"


class Objects:
    """Shows and changes objects as the person."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def actions(self) -> dict[str, Action]:
        """What the page's forms do."""
        return {
            "check": self._check,
            "apply": self._apply,
            "delete": self._delete,
            "restart": self._restart,
            "scale": self._scale,
        }

    async def may(self, request: PageRequest, verb: str, obj: Object, subresource: str = "") -> bool:
        """Whether to offer it; the API server decides again when it is done."""
        return await self._context.client.review_access(
            request.user,
            verb,
            group=obj.INFO.group,
            resource=obj.INFO.plural,
            subresource=subresource,
            namespace=obj.metadata.namespace,
            name=obj.metadata.name,
        )

    async def buttons(self, request: PageRequest, obj: Object) -> list[Markup]:
        """What the person may do to it, as buttons."""
        key, name, uid = obj.INFO.plural, obj.metadata.name, obj.metadata.uid
        found = []
        if key in kinds.SCALED:
            if await self.may(request, "patch", obj, "scale"):
                field = el(
                    "input",
                    type="number",
                    name="replicas",
                    value=obj.spec.replicas,  # type: ignore[attr-defined]
                    min="0",
                    max=MAX_REPLICAS,
                    class_="btn small",
                    aria_label=_("Number of pods"),
                )
                hidden = el("input", type="hidden", name="name", value=name)
                press = el(
                    "button", _("Scale"), type="submit", name="action", value="scale", class_="btn small", title=None
                )
                found.append(el("form", hidden, field, " ", press, method="post", class_="act"))
            if await self.may(request, "patch", obj):
                found.append(button(_("Restart"), "restart", name=name))
        if await self.may(request, "delete", obj):
            sure = _("Delete {name}? This cannot be undone.", name=name)
            found.append(button(_("Delete"), "delete", kind="danger", confirm=sure, name=name, uid=uid))
        return found

    async def yaml(self, request: PageRequest, obj: Object) -> Markup:
        """The object as YAML, to edit for those who may."""
        with said():
            raw = await self._registry().get(request.user, obj.INFO, obj.metadata.name, obj.metadata.namespace)
        body = _wire.decode_any(raw)
        status = body.pop("status", None)
        body["metadata"].pop("managedFields", None)
        text = dump(body)
        may = await self.may(request, "patch", obj)
        version = body["metadata"]["resourceVersion"]
        area = el(
            "textarea",
            "\n",
            text,
            name="after",
            class_="yaml",
            spellcheck="false",
            autocomplete="off",
            readonly=not may,
            aria_label=_("The object as YAML"),
        )
        bar = None
        if may:
            bar = el(
                "div",
                el("button", _("Apply"), type="submit", name="action", value="apply", class_="btn small primary"),
                el("button", _("Only check"), type="submit", name="action", value="check", class_="btn small"),
                el("a", _("Read it again"), href=request.link(tab="yaml", v=version), class_="btn small"),
                el("span", _("The platform checks it as kubectl would."), class_="dim2"),
                class_="toolbar",
            )
        hidden = [
            el("input", type="hidden", name=key, value=value)
            for key, value in (("name", obj.metadata.name), ("before", text))
        ]
        # The editor keeps what is typed while the object lives on; another version is asked for by the address.
        form = el(
            "form",
            hidden,
            bar,
            area,
            method="post",
            class_="editor",
            id=f"yaml-{obj.metadata.uid}-{request.query.get('v', '')}",
            data_keep=True,
        )
        below = el("details", el("summary", _("Status")), el("pre", dump(status), class_="value"), class_="status")
        return el("div", form, below if status else None, class_="yamlbox")

    async def _check(self, request: PageRequest, form: Form) -> Done:
        await self._send(request, form, dry_run=True)
        return Done(message=_("The platform would accept this."))

    async def _apply(self, request: PageRequest, form: Form) -> Done:
        version = await self._send(request, form, dry_run=False)
        return Done(request.link(tab="yaml", v=version), _("Applied."))

    async def _send(self, request: PageRequest, form: Form, *, dry_run: bool) -> str:
        kind, name = _named(request, form)
        before, after = parse(form.text("before")), parse(form.text("after"))
        for path in FIXED:
            if _at(before, path) != _at(after, path):
                what = ".".join(path)
                words = _("{what} cannot be changed: make another object with kubectl instead.", what=what)
                raise PageError(422, _("Not applied"), words)
        if _at(before, ("metadata", "name")) != name:
            raise PageError(400, _("Not applied"), _("This page has no such action. Reload it."))
        patch = merge_patch(before, after)
        if not patch:
            raise PageError(422, _("Nothing to do"), _("Nothing was changed."))
        if touches_list(patch, before):
            patch.setdefault("metadata", {})["resourceVersion"] = _at(before, ("metadata", "resourceVersion"))
        with said():
            raw = await self._registry().patch(
                request.user,
                kind.INFO,
                name,
                patch,
                request.namespace,
                dry_run=dry_run,
                field_validation="Strict",
                field_manager=MANAGER,
            )
        return str(_wire.decode_any(raw)["metadata"]["resourceVersion"])

    async def _delete(self, request: PageRequest, form: Form) -> Done:
        kind, name = _named(request, form)
        with said():
            await self._registry().delete(
                request.user, kind.INFO, name, request.namespace, uid=form.text("uid"), propagation="Background"
            )
        return Done(request.link(pod=None, name=None, tab=None, v=None), _("{name} is being deleted.", name=name))

    async def _restart(self, request: PageRequest, form: Form) -> Done:
        kind, name = _scaled(request, form)
        stamp = request.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        patch = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: stamp}}}}}
        await self._patch(request, kind.INFO, name, patch)
        return Done(message=_("The pods of {name} are replaced one after another.", name=name))

    async def _scale(self, request: PageRequest, form: Form) -> Done:
        kind, name = _scaled(request, form)
        text = form.text("replicas")
        if not (text.isascii() and text.isdecimal()) or int(text) > MAX_REPLICAS:
            words = _("The number of pods is from 0 to {n}.", n=MAX_REPLICAS)
            raise PageError(422, _("Not done"), words)
        await self._patch(request, kind.INFO, name, {"spec": {"replicas": int(text)}}, "scale")
        return Done(message=_("{name} gets {n} pods.", name=name, n=int(text)))

    async def _patch(
        self, request: PageRequest, info: KindInfo, name: str, patch: dict[str, Any], subresource: str = ""
    ) -> None:
        with said():
            await self._registry().patch(
                request.user, info, name, patch, request.namespace, subresource=subresource, field_manager=MANAGER
            )

    def _registry(self) -> Registry:
        registry = self._context.site.registry
        if registry is None:
            raise PageError(503, _("No cluster"), _("This dashboard has no way to the cluster's objects."))
        return registry


@contextlib.contextmanager
def said() -> Iterator[None]:
    """What the API server refuses, as words for the person."""
    try:
        yield
    except Forbidden as error:
        raise PageError(403, _("Not yours to do"), error.message) from error
    except Conflict as error:
        words = _("It has changed since you opened it. Read it again and repeat your change.")
        raise PageError(409, _("Not done"), words) from error
    except NotFound as error:
        raise PageError(404, _("Not done"), error.message) from error
    except StatusError as error:
        raise PageError(error.code, _("Not done"), error.message) from error


def dump(value: object) -> str:
    """As YAML, in the order in which the server sends it."""
    import yaml  # noqa: PLC0415 - with the first object that is shown

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100))


def parse(text: str) -> dict[str, Any]:
    """One object out of what a person wrote. Raises PageError that says where it is wrong."""
    import yaml  # noqa: PLC0415 - with the first object that is changed

    if len(text) > MAX_TEXT:
        raise PageError(413, _("Not applied"), _("That is too large"))
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, fast)):
            raise PageError(422, _("Not applied"), _("Write values out: aliases (*name) are not taken here."))
        found = [each for each in _yaml.documents(text.encode()) if each is not None]
        plain = _wire.decode_any(_wire.encode(found))  # refuses what JSON cannot say
    except (_yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise PageError(422, _("Not applied"), _("This is not YAML: {error}", error=error)) from error
    if len(plain) != 1 or not isinstance(plain[0], dict) or not isinstance(plain[0].get("metadata"), dict):
        raise PageError(422, _("Not applied"), _("One object with apiVersion, kind and metadata is needed."))
    body: dict[str, Any] = plain[0]
    return body


def _named(request: PageRequest, form: Form) -> tuple[type[Object], str]:
    kind, name = kinds.KINDS.get(request.query.get("kind", kinds.PODS)), form.text("name")
    if kind is None or not name:
        raise PageError(404, _("Nothing to do"), _("This page has no such action. Reload it."))
    return kind, name


def _scaled(request: PageRequest, form: Form) -> tuple[type[Object], str]:
    kind, name = _named(request, form)
    if kind.INFO.plural not in kinds.SCALED:
        raise PageError(404, _("Nothing to do"), _("This page has no such action. Reload it."))
    return kind, name


def _at(body: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = body
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value
