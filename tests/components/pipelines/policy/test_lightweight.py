"""Which command lines are lightweight components: those that kfp writes, and nothing that only resembles them."""

from __future__ import annotations

import pytest

from headrace.components.pipelines.policy.lightweight import recognise

RUN = """program_path=$(mktemp -d)

printf "%s" "$0" > "$program_path/ephemeral_component.py"
_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path                         "$program_path/ephemeral_component.py"                         "$@"
"""  # noqa: E501 - as kfp writes it
ENSURE = """
if ! [ -x "$(command -v pip)" ]; then
    python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip
fi

"""
KFP = (
    "PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location "
    """'kfp==2.14.3' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<"3.9"'"""
)
CONTINUE = ' && "$0" "$@"\n'
VENV = """
export PIP_DISABLE_PIP_VERSION_CHECK=1

tmp=$(mktemp -d)
python3 -m venv "$tmp/venv" --system-site-packages
. "$tmp/venv/bin/activate"
"""
SOURCE = "\nimport kfp\n\ndef f(): print('$(x) && rm -rf /')\n"
ARGS = ["--executor_input", "{{$}}", "--function_to_execute", "f"]


def command(installer: str | None = ENSURE + KFP + CONTINUE, run: str = RUN) -> list[str]:
    return [*(["sh", "-c", installer] if installer is not None else []), "sh", "-ec", run, SOURCE]


def test_the_usual_one():
    found = recognise(command(), ARGS)

    assert found is not None
    assert (found.module, found.source, found.arguments) == ("kfp.dsl.executor_main", SOURCE, ARGS)
    assert found.requirements == ["kfp==2.14.3 --no-deps"]
    assert not found.isolated


@pytest.mark.parametrize(
    ("installer", "requirements"),
    [
        (None, []),
        (KFP + CONTINUE, ["kfp==2.14.3 --no-deps"]),
        (
            f"{ENSURE}{KFP} && python3 -m pip install --quiet 'pandas==2.2.0' 'a>1,<2'{CONTINUE}",
            ["kfp==2.14.3 --no-deps", "pandas==2.2.0", "a>1,<2"],
        ),
        (
            f"{KFP} && python3 -m pip install --index-url https://x/simple --trusted-host x --pre 'yapf'{CONTINUE}",
            ["kfp==2.14.3 --no-deps", "--index-url https://x/simple", "--trusted-host x", "--pre", "yapf"],
        ),
        (f"{VENV}{KFP}{CONTINUE}", ["kfp==2.14.3 --no-deps"]),
        (
            f"python3 -m pip install 'git+https://host/x.git#subdirectory=y'{CONTINUE}",
            ["git+https://host/x.git#subdirectory=y"],
        ),
    ],
)
def test_installers(installer, requirements):
    found = recognise(command(installer), ARGS)

    assert found is not None
    assert found.requirements == requirements
    assert found.isolated is (installer is not None and installer.startswith(VENV))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["python3", "main.py"],
        ["sh", "-c", "echo hi"],
        ["sh", "-ec", RUN],
        command(run=RUN + "echo done\n"),
        command(run="set -x\n" + RUN),
        command(run=RUN.replace("kfp.dsl.executor_main", "other.main")),
        command(f"{ENSURE}{KFP} && rm -rf /{CONTINUE}"),
        command(f"{ENSURE}{KFP}; echo hi{CONTINUE}"),
        command(f"{ENSURE}{KFP} && python3 -m pip install -r requirements.txt{CONTINUE}"),
        command(f"{ENSURE}{KFP} && python3 -m pip install --target /x y{CONTINUE}"),
        command(f"{ENSURE}{KFP} && python3 -m pip install ./local{CONTINUE}"),
        command(f"{ENSURE}{KFP} && python3 -m pip install $(cat list){CONTINUE}"),
        command(f'{ENSURE}{KFP} && python3 -m pip install "$PACKAGE"{CONTINUE}'),
        command(f"{ENSURE}{KFP} && python3 -m pip install a > log{CONTINUE}"),
        command(f"{ENSURE}{CONTINUE.removeprefix(' && ')}"),
        command(f"{ENSURE}{KFP}"),
        ["python3", *command()[1:]],
    ],
)
def test_what_runs_literally(words):
    assert recognise(words, ARGS) is None


@pytest.mark.timeout(5)
def test_a_hostile_installer_costs_no_time():
    assert recognise(command(f"{KFP} && python3 -m pip install {'a' * 50_000} ;{CONTINUE}"), ARGS) is None
    assert recognise(command(f"{KFP} && python3 -m pip install {'a ' * 50_000};{CONTINUE}"), ARGS) is None
