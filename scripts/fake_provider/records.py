"""What the fake remembers of the requests it got, for tests that ask what reached a provider."""

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from scripts.fake_provider.wire import Request

MAX_RECORDS = 10_000
MAX_RECORDED_BYTES = 256 * 1024 * 1024
_OURS = (b"sk-metrion", b"x-metrion-", b"\r\ncookie:", b"metrion.invalid")


@dataclass(slots=True, eq=False)
class RecordedRequest:
    """One request as it arrived. Times are `time.monotonic()` in seconds.

    Attributes:
        target: path and query as sent.
        head: request line and header lines, byte for byte.
        connection: number of the connection that it came on.
        pipelined: it arrived before the previous request of its connection was answered; a
            gateway never does that on purpose, so it is the mark of a smuggled request.
        answered_at: when the last bytes of the answer went to the socket; None: not (yet).
        peer_closed_at: when the client closed the connection that this was the last request of.
    """

    method: str
    target: str
    head: bytes
    body: bytes
    connection: int
    received_at: float
    pipelined: bool = False
    answered_at: float | None = None
    peer_closed_at: float | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark, as sent."""
        return self.target.partition("?")[2]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All header lines in order, names as sent (bytes read as Latin-1)."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines)
        return [(name, value.strip(" \t")) for name, _, value in pairs]

    def values(self, name: str) -> list[str]:
        """Return the values of all lines with that name, whatever its case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the value of the only line with that name, or None.

        Raises:
            ValueError: there is more than one.
        """
        values = self.values(name)
        if len(values) > 1:
            raise ValueError(f"{name} came {len(values)} times")
        return values[0] if values else None

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)

    @property
    def leaks(self) -> list[str]:
        """What of the gateway's own is in the head; a provider must see none of it."""
        head = self.head.lower()
        return [mark.decode().strip() for mark in _OURS if mark in head]


@dataclass(frozen=True, slots=True)
class Violation:
    """Bytes that were not a well-formed request: why, and the first of them."""

    reason: str
    connection: int
    excerpt: bytes


@dataclass(slots=True)
class Records:
    """A bounded memory of requests and violations, written by one thread, read by others."""

    _requests: deque[RecordedRequest] = field(default_factory=deque[RecordedRequest])
    _violations: list[Violation] = field(default_factory=list[Violation])
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, request: Request, connection: int, now: float, *, pipelined: bool = False
    ) -> RecordedRequest:
        """Remember a request, and forget the oldest when there are too many."""
        record = RecordedRequest(
            request.method, request.target, request.head, request.body, connection, now, pipelined
        )
        with self._lock:
            self._requests.append(record)
            self._bytes += len(record.body)
            while len(self._requests) > MAX_RECORDS or self._bytes > MAX_RECORDED_BYTES:
                self._bytes -= len(self._requests.popleft().body)
        return record

    def add_violation(self, violation: Violation) -> None:
        """Remember a malformed request (the first 1,000 of them)."""
        with self._lock:
            if len(self._violations) < 1000:  # noqa: PLR2004 - said above
                self._violations.append(violation)

    @property
    def requests(self) -> list[RecordedRequest]:
        """A copy of the list, oldest first."""
        with self._lock:
            return list(self._requests)

    @property
    def violations(self) -> list[Violation]:
        """A copy of the list, oldest first."""
        with self._lock:
            return list(self._violations)

    def take(self) -> list[RecordedRequest]:
        """Return the requests, oldest first, and forget them."""
        with self._lock:
            requests = list(self._requests)
            self._requests.clear()
            self._bytes = 0
        return requests

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._requests.clear()
            self._violations.clear()
            self._bytes = 0
