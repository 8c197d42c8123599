"""The launcher as pods run it: a process with a task document, a pipelines API and an object store."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headrace.images.kfp_launcher import outputs, placeholders
from headrace.images.kfp_launcher.launch import explain
from headrace.images.kfp_launcher.report import exchange, whole_name
from headrace.images.kfp_launcher.task import StepError, Task, make_parent, object_of, user_env

LAUNCHER = Path(__file__).parents[3] / "src" / "headrace" / "images" / "kfp_launcher"
SOURCE = """
import kfp
from kfp import dsl
from kfp.dsl import *
from typing import *

def work(text: str, count: int = 1) -> str:
    import os, sys
    print("out", text * count, flush=True)
    print("err", file=sys.stderr)
    print(sorted(n for n in os.environ if n.startswith("HEADRACE_")), os.environ["_KFP_RUNTIME"])
    print([m for m in sys.modules if "kfp_launcher" in m or "s3client" in m])
    if text == "raise":
        raise ValueError("bad tide")
    if text == "exit":
        os._exit(7)
    if text == "sysexit":
        sys.exit("words")
    if text == "kill":
        os.kill(os.getpid(), 9)
    if text == "late":
        import atexit, builtins, threading, time
        builtins.left_open = open("left", "w")
        builtins.left_open.write("what was written")
        atexit.register(print, "at exit")
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    return text.upper()
"""
RUNNER = (
    'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
    "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path "
    '"$program_path/ephemeral_component.py" "$@"\n'
)


@dataclass
class Api:
    """Takes reports; `answers` are the statuses of the first ones."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def api():
    found = Api()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = found.answers.pop(0) if found.answers else 200
            found.tokens.append(self.headers["authorization"] or "")
            found.paths.append(self.path)
            if status == 200:
                found.reports.append(body)
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def task(api: str = "http://api", **more: Any) -> dict[str, Any]:
    """A task document for `work`."""
    outs = {"parameters": {"Output": {"outputFile": "/tmp/kfp/outputs/Output"}}, "outputFile": "/minio/b/output.json"}
    return {
        "run_id": "r-1",
        "task_id": "t-1",
        "attempt": 0,
        "api": api,
        "command": ["sh", "-ec", RUNNER, SOURCE],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "work"],
        "executor_input": {"inputs": {"parameterValues": {"text": "x"}}, "outputs": outs},
        "defaults": {"count": 2},
        "output_types": {"Output": "STRING"},
        **more,
    }


@dataclass
class Result:
    code: int
    out: str
    err: str
    seconds: float


def launch(document: dict[str, Any], scratch: Path, **env: str) -> Result:
    began = time.monotonic()
    scratch.mkdir(exist_ok=True)
    found = subprocess.run(
        [sys.executable, str(LAUNCHER)],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "PYTHONWARNINGS": "ignore",
            "HEADRACE_TASK": json.dumps(document),
            "HEADRACE_SCRATCH": str(scratch),
            **env,
        },
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(found.returncode, found.stdout, found.stderr, time.monotonic() - began)


