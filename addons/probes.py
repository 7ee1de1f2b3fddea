"""What a balancer and Prometheus ask the proxy process: `/healthz`, `/readyz`, `/metrics`."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from addons.answers import Answer
from addons.exchange import Exchange
from addons.fellow_workers import Fellows
from addons.outcome import Outcome

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_OVERHEAD_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
METRICS_CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Probes:
    """Answers to probes.

    Args:
        registry: what `/metrics` shows.
        is_stopping: the process drains: a balancer should send no more.
        is_listening: the database is provably there.
        is_sharing: limits are counted together with other processes; None: this one is alone.
        fellows: the other processes behind the same port; None: there are none.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        is_stopping: Callable[[], bool],
        is_listening: Callable[[], bool],
        is_sharing: Callable[[], bool] | None = None,
        fellows: Fellows | None = None,
    ) -> None:
        self._registry = registry
        self._is_sharing = is_sharing
        self._fellows = fellows
        self._is_stopping = is_stopping
        self._is_listening = is_listening
        self._answers = {
            "/healthz": self._health,
            "/readyz": self._readiness,
        }

    async def answer(self, exchange: Exchange) -> Answer | None:
        """The answer to a probe; None if the request is none."""
        if exchange.method != "GET":
            return None
        if exchange.path == "/metrics":
            return await self._metrics(exchange.query)
        make = self._answers.get(exchange.path)
        return make() if make else None

    def _health(self) -> Answer:
        """The process lives and its event loop turns."""
        return _json(200, {"status": "ok"})

    def _readiness(self) -> Answer:
        """Whether new requests are welcome.

        A database that is away does not make a proxy unready: cached tokens go on working, and
        taking every proxy out of service at once would end that. The same goes for the store that
        counts for several: each then limits by itself. Both are shown.
        """
        state = {"database": "listening" if self._is_listening() else "not listening"}
        if self._is_sharing is not None:
            state["limits"] = "shared" if self._is_sharing() else "not shared: Valkey is away"
        if self._is_stopping():
            return _json(503, {"status": "stopping"} | state)
        return _json(200, {"status": "ok"} | state)

    async def _metrics(self, query: str) -> Answer:
        if self._fellows is None:
            return _answer(200, METRICS_CONTENT_TYPE, generate_latest(self._registry))
        body = await self._fellows.metrics(self._registry, query)
        if body is None:
            return _json(404, {"error": "there is no such worker, or it does not answer"})
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


class RequestMetrics(Collector):
    """Counts of requests; labels are bounded: providers of the table, outcomes, codes.

    Counted in plain numbers and told as Prometheus wants them when it asks: its own counters, with
    a lock and a search by labels each, took a fifteenth of a request's time. All of it is done in
    the event loop's thread.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self._seconds: dict[str, _Times] = {}
        self._overhead: dict[str, _Times] = {}
        self._ended: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._open = 0
        registry.register(self)

    def forwarded(self) -> None:
        """A request goes to its provider."""
        self._open += 1

    def ended(self, provider: str, outcome: Outcome, *, was_forwarded: bool) -> None:
        """A request has ended."""
        self._ended[provider, outcome.value] += 1
        if was_forwarded:
            self._open -= 1

    def timed(self, provider: str, milliseconds: float | None, overhead: float | None) -> None:
        """How long a forwarded request took, and how much of it was ours (both in ms)."""
        if milliseconds is None or overhead is None:
            return
        if provider not in self._seconds:
            self._seconds[provider] = _Times(_SECONDS)
            self._overhead[provider] = _Times(_OVERHEAD_SECONDS)
        self._seconds[provider].add(milliseconds / 1000)
        self._overhead[provider].add(overhead / 1000)

    def refused(self, code: str) -> None:
        """Metrion answered by itself."""
        self._refused[code] += 1

    def collect(self) -> Iterable[Metric]:
        """Tell the counts as they are at this moment."""
        yield _histogram(
            "metrion_request_seconds",
            "Time from a request's head to the end of its provider's answer",
            self._seconds,
        )
        yield _histogram(
            "metrion_overhead_seconds", "Metrion's own share of that time", self._overhead
        )
        ended = CounterMetricFamily(
            "metrion_requests",
            "Requests that got past authentication, by how they ended",
            labels=["provider", "outcome"],
        )
        for labels, count in self._ended.items():
            ended.add_metric(labels, count)
        yield ended
        refused = CounterMetricFamily(
            "metrion_own_answers", "Answers of Metrion itself, by error code", labels=["code"]
        )
        for code, count in self._refused.items():
            refused.add_metric([code], count)
        yield refused
        yield GaugeMetricFamily(
            "metrion_requests_open", "Requests that are under way at a provider", self._open
        )


class _Times:
    """How many times fell into which bucket.

    Args:
        bounds: the largest of each bucket, in seconds, ascending; one more has no bound.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Bounds, and how many times are not above them."""
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))


def _histogram(name: str, documentation: str, times: dict[str, _Times]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, documentation, labels=["provider"])
    for provider, each in times.items():
        family.add_metric([provider], buckets=each.buckets, sum_value=each.sum)
    return family
