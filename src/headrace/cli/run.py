"""`headrace run`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.api import _wire
from headrace.cli.home import home_option, settings
from headrace.machinery.settings import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.machinery.settings import Settings


@click.command(
    epilog="""\b
Examples:
  headrace run pipeline.yaml --follow
  headrace run pipeline.yaml --param learning_rate=0.1 --param layers='[64, 32]' --follow
  headrace run pipeline.yaml --name nightly --experiment digits --no-cache
\b
Exit code with --follow: 0 the run succeeded, 1 it failed, 3 it was canceled.
"""
)
@home_option
@click.argument("package", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="An input; all but strings are JSON."
)
@click.option("--follow", "-f", is_flag=True, help="Print what the steps do until the run ends.")
@click.option("--name", default="", help="The run's name.  [default: the pipeline's]")
@click.option(
    "--experiment", default="", help="The experiment's name; it is made when there is none.  [default: Default]"
)
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True)
@click.option("--no-cache", is_flag=True, help="Run every step, also those whose outputs are cached.")
def command(
    home: Path | None,
    package: Path,
    params: tuple[str, ...],
    name: str,
    experiment: str,
    namespace: str,
    *,
    follow: bool,
    no_cache: bool,
) -> None:
    """Run a compiled pipeline: YAML or JSON, also in a zip or tar.gz."""
    from headrace.components.pipelines.api.packages import read_package
    from headrace.components.pipelines.types.rest import RpcError

    if package.suffix == ".py":
        command = f"kfp dsl compile --py {package} --output {package.with_suffix('.yaml')}"
        raise click.ClickException(f"{package} is a program: `{command}` compiles it; run what that writes")
    try:
        spec, parsed = read_package(package.read_bytes())
    except RpcError as error:
        raise click.ClickException(f"{package}: {error.message}") from error
    if no_cache:
        _uncached(spec.pipeline_spec)
    body = {
        "display_name": name or parsed.name,
        "pipeline_spec": spec.document,
        "runtime_config": {"parameters": values(params, parsed)},
    }
    try:
        sys.exit(asyncio.run(_run(settings(home), namespace, experiment, body, follow=follow)))
    except KeyboardInterrupt:
        click.echo("\nNo longer followed; the run goes on. `headrace runs` shows it.")
        sys.exit(130)


async def _run(chosen: Settings, namespace: str, experiment: str, body: dict[str, Any], *, follow: bool) -> int:
    from headrace.cli.pipelineruns import EXIT_CODES, open_runs

    async with open_runs(chosen, namespace) as api:
        if experiment:
            wanted = {"operation": "EQUALS", "key": "display_name", "string_value": experiment}
            query = {"namespace": namespace, "filter": _wire.encode({"predicates": [wanted]}).decode()}
            found = (await api.call("GET", "/experiments", **query)).get("experiments")
            made = {"display_name": experiment, "namespace": namespace}
            chosen_one = found[0] if found else await api.call("POST", "/experiments", made)
            body["experiment_id"] = chosen_one["experiment_id"]
        run = await api.call("POST", "/runs", body, namespace=namespace)
        click.echo(f"run {run['run_id']} ({run['display_name']})")
        if not follow:
            click.echo(f"  headrace runs {run['run_id'][:8]} --follow{chosen.home_option}   shows what it does")
            return 0
        return EXIT_CODES[await api.follow(run["run_id"])]


def values(params: tuple[str, ...], spec: PipelineSpec) -> dict[str, Any]:
    """Parameters by name, each read as its declared type. Raises UsageError."""
    declared = spec.root.input_definitions.parameters
    found: dict[str, Any] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise click.UsageError(f"--param {text!r}: give NAME=VALUE; the pipeline's parameters are: {known}")
        if declared[name].kind == "STRING":
            found[name] = value
            continue
        try:
            found[name] = _wire.decode_any(value)
        except _wire.DecodeError as error:
            kind = declared[name].kind
            raise click.UsageError(f"--param {name}: {value!r} is not JSON, which a {kind} needs: {error}") from error
    return found


def _uncached(spec: dict[str, Any]) -> None:
    """Switch caching off for every task, as kfp's enable_caching=False does."""
    components = [spec.get("root", {}), *spec.get("components", {}).values()]
    for component in components:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
