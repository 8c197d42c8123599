"""The dashboard as people feel it: when a page paints and answers, when a change is on screen, what a load weighs.

A page is *interactive* when its scripts have been run to their end (they set the mark `booted`) and the main thread
has then been free of tasks of 50 ms and more for 50 ms; times count from the navigation's start, the server's work
included. Every load has an empty cache. What happened is taken from before the request that made it happen.
"""

import asyncio
import contextlib
import functools
import io
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))

import browser
import pages
from _history import SPEC, ask, make_history
from _platform import NAMESPACE

LOADS, CHANGES, TASKS, QUIET = 7, 9, 1000, 50
WIDE = "00000000-0000-0000-0000-00000000a1de"
LAYERS = 20
SLOW = json.loads(json.dumps(SPEC).replace('["true"]', '["sleep", "60"]'))
WATCH = """
window.busy = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.busy.push([each.startTime, each.startTime + each.duration]);
}).observe({ type: "longtask", buffered: true });
"""
SETTLED = f"""(async () => {{
  const one = (name) => performance.getEntriesByName(name)[0]?.startTime;
  while (!one("first-contentful-paint") || !one("booted")) await new Promise((r) => setTimeout(r, 10));
  const paint = one("first-contentful-paint"), booted = one("booted");
  const [navigation] = performance.getEntriesByType("navigation");
  while (true) {{
    let free = Math.max(paint, booted);
    for (const [begin, end] of window.busy) if (begin < free + {QUIET} && end > free) free = end;
    if (performance.now() > free + 6 * {QUIET}) return [navigation.responseEnd, paint, free];
    await new Promise((r) => setTimeout(r, {QUIET}));
  }}
}})()"""
SEEN = """(() => {
  const wanted = () => %s;
  window.seen = new Promise((resolve) => {
    const look = () => {
      if (!wanted()) return;
      watcher.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(Date.now()), 0));
    };
    const watcher = new MutationObserver(look);
    watcher.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  });
})()"""


def bench_pages(platform, row) -> None:
    _prepare(platform)
    first = make_history(platform, _more)
    asyncio.run(_measure(platform, row, first))


async def _measure(platform, row, first: str) -> None:
    url, token = f"http://127.0.0.1:{platform.ports['gateway']}", platform.token()
    found = pages.addresses(lambda path: ask(platform, token, path), first)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with browser.browser(Path(folder)) as tab:
            await tab.look(width=1280)
            await tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
            await tab.open(platform.headrace("dashboard").strip())
            await tab.until("document.querySelector('.health') !== null")
            await tab.call("Network.clearBrowserCache")
            tab.bytes = 0
            await _open(tab, f"{url}/")
            row("pages: weight of the first load", f"{tab.bytes / 1000:.0f} KB", "", "as sent; bar 350 KB")
            wide = {
                f"a run of {TASKS:,} tasks{view and f', {view}'}": f"/runs/{WIDE}{view and f'?view={view}'}"
                for view in ("", "graph", "table")
            }
            for name, address in {**found, **wide}.items():
                await _page(tab, row, url, name, address, bar="1.5 s" if name in wide else "300 and 700 ms")
            await _changes(platform, tab, row, url, token)
            wrong = [each for each in tab.problems if "favicon.ico" not in each]  # what `/healthz` has none of
            assert not wrong, wrong


async def _page(tab, row, url: str, name: str, address: str, *, bar: str) -> None:
    times = []
    for _ in range(LOADS + 1):
        await tab.open(f"{url}/healthz")
        await tab.call("Network.clearBrowserCache")
        times.append(await _open(tab, url + address))
    cold = times.pop(0)  # the platform imports what the page needs
    answered, paint, free = (statistics.median(column) for column in zip(*times, strict=True))
    first = f"the first time {cold[1]:.0f} and {cold[2]:.0f} ms"
    row(f"pages: {name}", f"{free:.0f} ms", "", f"painted {paint:.0f}, answered {answered:.0f} ms; {first}; bar {bar}")


