"""Static files of the dashboard: read once, named with their content's hash, so that a browser may keep them.

The sheets that every page needs are sent as one file, because nothing is painted before the last of them has come. What
is sent compressed is compressed when it is first asked for. Documents never are: they may hold a secret beside what
their address says.
"""

from __future__ import annotations

import gzip
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
SHEET, FIRST_SHEETS, OWN_SHEETS = "page.css", ("tokens.css", "app.css"), frozenset({"xterm.css"})
"""The sheet of every page, what it begins with, and what is no part of it: a module asks for that itself."""
LATER = frozenset({"early.js", "terminal.js"})
"""Scripts that are no modules, or are not needed by every page."""
WORTH = 512
"""Smaller files are sent as they are."""


class Static:
    """The files of `ui/static`. An address is `<version>/<name>`; modules import each other by relative names, so all
    files share the version, a hash of their contents.
    """

    def __init__(self) -> None:
        self._files = {p.name: p.read_bytes() for p in sorted(FOLDER.iterdir()) if p.suffix in TYPES}
        more = (n for n in self._files if n.endswith(".css") and n not in OWN_SHEETS and n not in FIRST_SHEETS)
        self._files[SHEET] = b"\n".join(self._files[name] for name in (*FIRST_SHEETS, *more))
        self.modules = tuple(name for name in self._files if name.endswith(".js") and name not in LATER)
        """What every page's scripts import: named to the browser before it has read the first of them."""
        self._packed: dict[str, bytes] = {}
        digest = hashlib.sha256()
        for name, content in self._files.items():
            digest.update(name.encode() + b"\0" + content)
        self.version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a file is served."""
        return f"/static/{self.version}/{name}"

    def get(self, path: str, accepted: bytes = b"") -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """Status, content and headers, the content type first. `accepted` is what the browser says of encodings."""
        version, _, name = path.partition("/")
        content = self._files.get(name)
        if content is None:
            return 404, b"There is no such file.", [(b"content-type", b"text/plain")]
        headers = [(b"content-type", TYPES[Path(name).suffix]), (b"vary", b"accept-encoding")]
        # A page from before an update: right content, but not to be kept.
        headers.append(FOREVER if version == self.version else (b"cache-control", b"no-cache"))
        if len(content) >= WORTH and _takes_gzip(accepted):
            if name not in self._packed:
                self._packed[name] = gzip.compress(content, 9, mtime=0)
            content = self._packed[name]
            headers.append((b"content-encoding", b"gzip"))
        return 200, content, headers


def _takes_gzip(accepted: bytes) -> bool:
    for part in accepted.lower().split(b","):
        name, _, quality = part.strip().partition(b";")
        if name.strip() == b"gzip":
            return quality.replace(b" ", b"").rstrip(b"0") not in {b"q=", b"q=0."}
    return False
