"""The dashboard in a real Firefox: every page's console and policy, live news, a form that does something."""

from __future__ import annotations

import e2e_firefox as firefox
import e2e_pages as pages
import pytest

pytestmark = [
    pytest.mark.node,
    pytest.mark.timeout(900),  # with the example that it looks at
    pytest.mark.skipif(firefox.executable() is None, reason="there is no Firefox on this machine (set FIREFOX to one)"),
]


async def test_every_page_live_news_and_a_form(platform, addresses, tmp_path, pictures):
    async with firefox.browser(tmp_path) as tab:
        await tab.look(width=1280)
        await tab.open(platform.headrace("dashboard").stdout.strip())
        await tab.until("document.querySelector('.health') !== null", 60)
        url = platform.env["INGRESS"]
        for path, address in addresses.items():
            await tab.open(url + address)
            await tab.until("performance.getEntriesByName('booted').length === 1", 60)
            assert await tab.js("performance.getEntriesByType('navigation')[0].responseStatus") == 200, path
            assert await tab.js("document.querySelectorAll('main h1').length") == 1, path
            assert await tab.js("window.refused") == [], path
            assert tab.problems == [], f"{path}: {tab.problems}"

        await tab.open(f"{url}/experiments")
        await tab.js("window.stays = true; document.querySelector('[name=name]').value = 'made in Firefox'")
        await tab.js("document.querySelector('button[value=make]').click()")
        await tab.until("document.getElementById('notice').textContent === 'The experiment is made.'")
        await tab.until("document.getElementById('main').textContent.includes('made in Firefox')")

        await tab.js("[...document.querySelectorAll('.nav a')].find((a) => a.pathname === '/runs').click()")
        await tab.until("location.pathname === '/runs' && document.querySelector('.list') !== null")
        given = {"runtime_config": {"parameters": {"loud": False}}, "pipeline_spec": pages.PIPELINE}
        platform.api("/apis/v2beta1/runs", {"display_name": "heard in Firefox", **given})
        await tab.until("document.getElementById('main').textContent.includes('heard in Firefox')", 30)
        assert await tab.js("window.stays"), "nobody reloaded"
        await tab.screenshot(pictures / "firefox.png")
        assert await tab.js("window.refused") == []
        assert tab.problems == []
