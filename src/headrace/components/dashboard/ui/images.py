"""Images and environments of this machine: what there is, how large, who uses it, what is being built at this moment.

Everybody who may see the namespace's pods sees the images, which any pod may name, and the environments that those and
the namespace's pods use; who may see the machine sees everything. Only who may change the machine takes things away.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from headrace.api.core import Pod
from headrace.components.dashboard.ui import kinds
from headrace.machinery import look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Done, Fragment, PageError, authorize, button
from headrace.machinery.shelf import InUse, Stock
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from headrace.machinery.component import Context
    from headrace.machinery.pages import Action, Form, PageRequest
    from headrace.machinery.shelf import ImageShelf, StockEnvironment, StockImage

T = TypeVar("T")

PATH = "/workloads/images"
BUILDING_SECONDS = 1.0
"""A build has no events: it is looked at so often while somebody watches."""
DAYS = 7
NAMED_USERS = 2
_SECRET = re.compile(r"(\w+://)[^/@\s]+@")


class ImagesPage:
    """The page `/workloads/images`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def actions(self) -> dict[str, Action]:
        """What the page's forms do."""
        return {
            "prune": self._prune,
            "remove-environment": self._remove_environment,
            "remove-image": self._remove_image,
        }

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Pods: who uses what; who begins to wait for a build."""
        del request
        return self._context.site.changes(Pod).subscribe(wake)

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        await authorize(self._context.client, request, "list", "pods")
        whole, stock = await self._stock(request)
        may = await self._may(request, "update")
        total = sum(i.size_bytes for i in stock.images) + sum(e.size_bytes for e in stock.environments)
        head = el(
            "div",
            el("h1", _("Workloads")),
            el("span", _("{size} in images and environments", size=look.size(total)), class_="dim"),
            None if whole else el("span", _("those that {ns} uses", ns=request.namespace), class_="chip"),
            _prune_buttons() if may else None,
            class_="head row",
        )
        chosen = _chosen(request, stock)
        left = _environments(request, stock, chosen) + _images(request, stock, chosen)
        right = _detail(request, chosen, may=may) if chosen is not None else None
        split = el(
            "div",
            el("section", Markup(left), class_="panel", aria_label=_("Images and environments")),
            el("section", right, class_="panel", aria_label=_("What is selected")) if right else None,
            class_="split" if right else "split one",
        )
        body = el("div", head, kinds.strip(request, kinds.IMAGES), split, class_="page list")
        busy = any(each.building for each in stock.environments)
        return Fragment(_("Images and environments"), body, fill=True, again=BUILDING_SECONDS if busy else None)

    async def _stock(self, request: PageRequest) -> tuple[bool, Stock]:
        """What this person may see, and whether that is everything."""
        stock = await self._shelf.look(await self._pods())
        if await self._may(request, "list"):
            return True, stock
        own = f"{request.namespace}/"
        shown = [each for each in stock.environments if each.images or any(name.startswith(own) for name in each.pods)]
        return False, Stock(stock.images, tuple(shown))

    async def _may(self, request: PageRequest, verb: str) -> bool:
        """Whether the person may do this to the machine."""
        return await self._context.client.review_access(request.user, verb, resource="nodes")

    async def _pods(self) -> list[Pod]:
        return list((await self._context.site.cache(Pod)).all())

    @property
    def _shelf(self) -> ImageShelf:
        if self._context.images is None:
            words = _("This platform has no node of its own: its images are where its pods run.")
            raise PageError(404, _("No images here"), words)
        return self._context.images

    async def _prune(self, request: PageRequest, form: Form) -> Done:
        await self._administer(request)
        days = DAYS if form.text("days") else 0
        freed = await _said(self._shelf.prune(await self._pods(), days))
        return Done(message=_("{size} freed.", size=look.size(freed)))

    async def _remove_environment(self, request: PageRequest, form: Form) -> Done:
        await self._administer(request)
        freed = await _said(self._shelf.remove_environment(await self._pods(), form.text("id")))
        return Done(request.link(environment=None), _("{size} freed.", size=look.size(freed)))

    async def _remove_image(self, request: PageRequest, form: Form) -> Done:
        await self._administer(request)
        await _said(self._shelf.remove_image(await self._pods(), form.text("id")))
        return Done(request.link(image=None), _("The image is removed."))

    async def _administer(self, request: PageRequest) -> None:
        if not await self._may(request, "update"):
            words = _("Images and environments are shared by everybody here: only administrators remove them.")
            raise PageError(403, _("Not yours to do"), words)


async def _said(work: Awaitable[T]) -> T:
    """What came of it; why nothing did as a PageError."""
    try:
        return await work
    except LookupError as error:
        raise PageError(404, _("It is not there"), _("Somebody else has removed it already.")) from error
    except InUse as error:
        if error.starting:
            words = _("Pod {pod} is starting and may need it: try again in a moment.", pod=error.starting)
        elif error.users:
            words = _("It is used by {who}.", who=", ".join(error.users[:5]))
        else:
            words = str(error)
        raise PageError(409, _("It is in use"), words) from error


def _prune_buttons() -> Markup:
    everything = _("Remove every environment and image that nobody uses? A pod that needs one again builds it again.")
    old = _("Remove the environments that nobody has used for {n} days?", n=DAYS)
    return el(
        "span",
        button(_("Remove what is {n} days old", n=DAYS), "prune", kind="small", confirm=old, days=str(DAYS)),
        button(_("Remove what nobody uses"), "prune", kind="small danger", confirm=everything),
        class_="acts push",
    )


def _chosen(request: PageRequest, stock: Stock) -> StockEnvironment | StockImage | None:
    """What the URL names, else what is being built."""
    environment, image = request.query.get("environment"), request.query.get("image")
    if image:
        return next((each for each in stock.images if each.id == image), None)
    if environment:
        return next((each for each in stock.environments if each.id == environment), None)
    if stock.environments:
        return stock.environments[0]
    return stock.images[0] if stock.images else None


def _environments(request: PageRequest, stock: Stock, chosen: StockEnvironment | StockImage | None) -> Markup:
    rows = [
        _row(
            request.link(environment=each.id, image=None),
            _state(each),
            packages(each.requirements) or _("no packages but pip"),
            _progress(each) if each.building else each.id[:12],
            each.size_bytes,
            _users(request, each.pods, each.images),
            look.moment(each.last_use),
            selected=each is chosen,
            ident=f"e-{each.id}",
        )
        for each in stock.environments
    ]
    return _table(
        _("Environments"),
        rows,
        _("Last use"),
        _("There is no environment yet: the first pod that needs one builds it."),
    )


def _images(request: PageRequest, stock: Stock, chosen: StockEnvironment | StockImage | None) -> Markup:
    rows = [
        _row(
            request.link(image=each.id, environment=None),
            (look.OK, _("In use")) if each.pods else (look.WAIT, _("Not in use") if each.names else _("Replaced")),
            ", ".join(each.names) or each.id[:12],
            _("from {base}", base=each.base) if each.base else each.engine,
            each.size_bytes,
            _users(request, each.pods),
            look.moment(each.created),
            selected=each is chosen,
            ident=f"i-{each.id}",
        )
        for each in stock.images
    ]
    if not rows:
        title = el("div", el("h2", _("Images")), class_="ph")
        words = _("Nobody has built an image here yet. A Dockerfile becomes one:")
        return Markup(title + look.empty(words, "headrace image build -t NAME DIR"))
    return _table(_("Images"), rows, _("Created"), "")


def _table(title: str, rows: list[Markup], last: str, nothing: str) -> Markup:
    head = el("div", el("h2", title), el("span", len(rows) or None, class_="dim num"), class_="ph")
    if not rows:
        return Markup(head + look.empty(nothing))
    names = (_("State"), _("What is in it"), _("Size"), _("Used by"), last)
    top = el("tr", [el("th", name, class_="nowrap hide-s" if n > 2 else "nowrap") for n, name in enumerate(names)])
    return Markup(head + el("table", el("thead", top), el("tbody", rows), class_="dense"))


def _row(  # noqa: PLR0917 - its cells from left to right
    href: str,
    state: tuple[str, str],
    title: str,
    below: Child,
    size: int,
    users: Child,
    when: Markup,
    *,
    selected: bool,
    ident: str,
) -> Markup:
    return el(
        "tr",
        el("td", look.pill(*state), class_="nowrap"),
        el(
            "td",
            el("a", title, href=href, data_row=True, title=title),
            el("span", below, class_="reason"),
            class_="cut",
        ),
        el("td", look.size(size), class_="num nowrap"),
        el("td", el("span", users, title=users), class_="dim users hide-s"),
        el("td", when, class_="num dim nowrap hide-s"),
        id=ident,
        class_="sel" if selected else None,
    )


def _state(each: StockEnvironment) -> tuple[str, str]:
    if each.building:
        return look.RUN, _("Building")
    return (look.OK, _("In use")) if each.used else (look.WAIT, _("Not in use"))


def _progress(each: StockEnvironment) -> Markup:
    """How far a build is."""
    return Markup(
        el("span", told(each.progress) or _("Its packages are being installed"))
        + " · "
        + look.took(each.last_use, None)
    )


def _users(request: PageRequest, pods: Sequence[str], images: Sequence[str] = ()) -> Child:
    """In a few words; pods of other namespaces are counted."""
    names = [*images, *(name.partition("/")[2] for name in pods if name.startswith(f"{request.namespace}/"))]
    others = len(pods) + len(images) - len(names)
    more = max(len(names) - NAMED_USERS, 0)
    parts = names[:NAMED_USERS] + ([_("{n} more", n=more)] if more else [])
    return ", ".join([*parts, *([_("{n} elsewhere", n=others)] if others else [])])


def _detail(request: PageRequest, each: StockEnvironment | StockImage, *, may: bool) -> Markup:
    from headrace.machinery.shelf import StockImage  # noqa: PLC0415 - only its type is needed above

    own = isinstance(each, StockImage)
    sure = _("Remove it? A pod that needs it again builds it again.")
    if isinstance(each, StockImage):
        title = ", ".join(each.names) or each.id[:12]
        state = (look.OK, _("In use")) if each.pods else (look.WAIT, _("Not in use"))
        images: Sequence[str] = ()
        sure = _("Remove the image {name}? Pods that name it do not start any more.", name=title)
        rows: list[tuple[str, Child]] = [
            (_("Begins with"), each.base),
            (_("Kept by"), each.engine),
            (_("Created"), look.moment(each.created)),
        ]
    else:
        title, state, images = each.id[:12], _state(each), each.images
        rows = [
            ("Python", el("span", each.python, class_="mono")),
            (_("Begun") if each.building else _("Last use"), look.moment(each.last_use)),
            (_("Progress"), _progress(each) if each.building else None),
        ]
    action = "remove-image" if own else "remove-environment"
    free = may and not each.pods and not images and state[0] != look.RUN
    removed = button(_("Remove"), action, kind="small danger", confirm=sure, id=each.id) if free else None
    head = el(
        "div",
        el("h2", title),
        look.pill(*state),
        el("span", removed, class_="push") if removed else None,
        class_="dhead row",
    )
    mine = [name.partition("/")[2] for name in each.pods if name.startswith(f"{request.namespace}/")]
    links = [el("div", el("a", name, href=f"/workloads?ns={request.namespace}&pod={name}")) for name in mine]
    elsewhere = len(each.pods) - len(mine)
    used = [*links, *[el("div", name) for name in images]]
    if elsewhere:
        used.append(el("div", _("{n} pods in other namespaces", n=elsewhere)))
    facts = podlook.facts(
        [
            ("Id", el("span", each.id, class_="mono")),
            *rows,
            (_("Size"), look.size(each.size_bytes)),
            (_("Used by"), used or _("nobody")),
        ]
    )
    lines = [el("div", safe(line)) for line in each.requirements]
    listed = [el("h3", _("Packages"), class_="subhead"), el("div", lines, class_="mono packages")] if lines else None
    return el("div", head, facts, listed, class_="detail")


def packages(requirements: Sequence[str]) -> str:
    """The names of packages, without versions."""
    return ", ".join(re.split(r"[=<>!~@;\s\[]", safe(line), maxsplit=1)[0] for line in requirements)


def safe(line: str) -> str:
    """A requirement without the password that its address may hold."""
    return _SECRET.sub(r"\1***@", line)
