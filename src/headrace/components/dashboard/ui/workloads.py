"""What runs in a namespace, as kubectl would show it to those who know it: lists by kind, and one object beside them.

Everything is read from the platform's caches after the person's right to list it was asked for; what a person does is
done as that person (`objects.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Endpoints, Event, Pod, Service
from headrace.components.dashboard.ui import kinds, terminal
from headrace.components.dashboard.ui.objects import Objects
from headrace.machinery import look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Fragment, LogSource, authorize, both
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.core import Container, ContainerStatus
    from headrace.api.meta import Object
    from headrace.machinery.component import Context, Spent
    from headrace.machinery.pages import PageRequest

_GROUP = {look.OK: "running", look.RUN: "waiting", look.WAIT: "waiting", look.WARN: "waiting", look.BAD: "failed"}
MAX_EVENTS = 500
"""More are not shown: the newest are."""


class Workloads:
    """Left the objects of a kind, right the selected one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.objects = Objects(context)

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """The kind that is shown, pods and events of the namespace."""
        site, namespace = self._context.site, request.namespace
        shown = kinds.KINDS.get(request.query.get("kind", kinds.PODS), Pod)
        wanted: set[type[Object]] = {Pod, Event, shown}
        if shown is Service:
            wanted.add(Endpoints)
        return both(*(site.changes(kind).subscribe(wake, namespace) for kind in wanted))

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        key = request.query.get("kind", kinds.PODS)
        strip = kinds.strip(request, key)
        if key == kinds.EVENTS:
            return await self._events(request, strip)
        kind = kinds.KINDS.get(key, Pod)
        await authorize(self._context.client, request, "list", kind.INFO.plural, group=kind.INFO.group)
        every = sorted(await self._all(kind, request), key=lambda o: (_age(o), o.metadata.name), reverse=True)
        states = {o.metadata.uid: await self._state(o) for o in every}
        groups = {o.metadata.uid: _group(o, states[o.metadata.uid]) for o in every}
        text, wanted = request.query.get("q", "").lower(), request.query.get("state", "")
        shown = [o for o in every if text in o.metadata.name.lower() and wanted in {"", groups[o.metadata.uid]}]
        name = request.query.get("pod") or request.query.get("name")
        chosen = next((o for o in every if o.metadata.name == name), None)
        if chosen is None and not name and shown:
            chosen = shown[0]
        chips = [
            el(
                "a",
                words,
                el("small", " ", count),
                href=request.link(state=None if wanted == group else group, pod=None, name=None),
                class_="chip",
                aria_current="true" if wanted == group else None,
            )
            for group, words in _states().items()
            if (count := sum(1 for each in groups.values() if each == group)) or wanted == group
        ]
        head = el(
            "div",
            el("h1", _("Workloads")),
            el("span", _("{n} in {namespace}", n=len(every), namespace=request.namespace), class_="dim"),
            el("div", chips, class_="chips"),
            podlook.search(request, _("Find by name"), keep=("ns", "kind", "state")),
            class_="head row",
        )
        right: Markup | None = None
        log: LogSource | None = None
        if name and chosen is None:
            right, log = await self._gone(request, key, name)
        elif chosen is not None:
            right, log = await self._detail(request, chosen, states[chosen.metadata.uid])
        if not every:
            left = self._nothing(request, kind)
        elif not shown:
            left = look.empty(_("Nothing matches this filter."))
        else:
            left = await self._table(request, shown, chosen, states)
        split = el(
            "div",
            el("section", left, class_="panel", aria_label=kinds.titles()[kind.INFO.plural]),
            el("section", right, class_="panel", aria_label=_("What is selected")) if right else None,
            class_="split" if right else "split one",
        )
        body = el("div", head, strip, split, class_="page list")
        return Fragment(_("Workloads"), body, log=log, fill=True)

    async def _all(self, kind: type[Object], request: PageRequest) -> list[Object]:
        return list((await self._context.site.cache(kind)).all(request.namespace))

    async def _state(self, obj: Object) -> tuple[str, str]:
        if not isinstance(obj, Service):
            return kinds.state(obj)
        cache = await self._context.site.cache(Endpoints)
        found = cache.get(f"{obj.metadata.namespace}/{obj.metadata.name}")
        return kinds.state(obj, found)

    async def _reasons(self, objects: list[Object], states: dict[str, tuple[str, str]]) -> dict[str, str]:
        """Why each that is not well is not, by uid."""
        ill = [obj for obj in objects if states[obj.metadata.uid][0] != look.OK]
        if not ill:
            return {}
        site, namespace = self._context.site, ill[0].metadata.namespace
        pods = list((await site.cache(Pod)).all(namespace))
        warnings: dict[str, list[Event]] = {}
        for event in sorted((await site.cache(Event)).all(namespace), key=podlook.when):
            warnings.setdefault(event.involved_object.uid, []).append(event)
        return {
            uid: kinds.why(obj, states[uid], kinds.pods_of(obj, pods), warnings.get(uid, ()))
            for obj in ill
            if (uid := obj.metadata.uid)
        }

    def _nothing(self, request: PageRequest, kind: type[Object]) -> Markup:
        words = _(
            "Nothing of this kind is in {namespace}: {kind}.",
            kind=kinds.titles()[kind.INFO.plural],
            namespace=request.namespace,
        )
        if kind is not Pod:
            return look.empty(words, f"kubectl -n {request.namespace} get {kind.INFO.plural}")
        line = f"kubectl -n {request.namespace} run hello --image=busybox --restart=Never -- echo hello"
        return look.empty(words, line)

    async def _table(
        self, request: PageRequest, shown: list[Object], chosen: Object | None, states: dict[str, tuple[str, str]]
    ) -> Markup:
        rows = []
        reasons = await self._reasons(shown, states)
        for obj in shown:
            colour, words = states[obj.metadata.uid]
            why = reasons.get(obj.metadata.uid)
            rows.append(
                el(
                    "tr",
                    el("td", look.pill(colour, words)),
                    el(
                        "td",
                        el("a", obj.metadata.name, href=_link(request, obj), data_row=True),
                        el("span", why, class_="reason", title=why) if why else None,
                        class_="cut",
                    ),
                    el("td", kinds.summary(obj), class_="num dim hide-s nowrap"),
                    el("td", look.moment(obj.metadata.creation_timestamp), class_="num dim nowrap"),
                    id=f"{obj.INFO.plural}-{obj.metadata.uid}",
                    class_="sel" if obj is chosen else None,
                )
            )
        head = el(
            "tr",
            el("th", _("State")),
            el("th", _("Name")),
            el("th", el("span", _("In short"), class_="sr"), class_="hide-s"),
            el("th", _("Created")),
        )
        return el("table", el("thead", head), el("tbody", rows), class_="dense")

    async def _detail(
        self, request: PageRequest, obj: Object, state: tuple[str, str]
    ) -> tuple[Markup, LogSource | None]:
        tab, name = request.query.get("tab", "overview"), obj.metadata.name
        events = await podlook.events(self._context.site, obj)
        buttons = el("span", await self.objects.buttons(request, obj), class_="push objacts")
        head = el("div", el("h2", name), look.pill(*state), buttons, class_="dhead row")

        def entry(key: str, words: str, count: int | None = None) -> tuple[str, str, bool, Child]:
            # The name is in the link: the object stays selected also when another one comes.
            link = request.link(tab=None if key == "overview" else key, v=None, **_name(obj))
            return words, link, tab == key, count

        entries = [entry("overview", _("Overview"))]
        if isinstance(obj, Pod):
            entries.append(entry("logs", _("Logs")))
        entries += [entry("events", _("Events"), len(events) or None), entry("yaml", "YAML")]
        shell = (
            isinstance(obj, Pod) and terminal.can_have(obj) and await self.objects.may(request, "create", obj, "exec")
        )
        if shell:
            entries.append(entry("terminal", _("Terminal")))
        strip = look.tabs(entries, _("About {name}", name=name))
        log: LogSource | None = None
        if tab == "logs" and isinstance(obj, Pod):
            names = [c.name for c in (*obj.spec.init_containers, *obj.spec.containers)]
            container = request.query.get("container") or obj.spec.containers[0].name
            body, log = await podlook.log_panel(
                self._context, request, obj, container, _containers(request, names, container)
            )
        elif tab == "terminal" and isinstance(obj, Pod) and shell:
            names = terminal.running(obj)
            container = request.query.get("container") or names[0]
            body = terminal.panel(obj, container, _containers(request, names, container))
        elif tab == "events":
            body = podlook.event_table(events)
        elif tab == "yaml":
            body = await self.objects.yaml(request, obj)
        else:
            body = await self._overview(request, obj, state)
        return el("div", head, strip, body, class_="detail"), log

    async def _overview(self, request: PageRequest, obj: Object, state: tuple[str, str]) -> Markup:
        message = (await self._reasons([obj], {obj.metadata.uid: state})).get(obj.metadata.uid)
        trouble = look.why(_("Why"), message) if message else None
        if isinstance(obj, Pod):
            usages = self._context.usages
            spent = usages.spent(obj.metadata.uid) if usages is not None else None
            return el("div", trouble, _pod(obj, spent), _conditions(obj))
        pods = kinds.pods_of(obj, (await self._context.site.cache(Pod)).all(obj.metadata.namespace))
        return el("div", trouble, podlook.facts(kinds.facts(obj)), _pods(request, pods), _conditions(obj))

    async def _gone(self, request: PageRequest, key: str, name: str) -> tuple[Markup, LogSource | None]:
        """An object that is no more; the log of a pod is kept."""
        words = _("There is no {name} in {namespace} (any more).", name=name, namespace=request.namespace)
        uids = self._context.logs.kept(request.namespace, name) if key == kinds.PODS else []
        if not uids:
            return look.empty(words), None
        await authorize(self._context.client, request, "get", "pods", subresource="log")
        names = self._context.logs.containers(request.namespace, name, uids[0])
        if not names:
            return look.empty(words), None
        container = request.query.get("container", "")
        container = container if container in names else names[0]
        source = LogSource(request.namespace, name, container, uids[0])
        panel = await podlook.log_of(self._context, request, source, _containers(request, names, container))
        head = el("div", el("h2", name), look.pill(look.WAIT, _("Gone")), class_="dhead row")
        note = el("p", _("The pod is gone; what it wrote is kept for 30 days."), class_="dim note")
        return el("div", head, note, panel, class_="detail"), source

    async def _events(self, request: PageRequest, strip: Markup) -> Fragment:
        await authorize(self._context.client, request, "list", "events")
        text = request.query.get("q", "").lower()
        found = [
            e
            for e in (await self._context.site.cache(Event)).all(request.namespace)
            if not text or text in f"{e.involved_object.kind} {e.involved_object.name} {e.reason} {e.message}".lower()
        ]
        found.sort(key=podlook.when, reverse=True)
        head = el(
            "div",
            el("h1", _("Workloads")),
            el("span", _("{n} in {namespace}", n=len(found), namespace=request.namespace), class_="dim"),
            podlook.search(request, _("Find in events"), keep=("ns", "kind")),
            class_="head row",
        )
        table = podlook.event_table(found[:MAX_EVENTS], lambda event: _about(request, event))
        body = el("section", table, class_="panel fullpanel", aria_label=_("Events"))
        return Fragment(_("Workloads"), el("div", head, strip, body, class_="page list"), fill=True)


