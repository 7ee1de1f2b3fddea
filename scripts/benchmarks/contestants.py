"""What is measured: the stand-in provider alone, bare mitmdump before it, Metrion before it."""

import asyncio
import contextlib
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from addons.providers import load_providers
from scripts.benchmarks.peers import CALLERS_KEY, Peer, peers
from scripts.benchmarks.processes import MeasuredProcess, cores, url_of
from scripts.child_environment import base_environment, child_environment
from scripts.installation import prepare_demo
from storage import roles
from storage.database_url import service_url
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate
from storage.sealing import MasterKeys
from storage.settings import Settings

EVENTS = 32
"""Of a stream."""
_CHAT_PATH = "/v1/chat/completions"
# A body of a known length is read whole, as bare mitmdump does; streams pass as they come. Its own
# option does not do: `stream_large_bodies` keeps a body back until more of it than that has come.
_STREAMING = """
def responseheaders(flow):
    flow.response.stream = "content-length" not in flow.response.headers
"""
# Without a limit on its own work the measurement would be one of refusals.
_RATE_PER_MINUTE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that answers chat requests on a port of this machine.

    Attributes:
        path: where it takes chat requests.
        key: what it is sent as the caller's key.
        headers: lines that its requests have beside the usual.
        streams: it passes streams on.
    """

    name: str
    process: MeasuredProcess
    path: str
    key: str
    headers: tuple[str, ...] = ()
    streams: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """All who take part.

    Attributes:
        contestants: by name; `direct`, `mitmdump`, `metrion`, and peers that are installed.
        metrion: the installation's settings.
        postgres_pid: of its database.
        provider: the stand-in's origin.
    """

    contestants: dict[str, Contestant]
    metrion: Settings
    postgres_pid: int
    provider: str


@contextlib.contextmanager
def started(folder: Path) -> Generator[Field]:
    """Start all of them, with everything that Metrion needs, in a folder that is thrown away."""
    core, _ = cores()
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(
            MeasuredProcess(
                [sys.executable, "-P", "-m", "scripts.fake_provider", "--port", "{port}"],
                base_environment(),
                folder,
            )
        )
        origin = url_of(provider.port)
        server = stack.enter_context(EmbeddedPostgres(folder / "data"))
        settings, token = _installed(server, folder / "data", origin)
        bare = stack.enter_context(mitmdump(origin, folder, core))
        metrion = stack.enter_context(
            MeasuredProcess(metrion_command(), metrion_environment(settings), folder, core=core)
        )
        contestants = [
            Contestant("direct", provider, _CHAT_PATH, CALLERS_KEY),
            Contestant("mitmdump", bare, _CHAT_PATH, CALLERS_KEY),
            Contestant("metrion", metrion, f"/api/proxy/openai{_CHAT_PATH}", token),
        ]
        for peer in peers(folder, origin):
            process = peer_process(peer, folder, core)
            stack.enter_context(process)
            contestants.append(
                Contestant(peer.name, process, _CHAT_PATH, CALLERS_KEY, peer.headers, peer.streams)
            )
        yield Field(
            {contestant.name: contestant for contestant in contestants},
            settings,
            server.pid or 0,
            origin,
        )


def _installed(server: EmbeddedPostgres, data_dir: Path, origin: str) -> tuple[Settings, str]:
    """Make schema, keys and an account; return the settings and the account's token."""
    settings = Settings(
        data_dir=data_dir,
        database_url=server.url,
        rate_per_minute=_RATE_PER_MINUTE,
        origins={provider.name: origin for provider in load_providers()},
    )
    migrate(server.url, roles.roles_folder(settings))
    master_keys = MasterKeys.create(settings.master_key_path)
    return settings, asyncio.run(prepare_demo(settings, master_keys)).token


def metrion_command() -> list[str]:
    """The proxy as the supervisor starts it."""
    return [sys.executable, "-P", "-m", "scripts.proxy", "--port", "{port}"]


def metrion_environment(settings: Settings) -> dict[str, str]:
    """What the proxy is given."""
    return child_environment("proxy", settings, service_url(settings, roles.PROXY))


def mitmdump(origin: str, folder: Path, core: int | None) -> MeasuredProcess:
    """Bare mitmdump before an origin, streams passed as they come."""
    program = str(Path(sys.executable).parent / "mitmdump")
    script = folder / "streaming.py"
    script.write_text(_STREAMING)
    flags = ["--listen-port", "{port}", "--set", f"confdir={folder / 'mitmdump'}"]
    flags += ["-s", str(script)]
    command = [program, "-q", "--mode", f"reverse:{origin}", *flags]
    return MeasuredProcess(command, base_environment(), folder, core=core)


def peer_process(peer: Peer, folder: Path, core: int | None) -> MeasuredProcess:
    """A peer, as it is started; its configuration is written."""
    environment = base_environment() | dict(peer.environment)
    process = MeasuredProcess(peer.command, environment, folder, core=core)
    for name, content in peer.configuration.items():
        (folder / name).write_text(content.replace("{port}", str(process.port)))
    return process


def chat_request(
    contestant: Contestant, *, streamed: bool, pace: float = 0.0, cached: bool = False
) -> bytes:
    """A small chat request, head and body.

    Args:
        contestant: who gets it.
        streamed: ask for a stream of `EVENTS` events.
        pace: seconds between them.
        cached: ask for a stored answer.
    """
    body = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]'
    knobs: list[str] = []
    if streamed:
        # Asked for by the client, so that all contestants pass the same bytes.
        body += b', "stream": true, "stream_options": {"include_usage": true}'
        knobs = [f"x-fake-events: {EVENTS}", f"x-fake-interval: {pace}"]
    body += b"}"
    lines = [
        f"POST {contestant.path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        "user-agent: bench",
        "accept: application/json",
        f"authorization: Bearer {contestant.key}",
        f"content-length: {len(body)}",
        *contestant.headers,
        *knobs,
        *(["x-metrion-cache: true"] if cached else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
