"""What a form of a page sends: fields, and files within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from headrace.machinery.pages import Form, PageError, Upload
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 32 * 1024 * 1024
"""As upstream's pipeline upload."""
MAX_FIELDS = 1000
MAX_FILES = 100


async def read_form(scope: dict[str, Any], receive: Callable[[], Any]) -> Form:
    """The form. Raises PageError when it is too large, or is none."""
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BYTES:
            words = _("At most {n} MB can be sent at once.", n=MAX_BYTES // 2**20)
            raise PageError(413, _("That is too large"), words)
        return message

    request = Request(scope, counted)
    try:
        sent = await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_BYTES)
    except (MultiPartException, ClientDisconnect, AssertionError) as error:
        words = _("What was sent is not a form: {error}", error=error)
        raise PageError(400, _("That could not be read"), words) from error
    fields: dict[str, tuple[str, ...]] = {}
    files: dict[str, Upload] = {}
    uploads: list[Upload] = []
    try:
        for name, value in sent.multi_items():
            if isinstance(value, UploadFile):
                if value.filename:
                    files[name] = Upload(value.filename, await value.read())
                    uploads.append(files[name])
            else:
                fields[name] = (*fields.get(name, ()), value)
    finally:
        await sent.close()
    return Form(fields, files, tuple(uploads))
