"""The other proxy processes behind the same port, for whoever asks one of them about all.

Each worker also listens on a port of its own, on this machine only (`scripts.workers`). Whichever
gets `GET /metrics` asks the others there and answers for all of them, each sample with the label
`worker`: a scrape sees every process every time, wherever its connection happened to land.
`GET /metrics?worker=2` answers for that one alone.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

HOST: Final = "127.0.0.1"
ASK_SECONDS: Final = 2.0


class Fellows:
    """All workers, this one among them.

    Args:
        number: this worker's; the first is 1.
        ports: of all workers, the first one's first.
    """

    def __init__(self, number: int, ports: list[int]) -> None:
        self._number = number
        self._ports = dict(enumerate(ports, 1))

    async def metrics(self, own: CollectorRegistry, query: str) -> bytes | None:
        """The metrics that are asked for; None if there is no such worker, or it is silent."""
        if not query:
            return await self._of_all(own)
        wanted = query.removeprefix("worker=")
        if wanted == str(self._number):
            return generate_latest(own)
        port = next((port for n, port in self._ports.items() if str(n) == wanted), None)
        return None if port is None else await _ask(port, int(wanted))

    async def _of_all(self, own: CollectorRegistry) -> bytes:
        async def of(number: int, port: int) -> bytes | None:
            return generate_latest(own) if number == self._number else await _ask(port, number)

        texts = await asyncio.gather(*(of(n, port) for n, port in self._ports.items()))
        return generate_latest(_Merged(dict(zip(self._ports, texts, strict=True))))


class _Merged(Collector):
    """The metrics of several processes, told apart by a label."""

    def __init__(self, texts: Mapping[int, bytes | None]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        """Each family once, with the samples of all."""
        up = GaugeMetricFamily(
            "metrion_worker_up",
            "Whether this worker answers (1) or not (0)",
            labels=["worker"],
        )
        families: dict[str, Metric] = {up.name: up}
        for number, text in self._texts.items():
            up.add_metric([str(number)], 0 if text is None else 1)
            for family in text_string_to_metric_families((text or b"").decode()):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                merged.samples += [
                    Sample(sample.name, {**sample.labels, "worker": str(number)}, sample.value)
                    for sample in family.samples
                ]
        return families.values()


async def _ask(port: int, number: int) -> bytes | None:
    """The metrics of a worker; None: it does not answer."""
    request = f"GET /metrics?worker={number} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request.encode())
                answer = await reader.read(-1)
            finally:
                writer.close()
    except OSError:  # a time-out is one, too
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.split()[1:2] == [b"200"] else None
