"""Workloads in a real Chromium: a terminal into a pod, an edited object; and what every page owes to everybody.

The rules of accessibility are checked by the page itself, in both colour schemes: every control has a name, every page
one main landmark and one first heading with no level left out, every text a contrast of 4.5 (3 when it is large), ids
are unique, what has the focus is seen to have it.
"""

from __future__ import annotations

import json
from pathlib import Path

import e2e_browser as chromium
import pytest

NAMESPACE = "kubeflow-user-example-com"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "shell", "namespace": NAMESPACE},
    "spec": {
        "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "600"]}],
        "terminationGracePeriodSeconds": 0,
    },
}

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(
        chromium.executable() is None, reason="there is no Chromium on this machine (set CHROMIUM to one)"
    ),
]

RULES = Path(__file__).with_name("accessibility.js").read_text()


async def test_a_terminal_an_edit_and_every_page_for_everybody(platform, tmp_path, pictures):
    manifest = tmp_path / "pod.json"
    manifest.write_text(json.dumps(POD))
    platform.kubectl("apply", "-f", str(manifest))
    platform.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/shell", "--timeout=100s")
    url = platform.env["INGRESS"]
    async with chromium.browser(tmp_path) as tab:
        await tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
        await tab.look(width=1280)
        await tab.open(platform.headrace("dashboard").stdout.strip())
        await tab.until("document.querySelector('.health') !== null")
        assert not [r for r in tab.requests if "xterm" in r], "only pages with a terminal load it"

        # A terminal: what is typed, in any script, and what comes back; the shell ends with the page.
        await tab.open(f"{url}/workloads?pod=shell&tab=terminal")
        await tab.until("document.querySelector('[data-terminal]')?.dataset.state === 'open'", 30)
        await tab.until("document.activeElement?.classList.contains('xterm-helper-textarea')")
        await tab.call("Input.insertText", text="echo 안녕 你好 $((40+2))")
        await tab.key_named("Enter", 13, "\r")
        await tab.until(
            "document.querySelector('.xterm-rows')?.innerText.replaceAll('\\u00a0', ' ').includes('안녕 你好 42')", 30
        )
        await tab.screenshot(pictures / "terminal.png")
        await tab.call("Input.insertText", text="exit 3")
        await tab.key_named("Enter", 13, "\r")
        await tab.until("document.querySelector('#terminal-says').textContent.includes('exit code 3')", 30)
        assert tab.problems == []

        # An edit: refused in words, then applied.
        await tab.open(f"{url}/workloads?pod=shell&tab=yaml")
        area = "document.querySelector('textarea.yaml')"
        press = "document.querySelector('button[value=%s]').click()"
        await tab.js(f"{area}.value = {area}.value.replace('spec:', 'spec:\\n  nodename: x'); {press % 'apply'}")
        await tab.until("document.getElementById('notice').textContent.includes('nodename')")
        before = "document.querySelector('input[name=before]').value"
        label = "'metadata:\\n  labels: {seen: \"yes\"}'"
        await tab.js(f"{area}.value = {before}.replace('metadata:', {label}); {press % 'check'}")
        await tab.until("document.getElementById('notice').textContent.includes('would accept')")
        await tab.js(f"if (!{area}.value.includes('seen')) throw Error('what was typed is gone'); {press % 'apply'}")
        await tab.until("document.getElementById('notice').textContent === 'Applied.'")
        assert "yes" in platform.kubectl(
            "-n", NAMESPACE, "get", "pod", "shell", "-o", "jsonpath={.metadata.labels.seen}"
        )
        tab.problems.clear()  # the console tells of the refusal

        found = {}
        paths = await tab.js("[...document.querySelectorAll('nav.nav a')].map((a) => a.getAttribute('href'))")
        for path in [*paths, "/workloads?pod=shell", "/workloads?pod=shell&tab=yaml", "/workloads?kind=events"]:
            for dark in (False, True):
                await tab.look(width=1280, dark=dark)
                await tab.open(url + path)
                await tab.until("document.querySelector('main h1') !== null")
                found |= dict.fromkeys(f"{path}: {each}" for each in await tab.js(RULES))
        assert not found, "\n".join(found)
        assert tab.problems == []
    platform.kubectl("-n", NAMESPACE, "delete", "pod", "shell", "--wait=false")
