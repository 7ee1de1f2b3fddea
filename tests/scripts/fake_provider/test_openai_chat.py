from collections.abc import Iterator
from typing import Any

import httpx
import mistralai.client
import openai
import pytest

from scripts.fake_provider import FakeProvider
from scripts.fake_provider.openai_chat import dialect_of

KEY = "sk-real-0123456789"
HELLO: list[Any] = [{"role": "user", "content": "Hello there, provider!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def sdk(running: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.origin}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def mistral(running: FakeProvider) -> Iterator[mistralai.client.Mistral]:
    with mistralai.client.Mistral(server_url=running.origin, api_key=KEY) as client:
        yield client


def chat(sdk: openai.OpenAI, usage: str = "default", model: str = "gpt-4o", **more: Any) -> Any:
    headers = {"x-fake-usage": usage}
    return sdk.chat.completions.create(model=model, messages=HELLO, extra_headers=headers, **more)


def test_a_chat(sdk: openai.OpenAI):
    raw = sdk.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    answer = raw.parse()
    assert "Hello there, provider!" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o"
    assert answer.usage
    assert answer.usage.prompt_tokens == 6
    assert answer.usage.total_tokens == 6 + answer.usage.completion_tokens
    assert raw.headers["x-request-id"].startswith("req_")


def test_a_streamed_chat_reports_usage_only_when_asked(sdk: openai.OpenAI):
    silent = list(chat(sdk, stream=True))
    assert all(chunk.usage is None for chunk in silent)
    assert all(chunk.choices for chunk in silent)
    asked = list(chat(sdk, stream=True, stream_options={"include_usage": True}))
    *chunks, last = asked
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    assert last.choices == []
    assert last.usage
    assert last.usage.prompt_tokens == 6
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == chat(sdk).choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    refused = list(chat(sdk, stream=True, stream_options={"include_usage": False}))
    assert all(chunk.usage is None for chunk in refused)


def test_usage_shapes(sdk: openai.OpenAI):
    cached = chat(sdk, "cached").usage
    assert cached
    assert cached.prompt_tokens == 6 + 1024 + 256  # OpenAI's input includes what was cached
    assert cached.prompt_tokens_details
    assert cached.prompt_tokens_details.cached_tokens == 1024
    reasoning = chat(sdk, "reasoning").usage
    assert reasoning
    assert reasoning.completion_tokens_details
    assert reasoning.completion_tokens_details.reasoning_tokens == 64
    assert reasoning.total_tokens == reasoning.prompt_tokens + reasoning.completion_tokens
    zero = chat(sdk, "zero").usage
    assert zero
    assert zero.total_tokens == 0
    assert chat(sdk, "none").usage is None
    stream = chat(sdk, "none", stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None and chunk.choices for chunk in stream)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_tool_is_called(sdk: openai.OpenAI, choice: Any):
    answer = chat(sdk, tools=[WEATHER], tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"example"}')
    assert answer.choices[0].finish_reason == "tool_calls"
    parts = [
        chunk.choices[0].delta.tool_calls[0].function
        for chunk in chat(sdk, tools=[WEATHER], tool_choice=choice, stream=True)
        if chunk.choices[0].delta.tool_calls
    ]
    assert parts[0].name == "weather"
    assert "".join(part.arguments for part in parts) == '{"city":"example"}'


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_tool_that_is_only_offered_is_not_called(sdk: openai.OpenAI, choice: Any):
    answer = chat(sdk, tools=[WEATHER], tool_choice=choice)
    assert answer.choices[0].message.content


def test_embeddings_and_models(sdk: openai.OpenAI):
    answer = sdk.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [len(each.embedding) for each in answer.data] == [1536, 1536]
    assert answer.data[0].embedding != answer.data[1].embedding
    assert answer.usage.total_tokens == 2
    few = sdk.embeddings.create(model="e", input=[1, 2], dimensions=3, encoding_format="float")
    assert len(few.data[0].embedding) == 3
    names = {model.id for model in sdk.models.list()}
    assert {"gpt-4o", "mistral-small-latest", "grok-4"} <= names


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_errors_are_the_sdks_own(sdk: openai.OpenAI, status: int, error: type[Exception]):
    with pytest.raises(error, match="asked to answer"):
        sdk.models.list(extra_headers={"x-fake-status": str(status)})


def test_mistral_is_mistral(mistral: mistralai.client.Mistral, sdk: openai.OpenAI):
    messages: Any = HELLO
    answer = mistral.chat.complete(model="mistral-small-latest", messages=messages)
    assert answer.usage.prompt_tokens == 6
    with mistral.chat.stream(model="mistral-small-latest", messages=messages) as stream:
        *chunks, last = [event.data for event in stream]
    assert last.usage  # without being asked, in the chunk that ends the text
    assert last.choices[0].finish_reason == "stop"
    assert not any(chunk.usage for chunk in chunks)
    names = {model.id for model in mistral.models.list().data or [] if model.type == "base"}
    assert "mistral-embed" in names
    embedded = mistral.embeddings.create(model="mistral-embed", inputs=["one"])
    assert embedded.usage.total_tokens == 1
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        chat(sdk, model="mistral-small", stream=True, stream_options={"include_usage": True})
    assert "extra_forbidden" in caught.value.response.text


@pytest.mark.parametrize("path", ["/v1", "/v1beta/openai"])
def test_grok_and_gemini_count_reasoning_beside_the_completion(running: FakeProvider, path: str):
    with openai.OpenAI(base_url=running.origin + path, api_key=KEY) as sdk:
        answer = chat(sdk, "reasoning", model="grok-4")
        assert answer.usage.total_tokens == (
            answer.usage.prompt_tokens + answer.usage.completion_tokens + 64
        )


def test_geminis_compatible_endpoint(http: httpx.Client, running: FakeProvider):
    with openai.OpenAI(base_url=f"{running.origin}/v1beta/openai", api_key=KEY) as sdk:
        assert sdk.models.list().data[0].id.startswith("models/gemini")
        vector = sdk.embeddings.create(model="gemini-embedding-001", input="a").data[0]
        assert vector.embedding
    error = http.get("/v1beta/openai/models", headers={"x-fake-status": "429"})
    assert error.json()[0]["error"]["status"] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("model", "dialect"),
    [
        ("gpt-4o", "openai"),
        ("grok-3-mini", "grok"),
        ("mistral-small-latest", "mistral"),
        ("ministral-8b", "mistral"),
        ("open-mixtral-8x7b", "mistral"),
        ("codestral-latest", "mistral"),
        ("minimax", "openai"),
    ],
)
def test_the_speaker_is_told_by_the_model(model: str, dialect: str):
    assert dialect_of(model) == dialect
