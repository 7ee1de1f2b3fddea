"""One client connection: keep-alive, one answer at a time, exact endings."""

import asyncio
import socket
import struct
import time
from typing import TYPE_CHECKING, cast, override

from scripts.fake_provider.delivery import Plan, plan
from scripts.fake_provider.records import RecordedRequest, Violation
from scripts.fake_provider.routes import respond
from scripts.fake_provider.wire import ProtocolViolation, Request, RequestReader

if TYPE_CHECKING:
    from scripts.fake_provider.server import Server

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST
_BEFORE_RESET_SECONDS = 0.05
_BETWEEN_PIECES_SECONDS = 0.0005  # so that the other side gets them one by one


class Connection(asyncio.Protocol):
    """Reads requests and carries out the plans of their answers."""

    def __init__(self, server: "Server", number: int) -> None:
        self._server = server
        self._number = number
        self._reader = RequestReader()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._record: RecordedRequest | None = None
        self._writable: asyncio.Event | None = None  # only while the client is slow to read
        self._ended_by_us = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._record and not self._ended_by_us:
            self._record.peer_closed_at = time.monotonic()
        if self._task:
            self._task.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._task is None:
            self._take_requests(pipelined=False)

    @override
    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    @override
    def resume_writing(self) -> None:
        if self._writable:
            self._writable.set()
        self._writable = None

    def end(self, *, reset: bool = False) -> None:
        """Close from our side; a reset drops what the client has not read yet."""
        self._ended_by_us = True
        if not reset:
            self._transport.close()
            return
        connected = cast("socket.socket | None", self._transport.get_extra_info("socket"))
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _take_requests(self, *, pipelined: bool) -> None:
        """Answer the requests that are there, as long as answers can go out at once."""
        while self._task is None and not self._transport.is_closing():
            try:
                request = self._reader.next_request()
            except ProtocolViolation as violation:
                self._refuse(str(violation))
                return
            if request is None:
                if self._reader.awaits_continue:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._answer(request, pipelined=pipelined)
            pipelined = True

    def _refuse(self, reason: str) -> None:
        violation = Violation(reason, self._number, self._reader.buffered)
        self._server.records.add_violation(violation)
        self._transport.write(_BAD_REQUEST)
        self.end()

    def _answer(self, request: Request, *, pipelined: bool) -> None:
        server = self._server
        number = server.next_number()
        record = None
        if server.recording:
            now = time.monotonic()
            record = server.records.add(request, self._number, now, pipelined=pipelined)
        self._record = record
        script = server.scripts.get(request.fields.get(b"x-fake-script", b""))
        if script is not None:
            # Owned by the connection, as below.
            told = self._deliver(Plan(b"", script, "fin"), 0.0, _BETWEEN_PIECES_SECONDS, record)
            self._task = asyncio.get_running_loop().create_task(told)
            return
        reply = respond(request, number)
        knobs = reply.knobs
        planned = plan(reply, head_only=request.method == "HEAD")
        if not request.persistent and planned.ending == "keep":
            planned = Plan(planned.start, planned.pieces, "fin")
        interval = knobs.interval or (server.pace if reply.answer.events else 0.0)
        if knobs.delay or interval or planned.ending in ("stall", "rst"):
            # Owned by the connection: connection_lost cancels it, and its end clears it.
            self._task = asyncio.get_running_loop().create_task(
                self._deliver(planned, knobs.delay, interval, record)
            )
            return
        if record:
            record.answered_at = time.monotonic()
        self._transport.write(planned.start + b"".join(planned.pieces))
        if planned.ending == "fin":
            self.end()

    async def _deliver(
        self, planned: Plan, delay: float, interval: float, record: RecordedRequest | None
    ) -> None:
        """Carry out a plan that takes time."""
        await asyncio.sleep(delay)
        await self._write(planned.start)
        for index, piece in enumerate(planned.pieces, 1):
            if index > 1 and interval:
                await asyncio.sleep(interval)
            if record and index == len(planned.pieces) and planned.ending in ("keep", "fin"):
                record.answered_at = time.monotonic()
            await self._write(piece)
        if planned.ending == "stall":
            await asyncio.Event().wait()  # until the connection's end cancels this
        if planned.ending == "rst":
            # A reset also drops what has arrived but was not read yet: leave time to read it.
            await asyncio.sleep(_BEFORE_RESET_SECONDS)
        self._task = None
        if planned.ending != "keep":
            self.end(reset=planned.ending == "rst")
            return
        self._take_requests(pipelined=True)

    async def _write(self, data: bytes) -> None:
        if data:
            self._transport.write(data)
        if self._writable:
            await self._writable.wait()
