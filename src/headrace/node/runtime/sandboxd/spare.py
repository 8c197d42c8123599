"""A container that is half made before anybody asks for it: supervisor and first process, waiting for their orders.

What a warm start costs is mostly forking a large interpreter twice and mounting what every container has; with a
spare that is done while nobody waits. Invariants:
- it is of the same make as the last container (`likeness`); a specification that differs in that is started the
  ordinary way;
- it has no network of its own, and on disk only what is still empty, in a folder of its maker's: see `Root.begin`;
- it ends when its maker ends, or when who has it lets go of it; the spawner removes what either leaves there.
"""

from __future__ import annotations

import os
import select
import socket

from . import wire
from .supervisor import supervise_ahead

TYPE_CHECKING = False  # importing typing costs a helper half a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Message

_SECONDS = 2
_ALIKE = ("root", "hide", "expose", "writable", "everywhere")


def likeness(spec: Message, namespaces: int, ahead: str) -> Message | None:
    """What a spare for containers such as this one must know; None when there can be none: where pods are an ordinary
    user's, a first process cannot change its network. `ahead`: a folder for what it needs on the disk.
    """
    special = any(spec.get(key) for key in ("bare", "engine", "pause", "joins", "stdin", "tty"))
    if special or os.getuid() != 0 or namespaces > 2:
        return None
    sources = [*spec["writable"], *(mount["source"] for mount in spec["everywhere"])]
    return {
        **{name: spec[name] for name in _ALIKE},
        "sources": [_identity(source) for source in sources],
        "ahead": ahead,
        "joins": None,
    }


def _identity(folder: str) -> list[int]:
    """Which folder this is now: one that was made again at the same place is another."""
    try:
        found = os.stat(folder)
    except OSError:
        return []
    return [found.st_dev, found.st_ino]


class Spare:
    """A way to reach one. Whoever has it may use it."""

    def __init__(self, like: Message, orders: socket.socket, first_orders: socket.socket) -> None:
        self._like, self._orders, self._first = like, orders, first_orders
        for sock in (orders, first_orders):
            sock.settimeout(_SECONDS)

    def hand_over(self, control: socket.socket) -> None:
        """From its maker to who starts containers."""
        wire.send(control, {"spare": self._like}, [self._orders.fileno(), self._first.fileno()])
        self.close()

    @classmethod
    def received(cls, message: Message, fds: list[int]) -> Spare:
        """The other side of `hand_over`."""
        orders, first = (socket.socket(fileno=fd) for fd in fds)
        return cls(message["spare"], orders, first)

    def fits(self, like: Message | None) -> bool:
        """Whether it can become such a container."""
        return self._like == like

    def give(self, spec: Message, fds: list[int]) -> bool:
        """Have it become this container: `fds` are those of `supervise`. False when it is broken. It is used up."""
        message = wire.encode({"spec": spec})
        try:
            wire.send_frame(self._first, message, fds[1:2])
            wire.send_frame(self._orders, message, fds)
        except OSError:
            return False
        finally:
            self.close()
        return True

    def end(self) -> None:
        """Let go of it, and wait until it has gone."""
        self._orders.shutdown(socket.SHUT_WR)
        poll = select.poll()
        waiting = {sock.fileno() for sock in (self._orders, self._first)}
        for fd in waiting:
            poll.register(fd, 0)
        while waiting and (events := poll.poll(_SECONDS * 1000)):
            for fd, _ in events:
                poll.unregister(fd)
                waiting.discard(fd)
        self.close()

    def close(self) -> None:
        """Let go of it: it ends, unless another one has it or it has been used."""
        self._orders.close()
        self._first.close()


def make(like: Message, forked: Callable[[], None]) -> Spare | Message:
    """Make one. Returns in its maker, and much later in the container's first process, with its specification; `forked`
    lets go of what is the maker's alone. Raises OSError.
    """
    orders, their_orders = socket.socketpair()
    first, their_first = socket.socketpair()
    if os.fork() == 0:
        orders.close()
        first.close()
        forked()
        return supervise_ahead(like, their_orders, their_first)
    their_orders.close()
    their_first.close()
    return Spare(like, orders, first)
