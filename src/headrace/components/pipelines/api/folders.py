"""Artifacts that are folders: a step may write a directory, whose files lie below the artifact's URI.

They are listed within bounds, and downloaded as one tar archive that is made as it is read: nothing is held.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from headrace.components.pipelines.api.objects import CHUNK, read_listing
from headrace.components.pipelines.types.rest import Code, RpcError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headrace.components.pipelines.api.objects import Objects

MAX_FILES = 10_000
"""A folder with more files is not downloaded as one archive."""
SHOWN = 100
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class File:
    """A file of a folder."""

    path: str
    """Below the folder."""
    uri: str
    size: int


async def files_of(objects: Objects, namespace: str, uri: str, limit: int) -> list[File]:
    """The files below a URI of the store, at most one more than `limit`. Raises RpcError."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    prefix, found, token = f"{key.rstrip('/')}/", list[File](), ""
    while len(found) <= limit:
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(_PAGE), "encoding-type": "url"}
        if token:
            query["continuation-token"] = token
        listing = read_listing(await objects.ask(namespace, f"/{quote(bucket, safe='-_.~')}", query))
        for quoted, size in listing.objects:
            name = unquote(quoted)
            if not name.endswith("/"):
                found.append(File(name.removeprefix(prefix), f"{scheme}://{bucket}/{name}", size))
        token = listing.next_token
        if not token:
            break
    return found[: limit + 1]


async def archive(objects: Objects, namespace: str, files: Sequence[File]) -> AsyncIterator[bytes]:
    """A tar archive of these files. One that has changed its size meanwhile breaks it off."""
    for file in files:
        head = tarfile.TarInfo(file.path)
        head.size = file.size
        yield head.tobuf(tarfile.PAX_FORMAT)
        left = file.size
        async with objects.open(namespace, file.uri, {}) as response:
            async for chunk in response.content.iter_chunked(CHUNK):
                left -= len(chunk)
                yield chunk
        if left:
            raise RpcError(Code.ABORTED, f"{file.uri} was written while it was read.")
        yield b"\0" * (-file.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
