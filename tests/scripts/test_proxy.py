"""The proxy's process: starts, says why not, drains. What it does meanwhile: tests/e2e."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psycopg
import pytest

from scripts.child_environment import base_environment
from scripts.fake_provider import FakeProvider
from storage import roles
from storage.accounts import create_account
from storage.database import Database
from storage.keys import set_key


@pytest.fixture
async def token(database):
    api = Database(database.url(roles.API))
    account = await create_account(api, database.keys, "anna@example.com")
    async with api.account(account.id) as connection:
        await set_key(connection, database.keys, account.id, "openai", "sk-" + "x" * 40)
    await api.close()
    return account.token


def start(database, port: int, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **base_environment(),
        "METRION_DATA_DIR": str(database.settings.data_dir),
        "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "scripts.proxy", "--port", str(port), *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while not _is_ready(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def test_a_stream_under_way_ends_well_before_the_process_does(database, token):
    with FakeProvider() as provider:
        port = free_port()
        proxy = start(database, port, METRION_ORIGINS=f'{{"openai": "{provider.origin}"}}')
        try:
            wait_until_ready(port)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(
                "POST",
                "/api/proxy/openai/v1/chat/completions",
                '{"model": "gpt-4o", "messages": [], "stream": true}',
                {
                    "authorization": f"Bearer {token}",
                    "x-fake-events": "20",
                    "x-fake-interval": "0.05",
                },
            )
            answer = connection.getresponse()
            assert answer.status == 200
            stopper = threading.Timer(0.2, os.kill, (proxy.pid, signal.SIGTERM))
            stopper.start()
            assert answer.read().endswith(b"data: [DONE]\n\n")
            connection.close()
            assert proxy.wait(20) == 0
            stopper.join()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5)
        finally:
            proxy.kill()
            proxy.communicate()


CHAT = "/api/proxy/openai/v1/chat/completions"
WISH = '{"model": "gpt-4o", "messages": []}'
STREAM = '{"model": "gpt-4o", "messages": [], "stream": true}'


@pytest.fixture
def drained(database, token):
    """A proxy with little time to drain, and what asks it."""
    with FakeProvider() as provider:
        port = free_port()
        origins = f'{{"openai": "{provider.origin}"}}'
        proxy = start(database, port, "--drain-seconds", "2", METRION_ORIGINS=origins)
        opened: list[http.client.HTTPConnection] = []

        def ask(body: str, **knobs: str) -> http.client.HTTPConnection:
            """Send a request on a new connection."""
            opened.append(http.client.HTTPConnection("127.0.0.1", port, timeout=20))
            again(opened[-1], body, **knobs)
            return opened[-1]

        def again(connection: http.client.HTTPConnection, body: str, **knobs: str) -> None:
            headers = {f"x-fake-{name}": value for name, value in knobs.items()}
            connection.request("POST", CHAT, body, headers | {"authorization": f"Bearer {token}"})

        wait_until_ready(port)
        yield SimpleNamespace(proxy=proxy, port=port, ask=ask, again=again)
        for connection in opened:
            connection.close()
        proxy.kill()
        proxy.communicate()


def test_draining_serves_who_is_there_takes_nobody_new_and_cuts_at_the_end(drained, database):
    kept = drained.ask(WISH)
    kept.getresponse().read()
    quick = drained.ask(STREAM, events="10", interval="0.1")
    assert quick.getresponse().status == 200
    endless = drained.ask(STREAM, events="1000", interval="0.1")
    answer = endless.getresponse()
    silent = drained.ask(WISH, stall="head")
    time.sleep(0.2)
    drained.proxy.terminate()
    begun = time.monotonic()
    wait_until_refused(drained.port)
    # a kept connection's next request is served, and is the last
    drained.again(kept, WISH)
    last = kept.getresponse()
    last.read()
    assert (last.status, last.headers["connection"]) == (200, "close")
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    cut = silent.getresponse()
    assert (cut.status, cut.headers["x-metrion-error"]) == (503, "unavailable")
    assert drained.proxy.wait(20) == 0
    assert 1.5 < time.monotonic() - begun < 15
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        found = administrator.execute(
            "SELECT outcome, status, error FROM metrion.request_logs ORDER BY id"
        ).fetchall()
    said = "Metrion is shutting down."
    assert sorted(found, key=str) == sorted(
        [
            *[("ok", 200, None)] * 3,
            ("timeout", 200, said),
            ("timeout", 503, said),
        ],
        key=str,
    )


def test_a_connection_at_rest_does_not_hold_up_the_end(drained):
    kept = drained.ask(WISH)
    kept.getresponse().read()
    begun = time.monotonic()
    drained.proxy.terminate()
    assert kept.sock.recv(1) == b""  # closed, in good order
    assert drained.proxy.wait(20) == 0
    assert time.monotonic() - begun > 0.9  # a request that was just being sent would be served


def wait_until_refused(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_port_that_is_taken_is_said(database):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        proxy = start(database, taken.getsockname()[1])
        _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 1
    assert "is taken or not allowed" in errors
    assert "Traceback" not in errors


def test_wrong_settings_are_said(database):
    proxy = start(database, free_port(), METRION_REGION="mars-1")
    _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 2
    assert "mars-1" in errors
    assert "Traceback" not in errors


def test_a_key_log_is_refused(database, tmp_path):
    proxy = start(database, free_port(), SSLKEYLOGFILE=str(tmp_path / "keys"))
    _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 2
    assert "SSLKEYLOGFILE would write TLS keys to disk" in errors


def test_authorities_that_cannot_be_read_are_said(database, tmp_path):
    (tmp_path / "none.pem").touch()
    proxy = start(database, free_port(), SSL_CERT_FILE=str(tmp_path / "none.pem"))
    _, errors = proxy.communicate(timeout=30)
    assert proxy.returncode == 2
    assert "SSL_CERT_FILE: there is no certificate" in errors
    assert "Traceback" not in errors


# What it costs to import (CPU of the machine on which a start took 2.2 s), and who needs it.
NEEDLESS = {
    "sqlalchemy": "0.5 s, 25 MB; the API, jobs and commands (see storage.database_url)",
    "mitmproxy": "0.9 s, 50 MB; clients that speak TLS (see addons.tls_server)",
    "OpenSSL": "mitmproxy's",
    "genai_prices": "0.4 s with its prices; the first row (see storage.price_catalogue)",
    "alembic": "migrations",
    "api": "the API",
    "fastapi": "the API",
    "jinja2": "the API's pages",
    "stripe": "billing",
    "httpx": "genai-prices has it in its new form",
    "httpx2": "genai-prices'",
    "valkey": "several processes that count together",
    "rich": "commands",
    "typer": "commands",
}
# It was 1,390 with all of these; a large package beside them would show.
MOST_MODULES = 620
# Prints what is imported when the first socket is bound, and ends.
TELL = """
import os, runpy, sys
def tell(event, arguments):
    if event == "socket.bind":
        print("\\n".join(sys.modules), flush=True)
        os._exit(0)
sys.addaudithook(tell)
runpy.run_module("scripts.proxy", run_name="__main__")
"""


def test_what_is_not_needed_to_listen_is_not_imported_before(database):
    environment = {
        **base_environment(),
        "METRION_DATA_DIR": str(database.settings.data_dir),
        "METRION_DATABASE_URL": database.url(roles.PROXY).get_secret_value(),
    }
    told = subprocess.run(
        [sys.executable, "-P", "-c", TELL, "--port", str(free_port())],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    modules = set(told.stdout.split())
    assert "addons.direct.server" in modules
    assert not {module.partition(".")[0] for module in modules} & NEEDLESS.keys()
    assert len(modules) <= MOST_MODULES


OPEN_FILES = """
import resource, sys
from scripts.proxy import raise_limit_of_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_limit_of_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(256, 4096, 4096), (256, 20_000, 8704), (10_000, 20_000, 10_000), (256, 256, 256)],
)
def test_it_allows_itself_a_socket_for_each_client_and_each_provider(soft, hard, expected):
    done = subprocess.run(
        [sys.executable, "-c", OPEN_FILES, str(soft), str(hard)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{expected} {hard}\n"
