"""Static files of the dashboard: read once, named with their content's hash, so that a browser may keep them."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "ui" / "static"
TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".txt": b"text/plain; charset=utf-8",
    ".svg": b"image/svg+xml",
}
FOREVER = (b"cache-control", b"public, max-age=31536000, immutable")


class Static:
    """The files of `ui/static`. An address is `<version>/<name>`; modules import each other by relative names, so all
    files share the version, a hash of their contents.
    """

    def __init__(self) -> None:
        self._files = {p.name: p.read_bytes() for p in sorted(FOLDER.iterdir()) if p.suffix in TYPES}
        digest = hashlib.sha256()
        for name, content in self._files.items():
            digest.update(name.encode() + b"\0" + content)
        self.version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a file is served."""
        return f"/static/{self.version}/{name}"

    def get(self, path: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """Status, content and headers, the content type first."""
        version, _, name = path.partition("/")
        content = self._files.get(name)
        if content is None:
            return 404, b"There is no such file.", [(b"content-type", b"text/plain")]
        kind = (b"content-type", TYPES[Path(name).suffix])
        if version != self.version:  # a page from before an update: right content, but not to be kept
            return 200, content, [kind, (b"cache-control", b"no-cache")]
        return 200, content, [kind, FOREVER]
