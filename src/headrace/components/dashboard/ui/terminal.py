"""Where the browser puts a terminal into a pod (`static/terminal.js`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery import look
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.api.core import Pod


def can_have(pod: Pod) -> bool:
    """Whether a container of it runs."""
    return bool(running(pod))


def running(pod: Pod) -> list[str]:
    """The containers that run now."""
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return [status.name for status in statuses if status.state.running is not None]


def panel(pod: Pod, container: str, choice: Child) -> Markup:
    """The terminal. It stays while the page is rendered again, and ends when the page is left."""
    meta = pod.metadata
    if container not in running(pod):
        return look.empty(_("Container {name} does not run now, so there is no terminal into it.", name=container))
    bar = el(
        "div",
        choice,
        el("span", _("Shift+Esc leaves the terminal, closing the page ends it."), class_="dim2"),
        el("span", class_="push dim2", role="status", id="terminal-says", data_keep=True, data_terminal_says=True),
        el("button", _("Connect again"), type="button", class_="btn small", data_terminal_again=True),
        class_="toolbar",
    )
    screen = el(
        "div",
        id=f"terminal-{meta.uid}-{container}",
        class_="termscreen",
        data_keep=True,
        data_terminal=True,
        data_ns=meta.namespace,
        data_pod=meta.name,
        data_container=container,
        data_lost=_("The connection has ended."),
        data_label=_("Terminal in {name}", name=meta.name),
    )
    return el("div", bar, screen, class_="logbox termbox")
