"""pip's configuration counts for uv and for pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.node.images import pip_config
from headrace.node.images.uv import failure

if TYPE_CHECKING:
    from pathlib import Path


def test_files_and_variables_in_pips_order(tmp_path: Path) -> None:
    user = tmp_path / ".config" / "pip"
    user.mkdir(parents=True)
    (user / "pip.conf").write_text("[global]\nindex-url = https://user/simple\nfind-links =\n  /a\n  /b\ntimeout = 5\n")
    own = tmp_path / "own.conf"
    own.write_text("[global]\ntimeout = 7\n[install]\nno_index = yes\n[list]\nformat = json\n")
    environ = {"PIP_CONFIG_FILE": str(own), "PIP_INDEX_URL": "https://env/simple", "XDG_CONFIG_DIRS": str(tmp_path)}
    found = pip_config.read(environ, home=tmp_path)
    wanted = {
        "index-url": "https://env/simple",
        "find-links": "/a /b",
        "timeout": "7",
        "no-index": "yes",
    }
    assert wanted.items() <= found.items()
    assert "format" not in found


def test_devnull_switches_files_off(tmp_path: Path) -> None:
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip" / "pip.conf").write_text("[global]\nindex-url = https://user/simple\n")
    assert pip_config.read({"PIP_CONFIG_FILE": "/dev/null"}, home=tmp_path) == {}
    environ = {"XDG_CONFIG_DIRS": str(tmp_path)}
    assert pip_config.read(environ, home=tmp_path)["index-url"] == "https://user/simple"


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        ({"index-url": "https://i"}, {}, {"UV_DEFAULT_INDEX": "https://i"}),
        ({"index-url": "https://i"}, {"UV_INDEX_URL": "https://u"}, {}),
        ({"extra-index-url": "https://a https://b"}, {}, {"UV_INDEX": "https://a https://b"}),
        ({"find-links": "/a /b"}, {}, {"UV_FIND_LINKS": "/a,/b"}),
        ({"trusted-host": "h"}, {}, {"UV_INSECURE_HOST": "h"}),
        ({"default-timeout": "180"}, {}, {"UV_HTTP_TIMEOUT": "180"}),
        ({"cert": "/c.pem"}, {}, {"SSL_CERT_FILE": "/c.pem"}),
        ({"cert": "/c.pem"}, {"SSL_CERT_FILE": "/own.pem"}, {}),
        ({"proxy": "http://p"}, {}, {"ALL_PROXY": "http://p"}),
    ],
)
def test_for_uv(options: dict[str, str], environ: dict[str, str], expected: dict[str, str]) -> None:
    found = pip_config.for_uv(options, environ)
    assert found.pop("UV_INDEX_STRATEGY") == "unsafe-best-match"
    found.pop("UV_SYSTEM_CERTS", None)
    assert found == expected


def test_for_pods() -> None:
    assert pip_config.for_pods({"index-url": "https://i", "timeout": "5", "no-index": "1"}) == {
        "PIP_INDEX_URL": "https://i",
        "PIP_NO_INDEX": "1",
    }


@pytest.mark.parametrize(
    ("stderr", "message", "unsatisfiable"),
    [
        (
            (
                "warning: something\nerror: No solution found when resolving dependencies\n"
                "  cause: Because x was not found and you require x, your requirements are unsatisfiable.\n"
            ),
            (
                "No solution found when resolving dependencies: Because x was not found and you require x, "
                "your requirements are unsatisfiable"
            ),
            True,
        ),
        (
            (
                "  \u00d7 No solution found:\n  \u2570\u2500\u25b6 Because x was not found in the package\n"
                "      registry, they are unsatisfiable.\n"
            ),
            "No solution found: Because x was not found in the package registry, they are unsatisfiable",
            True,
        ),
        ("error: Failed to fetch: https://me:secret@host/x\n", "Failed to fetch: https://***@host/x", False),
        ("", "uv failed without a message", False),
    ],
)
def test_what_uv_says(stderr: str, message: str, unsatisfiable: bool) -> None:
    error = failure(stderr)
    assert str(error) == message
    assert error.unsatisfiable is unsatisfiable
