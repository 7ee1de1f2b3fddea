"""The listening server, and `FakeProvider`, which runs one in a thread of its own."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from scripts.fake_provider.connection import Connection
from scripts.fake_provider.records import RecordedRequest, Records, Violation

HOST = "127.0.0.1"
_POLL_SECONDS = 0.005


class Server:
    """Accepts connections on a running event loop.

    Attributes:
        recording: whether requests are remembered.
        pace: seconds between the events of a stream whose request says nothing else.
        scripts: what is said to a request that names one.
    """

    def __init__(self, records: Records, *, recording: bool, pace: float = 0.0) -> None:
        self.records = records
        self.recording = recording
        self.pace = pace
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.scripts: dict[bytes, list[bytes]] = {}
        self._numbers = 0
        self._listener: asyncio.Server | None = None

    def next_number(self) -> int:
        """Count a request."""
        self._numbers += 1
        return self._numbers

    async def listen(self, port: int, tls: ssl.SSLContext | None) -> int:
        """Start to accept. Returns the port.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._accept, HOST, port, ssl=tls, backlog=4096, reuse_address=True
        )
        return int(self._listener.sockets[0].getsockname()[1])

    def _accept(self) -> Connection:
        self.accepted += 1
        return Connection(self, self.accepted)

    async def close(self) -> None:
        """Stop to accept and drop every connection."""
        if self._listener:
            self._listener.close()
        for connection in list(self.connections):
            connection.end(reset=True)
        await asyncio.sleep(0)  # lets the transports report that they are closed


class FakeProvider:
    """All five providers on one port of this machine, in a thread with its own event loop.

    A context manager. Several can run at once, each with its own origin and records. After
    `stop()` the port refuses connections; `start()` opens the same port again.

    Args:
        port: the port to listen on; 0 takes a free one.
        ssl_context: speak TLS with this certificate.
    """

    def __init__(self, port: int = 0, ssl_context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = ssl_context
        self._records = Records()
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        """The address to use instead of the provider's own, such as `http://127.0.0.1:4711`."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._port}"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests received, oldest first (the last 10,000)."""
        return self._records.requests

    @property
    def violations(self) -> list[Violation]:
        """Malformed or ambiguous requests received; they were answered 400."""
        return self._records.violations

    @property
    def leaks(self) -> list[RecordedRequest]:
        """Requests whose head had something in it that is the gateway's own."""
        return [request for request in self.requests if request.leaks]

    @property
    def connections_open(self) -> int:
        """The number of connections open now."""
        return len(self._server.connections) if self._server else 0

    @property
    def connections_accepted(self) -> int:
        """The number of connections accepted since the start."""
        return self._server.accepted if self._server else 0

    def take_requests(self) -> list[RecordedRequest]:
        """Return the requests received since the last time, and forget them: none is left out."""
        return self._records.take()

    @property
    def scripts(self) -> dict[bytes, list[bytes]]:
        """What is said, byte for byte, to a request with `x-fake-script: NAME`; then it closes."""
        if self._server is None:
            raise RuntimeError("the fake provider does not run")
        return self._server.scripts

    def clear(self) -> None:
        """Forget the requests and violations."""
        self._records.clear()

    def start(self) -> Self:
        """Listen; returns when connections are accepted.

        Raises:
            OSError: the port is taken.
        """
        ready = threading.Event()
        failure: list[OSError] = []
        self._thread = threading.Thread(
            target=self._run, args=(ready, failure), name="fake-provider", daemon=True
        )
        self._thread.start()
        ready.wait()
        if failure:
            self._thread.join()
            self._loop = self._thread = None
            raise failure[0]
        return self

    def stop(self) -> None:
        """Drop every connection, refuse new ones, end the thread."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop = self._thread = None

    def wait_for(
        self, condition: Callable[["FakeProvider"], object], seconds: float = 10.0
    ) -> None:
        """Block until the condition holds (asked every 5 ms).

        Raises:
            TimeoutError: it did not hold in time.
        """
        deadline = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the fake provider did not get there in {seconds} s")
            time.sleep(_POLL_SECONDS)

    async def until(
        self, condition: Callable[["FakeProvider"], object], seconds: float = 10.0
    ) -> None:
        """Like `wait_for`, without blocking the caller's event loop.

        Raises:
            TimeoutError: it did not hold in time.
        """
        async with asyncio.timeout(seconds):
            while not condition(self):  # noqa: ASYNC110 - the other side is another thread
                await asyncio.sleep(_POLL_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, ready: threading.Event, failure: list[OSError]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._server = Server(self._records, recording=True)
            try:
                self._port = runner.run(self._server.listen(self._port, self._tls))
            except OSError as error:
                failure.append(error)
                return
            finally:
                ready.set()
            self._loop.run_forever()
            runner.run(self._server.close())
