"""Clients on real sockets that send exactly what they are told, many at once.

What is sent last asks for the connection's end, so that each comes to one: by an answer and a
close, or by a close alone. One that does not, within `PATIENCE_SECONDS`, hangs.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, cast

from scripts.ports import HOST
from scripts.proof.fuzzing.http2_grammar import BYE, STILL_THERE

PATIENCE_SECONDS = 20.0
"""More than all deadlines of the gateway under test together."""
FAREWELL = b"GET /healthz HTTP/1.1\r\nHost: metrion\r\nConnection: close\r\n\r\n"
_AGAIN_SECONDS = 5.0
_TRIES = 5
_ANSWER_SECONDS = 0.2  # of a connection that stays open: what is under way comes within
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)
_REQUEST_ID = re.compile(rb"(?:\A|\n)x-metrion-request-id: ([0-9a-f-]{36})")
_OWN_ANSWER = b"x-metrion-error: "


class Shot(NamedTuple):
    """What came of one connection.

    Attributes:
        said: all that came back.
        ended: the gateway closed it, or it was at rest and closed when asked again.
    """

    said: bytes
    ended: bool

    @property
    def forwarded_ids(self) -> list[str]:
        """The row ids of answers that are a provider's."""
        return [
            found[1].decode()
            for head in _HEAD.finditer(self.said)
            if _OWN_ANSWER not in head[2] and (found := _REQUEST_ID.search(head[2]))
        ]


def any_certificate(*protocols: str) -> ssl.SSLContext:
    """TLS with whoever answers: mitmproxy makes up its certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


async def _connect(
    port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; on a busy machine a handshake may take longer than the gateway waits for it.

    Raises:
        OSError: it never works.
    """
    for _ in range(_TRIES):
        try:
            return await asyncio.open_connection(HOST, port, ssl=tls)
        except ConnectionError:
            await asyncio.sleep(_ANSWER_SECONDS)
    return await asyncio.open_connection(HOST, port, ssl=tls)


async def shoot(
    port: int, pieces: Sequence[bytes], *, tls: ssl.SSLContext | None = None, hangs_up: bool = False
) -> Shot:
    """Send pieces and read until the end, or hang up without reading."""
    reader, writer = await _connect(port, tls)
    said: list[bytes] = []
    try:
        await _send(writer, pieces)
        if hangs_up:
            return Shot(b"", ended=True)
        ended = await _read(reader, said, PATIENCE_SECONDS)
        if not ended:  # it may rest: what was sent last is part of a body that was asked for
            with contextlib.suppress(OSError):
                writer.write(FAREWELL)
            ended = await _read(reader, said, _AGAIN_SECONDS)
        return Shot(b"".join(said), ended)
    finally:
        cast("asyncio.Transport", writer.transport).abort()


async def shoot_frames(port: int, pieces: Sequence[bytes], tls: ssl.SSLContext) -> Shot:
    """Send frames of HTTP/2 that end with a PING; when that is answered, wait a bit and leave."""
    reader, writer = await _connect(port, tls)
    said: list[bytes] = []
    try:
        await _send(writer, pieces)
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while STILL_THERE not in b"".join(said):
            if await _read(reader, said, _ANSWER_SECONDS):
                return Shot(b"".join(said), ended=True)
            if asyncio.get_running_loop().time() > until:
                return Shot(b"".join(said), ended=False)
        with contextlib.suppress(OSError):
            writer.write(BYE)
        return Shot(b"".join(said), await _read(reader, said, PATIENCE_SECONDS))
    finally:
        cast("asyncio.Transport", writer.transport).abort()


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    """Write one piece after the other, as far as the other side takes them."""
    with contextlib.suppress(OSError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()


async def _read(reader: asyncio.StreamReader, said: list[bytes], seconds: float) -> bool:
    """Read to the end; False if it does not come."""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(65_536):
                said.append(data)
    except TimeoutError:
        return False
    except OSError:
        pass  # a reset is an end, too
    return True


async def all_at_once[Item](
    items: Iterable[Item], work: Callable[[Item], Awaitable[None]], at_once: int
) -> None:
    """Do some work for each item, for so many at a time."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


async def answers(port: int) -> bool:
    """Whether the gateway still answers a probe, and soon."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            shot = await shoot(port, [FAREWELL])
    except OSError:  # a time-out is one, too
        return False
    return shot.said.startswith(b"HTTP/1.1 200 ")
