"""What a hard day does to a platform: stopped in the middle of work, killed under a storm of writes, emptied."""

# No `from __future__ import annotations` here: kfp reads the annotations of components.
import contextlib
import json
import sqlite3
import subprocess
import threading
import time
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kfp
    from kfp import compiler, dsl

NAMESPACE = "kubeflow-user-example-com"
pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.timeout(240)]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: busybox, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


@dsl.component(base_image="python:3.11")
def step(n: int) -> int:
    import time

    print("began", flush=True)
    time.sleep(1.5)
    return n + 1


@dsl.component(base_image="python:3.11")
def table(made: dsl.Output[dsl.Dataset]) -> None:
    from pathlib import Path

    Path(made.path).write_text("a,b")


@dsl.pipeline(name="tables")
def tables() -> None:
    table()


@dsl.pipeline(name="interrupted")
def interrupted() -> int:
    first = step(n=0).set_caching_options(False)
    return step(n=first.output).set_caching_options(False).output


def client(platform, namespace: str = NAMESPACE) -> kfp.Client:
    token = platform.headrace("token", "--namespace", namespace).stdout.strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kfp.Client(host=platform.env["KFP_HOST"], existing_token=token, namespace=namespace)


def test_down_in_the_middle_of_a_run_costs_the_run_nothing_but_time(platform, tmp_path: Path) -> None:
    package = str(tmp_path / "pipeline.yaml")
    compiler.Compiler().compile(interrupted, package)
    pipelines = client(platform)
    run = pipelines.create_run_from_pipeline_package(package, experiment_name="robustness", enable_caching=False)
    selector = ("-n", NAMESPACE, "get", "pods", "-l", f"pipeline/runid={run.run_id}", "-o", "name")
    deadline = time.monotonic() + 60
    while "began" not in (
        platform.kubectl("-n", NAMESPACE, "logs", *(platform.kubectl(*selector).split()[:1] or ["none"]), check=False)
    ):
        assert time.monotonic() < deadline, platform.log_tail()
        time.sleep(0.05)
    platform.kubectl("config", "set-context", "--current", "--namespace", NAMESPACE)

    platform.headrace("down")
    platform.up()

    assert f"namespace: {NAMESPACE}" in platform.kubectl("config", "view", "--minify"), "up took the namespace away"
    platform.kubectl("config", "set-context", "--current", "--namespace", "default")  # other tests share the platform
    ended = client(platform).wait_for_run_completion(run.run_id, timeout=60, sleep_duration=0.2)
    assert ended.state == "SUCCEEDED", ended
    steps = [t for t in ended.run_details.task_details if t.display_name.startswith("step")]
    assert [t.state for t in steps] == ["SUCCEEDED"] * 2
    assert all([h.state for h in t.state_history].count("SUCCEEDED") == 1 for t in steps)


def test_what_was_acknowledged_under_a_storm_survives_a_kill(platform) -> None:
    acknowledged: list[str] = []

    def write(worker: int) -> None:
        for batch in range(1000):
            names = [f"storm-{worker}-{batch}-{i}" for i in range(20)]
            items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": n}} for n in names]
            made = subprocess.run(
                ["kubectl", "-n", NAMESPACE, "create", "-f", "-"],
                input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}),
                env=platform.env,
                capture_output=True,
                text=True,
                check=False,
            )
            acknowledged.extend(line.split()[0].removeprefix("configmap/") for line in made.stdout.splitlines())
            if made.returncode:
                return

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 120
    while len(acknowledged) <= 60 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(acknowledged) > 60, platform.log_tail()
    platform.kill()
    for writer in writers:
        writer.join()
    platform.up()
    kept = set(platform.kubectl("-n", NAMESPACE, "get", "configmaps", "-o", "name").split())
    assert [name for name in acknowledged if f"configmap/{name}" not in kept] == []


def test_a_namespace_goes_with_all_that_runs_in_it_and_nobody_complains(platform, tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(WEB)
    platform.kubectl("create", "namespace", "brief")
    platform.kubectl("-n", "brief", "apply", "-f", str(manifest))
    platform.kubectl("-n", "brief", "rollout", "status", "deployment/web", "--timeout=60s")
    log = platform.home / "logs" / "headrace.log"
    before = log.stat().st_size
    platform.kubectl("delete", "namespace", "brief", "--timeout=60s")
    said = log.read_bytes()[before:].decode()
    assert "terminated" not in said, said
    refused = platform.kubectl("delete", "namespace", "kubeflow", check=False)
    assert "may not be deleted" in refused


PROFILE = """
apiVersion: kubeflow.org/v1
kind: Profile
metadata: {name: leaver}
spec: {owner: {kind: User, name: leaver@example.com}}
"""


def left(platform, namespace: str) -> dict[str, int]:
    """What the stores and folders of the platform hold of a namespace, read from outside."""
    found = {}
    state = f"file:{platform.home}/state"
    with contextlib.closing(sqlite3.connect(f"{state}/pipelines.db?mode=ro", uri=True)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
            if "namespace" in columns:
                query = f"SELECT count(*) FROM {name} WHERE namespace = ?"
                found[name] = db.execute(query, (namespace,)).fetchone()[0]
    with contextlib.closing(sqlite3.connect(f"{state}/objectstore/index.db?mode=ro", uri=True)) as db:
        query = "SELECT count(*) FROM objects WHERE instr(key, ?)"
        found["objects"] = db.execute(query, (f"/{namespace}/".encode(),)).fetchone()[0]
    found["logs"] = len(list((platform.home / "logs" / "pods").glob(f"{namespace}_*")))
    for kind in ("secrets", "serviceaccounts", "rolebindings", "pods"):
        found[kind] = len(platform.kubectl("-n", namespace, "get", kind, "-o", "name", "--ignore-not-found").split())
    return {name: count for name, count in found.items() if count}


def test_a_profile_leaves_nothing_behind_though_the_platform_is_killed_meanwhile(platform, tmp_path: Path) -> None:
    manifest, package = tmp_path / "profile.yaml", str(tmp_path / "pipeline.yaml")
    manifest.write_text(PROFILE)
    platform.kubectl("apply", "-f", str(manifest))
    platform.kubectl("wait", "--for=create", "secret/mlpipeline-minio-artifact", "-n", "leaver", "--timeout=60s")
    compiler.Compiler().compile(tables, package)
    pipelines = client(platform, "leaver")
    run = pipelines.create_run_from_pipeline_package(package, experiment_name="last", enable_caching=False)
    assert pipelines.wait_for_run_completion(run.run_id, timeout=60, sleep_duration=0.2).state == "SUCCEEDED"
    before = left(platform, "leaver")
    assert {"runs", "experiments", "artifacts", "objects", "logs", "secrets", "rolebindings"} <= set(before), before
    pipelines.create_run_from_pipeline_package(package, experiment_name="last", enable_caching=False)  # as it ends

    platform.kubectl("delete", "profile", "leaver", "--wait=false")
    platform.kill()
    platform.up()
    platform.kubectl("wait", "--for=delete", "namespace/leaver", "--timeout=60s")
    assert left(platform, "leaver") == {}
