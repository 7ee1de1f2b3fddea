"""What a stream of server-sent events says, put together again for somebody who reads it.

Knows the shapes of all five providers by their fields, not by their names: OpenAI's chat (Mistral,
Grok and Gemini's compatible endpoint speak it too), OpenAI's responses, Anthropic's messages and
Gemini's own. What it does not know stays readable as an event.
"""

import json
import textwrap
from collections.abc import Iterator
from typing import Any, cast

from addons.usage.documents import Document
from addons.usage.sse import EventStream

Piece = tuple[str, str]

_WRAP = textwrap.TextWrapper(
    100,
    expand_tabs=False,
    replace_whitespace=False,
    drop_whitespace=False,
    break_long_words=False,
    break_on_hyphens=False,
)


def events_of(stream: bytes) -> list[bytes]:
    """The data of each event; of a very long one, a note."""
    events: list[bytes] = []

    def note(event: Document) -> None:
        events.append(b"(an event too long to show)")

    reader = EventStream(events.append, note)
    reader.feed(stream)
    reader.finish()
    return events


def transcript(stream: bytes) -> str:
    """The stream as text: each part of the answer in one piece, then the events one a line."""
    events = events_of(stream)
    parts: dict[str, list[str]] = {}
    for event in events:
        for part, text in _pieces(_parsed(event)):
            parts.setdefault(part, []).append(text)
    blocks = [f"--- {part}\n{_wrapped(''.join(texts))}" for part, texts in parts.items()]
    lines = "\n".join(event.decode(errors="replace") for event in events)
    return "\n\n".join([*blocks, f"--- {len(events)} events\n{lines}"])


def _wrapped(text: str) -> str:
    """Long lines broken at spaces, for mitmweb breaks none; nothing else is changed."""
    return "\n".join(piece for line in text.split("\n") for piece in _WRAP.wrap(line) or [""])


def _parsed(event: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(event))
    except (ValueError, RecursionError):  # also what is no UTF-8
        return {}


def _pieces(event: dict[str, Any]) -> Iterator[Piece]:
    """What an event adds, and to which part of the answer."""
    for choice in _objects(event.get("choices")):
        yield from _chat(choice)
    for candidate in _objects(event.get("candidates")):
        yield from _gemini(candidate)
    kind, delta = event.get("type"), event.get("delta")
    if kind == "content_block_delta":
        yield from _anthropic(event, _object(delta))
    elif isinstance(kind, str) and kind.endswith(".delta") and isinstance(delta, str):
        what = kind.removeprefix("response.").removesuffix(".delta").replace("_", " ")
        yield f"{what} {event.get('output_index', 0)}", delta


def _chat(choice: dict[str, Any]) -> Iterator[Piece]:
    index, delta = choice.get("index", 0), _object(choice.get("delta"))
    for field, what in (("reasoning_content", "reasoning"), ("content", "answer")):
        if isinstance(text := delta.get(field), str) and text:
            yield f"{what} {index}", text
    for call in _objects(delta.get("tool_calls")):
        function = _object(call.get("function"))
        for field in ("name", "arguments"):
            if isinstance(text := function.get(field), str):
                yield f"answer {index}, tool call {call.get('index', 0)}", text


_ANTHROPIC = (("thinking", "thinking"), ("text", "answer"), ("partial_json", "tool call"))


def _anthropic(event: dict[str, Any], delta: dict[str, Any]) -> Iterator[Piece]:
    for field, what in _ANTHROPIC:
        if isinstance(text := delta.get(field), str):
            yield f"{what} {event.get('index', 0)}", text


def _gemini(candidate: dict[str, Any]) -> Iterator[Piece]:
    index = candidate.get("index", 0)
    for part in _objects(_object(candidate.get("content")).get("parts")):
        if isinstance(text := part.get("text"), str):
            yield f"{'thinking' if part.get('thought') else 'answer'} {index}", text
        elif call := _object(part.get("functionCall")):
            yield f"tool call of answer {index}", json.dumps(call)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """The objects of a list, if it is one."""
    for item in cast("list[object]", value) if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield _object(cast("object", item))
