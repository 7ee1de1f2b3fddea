import httpx
import pytest

from api.security import FAILED_TOKENS_PER_MINUTE
from storage.accounts import regenerate_token
from storage.database import Database

UNKNOWN = "sk-metrion-" + "0" * 32


def ask(client: httpx.Client, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"authorization": authorization}
    return client.get("/api/v1/logs", headers=headers)


@pytest.mark.parametrize("authorization", [None, "", "Basic abc", "Bearer"])
def test_a_token_is_needed(api_alone: httpx.Client, authorization: str | None):
    answer = ask(api_alone, authorization)
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-missing-token"
    assert answer.headers["www-authenticate"] == 'Bearer realm="Metrion"'


@pytest.mark.parametrize(
    "token",
    [
        "sk-live-0123456789abcdef",
        "sk-metrion-",
        "sk-metrion-" + "0" * 31,
        "sk-metrion-" + "0" * 33,
        "sk-metrion-" + "A" * 32,
        "sk-metrion-" + "0" * 31 + "'",
    ],
)
def test_a_malformed_token_is_refused_without_a_look_up(api_alone: httpx.Client, token: str):
    # the database of this one is down: a look-up would answer 503
    answer = ask(api_alone, f"Bearer {token}")
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-invalid-token"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert token not in answer.text


def test_an_unknown_token_is_refused(api):
    answer = ask(api, f"Bearer {UNKNOWN}")
    assert answer.status_code == 401
    assert answer.json()["type"] == "/api/docs#problem-invalid-token"


async def test_the_live_token_is_good_and_the_one_before_is_not(api, new_account, database):
    account = await new_account("ada@example.com")
    assert ask(api, f"Bearer {account.token}").status_code == 200
    assert ask(api, f"bearer {account.token}").status_code == 200
    as_api = Database(database.url("metrion_api"))
    async with as_api.account(account.id) as connection:
        token = await regenerate_token(connection, database.keys, account.id)
    await as_api.close()
    assert ask(api, f"Bearer {account.token}").status_code == 401
    assert ask(api, f"Bearer {token}").status_code == 200


async def test_guessing_is_slowed_down(api, new_account):
    account = await new_account("ada@example.com")
    for number in range(FAILED_TOKENS_PER_MINUTE):
        assert ask(api, f"Bearer sk-metrion-{number:032x}").status_code == 401
    answer = ask(api, f"Bearer {account.token}")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert ask(api, "Bearer malformed").status_code == 401  # costs no look-up, proves nothing
