"""Artifacts and buckets: what runs have made and what lies in the object store, as far as one's namespace reaches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from headrace.components.pipelines.store.lineage import LinkQuery
from headrace.components.pipelines.store.models import Direction
from headrace.components.pipelines.ui import charts, folders, forms, graph
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.catalogue import moment
from headrace.components.pipelines.ui.recent import GROUP
from headrace.components.pipelines.ui.timeline import short
from headrace.machinery import look, podlook
from headrace.machinery.html import Child, Markup, el
from headrace.machinery.pages import Done, Fragment, PageError, button
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.client.base import Client
    from headrace.components.pipelines.store.lineage import Lineage, Link
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.machinery.pages import Form, PageRequest

PAGE_SIZE = 50
API = "/apis/v2beta1"
ROWS, LETTERS = 100, 40_000
MAX_USERS = 20
DRAWN_USERS = 3
_MEDIA = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_BASE64 = re.compile(r"[A-Za-z0-9+/=]*")


class ArtifactsPage:
    """The page `/artifacts`: records, and with `?tab=buckets` the object store."""

    def __init__(self, client: Client, calls: Calls) -> None:
        self._client, self._calls = client, calls

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        buckets = request.query.get("tab") == "buckets"
        ns = quote(request.namespace)
        strip = look.tabs(
            [
                (_("Made by runs"), f"/artifacts?ns={ns}", not buckets, None),
                (_("Buckets"), f"/artifacts?ns={ns}&tab=buckets", buckets, None),
            ],
            _("Artifacts"),
        )
        inner = await (self._buckets(request) if buckets else self._records(request))
        find = None if buckets else podlook.search(request, _("Find an artifact"), keep=("ns",))
        head = el("div", el("h1", _("Artifacts")), find, class_="head row")
        panel = el("section", strip, inner, class_="panel fullpanel", aria_label=_("Artifacts"))
        return Fragment(_("Artifacts"), el("div", head, panel, class_="page"), fill=True)

    async def _records(self, request: PageRequest) -> Markup:
        asked = {"page_size": str(PAGE_SIZE), "sort_by": "created_at desc"}
        if request.query.get("q"):
            wanted = {"operation": "IS_SUBSTRING", "key": "name", "string_value": request.query["q"]}
            asked["filter"] = forms.as_json({"predicates": [wanted]})
        if request.query.get("after"):
            asked["page_token"] = request.query["after"]
        listed = await self._calls.get(request.user, "/artifacts", namespace=request.namespace, **asked)
        rows = [
            el(
                "tr",
                el(
                    "td",
                    el("a", a.get("name", ""), href=f"/artifacts/{a['artifact_id']}", data_row=True),
                    class_="wrap-any",
                ),
                el("td", a.get("type", "").removeprefix("system."), class_="dim"),
                el("td", a.get("uri", ""), class_="mono wrap-any hide-s"),
                el("td", moment(a.get("created_at")), class_="dim nowrap num"),
            )
            for a in listed.get("artifacts", [])
        ]
        if not rows:
            return look.empty(_("No artifact here. Steps of runs make them."))
        titles = (_("Artifact"), _("Type"), _("Where"), _("Made"))
        top = el("tr", [el("th", name, class_="hide-s" if n == 2 else None) for n, name in enumerate(titles)])
        token = listed.get("next_page_token", "")
        more = el("a", _("Older ones"), href=request.link(after=token), class_="more") if token else ""
        return Markup(el("table", el("thead", top), el("tbody", rows)) + more)

    async def _buckets(self, request: PageRequest) -> Markup:
        bucket, prefix = request.query.get("bucket", ""), request.query.get("prefix", "")
        where = {"namespace": request.namespace}
        if not bucket:
            found = await self._calls.get(request.user, "/objects", **where)
            rows = [
                el("tr", el("td", el("a", f"{p['bucket']}/{p['prefix']}", href=_at(request, **p), data_row=True)))
                for p in found.get("places", [])
            ]
            return el("table", el("tbody", rows))
        if request.query.get("key"):
            return await self._object(request, bucket, request.query["key"])
        after = request.query.get("after", "")
        found = await self._calls.get(request.user, "/objects", bucket=bucket, prefix=prefix, after=after, **where)
        may = await self._may(request, "delete")
        rows = [
            el(
                "tr",
                el("td", el("a", p.removeprefix(prefix), href=_at(request, bucket, p), data_row=True), class_="wide"),
                el("td"),
                el("td"),
                el("td", _remove_folder(p.removeprefix(prefix), p) if may else None, class_="right"),
            )
            for p in found.get("prefixes", [])
        ]
        rows += [
            el(
                "tr",
                el(
                    "td",
                    el(
                        "a",
                        o["key"].removeprefix(prefix),
                        href=_at(request, bucket, prefix, key=o["key"]),
                        data_row=True,
                    ),
                    class_="wrap-any wide",
                ),
                el("td", look.size(o["size"]), class_="num nowrap"),
                el("td", moment(o["modified"]), class_="dim nowrap num"),
                el("td", _remove(o["key"].removeprefix(prefix), o["key"]) if may else None, class_="right"),
            )
            for o in found.get("objects", [])
        ]
        form = el(
            "form",
            el("input", type="file", name="file", required=True, multiple=True, aria_label=_("Files")),
            el("button", _("Upload here"), type="submit", name="action", value="upload", class_="btn"),
            method="post",
            enctype="multipart/form-data",
            class_="toolbar",
        )
        if not await self._may(request, "create"):
            form = Markup()
        token = found.get("next_page_token", "")
        more = el("a", _("More"), href=request.link(after=token), class_="more") if token else ""
        places = await self._places(request)
        inner = el("table", el("tbody", rows)) if rows else look.empty(_("Nothing lies here."))
        return Markup(_crumbs(request, bucket, prefix, places) + form + inner + more)

    async def _object(self, request: PageRequest, bucket: str, key: str) -> Markup:
        uri = f"minio://{bucket}/{key}"
        found = await self._calls.get(request.user, "/objects:preview", namespace=request.namespace, uri=uri)
        query = urlencode({"namespace": request.namespace, "uri": uri})
        facts = podlook.facts(
            [(_("Where"), el("span", uri, class_="mono")), (_("Size"), look.size(found.get("size", 0)))]
        )
        link = el("a", _("Download"), href=f"{API}/objects:download?{query}", class_="btn", data_plain=True)
        folder = key.rpartition("/")[0]
        crumbs = _crumbs(request, bucket, f"{folder}/" if folder else "", await self._places(request))
        remove = _remove(key.rpartition("/")[2], key) if await self._may(request, "delete") else None
        return Markup(crumbs + facts + el("div", link, " ", remove, class_="pad acts") + shown(found))

    async def _places(self, request: PageRequest) -> list[str]:
        """Where a person may look, as `bucket/prefix`."""
        found = await self._calls.get(request.user, "/objects", namespace=request.namespace)
        return [f"{place['bucket']}/{place['prefix']}" for place in found.get("places", [])]

    async def _may(self, request: PageRequest, verb: str) -> bool:
        """Whether to offer it; the API decides again when it is done."""
        return await self._client.review_access(
            request.user, verb, group=GROUP, resource="runs", namespace=request.namespace
        )

    async def upload(self, request: PageRequest, form: Form) -> Done:
        """Files to where the address points."""
        bucket = request.query.get("bucket", "")
        if not form.uploads or not bucket:
            raise PageError(422, _("No file"), _("Choose a file, and where it should lie."))
        names = []
        for file in form.uploads:
            names.append(file.name.replace("\\", "/").rpartition("/")[2])
            uri = f"minio://{bucket}/{request.query.get('prefix', '')}{names[-1]}"
            path = "/objects:upload"
            await self._calls.put(request.user, path, file.content, namespace=request.namespace, uri=uri)
        if len(names) == 1:
            return Done("", _("{name} is stored.", name=names[0]))
        return Done("", _("{n} files are stored.", n=len(names)))

    async def delete(self, request: PageRequest, form: Form) -> Done:
        """An object, or a folder with all that is in it."""
        bucket, key = request.query.get("bucket", ""), form.text("key")
        if not bucket or not key:
            raise PageError(422, _("Nothing to do"), _("Choose what is to be deleted."))
        uri = f"minio://{bucket}/{key}"
        done = await self._calls.delete(request.user, "/objects", namespace=request.namespace, uri=uri)
        shown = request.query.get("key") == key
        back = _at(request, bucket, request.query.get("prefix", "")) if shown else ""
        if done.get("more"):
            return Done(back, _("{n} objects are deleted. There are more: press again.", n=done["deleted"]))
        name = key.rstrip("/").rpartition("/")[2]
        if key.endswith("/"):
            return Done(back, _("{name} is deleted, with {n} objects.", name=name, n=done["deleted"]))
        return Done(back, _("{name} is deleted.", name=name))


class ArtifactPage:
    """The page `/artifacts/{id}`."""

    def __init__(self, calls: Calls, lineage: Lineage) -> None:
        self._calls, self._lineage = calls, lineage

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        ident = segment(request.parameters["id"])
        found = await self._calls.get(request.user, f"/artifacts/{ident}")
        from_run = await self._calls.get(request.user, f"/artifacts/{ident}/lineage")
        namespace = found.get("namespace") or request.namespace
        links = steps_only(await self._lineage.links(LinkQuery(namespace, artifact_ids=[ident])))
        name = found.get("name") or ident
        maker = from_run.get("producer")
        run = el("a", maker["run_name"], href=f"/runs/{maker['run_id']}?task={maker['task_id']}") if maker else None
        values = [(k, short(v)) for k, v in found.get("metadata", {}).items() if k not in charts.SPECIAL]
        facts = podlook.facts(
            [
                (_("Type"), found.get("type")),
                (_("Made by"), el("span", run, f" · {maker['task_name']}") if maker else None),
                (_("Made"), moment(found.get("created_at"))),
                (_("Where"), el("span", found.get("uri", ""), class_="mono")),
                *values,
            ]
        )
        link = el("a", _("Download"), href=f"{API}/artifacts/{ident}:download", class_="btn", data_plain=True)
        try:
            told = await self._calls.get(request.user, f"/artifacts/{ident}:preview")
            preview = folders.render(told, namespace) if told.get("kind") == "folder" else shown(told)
        except PageError as error:
            preview = look.empty(error.message)
        pictures = [
            el("div", el("h3", title, class_="pad"), picture)
            for title, picture in charts.charts(found.get("metadata", {}))
        ]
        picture = graph.draw(_family(found, from_run, links), _WAYS, _("Lineage"))
        right = (
            el("div", el("h2", _("Lineage")), class_="ph"),
            el("div", picture, class_="dagbox fit"),
            _users(links),
        )
        split = el(
            "div",
            el("section", facts, el("div", link, class_="pad"), pictures or preview, class_="panel", aria_label=name),
            el("section", right, class_="panel", aria_label=_("Lineage")),
            class_="split",
        )
        crumbs = el("div", el("a", _("Artifacts"), href=f"/artifacts?ns={quote(namespace)}"), class_="crumbs")
        head = el("div", crumbs, el("h1", name), class_="head lines")
        return Fragment(name, el("div", head, split, class_="page"), fill=True, namespace=namespace)


def _way(box: graph.Box) -> str:
    """Where a box of the lineage leads: its key says what it is."""
    kind, _colon, rest = box.key.partition(":")
    if kind == "artifact":
        return f"/artifacts/{quote(rest)}"
    run, _slash, task = rest.partition("/")
    return f"/runs/{quote(run)}?task={quote(task)}"


_WAYS = graph.Links(task=_way, toggle=lambda _box: "", shut=lambda _box: False)


def _family(found: Mapping[str, Any], told: Mapping[str, Any], links: list[Link]) -> list[graph.Box]:
    """What it was made from, the task that made it, itself, the tasks that used it."""
    me = f"artifact:{found['artifact_id']}"
    boxes: list[graph.Box] = []
    before: list[str] = []
    for source in told.get("made_from", [])[:MAX_USERS]:
        key = f"artifact:{source['artifact_id']}"
        boxes.append(graph.Box(key, source.get("name", ""), source.get("type", "").removeprefix("system.")))
        before.append(key)
    maker = told.get("producer")
    if maker:
        key = f"task:{maker['run_id']}/{maker['task_id']}"
        boxes.append(graph.Box(key, maker["task_name"], maker["run_name"], after=before))
        before = [key]
    kind = found.get("type", "").removeprefix("system.")
    boxes.append(graph.Box(me, found.get("name", ""), kind, kind=look.HIT, after=before))
    used = [link for link in links if link.direction is Direction.INPUT]
    boxes += [
        graph.Box(f"task:{link.run_id}/{link.task_id}", link.task_name, link.run_name, after=[me])
        for link in used[:DRAWN_USERS]
    ]
    more = len(used) - DRAWN_USERS
    if more > 0:
        boxes.append(graph.Box(me + "/users", _("{n} more", n=more), _("below"), after=[me]))
    return boxes


def steps_only(links: list[Link]) -> list[Link]:
    """Without the groups around steps, which pass an artifact on; who made it first, then who used it, then who took it
    from the cache.
    """
    found = list({(link.task_id, link.direction): link for link in links if link.step}.values())
    return sorted(found, key=lambda link: (link.direction is Direction.OUTPUT) + 2 * link.again)


def _users(links: list[Link]) -> Markup:
    rows = [
        el(
            "tr",
            el("td", _role(link), class_="dim nowrap"),
            el("td", el("a", link.run_name, href=f"/runs/{link.run_id}?task={link.task_id}"), class_="wrap-any"),
            el("td", link.task_name, class_="wrap-any"),
            el("td", link.key, class_="dim wrap-any"),
        )
        for link in links
    ]
    return el("table", el("tbody", rows), class_="dense") if rows else Markup()


def _role(link: Link) -> str:
    if link.direction is Direction.INPUT:
        return _("used")
    return _("took over") if link.again else _("made")


def _at(request: PageRequest, bucket: str, prefix: str, key: str = "") -> str:
    found = {"ns": request.namespace, "tab": "buckets", "bucket": bucket, "prefix": prefix, "key": key}
    return "/artifacts?" + urlencode({name: value for name, value in found.items() if value})


def _remove(name: str, key: str) -> Markup:
    words = _("Delete {name}? It cannot be undone. Runs that made or used it keep only its record.", name=name)
    return button(_("Delete"), "delete", kind="danger small", confirm=words, key=key)


def _remove_folder(name: str, key: str) -> Markup:
    words = _("Delete the folder {name} and everything in it? It cannot be undone.", name=name)
    return button(_("Delete"), "delete", kind="danger small", confirm=words, key=key)


def _crumbs(request: PageRequest, bucket: str, prefix: str, places: list[str]) -> Markup:
    """The way back up; what lies above the places that the keys open leads nowhere."""

    def part(words: str, at: str) -> Child:
        inside = any(f"{bucket}/{at}".startswith(place) for place in places)
        return el("a", words, href=_at(request, bucket, at)) if inside else el("span", words, class_="dim")

    parts: list[Child] = [el("a", _("Buckets"), href=_at(request, "", "")), " / ", part(bucket, "")]
    at = ""
    for folder in prefix.split("/")[:-1]:
        at += f"{folder}/"
        parts += [" / ", part(folder, at)]
    return el("div", parts, class_="toolbar crumbs")


def shown(found: Mapping[str, Any]) -> Markup:
    """A preview of the API, within bounds."""
    kind = found.get("kind")
    if kind == "image" and found.get("media_type") in _MEDIA and _BASE64.fullmatch(found.get("data", "")):
        if not found.get("data"):
            return look.empty(_("This picture is too large to be shown here: download it."))
        source = f"data:{found['media_type']};base64,{found['data']}"
        return el("div", Markup(f'<img src="{source}" alt="{_("Preview")}">'), class_="pad picture")
    if kind == "table":
        head = el("tr", [el("th", cell) for cell in found.get("columns", [])])
        rows = [el("tr", [el("td", cell) for cell in row]) for row in found.get("rows", [])[:ROWS]]
        return el("div", el("table", el("thead", head), el("tbody", rows), class_="dense"), class_="scroll")
    if kind == "metrics":
        return el(
            "div",
            [el("div", el("b", f"{v:.6g}"), el("span", k)) for k, v in found["metrics"].items()],
            class_="metrics",
        )
    if "text" in found:
        text = found["text"][:LETTERS]
        more = el("p", _("Only the beginning is shown: download it for the rest."), class_="dim pad")
        cut = found.get("truncated") or len(found["text"]) > LETTERS
        return Markup(el("pre", text, class_="code", tabindex="0") + (more if cut else ""))
    return look.empty(_("This cannot be shown here: download it."))
