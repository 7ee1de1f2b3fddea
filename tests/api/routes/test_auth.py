import asyncio
import re
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from api.main import create_app
from api.security import SIGN_INS_PER_WINDOW
from storage import roles
from storage.accounts import create_account
from storage.database import Database
from storage.errors import SettingsError
from storage.settings import Settings

CODES, SESSIONS = "/api/v1/auth/codes", "/api/v1/auth/sessions"
ADA = "ada@example.com"


def ask_for_code(client: httpx.Client, email: str = ADA) -> httpx.Response:
    return client.post(CODES, json={"email": email})


def try_code(client: httpx.Client, code: str, email: str = ADA) -> httpx.Response:
    return client.post(SESSIONS, json={"email": email, "code": code})


def other(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


@pytest.fixture
def administrator(database):
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True
    ) as connection:
        yield connection


def test_the_first_sign_in_makes_the_account(api, read_code):
    assert ask_for_code(api).json() == {}
    answer = try_code(api, read_code(ADA))
    assert answer.status_code == 201
    assert answer.json()["account"]["email"] == ADA
    cookie = answer.headers["set-cookie"]
    assert re.match(
        r"metrion_session=[\w-]{43}; HttpOnly; Max-Age=2592000; Path=/; SameSite=lax$", cookie
    )
    assert api.get("/api/v1/account").json() == answer.json()["account"]
    assert api.get("/api/v1/logs").json()["items"] == []


def test_the_second_finds_it_again_whatever_the_case(api, read_code, sign_in):
    sign_in(ADA)
    first = api.get("/api/v1/account").json()
    ask_for_code(api, "ADA@Example.com")
    assert try_code(api, read_code("ADA@Example.com"), "aDa@example.com").status_code == 201
    assert api.get("/api/v1/account").json() == first


async def test_over_tls_the_cookie_is_secure(database, read_code):
    transport = httpx.ASGITransport(create_app(database.settings))
    async with httpx.AsyncClient(transport=transport, base_url="https://metrion.test") as client:
        app: Any = transport.app
        async with app.router.lifespan_context(app):
            await client.post(CODES, json={"email": ADA})
            code = await asyncio.to_thread(read_code, ADA)
            answer = await client.post(SESSIONS, json={"email": ADA, "code": code})
    assert "; Secure" in answer.headers["set-cookie"]


def test_a_code_works_once(api, read_code):
    ask_for_code(api)
    code = read_code(ADA)
    assert try_code(api, code).status_code == 201
    answer = try_code(api, code)
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-invalid-code"
    assert code not in answer.text


def test_a_code_has_five_tries(api, read_code):
    ask_for_code(api)
    code = read_code(ADA)
    for _ in range(5):
        assert try_code(api, other(code)).status_code == 401
    assert try_code(api, code).status_code == 401
    ask_for_code(api)
    assert try_code(api, read_code(ADA, 2)).status_code == 201


def test_only_the_newest_code_is_good(api, read_code):
    ask_for_code(api)
    code = read_code(ADA)
    ask_for_code(api)
    newer = read_code(ADA, 2)
    assert try_code(api, code).status_code == 401
    assert try_code(api, newer).status_code == 201


def test_a_code_is_for_one_address(api, read_code):
    ask_for_code(api)
    assert try_code(api, read_code(ADA), "eve@example.com").status_code == 401


def test_a_code_is_good_for_ten_minutes(api, read_code, administrator):
    ask_for_code(api)
    life = administrator.execute("SELECT expires_at - now() FROM metrion.codes").fetchone()
    assert 595 < life[0].total_seconds() <= 600
    administrator.execute("UPDATE metrion.codes SET expires_at = now()")
    assert try_code(api, read_code(ADA)).status_code == 401


def test_an_address_gets_so_many_codes(api):
    for _ in range(5):
        assert ask_for_code(api).status_code == 202
    answer = ask_for_code(api)
    assert answer.status_code == 429
    assert 3590 < int(answer.headers["retry-after"]) <= 3600
    assert ask_for_code(api, "eve@example.com").status_code == 202


def test_a_client_gets_so_many_codes(api):
    for number in range(SIGN_INS_PER_WINDOW):
        assert ask_for_code(api, f"{number}@example.com").status_code == 202
    answer = ask_for_code(api, "one@example.com")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 600


def test_a_client_has_so_many_tries(api, read_code):
    for number in range(SIGN_INS_PER_WINDOW):
        assert try_code(api, "000000", f"{number}@example.com").status_code == 401
    ask_for_code(api)
    assert try_code(api, read_code(ADA)).status_code == 429


