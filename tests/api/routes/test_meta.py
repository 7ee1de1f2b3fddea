from importlib.metadata import version

import httpx


def test_anybody_may_know_what_this_is(api_alone: httpx.Client):
    answer = api_alone.get("/api/v1/meta")
    meta = answer.json()
    assert meta["version"] == version("metrion")
    assert meta["region"] == "eu-west-1"
    assert meta["registration"] == "open"
    names = [provider["name"] for provider in meta["providers"]]
    assert names == ["anthropic", "gemini", "grok", "mistral", "openai"]
    assert meta["proxy_url"] is None
    assert [each["code"] for each in meta["currencies"]] == ["USD", "EUR", "CHF"]
    assert meta["currencies"][1] == {"code": "EUR", "rate": 0.8532, "date": "2025-06-30"}
    assert meta["keeps_mails"] is True
    expected = {"version", "region", "registration", "providers", "proxy_url", "currencies"}
    assert set(meta) == expected | {"keeps_mails"}
