"""Files of the dashboard: one sheet, what is sent compressed, what may be kept."""

from __future__ import annotations

import gzip
import re

import pytest

from headrace.components.dashboard.api.static import FOLDER, SHEET, Static


@pytest.fixture(scope="module")
def static() -> Static:
    return Static()


def test_the_sheet_of_every_page_holds_every_sheet_once_and_the_tokens_first(static):
    status, sheet, headers = static.get(f"{static.version}/{SHEET}")
    assert status == 200
    assert headers[0] == (b"content-type", b"text/css; charset=utf-8")
    assert sheet.startswith((FOLDER / "tokens.css").read_bytes())
    for path in FOLDER.glob("*.css"):
        assert sheet.count(path.read_bytes()) == (path.name != "xterm.css"), path.name


def test_a_page_names_every_module_that_its_scripts_import(static):
    def imported(name: str) -> set[str]:
        found = set(re.findall(r'^import .*"\./([\w.-]+)";', (FOLDER / name).read_text(), re.MULTILINE))
        return found.union({name}, *(imported(each) for each in found))

    assert imported("app.js") | imported("palette.js") <= set(static.modules)
    assert not {"early.js", "terminal.js", "xterm.mjs"} & set(static.modules)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        (b"", False),
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"deflate, br", False),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000, br", False),
        (b"x-gzip", False),
    ],
)
def test_what_takes_gzip_gets_it(static, accepted, packed):
    plain = (FOLDER / "app.js").read_bytes()
    status, body, headers = static.get(f"{static.version}/app.js", accepted)
    assert status == 200
    assert ((b"content-encoding", b"gzip") in headers) is packed
    assert (b"vary", b"accept-encoding") in headers
    assert (gzip.decompress(body) if packed else body) == plain
    assert len(body) < len(plain) or not packed


def test_what_is_small_or_of_another_version(static):
    assert static.get(f"{static.version}/icon.svg", b"gzip")[1].startswith(b"<svg")
    _, body, headers = static.get("older/app.js", b"gzip")
    assert gzip.decompress(body) == (FOLDER / "app.js").read_bytes()
    assert (b"cache-control", b"no-cache") in headers
    assert static.get("older/none.js", b"gzip")[0] == 404