@pytest.mark.parametrize("registration", ["invite", "closed"])
async def test_nothing_tells_who_has_an_account(database, serve, read_code, registration):
    settings = database.settings.model_copy(update={"registration": registration})
    as_api = Database(database.url(roles.API))
    await create_account(as_api, database.keys, ADA)
    await as_api.close()
    with serve(create_app(settings)) as client:
        known, unknown = ask_for_code(client), ask_for_code(client, "eve@example.com")
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
        code = read_code(ADA)
        for email in (ADA, "eve@example.com"):
            answer = try_code(client, other(code), email)
            assert answer.json()["type"] == "/api/docs#problem-invalid-code"
        assert try_code(client, code).status_code == 201
        mails = list((settings.data_dir / "mail").glob("*.eml"))
        assert len(mails) == 1
        for _ in range(5):
            limits = [ask_for_code(client, email).status_code for email in (ADA, "eve@example.com")]
            assert limits[0] == limits[1]
        assert limits[0] == 429


def test_at_rest_there_is_neither_code_nor_cookie_nor_address(api, read_code, administrator):
    ask_for_code(api, "stranger@example.com")
    rows = administrator.execute("SELECT c::text FROM metrion.codes AS c").fetchall()
    code = read_code("stranger@example.com")
    assert "stranger" not in repr(rows)
    assert code not in re.sub(r"\.\d+", "", repr(rows).partition("\\\\x")[0])
    try_code(api, code, "stranger@example.com")
    rows = administrator.execute("SELECT s::text FROM metrion.sessions AS s").fetchall()
    assert api.cookies["metrion_session"] not in repr(rows)


def test_sessions_are_listed_and_ended(api, serve, sign_in):
    sign_in(ADA)
    with httpx.Client(base_url=api.base_url, headers={"user-agent": "Phone\x7f" * 100}) as phone:
        sign_in(ADA, phone)
        items = api.get(SESSIONS).json()["items"]
        assert [item["current"] for item in items] == [False, True]
        assert items[0]["user_agent"].startswith("Phone")
        assert len(items[0]["user_agent"]) == 300
        assert api.delete(f"{SESSIONS}/{items[0]['id']}").status_code == 204
        assert phone.get("/api/v1/account").status_code == 401
        assert api.delete(f"{SESSIONS}/{items[0]['id']}").status_code == 404
    assert api.delete(f"{SESSIONS}/current").status_code == 204
    assert "metrion_session" not in api.cookies
    assert api.get(SESSIONS).status_code == 401


def test_signing_out_ends_the_session_and_not_only_the_cookie(api, sign_in):
    sign_in(ADA)
    cookie = api.cookies["metrion_session"]
    api.delete(f"{SESSIONS}/current")
    answer = api.get("/api/v1/account", headers={"cookie": f"metrion_session={cookie}"})
    assert answer.status_code == 401


def test_a_session_lasts_thirty_days(api, sign_in, administrator):
    sign_in(ADA)
    life = administrator.execute("SELECT expires_at - now() FROM metrion.sessions").fetchone()
    assert life[0].days == 29
    administrator.execute("UPDATE metrion.sessions SET expires_at = now()")
    assert api.get("/api/v1/account").status_code == 401


@pytest.mark.parametrize("cookie", ["", "x", "a" * 43, "a" * 5000, "\u00e9" * 43])
def test_a_forged_cookie_opens_nothing(api, cookie):
    headers = [("cookie", f"metrion_session={cookie}".encode("latin-1"))]
    answer = api.get("/api/v1/account", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-not-signed-in"


@pytest.mark.parametrize(
    "body",
    [
        {"email": "not-an-address"},
        {"email": "a@b\0"},
        {"email": "a b@c"},
        {"email": "a@b>,<c@d"},
        {"email": "a@" + "b" * 300},
        {"email": 3},
        {},
        [],
        None,
    ],
)
def test_an_address_must_be_one(api, body):
    assert api.post(CODES, json=body).status_code == 422


def test_a_body_must_be_json(api):
    for content in (b"", b"{", b"\xff\xfe", b'{"email": "\\ud800@b"}'):
        headers = {"content-type": "application/json"}
        assert api.post(CODES, content=content, headers=headers).status_code == 422


def test_without_a_database_it_says_so(api_alone):
    assert ask_for_code(api_alone).status_code == 503
    assert try_code(api_alone, "123456").status_code == 503


def test_while_mails_pile_up_it_says_so(app_alone, serve, monkeypatch):
    monkeypatch.setattr(type(app_alone.state.services.mailer), "is_full", property(lambda _: True))
    with serve(app_alone) as client:
        answer = ask_for_code(client)
    assert answer.status_code == 503
    assert "mail server" in answer.json()["detail"]


def test_the_address_of_a_mail_server_must_have_its_form(settings_alone: Settings):
    broken = settings_alone.model_copy(update={"smtp_url": SecretStr("smtp://")})
    with pytest.raises(SettingsError, match="METRION_SMTP_URL"):
        create_app(broken)
