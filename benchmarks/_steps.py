"""Pipelines under load: the longest chain, the widest loop, packages for the first step, and what a step costs."""

import contextlib
import io
import itertools
import json
import statistics
import time
import urllib.request

import psutil


class Pipelines:
    """Runs on the benchmark's platform."""

    def __init__(self, platform) -> None:
        self.client, self.token = platform.kfp_client(), platform.token()
        self.base = f"http://127.0.0.1:{platform.ports['gateway']}/apis/v2beta1"
        self.process = psutil.Process(int((platform.home / "run" / "lock").read_text()))

    def read(self, path: str) -> bytes:
        request = urllib.request.Request(self.base + path, headers={"authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def get(self, path: str) -> dict:
        return json.loads(self.read(path))

    def start(self, pipeline) -> str:
        with contextlib.redirect_stdout(io.StringIO()):
            return self.client.create_run_from_pipeline_func(pipeline, arguments={}, enable_caching=False).run_id

    def ended(self, run_id: str, every: float = 0.2) -> dict:
        while (run := self.get(f"/runs/{run_id}"))["state"] not in {"SUCCEEDED", "FAILED", "CANCELED"}:
            time.sleep(every)
        if run["state"] != "SUCCEEDED":
            raise SystemExit(f"a run ended as {run['state']}: {run.get('error')}")
        return run

    def outputs(self, run_id: str) -> list:
        tasks = self.get(f"/runs/{run_id}/tasks")["tasks"]
        return [p["value"] for t in tasks for p in t.get("outputs", {}).get("parameters", [])]

    @property
    def memory_mb(self) -> float:
        return self.process.memory_full_info().pss / 1e6

    @property
    def cpu_seconds(self) -> float:
        return sum(self.process.cpu_times()[:2])


def _chain(length: int):
    from kfp import dsl

    @dsl.component(base_image="python:3.11")
    def tick(times: list) -> list:
        import time

        return [*times, time.time()]

    @dsl.pipeline(name=f"chain-{length}")
    def steps():
        last = tick(times=[])
        for _ in range(length - 1):
            last = tick(times=last.output)

    return steps


def bench_chain(platform, row) -> None:
    """Start of one warm step to the start of the next, over 100."""
    runs = Pipelines(platform)
    runs.ended(runs.start(_chain(3)))
    before = runs.cpu_seconds
    run_id = runs.start(_chain(100))
    runs.ended(run_id)
    cpu = (runs.cpu_seconds - before) / 100
    times = max(runs.outputs(run_id), key=len)
    gaps = [(b - a) * 1000 for a, b in itertools.pairwise(times)]
    cuts = statistics.quantiles(gaps, n=100)
    row(
        "chain: start to next start",
        f"{statistics.median(gaps):.0f} ms",
        "kfp.local: see step",
        f"100 steps, p99 {cuts[98]:.0f} ms, control plane's CPU {cpu * 1000:.0f} ms a step; bars 30 and 120 ms",
    )


def bench_loop(platform, row, items: int = 1000) -> None:
    """A loop over a thousand trivial steps; meanwhile somebody asks for the run."""
    from kfp import dsl

    @dsl.component(base_image="python:3.11")
    def tick(n: int) -> int:
        return n

    @dsl.pipeline(name="loop")
    def loop():
        with dsl.ParallelFor(list(range(items))) as n:
            tick(n=n)

    runs = Pipelines(platform)
    runs.ended(runs.start(_chain(3)))
    memory, cpu, begin = runs.memory_mb, runs.cpu_seconds, time.perf_counter()
    run_id = runs.start(loop)
    answers, peak = [], memory
    while True:
        asked = time.perf_counter()
        answer = runs.read(f"/runs/{run_id}")
        answers.append((time.perf_counter() - asked) * 1000)
        state = json.loads(answer)["state"]
        peak = max(peak, runs.memory_mb)
        if state in {"SUCCEEDED", "FAILED", "CANCELED"}:
            break
        time.sleep(1)
    wall = time.perf_counter() - begin
    if state != "SUCCEEDED":
        raise SystemExit(f"the loop ended as {state}")
    row(
        f"loop: {items} trivial steps",
        f"{wall:.1f} s",
        "",
        f"control plane +{peak - memory:.0f} MB and {(runs.cpu_seconds - cpu) / items * 1000:.0f} ms CPU a step; run's "
        f"answer {statistics.median(answers):.0f} ms, worst {max(answers):.0f} ms; bars 25 s, 60 MB, 100 ms",
    )


def bench_packages(platform, row) -> None:
    """A step that needs scikit-learn and pandas: 20 at once when nothing is built, then one when all is warm."""
    from kfp import dsl

    @dsl.component(base_image="python:3.11", packages_to_install=["scikit-learn==1.7.2", "pandas==2.3.3"])
    def learn(began: float) -> float:
        import time

        import pandas as pd  # noqa: F401
        import sklearn.linear_model  # noqa: F401

        return time.time() - began

    @dsl.component(base_image="python:3.11")
    def now() -> float:
        import time

        return time.time()

    @dsl.pipeline(name="twenty")
    def twenty():
        with dsl.ParallelFor(list(range(20))) as _:
            learn(began=0.0)

    @dsl.pipeline(name="one")
    def one():
        learn(began=now().output)

    runs = Pipelines(platform)
    begin = time.perf_counter()
    runs.ended(runs.start(twenty))
    cold = time.perf_counter() - begin
    delays = []
    for _ in range(6):
        run_id = runs.start(one)
        runs.ended(run_id)
        delays.append(min(v for v in runs.outputs(run_id) if isinstance(v, float) and v < 1e6))
    row(
        "packages: to user code, warm",
        f"{statistics.median(delays[1:]) * 1000:.0f} ms",
        "",
        "end of a step before to scikit-learn and pandas imported; bar 150 ms",
    )
    row("packages: 20 steps, nothing built", f"{cold:.1f} s", "", "built once, whoever asks")
