"""The central dashboard's API, and links that its ConfigMap adds to the navigation."""

from __future__ import annotations

import json

import pytest
from dashboard_world import HOME, NOBODY, OTHER, OWNER, STRANGER, VIEWER, event

from headrace.api.core import ConfigMap
from headrace.api.meta import ObjectMeta

JSON = {"accept": "application/json"}


async def get(session, path: str, status: int = 200):
    async with session.get(path, headers=JSON) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def configure(world, **data: str) -> None:
    metadata = ObjectMeta(name="centraldashboard-config", namespace="kubeflow")
    await world.client.apply(ConfigMap(metadata=metadata, data=data))


@pytest.mark.parametrize(("email", "names"), [(OWNER, [HOME]), (VIEWER, [HOME]), (STRANGER, [OTHER]), (NOBODY, [])])
async def test_namespaces_that_one_may_see(world, email, names):
    found = await get(await world.browser(email), "/api/namespaces")
    assert [namespace["metadata"]["name"] for namespace in found] == names


@pytest.mark.parametrize(("email", "status"), [(OWNER, 200), (VIEWER, 200), (STRANGER, 403), (NOBODY, 403)])
async def test_activities(world, email, status):
    await event(world, await world.pod(), "Failed", "it broke")
    session = await world.browser(email)
    found = await get(session, f"/api/activities/{HOME}", status)
    if status == 403:
        assert found["error"].startswith("Access denied.")
    else:
        assert isinstance(found, list)


async def test_links_and_settings_are_the_config_maps(world):
    session = await world.browser()
    default = await get(session, "/api/dashboard-links")
    assert {"type": "item", "link": "/runs", "text": "Runs", "icon": ""} in default["menuLinks"]
    assert await get(session, "/api/dashboard-settings") == {"DASHBOARD_FORCE_IFRAME": False}
    links = {
        "menuLinks": [
            {"type": "item", "link": "/runs/", "text": "Runs again"},
            {"type": "section", "text": "More", "items": [{"link": "/grafana/", "text": "Charts"}]},
            {"type": "item", "link": "javascript:alert(1)", "text": "Bad"},
            "nonsense",
        ],
        "externalLinks": [{"link": "https://example.com/wiki", "text": "Wiki <b>"}],
    }
    await configure(world, links=json.dumps(links), settings="{")
    assert await get(session, "/api/dashboard-links") == links
    assert "settings" in (await get(session, "/api/dashboard-settings", 500))["error"]
    page = await world.page(session, "/")
    assert 'href="/grafana/"' in page
    assert 'href="https://example.com/wiki"' in page
    assert "Wiki &lt;b&gt;" in page
    assert "Runs again" not in page
    assert "javascript:" not in page
    await configure(world, links="[]")
    await world.page(session, "/")


async def test_metrics(world):
    session = await world.browser()
    assert (await get(session, "/api/metrics"))["resourceChartsLink"] == "/"
    for kind in ("node", "podcpu", "podmem"):
        assert isinstance(await get(session, f"/api/metrics/{kind}?interval=Last60m"), list)
    await get(session, "/api/metrics/nothing", 404)
    await get(session, "/api/nothing", 404)