def plain(text: str) -> str:
    """Output without what differs between any two runs: times and temporary paths."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME", text)
    return re.sub(r"/\S*?/(literal|direct)\b", "SCRATCH", re.sub(r"tmp\.\w+", "tmp.X", text))


@pytest.mark.parametrize("text", ["x", "raise", "exit", "sysexit", "kill", "late"])
def test_a_component_runs_directly_as_its_command_line_would(api, tmp_path, text):
    inputs = {"inputs": {"parameterValues": {"text": text}}}
    document = task(api.url)
    document["executor_input"] |= inputs
    literal = launch(document, tmp_path / "literal")
    direct = launch({**document, "module": "kfp.dsl.executor_main"}, tmp_path / "direct")

    assert direct.code == literal.code == {"x": 0, "raise": 1, "exit": 7, "sysexit": 1, "kill": 137, "late": 0}[text]
    assert plain(direct.out) == plain(literal.out)
    assert f"out {text * 2}" in direct.out
    assert text in {"exit", "kill"} or "[] true\n[]\n" in direct.out  # those two lose what they had not flushed
    # The one difference: no line of the shell that said "Killed", no frames of runpy above the executor's.
    last = [line for line in literal.err.splitlines() if not line.startswith("Killed")][-1:]
    assert direct.err.splitlines()[-1:] == last
    assert "kfp_launcher" not in direct.err
    reports = [{k: v for k, v in r.items() if k not in {"error", "used", "started_at"}} for r in api.reports]
    assert reports[0] == reports[1]
    assert reports[1]["state"] == ("SUCCEEDED" if text in {"x", "late"} else "FAILED")
    said = {"raise": "code 1: ValueError: bad tide", "sysexit": "code 1: words", "exit": "code 7."}
    assert api.reports[1]["error"].endswith(said.get(text, ""))
    if text == "late":  # an end without taking the interpreter apart
        assert "thread\nat exit\n" in direct.out
        assert [(tmp_path / way / "left").read_text() for way in ("literal", "direct")] == ["what was written"] * 2


def test_the_report(api, tmp_path):
    before = time.time()
    (tmp_path / "token").write_text("my-token\n")
    launch(task(api.url, module="kfp.dsl.executor_main", token_file=str(tmp_path / "token")), tmp_path / "s")

    assert api.paths == ["/apis/v2beta1/runs/r-1/tasks/t-1:report"]
    assert api.tokens == ["Bearer my-token"]
    [report] = api.reports
    used, began = report.pop("used"), report.pop("started_at")
    assert report == {
        "attempt": 0,
        "state": "SUCCEEDED",
        "exit_code": 0,
        "error": "",
        "outputs": {"parameters": {"Output": "X"}, "artifacts": []},
    }
    assert before <= began <= time.time()
    assert used["cpu_seconds"] > 0
    assert used["peak_bytes"] > 1 << 20


def test_an_artifact_in_the_workspace_is_found_there_and_where_its_uri_says(api, tmp_path):
    scratch = tmp_path / "scratch"
    there = scratch / "kfp-workspace" / ".artifacts" / "minio" / "b" / "k"
    there.parent.mkdir(parents=True)
    there.write_text("brought by an importer\n")
    document = task(api.url)
    found = {"name": "a", "uri": "minio://b/k", "metadata": {"_kfp_workspace": True}}
    document["executor_input"]["inputs"]["artifacts"] = {"data": {"artifacts": [found]}}
    document["executor_input"]["outputs"]["parameters"] = {}
    placeholder = "{{$.inputs.artifacts['data'].path}}"
    document |= {"command": ["sh", "-c", 'echo "$0"; cat "$0" "$1"'], "args": [placeholder, f"{scratch}/minio/b/k"]}
    result = launch(document, scratch)

    assert result.out == f"{there}\n" + "brought by an importer\n" * 2, result.err
    assert api.reports[0]["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("netloc", "resolv", "whole"),
    [
        ("ml-pipeline.kubeflow:8888", "search a.svc.x.org svc.x.org x.org", "ml-pipeline.kubeflow.svc.x.org.:8888"),
        ("ml-pipeline.kubeflow", "search a.svc.x.org svc.x.org x.org", "ml-pipeline.kubeflow.svc.x.org."),
        ("ml-pipeline.kubeflow:8888", "nameserver 10.0.0.1", "ml-pipeline.kubeflow:8888"),
        ("127.0.0.1:8888", "search svc.x.org", "127.0.0.1:8888"),
        ("localhost:8888", "search svc.x.org", "localhost:8888"),
    ],
)
def test_a_service_is_asked_for_by_its_whole_name_where_there_is_one(tmp_path, netloc, resolv, whole):
    (tmp_path / "resolv.conf").write_text(resolv)
    assert whole_name(netloc, str(tmp_path / "resolv.conf")) == whole
    assert whole_name(netloc, str(tmp_path / "none")) == netloc


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"], ids=["it stands for the service", "no longer"])
def test_the_address_of_the_api_spares_a_question_as_long_as_it_is_right(api, tmp_path, address):
    named = api.url.replace("127.0.0.1", "localhost" if address == "127.0.0.2" else "no-such-name.invalid")
    launch(task(named, api_address=address, command=["true"], args=[], output_types={}, executor_input={}), tmp_path)

    assert [r["state"] for r in api.reports] == ["SUCCEEDED"]


@pytest.mark.parametrize(
    ("pieces", "result"),
    [
        ([b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 2\r\n\r\n"], (200, "")),
        ([b"HT", b"TP/1.0 204\r\n", b"\r\n"], (204, "")),
        ([b"HTTP/1.1 403 No\r\n\r\nbecause of", b" that"], (403, "because of that")),
        ([b"HTTP/1.1 503 Later\r\n\r\n"], (503, "")),
        ([b"HTTP/1.1 200 OK\r\n"], None),
        ([b"HTTP/1.1 OK\r\n\r\n"], None),
        ([b"SSH-2.0\r\n"], None),
        ([], None),
    ],
)
def test_answers_come_in_pieces_or_not_at_all(pieces, result):
    ours, theirs = socket.socketpair()
    with ours:
        for piece in pieces:
            theirs.sendall(piece)
        theirs.shutdown(socket.SHUT_WR)
        if result is None:
            with pytest.raises(ConnectionError):
                exchange(ours, "api", "/path", b"{}", "")
        else:
            assert exchange(ours, "api", "/path", b"{}", "secret") == result
        with theirs, theirs.makefile("rb") as sent:
            ours.shutdown(socket.SHUT_WR)
            lines = sent.read().split(b"\r\n")
    assert (lines[0], lines[-1]) == (b"POST /path HTTP/1.1", b"{}")
    assert (b"authorization: Bearer secret" in lines) == (result is not None)


def test_folders_are_made_as_far_as_they_are_missing(tmp_path):
    for path in ("a/b/c/file", "a/b/d/file", "a/file", "a/b/c/file"):
        make_parent(f"{tmp_path}/{path}")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["a", "a/b", "a/b/c", "a/b/d"]
    (tmp_path / "a" / "taken").touch()
    for path in ("a/taken/file", "a/taken/b/file"):
        with pytest.raises(OSError, match="taken"):
            make_parent(f"{tmp_path}/{path}")


def test_the_report_is_repeated_until_the_api_is_back(api, tmp_path):
    api.answers = [503, 500, 429]
    found = launch(task(api.url, command=["true"], args=[], output_types={}, executor_input={}), tmp_path / "s")

    assert (found.code, len(api.paths), len(api.reports)) == (0, 4, 1)


def test_a_report_that_is_refused_ends_the_step_badly(api, tmp_path):
    api.answers = [403]
    found = launch(task(api.url, command=["true"], args=[], output_types={}, executor_input={}), tmp_path / "s")

    assert (found.code, len(api.paths)) == (1, 1)
    assert "answered 403" in found.err


def command(api: Api, script: str, **more: Any) -> dict[str, Any]:
    return task(api.url, command=["sh", "-c", script], args=[], **more)


@pytest.mark.parametrize(
    ("script", "code", "error"),
    [
        ("exit 3", 3, "The step's program exited with code 3."),
        ("kill -9 $$", 137, "The step's program was ended by SIGKILL (often: out of memory)."),
        ("kill -TERM $$", 143, "The step's program was ended by SIGTERM."),
        ("true", 1, "Output parameter 'Output' (STRING) cannot be read from"),
    ],
)
def test_failures_are_reported_with_a_sentence(api, tmp_path, script, code, error):
    found = launch(command(api, script), tmp_path / "s")

    (report,) = api.reports
    assert (found.code, report["state"], report["exit_code"]) == (code, "FAILED", code)
    assert report["error"].startswith(error)


def test_a_program_that_does_not_exist(api, tmp_path):
    found = launch(task(api.url, command=["/no/such/program"], args=[]), tmp_path / "s")

    assert found.code == 127
    assert "The command '/no/such/program' cannot be run: No such file or directory." in found.err


def test_without_a_task(tmp_path):
    found = launch({}, tmp_path / "s", HEADRACE_TASK="{")

    assert found.code == 2
    assert "no usable task document" in found.err


def test_a_request_to_end_reaches_the_program(api, tmp_path):
    scratch = tmp_path / "s"
    scratch.mkdir()
    script = f"trap 'echo ended > {scratch}/ended; exit 5' TERM; echo up > {scratch}/up; while :; do sleep 0.02; done"
    env = {
        "PATH": os.environ["PATH"],
        "HEADRACE_TASK": json.dumps(command(api, script)),
        "HEADRACE_SCRATCH": str(scratch),
    }
    process = subprocess.Popen([sys.executable, str(LAUNCHER)], env=env, cwd=scratch)
    while not (scratch / "up").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 5
    assert (scratch / "ended").exists()


# Placeholders: launcher_v2.go getPlaceholders, driver/util.go resolveCondition

INPUT = {
    "inputs": {
        "parameterValues": {"s": 'say "hi"', "n": 3.0, "f": 2.5, "b": True, "l": [1, "a"], "d": {"k": None}, "z": None},
        "artifacts": {
            "data": {"artifacts": [{"name": "id", "uri": "minio://b/data", "metadata": {"rows": 5}}]},
            "none": {"artifacts": []},
        },
    },
    "outputs": {
        "parameters": {"out": {"outputFile": "/tmp/kfp/outputs/out"}},
        "artifacts": {"model": {"artifacts": [{"name": "model", "uri": "s3://b/model"}]}},
        "outputFile": "/minio/b/output.json",
    },
}


def filled(*words: str, **given: Any) -> list[str]:
    found = Task(task(command=list(words), args=[], executor_input=INPUT, defaults={}, **given))
    return placeholders.command_line(found, placeholders.with_defaults(found))


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("{{$.inputs.parameters['s']}}", 'say "hi"'),
        ("<{{$.inputs.parameters['n']}}|{{$.inputs.parameters['f']}}>", "<3|2.5>"),
        ("{{$.inputs.parameters['b']}}", "true"),
        ("{{$.inputs.parameters['l']}}", '[1,"a"]'),
        ("{{$.inputs.parameters['d']}}", '{"k":null}'),
        ("{{$.inputs.parameters['unknown']}}", "{{$.inputs.parameters['unknown']}}"),
        ("{{$.inputs.artifacts['data'].uri}}", "minio://b/data"),
        ("{{$.inputs.artifacts['data'].path}}", "/minio/b/data"),
        ("{{$.inputs.artifacts['data'].metadata['rows']}}", "5"),
        ("{{$.outputs.artifacts['model'].path}}", "/s3/b/model"),
        ("{{$.outputs.parameters['out'].output_file}}", "/tmp/kfp/outputs/out"),
        ("{{$.json_escape[1].inputs.parameters['s']}}", 'say \\"hi\\"'),
        ("no placeholder $HOME {{x}}", "no placeholder $HOME {{x}}"),
    ],
)
def test_placeholders(word, result):
    assert filled(word) == [result]


def test_the_whole_executor_input():
    (text,) = filled("{{$}}")

    assert json.loads(text)["inputs"]["parameterValues"]["s"] == 'say "hi"'


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        ({"Concat": ["a-", "{{$.inputs.parameters['n']}}", "-b"]}, ["a-3-b"]),
        ({"IfPresent": {"InputName": "s", "Then": ["--s", "{{$.inputs.parameters['s']}}"]}}, ["--s", 'say "hi"']),
        ({"IfPresent": {"InputName": "z", "Then": "x", "Else": "y"}}, ["y"]),
        ({"IfPresent": {"InputName": "unknown", "Then": "x"}}, []),
        ({"IfPresent": {"InputName": "data", "Then": "x"}}, ["x"]),
        ({"IfPresent": {"InputName": "none", "Then": "x", "Else": ["y", "z"]}}, ["y", "z"]),
        ({"Concat": ["<", {"IfPresent": {"InputName": "n", "Then": {"Concat": ["a", "b"]}}}, ">"]}, ["<ab>"]),
    ],
)
def test_structures(structure, words):
    assert filled("cmd", json.dumps(structure), "end") == ["cmd", *words, "end"]


def test_a_broken_structure():
    with pytest.raises(StepError, match="placeholder that is not JSON"):
        filled('{"Concat": [')


def test_a_value_is_never_looked_at_again():
    tricky = "{{$.inputs.parameters['s']}}"
    found = Task(
        task(
            command=["{{$.inputs.parameters['v']}}"],
            args=[],
            executor_input={"inputs": {"parameterValues": {"v": "{{$.inputs.parameters['w']}}", "w": tricky}}},
            defaults={},
        )
    )

    assert placeholders.command_line(found, placeholders.with_defaults(found)) == [tricky]


# Outputs: metadata/converter.go TextToPbValue


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (" x\n", "STRING", " x\n"),
        (" 5\n", "NUMBER_INTEGER", 5),
        ("2.5", "NUMBER_DOUBLE", 2.5),
        ("inf", "NUMBER_DOUBLE", "Infinity"),
        ("True", "BOOLEAN", True),
        ("0", "BOOLEAN", False),
        ("[1]", "LIST", [1]),
        ('{"a": NaN}', "STRUCT", {"a": "NaN"}),
        ("2.5", "NUMBER_INTEGER", ValueError),
        ("yes", "BOOLEAN", ValueError),
        ("{}", "LIST", ValueError),
        ("[", "LIST", ValueError),
    ],
)
def test_output_files_have_types(text, kind, value):
    if value is ValueError:
        with pytest.raises(ValueError):
            outputs.typed(text, kind)
    else:
        assert outputs.typed(text, kind) == value


def test_the_executor_output_wins_over_files_and_changes_artifacts(tmp_path):
    made = {
        "parameterValues": {"out": 5},
        "artifacts": {"model": {"artifacts": [{"uri": "s3://b/other", "metadata": {"x": 1}, "custom_path": "/here"}]}},
    }
    found = Task(task(executor_input=INPUT))

    assert outputs.parameters(found, made) == {"out": 5}
    (artifact,) = outputs.artifacts(found, made)
    assert (artifact["uri"], artifact["metadata"], found.path_of_artifact(artifact)) == (
        "s3://b/other",
        {"x": 1},
        "/here",
    )


def test_a_broken_metadata_file(tmp_path):
    path = tmp_path / "output.json"
    path.write_text("[]")
    with pytest.raises(StepError, match="must hold a JSON object"):
        outputs.read_executor_output(str(path))
    assert outputs.read_executor_output(str(tmp_path / "none")) == {}


def test_small_things():
    assert user_env({"HEADRACE_S3_SECRET_KEY": "s", "HOME": "/"}) == {"HOME": "/"}
    assert object_of("minio://b/a/k?region=x") == ("b", "a/k")
    with pytest.raises(StepError, match="use minio://BUCKET/KEY"):
        object_of("gs://b/k")
    assert explain(-99) == (227, "The step's program was ended by signal 99.")


REHEARSED = """
import gc, json, logging, os, sys, types, warnings
import kfp.dsl.executor_main, runpy, shutil
package = types.ModuleType("headrace")
package.__path__ = [sys.argv[1]]
sys.modules["headrace"] = package
import headrace.kfp_launcher.launch
from headrace.kfp_launcher.rehearsal import rehearse

