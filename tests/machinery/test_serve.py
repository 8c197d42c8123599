"""The server: one listener, an orderly end, and a sentence when the address is taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from headrace.machinery import serve
from headrace.machinery.component import ConfigurationError
from headrace.machinery.serve import Server, bind

HOST = "127.0.0.1"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def serving(app):
    server = Server(app, HOST, 0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Talk:
    """One connection of a plain HTTP client."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, path="/"):
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await self.writer.drain()

    async def answer(self):
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        length = next(int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length"))
        return head.split(b"\r\n")[0], await self.reader.readexactly(length)

    async def closed(self):
        try:
            return await asyncio.wait_for(self.reader.read(), 60) == b""
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def talking(server):
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_port_zero_is_any_port_and_the_address_tells_which():
    async with serving(hello) as one, serving(hello) as two:
        assert one.address[1] not in {0, two.address[1]}
        for server in (one, two):
            async with talking(server) as talk:
                await talk.ask()
                assert await talk.answer() == (b"HTTP/1.1 200 OK", b"hello")


async def test_a_body_that_is_held_back_and_not_wanted_ends_the_connection():
    """The client sends no body then; its next request would be taken for one."""
    async with serving(hello) as server, talking(server) as talk:
        talk.writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert (await talk.answer())[1] == b"hello"
        assert await talk.closed()


async def test_a_body_that_is_held_back_and_wanted_is_asked_for():
    async def echo(_scope, receive, send):
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": body})

    async with serving(echo) as server, talking(server) as talk:
        for _ in range(2):
            talk.writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert b"100 Continue" in await asyncio.wait_for(talk.reader.readuntil(b"\r\n\r\n"), 5)
            talk.writer.write(b"world")
            assert await talk.answer() == (b"HTTP/1.1 200 OK", b"world")


async def test_a_connection_is_kept_for_the_next_request():
    async with serving(hello) as server, talking(server) as talk:
        for _ in range(3):
            await talk.ask()
            assert (await talk.answer())[1] == b"hello"


async def test_a_taken_port_is_a_configuration_error_that_names_it():
    async with serving(hello) as server:
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{server.address[1]} cannot be listened on"):
            await Server(hello, *server.address).start()


async def test_a_port_that_is_taken_between_bind_and_listen_is_one_too():
    with bind(HOST, 0) as holder:
        port = holder.getsockname()[1]
        late = Server(hello, HOST, port)
        original = serve.bind

        def bind_then_lose(host, wanted):
            bound = original(host, wanted)
            holder.listen()
            return bound

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serve, "bind", bind_then_lose)
            with pytest.raises(ConfigurationError, match=str(port)):
                await late.start()
        await late.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "::ffff:1:2:3:4"])
async def test_an_address_that_is_not_ours_is_a_configuration_error(host):
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        await Server(hello, host, 0).start()


async def test_a_port_is_free_again_after_stop_and_stopping_twice_is_fine():
    async with serving(hello) as server:
        address = server.address
    await server.stop()
    again = Server(hello, *address)
    await again.start()
    await again.stop()
    await Server(hello, HOST, 0).stop()


async def test_stop_closes_connections_that_wait_for_nothing_at_once(monkeypatch):
    monkeypatch.setattr(serve, "DRAIN_SECONDS", 1000)
    async with serving(hello) as server, talking(server) as used, talking(server) as fresh:
        await used.ask()
        await used.answer()
        await asyncio.sleep(0.01)  # the fresh connection is accepted
        await asyncio.wait_for(server.stop(), 60)
        assert await used.closed()
        assert await fresh.closed()


async def test_nobody_new_is_accepted_after_stop():
    async with serving(hello) as server:
        await server.stop()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection(*server.address)


async def test_an_answer_in_progress_is_finished_before_stop_returns():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        begun.set()
        await go_on.wait()
        await hello(scope, receive, send)

    async with serving(slow) as server, talking(server) as talk:
        await talk.ask()
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        go_on.set()
        assert (await talk.answer())[1] == b"hello"
        await stopping
        assert await talk.closed()


async def test_an_endless_answer_ends_without_a_word_when_its_app_listens(monkeypatch, caplog):
    monkeypatch.setattr(serve, "DRAIN_SECONDS", 0.05)
    ended = asyncio.Event()

    async def stream(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    async with serving(stream) as server, talking(server) as talk:
        await talk.ask()
        await talk.reader.readuntil(b"x")
        await server.stop()
        assert ended.is_set()
    assert caplog.text == ""


async def test_an_answer_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr(serve, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(serve, "NOTICE_SECONDS", 0.05)
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def deaf(scope, receive, send):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(deaf) as server, talking(server) as talk:
        await talk.ask()
        await begun.wait()
        await asyncio.wait_for(server.stop(), 60)
        assert cancelled.is_set()


async def test_an_app_that_raises_is_an_error_for_its_client_only(caplog):
    async def broken(scope, receive, send):
        if scope["path"] == "/broken":
            raise RuntimeError("the app is broken")
        await hello(scope, receive, send)

    async with serving(broken) as server:
        async with talking(server) as talk:
            await talk.ask("/broken")
            status, _ = await talk.answer()
            assert status.startswith(b"HTTP/1.1 500")
        async with talking(server) as talk:
            await talk.ask()
            assert (await talk.answer())[1] == b"hello"
    assert "the app is broken" in caplog.text


def test_what_is_bound_does_not_block_and_leaves_nothing_open_when_it_fails():
    with bind(HOST, 0) as bound:
        assert bound.getblocking() is False
        assert bound.family == socket.AF_INET
        bound.listen()
        with pytest.raises(ConfigurationError):
            bind(*bound.getsockname())


async def test_a_connection_that_was_accepted_elsewhere_is_served_as_it_is():
    async def whose(scope, receive, send):
        said = scope["client"][0].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    loop = asyncio.get_running_loop()
    async with serving(whose) as server:
        with bind(HOST, 0) as door:
            door.listen()
            reader, writer = await asyncio.open_connection(*door.getsockname(), local_addr=("127.0.0.9", 0))
            accepted, _ = await loop.sock_accept(door)
            await server.take(accepted)
        talk = Talk(reader, writer)
        for _ in range(2):
            await talk.ask()
            assert await talk.answer() == (b"HTTP/1.1 200 OK", b"127.0.0.9"), "its own address, not ours"
    assert await talk.closed(), "it ends with the server"
    writer.close()
    one, other = socket.socketpair()
    with one, pytest.raises(ConnectionRefusedError):
        await server.take(other)
    assert other.fileno() == -1
