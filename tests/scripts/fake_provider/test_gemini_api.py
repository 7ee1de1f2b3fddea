import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types

from scripts.fake_provider import FakeProvider

MODEL = "gemini-2.5-flash"
BODY = {"contents": [{"role": "user", "parts": [{"text": "Hello there!"}]}]}


@pytest.fixture
def sdk(running: FakeProvider) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=running.origin)
    with genai.Client(api_key="AIza-real-0123456789", http_options=options) as client:
        yield client


def with_headers(**headers: str) -> types.HttpOptions:
    return types.HttpOptions(headers={name.replace("_", "-"): headers[name] for name in headers})


def usage_of(sdk: genai.Client, shape: str) -> Any:
    config = types.GenerateContentConfig(http_options=with_headers(x_fake_usage=shape))
    return sdk.models.generate_content(model=MODEL, contents="Hi", config=config).usage_metadata


def test_content(sdk: genai.Client):
    answer = sdk.models.generate_content(model=MODEL, contents="Hello there!")
    assert "Hello there!" in (answer.text or "")
    assert answer.model_version == MODEL
    assert answer.usage_metadata
    assert answer.usage_metadata.prompt_token_count == 3


def test_streamed_content(sdk: genai.Client):
    chunks = list(sdk.models.generate_content_stream(model=MODEL, contents="Hello there!"))
    assert len(chunks) > 2
    assert "Hello there!" in "".join(chunk.text or "" for chunk in chunks)
    last = chunks[-1].usage_metadata
    assert last
    assert last.total_token_count == 3 + (last.candidates_token_count or 0)


def test_usage_shapes(sdk: genai.Client):
    assert usage_of(sdk, "cached").cached_content_token_count == 1024
    assert usage_of(sdk, "cached").prompt_token_count == 1 + 1024 + 256
    thought = usage_of(sdk, "reasoning")
    assert thought.thoughts_token_count == 64
    assert thought.total_token_count == 1 + thought.candidates_token_count + 64
    assert usage_of(sdk, "zero").total_token_count == 0
    assert usage_of(sdk, "none") is None


def test_a_forced_tool_is_called(sdk: genai.Client):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = types.FunctionDeclaration(name="weather", parameters_json_schema=schema)
    mode = types.FunctionCallingConfigMode.ANY
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[function])],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=mode)
        ),
    )
    answer = sdk.models.generate_content(model=MODEL, contents="Hi", config=config)
    (call,) = answer.function_calls or []
    assert (call.name, call.args) == ("weather", {"city": "example"})


def test_counting_and_embedding(sdk: genai.Client):
    assert sdk.models.count_tokens(model=MODEL, contents="Hello there!").total_tokens == 3
    answer = sdk.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    assert [len(each.values or []) for each in answer.embeddings or []] == [3072, 3072]


@pytest.mark.parametrize("version", [None, "v1", "v1beta"])
def test_models(sdk: genai.Client, version: str | None):
    config = types.ListModelsConfig(http_options=types.HttpOptions(api_version=version))
    assert [model.name for model in sdk.models.list(config=config)] == [
        "models/gemini-2.5-flash",
        "models/gemini-embedding-001",
    ]


def test_errors_are_the_sdks_own(sdk: genai.Client):
    config = types.CountTokensConfig(http_options=with_headers(x_fake_status="400"))
    with pytest.raises(errors.ClientError, match="INVALID_ARGUMENT"):
        sdk.models.count_tokens(model=MODEL, contents="Hi", config=config)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_the_paths_by_hand(http: httpx.Client, version: str):
    key = {"x-goog-api-key": "AIza-real-0123456789"}
    path = f"/{version}/models/{MODEL}"
    embedded = http.post(
        f"{path}:embedContent",
        json={"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 4},
        headers=key,
    )
    assert len(embedded.json()["embedding"]["values"]) == 4
    whole = http.post(f"{path}:streamGenerateContent?key=AIza-real-0123456789", json=BODY)
    chunks = json.loads(whole.content)  # without alt=sse: one array
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    events = http.post(f"{path}:streamGenerateContent?alt=sse", json=BODY, headers=key)
    assert events.headers["content-type"] == "text/event-stream"
    assert events.text.startswith('data: {"candidates"')
    assert http.post(f"{path}:explain", json=BODY, headers=key).json()["error"]["code"] == 404
