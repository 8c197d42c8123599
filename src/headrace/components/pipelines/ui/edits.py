"""Forms that change what a person calls and says of a pipeline or a version: name, description, tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.ui import forms
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import PageError
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.machinery.pages import Form


def form(title: str, action: str, found: Mapping[str, Any], **hidden: str) -> Markup:
    """A form that is folded until somebody wants it."""
    name = f"{action}-name"
    inner = el(
        "form",
        [el("input", type="hidden", name=key, value=value) for key, value in hidden.items()],
        forms.row(_("Name"), _field("name", name, found.get("display_name", ""), required=True), name),
        forms.row(
            _("Description"),
            el("textarea", found.get("description", ""), name="description", id=f"{action}-description", rows="2"),
            f"{action}-description",
        ),
        forms.row(
            _("Tags"),
            el("textarea", lines_of(found.get("tags", {})), name="tags", id=f"{action}-tags", rows="3", class_="mono"),
            f"{action}-tags",
            _("One in a line, as in team=vision"),
        ),
        el("button", _("Save"), type="submit", name="action", value=action, class_="btn small primary"),
        method="post",
        class_="fields",
    )
    return el("details", el("summary", title), inner, class_="edit", id=action)


def _field(name: str, ident: str, value: str, **more: Any) -> Markup:
    return el("input", type="text", name=name, id=ident, value=value, **more)


def chips(tags: Mapping[str, str]) -> Markup | None:
    """Tags as they are shown."""
    found = [el("span", f"{key}={value}", class_="chip") for key, value in tags.items()]
    return el("span", found, class_="chips") if found else None


def lines_of(tags: Mapping[str, str]) -> str:
    """Tags as they are edited."""
    return "\n".join(f"{key}={value}" for key, value in tags.items())


def body_of(given: Form) -> dict[str, Any]:
    """What the API is asked to change. Raises PageError for a line that is no tag."""
    tags: dict[str, str] = {}
    for line in given.text("tags").splitlines():
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            words = _("{line} is no tag: write a name, an equals sign and a value.", line=repr(line.strip()[:80]))
            raise PageError(422, _("That does not fit"), words)
        tags[key.strip()] = value.strip()
    name, description = given.text("name").strip(), given.text("description").replace("\r\n", "\n").strip()
    return {"display_name": name, "description": description, "tags": tags}
