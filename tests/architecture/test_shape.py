"""The shape that docs/architecture.md promises: folders, names, sizes, docstrings."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "headrace"
MODULES = sorted(SRC.rglob("*.py"))
ROOMS = sorted(p for p in (SRC / "components").iterdir() if p.is_dir() and p.name != "__pycache__")

HARD_LIMIT = 800
ALWAYS = {"component.py", "README.md", "parity.yaml"}
FURNITURE = {"types", "policy", "render", "controller", "api", "store"}
FOLDERS_ONLY = {"ui", "migrations"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: p.name)
def test_a_component_has_the_common_furniture_and_nothing_else(room: Path) -> None:
    names = {p.name for p in room.iterdir() if p.name not in {"__pycache__", "__init__.py"}}
    assert names >= ALWAYS, f"{room.name} lacks {sorted(ALWAYS - names)}"
    allowed = ALWAYS | FURNITURE | {f"{n}.py" for n in FURNITURE} | FOLDERS_ONLY
    assert names <= allowed, f"{room.name} holds {sorted(names - allowed)}: see docs/architecture.md, section 3"


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: p.name)
def test_parity_says_of_each_feature_where_it_stands(room: Path) -> None:
    rows = yaml.safe_load((room / "parity.yaml").read_text())
    assert isinstance(rows, list)
    assert rows
    for row in rows:
        assert set(row) <= {"feature", "status", "note"}, row
        assert row["feature"], row
        assert row["status"] in {"done", "todo", "exempt"}, row
        if row["status"] == "exempt":
            assert row.get("note"), f"{row['feature']}: an exemption needs its reason"
    features = [row["feature"] for row in rows]
    assert len(features) == len(set(features))


def test_every_component_is_listed_by_the_platform() -> None:
    from headrace.platform import COMPONENTS

    assert {room.name for room in ROOMS} == set(COMPONENTS)


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_module_is_of_readable_size(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= HARD_LIMIT


@pytest.mark.parametrize("module", [m for m in MODULES if m.read_text().strip()], ids=relative)
def test_a_module_says_why_it_exists(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text())), f"{relative(module)} has no docstring"


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_only_the_wire_module_calls_encoders_for_objects(module: Path) -> None:
    if module.is_relative_to(SRC / "images") or module == SRC / "api" / "_wire.py":
        return
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "json":
            owner = node.value.value
            assert not (isinstance(owner, ast.Name) and owner.id == "msgspec"), f"{relative(module)}: use api._wire"


def tracked_files() -> list[Path]:
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if out.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in out.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_package_registry() -> None:
    hosts = ("pypi" + ".org", "python" + "hosted.org", "registry.npmjs" + ".org")
    for path in tracked_files():
        text = path.read_bytes()
        for host in hosts:
            assert host.encode() not in text, f"{relative(path)} names {host}"
