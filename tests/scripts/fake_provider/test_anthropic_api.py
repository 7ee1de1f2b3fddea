from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from scripts.fake_provider import FakeProvider

HELLO: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "Hello there!"}]}]
ASKED: Any = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": HELLO}
WEATHER: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def sdk(running: FakeProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=running.origin, api_key="sk-ant-0123456789", max_retries=0
    ) as client:
        yield client


def test_a_message(sdk: anthropic.Anthropic):
    raw = sdk.messages.with_raw_response.create(**ASKED, system="Be kind.")
    message = raw.parse()
    assert message.content[0].type == "text"
    assert "Hello there!" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == 5
    assert raw.headers["request-id"].startswith("req_")
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "4000"


def test_a_streamed_message(sdk: anthropic.Anthropic):
    with sdk.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == text
    assert (final.usage.input_tokens, final.stop_reason) == (3, "end_turn")
    events = [event.type for event in sdk.messages.create(**ASKED, stream=True)]
    assert events[0] == "message_start"
    assert events[-2:] == ["message_delta", "message_stop"]


def test_usage_shapes(sdk: anthropic.Anthropic):
    def usages(shape: str) -> list[Any]:
        """The usage of a JSON answer, of message_start and of message_delta."""
        headers = {"x-fake-usage": shape}
        events: list[Any] = list(sdk.messages.create(**ASKED, stream=True, extra_headers=headers))
        start = next(event.message for event in events if event.type == "message_start")
        delta = next(event for event in events if event.type == "message_delta")
        whole = sdk.messages.create(**ASKED, extra_headers=headers)
        return [getattr(each, "usage", None) for each in (whole, start, delta)]

    for usage in usages("cached"):
        assert usage.input_tokens == 3  # Anthropic's input excludes what was cached
        assert usage.cache_read_input_tokens == 1024
        assert usage.cache_creation_input_tokens == 256
    whole, start, delta = usages("reasoning")
    assert whole.output_tokens == delta.output_tokens > 64
    assert whole.output_tokens_details.thinking_tokens == 64
    assert start.output_tokens == 1
    assert all(usage.input_tokens == usage.output_tokens == 0 for usage in usages("zero"))
    assert usages("none") == [None, None, None]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_forced_tool_is_called(sdk: anthropic.Anthropic, choice: Any):
    message = sdk.messages.create(**ASKED, tools=[WEATHER], tool_choice=choice)
    (block,) = message.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"city": "example"})
    assert message.stop_reason == "tool_use"
    with sdk.messages.stream(**ASKED, tools=[WEATHER], tool_choice=choice) as stream:
        (block,) = stream.get_final_message().content
    assert block.type == "tool_use"
    assert block.input == {"city": "example"}
    offered = sdk.messages.create(**ASKED, tools=[WEATHER], tool_choice={"type": "auto"})
    assert offered.content[0].type == "text"


def test_counting_and_models(sdk: anthropic.Anthropic):
    counted = sdk.messages.count_tokens(model="claude-haiku-4-5", messages=HELLO)
    assert counted.input_tokens == 3
    assert [model.type for model in sdk.models.list()] == ["model"] * 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (429, anthropic.RateLimitError),
        (529, anthropic.OverloadedError),
    ],
)
def test_errors_are_the_sdks_own(sdk: anthropic.Anthropic, status: int, error: type[Exception]):
    with pytest.raises(error, match="asked to answer"):
        sdk.messages.create(**ASKED, extra_headers={"x-fake-status": str(status)})


def test_a_stream_that_fails_on_the_way(sdk: anthropic.Anthropic):
    headers = {"x-fake-error-at": "4"}
    with (
        pytest.raises(anthropic.APIStatusError, match="asked to fail"),
        sdk.messages.stream(**ASKED, extra_headers=headers) as stream,
    ):
        stream.until_done()
