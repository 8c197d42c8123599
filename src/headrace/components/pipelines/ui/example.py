"""`/examples/digits`: the digits recognizer, started with one press as whoever presses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.machinery import look
from headrace.machinery.examples import DIGITS, example
from headrace.machinery.html import el
from headrace.machinery.offers import Start
from headrace.machinery.pages import Done, Fragment, Page, PageError, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

PATH, FILE = "/examples/digits", "pipeline.yaml"
GROUP = "pipelines.kubeflow.org"


def example_of(context: Context, app: Any) -> tuple[Page, Start]:
    """The page, and the card of the first page that presses its button; `app` is the application of v2beta1."""
    digits = _Digits(context, app)
    page = Page(PATH, "The digits example", digits.render, digits.follow, actions={"start": digits.start}, starts=True)
    start = Start(
        "Run the digits recognizer",
        "Train, evaluate and serve a model on real data.",
        PATH,
        "start",
        digits.shown,
        press="Run it",
    )
    return page, start


def upload_of(context: Context) -> Start:
    """The card that leads to uploading a pipeline of one's own."""

    async def shown(request: PageRequest) -> bool:
        return await context.client.review_access(
            request.user, "create", group=GROUP, resource="pipelines", namespace=request.namespace
        )

    return Start(
        "Upload a pipeline of your own",
        "A file that the KFP SDK has compiled: look at it, run it, change a parameter, run it again.",
        "/pipelines/new",
        "",
        shown,
        press="Upload",
    )


class _Digits:
    def __init__(self, context: Context, app: Any) -> None:
        self._context, self._app = context, app

    def follow(self, _request: PageRequest, _wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    async def shown(self, request: PageRequest) -> bool:
        """Whether the example is there, and the person may run it where they are."""
        return example(DIGITS, FILE) is not None and await self._context.client.review_access(
            request.user, "create", group=GROUP, resource="runs", namespace=request.namespace
        )

    async def render(self, request: PageRequest) -> Fragment:
        """What it does, and the button."""
        may = await self.shown(request)
        body = el(
            "div",
            el("h1", _("The digits example")),
            el(
                "p",
                _(
                    "It loads images of handwritten digits, trains four models side by side, keeps the best, "
                    "evaluates it on images that no model has seen, and serves it when it is good enough."
                ),
            ),
            button(_("Run it"), "start", kind="primary")
            if may
            else look.empty(_("You may not start runs in namespace {namespace}.", namespace=request.namespace)),
            class_="problem",
        )
        return Fragment(_("The digits example"), body)

    async def start(self, request: PageRequest, _form: Form) -> Done:
        """A run of the compiled example; the REST API authorizes it and refuses in its own words."""
        import yaml  # noqa: PLC0415 - with the first press

        from headrace.components.pipelines.ui.calls import Calls  # noqa: PLC0415

        folder = example(DIGITS, FILE)
        if folder is None:
            words = _("The examples are missing from this installation: install Headrace again.")
            raise PageError(404, _("It is not there"), words)
        body = {
            "display_name": f"digits-{request.now:%Y%m%d-%H%M%S}",
            "pipeline_spec": yaml.safe_load((folder / FILE).read_text()),
        }
        made = await Calls(self._app).post(request.user, "/runs", body, namespace=request.namespace)
        return Done(f"/runs/{made['run_id']}", _("It runs. Its steps appear as they begin."))
