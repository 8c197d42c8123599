"""Pipelines by package_url: what is read, and what must not be reached."""

from __future__ import annotations

import contextlib

import pytest
from pipelines_harness import HOME, SPEC, V1_PATHS, serve
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Route
from yaml import safe_dump

from headrace.components.pipelines.api.fetch import is_public
from headrace.machinery.serve import Server


async def endless():
    for _ in range(40):
        yield b"x" * (1 << 20)


@contextlib.asynccontextmanager
async def web():
    """A server with packages; its address."""
    routes = [
        Route("/greet.yaml", lambda _: PlainTextResponse(safe_dump(SPEC))),
        Route("/moved", lambda _: RedirectResponse("/greet.yaml")),
        Route("/round", lambda _: RedirectResponse("/round")),
        Route("/away", lambda _: RedirectResponse("http://169.254.169.254/latest/meta-data")),
        Route("/file", lambda _: RedirectResponse("file:///etc/passwd")),
        Route("/huge", lambda _: StreamingResponse(endless())),
        Route("/words", lambda _: PlainTextResponse("just words")),
    ]
    server = Server(Starlette(routes=routes), "127.0.0.1", 0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.address[1]}"
    finally:
        await server.stop()


@pytest.fixture
async def open_api(database_url):
    """An API for which loopback is public, so that there is something to read."""
    async with serve(database_url, allowed=lambda address: address == "127.0.0.1") as running:
        yield running


def asked(url: str) -> dict:
    return {"pipeline": {"name": "greet"}, "pipeline_version": {"package_url": {"pipeline_url": url}}}


async def test_a_pipeline_and_versions_are_made_of_packages(open_api):
    async with web() as url:
        made = await open_api.ok("POST", "/pipelines/create", asked(f"{url}/greet.yaml"))
        assert (made["name"], made["namespace"]) == ("greet", HOME)
        path = f"/pipelines/{made['pipeline_id']}/versions"
        second = {"display_name": "v2", "packageUrl": {"pipelineUrl": f"{url}/moved"}}
        version = await open_api.ok("POST", path, second)
        assert (version["display_name"], version["package_url"]) == ("v2", {"pipeline_url": f"{url}/moved"})
        listed = (await open_api.ok("GET", path))["pipeline_versions"]
        assert [v["pipeline_spec"] for v in listed] == [SPEC, SPEC]
        old = {"name": "old", "url": {"pipeline_url": f"{url}/greet.yaml"}}
        shown = await open_api.ok("POST", "/pipelines", old, prefix=V1_PATHS[0])
        assert shown["default_version"]["package_url"] == {"pipeline_url": f"{url}/greet.yaml"}
        owner = [{"key": {"type": "PIPELINE", "id": shown["id"]}, "relationship": "OWNER"}]
        more = {"name": "v2", "package_url": {"pipeline_url": f"{url}/greet.yaml"}, "resource_references": owner}
        assert (await open_api.ok("POST", "/pipeline_versions", more, prefix=V1_PATHS[0]))["name"] == "v2"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/none", "answered 404"),
        ("/round", "redirected more than"),
        ("/away", "169.254.169.254, which is not a public address"),
        ("/file", "is not a URL of http or https"),
        ("/huge", "larger than 32 MiB"),
        ("/words", "does not contain a pipeline"),
    ],
)
async def test_a_package_that_is_none_is_refused_with_a_sentence(open_api, path, words):
    async with web() as url:
        status, code, message = await open_api.refused("POST", "/pipelines/create", asked(url + path))
    assert (status, code) == (400, 3)
    assert words in message
    assert await open_api.ok("GET", "/pipelines") == {}


async def test_the_platforms_own_services_are_not_reached(api):
    async with web() as url:
        port = url.rpartition(":")[2]
        for host in (
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ):
            status, code, message = await api.refused(
                "POST", "/pipelines/create", asked(f"http://{host}:{port}/greet.yaml")
            )
            assert (status, code) == (400, 3), host
            assert "not a public address" in message or "cannot be read" in message, (host, message)
    assert await api.ok("GET", "/pipelines") == {}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "needs a package_url"),
        ("gs://bucket/p.yaml", "begins with http://, https://, minio:// or s3://"),
        ("file:///etc/passwd", "begins with http://"),
        ("http://user:secret@example.com/x", "must not hold a name or a password"),
        ("http:///nothing", "is not a URL"),
        ("http://[bad", "is not a URL"),
        ("http://10.1.2.3/x", "not a public address"),
        ("http://169.254.169.254/x", "not a public address"),
    ],
)
async def test_hostile_and_broken_urls_are_refused(api, url, words):
    status, code, message = await api.refused("POST", "/pipelines/create", asked(url))
    assert (status, code) == (400, 3)
    assert words in message


async def test_who_may(api):
    body = asked("http://127.0.0.1/x")
    assert (await api.call("POST", "/pipelines/create", body, user=""))[0] == 401
    theirs = {**body, "pipeline": {"name": "x", "namespace": HOME}}
    assert (await api.refused("POST", "/pipelines/create", theirs, user="other"))[:2] == (403, 7)
    assert (await api.refused("POST", "/pipelines/create", body, user="viewer"))[:2] == (403, 7)
    pipeline = await api.ok("POST", "/pipelines", {"name": "greet"})
    path = f"/pipelines/{pipeline['pipeline_id']}/versions"
    assert (await api.refused("POST", path, body["pipeline_version"], user="other"))[:2] == (403, 7)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:0001::", False),
        ("not an address", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public
