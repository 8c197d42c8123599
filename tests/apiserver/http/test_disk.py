"""A full disk under the API server: 507 with a sentence, reads go on, and so do writes when there is room."""

import pytest

from headrace.store.sqlite import SqliteStore
from headrace.testing.http import http_cluster

from .conftest import Caller, session

CMS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def api(tmp_path, pki, small_disk):
    store = SqliteStore(small_disk.path / "s.db")
    async with http_cluster(tmp_path, pki=pki, store=store) as made, session(pki, admin=True) as opened:
        yield Caller(made, opened)


def cm(name):
    return {"metadata": {"name": name}, "data": {"x": "y" * 5000}}


async def test_every_writing_verb_says_that_there_is_no_room(api, small_disk):
    await api("POST", CMS, cm("kept"))
    before = (await api.get(f"{CMS}/kept")).body
    small_disk.fill()
    while (made := await api("POST", CMS, {**cm(""), "metadata": {"generateName": "more-"}})).status == 201:
        pass
    for refused in (
        made,
        await api("PATCH", f"{CMS}/kept", {"data": {"x": "z" * 5000}}, Content_Type="application/merge-patch+json"),
        await api("PUT", f"{CMS}/kept", cm("kept") | {"data": {"x": "z" * 5000}}),
        await api("DELETE", f"{CMS}/kept"),
    ):
        assert refused.status == 507
        told = refused.json
        assert (told["kind"], told["reason"], told["code"]) == ("Status", "InsufficientStorage", 507)
        assert "nothing was changed: the disk is full. Make room" in told["message"]
    assert (await api.get(f"{CMS}/kept")).body == before
    small_disk.empty()
    assert (await api("PUT", f"{CMS}/kept", cm("kept") | {"data": {"x": "z"}})).status == 200
    assert (await api("DELETE", f"{CMS}/kept")).status == 200
