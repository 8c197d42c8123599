"""The `headrace` command. Each subcommand lives in a module of its name and is imported when it is used."""

from __future__ import annotations

import importlib

import click

from headrace import __version__

_COMMANDS = {
    "up": "Start the platform.",
    "down": "Stop the platform and its pods.",
    "status": "Show what runs, where, and what it costs.",
    "dashboard": "Print a link that opens the dashboard.",
    "user": "Add, list and remove people; change a password.",
    "run": "Run a compiled pipeline.",
    "runs": "Show runs of pipelines; follow, retry or end one.",
    "quickstart": "Run the digits recognizer: train, serve, predict.",
    "doctor": "Check whether this machine can run the platform, and say what to do if not.",
    "logs": "Show the platform's log, or a pod's.",
    "image": "Build images of your own; list, inspect and remove them.",
    "env": "Show the environments of pods: what is in them, what they cost, who uses them.",
    "login": "Log in with a browser; kubectl acts as you.",
    "logout": "End a login.",
    "token": "Print a bearer token for the gateway.",
}


class _LazyGroup(click.Group):
    """Imports a subcommand's module only when that subcommand runs; `--help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"headrace.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"headrace.cli.{cmd_name}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  headrace quickstart            a model, trained and served, in a minute
  headrace up                    start in the foreground; Ctrl-C stops
  headrace up --detach           start in the background
  headrace dashboard --open      see everything that runs
  export KUBECONFIG=$(headrace status --kubeconfig); kubectl get pods -A
""",
)
@click.version_option(__version__, prog_name="headrace")
def main() -> None:
    """The Kubeflow platform on one machine: no Docker, no Kubernetes, no root."""
