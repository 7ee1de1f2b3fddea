"""What a stream asks of the gateway: the seam between mitmproxy's world and ours."""

from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Client

from addons.answers import Answer
from addons.exchange import Exchange, Headers
from addons.outcome import Outcome, Refused
from addons.waiting import Step


class Policy(Protocol):
    """What a stream asks of the gateway. All times are seconds."""

    header_timeout: float
    idle_timeout: float
    drain_seconds: float
    drain_bytes: int
    is_observed: bool
    is_draining: bool
    is_stopping: bool

    def begin(self, request: http.Request, client: Client) -> Exchange:
        """A new exchange; the head has arrived."""
        ...

    async def requestheaders(self, exchange: Exchange) -> Answer | None:
        """Decide on the head alone. Raises `Refused`."""
        ...

    async def request(self, exchange: Exchange) -> Answer | None:
        """Decide on the whole request; then it goes upstream. Raises `Refused`."""
        ...

    def outcome_of(self, exchange: Exchange, step: Step) -> Answer | None:
        """What a finished step says: None to go on, else the answer; never raises."""
        ...

    def body_refusal(self, exchange: Exchange, body_bytes: int) -> Refused | None:
        """Why so long a body is not read on."""
        ...

    def body_forgotten(self, exchange: Exchange) -> None:
        """The body is no longer held."""
        ...

    def refuse(self, exchange: Exchange, refused: Refused) -> Answer:
        """The answer to a refusal; writes the row."""
        ...

    def defect(self, exchange: Exchange, error: BaseException) -> Answer:
        """The answer to a defect of Metrion; writes the row."""
        ...

    def malformed(self, status: int, message: str) -> Answer:
        """The answer to a head that cannot be read."""
        ...

    def wire_headers(self, exchange: Exchange) -> Headers:
        """The headers that hold the provider key, opened for this one write."""
        ...

    def responseheaders(self, exchange: Exchange, status: int, headers: Headers) -> Headers:
        """The provider's head has come; the headers that the client gets."""
        ...

    def responsedata(self, exchange: Exchange, data: bytes) -> bytes:
        """Bytes of the answer pass by; the bytes that the client gets."""
        ...

    def response(self, exchange: Exchange) -> bytes:
        """The answer is whole: writes the row; the bytes that were held back, if any."""
        ...

    def error(self, exchange: Exchange, outcome: Outcome) -> None:
        """The exchange ended early: writes the row."""
        ...
