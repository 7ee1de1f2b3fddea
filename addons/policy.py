"""The seams of `addons.relay`: the gateway that decides, the wire that carries, who looks on."""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from addons.answers import Answer
from addons.exchange import Exchange, Headers
from addons.framing import RequestHead
from addons.outcome import Outcome, Refused
from addons.providers.base import Origin

Step = asyncio.Task[Answer | None]

NEVER = math.inf


class Policy(Protocol):
    """What a relay asks of the gateway. All times are seconds."""

    header_timeout: float
    idle_timeout: float
    drain_seconds: float
    drain_bytes: int
    is_observed: bool
    is_draining: bool
    is_stopping: bool

    def begin(self, head: RequestHead, client: str) -> Exchange:
        """A new exchange; its head has arrived from `client` (an address)."""
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

    def body_leaves(self, exchange: Exchange, is_gone: Callable[[], bool]) -> None:
        """The body was written; `is_gone`: the provider's connection holds nothing of it."""
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


class View(Protocol):
    """Somebody who looks: gets a picture of what happens (see `addons.inspection`)."""

    def forwarded(self) -> None:
        """The request is about to go upstream."""
        ...

    def response_head(self, status: int, headers: Headers) -> None:
        """The answer has begun."""
        ...

    def response_data(self, data: bytes) -> None:
        """Bytes of the answer passed."""
        ...

    def answered(self, answer: Answer) -> None:
        """Metrion answered by itself."""
        ...

    def ended(self) -> None:
        """The answer is whole."""
        ...

    def failed(self, reason: str) -> None:
        """The exchange ended early."""
        ...


class Wire(Protocol):
    """The connections of one exchange. No method of it waits or raises."""

    def want_tick(self, at: float) -> None:
        """Call `expired` at this time of `time.monotonic` if the deadline is still the same."""
        ...

    def wait_for(self, step: Step) -> None:
        """Call `step_done` when the step has finished; until then nothing but `client_left`."""
        ...

    def look(self, exchange: Exchange) -> View | None:
        """Who looks at this exchange, if anybody does."""
        ...

    def send_continue(self) -> None:
        """Tell the client to send its body (100)."""
        ...

    def send_head(self, status: int, reason: bytes, headers: Headers, *, ends: bool) -> None:
        """Begin the answer; `ends`: it has no body."""
        ...

    def send_data(self, data: bytes) -> None:
        """Go on with the answer's body."""
        ...

    def send_end(self) -> None:
        """The answer is whole."""
        ...

    def break_off(self, reason: str) -> None:
        """End the answer so that the client sees that it is not whole."""
        ...

    def connect(self, origin: Origin) -> None:
        """Call `connected` or `connect_failed` when there is a connection to the provider."""
        ...

    def abandon_connect(self) -> None:
        """Nobody waits for the connection any more."""
        ...

    def send_request(self, exchange: Exchange, key_headers: Headers, body: bytes) -> None:
        """Write the whole request to the provider. What has the key in it is not kept."""
        ...

    def has_sent_all(self) -> bool:
        """Nothing of the request waits to leave, as far as that is known."""
        ...

    def close_upstream(self) -> None:
        """The rest of the provider's answer is not wanted: close its connection."""
        ...

    def dropped(self) -> None:
        """The exchange is over."""
        ...
