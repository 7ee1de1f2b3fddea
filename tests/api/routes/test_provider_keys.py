import pytest

from storage.callers import find_caller, key_binding
from storage.single_statements import SingleStatements

PATH = "/api/v1/provider-keys"
KEY = "sk-proj-" + "0123456789abcdef" * 2 + "x7Qa"


@pytest.fixture
def ada(api, sign_in):
    sign_in("ada@example.com")
    return api


def shown(client, provider: str):
    items = client.get(PATH).json()["items"]
    return next(item for item in items if item["provider"] == provider)


def test_every_provider_is_there_without_a_key(ada):
    items = ada.get(PATH).json()["items"]
    assert [item["provider"] for item in items] == [
        "anthropic",
        "gemini",
        "grok",
        "mistral",
        "openai",
    ]
    for item in items:
        assert item["last_four"] is item["created_at"] is None
        assert item["key_page"].startswith("https://")


async def test_a_key_goes_to_the_proxy_and_never_comes_back(ada, database, account_of):
    answer = ada.put(f"{PATH}/openai", json={"key": f" {KEY}\n"})
    assert answer.status_code == 200
    assert (answer.json()["last_four"], answer.json()["warning"]) == ("x7Qa", None)
    assert KEY not in answer.text + ada.get(PATH).text
    token = ada.post("/api/v1/token/reveal").json()["token"]
    proxy = SingleStatements(database.url("metrion_proxy"))
    caller = await find_caller(proxy, database.keys.token_digests(token))
    await proxy.close()
    binding = key_binding(account_of(ada).id, "openai")
    assert database.keys.open(caller.sealed_keys["openai"], binding).decode() == KEY


def test_a_key_is_replaced_and_deleted(ada):
    ada.put(f"{PATH}/openai", json={"key": KEY})
    ada.put(f"{PATH}/openai", json={"key": KEY[:-4] + "new4"})
    assert shown(ada, "openai")["last_four"] == "new4"
    assert ada.delete(f"{PATH}/openai").status_code == 204
    assert shown(ada, "openai")["last_four"] is None
    assert ada.delete(f"{PATH}/openai").status_code == 404


def test_a_key_of_another_form_is_stored_with_a_warning(ada):
    answer = ada.put(f"{PATH}/anthropic", json={"key": KEY})
    assert answer.status_code == 200
    assert "Anthropic" in answer.json()["warning"]
    assert shown(ada, "anthropic")["last_four"] == "x7Qa"


@pytest.mark.parametrize(
    "key", ["", "short", "with a space inside it", "x" * 1001, "k\u00e9y" * 9, "a\0" * 9, 7]
)
def test_what_cannot_be_a_key_is_refused(ada, key):
    answer = ada.put(f"{PATH}/openai", json={"key": key})
    assert answer.status_code == 422
    assert not key or str(key) not in answer.text.replace("7", "")
    assert shown(ada, "openai")["last_four"] is None


@pytest.mark.parametrize("provider", ["unknown", "OPENAI", "..%2f", "%00", "x" * 33])
def test_there_is_no_other_provider(ada, provider):
    assert ada.put(f"{PATH}/{provider}", json={"key": KEY}).status_code in {404, 422}
    assert ada.delete(f"{PATH}/{provider}").status_code in {404, 422}


async def test_the_metrion_key_changes_nothing(api, new_account):
    account = await new_account("ada@example.com")
    for method in ("PUT", "DELETE"):
        answer = api.request(method, f"{PATH}/openai", headers=account.headers, json={"key": KEY})
        assert answer.status_code == 401
    assert api.get(PATH, headers=account.headers).status_code == 401
