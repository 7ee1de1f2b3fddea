"""Anthropic's messages API.

Sources: the types of the anthropic 2.12 package and
https://platform.claude.com/docs/en/build-with-claude/streaming: `message_start` carries the usage
of the input, `message_delta` the final counts, cumulative.
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
    list_of,
    name_of,
    object_of,
    parse,
)
from addons.usage.reader import Reader
from storage.pricing import TokenUsage

_MILESTONE = re.compile(rb'"type"\s*:\s*"(?:message_start|message_delta|message_stop|error)"')


def usage_of(usage: Mapping[str, Any]) -> TokenUsage | None:
    """Return Anthropic's usage object in Metrion's form; None if it counts nothing.

    `input_tokens` holds neither the tokens read from the cache nor those written to it: they are
    added. `output_tokens` holds the thinking. Compactions of the context are sampled apart and not
    in the counts of the message (see `BetaUsage.iterations`): they are added as well. So is not
    what an advisor, another model at another price, used.
    """
    rounds = [usage, *(i for i in map(object_of, list_of(usage.get("iterations"))) if _is_apart(i))]
    fresh = _sum(rounds, "input_tokens")
    outputs = _sum(rounds, "output_tokens")
    if fresh is None and outputs is None:
        return None
    read = _sum(rounds, "cache_read_input_tokens")
    written = _sum(rounds, "cache_creation_input_tokens")
    speed = name_of(usage.get("speed"))
    return TokenUsage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=outputs,
        reasoning_tokens=count_of(
            object_of(usage.get("output_tokens_details")).get("thinking_tokens")
        ),
        service_tier=speed if speed == "fast" else name_of(usage.get("service_tier")),
        extras=_extras(usage, rounds),
    )


def _is_apart(iteration: Mapping[str, Any]) -> bool:
    return iteration.get("type") == "compaction"


def _sum(rounds: list[Mapping[str, Any]], name: str) -> int | None:
    counts = [count for said in rounds if (count := count_of(said.get(name))) is not None]
    return sum(counts) if counts else None


def _extras(usage: Mapping[str, Any], rounds: list[Mapping[str, Any]]) -> dict[str, int]:
    kept_long = _sum(
        [object_of(said.get("cache_creation")) for said in rounds], "ephemeral_1h_input_tokens"
    )
    searches = count_of(object_of(usage.get("server_tool_use")).get("web_search_requests"))
    counted = {"cache_write_1h_tokens": kept_long, "web_searches": searches}
    return {name: count for name, count in counted.items() if count}


class MessagesReader(Reader):
    """Reads messages. A stream that was cut off has said at least what the input was."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, Any] = {}

    def read_event(self, data: bytes) -> None:
        """Read the data of one event of a stream."""
        if not _MILESTONE.search(data):
            return
        event = object_of(parse(data))
        kind = event.get("type")
        if kind == "message_start":
            self.read_answer(event.get("message"))
        elif kind == "message_delta":
            self._add(object_of(event.get("usage")))
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            self.error_message = error_message_of(event)

    def read_answer(self, answer: Any) -> None:
        """Read a message object."""
        message = object_of(answer)
        self.model = name_of(message.get("model"))
        self._add(object_of(message.get("usage")))

    def read_ends(self, body: Document) -> None:
        """Read an answer of which only the ends are there."""
        self.model = any_string(body, "model")
        self._add(last_object(body, "usage") or {})

    def _add(self, usage: Mapping[str, Any]) -> None:
        """Take newer counts over older ones: they are cumulative, and null is no news."""
        for name, value in usage.items():
            before = count_of(self._said.get(name))
            now = count_of(value)
            if before is not None and now is not None:
                self._said[name] = max(before, now)
            elif value is not None:
                self._said[name] = value
        self.usage = usage_of(self._said)
