"""Print every figure, with its peer beside it: see README.md in this folder."""

import contextlib
import io
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import itertools

import _load
from _platform import NAMESPACE, BenchPlatform

warnings.filterwarnings("ignore")


def row(name: str, value: str, peer: str = "", note: str = "") -> None:
    print(f"{name:<34} {value:>14}   {peer:<34} {note}", flush=True)


def bench_start(platform: BenchPlatform) -> None:
    walls, inner = [], []
    for _ in range(5):
        platform.down()
        begin = time.perf_counter()
        platform.up()
        walls.append(time.perf_counter() - begin)
        inner.append(platform.status()["start_seconds"])
    row("start: command to ready", f"{statistics.median(walls):.2f} s", "", "warm, median of 5; bar 3 s")
    row("start: inside the process", f"{statistics.median(inner):.2f} s")


def bench_memory(platform: BenchPlatform) -> None:
    time.sleep(10)
    facts = platform.status()
    groups = ", ".join(f"{k} {v:.0f}" for k, v in facts["memory_by_group_mb"].items())
    row("memory: idle, all processes", f"{facts['memory_mb']:.0f} MB", "", f"{groups}; bar 250 MB")


def chain(length: int, image: str):
    from kfp import dsl

    @dsl.component(base_image=image)
    def tick(times: list) -> list:
        import json
        import time

        times = [*times, time.time()]
        print("TIMES " + json.dumps(times))
        return times

    @dsl.pipeline(name=f"chain-{length}")
    def steps():
        last = tick(times=[])
        for _ in range(length - 1):
            last = tick(times=last.output).set_caching_options(False)

    return steps


def gaps(times: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(times)]


def run_chain(platform: BenchPlatform, length: int) -> list[float]:
    import json

    import kubernetes

    client = platform.kfp_client()
    with contextlib.redirect_stdout(io.StringIO()):
        submitted = client.create_run_from_pipeline_func(
            chain(length, "python:3.11"), arguments={}, namespace=NAMESPACE, enable_caching=False
        )
    while (run := client.get_run(submitted.run_id)).state not in {"SUCCEEDED", "FAILED", "CANCELED"}:
        time.sleep(0.2)
    if run.state != "SUCCEEDED":
        raise SystemExit(f"the chain ended as {run.state}: {run.error}")
    kubernetes.config.load_kube_config()
    core = kubernetes.client.CoreV1Api()
    longest: list[float] = []
    for pod in core.list_namespaced_pod(NAMESPACE, label_selector=f"pipeline/runid={submitted.run_id}").items:
        for line in core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE).splitlines():
            if line.startswith("TIMES "):
                times = json.loads(line.removeprefix("TIMES "))
                longest = max(longest, times, key=len)
    if len(longest) != length:
        raise SystemExit(f"expected {length} steps in the logs, found {len(longest)}")
    return gaps(longest)


def run_local(length: int, *, use_venv: bool) -> list[float]:
    import json
    import os
    import re
    import subprocess
    import tempfile

    script = Path(__file__).with_name("_kfp_local.py")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(script), str(length), str(int(use_venv))],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
    found = [json.loads(m) for m in re.findall(r"TIMES (\[[^\]]*\])", done.stdout + done.stderr)]
    longest = max(found, key=len, default=[])
    if len(longest) != length:
        raise SystemExit(f"kfp.local did not finish:\n{(done.stdout + done.stderr)[-2000:]}")
    return gaps(longest)


def bench_step(platform: BenchPlatform) -> None:
    run_chain(platform, 3)  # builds the environment
    ours = run_chain(platform, 20)
    middle = statistics.median(ours)
    default = statistics.median(run_local(4, use_venv=True))
    bare = statistics.median(run_local(6, use_venv=False))
    row(
        "step: start to next start",
        f"{middle * 1000:.0f} ms",
        f"kfp.local {default * 1000:.0f} ms ({default / middle:.0f} x)",
        f"20-step chain, worst {max(ours) * 1000:.0f} ms; bar 100 ms and 5 x",
    )
    row("", "", f"without a venv {bare * 1000:.0f} ms ({bare / middle:.0f} x)")


def bench_pod(platform: BenchPlatform) -> None:
    import subprocess

    import kubernetes

    platform.status()
    kubernetes.config.load_kube_config()
    core = kubernetes.client.CoreV1Api()
    walls = []
    for i in range(20):
        name = f"bench-{i}"
        spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["true"]}]}
        watch = kubernetes.watch.Watch()
        begin = time.perf_counter()
        core.create_namespaced_pod("default", {"metadata": {"name": name}, "spec": spec})
        for event in watch.stream(core.list_namespaced_pod, "default", field_selector=f"metadata.name={name}"):
            if event["object"].status.phase in {"Succeeded", "Failed"}:
                break
        walls.append(time.perf_counter() - begin)
        watch.stop()
        core.delete_namespaced_pod(name, "default", grace_period_seconds=0)
    plain = []
    for _ in range(50):
        begin = time.perf_counter()
        subprocess.run(["true"], check=True)
        plain.append(time.perf_counter() - begin)
    row(
        "pod: create to Succeeded",
        f"{statistics.median(walls) * 1000:.0f} ms",
        f"plain process {statistics.median(plain) * 1000:.1f} ms",
        "through the Kubernetes API and its Python client, median of 20",
    )


def bench_store(platform: BenchPlatform) -> None:
    import kubernetes

    platform.status()
    kubernetes.config.load_kube_config()
    core = kubernetes.client.CoreV1Api()
    creates, reads = [], []
    for i in range(200):
        begin = time.perf_counter()
        core.create_namespaced_config_map("default", {"metadata": {"name": f"bench-{i}"}, "data": {"x": "y" * 1000}})
        creates.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        core.read_namespaced_config_map(f"bench-{i}", "default")
        reads.append(time.perf_counter() - begin)
    row("store: one create, on disk", f"{statistics.median(creates) * 1000:.2f} ms", "", "one client, one in flight")
    row("store: one read", f"{statistics.median(reads) * 1000:.2f} ms", "", "the client's own cost included")


BENCHES = {
    "start": bench_start,
    "memory": bench_memory,
    "step": bench_step,
    "pod": bench_pod,
    "store": bench_store,
}


def main() -> None:
    import _api
    import _pods
    import _steps
    from _history import bench_history
    from _pages import bench_pages
    from _serve import bench_serve

    benches = {
        **BENCHES,
        "chain": lambda platform: _steps.bench_chain(platform, row),
        "loop": lambda platform: _steps.bench_loop(platform, row),
        "packages": lambda platform: _steps.bench_packages(platform, row),
        "get": lambda platform: _api.bench_get(platform, row),
        "create": lambda platform: _api.bench_create(platform, row),
        "change": lambda platform: _api.bench_change(platform, row),
        "list": lambda platform: _api.bench_list(platform, row),
        "watch": lambda platform: _api.bench_watch(platform, row),
        "objects": lambda platform: _api.bench_objects(platform, row),
        "running": lambda platform: _pods.bench_running(platform, row),
        "pods": lambda platform: _pods.bench_many(platform, row),
        "idle": lambda platform: _pods.bench_idle(platform, row),
        "history": lambda platform: bench_history(platform, row),
        "pages": lambda platform: bench_pages(platform, row),
        "serve": lambda platform: bench_serve(platform, row, _load),
    }
    wanted = sys.argv[1:] or list(benches)
    unknown = [name for name in wanted if name not in benches]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(benches)}")
    platform = BenchPlatform()
    try:
        platform.up()
        for name in wanted:
            benches[name](platform)
    finally:
        platform.close()


if __name__ == "__main__":
    main()
