"""Addresses of hosts, each asked for once at a time, by a thread of its own.

uvloop leaves names to libuv, which asks for two at a time, and goes on asking what nobody waits for
any more: with ten requests to a provider whose name servers were silent, new connections to all
others waited for 14 s, and with each more request longer.
"""

import asyncio
import contextlib
import socket
import threading
from functools import partial
from typing import Any

Found = list[tuple[Any, ...]]
_Question = tuple[Any, ...]


class NameLookUps:
    """What is being asked for a loop. There are as many threads as hosts that answer slowly."""

    def __init__(self) -> None:
        self._under_way: dict[_Question, asyncio.Future[Found]] = {}

    async def find(self, *question: Any) -> Found:
        """As `socket.getaddrinfo`, with its arguments.

        Raises:
            OSError: nobody knows the host, or nobody answers.
            UnicodeError: it is no name of a host.
        """
        answer = self._under_way.get(question)
        if answer is None:
            loop = asyncio.get_running_loop()
            answer = loop.create_future()
            # A daemon: a process that ends does not wait for a name server.
            arguments = (loop, answer, question)
            threading.Thread(target=_ask, args=arguments, name="look-up", daemon=True).start()
            self._under_way[question] = answer
            answer.add_done_callback(lambda told: self._forget(question, told))
        return await asyncio.shield(answer)  # others may wait for it, too

    def _forget(self, question: _Question, told: asyncio.Future[Found]) -> None:
        del self._under_way[question]
        told.exception()  # nobody may wait for it any more


def is_address(host: str) -> bool:
    """Say whether it is an address already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _ask(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Found], question: _Question
) -> None:
    try:
        found = socket.getaddrinfo(*question)
    except (OSError, UnicodeError) as error:
        tell = partial(answer.set_exception, error)
    else:
        tell = partial(answer.set_result, found)
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(tell)
