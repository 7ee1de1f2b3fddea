"""Gemini's native API: one object, a list of objects, or an event stream of the same objects.

Sources: the types of the google-genai 3.4 package (`GenerateContentResponseUsageMetadata`) and
https://ai.google.dev/api/generate-content#UsageMetadata.
"""

from collections.abc import Mapping
from typing import Any

from addons.usage.documents import (
    Document,
    any_string,
    count_of,
    error_message_of,
    last_object,
    list_of,
    name_of,
    object_of,
    parse,
)
from addons.usage.reader import Reader
from storage.pricing import TokenUsage

_ENDINGS = (b'"finishReason"', b'"blockReason"')
_MODALITIES = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


def usage_of(metadata: Mapping[str, Any]) -> TokenUsage | None:
    """Return Gemini's `usageMetadata` in Metrion's form; None if it counts nothing.

    `promptTokenCount` holds the cached tokens; what tools brought in is counted apart and is input,
    what was thought is counted apart from the candidates and is output. A count that is zero is
    left out of the JSON (as protobuf does), so beside a prompt a missing count is zero.
    """
    prompt = count_of(metadata.get("promptTokenCount"))
    candidates = count_of(metadata.get("candidatesTokenCount"))
    if prompt is None and candidates is None:
        return None
    thoughts = count_of(metadata.get("thoughtsTokenCount"))
    from_tools = count_of(metadata.get("toolUsePromptTokenCount"))
    return TokenUsage(
        input_tokens=None if prompt is None else prompt + (from_tools or 0),
        cache_read_tokens=count_of(metadata.get("cachedContentTokenCount")) or 0,
        output_tokens=(candidates or 0) + (thoughts or 0),
        reasoning_tokens=thoughts or 0,
        service_tier=name_of(metadata.get("serviceTier")),
        extras=_extras(metadata),
    )


def _extras(metadata: Mapping[str, Any]) -> dict[str, int]:
    extras: dict[str, int] = {}
    for field, unit in (
        ("promptTokensDetails", "input_{}_tokens"),
        ("toolUsePromptTokensDetails", "input_{}_tokens"),
        ("cacheTokensDetails", "cache_{}_read_tokens"),
        ("candidatesTokensDetails", "output_{}_tokens"),
    ):
        for item in map(object_of, list_of(metadata.get(field))):
            modality = _MODALITIES.get(str(item.get("modality")))
            count = count_of(item.get("tokenCount"))
            if modality and count:
                name = unit.format(modality)
                extras[name] = extras.get(name, 0) + count
    return extras


class GenerateReader(Reader):
    """Reads generated content and embeddings; of several objects the last usage holds."""

    # A finish reason is one candidate's: more may follow.
    has_last_word = False

    def __init__(self) -> None:
        super().__init__()
        self._last_counted: bytes | None = None

    def read_event(self, data: bytes) -> None:
        """Read the data of one event of a stream.

        Each event counts anew, so that only the last one need be parsed, at the end.
        """
        # `rfind`, because `in` takes several times as long (CPython 3.13).
        if data.rfind(b'"usageMetadata"') >= 0:
            self._last_counted = data
        elif data.find(b'"error"') >= 0:
            self.error_message = error_message_of(parse(data)) or self.error_message
        if data.rfind(b'"finishReason"') >= 0 or data.rfind(b'"blockReason"') >= 0:
            self.complete = True

    def read_long_event(self, event: Document) -> None:
        """Read an event that is too long to be kept whole, such as one with an image."""
        self.finish()  # what was counted before holds if this one, cut off, counts nothing
        self._last_counted = None
        self.read_ends(event)
        self.complete = self.complete or _has_ending(event)

    def read_answer(self, answer: Any) -> None:
        """Read an object, or the list of objects that a stream without `alt=sse` is."""
        for item in list_of(answer) or [answer]:
            said = object_of(item)
            self.model = name_of(said.get("modelVersion")) or self.model
            self.usage = usage_of(object_of(said.get("usageMetadata"))) or self.usage

    def read_ends(self, body: Document) -> None:
        """Read an answer of which only the ends are there."""
        self.model = any_string(body, "modelVersion") or self.model
        self.usage = usage_of(last_object(body, "usageMetadata") or {}) or self.usage

    def finish(self) -> None:
        """Nothing more will come."""
        if self._last_counted is not None:
            self.read_answer(parse(self._last_counted))


def _has_ending(event: Document) -> bool:
    return any(mark in end for end in event.ends for mark in _ENDINGS)
