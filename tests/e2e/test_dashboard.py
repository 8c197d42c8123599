"""The dashboard in a real Chromium, on what the digits example made: every page, light and dark, wide and narrow."""

from __future__ import annotations

import asyncio
import json
import re

import e2e_axe as axe
import e2e_browser as chromium
import pytest

NAMESPACE = "kubeflow-user-example-com"
LOOKS = {(1280, False): "everything", (1280, True): "colours", (420, False): "structure", (420, True): ""}
"""By width and darkness what axe looks at: in other colours only contrasts differ, and they not by the width."""
SIDEWAYS = """[document.documentElement, ...document.querySelectorAll("main, .split > .panel, .fullpanel")]
  .filter((each) => each.scrollWidth > each.clientWidth)
  .map((each) => `${each.localName}.${each.className}: ${each.scrollWidth - each.clientWidth} px too wide`)"""
"""Nothing but what is made for it (a graph, a log, tabs) scrolls sideways."""
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

pytestmark = [
    pytest.mark.node,
    pytest.mark.timeout(900),  # with the example that it looks at
    pytest.mark.skipif(
        chromium.executable() is None, reason="there is no Chromium on this machine (set CHROMIUM to one)"
    ),
]


async def at_the_door(tab, platform) -> str:
    url = platform.env["INGRESS"]
    await tab.open(f"{url}/")
    await tab.until("document.querySelector('#password') !== null")
    assert await tab.js("location.pathname") == "/dex/auth/local/login"
    return url


async def log_in(tab, platform) -> str:
    url = await at_the_door(tab, platform)
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


async def test_every_page_on_real_data_in_every_look(platform, addresses, tmp_path, pictures):
    """What is on it, that nothing scrolls sideways, the console, a picture of each look, and what axe finds."""
    run, digits = addresses["/runs/{run}"], "digits-recognizer"
    runs = platform.api(f"/apis/v2beta1/runs?namespace={NAMESPACE}")["runs"]
    failed = next(each["run_id"] for each in runs if each["state"] == "FAILED")
    words = {
        "/": ("Served models",),
        "/runs": (digits,),
        "/runs/{run}": ("Confusion matrix",),
        "/models": ("Ask it",),
        "/workloads": ("digits-predictor",),
        "/compare": ("Parameters",),
        "/artifacts/{id}": ("minio://",),
    }
    parts = {
        f"{run}?view=table": ("check-and-split",),
        f"{run}?view=graph": ("check-and-split",),
        f"{run}?tab=values": ("minio://",),
        f"{run}?tab=log": (),
        f"/runs/{failed}": ("Why it failed",),
        "/workloads?kind=deployments&tab=yaml": ("Only check",),
        "/workloads?kind=events": (),
        "/runs?state=failed&q=nothing-like-it": ("No run matches",),
        "/nowhere": ("There is no such page",),
    }
    everything = {**addresses, **{each: each for each in parts}}
    found: list[str] = []
    async with chromium.browser(tmp_path) as tab:

        async def look_at(name: str) -> None:
            await tab.js(axe.SCRIPT)
            for (width, dark), what in LOOKS.items():
                await tab.look(width=width, dark=dark)
                look = f"{name} at {width}{', dark' if dark else ''}"
                found.extend(f"{look}: {each}" for each in await tab.js(SIDEWAYS))
                picture = pictures / f"{picture_name(name)}-{width}-{'dark' if dark else 'light'}.png"
                await tab.screenshot(picture)
                assert picture.stat().st_size > 5_000
                if what == "everything" or (what and name not in parts):
                    found.extend(f"{look}: {each}" for each in await tab.js(axe.run(what, frame=name == "/")))
            await tab.look(width=1280)

        await at_the_door(tab, platform)
        await look_at("login")
        url = await log_in(tab, platform)
        assert tab.bytes <= 350_000
        for name, address in everything.items():
            await tab.open(url + address)
            await tab.until("document.querySelector('main h1') !== null")
            for text in (words | parts).get(name, ()):
                await tab.until(f"document.body.innerText.includes({json.dumps(text)})")
            if name == "/nowhere":
                tab.problems.clear()  # its status is 404
            await look_at(name)
            assert tab.problems == [], name
        await tab.js("document.querySelector('[data-palette]').click()")
        await tab.until("document.querySelector('.palette li') !== null")
        await look_at("palette")
        assert not [request for request in tab.requests if "xterm" in request], "only pages with a terminal load it"
        outside = [request for request in tab.requests if not request.startswith((url, "data:", "about:", "chrome"))]
        assert outside == []
    assert not found, "\n".join(found)


def picture_name(page: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\W+", "-", page).strip("-") or "home"


async def test_links_that_sdks_print_lead_to_their_pages(platform, digits, tmp_path):
    experiment = platform.api(f"/apis/v2beta1/runs/{digits}")["experiment_id"]
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


async def test_a_run_is_followed_live_and_its_log_stays(platform, tmp_path, pictures):
    async with chromium.browser(tmp_path) as tab:
        url = await log_in(tab, platform)
        await tab.open(f"{url}/runs")
        run = platform.api("/apis/v2beta1/runs", {"display_name": "seen live", "pipeline_spec": FAILING})["run_id"]
        await tab.until("document.body.innerText.includes('seen live')")  # nobody reloaded
        await tab.js("[...document.querySelectorAll('a')].find((a) => a.textContent === 'seen live').click()")
        await tab.until(f"location.pathname === '/runs/{run}'")
        await tab.until("document.querySelector('.pill.run') !== null")
        await tab.screenshot(pictures / "running.png")
        await tab.until("document.body.innerText.includes('Why it failed')", 30)
        await tab.js("[...document.querySelectorAll('.tabs a')].find((a) => a.textContent === 'Log').click()")
        await tab.until("document.querySelector('[data-log]')?.innerText.includes('one line <b>of</b> log')")
        await tab.screenshot(pictures / "log.png")
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
