from collections.abc import Iterator
from typing import Any

import openai
import pytest

from scripts.fake_provider import FakeProvider

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def sdk(running: FakeProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.origin}/v1", api_key="sk-real-0123456789") as client:
        yield client


def test_a_response(sdk: openai.OpenAI):
    answer = sdk.responses.create(model="gpt-4o", input="Hello there!", instructions="Be kind.")
    assert "Hello there!" in answer.output_text
    assert answer.status == "completed"
    assert answer.usage
    assert answer.usage.input_tokens == 5
    assert answer.usage.total_tokens == 5 + answer.usage.output_tokens


def test_a_streamed_response(sdk: openai.OpenAI):
    events: list[Any] = list(sdk.responses.create(model="gpt-4o", input="Hello!", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type.endswith("text.delta"))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.input_tokens == 2
    assert events[0].response.usage is None


def test_the_sdks_own_accumulation(sdk: openai.OpenAI):
    with sdk.responses.stream(model="gpt-4o", input="Hello!") as stream:
        final = stream.get_final_response()
    assert "Hello!" in final.output_text


def test_usage_shapes(sdk: openai.OpenAI):
    def usage(shape: str) -> Any:
        headers = {"x-fake-usage": shape}
        return sdk.responses.create(model="gpt-4o", input="Hi", extra_headers=headers).usage

    assert usage("cached").input_tokens_details.cached_tokens == 1024
    assert usage("cached").input_tokens == 1 + 1024 + 256
    assert usage("reasoning").output_tokens_details.reasoning_tokens == 64
    assert usage("zero").total_tokens == 0
    assert usage("none") is None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_forced_tool_is_called(sdk: openai.OpenAI, choice: Any):
    asked: Any = {"model": "gpt-4o", "input": "Hi", "tools": [WEATHER], "tool_choice": choice}
    (item,) = sdk.responses.create(**asked).output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("weather", '{"city":"example"}')
    events = list(sdk.responses.create(**asked, stream=True))
    assert "response.function_call_arguments.done" in {event.type for event in events}
    asked["tool_choice"] = "auto"
    assert sdk.responses.create(**asked).output_text
