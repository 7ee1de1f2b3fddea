"""Canaries go through everything; then everything that keeps or shows something is searched.

Provider keys (stored, and the callers' own), tokens, e-mail codes, session cookies, prompts,
answers, the deployment's own passwords and master keys. `scripts/test -m leaks` is the long form:
every route in every place of a credential, all faults, processes killed, the database's functions
gone, PostgreSQL logging every statement with its values. What mitmproxy's tools show is in
`test_leaks.py`; here they run at each level of their log.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import brotli
import httpx
import psycopg
import pytest
import valkey
from psycopg import sql

from addons.providers import load_providers
from scripts.fake_provider import FakeProvider
from scripts.fake_provider.certificate import make_certificate
from scripts.ports import claim_port
from scripts.proof.canaries import Flock, Kind
from scripts.proof.canary_requests import (
    FAULTS,
    PLACES,
    STALLS,
    STATUSES,
    Ask,
    Caller,
    Questions,
    hung_up,
    misplaced,
    refused,
    spoilt,
    statuses,
)
from scripts.proof.rest_walk import rest_walk
from scripts.proof.searching import Searcher
from scripts.proof.sinks import (
    Sinks,
    Watch,
    core_limits,
    deployment_secrets,
    files_of,
    process_texts,
)
from storage import roles
from storage.accounts import NewAccount
from storage.codes import IssuedCode
from storage.errors import SettingsError
from storage.sealing import MasterKeys
from storage.sessions import NewSession
from storage.settings import Settings

ROOT = Path(__file__).parents[2]
PROVIDERS = load_providers()
METRION = Path(sys.executable).with_name("metrion")
SEED = 12
GIVEN_OUT = "what the API gives out"
CLIENTS = "answers to clients"
WIRE = "what providers got"
ALLOWED: dict[str, list[str]] = {
    "mails": [Kind.CODE],
    "password files": [Kind.DEPLOYMENT],
    "master key file": [Kind.DEPLOYMENT],
    "ready file": ["administrator's password"],
    "new tokens of the command": [Kind.TOKEN],
    GIVEN_OUT: [Kind.TOKEN, Kind.COOKIE],
    "mails, shown to their owner": [Kind.CODE],
    CLIENTS: [Kind.PROMPT, Kind.ANSWER],
    WIRE: [Kind.STORED_KEY, Kind.OWN_KEY, Kind.PROMPT, Kind.ANSWER],
    "environment of supervisor": ["master key 1", "Stripe's key", "Stripe's webhook secret"],
    "environment of proxy": [f"password of {roles.PROXY}", "Valkey's password", "master key 1"],
    "environment of serve_api": [
        *(f"password of {roles.API}", "master key 1", "Stripe's key", "Stripe's webhook secret"),
    ],
    "environment of jobs": [
        *(f"password of {roles.JOBS}", "Stripe's key", "Stripe's webhook secret"),
    ],
    "mitmdump": [Kind.PROMPT, Kind.ANSWER],
    "`-w` files": [Kind.PROMPT, Kind.ANSWER],
}
# They end the session or the token that the others need; each is done by itself.
ENDING = {
    ("DELETE", "/api/v1/auth/sessions/current"),
    ("DELETE", "/api/v1/account"),
    ("POST", "/api/v1/token/regenerate"),
    ("POST", "/api/v1/token/reveal"),
    ("POST", "/api/v1/auth/codes"),
    ("GET", "/api/v1/mailbox"),
}
MOST_CORE = """
import os, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
os.execv(sys.argv[1], sys.argv[1:])
"""
TABLES = """
    SELECT n.nspname, c.relname, n.nspname = 'metrion' AND c.relkind <> 't'
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 't')
"""
STATEMENTS = "SELECT coalesce(string_agg(query, E'\\n'), '') FROM pg_stat_activity"


def tables_of(connection: psycopg.Connection) -> Iterator[tuple[str, str, Iterable[bytes]]]:
    """All columns of all tables, the server's own and TOAST among them: sink, table, bytes.

    Metrion's in the binary format, so that what is packed in a column is seen as it is.
    """
    for schema, table, is_ours in connection.execute(TABLES).fetchall():
        query = sql.SQL("COPY (SELECT * FROM ONLY {}) TO STDOUT").format(
            sql.Identifier(schema, table)
        )
        kind = "Metrion's tables" if is_ours else "PostgreSQL's tables"
        if is_ours:
            query = sql.SQL("{} (FORMAT BINARY)").format(query)
        with connection.cursor().copy(query) as copy:
            yield f"database: {kind}", f"{schema}.{table}", map(bytes, copy)


def functions_renamed(connection: psycopg.Connection, old: str, new: str) -> int:
    """Rename all functions of Metrion's that are called by their names; how many."""
    named = connection.execute(
        """
        SELECT p.oid::regprocedure::text, proname FROM pg_proc AS p
        WHERE pronamespace = 'metrion'::regnamespace AND prorettype <> 'trigger'::regtype
          AND starts_with(proname, %s) AND proname NOT IN ('account', 'refuse_erased')
        """,
        [old],
    ).fetchall()
    for signature, name in named:
        renamed = sql.Identifier(new + name.removeprefix(old))
        statement = sql.SQL("ALTER FUNCTION {} RENAME TO {}")
        connection.execute(statement.format(sql.SQL(signature), renamed))
    return len(named)