def _states() -> dict[str, str]:
    return {"running": _("Running"), "waiting": _("Waiting"), "failed": _("Failed"), "done": _("Completed")}


def _group(obj: Object, state: tuple[str, str]) -> str:
    """Which filter finds it."""
    if isinstance(obj, Pod) and obj.status.phase == "Succeeded":
        return "done"
    if obj.INFO.plural == "jobs" and state[0] == look.OK:
        return "done"
    return _GROUP[state[0]]


def _name(obj: Object) -> dict[str, str | None]:
    name = obj.metadata.name
    return {"pod": name, "name": None} if isinstance(obj, Pod) else {"name": name, "pod": None}


def _link(request: PageRequest, obj: Object) -> str:
    return request.link(v=None, container=None, **_name(obj))


def _about(request: PageRequest, event: Event) -> Child:
    """What an event is about, as a link where there is a page."""
    about = event.involved_object
    words = f"{about.kind} {about.name}"
    key = next((k for k, kind in kinds.KINDS.items() if kind.INFO.kind == about.kind), "")
    if not key:
        return words
    chosen: dict[str, str | None] = {"pod": about.name} if key == kinds.PODS else {"name": about.name, "kind": key}
    return el("a", words, href=request.link(**{"kind": None, "q": None, **chosen}))