async def _changes(platform, tab, row, url: str, token: str) -> None:
    """Until what happened can be seen, on pages that are open."""
    import kubernetes

    kubernetes.config.load_kube_config()
    core = kubernetes.client.CoreV1Api()
    spec = {"schedulerName": "nobody", "containers": [{"name": "main", "image": "busybox"}]}
    core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "watched"}, "spec": spec})

    times = []
    await _open(tab, f"{url}/workloads")
    for i in range(CHANGES):
        phase = ("Running", "Failed")[i % 2]
        shown = f"[...document.querySelectorAll('#main tr')].some((r) => /^{phase}watched/.test(r.textContent))"
        act = functools.partial(core.patch_namespaced_pod_status, "watched", NAMESPACE, {"status": {"phase": phase}})
        times.append((await _timed(tab, shown, act))[0])
    _tell(row, "a pod's phase", times)
    times, started = [], []
    await _open(tab, f"{url}/runs")
    for i in range(CHANGES):
        shown = f"document.getElementById('main').textContent.includes('seen-{i}')"
        body = {"display_name": f"seen-{i}", "pipeline_spec": SLOW}
        took, made = await _timed(tab, shown, functools.partial(ask, platform, token, "/apis/v2beta1/runs", body))
        times.append(took)
        started.append(made["run_id"])
    _tell(row, "a new run", times)
    times = []
    for ident in started:
        path = f"/apis/v2beta1/runs/{ident}"
        while ask(platform, token, path)["state"] != "RUNNING":  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
        await _open(tab, f"{url}/runs/{ident}")
        act = functools.partial(ask, platform, token, f"{path}:terminate", {})
        times.append((await _timed(tab, "document.querySelector('.head .pill.warn') !== null", act))[0])
    _tell(row, "a run's state", times)


async def _open(tab, address: str) -> list[float]:
    """When the answer was there, when something was painted, when the page was interactive."""
    await tab.open(address)
    times = await tab.js(SETTLED)
    assert await tab.js("performance.getEntriesByType('navigation')[0].responseStatus") == 200, address
    return times


async def _timed(tab, shown: str, act) -> tuple:
    """Until the screen shows what the act has changed, in milliseconds, and what the act gave."""
    await tab.js(SEEN % shown)
    begin = time.time() * 1000
    given = await asyncio.to_thread(act)
    took = await tab.js("window.seen") - begin
    await asyncio.sleep(0.3)
    return took, given


def _tell(row, name: str, times: list[float]) -> None:
    worst = f"worst {max(times):.0f} ms of {len(times)}; bar 300 ms"
    row(f"pages: {name} is on screen", f"{statistics.median(times):.0f} ms", "", worst)


def _prepare(platform) -> None:
    """A pipeline is there, and the person may see every page."""
    import kubernetes

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(SPEC, file)
        file.flush()
        with contextlib.redirect_stdout(io.StringIO()):
            platform.kfp_client().upload_pipeline(file.name, "history", namespace=NAMESPACE)
    kubernetes.config.load_kube_config()
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "user@example.com"}
    binding = {"metadata": {"name": "bench"}, "roleRef": role, "subjects": [subject]}
    kubernetes.client.RbacAuthorizationV1Api().create_cluster_role_binding(binding)


def _more(database: sqlite3.Connection, first: str) -> None:
    """An artifact of the first run, and a run of a thousand tasks, one layer after the other."""
    run = _row(database, "runs", f"id = '{first}'")
    task = _row(database, "tasks", f"run_id = '{first}' AND type = 'RUNTIME'")
    root = _row(database, "tasks", f"run_id = '{first}' AND type = 'ROOT'")
    artifact = {
        "id": "made",
        "namespace": NAMESPACE,
        "type": "system.Metrics",
        "name": "figures",
        "metadata": '{"a": 1}',
    }
    _insert(database, "artifacts", artifact | {"run_id": first, "task_id": task["id"], "created_at": run["created_at"]})
    names = [f"task-{i:04}" for i in range(TASKS)]
    per = TASKS // LAYERS
    spec = json.loads(json.dumps(SPEC)) | {"pipelineInfo": {"name": "wide"}}
    spec["root"]["dag"]["tasks"] = {
        name: {
            "taskInfo": {"name": name},
            "componentRef": {"name": "comp-say"},
            **({"dependentTasks": [names[i - per]]} if i >= per else {}),
        }
        for i, name in enumerate(names)
    }
    _insert(database, "pipeline_specs", {"digest": "wide", "pipeline_spec": json.dumps(spec)})
    begin = run["created_at"] + 1_000_000
    _insert(
        database, "runs", run | {"id": WIDE, "display_name": "wide", "pipeline_name": "wide", "spec_digest": "wide"}
    )
    _insert(database, "tasks", root | {"id": "wide-root", "run_id": WIDE})
    for i, name in enumerate(names):
        at = begin + i // per * 2_000_000
        made = {
            "id": f"wide-{i}",
            "run_id": WIDE,
            "parent_id": "wide-root",
            "seq": i + 1,
            "path": f"root/{name}",
            "name": name,
        }
        times = {
            "display_name": name,
            "created_at": at,
            "started_at": at,
            "finished_at": at + 1_500_000 + i % 7 * 50_000,
        }
        _insert(database, "tasks", task | made | times)


def _row(database: sqlite3.Connection, table: str, where: str) -> dict:
    cursor = database.execute(f"SELECT * FROM {table} WHERE {where}")
    return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


def _insert(database: sqlite3.Connection, table: str, values: dict) -> None:
    marks = ",".join("?" * len(values))
    database.execute(f"INSERT INTO {table} ({','.join(values)}) VALUES ({marks})", tuple(values.values()))