class Hunt:
    """A deployment, the canaries that go through it, and all that came back."""

    def __init__(self, deployment: Any, provider: FakeProvider, *, is_long: bool) -> None:
        self.deployment = deployment
        self.provider = provider
        self.is_long = is_long
        self.since = time.time() - 2
        self.flock = Flock(SEED)
        self.questions = Questions(self.flock, PROVIDERS)
        self.codes = 0
        self.statuses: Counter[str] = Counter()
        self.kept: list[tuple[str, str, bytes]] = []
        self.http = httpx.Client(verify=False, timeout=60, trust_env=False)
        self.lock = threading.Lock()
        self.onlooker: psycopg.Connection | None = None
        self.read: dict[Path, int] = {}
        self.searched_for: set[str] = set()

    def close(self) -> None:
        self.http.close()
        if self.onlooker is not None:
            self.onlooker.close()

    # ---- the proxy --------------------------------------------------------------------------

    def send(self, asks: Iterable[Ask], url: str | None = None) -> Counter[str]:
        """Send requests, eight at a time; what became of them."""
        base = url or self.deployment.proxy_url
        with ThreadPoolExecutor(8) as threads:
            done = Counter(threads.map(lambda ask: self._send(base, ask), asks))
        self.statuses += done
        return done

    def _send(self, base: str, ask: Ask) -> str:
        received = []
        outcome = "cut off"
        with (
            contextlib.suppress(httpx.TransportError),
            self.http.stream(
                ask.method, base + ask.path, headers=ask.headers, content=ask.body or None
            ) as answer,
        ):
            outcome = str(answer.status_code)
            head = b"\n".join(name + b": " + value for name, value in answer.headers.raw)
            received = [answer.extensions["reason_phrase"], head]
            unpack = brotli.Decompressor() if "br" in answer.headers.values() else None
            for piece in answer.iter_raw():
                received.append(unpack.process(piece) if unpack else piece)
                if ask.leaves:
                    return self._keep(CLIENTS, ask.what, b"".join(received)) or "left"
            self._keep(CLIENTS, ask.what, b"".join(received))
            return outcome
        self._keep(CLIENTS, ask.what, b"".join(received))
        return "cut off" if outcome == "cut off" else f"{outcome}, cut off"

    def send_raw(self, asks: Iterable[Ask]) -> None:
        """Send requests that no client library would."""
        where = urlsplit(self.deployment.proxy_url)
        for ask in asks:
            headers = {"host": "metrion", "connection": "close", **ask.headers}
            headers.setdefault("content-length", str(len(ask.body)))
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = "\r\n".join((f"{ask.method} {ask.path} HTTP/1.1", *lines, "", ""))
            with socket.create_connection((where.hostname, where.port), 30) as client:
                with contextlib.suppress(OSError):
                    client.sendall(head.encode() + ask.body)
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := client.recv(65536):
                        received += data
            assert received.startswith(b"HTTP/1.1 "), (ask.what, received[:80])
            self.statuses[received[9:12].decode()] += 1
            self._keep(CLIENTS, ask.what, received)

    def _keep(self, sink: str, place: str, content: bytes) -> None:
        with self.lock:
            self.kept.append((sink, place, content))

    # ---- the API ----------------------------------------------------------------------------

    def call(
        self, method: str, path: str, cookie: str = "", *, sink: str = "API answers", **values: Any
    ) -> httpx.Response:
        """Ask the API; its answer is searched later."""
        headers = {"cookie": f"metrion_session={cookie}"} if cookie else {}
        headers |= values.pop("headers", {})
        answer = self.http.request(
            method, f"{self.deployment.api_url}{path}", headers=headers, **values
        )
        self.http.cookies.clear()
        head = b"\n".join(name + b": " + value for name, value in answer.headers.raw)
        self._keep(sink, f"{method} {path}", head + b"\n\n" + answer.content)
        return answer

    def code(self, address: str, about: str) -> str:
        """The code of the newest mail to an address, once it is there."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if code := self.deployment.newest_code(address, about):
                self.codes += 1
                return self.flock.catch(Kind.CODE, f"code {self.codes} of {address}", code)
            time.sleep(0.05)
        raise AssertionError(f"no mail to {address}")

    def person(self, name: str) -> tuple[Caller, str]:
        """Somebody who signs in for the first time and stores a key for each provider."""
        address = f"{name}-{uuid.uuid4().hex[:12]}@hunt.example"
        assert self.call("POST", "/api/v1/auth/codes", json={"email": address}).status_code == 202
        code = self.code(address, "is your code")
        wrong = {"email": address, "code": f"{(int(code) + 1) % 10**6:06}"}
        assert self.call("POST", "/api/v1/auth/sessions", json=wrong).status_code == 401
        right = {"email": address, "code": code}
        answer = self.call("POST", "/api/v1/auth/sessions", sink=GIVEN_OUT, json=right)
        assert answer.status_code == 201, answer.text
        cookie = self.flock.catch(
            Kind.COOKIE, f"session of {name}", answer.cookies["metrion_session"]
        )
        for provider in PROVIDERS:
            key = {"key": self.flock.provider_key(provider)}
            path = f"/api/v1/provider-keys/{provider.name}"
            assert self.call("PUT", path, cookie, json=key).status_code == 200
        token = self.call("POST", "/api/v1/token/reveal", cookie, sink=GIVEN_OUT).json()["token"]
        return Caller(self.flock.catch(Kind.TOKEN, f"token of {name}", token), {}, cookie), address

    def traveller(self, name: str) -> Caller:
        """Somebody with keys of their own."""
        token = self.deployment.create_account(with_keys=False).token
        keys = {each.name: self.flock.provider_key(each, Kind.OWN_KEY) for each in PROVIDERS}
        return Caller(self.flock.catch(Kind.TOKEN, f"token of {name}", token), keys)

    def rest(self, caller: Caller, secrets: list[str]) -> None:
        """Each operation with secrets wherever something can stand; signed in, and not."""
        caught = self.flock.caught
        self.searched_for |= {
            caught[secret.encode()].name if secret.encode() in caught else secret
            for secret in secrets
        }
        document = self.http.get(f"{self.deployment.api_url}/api/openapi.json").json()
        for number, ask in enumerate(rest_walk(document, secrets, ENDING)):
            secret = secrets[number % len(secrets)].encode("ascii", "ignore").decode()
            odd = {"authorization": f"Bearer {secret}", "user-agent": f"x {number}"}
            headers = ask.headers | ({} if number % 7 else odd)
            values = {"headers": headers, "content": ask.body or None}
            answer = self.call(ask.method, ask.path, caller.cookie if number % 7 else "", **values)
            self.statuses[f"API {answer.status_code}"] += 1

    def privacy(self, caller: Caller, address: str) -> None:
        """Alerts and their mails, a new token, the export, signing out, the end of the account."""
        rule = {"type": "request_volume", "threshold": 1, "name": "Volume"}
        made = self.call("POST", "/api/v1/alerts", caller.cookie, json=rule)
        assert made.status_code == 201, made.text
        test = f"/api/v1/alerts/{made.json()['id']}/test"
        assert self.call("POST", test, caller.cookie).status_code == 202
        for path in ("account/export", "logs?limit=1000", "logs.csv", "usage/errors?range=24h"):
            answer = self.call("GET", f"/api/v1/{path}", caller.cookie, sink="exports and logs")
            assert answer.status_code == 200, answer.text
        self.call("GET", "/api/v1/mailbox", caller.cookie, sink="mails, shown to their owner")
        new = self.call("POST", "/api/v1/token/regenerate", caller.cookie, sink=GIVEN_OUT)
        self.flock.catch(Kind.TOKEN, f"new token of {address}", new.json()["token"])
        assert self.call("DELETE", "/api/v1/provider-keys/grok", caller.cookie).status_code == 204
        asked = self.call("POST", "/api/v1/account/deletion-codes", caller.cookie)
        assert asked.status_code == 202
        code = {"code": self.code(address, "deleting")}
        wrong = {"code": f"{(int(code['code']) + 1) % 10**6:06}"}
        assert self.call("DELETE", "/api/v1/account", caller.cookie, json=wrong).status_code == 401

    def erase(self, caller: Caller, address: str) -> None:
        """The end of an account, and of the mails to it that are kept."""
        self.call("POST", "/api/v1/account/deletion-codes", caller.cookie)
        code = {"code": self.code(address, "deleting")}
        gone = self.call("DELETE", "/api/v1/account", caller.cookie, json=code)
        assert gone.status_code == 202, gone.text
        self.call("GET", "/api/v1/account", caller.cookie)

    def metrion(self, *words: str, typed: str = "", sink: str = "command's output") -> str:
        """Run the command; what it prints."""
        done = subprocess.run(
            [METRION, "--data-dir", self.deployment.data_dir, *words],
            env=self.deployment.environment,
            input=typed.encode(),
            capture_output=True,
            check=False,
        )
        self._keep(sink, f"metrion {' '.join(words[:2])}", done.stdout + done.stderr)
        return done.stdout.decode()

    # ---- the search -------------------------------------------------------------------------

    def administrator(self) -> psycopg.Connection:
        return psycopg.connect(self.deployment.ready["database_url"], autocommit=True)

    def statements(self) -> Iterator[tuple[str, bytes]]:
        """What PostgreSQL shows of the statements that run, if it runs."""
        with contextlib.suppress(psycopg.OperationalError, FileNotFoundError):
            if self.onlooker is None or self.onlooker.closed:
                self.onlooker = self.administrator()
            said = self.onlooker.execute(STATEMENTS).fetchone()
            yield "running statements", said[0].encode()

    def journals(self) -> Iterator[tuple[str, bytes]]:
        """What is new of the rows on their way: a segment goes when they have arrived."""
        for path in (self.deployment.data_dir / "journal").rglob("*"):
            with (
                contextlib.suppress(FileNotFoundError, IsADirectoryError),
                path.open("rb") as segment,
            ):
                segment.seek(max(0, self.read.get(path, 0) - 1024))
                yield "journals", segment.read()
                self.read[path] = segment.tell()

    def processes(self) -> Iterator[tuple[str, bytes]]:
        if self.deployment.is_up:
            with contextlib.suppress(AssertionError):  # it has just ended
                yield from process_texts(self.deployment.processes)

    def search(self, *watches: Watch) -> Sinks:
        """Search every sink."""
        for name, value in deployment_secrets(self.deployment.settings).items():
            self.flock.catch(Kind.DEPLOYMENT, name, value)
        # Where every statement is logged with its values, there is what somebody has searched the
        # log for. The deployment's own settings keep that out, too: the short form.
        logged = {"PostgreSQL's log": self.searched_for} if self.is_long else {}
        sinks = Sinks(Searcher(self.flock), ALLOWED | logged)
        self.search_settings(sinks)
        for sink, place, content in self.kept:
            sinks.search(sink, place, [content])
        for watch in watches:
            for sink, content in watch.seen:
                sinks.search(sink, sink, [content])
        for request in self.provider.requests:
            sinks.search(WIRE, request.path, [request.head, b"\n", request.body])
        for url in self.deployment.urls:
            sinks.search("metrics", url, [self.http.get(f"{url}/metrics").content])
        with self.administrator() as connection:
            connection.execute("ANALYZE")  # the planner remembers values, too
            for sink, table, pieces in tables_of(connection):
                sinks.search(sink, table, pieces)
            connection.execute("CHECKPOINT")
        self.search_valkey(sinks)
        for sink, path in files_of(self.deployment.data_dir, self.since):
            sinks.search_file(sink, path)
        sinks.search_file("stdout and stderr", self.deployment.output)
        sinks.search_file("ready file", self.deployment.ready_file)
        return sinks

    def search_settings(self, sinks: Sinks) -> None:
        """Everything that prints settings, or a secret's own object, for whoever looks for a bug."""
        given = {
            "database_url": "postgresql://u:{}@h/d",
            "valkey_url": "redis://:{}@h",
            "smtp_url": "smtp://u:{}@h",
            "master_keys": "{}",
            "stripe_secret_key": "sk_live_{}",
            "stripe_webhook_secret": "whsec_{}",
        }
        secret = next(
            canary.value.decode()
            for canary in self.flock.caught.values()
            if canary.kind is Kind.DEPLOYMENT
        )
        settings = Settings(
            **{name: form.format(secret) for name, form in given.items()}, stripe_price_id="price"
        )
        token = next(iter(self.flock.caught)).decode()
        objects = [
            settings,
            MasterKeys.load(self.deployment.settings),
            NewAccount(uuid.uuid4(), token),
            IssuedCode(token, None),
            NewSession(uuid.uuid4(), token),
            Searcher,
        ]
        told = [traceback_with(objects)]
        told += [form(each) for each in objects for form in (repr, str, "{}".format)]
        told += [settings.model_dump_json(), str(settings.model_dump()), repr(vars(settings))]
        for name in ("database_url", "valkey_url", "smtp_url", "rate_per_minute", "origins"):
            with pytest.raises(SettingsError) as wrong:
                Settings.load(**{name: f"ftp://{secret}"})
            told.append(str(wrong.value))
        sinks.search("settings and objects, printed", "repr", ["\n".join(told).encode()])

    def search_valkey(self, sinks: Sinks) -> None:
        configuration = self.deployment.data_dir / "valkey" / "valkey.conf"
        if not configuration.exists():
            return
        lines = dict(
            line.split(maxsplit=1) for line in configuration.read_text().splitlines() if line
        )
        with valkey.Valkey(port=int(lines["port"]), password=lines["requirepass"]) as client:
            for key in client.scan_iter():
                sinks.search("Valkey", "a key", [key, b"\n", client.dump(key) or b""])


