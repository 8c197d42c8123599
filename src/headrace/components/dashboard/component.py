"""The dashboard as a component: it mounts what the others bring, at the gateway's root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.machinery.component import Component, Mount, Parts

if TYPE_CHECKING:
    from headrace.machinery.component import Context


def build(context: Context) -> Parts:
    """The application with its own pages; those of other components are asked for when the first request comes."""
    from headrace.components.dashboard.api.app import App  # noqa: PLC0415 - imported when enabled
    from headrace.components.dashboard.controller import History  # noqa: PLC0415
    from headrace.components.dashboard.ui.finders import finders_of  # noqa: PLC0415

    history = History(context.clock, context.settings.home, context.usages)
    app = App(context, history)
    return Parts(
        mounts=(Mount("/", app, websockets=True),),
        pages=app.own_pages,
        panels=app.own_panels,
        finders=finders_of(context),
        start=history.start,
        stop=history.stop,
    )


COMPONENT = Component(name="dashboard", title="Dashboard", build=build, requires=frozenset({"identity"}))
