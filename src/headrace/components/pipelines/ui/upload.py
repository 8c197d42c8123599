"""The page `/pipelines/new`: a file or an address, then a look at what is in it, then saving."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from headrace.components.pipelines.api.packages import read_package
from headrace.components.pipelines.types.rest import RpcError
from headrace.components.pipelines.ui import forms
from headrace.components.pipelines.ui.calls import segment
from headrace.components.pipelines.ui.catalogue import drawing
from headrace.components.pipelines.ui.recent import GROUP
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Done, Fragment, PageError, Upload, authorize
from headrace.machinery.words import _

if TYPE_CHECKING:
    from headrace.components.pipelines.api.fetch import Packages
    from headrace.components.pipelines.ui.calls import Calls
    from headrace.components.pipelines.ui.drafts import Drafts
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest


class UploadPage:
    """See the module."""

    def __init__(self, context: Context, calls: Calls, drafts: Drafts, packages: Packages) -> None:
        self._context, self._calls, self._drafts, self._packages = context, calls, drafts, packages

    async def render(self, request: PageRequest) -> Fragment:
        """The page."""
        known = await self._known(request)
        title = _("New version of {name}", name=known["display_name"]) if known else _("Upload a pipeline")
        ident = request.query.get("draft", "")
        draft = self._drafts.get(request.user.name, ident) if ident else None
        chooser = el(
            "form",
            el("input", type="file", name="file", required=True, aria_label=_("The pipeline's file")),
            el("button", _("Look at it"), type="submit", name="action", value="look", class_="btn primary"),
            method="post",
            enctype="multipart/form-data",
            class_="row pad",
        )
        address = el(
            "form",
            el(
                "input",
                type="url",
                name="url",
                required=True,
                placeholder="https://…/pipeline.yaml",
                aria_label=_("Address of the pipeline's file"),
                class_="btn address",
            ),
            el("button", _("Read it from there"), type="submit", name="action", value="look", class_="btn"),
            method="post",
            class_="row pad",
        )
        chooser = Markup(chooser + address)
        hint = el("p", _("YAML or JSON as kfp compiles it, also in a zip or tar.gz archive."), class_="dim pad")
        crumbs = el("div", el("a", _("Pipelines"), href=f"/pipelines?ns={quote(request.namespace)}"), class_="crumbs")
        head = el("div", crumbs, el("h1", title), class_="head lines")
        if draft is None:
            lost = (
                el("p", _("That upload is not kept any more: choose the file again."), class_="pad") if ident else None
            )
            body = el("section", lost, hint, chooser, class_="panel fullpanel")
            return Fragment(title, el("div", head, body, class_="page"), fill=True)
        name = known["display_name"] if known else draft.spec.name or draft.file.name.partition(".")[0]
        form = el(
            "form",
            el("input", type="hidden", name="draft", value=draft.id),
            forms.row(
                _("Version") if known else _("Name"), forms.line("name", "" if known else name, required=True), "f-name"
            ),
            forms.row(
                _("Description"), forms.line("description", draft.spec.pipeline_info.description), "f-description"
            ),
            el("button", _("Save"), type="submit", name="action", value="save", class_="btn primary"),
            method="post",
            class_="fields",
        )
        right = Markup(form + el("div", el("h2", _("Another file")), class_="ph") + chooser)
        split = el(
            "div",
            el("section", drawing(request, draft.spec), class_="panel", aria_label=_("Graph")),
            el("section", right, class_="panel", aria_label=_("Save")),
            class_="split",
        )
        return Fragment(title, el("div", head, split, class_="page"), fill=True)

    async def look(self, request: PageRequest, form: Form) -> Done:
        """Read the file and keep it for a look."""
        await self._known(request)
        url = form.text("url").strip()
        file = await self._fetched(request, url) if url else form.files.get("file")
        if file is None:
            raise PageError(422, _("No file"), _("Choose the file of a compiled pipeline, or say where it lies."))
        try:
            spec = (await asyncio.to_thread(read_package, file.content))[1]
        except RpcError as error:
            raise PageError(422, _("This is not a pipeline that can run"), error.message) from error
        draft = self._drafts.keep(request.user.name, file, spec, url)
        return Done(request.link(draft=draft.id, fold=None))

    async def _fetched(self, request: PageRequest, url: str) -> Upload:
        """The file at an address, for who may make a pipeline of it; only public addresses are read."""
        await authorize(self._context.client, request, "create", "pipelines", group=GROUP)
        try:
            content = await self._packages.read(request.namespace, url)
        except RpcError as error:
            raise PageError(422, _("That could not be read"), error.message) from error
        return Upload(urlsplit(url).path.rpartition("/")[2] or "pipeline.yaml", content)

    async def save(self, request: PageRequest, form: Form) -> Done:
        """Through the API's own upload, which authorizes and checks again."""
        draft = self._drafts.get(request.user.name, form.text("draft"))
        if draft is None:
            raise PageError(410, _("It is not there"), _("That upload is not kept any more: choose the file again."))
        given: dict[str, str] = {
            "name": form.text("name").strip() or draft.spec.name,
            "description": form.text("description").strip(),
        }
        if draft.url.startswith(("http://", "https://")):
            given["code_source_url"] = draft.url
        ns, known = quote(request.namespace), await self._known(request)
        if known:
            made = await self._calls.upload(
                request.user, "/pipelines/upload_version", draft.file, pipelineid=known["pipeline_id"], **given
            )
        else:
            made = await self._calls.upload(
                request.user, "/pipelines/upload", draft.file, namespace=request.namespace, **given
            )
        self._drafts.drop(draft.id)
        suffix = f"&version={made['pipeline_version_id']}" if known else ""
        return Done(f"/pipelines/{made['pipeline_id']}?ns={ns}{suffix}", _("It is saved."))

    async def _known(self, request: PageRequest) -> dict[str, Any] | None:
        ident = request.query.get("pipeline", "")
        return await self._calls.get(request.user, f"/pipelines/{segment(ident)}") if ident else None
