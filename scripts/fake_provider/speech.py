"""What the fake says, and what it claims that this cost: the same for every API flavour."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from scripts.fake_provider.knobs import Knobs
from scripts.fake_provider.shapes import items_of, object_of

_QUOTED_CHARACTERS = 300
_CHARACTERS_PER_TOKEN = 4
_CACHE_READ, _CACHE_WRITE, _REASONING = 1024, 256, 64


class Usage(NamedTuple):
    """Token counts without overlap; each API adds them up in its own way.

    `fresh` input was neither read from nor written to a cache; `text` output is not reasoning.
    """

    fresh: int
    cache_read: int
    cache_write: int
    text: int
    reasoning: int

    @property
    def input(self) -> int:
        """All input tokens."""
        return self.fresh + self.cache_read + self.cache_write

    @property
    def output(self) -> int:
        """All output tokens."""
        return self.text + self.reasoning


class ToolCall(NamedTuple):
    """A call of the tool that the request forced, with arguments that fit its schema."""

    name: str
    arguments: dict[str, Any]


class Call(NamedTuple):
    """One parsed API request and what its knobs say about the answer."""

    body: dict[str, Any]
    knobs: Knobs
    number: int  # counts the process's requests: ids are made of it
    head: bytes
    query: dict[str, str]

    @property
    def streamed(self) -> bool:
        """Whether the body asks for a stream (OpenAI and Anthropic; Gemini has a path for it)."""
        return self.body.get("stream") is True

    @property
    def model(self) -> str:
        """The model that the answer names."""
        return self.knobs.model or str(self.body.get("model") or "unnamed-model")

    def identifier(self, prefix: str, digits: int = 24) -> str:
        """Return an id in the provider's style, different for every request."""
        return f"{prefix}{self.number:0{digits}x}"

    def speak(self, prompt: str, model: str | None = None) -> str:
        """Return the answer's text: the prompt's own words, so that a person sees it arrive."""
        said = " ".join(prompt[-4 * _QUOTED_CHARACTERS :].split())[-_QUOTED_CHARACTERS:]
        text = f"This is {model or self.model}, played by a fake provider. You said: {said}"
        if self.knobs.echo:
            text += "\n" + self.head.decode("latin-1")
        if len(text) < self.knobs.big:
            text += " " + "lorem " * math.ceil((self.knobs.big - len(text)) / len("lorem "))
        return text

    def pieces(self, text: str) -> Iterator[str]:
        """Cut the text into the deltas of a stream: about two words each, or as many as asked."""
        words = text.split(" ")
        count = self.knobs.events
        if count is None:
            count = math.ceil(len(words) / 2)
        if count > len(words):
            words += ["…"] * (count - len(words))
        start = 0
        for number in range(1, count + 1):
            end = len(words) * number // count
            yield " ".join(words[start:end]) + (" " if number < count else "")
            start = end

    def usage(self, prompt: str, answer: str) -> Usage | None:
        """Return what the answer is said to have cost; None where nothing is reported."""
        fresh, text = count_tokens(prompt), count_tokens(answer)
        match self.knobs.usage:
            case "none":
                return None
            case "zero":
                return Usage(0, 0, 0, 0, 0)
            case "cached":
                return Usage(fresh, _CACHE_READ, _CACHE_WRITE, text, 0)
            case "reasoning":
                return Usage(fresh, 0, 0, text, _REASONING)
            case "default":
                return Usage(fresh, 0, 0, text, 0)


def count_tokens(text: str) -> int:
    """Return the number of tokens that the fake counts in a text: one per four characters."""
    return max(1, math.ceil(len(text) / _CHARACTERS_PER_TOKEN))


def plain_text(content: object) -> str:
    """Return the text in a message's content, in the notation of any of the five providers."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            [text for each in items_of(cast("object", content)) if (text := plain_text(each))]
        )
    block = object_of(content)
    inner = block.get("text") or block.get("content") or block.get("parts")
    return inner if isinstance(inner, str) else plain_text(inner) if inner else ""


def last_text(messages: object) -> str:
    """Return the text of the last message of a conversation."""
    return plain_text(items_of(messages)[-1:] or messages)


def sample_of(schema: object) -> Any:
    """Return a value that fits a (simple) JSON schema: what a model might call a tool with."""
    rules = object_of(schema)
    if rules.get("enum"):
        return rules["enum"][0]
    kind = str(rules.get("type", "object")).lower()
    if kind == "object":
        properties = object_of(rules.get("properties"))
        wanted = items_of(rules.get("required")) or list(properties)
        return {name: sample_of(properties.get(name)) for name in wanted}
    if kind == "array":
        return [sample_of(rules.get("items"))]
    return {"string": "example", "boolean": True, "null": None}.get(kind, 1)
