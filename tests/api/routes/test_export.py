import json
import socket
import time
from decimal import Decimal

import httpx
import jsonschema
import psycopg
import pytest

from api.routes import export as route
from storage.export import MOST_AT_ONCE

ADA = "ada@example.com"
EXPORT = "/api/v1/account/export"
MEMBERS = [
    *("schema_version", "exported_at", "region", "account", "settings", "providers"),
    *("alert_rules", "usage_records", "request_logs", "sessions", "billing"),
]


@pytest.fixture
def administrator(database):
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True
    ) as connection:
        yield connection


@pytest.fixture
def ada(api, sign_in, account_of):
    sign_in(ADA)
    api.put("/api/v1/provider-keys/openai", json={"key": "sk-proj-" + "a" * 40})
    return account_of(api)


def test_it_is_everything_in_the_documented_form(api, ada, write_logs):
    write_logs(ada, 3)
    write_logs(ada, 1, model=None, requester=None, status=None, cost_usd=None, input_tokens=None)
    rule = {"type": "budget", "threshold": 5, "period": {"kind": "month"}}
    assert api.post("/api/v1/alerts", json=rule).status_code == 201
    answer = api.get(EXPORT)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"].startswith('attachment; filename="metrion-export-')
    document = answer.json()
    assert list(document) == MEMBERS
    schema = api.get(f"{EXPORT}/schema")
    assert schema.headers["content-type"] == "application/schema+json"
    validator = jsonschema.Draft202012Validator(
        schema.json(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    assert [error.message for error in validator.iter_errors(document)] == []

    assert document["account"]["email"] == ADA
    assert document["region"] == "eu-west-1"
    assert [each["provider"] for each in document["providers"]] == ["openai"]
    assert document["alert_rules"][0]["threshold"] == 5
    assert len(document["sessions"]) == 1
    assert document["billing"]["plan"] == "free"
    listed = api.get("/api/v1/logs").json()["items"]
    assert [normal(row) for row in document["request_logs"]] == [
        normal(row) for row in listed[::-1]
    ]
    assert "a" * 40 not in answer.text
    assert "sk-metrion-" not in answer.text
    for record in document["usage_records"]:
        assert set(record) >= {"day", "provider", "model", "requests", "cost_usd"}
    assert sum(record["requests"] for record in document["usage_records"]) == 4


def normal(row: dict) -> dict:
    """The same moment is written with and without the zeros of its fraction."""
    return row | {"created_at": row["created_at"].rstrip("Z").rstrip("0").rstrip(".")}


def test_sums_equal_those_of_the_pages(api, ada, write_logs):
    write_logs(ada, 7)
    write_logs(ada, 5, model="other", cost_usd="0.000000000001")
    document = json.loads(api.get(EXPORT).text, parse_float=Decimal)
    shown = json.loads(api.get("/api/v1/usage/overview?range=7d").text, parse_float=Decimal)
    for rows in (document["usage_records"], document["request_logs"]):
        assert sum(row["cost_usd"] for row in rows) == shown["cost"]["total"]
        assert sum(row["total_tokens"] for row in rows) == shown["tokens"]["total"]
    assert len(document["request_logs"]) == shown["requests"]["total"]


def test_every_member_of_the_schema_is_explained(api):
    def check(schema: dict, place: str) -> None:
        for name, member in schema.get("properties", {}).items():
            assert member.get("description"), f"{place}.{name}"
            check(member, f"{place}.{name}")
        if "items" in schema:
            check(schema["items"], f"{place}[]")

    schema = api.get(f"{EXPORT}/schema").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    check(schema, "")
    assert list(schema["properties"]) == MEMBERS


async def test_a_metrion_key_does_not_read_it(api, new_account):
    bearer = (await new_account(ADA)).headers
    answer = api.get(EXPORT, headers=bearer)
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-not-signed-in"


def begin(api: httpx.Client) -> socket.socket:
    """Ask for an export and read nothing but the beginning."""
    url = api.base_url
    connection = socket.create_connection((url.host, url.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    cookie = f"metrion_session={api.cookies['metrion_session']}"
    connection.sendall(f"GET {EXPORT} HTTP/1.1\r\nhost: m\r\ncookie: {cookie}\r\n\r\n".encode())
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    return connection


@pytest.fixture
def much(ada, write_logs):
    """More than fits into the buffers between the service and a client that does not read."""
    for _ in range(4):
        write_logs(ada, 2500, error="x" * 480, requester="y" * 200, model="z" * 200)


def test_what_breaks_in_the_middle_can_be_seen(api, much, administrator):
    connection = begin(api)
    ended = administrator.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = 'metrion_api' AND state <> 'idle'"
    ).fetchone()
    assert ended == (1,)
    received = b""
    while part := connection.recv(1 << 16):
        received += part
    connection.close()
    assert not received.endswith(b"0\r\n\r\n")
    assert b'"billing"' not in received


def test_an_account_has_one_at_a_time(api, ada, much):
    connection = begin(api)
    answer = api.get(EXPORT)
    assert answer.status_code == 429
    assert answer.json()["type"] == "/api/docs#problem-too-many-attempts"
    assert answer.headers["retry-after"] == "10"
    connection.close()
    deadline = time.monotonic() + 20
    while api.get(EXPORT).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_others_wait_for_none(api, ada, much):
    assert MOST_AT_ONCE < 5
    connection = begin(api)
    assert api.get("/api/v1/logs").status_code == 200
    connection.close()


def test_a_client_that_does_not_read_is_left(api, ada, much, monkeypatch, administrator):
    monkeypatch.setattr(route, "SEND_SECONDS", 0.3)
    connection = begin(api)
    in_use = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND usename = 'metrion_api' AND state <> 'idle'"
    )
    deadline = time.monotonic() + 20
    while administrator.execute(in_use).fetchone() != (0,):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    connection.close()
