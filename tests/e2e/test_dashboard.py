"""The dashboard in a real Chromium, on what the digits example made: every page, light and dark, wide and narrow."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import urllib.request
from pathlib import Path

import pytest

NAMESPACE = "kubeflow-user-example-com"
LOOKS = [(1280, False), (1280, True), (800, False), (800, True)]
FAILING = {
    "pipelineInfo": {"name": "fails"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {"dag": {"tasks": {"break": {"taskInfo": {"name": "break"}, "componentRef": {"name": "comp-break"}}}}},
    "components": {"comp-break": {"executorLabel": "exec-break"}},
    "deploymentSpec": {
        "executors": {
            "exec-break": {
                "container": {
                    "image": "python:3.11",
                    "command": ["python3", "-c"],
                    "args": [
                        "import time; print('one line <b>of</b> log', flush=True); time.sleep(1.5); raise SystemExit(3)"
                    ],
                }
            }
        }
    },
}

_spec = importlib.util.spec_from_file_location("headrace_e2e_browser", Path(__file__).with_name("browser.py"))
chromium = sys.modules["headrace_e2e_browser"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chromium)

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(
        chromium.executable() is None, reason="there is no Chromium on this machine (set CHROMIUM to one)"
    ),
]


@pytest.fixture(scope="module")
def digits(platform) -> str:
    """The id of the example's run."""
    done = platform.example("01-digits")
    text, _ = done.communicate(timeout=240)
    assert done.returncode == 0, text + platform.log_tail()
    runs = api(platform, f"/apis/v2beta1/runs?namespace={NAMESPACE}&sort_by=created_at%20desc")["runs"]
    return next(
        run["run_id"] for run in runs if run["state"] == "SUCCEEDED" and run["display_name"].startswith("digits")
    )


def api(platform, path: str, body: object = None) -> dict:
    token = platform.headrace("token").stdout.strip()
    request = urllib.request.Request(
        platform.env["INGRESS"] + path,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


async def log_in(tab, platform) -> str:
    url = platform.env["INGRESS"]
    await tab.open(f"{url}/")
    await tab.until("document.querySelector('#password') !== null")
    assert await tab.js("location.pathname") == "/dex/auth/local/login"
    await tab.js(
        "document.querySelector('#login').value = 'user@example.com';"
        "document.querySelector('#password').value = '12341234'; document.querySelector('button').click()"
    )
    tab.bytes = 0
    await tab.until("document.querySelector('.health') !== null")
    assert await tab.js("location.pathname + location.search") == "/"
    assert (await tab.js("document.cookie")).partition("=")[0] == "XSRF-TOKEN", "the session is not for scripts"
    return url


async def test_a_link_of_the_command_line_logs_in(platform, tmp_path):
    async with chromium.browser(tmp_path) as tab:
        await tab.open(platform.headrace("dashboard").stdout.strip())
        await tab.until("document.querySelector('.health') !== null")
        assert await tab.js("location.pathname + location.search") == "/"


async def test_every_page_on_real_data_in_every_look(platform, digits, tmp_path):
    pages = {
        "home": ("/", "Served models"),
        "runs": ("/runs", "digits-recognizer"),
        "run": (f"/runs/{digits}", "Confusion matrix"),
        "run-table": (f"/runs/{digits}?view=table", "check-and-split"),
        "run-values": (f"/runs/{digits}?tab=values", "minio://"),
        "models": ("/models", "Ask it"),
        "workloads": ("/workloads", "digits-predictor"),
    }
    async with chromium.browser(tmp_path) as tab:
        url = await log_in(tab, platform)
        assert tab.bytes <= 350_000
        for width, dark in LOOKS:
            await tab.look(width=width, dark=dark)
            for name, (path, words) in pages.items():
                await tab.open(url + path)
                await tab.until(f"document.body.innerText.includes({json.dumps(words)})")
                wide = "document.documentElement.scrollWidth <= window.innerWidth"
                assert await tab.js(wide), f"{name} scrolls sideways at {width}"
                picture = tmp_path / f"{name}-{width}-{'dark' if dark else 'light'}.png"
                await tab.screenshot(picture)
                assert picture.stat().st_size > 10_000
                assert tab.problems == [], name
        outside = [request for request in tab.requests if not request.startswith((url, "data:", "about:", "chrome"))]
        assert outside == []


async def test_links_that_sdks_print_lead_to_their_pages(platform, digits, tmp_path):
    experiment = api(platform, f"/apis/v2beta1/runs/{digits}")["experiment_id"]
    cases = {
        f"/#/runs/details/{digits}": f"/runs/{digits}",
        f"/pipeline/#/runs/details/{digits}": f"/runs/{digits}",
        f"/_/pipeline/?ns={NAMESPACE}#/runs/details/{digits}": f"/runs/{digits}?ns={NAMESPACE}",
        f"/#/experiments/details/{experiment}": f"/runs?experiment={experiment}",
        "/pipeline/#/runs": "/runs",
    }
    async with chromium.browser(tmp_path) as tab:
        url = await log_in(tab, platform)
        for link, page in cases.items():
            await tab.open("about:blank")
            await tab.open(url + link)
            await tab.until(f"location.pathname + location.search === {json.dumps(page)}")
            await tab.until("document.body.innerText.includes('digits')")
        assert tab.problems == []


async def test_a_run_is_followed_live_and_its_log_stays(platform, tmp_path):
    async with chromium.browser(tmp_path) as tab:
        url = await log_in(tab, platform)
        await tab.open(f"{url}/runs")
        run = api(platform, "/apis/v2beta1/runs", {"display_name": "seen live", "pipeline_spec": FAILING})["run_id"]
        await tab.until("document.body.innerText.includes('seen live')")  # nobody reloaded
        await tab.js("[...document.querySelectorAll('a')].find((a) => a.textContent === 'seen live').click()")
        await tab.until(f"location.pathname === '/runs/{run}'")
        await tab.until("document.querySelector('.pill.run') !== null")
        await tab.screenshot(tmp_path / "running.png")
        await tab.until("document.body.innerText.includes('Why it failed')", 30)
        await tab.js("[...document.querySelectorAll('.tabs a')].find((a) => a.textContent === 'Log').click()")
        await tab.until("document.querySelector('[data-log]')?.innerText.includes('one line <b>of</b> log')")
        await tab.screenshot(tmp_path / "log.png")
        platform.kubectl("-n", NAMESPACE, "delete", "pods", "-l", f"pipeline/runid={run}")
        await tab.open(f"{url}/runs/{run}?tab=log")
        await tab.until("document.querySelector('[data-log]')?.innerText.includes('one line <b>of</b> log')")
        assert tab.problems == []


async def test_keys_and_the_address_hold_the_state(platform, digits, tmp_path):
    async with chromium.browser(tmp_path) as tab:
        url = await log_in(tab, platform)
        await tab.open(f"{url}/runs/{digits}")
        await tab.until("document.querySelector('.g.sel') !== null")
        await tab.key("j")
        await tab.until("new URLSearchParams(location.search).has('task')")
        chosen = await tab.js("document.querySelector('.g.sel').id.slice(2)")
        assert await tab.js("new URLSearchParams(location.search).get('task')") == chosen
        await tab.open(await tab.js("location.href"))
        assert await tab.js("document.querySelector('.g.sel').id.slice(2)") == chosen
        await tab.open(f"{url}/runs")
        await tab.key("/")
        assert await tab.js("document.activeElement.name") == "q"
        await tab.js("document.activeElement.value = 'nothing-like-it'")
        await tab.js("document.activeElement.dispatchEvent(new Event('input', {bubbles: true}))")
        await tab.until("document.body.innerText.includes('No run matches')")
        assert await tab.js("location.search") == "?q=nothing-like-it"
        await tab.js("document.activeElement.blur()")
        await tab.key("t")
        await asyncio.sleep(0)
        assert await tab.js("document.documentElement.dataset.theme") in {"light", "dark"}
        assert tab.problems == []


ADJUSTABLE = {
    **FAILING,
    "pipelineInfo": {"name": "adjustable"},
    "root": {
        "inputDefinitions": {"parameters": {"code": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3}}},
        "dag": {
            "tasks": {
                "leave": {
                    "taskInfo": {"name": "leave"},
                    "componentRef": {"name": "comp-leave"},
                    "inputs": {"parameters": {"code": {"componentInputParameter": "code"}}},
                }
            }
        },
    },
    "components": {
        "comp-leave": {
            "executorLabel": "exec-leave",
            "inputDefinitions": {"parameters": {"code": {"parameterType": "NUMBER_INTEGER"}}},
        }
    },
    "deploymentSpec": {
        "executors": {
            "exec-leave": {
                "container": {
                    "image": "python:3.11",
                    "command": ["python3", "-c", "import sys; raise SystemExit(int(sys.argv[1]))"],
                    "args": ["{{$.inputs.parameters['code']}}"],
                }
            }
        }
    },
}


