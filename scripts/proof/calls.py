"""What clients ask for: one of each kind of request, with what its row has to say afterwards.

The tokens follow from the text that is sent, by the fake provider's own rule (one for four
characters), and the cost from `PRICES`, which `write_prices` makes the deployment's own: neither
is computed by what is being proved.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from scripts.proof.books import NOTHING, Expected, Tokens

_MILLION = 1_000_000
_CACHED_READ, _CACHE_WRITE, _REASONING = 1024, 256, 64  # what `x-fake-usage` adds
_POOL = 12  # prompts that several ask for, so that answers are given again
_BIG = 120_000


class Prices(NamedTuple):
    """USD for a million tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal


def _prices(*usd: str) -> Prices:
    return Prices(*map(Decimal, usd))


PRICES: Final[Mapping[str, tuple[str, Prices]]] = {
    "gpt-4o": ("openai", _prices("2.3", "9.7", "1.1", "2.9")),
    "text-embedding-3-small": ("openai", _prices("0.13", "0", "0.13", "0.13")),
    "claude-sonnet-4-5": ("anthropic", _prices("3.1", "15.7", "0.31", "3.7")),
    "gemini-2.5-flash": ("gemini", _prices("0.37", "2.3", "0.071", "0.37")),
    "mistral-small-latest": ("mistral", _prices("0.11", "0.29", "0.053", "0.11")),
    "grok-4": ("grok", _prices("3.7", "14.3", "0.73", "3.7")),
}


