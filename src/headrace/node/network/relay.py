"""Joins two connected sockets: bytes both ways, half-closes passed on, never more buffered than one piece a side."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

_PIECE = 128 << 10


async def relay(left: socket.socket, right: socket.socket) -> None:
    """Until both sides have finished, or one has failed; closes both."""
    pumps = [asyncio.ensure_future(_pump(left, right)), asyncio.ensure_future(_pump(right, left))]
    try:
        await asyncio.gather(*pumps)
    except OSError:
        reset(left)
        reset(right)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        left.close()
        right.close()


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _PIECE):
        await loop.sock_sendall(sink, data)
    with contextlib.suppress(OSError):  # the sink may have gone already
        sink.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    """Make a later close look like a failure, not like an orderly end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def connect(host: str, port: int) -> socket.socket:
    """A connected non-blocking TCP socket on the host, to whichever address of a name answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last or OSError(f"{host} has no address")
