"""Pods of a namespace: what runs, what has ended and how, their events and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.core import Event, Pod
from headrace.machinery import look, podlook
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Fragment, authorize, both

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.api.core import Container, ContainerStatus
    from headrace.machinery.component import Context
    from headrace.machinery.pages import LogSource, PageRequest

STATES = (("running", "Running"), ("waiting", "Waiting"), ("failed", "Failed"), ("done", "Completed"))
_GROUP = {look.OK: "running", look.RUN: "waiting", look.WAIT: "waiting", look.WARN: "waiting", look.BAD: "failed"}


class Workloads:
    """Left the pods, right the selected one."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def follow(self, request: PageRequest, wake: Callable[[], None]) -> Callable[[], None]:
        """Pods and events of the namespace."""
        site, namespace = self._context.site, request.namespace
        return both(site.changes(Pod).subscribe(wake, namespace), site.changes(Event).subscribe(wake, namespace))

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        await authorize(self._context.client, request, "list", "pods")
        cache = await self._context.site.cache(Pod)
        pods = sorted(cache.all(request.namespace), key=lambda p: (_age(p), p.metadata.name), reverse=True)
        text, state = request.query.get("q", ""), request.query.get("state", "")
        shown = [p for p in pods if text.lower() in p.metadata.name.lower() and state in {"", group(p)}]
        chosen = next((p for p in pods if p.metadata.name == request.query.get("pod")), None)
        if chosen is None and "pod" not in request.query and shown:
            chosen = shown[0]
        counts = {key: sum(1 for p in pods if group(p) == key) for key, _ in STATES}
        chips = [
            el(
                "a",
                words,
                el("small", " ", counts[key]),
                href=request.link(state=None if state == key else key, pod=None),
                class_="chip",
                aria_current="true" if state == key else None,
            )
            for key, words in STATES
            if counts[key] or state == key
        ]
        head = el(
            "div",
            el("h1", "Workloads"),
            el("span", f"{len(pods)} pod{'' if len(pods) == 1 else 's'}", class_="dim"),
            el("div", chips, class_="chips"),
            podlook.search(request, "Find a pod", keep=("ns", "state")),
            class_="head row",
        )
        log: LogSource | None = None
        if not pods:
            right: Markup | None = None
            left = look.empty(
                f"No pods in {request.namespace}.",
                f"kubectl -n {request.namespace} run hello --image=busybox --restart=Never -- echo hello",
            )
        else:
            left = self._table(request, shown, chosen) if shown else look.empty("No pod matches this filter.")
            right, log = await self._detail(request, chosen)
        split = el(
            "div",
            el("section", left, class_="panel", aria_label="Pods"),
            el("section", right, class_="panel", aria_label="The selected pod") if right else None,
            class_="split" if right else "split one",
        )
        return Fragment("Workloads", el("div", head, split, class_="page"), log=log, fill=True)

    def _table(self, request: PageRequest, pods: list[Pod], chosen: Pod | None) -> Markup:
        rows = []
        for pod in pods:
            kind, words = podlook.state(pod)
            restarts = sum(s.restart_count for s in pod.status.container_statuses)
            rows.append(
                el(
                    "tr",
                    el("td", look.pill(kind, words)),
                    el(
                        "td",
                        el("a", pod.metadata.name, href=request.link(pod=pod.metadata.name), data_row=True),
                        class_="cut",
                    ),
                    el("td", restarts or "", class_="num dim hide-s"),
                    el("td", look.moment(pod.metadata.creation_timestamp), class_="num dim nowrap"),
                    id=f"pod-{pod.metadata.uid}",
                    class_="sel" if pod is chosen else None,
                )
            )
        head = el("tr", el("th", "State"), el("th", "Pod"), el("th", "Restarts", class_="hide-s"), el("th", "Created"))
        return el("table", el("thead", head), el("tbody", rows), class_="dense")

    async def _detail(self, request: PageRequest, pod: Pod | None) -> tuple[Markup, LogSource | None]:
        if pod is None:
            name = request.query.get("pod", "")
            return look.empty(
                f"There is no pod {name} in {request.namespace} (any more)." if name else "Choose a pod."
            ), None
        tab = request.query.get("tab", "overview")
        kind, words = podlook.state(pod)
        head = el("div", el("h2", pod.metadata.name), look.pill(kind, words), class_="dhead row")
        events = await podlook.events(self._context.site, pod)
        entries = [
            ("Overview", request.link(tab=None), tab == "overview", None),
            ("Logs", request.link(tab="logs"), tab == "logs", None),
            ("Events", request.link(tab="events"), tab == "events", len(events) or None),
        ]
        strip = look.tabs(entries, "About the pod")
        if tab == "logs":
            container = request.query.get("container") or pod.spec.containers[0].name
            names = [c.name for c in (*pod.spec.init_containers, *pod.spec.containers)]
            links = [
                el(
                    "a",
                    n,
                    href=request.link(container=n),
                    class_="chip",
                    aria_current="true" if n == container else None,
                )
                for n in names
            ]
            body, log = await podlook.log_panel(
                self._context, request, pod, container, links if len(names) > 1 else None
            )
            return el("div", head, strip, body, class_="detail"), log
        if tab == "events":
            return el("div", head, strip, podlook.event_table(events), class_="detail"), None
        return el("div", head, strip, _overview(pod), class_="detail"), None


def group(pod: Pod) -> str:
    """Which filter finds the pod."""
    if pod.status.phase == "Succeeded":
        return "done"
    return _GROUP[podlook.state(pod)[0]]


def _overview(pod: Pod) -> Markup:
    message = podlook.trouble(pod)
    facts = [
        ("Node", pod.spec.node_name),
        ("Address", pod.status.pod_ip),
        ("Service account", pod.spec.service_account_name),
        ("Started", look.moment(pod.status.start_time)),
        ("Owner", ", ".join(f"{ref.kind} {ref.name}" for ref in pod.metadata.owner_references)),
    ]
    statuses = {s.name: s for s in (*pod.status.init_container_statuses, *pod.status.container_statuses)}
    containers = [_container(c, statuses.get(c.name)) for c in (*pod.spec.init_containers, *pod.spec.containers)]
    return el(
        "div",
        look.why("Why it does not run", message) if message else None,
        podlook.facts(facts),
        containers,
    )


def _container(container: Container, status: ContainerStatus | None) -> Markup:
    kind, words = podlook.container_state(status)
    requests, limits = container.resources.requests, container.resources.limits
    rows = [
        ("Image", el("span", container.image, class_="mono")),
        ("Command", el("span", " ".join([*container.command, *container.args])[:400], class_="mono wrap-any")),
        ("Asks for", ", ".join(f"{v} {k}" for k, v in requests.items())),
        ("At most", ", ".join(f"{v} {k}" for k, v in limits.items())),
        ("Restarts", status.restart_count if status is not None and status.restart_count else None),
    ]
    return el("div", el("div", el("h3", container.name), look.pill(kind, words), class_="row sub"), podlook.facts(rows))


def _age(pod: Pod) -> float:
    made = pod.metadata.creation_timestamp
    return made.timestamp() if made is not None else 0.0
