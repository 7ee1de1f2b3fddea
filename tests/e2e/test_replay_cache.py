"""The response cache as people use it: official SDKs, a whole deployment, its REST API."""

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is kept?"}]}
WANTED = {"x-metrion-cache": "true"}


@pytest.fixture
def openai(deployment, account, few_certificates):
    with OpenAI(
        base_url=f"{deployment.proxy_url}/api/proxy/openai/v1", api_key=account.token
    ) as sdk:
        yield sdk


@pytest.fixture
def anthropic(deployment, account, few_certificates):
    with Anthropic(base_url=f"{deployment.proxy_url}/api/proxy", api_key=account.token) as sdk:
        yield sdk


def test_sdks_get_the_same_answer_again_and_costs_say_what_it_saved(
    deployment, account, provider, openai, anthropic
):
    told = []
    for _ in range(3):
        raw = openai.chat.completions.with_raw_response.create(**ASKED, extra_headers=WANTED)
        told.append((raw.headers["x-metrion-cache"], raw.parse().choices[0].message.content))
    assert [what for what, _ in told] == ["MISS", "HIT", "HIT"]
    assert len({text for _, text in told}) == 1

    chunks = []
    for _ in range(2):
        stream = openai.chat.completions.create(**ASKED, stream=True, extra_headers=WANTED)
        chunks.append([chunk.model_dump() for chunk in stream])
    assert chunks[0] == chunks[1]
    assert len(chunks[0]) > 2

    messages = []
    for _ in range(2):
        with anthropic.messages.stream(
            model="claude-sonnet-4-5",
            max_tokens=20,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers=WANTED,
        ) as stream:
            messages.append(stream.get_final_message())
    assert messages[0] == messages[1]
    assert len(provider.requests) == 3

    rows = deployment.rows(account.token, 7)[::-1]
    assert [row["cached"] for row in rows] == [False, True, True, False, True, False, True]
    for row in rows:
        assert (row["outcome"], row["status"]) == ("ok", 200)
        assert (row["total_tokens"] == 0) is row["cached"]
        assert (float(row["cost_usd"]) == 0) is row["cached"]
    costs = httpx.get(
        f"{deployment.api_url}/api/v1/usage/costs",
        headers={"authorization": f"Bearer {account.token}"},
        verify=False,
    ).json()
    chat, _, _, streamed, _, message, _ = (float(row["cost_usd"]) for row in rows)
    assert costs["cache_saved_usd"] == pytest.approx(2 * chat + streamed + message)
    assert (costs["cache_answers"], costs["cache_unpriced"]) == (4, 0)
    assert costs["cost"]["total"] == pytest.approx(chat + streamed + message)


def test_metrics_say_how_the_cache_does(deployment, openai):
    for _ in range(2):
        openai.chat.completions.create(**ASKED, extra_headers=WANTED)
    shown = httpx.get(f"{deployment.proxy_url}/metrics", verify=False).text
    for name in ('lookups_total{result="hit"}', 'answers_total{result="stored"}'):
        assert f"metrion_cache_{name}" in shown
