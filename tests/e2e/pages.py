"""Every page of the dashboard with an address that shows something, from the pages' own registry.

A page that is new is found here by itself; one whose path has parameters needs a line in `addresses`, and says so.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.machinery.clock import SystemClock
from headrace.machinery.component import Context
from headrace.machinery.settings import Ports, Settings
from headrace.platform import load_components

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.machinery.pages import Page

NAMESPACE = "kubeflow-user-example-com"


def registry() -> list[Page]:
    """What the components bring. They are built for nobody: no page of these is ever rendered."""
    found: list[Page] = []
    nobody: Any = None
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), ports=Ports(api=0, gateway=0, objectstore=0))
        settings.state.mkdir()
        for part in load_components():
            found += part.build(Context(part.name, settings, nobody, SystemClock(), nobody, nobody)).pages
    return found


def addresses(ask: Callable[[str], dict[str, Any]], run: str) -> dict[str, str]:
    """Every page's path and where it can be seen. `ask` reads from the gateway; `run` is the id of a run that made an
    artifact, its pipeline has been uploaded.
    """
    of = f"namespace={NAMESPACE}"
    runs = ask(f"/apis/v2beta1/runs?{of}&sort_by=created_at%20desc&page_size=3")["runs"]
    others = [each["run_id"] for each in runs if each["run_id"] != run][:2]
    pipeline = next(
        each["pipeline_id"]
        for scope in (of, "page_size=10")
        for each in ask(f"/apis/v2beta1/pipelines?{scope}").get("pipelines", [])
    )
    artifact = ask(f"/apis/v2beta1/artifacts?{of}&page_size=1")["artifacts"][0]["artifact_id"]
    given = {
        "/runs/{run}": f"/runs/{run}",
        "/compare": f"/compare?{'&'.join(f'run={each}' for each in (run, *others))}",
        "/pipelines/{id}": f"/pipelines/{pipeline}",
        "/pipelines/{id}/run": f"/pipelines/{pipeline}/run",
        "/artifacts/{id}": f"/artifacts/{artifact}",
        "/profiles/{profile}": f"/profiles/{NAMESPACE}",
    }
    paths = [page.path for page in registry()]
    unknown = [path for path in paths if "{" in path and path not in given]
    assert not unknown, f"say in {__file__} where {unknown} can be seen"
    return {path: given.get(path, path) for path in paths}