def _containers(request: PageRequest, names: list[str], chosen: str) -> Child:
    if len(names) < 2:
        return None
    return [
        el(
            "a",
            name,
            href=request.link(container=name),
            class_="chip",
            aria_current="true" if name == chosen else None,
        )
        for name in names
    ]


def _pods(request: PageRequest, pods: list[Pod]) -> Child:
    if not pods:
        return None
    rows = [
        el(
            "tr",
            el("td", look.pill(*podlook.state(pod))),
            el(
                "td",
                el("a", pod.metadata.name, href=f"/workloads?ns={request.namespace}&pod={pod.metadata.name}"),
                class_="cut",
            ),
            el("td", look.moment(pod.metadata.creation_timestamp), class_="num dim nowrap"),
        )
        for pod in pods
    ]
    return [el("h3", _("Pods"), class_="subhead"), el("table", el("tbody", rows), class_="dense")]


def _conditions(obj: Object) -> Child:
    found = kinds.conditions(obj)
    if not found:
        return None
    rows = [
        el(
            "tr",
            el("td", c.type, ": ", _yes_or_no(c.status)),
            el("td", c.reason, class_="dim"),
            el("td", told(c.message), class_="wrap-any"),
            el("td", look.moment(c.last_transition_time), class_="dim nowrap num"),
        )
        for c in found
    ]
    return [el("h3", _("Conditions"), class_="subhead"), el("table", el("tbody", rows), class_="events")]