def traceback_with(objects: list[Any]) -> str:
    """A traceback as a debugger prints it, with what was in each variable."""
    with pytest.raises(ZeroDivisionError) as raised:
        len(objects) // 0
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    return "".join(shown.format())


def traffic(hunt: Hunt, stored: list[Caller], own: list[Caller]) -> None:
    """Everything that a client can ask for, and every way in which it can fail."""
    questions, is_long = hunt.questions, hunt.is_long
    for caller in (stored[0], own[0]):
        for places in [[place] for place in PLACES] if is_long else [PLACES]:
            assert hunt.send(questions.every_route(caller, places)).keys() == {"200"}
    for caller in (stored[0], own[0]):
        asks = list(questions.one_of_each(caller))
        by_turns = (
            spoilt(asks[number % len(asks)], str(status), {"status": str(status), "echo": "1"})
            for number, status in enumerate(STATUSES)
        )
        if is_long or caller is stored[0]:
            hunt.send(statuses(asks) if is_long else by_turns)
        cached = [
            Ask(**{**vars_of(ask), "headers": ask.headers | {"x-metrion-cache": "true"}})
            for ask in asks[:2]
        ]
        for _ in range(2):
            assert hunt.send(cached).keys() == {"200"}
        hunt.send_raw(refused(next(questions.one_of_each(caller)), hunt.flock))
    for caller in (stored[1], own[1 if is_long else 0]) if is_long else (stored[1],):
        hunt.send(questions.failing(caller, FAULTS))
    for caller in (stored[0], own[0]) if is_long else (own[0],):
        hunt.send(questions.failing(caller, STALLS))
        hunt.send(hung_up(questions.one_of_each(caller, streamed=True)))
    for provider, ask in zip(PROVIDERS, questions.one_of_each(own[0]), strict=True):
        if is_long or provider.name == "mistral":
            hunt.send(misplaced(own[0], ask, own[0].key(provider)))


