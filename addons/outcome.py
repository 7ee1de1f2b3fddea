"""How a request ends, and why one is refused. Needs nothing else, so that all can use it."""

from collections.abc import Mapping
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended (SPEC section 8)."""

    OK = "ok"
    PROVIDER_ERROR = "provider_error"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    CLIENT_CLOSED = "client_closed"
    UPSTREAM_CLOSED = "upstream_closed"


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of the program
    """Metrion answers this request itself.

    Every reason why a request is not forwarded is one of these; `addons.answers` turns it into
    the JSON shape of the route's provider.

    Attributes:
        status: HTTP status.
        code: `error.code` of SPEC section 5.
        message: for a person; never holds a credential.
        retry_after: whole seconds, for 429 and 503.
        headers: further headers of the answer, such as `Allow`.
        outcome: what the log row says.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        outcome: Outcome = Outcome.REFUSED,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.outcome = outcome


def shutting_down(outcome: Outcome = Outcome.REFUSED) -> Refused:
    """Why a process that ends does not serve a request."""
    message = "Metrion is shutting down."
    return Refused(503, "unavailable", message, retry_after=1, outcome=outcome)


def request_timeout() -> Refused:
    """Why a request that does not come to its end is not read on."""
    return Refused(408, "request_timeout", "The request did not arrive in time.")


def provider_timeout(seconds: float) -> Refused:
    """Why a provider is not waited for any longer."""
    message = f"The provider did not answer within {seconds:g} seconds."
    return Refused(504, "provider_timeout", message, outcome=Outcome.TIMEOUT)


def provider_unreachable() -> Refused:
    """Why a request is not forwarded although it might be."""
    message = "The provider cannot be reached."
    return Refused(502, "provider_unreachable", message, outcome=Outcome.PROVIDER_ERROR)


def provider_error(reason: str) -> Refused:
    """Why what a provider said is no answer."""
    message = f"The provider gave no usable answer ({reason})."
    return Refused(502, "provider_error", message, outcome=Outcome.UPSTREAM_CLOSED)
