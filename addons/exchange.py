"""What is known of one request while it is under way, and why one is refused.

Everything else in this package works on an `Exchange`; it speaks neither mitmproxy nor SQL, and
holds no key: a provider key exists only in `Gateway.wire_headers`, for the length of one write.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Any, Protocol

from addons.outcome import Outcome
from addons.providers.base import Origin, Provider, Route
from storage.callers import Caller
from storage.pricing import TokenUsage
from storage.response_cache import StoredAnswer

Header = tuple[bytes, bytes]
Headers = list[Header]


class Mode(StrEnum):
    """Whose key goes on the wire (SPEC section 3)."""

    STORED = "stored"
    PASS_THROUGH = "pass-through"  # noqa: S105 - a mode, not a secret


class Phase(Enum):
    """Where a request is on its way."""

    HEAD = auto()
    BODY = auto()
    CONNECT = auto()
    WAIT = auto()
    ANSWER = auto()
    DISCARD = auto()
    DONE = auto()


class UsageMeter(Protocol):
    """What the gateway asks of the meter that reads along (see `addons.meter`)."""

    @property
    def usage(self) -> TokenUsage | None:
        """What was used, as far as the provider has said it."""
        ...

    @property
    def model(self) -> str | None:
        """The model as the provider names it."""
        ...

    @property
    def error_message(self) -> str | None:
        """The provider's error message; not scrubbed."""
        ...

    @property
    def complete(self) -> bool:
        """The answer ended as its protocol ends; holds once it was finished."""
        ...

    @property
    def heard_last_word(self) -> bool:
        """The stream has said that it is over."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Read bytes that pass by."""
        ...

    def finish(self) -> None:
        """No more bytes will come."""
        ...


class BodyFilter(Protocol):
    """Bytes of an answer in, bytes for the client out."""

    def feed(self, data: bytes) -> bytes:
        """The next bytes."""
        ...

    def finish(self) -> bytes:
        """What was held back at the end."""
        ...


class KeyFilter(BodyFilter, Protocol):
    """A filter that also takes whole values (see `addons.credentials.KeyGuard`)."""

    @property
    def has_blotted(self) -> bool:
        """The key was in the body that was fed."""
        ...

    @property
    def is_holding(self) -> bool:
        """Bytes are held back."""
        ...

    def blot(self, data: bytes) -> bytes:
        """A whole value without the key in it."""
        ...


class AnswerRecording(Protocol):
    """The pieces of an answer, to be kept (see `addons.replay_cache`)."""

    @property
    def is_given_up(self) -> bool:
        """It is too long."""
        ...

    def add(self, data: bytes) -> None:
        """One more piece."""
        ...

    def answer(self, exchange: "Exchange") -> StoredAnswer | None:
        """The answer, if it may be kept."""
        ...

    def release(self) -> None:
        """Its memory is no longer needed."""
        ...


@dataclass(slots=True)
class CacheUse:
    """A request's use of the response cache (see `addons.replay_cache`).

    Attributes:
        reads: a stored answer will do.
        life: seconds that the answer is kept.
        oldest: seconds that a stored one may have been kept already.
        fingerprint: what the request is known by.
        recording: the provider's answer, while it passes.
        answer: the stored answer that was given instead.
    """

    reads: bool
    life: int
    oldest: int
    fingerprint: bytes = field(default=b"", repr=False)
    recording: AnswerRecording | None = None
    answer: StoredAnswer | None = None


@dataclass(slots=True)
class Marks:
    """Moments of one exchange, in seconds of `time.monotonic`; None until they happen."""

    head: float
    admitted: float | None = None
    body: float | None = None
    forwarded: float | None = None
    answer_head: float | None = None
    answered: float | None = None
    first_byte: float | None = None
    end: float | None = None


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        id: a UUIDv7's text; the log row's id and `x-metrion-request-id`.
        created_at: when the head had arrived, UTC.
        method: as sent.
        path: without the query.
        query: without `?`; credentials are taken out of it.
        headers: of the request; credentials are taken out as the first step of all.
        client: the peer's address.
        http2: the client speaks HTTP/2.
        token: the caller's `sk-metrion-…`, dropped as soon as the account is found.
        own_key: the caller's own provider key in pass-through mode, dropped with the exchange.
        body: the request's body, whole, once it has been read; dropped when it was written.
        upstream_headers: request headers for the provider, without the key.
        usage_filter: keeps the usage chunk back where it was our wish, not the client's.
        guard: keeps the key out of what comes back.
        client_gone: the client has left; the answer is read on only to learn its usage.
        cache: what the request wants of the response cache; None: nothing.
        recorded: the row was written; there is exactly one.
        row: the row as it will be written, if somebody looks (see `addons.inspection`).
    """

    id: str
    created_at: datetime
    method: str
    path: str
    query: str
    headers: Headers = field(repr=False)
    client: str
    http2: bool
    marks: Marks
    provider: Provider | None = None
    route: Route | None = None
    origin: Origin | None = None
    token: str | None = field(default=None, repr=False)
    own_key: str | None = field(default=None, repr=False)
    mode: Mode = Mode.STORED
    caller: Caller | None = None
    cors_origin: bytes | None = None
    requester: str | None = None
    model: str | None = None
    streamed: bool = False
    body: bytes = field(default=b"", repr=False)
    upstream_path: str = ""
    upstream_headers: Headers = field(default_factory=list[Header])
    usage_filter: BodyFilter | None = None
    guard: KeyFilter | None = field(default=None, repr=False)
    status: int | None = None
    outcome: Outcome = Outcome.OK
    error: str | None = None
    meter: UsageMeter | None = None
    client_gone: bool = False
    cache: CacheUse | None = None
    recorded: bool = False
    row: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def is_anonymous(self) -> bool:
        """Pass-through for no account: limited and counted, but nobody's row."""
        return self.mode is Mode.PASS_THROUGH and self.caller is None

    def blot(self, value: bytes) -> bytes:
        """A value of the provider's without the key in it."""
        return self.guard.blot(value) if self.guard else value

    def header(self, name: bytes) -> bytes | None:
        """The first value of a request header; `name` in lower case."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None