async def test_somebody_who_has_only_a_browser(platform, tmp_path):
    """Upload a pipeline, look at it, save and run it, see why it failed, change a parameter, run it again."""
    document = json.dumps(json.dumps(ADJUSTABLE))
    async with chromium.browser(tmp_path) as tab:
        url = await log_in(tab, platform)
        await tab.open(f"{url}/pipelines/new")
        await tab.until("document.querySelector('input[type=file]') !== null")
        await tab.js(
            f"const given = new DataTransfer(); given.items.add(new File([{document}], 'adjustable.json'));"
            "document.querySelector('input[type=file]').files = given.files;"
            "document.querySelector('button[value=look]').click()"
        )
        await tab.until("document.querySelector('.dag')?.textContent.includes('leave')")
        await tab.js("document.querySelector('button[value=save]').click()")
        await tab.until(
            "/^.pipelines.[0-9a-f-]{36}$/.test(location.pathname) && document.querySelector('.dag') !== null"
        )
        start = "[...document.querySelectorAll('.head a')].find((a) => /.run$/.test(new URL(a.href).pathname)).click()"
        await tab.js(start)
        await tab.until("document.querySelector('[name=\"p.code\"]')?.value === '3'")
        await tab.js("document.querySelector('button[value=start]').click()")
        await tab.until("document.body.innerText.includes('Why it failed')", 30)
        run = (await tab.js("location.pathname")).removeprefix("/runs/")
        await tab.open(f"{url}/runs/new?clone={run}")
        await tab.until("document.querySelector('[name=\"p.code\"]')?.value === '3'")
        await tab.js("document.querySelector('[name=\"p.code\"]').value = '0'")
        await tab.js("document.querySelector('button[value=start]').click()")
        other = f"/^.runs.[0-9a-f-]{{36}}$/.test(location.pathname) && location.pathname !== '/runs/{run}'"
        await tab.until(other)
        await tab.until("document.querySelector('.head .pill.ok') !== null", 30)
        assert tab.problems == []
