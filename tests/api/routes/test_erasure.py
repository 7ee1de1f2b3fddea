import re
from pathlib import Path

import httpx
import psycopg
import pytest

from api.security import SIGN_INS_PER_WINDOW

ADA = "ada@example.com"
ACCOUNT, CODES = "/api/v1/account", "/api/v1/account/deletion-codes"


@pytest.fixture
def administrator(database):
    with psycopg.connect(
        database.administrator_url.get_secret_value(), autocommit=True
    ) as connection:
        yield connection


def delete(client: httpx.Client, code: str) -> httpx.Response:
    return client.request("DELETE", ACCOUNT, json={"code": code})


def mails(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted((folder / "mail").glob("*.eml"))]


def test_a_code_by_mail_deletes_the_account(api, sign_in, read_code, database, administrator):
    sign_in(ADA)
    token = api.post("/api/v1/token/reveal").json()["token"]
    sent = api.post(CODES)
    assert (sent.status_code, sent.json()) == (202, {})
    code = read_code(ADA, 2)
    assert "is your code for deleting your Metrion account" in mails(database.settings.data_dir)[-1]
    cookie = dict(api.cookies)
    answer = delete(api, code)
    assert answer.status_code == 202, answer.text
    assert 'metrion_session=""' in answer.headers["set-cookie"]
    assert answer.json()["state"] == "requested"
    receipt = administrator.execute("SELECT id::text, email FROM metrion.erasures").fetchone()
    assert receipt == (answer.json()["receipt"], ADA)
    # nobody gets in any more, by no way
    assert api.get(ACCOUNT, cookies=cookie).status_code == 401
    bearer = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{api.base_url}/api/v1/logs", headers=bearer).status_code == 401


def test_a_wrong_code_deletes_nothing_and_costs_a_try(api, sign_in, read_code):
    sign_in(ADA)
    api.post(CODES)
    code = read_code(ADA, 2)
    for _ in range(5):
        answer = delete(api, f"{(int(code) + 1) % 10**6:06}")
        assert answer.status_code == 401
        assert answer.json()["type"] == "/api/docs#problem-invalid-code"
    assert delete(api, code).status_code == 401
    assert api.get(ACCOUNT).status_code == 200


def test_a_code_for_signing_in_does_not_delete(api, sign_in, read_code):
    sign_in(ADA)
    api.post("/api/v1/auth/codes", json={"email": ADA})
    assert delete(api, read_code(ADA, 2)).status_code == 401
    assert api.get(ACCOUNT).status_code == 200


@pytest.mark.parametrize("body", [None, {}, {"code": "12345"}, {"code": 123456}])
def test_a_code_is_needed(api, sign_in, body):
    sign_in(ADA)
    assert api.request("DELETE", ACCOUNT, json=body).status_code == 422


async def test_only_a_person_who_is_signed_in_may(api, new_account):
    bearer = (await new_account(ADA)).headers
    assert api.post(CODES, headers=bearer).status_code == 401
    answer = api.request("DELETE", ACCOUNT, json={"code": "123456"}, headers=bearer)
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-not-signed-in"


def test_not_from_another_site(api, sign_in):
    sign_in(ADA)
    foreign = {"sec-fetch-site": "cross-site"}
    assert api.post(CODES, headers=foreign).status_code == 403
    assert api.request("DELETE", ACCOUNT, json={"code": "1"}, headers=foreign).status_code == 403


def test_codes_and_tries_are_limited(api, sign_in):
    sign_in(ADA)
    assert [api.post(CODES).status_code for _ in range(6)] == [202] * 5 + [429]
    answers = [delete(api, "000000").status_code for _ in range(SIGN_INS_PER_WINDOW + 1)]
    assert answers[-1] == 429


def test_the_same_address_can_begin_anew_at_once(api, sign_in, read_code):
    sign_in(ADA)
    first = api.get(ACCOUNT).json()["id"]
    api.post(CODES)
    assert delete(api, read_code(ADA, 2)).status_code == 202
    sign_in(ADA)
    again = api.get(ACCOUNT).json()
    assert again["id"] != first
    assert again["email"] == ADA
    assert re.fullmatch(r"[0-9a-f-]{36}", again["id"])
