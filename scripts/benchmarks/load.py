"""Clients that send one request after the other, each on a connection of its own."""

import asyncio
import random
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import override

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"

type _Condition = Callable[[Sample], bool]


class BadAnswerError(Exception):
    """An answer that is not a 200: what follows would be the cost of refusals."""


@dataclass(slots=True)
class Sample:
    """What the clients saw.

    Attributes:
        first_bytes: seconds from each request to the first byte of its answer.
        whole: seconds from each request to the end of its answer.
    """

    first_bytes: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])

    @property
    def requests(self) -> int:
        """How many answers came to their end."""
        return len(self.whole)

    @property
    def first_byte_ms(self) -> float:
        """The middle time to the first byte, in milliseconds."""
        return median(self.first_bytes) * 1000


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for clients: its timers do not wait for whole milliseconds, as those of epoll do.

    What is due in the same millisecond would be sent together, and wait for each other.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def send_for(
    port: int,
    request: bytes,
    connections: int,
    seconds: float,
    *,
    interval: float = 0.0,
    spread: float = 0.0,
) -> Sample:
    """Send requests for some time; returns when those under way have been answered.

    Args:
        port: on this machine.
        request: head and body, as they are sent.
        connections: how many clients there are.
        seconds: no request begins after them.
        interval: of each client, in seconds: it sends one request in each, at any moment of it, or
            as soon as the one before has been answered.
        spread: seconds over which clients without an interval begin, so that they do not walk in
            step.

    Raises:
        BadAnswerError: an answer is not a 200, or a connection ends.
    """
    until = time.perf_counter() + seconds
    going = _Going(lambda _: time.perf_counter() < until, interval, spread)
    return await _send(port, request, connections, going)


async def send_number(port: int, request: bytes, connections: int, number: int) -> Sample:
    """As `send_for`, for a number of requests."""
    going = _Going(lambda sample: sample.requests + connections <= number)
    return await _send(port, request, connections, going)


@dataclass(frozen=True, slots=True)
class _Going:
    """When clients send, and as long as `on`."""

    on: _Condition
    interval: float = 0.0
    spread: float = 0.0


class Timetable:
    """When one client's requests are due: as if it knew nothing of the others, nor of answers.

    Clients that counted the interval from their last request would be thrown together by every
    pause of this process, walk in step from then on, and measure how long they wait for each other.

    Args:
        number: of the client; it draws the same moments whoever is measured.
        interval: in seconds; the first begins now.
        now: a clock, in seconds.
    """

    def __init__(
        self, number: int, interval: float, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._drawn = random.Random(number)  # noqa: S311 - nobody is to be surprised
        self._interval = interval
        self._now = now
        self._begun = now()
        self._next = 0

    def wait(self) -> float:
        """Seconds until the next request; what was due in intervals that are over is left out."""
        past = self._now() - self._begun
        place = max(self._next, int(past / self._interval))
        self._next = place + 1
        return max((place + self._drawn.random()) * self._interval - past, 0.0)


async def _send(port: int, request: bytes, connections: int, going: _Going) -> Sample:
    loop = asyncio.get_running_loop()
    sample = Sample()
    clients: list[_Client] = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: _Client(request, sample, going), "127.0.0.1", port
        )
        clients.append(client)
    try:
        for number, client in enumerate(clients):
            client.begin(number, going.spread * number / connections)
        await asyncio.gather(*(client.done for client in clients))
    finally:
        for client in clients:
            client.close()
    return sample


class _Client(asyncio.Protocol):
    """Reads just as much of HTTP as is needed to see where an answer ends."""

    def __init__(self, request: bytes, sample: Sample, going: _Going) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._sample = sample
        self._going = going
        self._timetable: Timetable | None = None
        self._begun = 0.0
        self._received = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def begin(self, number: int, after: float) -> None:
        """Begin to send: the client with this number, after so many seconds if not as it is due."""
        if self._going.interval:
            self._timetable = Timetable(number, self._going.interval)
            after = self._timetable.wait()
        asyncio.get_running_loop().call_later(after, self._send)

    def _send(self) -> None:
        self._received = b""
        self._begun = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    @override
    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._sample.first_bytes.append(time.perf_counter() - self._begun)
        self._received += data
        try:
            is_whole = _is_whole(self._received)
        except BadAnswerError as error:
            self._end(error)
            return
        if is_whole:
            self._sample.whole.append(time.perf_counter() - self._begun)
            self._go_on()

    def _go_on(self) -> None:
        if not self._going.on(self._sample):
            self._end(None)
        elif self._timetable and (rest := self._timetable.wait()) > 0:
            asyncio.get_running_loop().call_later(rest, self._send)
        else:
            self._send()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or BadAnswerError("the connection ended in the middle"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self.close()


def _is_whole(received: bytes) -> bool:
    """The answer has come to its end.

    Raises:
        BadAnswerError: it is not one that can be measured.
    """
    end = received.find(_HEAD_END)
    if end < 0:
        return False
    head = received[:end].lower()
    if b" 200" not in head[:12]:
        raise BadAnswerError(received[:200].decode("latin-1"))
    at = head.find(b"content-length:")
    if at < 0:
        return received.endswith(_LAST_CHUNK)
    length = int(head[at + len(b"content-length:") :].split(b"\r\n", 1)[0])
    return len(received) - end - len(_HEAD_END) >= length
