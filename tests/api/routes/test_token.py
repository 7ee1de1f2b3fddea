import time

import pytest

from storage.invalidation import LEASE_SECONDS
from storage.tokens import is_token

PATH = "/api/v1/token"


@pytest.fixture
def ada(api, sign_in):
    sign_in("ada@example.com")
    return api


def test_the_key_is_masked_until_it_is_revealed(ada):
    masked = ada.get(PATH).json()
    token = ada.post(f"{PATH}/reveal").json()["token"]
    assert is_token(token)
    assert masked["masked"] == "sk-metrion-…" + token[-4:]
    assert ada.get("/api/v1/logs", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_a_new_key_ends_the_old_one(ada):
    before = ada.get(PATH).json()
    old = ada.post(f"{PATH}/reveal").json()["token"]
    started = time.monotonic()
    new = ada.post(f"{PATH}/regenerate").json()["token"]
    assert time.monotonic() - started >= LEASE_SECONDS  # no proxy trusts what it knew before
    assert is_token(new)
    assert new != old
    assert ada.get("/api/v1/logs", headers={"authorization": f"Bearer {old}"}).status_code == 401
    assert ada.get("/api/v1/logs", headers={"authorization": f"Bearer {new}"}).status_code == 200
    assert ada.get(PATH).json()["created_at"] > before["created_at"]


async def test_the_key_does_not_open_itself(api, new_account):
    account = await new_account("ada@example.com")
    for method, path in (("GET", PATH), ("POST", f"{PATH}/reveal"), ("POST", f"{PATH}/regenerate")):
        answer = api.request(method, path, headers=account.headers)
        assert answer.status_code == 401
        assert "sk-metrion-" not in answer.text