def vars_of(ask: Ask) -> dict[str, Any]:
    return {name: getattr(ask, name) for name in Ask.__slots__}


def defect(hunt: Hunt, caller: Caller, address: str) -> None:
    """A sealed key that cannot be opened: an error inside of Metrion."""
    with hunt.administrator() as connection:
        connection.execute(
            """
            UPDATE metrion.provider_keys SET sealed = set_byte(sealed, 40, 255 - get_byte(sealed, 40))
            WHERE account_id = (SELECT id FROM metrion.accounts WHERE email = %s)
            """,
            [address],
        )
    time.sleep(3)  # until nobody knows the key any more
    assert hunt.send(hunt.questions.one_of_each(caller)).keys() == {"500"}


@pytest.fixture
def hunt(request: pytest.FixtureRequest, fake_provider: FakeProvider) -> Iterator[Hunt]:
    """A hunt through the deployment of all tests, or through one of its own."""
    is_long = request.node.callspec.params["form"] == "long"
    deployment = request.getfixturevalue("own_deployment" if is_long else "deployment")
    fake_provider.clear()
    hunting = Hunt(deployment, fake_provider, is_long=is_long)
    yield hunting
    hunting.close()


@pytest.fixture
def own_deployment(
    deployment_type: type, fake_provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A deployment with everything: two proxies, Valkey, master keys in the environment, Stripe."""
    folder = tmp_path_factory.mktemp("hunt")
    made = deployment_type(
        folder,
        # where a core dump may have any size
        [
            *(sys.executable, "-c", MOST_CORE, sys.executable),
            *("-P", "-m", "scripts.supervisor", "--workers", "2"),
        ],
        {
            "METRION_ORIGINS": json.dumps(
                dict.fromkeys([each.name for each in PROVIDERS], fake_provider.origin)
            ),
            "METRION_TIMEOUT_SECONDS": "2",
            "METRION_DRAIN_SECONDS": "2",
            "METRION_RATE_PER_MINUTE": "700",
            "METRION_STRIPE_SECRET_KEY": "sk_live_hunted0123456789abcdef",
            "METRION_STRIPE_WEBHOOK_SECRET": "whsec_hunted0123456789abcdef",
            "METRION_STRIPE_PRICE_ID": "price_hunted",
            "METRION_STRIPE_API_BASE": f"http://127.0.0.1:{claim_port(0, '')}",
        },
    )
    made.data_dir.mkdir(mode=0o700)
    path = made.settings.master_key_path
    MasterKeys.create(path)
    made.environment |= {"METRION_MASTER_KEYS": path.read_text(), "TMPDIR": str(made.data_dir)}
    made.start()
    with psycopg.connect(made.ready["database_url"], autocommit=True) as connection:
        log_everything(connection)
    made.stop()
    made.start()
    yield made
    made.close()
    made.stop()


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("short", id="short"),
        pytest.param("long", id="long", marks=pytest.mark.leaks),
    ],
)
def test_no_canary_is_anywhere_but_where_it_belongs(form, hunt, table):
    if hunt.is_long:
        hunt.flock.catch(Kind.DEPLOYMENT, "Stripe's key", "sk_live_hunted0123456789abcdef")
        hunt.flock.catch(Kind.DEPLOYMENT, "Stripe's webhook secret", "whsec_hunted0123456789abcdef")
    with (
        Watch(hunt.processes, 2.0) as processes,
        Watch(hunt.statements, 0.2) as statements,
        Watch(hunt.journals, 0.05) as journals,
    ):
        people = [hunt.person(name) for name in ("Ada", "Bo")]
        own = [hunt.traveller(name) for name in ("Cleo", "Dan")]
        stored = [caller for caller, _ in people]
        traffic(hunt, stored, own)
        hunt.rest(stored[0], secrets_of(hunt, stored[0], own[0]))
        defect(hunt, stored[1], people[1][1])
        if hunt.is_long:
            trouble(hunt, stored, own)
            administration(hunt)
            hunt.erase(*hunt.person("Eve"))
        limited(hunt, own[0])
        hunt.privacy(*people[0])
        time.sleep(2)  # rows and mails that are under way
        processes_now = hunt.deployment.processes
    sinks = hunt.search(processes, statements, journals)
    seen = ", ".join(f"{status}: {count}" for status, count in sorted(hunt.statuses.items()))
    table(f"{sinks.table(hunt.flock.count)}\n\nstatuses: {seen}")
    assert not sinks.leaks, "\n".join(sinks.leaks[:40])
    check_that_it_looked(hunt, sinks)
    assert set(core_limits(processes_now).values()) == {"0"}


def secrets_of(hunt: Hunt, stored: Caller, own: Caller) -> list[str]:
    """One of each kind, to be put where it does not belong."""
    code = next(
        canary.value.decode() for canary in hunt.flock.caught.values() if canary.kind is Kind.CODE
    )
    key = own.key(PROVIDERS[1])
    return [stored.token, key, stored.cookie, hunt.flock.prompt(), f"{code} {key}"]


def check_that_it_looked(hunt: Hunt, sinks: Sinks) -> None:
    """What belongs somewhere was found there: the search sees these sinks."""
    assert sinks.allowed_in(WIRE).keys() == set(ALLOWED[WIRE])
    assert sinks.allowed_in(CLIENTS).keys() == set(ALLOWED[CLIENTS])
    assert sinks.allowed_in(GIVEN_OUT).keys() == set(ALLOWED[GIVEN_OUT])
    assert sinks.allowed_in("mails")[Kind.CODE] >= 3
    for sink in ("environment of proxy", "environment of serve_api", "environment of jobs"):
        assert sinks.allowed_in(sink)[Kind.DEPLOYMENT] >= 1
    for sink, least in {
        "stdout and stderr": 10_000,
        "journals": 1000,
        "PostgreSQL's log": 100,
        "PostgreSQL's files": 1_000_000,
        "PostgreSQL's write-ahead log": 1_000_000,
        "database: Metrion's tables": 50_000,
        "database: PostgreSQL's tables": 1_000_000,
        "running statements": 100,
        "metrics": 1000,
        "exports and logs": 10_000,
        "API answers": 10_000,
        "command lines": 100,
    }.items():
        assert sinks.bytes_of(sink) >= least, sink
    wanted = {"200", "400", "401", "404", "405", "413", "429", "500", "502", "504", "left"}
    assert wanted <= hunt.statuses.keys()
    # each provider got its own key and nobody else's, in one place
    for request in hunt.provider.requests:
        finds = Searcher(hunt.flock).search(request.head)
        assert len([1 for find in finds if find.kind in (Kind.STORED_KEY, Kind.OWN_KEY)]) == 1


def limited(hunt: Hunt, caller: Caller) -> None:
    """Too many requests."""
    for _ in range(40):
        if "429" in hunt.send(hunt.questions.every_route(caller, PLACES)):
            return
    raise AssertionError("no limit")


# ---- what only the long form does ---------------------------------------------------------------


def log_everything(connection: psycopg.Connection) -> None:
    """Let PostgreSQL log each statement with its values, from the next connection on.

    The deployment never does that: its own settings keep values out of the log.
    """
    for role in roles.LOGIN_ROLES:
        for name, value in {
            "log_statement": "all",
            "log_error_verbosity": "verbose",
            "log_min_error_statement": "debug1",
            "log_parameter_max_length_on_error": "-1",
        }.items():
            statement = sql.SQL("ALTER ROLE {} SET {} = {}")
            connection.execute(
                statement.format(sql.Identifier(role), sql.Identifier(name), sql.Literal(value))
            )


def trouble(hunt: Hunt, stored: list[Caller], own: list[Caller]) -> None:
    """What a deployment stands on goes away, one after the other."""
    deployment, questions = hunt.deployment, hunt.questions

    def ask(*secrets: str) -> None:
        for caller in (stored[0], own[0], Caller(f"sk-metrion-{uuid.uuid4().hex}")):
            hunt.send(questions.one_of_each(caller))
            hunt.send(questions.one_of_each(caller, streamed=True))
        with contextlib.suppress(httpx.TransportError):
            hunt.rest(stored[0], list(secrets))

    def kill(*names: str) -> None:
        pids = deployment.ready["pids"]
        for name in names:
            os.kill(pids[name], signal.SIGKILL)

    secrets = secrets_of(hunt, stored[0], own[0])
    hunt.provider.stop()
    ask(*secrets)
    hunt.provider.start()
    with hunt.administrator() as connection:
        assert functions_renamed(connection, "", "gone_") > 20
        ask(*secrets)
        functions_renamed(connection, "gone_", "")
    for names in (("postgres",), ("valkey",), ("proxy-1", "api"), ("jobs", "proxy-2")):
        kill(*names)
        with contextlib.suppress(httpx.TransportError):
            ask(*secrets)
        until_ready(hunt)
    # the first one's keys were deleted and set by the API's turn
    wrong_tls(hunt, [hunt.person("Flo")[0], own[0]])


def until_ready(hunt: Hunt) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answers = [hunt.http.get(f"{url}/readyz") for url in hunt.deployment.urls]
            if all(answer.status_code == 200 for answer in answers):
                return
        time.sleep(0.2)
    raise AssertionError(hunt.deployment.said[-2000:])


def wrong_tls(hunt: Hunt, callers: list[Caller]) -> None:
    """Providers that speak no TLS, and with a certificate that nobody knows; by another start."""
    certificate = make_certificate(hunt.deployment.data_dir.parent)
    command = [sys.executable, "-m", "scripts.fake_provider", "--certificate", str(certificate)]
    deployment = hunt.deployment
    before = deployment.environment["METRION_ORIGINS"]
    silent = hunt.provider.origin.replace("http:", "https:")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as unknown:
        try:
            said = json.loads(unknown.stdout.readline())["origin"]
            origins = {
                each.name: (said, silent)[number % 2] for number, each in enumerate(PROVIDERS)
            }
            for given, status in ((json.dumps(origins), "502"), (before, "200")):
                deployment.stop()
                deployment.environment["METRION_ORIGINS"] = given
                deployment.start()
                for caller in callers:
                    done = hunt.send(hunt.questions.one_of_each(caller)).keys()
                    # who waits for a request's head never answers a greeting in TLS
                    assert status in done <= {status, "504"}
        finally:
            unknown.terminate()


def administration(hunt: Hunt) -> None:
    """Each command, right and wrong."""
    address = "command@hunt.example"
    given = "new tokens of the command"
    made = json.loads(hunt.metrion("account", "create", address, "--json", sink=given))
    hunt.flock.catch(Kind.TOKEN, "the command's token", made["token"])
    for provider in PROVIDERS:
        key = hunt.flock.provider_key(provider)
        hunt.metrion("key", "set", address, provider.name, typed=f"{key}\n")
        hunt.metrion("key", "set", address, provider.name, typed=f"{key}\x00ä")
        hunt.metrion("key", "set", address, key, typed=key[:3])
    hunt.send(hunt.questions.one_of_each(Caller(made["token"])))
    new = json.loads(hunt.metrion("token", "regenerate", address, "--json", sink=given))
    hunt.flock.catch(Kind.TOKEN, "the command's new token", new["token"])
    for words in (
        *(("account", "list"), ("key", "list", address), ("plan", "set", address, "pro")),
        *(("logs", address, "--json"), ("logs", address), ("key", "delete", address, "openai")),
        *(("migrate",), ("purge",), ("doctor", "--json"), ("rotate-master-key",)),
        *(("token", "regenerate", "nobody@hunt.example"), ("account", "delete", address, "--yes")),
    ):
        hunt.metrion(*words)


@pytest.mark.leaks
@pytest.mark.parametrize(
    ("level", "detail"), [("error", 0), ("warn", 1), ("info", 2), ("alert", 3), ("debug", 4)]
)
def test_mitmdump_says_no_secret_at_any_level(
    level, detail, run, folder, deployment, fake_provider, table, eventually
):
    written = folder / f"{level}.flows"
    flags = {"flow_detail": detail, "termlog_verbosity": level}
    tool = run(
        *("mitmdump", "--mode", "reverse:http://metrion.invalid", "--set", "server=false"),
        *("-s", "addons/metrion.py", "-w", str(written)),
        *(word for name, value in flags.items() for word in ("--set", f"{name}={value}")),
    )
    hunt = Hunt(deployment, fake_provider, is_long=True)
    person, _ = hunt.person("Ada")
    own = hunt.traveller("Bo")
    eventually(tool.is_listening, 120)
    for caller in (person, own):
        asks = list(hunt.questions.one_of_each(caller))
        streamed = list(hunt.questions.one_of_each(caller, streamed=True))
        knobs = {"status": "500", "echo": "1", "echo-in": "reason"}
        failed = [spoilt(ask, "500", knobs) for ask in asks]
        placed = [odd for ask in asks for odd in misplaced(caller, ask, caller.key(PROVIDERS[2]))]
        hunt.send([*asks, *streamed, *failed, *placed, *hung_up(streamed)], tool.url)
    tool.stop()
    sinks = Sinks(Searcher(hunt.flock), ALLOWED)
    sinks.search_file("mitmdump", tool.output)
    sinks.search_file("`-w` files", written)
    table(sinks.table(hunt.flock.count))
    hunt.close()
    assert not sinks.leaks, "\n".join(sinks.leaks[:40])
    assert sinks.allowed_in("`-w` files").keys() == {Kind.PROMPT, Kind.ANSWER}


# ---- the search itself --------------------------------------------------------------------------

COLUMNS = {
    "text": "%s",
    "bytea": "convert_to(%s, 'UTF8')",
    "jsonb": "jsonb_build_object('a', jsonb_build_array(%s::text))",
    "text[]": "ARRAY[%s::text]",
    "toasted": "%s || (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) AS n)",
}


def test_a_canary_in_a_column_is_found(database):
    flock = Flock(SEED)
    with psycopg.connect(database.administrator_url.get_secret_value(), autocommit=True) as server:
        for number, (column, value) in enumerate(COLUMNS.items()):
            secret = flock.prompt().split()[0]  # each its own: of one, three places are told
            table = f"metrion.planted_{number}"
            kind = "text" if column == "toasted" else column
            server.execute(f"CREATE TABLE {table} (id int, here {kind})")
            server.execute(f"INSERT INTO {table} SELECT 1, {value}", [secret])
            server.execute(f"ANALYZE {table}")
        sinks = Sinks(Searcher(flock), ALLOWED)
        for sink, table, pieces in tables_of(server):
            sinks.search(sink, table, pieces)
    places = " ".join(sinks.leaks)
    for number, column in enumerate(COLUMNS):
        assert f"metrion.planted_{number}" in places, column
    assert "pg_toast." in places
    assert sinks.bytes_of("database: Metrion's tables") > 100


def test_a_canary_in_postgresqls_files_log_and_statements_is_found(database):
    flock = Flock(SEED)
    secret = flock.prompt().split()[0]
    since = time.time() - 1
    with psycopg.connect(database.administrator_url.get_secret_value(), autocommit=True) as server:
        server.execute(f"CREATE TABLE planted AS SELECT '{secret}' AS here")
        server.execute(f"DO $$ BEGIN RAISE LOG 'about {secret}'; END $$")
        server.execute("CHECKPOINT")
        shown = server.execute(STATEMENTS).fetchone()[0]
        server.execute(f"SELECT '{secret}'")
        with psycopg.connect(database.administrator_url.get_secret_value()) as other:
            shown = other.execute(STATEMENTS).fetchone()[0]
        folder = Path(server.execute("SHOW data_directory").fetchone()[0])
    sinks = Sinks(Searcher(flock), ALLOWED)
    sinks.search("running statements", "now", [shown.encode()])
    for sink, path in files_of(folder.parent.parent, since):
        sinks.search_file(sink, path)
    assert {leak.partition(":")[0] for leak in sinks.leaks} == {
        *("PostgreSQL's files", "PostgreSQL's write-ahead log", "PostgreSQL's log"),
        "running statements",
    }