def state():
    kfp = [(n, sorted((k, id(v)) for k, v in vars(m).items())) for n, m in sys.modules.items() if n[:3] == "kfp"]
    root = logging.root
    log = (list(root.handlers), root.level, [h() for h in logging._handlerList], len(warnings.filters))
    return kfp, log, list(sys.path), sorted(sys.path_importer_cache), sys.argv, sys.stdout, dict(os.environ), \\
        sys.modules["__main__"], sys.dont_write_bytecode, sorted(os.listdir("/proc/self/fd")), \
        sorted(os.listdir(os.environ["TMPDIR"]))

before = state()
print(rehearse(), state() == before, "ephemeral_component" in sys.modules)
found = [o for o in gc.get_objects() if isinstance(o, types.ModuleType) and o.__name__ == "ephemeral_component"]
print(found)
sys.stdout.flush()
headrace.kfp_launcher.launch.main(sys.argv[2:])
"""


def test_a_rehearsal_leaves_nothing_behind(api, tmp_path):
    scratch, document = tmp_path / "direct", tmp_path / "task.json"
    scratch.mkdir()
    document.write_text(json.dumps(task(api.url, module="kfp.dsl.executor_main")))
    cold = launch(json.loads(document.read_text()), scratch)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REHEARSED, str(LAUNCHER.parent), str(document)],
        env={
            "PATH": os.environ["PATH"],
            "TMPDIR": str(scratch),
            "HEADRACE_SCRATCH": str(scratch),
            "_KFP_RUNTIME": "true",
        },
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    first, second, rest = found.stdout.split("\n", 2)
    assert (first, second) == ("True True False", "[]"), found.stderr
    assert plain(rest) == plain(cold.out)
    assert [report["state"] for report in api.reports] == ["SUCCEEDED", "SUCCEEDED"]
