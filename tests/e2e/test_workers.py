"""Four proxy processes on one port: what they count together, and what becomes of a dead one.

The bound of a `kill -9` (`addons.rate_window`): of one token there never pass more than the rate,
and what the dead process had counted and not yet answered passes no more: of a burst, at most as
many fewer as it had requests under way.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

WORKERS = 4
RATE = 100
MONTH = 50
CONNECTIONS = 64
CHAT = "/api/proxy/openai/v1/chat/completions"
BODY = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'


@pytest.fixture(scope="module")
def workers(fake_provider, tmp_path_factory, deployment_type):
    """A deployment of four workers, with a Valkey of its own."""
    running = deployment_type(
        tmp_path_factory.mktemp("workers"),
        [sys.executable, "-P", "-m", "scripts.supervisor", "--workers", str(WORKERS)],
        {
            "METRION_ORIGINS": json.dumps({"openai": fake_provider.origin}),
            "METRION_MONTHLY_REQUESTS_FREE": str(MONTH),
        },
    )
    running.start()
    yield running
    running.close()
    running.stop()
    running.check_for_leaks()


@dataclass
class Burst:
    """What became of many requests at once.

    Attributes:
        statuses: how many were answered how.
        lost: requests whose connection broke before they were answered.
    """

    token: str
    url: str
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0

    async def run(self, requests: int, connections: int = CONNECTIONS) -> None:
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._client(requests // connections))

    async def _client(self, requests: int) -> None:
        """Send them one after the other; a connection that broke is replaced, its request is not."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for _ in range(requests):
            try:
                self.statuses[await self._ask(reader, writer)] += 1
            except (OSError, asyncio.IncompleteReadError):
                self.lost += 1
                writer.close()
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {self.token}\r\n"
        writer.write(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = answer.partition(b"content-length:")[2].split()[0]
        await reader.readexactly(int(length))
        return int(answer.split()[1])


def burst_of(workers, account) -> Burst:
    return Burst(account.token, workers.proxy_url)


def samples(workers, name: str, query: str = "") -> dict[str, float]:
    """Worker → the sum of its samples of a name."""
    text = httpx.get(f"{workers.proxy_url}/metrics{query}").text
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                worker = sample.labels.get("worker", "")
                sums[worker] = sums.get(worker, 0) + sample.value
    return sums


def all_share(workers) -> bool:
    return samples(workers, "metrion_shared_limits_up") == {
        str(number): 1 for number in range(1, WORKERS + 1)
    }


def test_each_has_its_name(workers):
    names = {f"proxy-{number}" for number in range(1, WORKERS + 1)}
    assert set(workers.ready["pids"]) == names | {"api", "jobs", "postgres", "valkey"}
    assert len(set(workers.ready["pids"].values())) == WORKERS + 4


def test_whoever_is_asked_answers_for_all(workers):
    everyone = {str(number) for number in range(1, WORKERS + 1)}
    for _ in range(5):
        assert samples(workers, "metrion_worker_up") == dict.fromkeys(everyone, 1)
        assert samples(workers, "metrion_requests_open") == dict.fromkeys(everyone, 0)
    assert samples(workers, "metrion_requests_open", "?worker=2") == {"": 0}
    assert httpx.get(f"{workers.proxy_url}/metrics?worker=5").status_code == 404
    assert httpx.get(f"{workers.proxy_url}/readyz").json()["limits"] == "shared"


def test_of_2000_requests_over_all_exactly_100_pass(workers, provider):
    account = workers.create_account()
    before = samples(workers, "metrion_requests_total")
    burst = burst_of(workers, account)
    asyncio.run(burst.run(2048))
    assert burst.statuses == {200: RATE, 429: 2048 - RATE}
    assert len(provider.requests) == RATE
    after = samples(workers, "metrion_requests_total")
    served = {worker: after[worker] - before.get(worker, 0) for worker in after}
    print(f"requests per worker: {served}")  # noqa: T201 - the number is the point
    assert len(served) == WORKERS
    assert min(served.values()) > 2048 / WORKERS / 4


def test_a_worker_that_is_killed_in_between_lets_nobody_through(workers, provider, eventually):
    account = workers.create_account()
    pids = workers.ready["pids"]
    burst = burst_of(workers, account)

    async def run() -> None:
        sending = asyncio.create_task(burst.run(512))
        while burst.statuses.total() < RATE // 3:
            await asyncio.sleep(0)
        os.kill(pids["proxy-3"], signal.SIGKILL)
        await sending

    asyncio.run(run())
    print(f"killed in between: {burst.statuses}, lost {burst.lost}")  # noqa: T201
    assert set(burst.statuses) == {200, 429}
    assert 0 < burst.lost <= CONNECTIONS
    assert RATE - burst.lost <= burst.statuses[200] <= RATE
    assert len(provider.requests) <= RATE
    eventually(lambda: workers.ready["pids"]["proxy-3"] != pids["proxy-3"], 30)
    eventually(lambda: samples(workers, "metrion_worker_up")["3"] == 1, 30)
    others = ("proxy-1", "proxy-2", "proxy-4", "valkey", "postgres", "api", "jobs")
    assert all(workers.ready["pids"][name] == pids[name] for name in others)
    # what it had in its journal is taken over by one of the others
    passed = eventually(lambda: _passed(workers, account, burst.statuses[200]), 30)
    assert passed <= RATE


def _passed(workers, account, least: int) -> int | None:
    """How many rows say that a request was forwarded, once there are enough."""
    url = f"{workers.api_url}/api/v1/logs?limit=1000"
    answer = httpx.get(url, headers={"authorization": f"Bearer {account.token}"})
    count = sum(row["outcome"] == "ok" for row in answer.json()["items"])
    return count if count >= least else None


def test_a_month_s_allowance_is_shared_too(workers, provider):
    account = workers.create_account("free")
    burst = burst_of(workers, account)
    asyncio.run(burst.run(512))
    assert burst.statuses == {200: MONTH, 429: 512 - MONTH}
    assert len(provider.requests) == MONTH


def test_without_valkey_requests_go_on_and_are_bounded(workers, provider, eventually):
    account = workers.create_account()
    pid = workers.ready["pids"]["valkey"]
    said_before = len(workers.said)
    burst = burst_of(workers, account)

    async def run() -> None:
        sending = asyncio.create_task(burst.run(1024))
        while burst.statuses.total() < RATE // 3:
            await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        await sending

    asyncio.run(run())
    decided = samples(workers, "metrion_shared_limits_decided_alone_total")
    print(f"Valkey killed in between: {burst.statuses}, alone: {decided}")  # noqa: T201
    assert set(burst.statuses) == {200, 429}
    assert not burst.lost
    assert RATE <= burst.statuses[200] <= WORKERS * RATE
    assert sum(decided.values()) > 0
    eventually(lambda: workers.ready["pids"]["valkey"] != pid, 30)
    eventually(lambda: all_share(workers), 30)

    def said(words: str) -> int:
        lines = workers.said[said_before:].splitlines()
        return len([line for line in lines if "Valkey is" in line and words in line])

    eventually(lambda: said("back after") == WORKERS, 30)
    assert said("away") == WORKERS
    # and 100 is 100 again
    again = burst_of(workers, workers.create_account())
    asyncio.run(again.run(256))
    assert again.statuses[200] == RATE
