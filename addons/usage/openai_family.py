"""OpenAI's chat, responses and embeddings, as OpenAI, Gemini, Mistral and xAI send them.

Sources: the types of the openai 3.54 and mistralai 3.7 packages; docs.x.ai and docs.mistral.ai on
prompt caching; for what differs in practice the reports named below.
"""

import re
from collections.abc import Mapping
from typing import Any

from addons.usage.documents import (
    Document,
    any_string,
    count_of,
    error_message_of,
    last_object,
    name_of,
    object_of,
    parse,
)
from addons.usage.reader import Reader
from storage.pricing import TokenUsage

_OBJECT_FOLLOWS = re.compile(rb"\s*:\s*\{")
_ERROR_WITHIN = 64
_MILESTONE = re.compile(
    rb'"type"\s*:\s*"(?:response\.(?:created|completed|incomplete|failed)|error)"'
)
_LAST_EVENTS = {"response.completed", "response.incomplete", "response.failed"}


def usage_of(usage: Mapping[str, Any], tier: str | None = None) -> TokenUsage | None:
    """Return OpenAI's usage object in Metrion's form; None if it counts nothing.

    `prompt_tokens` holds the cached tokens. `completion_tokens` holds the reasoning at OpenAI, but
    not at xAI (chat) and at Gemini's compatible endpoint, whose `total_tokens` is then larger than
    the sum of the two; what is over is output, billed as such. (xAI's own `cost_in_usd_ticks` in
    https://github.com/Wei-Shaw/sub2api/issues/5771 agrees to the last digit; it is not used
    otherwise, as no other provider says a cost.) Anything but reasoning that only the total holds
    would be taken for output, too; no provider is known to do that.
    """
    inputs = count_of(usage.get("prompt_tokens", usage.get("input_tokens")))
    outputs = count_of(usage.get("completion_tokens", usage.get("output_tokens")))
    total = count_of(usage.get("total_tokens"))
    if inputs is None and outputs is None:
        return None
    input_details = _first_object(
        usage,
        "prompt_tokens_details",
        "input_tokens_details",
        "prompt_token_details",  # Mistral has had it in both spellings
    )
    output_details = _first_object(usage, "completion_tokens_details", "output_tokens_details")
    reasoning = count_of(output_details.get("reasoning_tokens"))
    if inputs is not None and total is not None:
        beside = total - inputs - (outputs or 0)
        if outputs is None:
            outputs = max(beside, 0)
        elif beside > 0:
            reasoning = beside if reasoning is None and outputs else reasoning
            outputs += beside
    cached = count_of(input_details.get("cached_tokens"))
    if cached is None:
        cached = count_of(usage.get("num_cached_tokens"))  # Mistral
    return TokenUsage(
        input_tokens=inputs,
        cache_read_tokens=cached,
        cache_write_tokens=count_of(input_details.get("cache_write_tokens")),
        output_tokens=outputs,
        reasoning_tokens=reasoning,
        service_tier=tier,
        extras=_extras(usage, input_details, output_details),
    )


def _first_object(usage: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        if found := object_of(usage.get(name)):
            return found
    return {}


def _extras(
    usage: Mapping[str, Any], input_details: Mapping[str, Any], output_details: Mapping[str, Any]
) -> dict[str, int]:
    counted = {
        "input_audio_tokens": input_details.get("audio_tokens"),
        "input_image_tokens": input_details.get("image_tokens"),
        "output_audio_tokens": output_details.get("audio_tokens"),
        "input_audio_seconds": usage.get("prompt_audio_seconds"),  # Mistral's Voxtral
    }
    return {name: count for name, value in counted.items() if (count := count_of(value))}


def _has_usage_object(chunk: bytes) -> bool:
    """Tell, without parsing, whether usage is more than `null`; wrong only in saying yes."""
    place = chunk.rfind(b'"usage"')  # `in` takes several times as long (CPython 3.13)
    return place >= 0 and _OBJECT_FOLLOWS.match(chunk, place + 7) is not None


class ChatReader(Reader):
    """Reads chat completions: usage in the body, or in the last chunk of a stream.

    Every chunk may carry `"usage": null`; xAI counts in each chunk, the last one holds. A stream
    that was cut off has said nothing about usage.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tier: str | None = None

    def read_event(self, data: bytes) -> None:
        """Read the data of one event of a stream."""
        if (
            self.model is None
            or _has_usage_object(data)
            or data.find(b'"error"', 0, _ERROR_WITHIN) >= 0
        ):
            chunk = parse(data)
            if chunk is not None:
                self.error_message = error_message_of(chunk) or self.error_message
                self.read_answer(chunk)
                return
        if data.strip() == b"[DONE]":
            self.complete = True

    def read_long_event(self, event: Document) -> None:
        """Read an event that is too long to be kept whole."""
        self.read_ends(event)

    def read_answer(self, answer: Any) -> None:
        """Read a whole answer or chunk, parsed."""
        said = object_of(answer)
        self.model = name_of(said.get("model")) or self.model
        self._tier = name_of(said.get("service_tier")) or self._tier
        self._read_usage(object_of(said.get("usage")))

    def read_ends(self, body: Document) -> None:
        """Read an answer of which only the ends are there."""
        self.model = any_string(body, "model") or self.model
        self._tier = any_string(body, "service_tier") or self._tier
        self._read_usage(last_object(body, "usage") or {})

    def _read_usage(self, said: Mapping[str, Any]) -> None:
        self.usage = usage_of(said, self._tier) or self.usage


class EmbeddingsReader(ChatReader):
    """Reads embeddings, which have no output: that is zero, not unknown."""

    def _read_usage(self, said: Mapping[str, Any]) -> None:
        super()._read_usage({"completion_tokens": 0, **said} if said else said)


class ResponsesReader(Reader):
    """Reads the responses API: usage in the body, or in the event that ends a stream."""

    def read_event(self, data: bytes) -> None:
        """Read the data of one event of a stream."""
        if not _MILESTONE.search(data):
            return
        event = object_of(parse(data))
        kind = event.get("type")
        response = object_of(event.get("response"))
        self.error_message = (
            error_message_of(event) or error_message_of(response) or self.error_message
        )
        if kind in _LAST_EVENTS:
            self.complete = True
        if response:
            self.read_answer(response)

    def read_long_event(self, event: Document) -> None:
        """Read an event that is too long to be kept whole; the last one holds the whole answer."""
        kind = any_string(event, "type")
        if kind in _LAST_EVENTS:
            self.complete = True
            self.read_ends(event)

    def read_answer(self, answer: Any) -> None:
        """Read a whole response object."""
        said = object_of(answer)
        self.model = name_of(said.get("model")) or self.model
        tier = name_of(said.get("service_tier"))
        self.usage = usage_of(object_of(said.get("usage")), tier)

    def read_ends(self, body: Document) -> None:
        """Read an answer of which only the ends are there."""
        self.model = any_string(body, "model") or self.model
        tier = any_string(body, "service_tier")
        self.usage = usage_of(last_object(body, "usage") or {}, tier)