def write_prices(path: Path) -> None:
    """Write the file for METRION_PRICES_FILE."""
    entries = [
        f'[[price]]\nprovider = "{provider}"\nmodel = "{model}"\n'
        + "\n".join(f"{name} = {usd}" for name, usd in prices._asdict().items())
        for model, (provider, prices) in PRICES.items()
    ]
    path.write_text("date = 2026-01-01\n\n" + "\n\n".join(entries) + "\n")


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: GET or POST.
        path: behind the proxy's address.
        body: None: there is none.
        knobs: what the provider is told to do with it, by the names of `x-fake-*`.
        headers: further ones.
        last_word: who has read this has read all of it; None: where HTTP says that it ends.
        expected: what its row has to say.
        with_token: False: it carries a token that nobody has.
    """

    path: str
    body: bytes | None
    expected: Expected
    method: str = "POST"
    knobs: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    last_word: bytes | None = None
    with_token: bool = True

    @property
    def is_cached(self) -> bool:
        """Whether its answer may be stored and given again."""
        return "x-metrion-cache" in self.headers


def draw(chance: Random) -> Call:
    """Return a request of any kind."""
    (make,) = chance.choices(_KINDS, _WEIGHTS)
    return make(chance)


def break_answer(call: Call, chance: Random) -> Call:
    """Have the provider fail on a request; nothing but the status is then known beforehand."""
    knobs = dict(chance.choice(_BREAKS))
    if call.is_cached:  # an answer that is broken is not the one that others have stored
        return call
    return replace(call, knobs=dict(call.knobs) | knobs, expected=_unknown(call.expected))


_BREAKS: Final[tuple[Mapping[str, str], ...]] = (
    {"status": "500"},
    {"status": "503"},
    {"status": "429"},
    {"status": "529"},
    {"close": "head"},
    {"close": "head", "close-with": "rst"},
    {"close": "body"},
    {"close": "2", "interval": "0.02"},
    {"close": "60b", "close-with": "rst"},
    {"stall": "head"},
    {"stall": "1"},
    {"garbage": "text"},
    {"garbage": "binary"},
    {"garbage": "two-lengths"},
    {"garbage": "length-and-chunked"},
    {"garbage": "endless-head"},
    {"garbage": "bad-chunk"},
    {"delay": "0.5"},
)


def _unknown(expected: Expected) -> Expected:
    return replace(expected, is_broken=True)


# ---- what it uses -------------------------------------------------------------------------------


def _count(text: str) -> int:
    return max(1, math.ceil(len(text) / 4))


def _spoken(prompt: str, model: str, least: int = 0) -> str:
    text = f"This is {model}, played by a fake provider. You said: {prompt}"
    if len(text) < least:
        text += " " + "lorem " * math.ceil((least - len(text)) / len("lorem "))
    return text


def _expect(model: str, prompt: str, *, usage: str = "default", big: int = 0) -> Expected:
    """What a chat in that model comes to."""
    provider, prices = PRICES[model]
    fresh, said = _count(prompt), _count(_spoken(prompt, model, big))
    read = write = reasoning = 0
    if usage == "cached":
        # Gemini and Mistral have no class for what is written; they count it among the input
        read, write = _CACHED_READ, _CACHE_WRITE
    if usage == "reasoning":
        reasoning = _REASONING
    if usage == "none":
        return Expected(provider)
    if usage == "zero":
        return Expected(provider, tokens=NOTHING, cost=Decimal(0))
    paid = fresh * prices.input + read * prices.cache_read + write * prices.cache_write
    paid += (said + reasoning) * prices.output
    into, out = fresh + read + write, said + reasoning
    tokens = Tokens(into, out, into + out, read, reasoning)
    return Expected(provider, tokens=tokens, cost=paid / _MILLION)


# ---- kinds --------------------------------------------------------------------------------------


def _prompt(chance: Random) -> str:
    return f"Number {chance.getrandbits(64):x}: " + "why? " * chance.randrange(1, 40) + "end"


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


_OPENAI = "/api/proxy/openai/v1"
_DONE = b"data: [DONE]"
_CHAT_PATHS = {
    "gpt-4o": f"{_OPENAI}/chat/completions",
    "mistral-small-latest": "/api/proxy/mistral/v1/chat/completions",
    "grok-4": "/api/proxy/grok/v1/chat/completions",
    "gemini-2.5-flash": "/api/proxy/gemini/v1/chat/completions",
}
_FORMS: Final[tuple[Mapping[str, str], ...]] = (
    {},
    {"chunk": "150", "interval": "0.001"},
    {"framing": "chunked", "chunk": "100"},
    {"framing": "close"},
    {"encoding": "gzip"},
    {"informational": "103"},
    {"delay": "0.05"},
)


def _chat(chance: Random) -> Call:
    model = chance.choice(list(_CHAT_PATHS))
    usages = ["default", "default", "default", "none", "zero"]
    # what the fake says of cached and reasoning tokens differs by dialect; these two say all
    usage = chance.choice([*usages, "reasoning"] if model != "mistral-small-latest" else usages)
    return _chat_call(model, _prompt(chance), dict(chance.choice(_FORMS)), usage)


def _chat_call(model: str, prompt: str, knobs: dict[str, str], usage: str) -> Call:
    body = {"model": model, "messages": _messages(prompt)}
    if usage != "default":
        knobs["usage"] = usage
    return Call(_CHAT_PATHS[model], _json(body), _expect(model, prompt, usage=usage), knobs=knobs)


def _big(chance: Random) -> Call:
    prompt = _prompt(chance)
    body = {"model": "gpt-4o", "messages": _messages(prompt)}
    expected = _expect("gpt-4o", prompt, big=_BIG)
    return Call(_CHAT_PATHS["gpt-4o"], _json(body), expected, knobs={"big": str(_BIG)})


def _chat_stream(chance: Random) -> Call:
    model, prompt = chance.choice(list(_CHAT_PATHS)), _prompt(chance)
    body: dict[str, Any] = {"model": model, "messages": _messages(prompt), "stream": True}
    if chance.random() < 0.5 and model != "mistral-small-latest":  # noqa: PLR2004 - half of them
        body["stream_options"] = {"include_usage": True}
    knobs = {"events": "8"} if chance.random() < 0.5 else {}  # noqa: PLR2004
    if chance.random() < 0.3:  # noqa: PLR2004
        knobs["interval"] = "0.03"
    expected = replace(_expect(model, prompt), streamed=True)
    return Call(_CHAT_PATHS[model], _json(body), expected, knobs=knobs, last_word=_DONE)


def _responses(chance: Random) -> Call:
    prompt, streamed = _prompt(chance), chance.random() < 0.5  # noqa: PLR2004
    body: dict[str, Any] = {"model": "gpt-4o", "input": prompt}
    expected = _expect("gpt-4o", prompt)
    if not streamed:
        return Call(f"{_OPENAI}/responses", _json(body), expected)
    word = b'data: {"type":"response.completed"'
    expected, body["stream"] = replace(expected, streamed=True), True
    return Call(f"{_OPENAI}/responses", _json(body), expected, last_word=word)


def _anthropic(chance: Random) -> Call:
    prompt, streamed = _prompt(chance), chance.random() < 0.5  # noqa: PLR2004
    usage = chance.choice(["default", "cached", "none"])
    return _anthropic_call(prompt, usage, streamed=streamed)


def _anthropic_call(prompt: str, usage: str, *, streamed: bool) -> Call:
    model = "claude-sonnet-4-5"
    body: dict[str, Any] = {"model": model, "max_tokens": 9, "messages": _messages(prompt)}
    if streamed:
        body["stream"] = True
    knobs = {} if usage == "default" else {"usage": usage}
    expected = replace(_expect(model, prompt, usage=usage), streamed=streamed)
    word = b'data: {"type":"message_stop"}' if streamed else None
    return Call("/api/proxy/v1/messages", _json(body), expected, knobs=knobs, last_word=word)


def _gemini(chance: Random) -> Call:
    prompt, streamed = _prompt(chance), chance.random() < 0.5  # noqa: PLR2004
    body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    verb = "streamGenerateContent?alt=sse" if streamed else "generateContent"
    path = f"/api/proxy/gemini/v1beta/models/gemini-2.5-flash:{verb}"
    return Call(path, _json(body), replace(_expect("gemini-2.5-flash", prompt), streamed=streamed))


def _embedding(chance: Random) -> Call:
    prompt = _prompt(chance)
    body = {"model": "text-embedding-3-small", "input": prompt, "dimensions": 64}
    count, price = _count(prompt), PRICES["text-embedding-3-small"][1].input
    expected = Expected("openai", tokens=Tokens(count, 0, count), cost=count * price / _MILLION)
    return Call(f"{_OPENAI}/embeddings", _json(body), expected)


def _models(chance: Random) -> Call:
    expected = Expected("mistral", tokens=NOTHING, cost=Decimal(0))
    return Call("/api/proxy/mistral/v1/models", None, expected, method="GET")


def _stored(chance: Random) -> Call:
    """What others ask for, too: word for word, in everybody's name."""
    prompt = f"What is kept, number {chance.randrange(_POOL)}?"
    streamed = chance.random() < 0.5  # noqa: PLR2004
    wish = "refresh" if chance.random() < 0.1 else "true"  # noqa: PLR2004
    if chance.random() < 0.4:  # noqa: PLR2004
        call = _anthropic_call(prompt, "default", streamed=streamed)
    else:
        call = _chat_call("gpt-4o", prompt, {}, "default")
        if streamed:
            body = {"model": "gpt-4o", "messages": _messages(prompt), "stream": True}
            expected = replace(call.expected, streamed=True)
            call = replace(call, body=_json(body), last_word=_DONE, expected=expected)
    return replace(call, headers={"x-metrion-cache": wish})


def _refused(chance: Random) -> Call:
    """What Metrion refuses by itself."""
    kind = chance.randrange(4)
    if kind == 0:
        expected = Expected("openai", refusal="invalid_request")
        return Call(_CHAT_PATHS["gpt-4o"], b'{"model": "gpt-4o"}', expected)
    if kind == 1:
        expected = Expected("openai", refusal="unknown_route")
        return Call(f"{_OPENAI}/files", b"{}", expected)
    if kind == 2:  # noqa: PLR2004
        expected = Expected("openai", refusal="method_not_allowed")
        return Call(_CHAT_PATHS["gpt-4o"], None, expected, method="GET")
    call = _chat_call("gpt-4o", _prompt(chance), {}, "default")
    expected = Expected("openai", refusal="invalid_token")
    return replace(call, expected=expected, with_token=False)


_KINDS: Final[tuple[Callable[[Random], Call], ...]] = (
    _chat,
    _big,
    _chat_stream,
    _responses,
    _anthropic,
    _gemini,
    _embedding,
    _models,
    _stored,
    _refused,
)
_WEIGHTS: Final = (20, 1, 20, 8, 12, 10, 8, 3, 14, 4)
