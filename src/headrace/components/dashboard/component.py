"""The dashboard as a component: it mounts what the others bring, at the gateway's root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.component import Component, Mount, Parts

if TYPE_CHECKING:
    from headrace.machinery.component import Context


def build(context: Context) -> Parts:
    """The application with its own pages; those of other components are asked for when the first request comes."""
    from headrace.components.dashboard.api.app import App  # noqa: PLC0415 - imported when enabled

    app = App(context)
    return Parts(mounts=(Mount("/", app),), pages=app.own_pages, panels=app.own_panels)


COMPONENT = Component(name="dashboard", title="Dashboard", build=build, requires=frozenset({"identity"}))
