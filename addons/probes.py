"""What a balancer and Prometheus ask the proxy process: `/healthz`, `/readyz`, `/metrics`."""

import json
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from addons.answers import Answer
from addons.exchange import Exchange
from addons.outcome import Outcome

METRICS_CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Probes:
    """Answers to probes.

    Args:
        registry: what `/metrics` shows.
        is_stopping: the process drains: a balancer should send no more.
        is_listening: the database is provably there.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        is_stopping: Callable[[], bool],
        is_listening: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._is_stopping = is_stopping
        self._is_listening = is_listening
        self._answers = {
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/metrics": self._metrics,
        }

    def answer(self, exchange: Exchange) -> Answer | None:
        """The answer to a probe; None if the request is none."""
        if exchange.method != "GET":
            return None
        make = self._answers.get(exchange.path)
        return make() if make else None

    def _health(self) -> Answer:
        """The process lives and its event loop turns."""
        return _json(200, {"status": "ok"})

    def _readiness(self) -> Answer:
        """Whether new requests are welcome.

        A database that is away does not make a proxy unready: cached tokens go on working, and
        taking every proxy out of service at once would end that. It is shown.
        """
        database = "listening" if self._is_listening() else "not listening"
        if self._is_stopping():
            return _json(503, {"status": "stopping", "database": database})
        return _json(200, {"status": "ok", "database": database})

    def _metrics(self) -> Answer:
        body = generate_latest(self._registry)
        return _answer(200, METRICS_CONTENT_TYPE, body)


def _json(status: int, value: dict[str, str]) -> Answer:
    return _answer(status, b"application/json", json.dumps(value).encode())


def _answer(status: int, content_type: bytes, body: bytes) -> Answer:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return Answer(status, headers, body)


class RequestMetrics:
    """Counts of requests; labels are bounded: providers of the table, outcomes, codes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "metrion_requests",
            "Requests that got past authentication, by how they ended",
            ["provider", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "metrion_own_answers",
            "Answers of Metrion itself, by error code",
            ["code"],
            registry=registry,
        )
        self._open = Gauge(
            "metrion_requests_open", "Requests that are under way at a provider", registry=registry
        )

    def forwarded(self) -> None:
        """A request goes to its provider."""
        self._open.inc()

    def ended(self, provider: str, outcome: Outcome, *, was_forwarded: bool) -> None:
        """A request has ended."""
        self._ended.labels(provider, outcome.value).inc()
        if was_forwarded:
            self._open.dec()

    def refused(self, code: str) -> None:
        """Metrion answered by itself."""
        self._refused.labels(code).inc()