def _yes_or_no(status: str) -> str:
    return {"True": _("Yes"), "False": _("No")}.get(status, _("Unknown"))


def _pod(pod: Pod, spent: Spent | None) -> Markup:
    facts = [
        (_("Node"), pod.spec.node_name),
        (_("Address"), pod.status.pod_ip),
        (_("Service account"), pod.spec.service_account_name),
        (_("Started"), look.moment(pod.status.start_time)),
        (_("Cost"), _cost(spent) if spent is not None else None),
        (_("Owner"), ", ".join(f"{ref.kind} {ref.name}" for ref in pod.metadata.owner_references)),
    ]
    statuses = {s.name: s for s in (*pod.status.init_container_statuses, *pod.status.container_statuses)}
    containers = [_container(c, statuses.get(c.name)) for c in (*pod.spec.init_containers, *pod.spec.containers)]
    return el("div", podlook.facts(facts), containers)


def _cost(spent: Spent) -> str:
    """What its ended containers used."""
    time, size = look.seconds(spent.cpu_seconds), look.size(spent.peak_bytes)
    return _("{time} of CPU, at most {size} of memory", time=time, size=size)


def _container(container: Container, status: ContainerStatus | None) -> Markup:
    kind, words = podlook.container_state(status)
    requests, limits = container.resources.requests, container.resources.limits
    rows = [
        (_("Image"), el("span", container.image, class_="mono")),
        (_("Command"), el("span", " ".join([*container.command, *container.args])[:400], class_="mono wrap-any")),
        (_("Asks for"), ", ".join(f"{v} {k}" for k, v in requests.items())),
        (_("At most"), ", ".join(f"{v} {k}" for k, v in limits.items())),
        (_("Restarts"), status.restart_count if status is not None and status.restart_count else None),
    ]
    return el("div", el("div", el("h3", container.name), look.pill(kind, words), class_="row sub"), podlook.facts(rows))


def _age(obj: Object) -> float:
    made = obj.metadata.creation_timestamp
    return made.timestamp() if made is not None else 0.0
