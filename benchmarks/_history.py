"""Lists of runs with a long history, filtered and sorted, through the gateway."""

import json
import sqlite3
import statistics
import time
import urllib.parse
import urllib.request

from _platform import NAMESPACE

RUNS = 10_000
REPEATS = 15
SPEC = {
    "pipelineInfo": {"name": "history"},
    "root": {"dag": {"tasks": {"say": {"componentRef": {"name": "comp-say"}}}}},
    "components": {"comp-say": {"executorLabel": "exec-say"}},
    "deploymentSpec": {"executors": {"exec-say": {"container": {"image": "python:3.11-slim", "command": ["true"]}}}},
}


def ask(platform, token: str, path: str, body: dict | None = None) -> dict:
    """One request of the pipelines API, through the gateway."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{platform.ports['gateway']}{path}", data, headers)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"{}")


def make_history(platform, also=None) -> str:
    """The id of a run that is then there ten thousand times; `also(database, id)` may write more."""
    token = platform.token()
    first = ask(platform, token, "/apis/v2beta1/runs", {"display_name": "first", "pipeline_spec": SPEC})["run_id"]
    while ask(platform, token, f"/apis/v2beta1/runs/{first}")["state"] not in {"SUCCEEDED", "FAILED"}:
        time.sleep(0.1)
    platform.down()
    with sqlite3.connect(platform.home / "state" / "pipelines.db") as database:
        _copy(database, first)
        if also is not None:
            also(database, first)
    platform.up()
    return first


def bench_history(platform, row) -> None:
    make_history(platform)
    token = platform.token()

    def filtered(*predicates: dict) -> str:
        return "&filter=" + urllib.parse.quote(json.dumps({"predicates": list(predicates)}))

    newest = "sort_by=created_at%20desc&page_size=20"
    state = {"operation": "EQUALS", "key": "state", "stringValue": "FAILED"}
    name = {"operation": 9, "key": "display_name", "stringValue": "run 77"}
    shown = {"op": 1, "key": "storage_state", "stringValue": "STORAGESTATE_AVAILABLE"}
    since = {"operation": "GREATER_THAN", "key": "created_at", "timestampValue": "2026-01-01T01:00:00Z"}
    page = ask(platform, token, f"/apis/v2beta1/runs?{newest}")["next_page_token"]
    for label, path in {
        "the newest": f"/v2beta1/runs?{newest}",
        "the next page": f"/v2beta1/runs?{newest}&page_token={urllib.parse.quote(page)}",
        "by name": "/v2beta1/runs?sort_by=display_name&page_size=20",
        "by end": "/v2beta1/runs?sort_by=finished_at%20desc&page_size=20",
        "by a metric": "/v2beta1/runs?sort_by=metric:accuracy%20desc&page_size=20",
        "state is FAILED": f"/v2beta1/runs?{newest}{filtered(state)}",
        "name holds a text": f"/v2beta1/runs?{newest}{filtered(name)}",
        "two conditions": f"/v2beta1/runs?{newest}{filtered(state, since)}",
        "v1beta1, not archived": f"/v1beta1/runs?{newest}{filtered(shown)}",
    }.items():
        times = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            assert ask(platform, token, f"/apis{path}").get("runs"), label
            times.append(time.perf_counter() - begin)
        row(f"history: {label}", f"{statistics.median(times) * 1000:.1f} ms", "", f"{RUNS:,} runs; bar 50 ms")


def _copy(database: sqlite3.Connection, first: str) -> None:
    """The first run, ten thousand times: with a name, a state, a time and a metric of its own."""
    names = [found[1] for found in database.execute("PRAGMA table_info(runs)")]
    (given,) = database.execute("SELECT * FROM runs WHERE id = ?", (first,))
    begin = 1_767_225_600_000_000  # 2026-01-01
    rows, metrics = [], []
    for i in range(RUNS):
        made = dict(zip(names, given, strict=True)) | {
            "id": f"{first[:24]}{i:012}",
            "display_name": f"run {i}",
            "state": ("SUCCEEDED", "FAILED", "CANCELED")[i % 3],
            "storage_state": "ARCHIVED" if i % 5 == 0 else "AVAILABLE",
            "created_at": begin + i * 1_000_000,
            "finished_at": begin + i * 1_000_000 + 500_000,
        }
        rows.append(tuple(made[name] for name in names))
        metrics.append((made["id"], "node", "accuracy", (i * 7919 % RUNS) / RUNS, ""))
    database.executemany(f"INSERT INTO runs VALUES ({','.join('?' * len(names))})", rows)
    database.executemany("INSERT INTO run_metrics VALUES (?,?,?,?,?)", metrics)
    (namespaces,) = database.execute("SELECT count(*) FROM runs WHERE namespace = ?", (NAMESPACE,))
    assert namespaces[0] > RUNS
