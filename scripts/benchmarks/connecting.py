"""Clients that connect for each request, before a provider that speaks TLS.

So does whoever calls once in a while, and every SDK that is made anew for each call. A gateway that
connects to the provider as often pays for a handshake each time; each has a provider of its own
here, which says in the end how many connections there were.
"""

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

from addons.providers import load_providers
from scripts.benchmarks.contestants import (
    Contestant,
    Field,
    chat_request,
    metrion_command,
    metrion_environment,
    peer_process,
)
from scripts.benchmarks.load import BadAnswerError
from scripts.benchmarks.peers import Peer, peers
from scripts.benchmarks.processes import MeasuredProcess, cores, cpu_seconds
from scripts.benchmarks.report import request_table
from scripts.benchmarks.requests import Figures
from scripts.child_environment import base_environment
from scripts.fake_provider.certificate import make_certificate
from scripts.ports import HOST

SCENARIO = "JSON over TLS, 8 new clients"
CLIENTS = 8
_WARM_REQUESTS = 100
_SETTLE_SECONDS = 0.7

type _Condition = Callable[[list[float]], bool]


@dataclass(slots=True)
class Runner:
    """Who takes part, and the provider behind it.

    Attributes:
        tls: how clients check the certificate of whom they connect to; None: they speak plain HTTP.
        sent: requests so far.
    """

    contestant: Contestant
    provider: MeasuredProcess
    tls: ssl.SSLContext | None = None
    sent: int = 0


def measure_connecting(
    field: Field, folder: Path, seconds: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Measure all; for each its `Figures`, and `connections_per_100` requests to the provider.

    Args:
        field: has the database, and the key of an account.
        folder: for what they write.
        seconds: how long each measurement lasts.
        rounds: of all in turn.
    """
    with _started(field, folder) as runners:
        taken: dict[str, list[Figures]] = {name: [] for name in runners}
        for runner in runners.values():
            asyncio.run(_send(runner, lambda sample: len(sample) < _WARM_REQUESTS))
        for _ in range(rounds):
            for name, runner in runners.items():
                taken[name].append(_measure_once(runner, seconds))
    return {
        name: asdict(_middle(taken[name]))
        | {"connections_per_100": 100 * _connections(runner.provider) / runner.sent}
        for name, runner in runners.items()
    }


@contextlib.contextmanager
def _started(field: Field, folder: Path) -> Generator[dict[str, Runner]]:
    core, _ = cores()
    certificate = make_certificate(folder)
    usual = field.contestants["direct"]
    metrion = field.contestants["metrion"]
    runners: dict[str, Runner] = {}
    with contextlib.ExitStack() as stack:

        def provider() -> MeasuredProcess:
            command = [sys.executable, "-P", "-m", "scripts.fake_provider", "--port", "{port}"]
            command += ["--certificate", str(certificate)]
            return stack.enter_context(MeasuredProcess(command, base_environment(), folder))

        def add(runner: Runner) -> None:
            runners[runner.contestant.name] = runner

        behind = provider()
        tls = ssl.create_default_context(cafile=str(certificate))
        add(Runner(replace(usual, process=behind), behind, tls))
        behind = provider()
        process = stack.enter_context(_mitmdump(behind, folder, certificate, core))
        add(Runner(replace(field.contestants["mitmdump"], process=process), behind))
        behind = provider()
        origins = {each.name: _origin(behind) for each in load_providers()}
        settings = field.metrion.model_copy(update={"origins": origins})
        environment = metrion_environment(settings) | {"SSL_CERT_FILE": str(certificate)}
        process = MeasuredProcess(metrion_command(), environment, folder, core=core)
        add(Runner(replace(metrion, process=stack.enter_context(process)), behind))
        if "nginx" in field.contestants:
            behind = provider()
            process = peer_process(_nginx(behind, folder), folder, core)
            nginx = field.contestants["nginx"]
            add(Runner(replace(nginx, process=stack.enter_context(process)), behind))
        yield runners


def _origin(provider: MeasuredProcess) -> str:
    return f"https://{HOST}:{provider.port}"


def _mitmdump(
    provider: MeasuredProcess, folder: Path, certificate: Path, core: int | None
) -> MeasuredProcess:
    program = str(Path(sys.executable).parent / "mitmdump")
    flags = ["--listen-port", "{port}", "--set", f"confdir={folder / 'mitmdump'}"]
    flags += ["--set", f"ssl_verify_upstream_trusted_ca={certificate}"]
    command = [program, "-q", "--mode", f"reverse:{_origin(provider)}", *flags]
    return MeasuredProcess(command, base_environment(), folder, core=core)


def _nginx(provider: MeasuredProcess, folder: Path) -> Peer:
    """As it is among the other peers, but to a provider that speaks TLS."""
    own = folder / "nginx-tls"
    own.mkdir()
    plain = f"http://{HOST}:{provider.port}"
    nginx = next(peer for peer in peers(own, plain) if peer.name == "nginx")
    text = nginx.configuration["nginx.conf"].replace("proxy_pass http:", "proxy_pass https:")
    return replace(nginx, configuration={"nginx-tls/nginx.conf": text})


def _measure_once(runner: Runner, seconds: float) -> Figures:
    pid = runner.contestant.process.pid
    cpu, begun = cpu_seconds(pid), time.monotonic()
    until = begun + seconds
    try:
        first_bytes = asyncio.run(_send(runner, lambda _: time.monotonic() < until))
    except BadAnswerError as error:
        raise BadAnswerError(f"{runner.contestant.name}, {SCENARIO}: {error}") from error
    took = time.monotonic() - begun
    if runner.contestant.name == "metrion":  # rows are written a little later
        time.sleep(_SETTLE_SECONDS)
    return Figures(
        cpu_us=(cpu_seconds(pid) - cpu) * 1e6 / len(first_bytes),
        postgres_us=0.0,
        requests_per_second=len(first_bytes) / took,
        first_byte_ms=median(first_bytes) * 1000,
        requests=len(first_bytes),
    )


def _middle(figures: list[Figures]) -> Figures:
    rounds = [asdict(each) for each in figures]
    values: dict[str, Any] = {name: median(each[name] for each in rounds) for name in rounds[0]}
    return Figures(**values)


async def _send(runner: Runner, goes_on: _Condition) -> list[float]:
    """Let clients send; return the seconds from each one's connect to the first byte it got."""
    request = chat_request(runner.contestant, streamed=False)
    first_bytes: list[float] = []

    async def client() -> None:
        while goes_on(first_bytes):
            first_bytes.append(await _ask(runner, request))

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    runner.sent += len(first_bytes)
    return first_bytes


async def _ask(runner: Runner, request: bytes) -> float:
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection(
        HOST, runner.contestant.process.port, ssl=runner.tls
    )
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        first_byte = time.perf_counter() - begun
        if b" 200" not in head[:12]:
            raise BadAnswerError(head[:200].decode("latin-1"))
        await reader.readexactly(_body_bytes(head))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return first_byte


def _body_bytes(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for name, _, value in lines if name == b"content-length")


def _connections(provider: MeasuredProcess) -> int:
    """How many a provider had, as it has said at its end."""
    return json.loads(provider.said.splitlines()[-1])["connections"]


def connecting_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What it cost each, and how often it connected to its provider."""
    names = {each.name for each in fields(Figures)}
    figures = {
        name: Figures(**{key: value for key, value in each.items() if key in names})
        for name, each in found.items()
    }
    said = ", ".join(f"{name} {each['connections_per_100']:.1f}" for name, each in found.items())
    return f"{request_table(SCENARIO, figures)}\nprovider's connections per 100 requests: {said}"
