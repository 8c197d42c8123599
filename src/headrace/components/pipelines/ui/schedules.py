"""Schedules (recurring runs): when each starts next, in words; switching them on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.components.pipelines.policy.schedule import next_due, parse_trigger
from headrace.components.pipelines.store.listing import ListError, ListQuery
from headrace.components.pipelines.store.models import Status
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.catalogue import BARS
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.states import bars
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Done, Fragment, PageError, authorize, button
from headrace.machinery.words import _, told

if TYPE_CHECKING:
    import datetime as dt

    from headrace.components.pipelines.store.models import RecurringRun, Run
    from headrace.components.pipelines.store.recurring import RecurringRuns
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.components.pipelines.ui.shelves import Shelves
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

PAGE_SIZE = 50
NEXT = 5
MINUTE, HOUR, DAY = 60, 3600, 86400
AGAIN = 30.0


class SchedulesPage:
    """The page `/schedules`."""

    def __init__(self, context: Context, calls: Calls, shelves: Shelves, recurring: RecurringRuns) -> None:
        self._context, self._calls, self._shelves, self._recurring = context, calls, shelves, recurring

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        namespace = request.namespace
        for resource in ("jobs", "runs"):
            await authorize(self._context.client, request, "list", resource, group=GROUP, namespace=namespace)
        try:
            query = ListQuery(PAGE_SIZE, request.query.get("after", ""), "created_at", descending=True)
            page, _specs = await self._recurring.page(query, namespace)
        except ListError as error:
            raise PageError(400, _("That does not fit"), str(error)) from error
        runs = await self._shelves.last_runs("recurring_run_id", [r.id for r in page.items], namespace, BARS)
        head = el(
            "div",
            el("h1", _("Schedules")),
            el("span", page.total, class_="dim num"),
            el("span", class_="push"),
            el("a", _("Schedule a pipeline"), href=f"/schedules/new?ns={quote(namespace)}", class_="btn primary"),
            class_="head row",
        )
        rows = [self._row(request, r, runs.get(r.id, [])) for r in page.items]
        if rows:
            titles = (_("State"), _("Schedule"), _("Next times"), _("Last runs"), "")
            top = el(
                "tr",
                [el("th", name, class_="nowrap hide-s" if n in {2, 3} else "nowrap") for n, name in enumerate(titles)],
            )
            token = page.next_page_token
            more = el("a", _("Older ones"), href=request.link(after=token), class_="more") if token else ""
            inner = Markup(el("table", el("thead", top), el("tbody", rows)) + more)
        else:
            inner = look.empty(_("Nothing is scheduled here. A schedule starts runs of a pipeline by itself."))
        panel = el("section", inner, class_="panel fullpanel", aria_label=_("Schedules"))
        body = el("div", head, panel, class_="page")
        return Fragment(_("Schedules"), body, fill=True, namespace=namespace, again=AGAIN if rows else None)

    def _row(self, request: PageRequest, found: RecurringRun, runs: list[Run]) -> Markup:
        on = found.status is Status.ENABLED
        press = (
            button(_("Switch off"), "disable", kind="small", schedule=found.id)
            if on
            else button(_("Switch on"), "enable", kind="small", schedule=found.id)
        )
        words = _("Delete this schedule? Its runs stay.")
        remove = button(_("Delete"), "delete", kind="danger small", confirm=words, schedule=found.id)
        like = el("a", _("Copy…"), href=f"/schedules/new?like={found.id}", class_="btn small", title=_("With changes"))
        limits = _("{n} at once", n=found.max_concurrency)
        missed = _("missed times are left out") if found.no_catchup else _("missed times are made up for")
        name = (
            el("a", found.display_name, href=f"/pipelines/{found.pipeline_id}", data_row=True)
            if found.pipeline_id
            else found.display_name
        )
        times = upcoming(found, request.now) if on else []
        shown = [el("div", left(at, request.now), " ", look.moment(at)) for at in times]
        return el(
            "tr",
            el("td", look.pill(look.OK, _("On")) if on else look.pill(look.WAIT, _("Off"))),
            el(
                "td",
                name,
                el("span", f"{in_words(found.trigger)} · {limits} · {missed}", class_="reason"),
                el("span", told(found.error_message), class_="reason bad") if found.error_message else None,
                class_="cut",
            ),
            el("td", shown or el("span", "—", class_="dim"), class_="num nowrap hide-s times"),
            el("td", bars(runs, request.now, slots=BARS, width=5) if runs else None, class_="hide-s nowrap"),
            el("td", press, " ", like, " ", remove, class_="right nowrap"),
            id=f"s-{found.id}",
        )

    async def enable(self, request: PageRequest, form: Form) -> Done:
        """From now on it starts runs."""
        await self._calls.post(request.user, f"/recurringruns/{segment(form.text('schedule'))}:enable")
        return Done("", _("It is switched on."))

    async def disable(self, request: PageRequest, form: Form) -> Done:
        """Runs that have begun go on."""
        await self._calls.post(request.user, f"/recurringruns/{segment(form.text('schedule'))}:disable")
        return Done("", _("It is switched off. Runs that have begun go on."))

    async def delete(self, request: PageRequest, form: Form) -> Done:
        """Its runs stay."""
        await self._calls.delete(request.user, f"/recurringruns/{segment(form.text('schedule'))}")
        return Done("", _("The schedule is deleted. Its runs stay."))


def upcoming(found: RecurringRun, now: dt.datetime) -> list[dt.datetime]:
    """The next times at which it starts a run, as the scheduler will find them."""
    try:
        trigger = parse_trigger(found.trigger)
    except ValueError:
        return []
    last, times = found.last_triggered_at, []
    for _round in range(NEXT):
        due = next_due(trigger, last, found.created_at or now, now, no_catchup=bool(found.no_catchup))
        if due is None:
            break
        times.append(due)
        last, now = due, max(now, due)
    return times


def left(at: dt.datetime, now: dt.datetime) -> str:
    """How long from now, as a person says it."""
    seconds = (at - now).total_seconds()
    if seconds <= 0:
        return _("now")
    if seconds < 2 * MINUTE:
        return _("in {n} s", n=round(seconds))
    if seconds < 2 * HOUR:
        return _("in {n} min", n=round(seconds / MINUTE))
    if seconds < 2 * DAY:
        return _("in {n} h", n=round(seconds / HOUR))
    return _("in {n} days", n=round(seconds / DAY))


def in_words(trigger: dict[str, dict[str, str]]) -> str:
    """The rule."""
    if "cron_schedule" in trigger:
        return _cron(trigger["cron_schedule"].get("cron", ""))
    seconds = int(trigger.get("periodic_schedule", {}).get("interval_second", 0))
    return _("every {time}", time=look.seconds(seconds).removesuffix(" 0 s").removesuffix(" 0 m").removesuffix(" 0 h"))


def _cron(text: str) -> str:
    fields = text.split()
    if len(fields) == 6 and fields[3:] in (["*", "*", "*"], ["*", "*", "?"], ["?", "*", "*"]):
        second, minute, hour = fields[:3]
        if second.isdigit() and minute.isdigit() and hour.isdigit():
            return _("every day at {time} UTC", time=f"{int(hour):02}:{int(minute):02}")
        if second.isdigit() and minute.isdigit() and hour == "*":
            return _("every hour at minute {n}", n=int(minute))
    return f"cron {text}"
