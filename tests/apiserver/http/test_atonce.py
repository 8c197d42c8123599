"""Answers that go out in one piece: what a client sees, and the state in which they leave the connection."""

import asyncio
import json
import ssl

import pytest

from headrace.apiserver.http import atonce

PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def raw(http):
    """A connection of the administrator whose bytes the test writes itself."""
    context = ssl.create_default_context(cafile=str(http.pki.ca))
    context.load_cert_chain(http.pki.admin, http.pki.admin_key)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", http.server.port, ssl=context, server_hostname="localhost"
    )
    yield reader, writer
    writer.transport.abort()


@pytest.fixture
def pieces(monkeypatch):
    """Whether each answer went out in one piece, in their order."""
    seen: list[bool] = []
    really = atonce.sent

    def sent(request, answer, send):
        seen.append(really(request, answer, send))
        return seen[-1]

    monkeypatch.setattr(atonce, "sent", sent)
    return seen


def create(name: str, *more: str) -> bytes:
    body = json.dumps({"metadata": {"name": name}, "data": {"x": "1"}}).encode()
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


async def answer(reader) -> tuple[bytes, bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return head.split(b"\r\n")[0], head, await reader.readexactly(length)


async def test_creates_behind_each_other_on_one_connection(raw, pieces):
    reader, writer = raw
    writer.write(create("a") + create("b") + create("a"))
    found = [await answer(reader) for _ in range(3)]
    assert [line for line, _, _ in found] == [b"http/1.1 201 created"] * 2 + [b"http/1.1 409 conflict"]
    assert [json.loads(body)["metadata"].get("name") for _, _, body in found[:2]] == ["a", "b"]
    assert b"content-type: application/json\r\n" in found[0][1]
    assert b"cache-control: no-cache, private\r\n" in found[0][1]
    assert pieces == [True, True, False]


async def test_a_connection_that_is_to_be_closed_is_closed(raw, pieces):
    reader, writer = raw
    writer.write(create("a", "Connection: close"))
    line, head, _ = await answer(reader)
    assert line == b"http/1.1 201 created"
    assert b"connection: close\r\n" in head
    assert await reader.read() == b""
    assert pieces == [False]


async def test_a_body_that_is_held_back_is_asked_for(raw, pieces):
    reader, writer = raw
    head, body = create("a", "Expect: 100-continue").split(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await answer(reader))[0] == b"http/1.1 201 created"
    assert pieces == [False]


async def test_head_has_no_body_and_the_connection_goes_on(raw, pieces):
    reader, writer = raw
    writer.write(f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert json.loads((await answer(reader))[2])["items"] is not None
    assert pieces == [False, True]


async def test_answers_with_more_to_say_take_the_usual_way(raw, pieces):
    reader, writer = raw
    body = b'{"metadata":{"name":"a"},"nonsense":1}'
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    _, head, _ = await answer(reader)
    assert b"warning: 299" in head
    assert pieces == [False]
