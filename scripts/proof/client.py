"""A client of HTTP/1.1 with bad manners: it hangs up, sends slowly, reads slowly.

Everything that an ordinary client does not do: so there is no library between. It reads answers
strictly, byte for byte, and knows of each whether it was whole.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final, Literal, cast

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST
_PIECE_BYTES: Final = 65_536
_PAUSE_SECONDS: Final = 0.01
_INTERIM: Final = range(100, 200)

Leaving = Literal["stays", "in request", "after request", "after head", "in body"]


class Incomplete(Exception):  # noqa: N818 - it is what happened, not an error of ours
    """The connection broke before the answer was whole."""


@dataclass(frozen=True)
class Manners:
    """How a client behaves for one request.

    Attributes:
        leaves: when it hangs up.
        after_bytes: of the body, if it leaves there.
        with_reset: it hangs up by a reset.
        sends_slowly: the request comes in pieces.
        reads_slowly: it leaves pauses between reads.
    """

    leaves: Leaving = "stays"
    after_bytes: int = 0
    with_reset: bool = False
    sends_slowly: bool = False
    reads_slowly: bool = False


GOOD: Final = Manners()


@dataclass
class Answer:
    """What of an answer was read.

    Attributes:
        status: None: no head came.
        headers: by lower-case names.
        whole: it was read to its end, or to its last word.
        keeps: the connection can be used again.
        was_sent: somebody was there to be asked.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    keeps: bool = False
    was_sent: bool = False


class Client:
    """One connection to a proxy; opened when it must be, and again after it broke."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self,
        address: tuple[str, int],
        request: bytes,
        *,
        manners: Manners = GOOD,
        last_word: bytes | None = None,
    ) -> Answer:
        """Send a request and read its answer, as far as both go. Never raises for the other side.

        Args:
            address: host and port.
            request: head and body.
            manners: how.
            last_word: who has read a line that begins so has read all.
        """
        answer = Answer()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(*address)
            answer.was_sent = True
            await self._exchange(request, answer, manners, last_word)
        except (OSError, Incomplete, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            answer.keeps = False
        except BaseException:
            await self.close(with_reset=True)
            raise
        if not answer.keeps:
            await self.close(with_reset=manners.with_reset)
        return answer

    async def close(self, *, with_reset: bool = False) -> None:
        """Hang up."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is None:
            return
        transport = writer.transport
        connected = cast("socket.socket | None", transport.get_extra_info("socket"))
        if with_reset and connected is not None:
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _exchange(
        self, request: bytes, answer: Answer, manners: Manners, last_word: bytes | None
    ) -> None:
        reader = self._reader
        if reader is None:
            raise Incomplete
        await self._send(request, manners)
        if manners.leaves == "after request":
            return
        await _read_head(reader, answer)
        if manners.leaves == "after head":
            return
        async for piece in _body_of(reader, answer):
            answer.body += piece
            if manners.leaves == "in body" and len(answer.body) > manners.after_bytes:
                answer.whole = False  # it may have read the last word; it does not say so
                return
            if last_word and not answer.whole and _has_line(answer.body, last_word):
                answer.whole = True
            if manners.reads_slowly:
                await asyncio.sleep(_PAUSE_SECONDS)
        if last_word and answer.status == 200 and not answer.whole:  # noqa: PLR2004
            return  # HTTP's end came before the stream's
        answer.whole = True
        answer.keeps = answer.headers.get("connection", "").lower() != "close" and (
            "content-length" in answer.headers or "transfer-encoding" in answer.headers
        )

    async def _send(self, request: bytes, manners: Manners) -> None:
        if self._writer is None:
            raise Incomplete
        if manners.leaves == "in request":
            self._writer.write(request[: manners.after_bytes])
            await asyncio.sleep(_PAUSE_SECONDS)
            raise Incomplete
        if not manners.sends_slowly:
            self._writer.write(request)
            await self._writer.drain()
            return
        third = len(request) // 3 + 1
        for start in range(0, len(request), third):
            self._writer.write(request[start : start + third])
            await self._writer.drain()
            await asyncio.sleep(_PAUSE_SECONDS)


async def _read_head(reader: asyncio.StreamReader, answer: Answer) -> None:
    """Read the head of the final answer; interim ones are passed over."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = head.rstrip("\r\n").split("\r\n")
        status = int(start.split()[1])
        if status not in _INTERIM:
            break
    answer.status = status
    for line in lines:
        name, _, value = line.partition(":")
        answer.headers[name.lower()] = value.strip()


async def _body_of(reader: asyncio.StreamReader, answer: Answer) -> AsyncGenerator[bytes]:
    """The pieces of the body, as they come.

    Raises:
        Incomplete: it ended before its end.
    """
    headers = answer.headers
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    elif "content-length" in headers:
        left = int(headers["content-length"])
        while left:
            piece = await reader.read(min(left, _PIECE_BYTES))
            if not piece:
                raise Incomplete
            left -= len(piece)
            yield piece
    else:
        while piece := await reader.read(_PIECE_BYTES):
            yield piece


def _has_line(body: bytearray, beginning: bytes) -> bool:
    at = body.find(beginning)
    # the line is whole: its row is on disk before its end has left
    return (at == 0 or (at > 0 and body[at - 1] == ord("\n"))) and body.find(b"\n", at) > 0
