"""OpenAI-style chat, embeddings, models and errors, with the dialects of those who imitate it.

Mistral, xAI and Gemini's compatible endpoint share these paths; which one is played is told by the
model's name, or by the path. Where they differ, the difference is one that a gateway must know:
- Mistral refuses `stream_options` (422) and always reports usage in the last chunk.
- xAI and Gemini count reasoning outside `completion_tokens`, but inside `total_tokens`.
"""

import base64
import re
import struct
import zlib
from typing import Any, Literal

from scripts.fake_provider.answers import (
    Answer,
    data_event,
    json_answer,
    stream_answer,
    to_json,
)
from scripts.fake_provider.shapes import items_of, object_of, objects_of
from scripts.fake_provider.speech import (
    Call,
    ToolCall,
    Usage,
    last_text,
    plain_text,
    sample_of,
)

Dialect = Literal["openai", "mistral", "grok", "gemini"]

_CREATED = 1_760_000_000  # a fixed day: answers are the same every time
_MISTRAL_MODEL = re.compile(r"(?:open-)?(?:mi(?:nis|s|x)tral|codestral|devstral|pixtral|magistral)")
_DEFAULT_DIMENSIONS = 1536
_MODELS: dict[Dialect, tuple[str, ...]] = {
    "openai": ("gpt-4o", "gpt-4o-mini", "o4-mini", "text-embedding-3-small"),
    "mistral": ("mistral-small-latest", "mistral-embed"),
    "grok": ("grok-4", "grok-3-mini"),
    "gemini": ("models/gemini-2.5-flash", "models/gemini-embedding-001"),
}
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def dialect_of(model: str) -> Dialect:
    """Return who speaks on the shared `/v1/…` paths, by the model's name."""
    if model.startswith("grok"):
        return "grok"
    return "mistral" if _MISTRAL_MODEL.match(model) else "openai"


def error(status: int, message: str) -> dict[str, Any]:
    """Return an error body in OpenAI's shape."""
    kind, code = _ERRORS.get(status, ("server_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat(call: Call, dialect: Dialect | None = None) -> Answer:
    """Answer `POST /v1/chat/completions`."""
    speaker = dialect or dialect_of(call.model)
    if speaker == "mistral" and "stream_options" in call.body:
        return _extra_forbidden("stream_options")
    messages = call.body.get("messages")
    prompt = plain_text(messages)
    tool = _forced_tool(call.body)
    text = "" if tool else call.speak(last_text(messages))
    spent = call.usage(prompt, to_json(tool.arguments).decode() if tool else text)
    reported = spent and usage_object(spent, speaker)
    if call.streamed:
        return stream_answer(_chunks(call, speaker, text, tool, reported))
    message: dict[str, Any] = {"role": "assistant", "content": None if tool else text}
    if speaker == "openai":
        message |= {"refusal": None, "annotations": []}
    if tool:
        message["tool_calls"] = [_tool_call(call, tool)]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if tool else "stop",
    }
    completion = _envelope(call, speaker, "chat.completion") | {"choices": [choice]}
    if reported:
        completion["usage"] = reported
    return json_answer(completion)


def embeddings(call: Call, dialect: Dialect | None = None) -> Answer:
    """Answer `POST /v1/embeddings`."""
    given = call.body.get("input")
    texts = items_of(given) or [given]
    if all(isinstance(each, int) for each in texts):
        texts = [texts]  # one text, given as tokens
    size = int(call.body.get("dimensions") or _DEFAULT_DIMENSIONS)
    encoded = call.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size, encoded=encoded)}
        for index, text in enumerate(texts)
    ]
    answer: dict[str, Any] = {"object": "list", "data": data, "model": call.model}
    if (dialect or dialect_of(call.model)) == "mistral":
        answer["id"] = call.identifier("", 32)
    spent = call.usage("".join(str(text) for text in texts), "")
    if spent:
        answer["usage"] = {"prompt_tokens": spent.input, "total_tokens": spent.input}
    return json_answer(answer)


def models(call: Call, dialect: Dialect | None = None) -> Answer:
    """Answer `GET /v1/models`; without a dialect with all that share the path."""
    speakers: tuple[Dialect, ...] = (dialect,) if dialect else ("openai", "mistral", "grok")
    data: list[dict[str, Any]] = []
    for speaker in speakers:
        for name in _MODELS[speaker]:
            card = {"id": name, "object": "model", "created": _CREATED, "owned_by": speaker}
            # Mistral's SDK insists on these two; nobody else minds them.
            data.append(card | {"type": "base", "capabilities": {"completion_chat": True}})
    return json_answer({"object": "list", "data": data})


def usage_object(spent: Usage, dialect: Dialect) -> dict[str, Any]:
    """Return the usage of a chat answer as that provider writes it."""
    apart = dialect in ("grok", "gemini")
    usage: dict[str, Any] = {
        "prompt_tokens": spent.input,
        "completion_tokens": spent.text if apart else spent.output,
        "total_tokens": spent.input + spent.output,
    }
    if dialect == "mistral":
        usage["prompt_tokens_details"] = {"cached_tokens": spent.cache_read}
    elif dialect == "grok":
        usage["prompt_tokens_details"] = {
            "text_tokens": spent.input,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": spent.cache_read,
        }
        usage["completion_tokens_details"] = {
            "reasoning_tokens": spent.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
        usage["num_sources_used"] = 0
    elif dialect == "openai":
        usage["prompt_tokens_details"] = {"cached_tokens": spent.cache_read, "audio_tokens": 0}
        if spent.cache_write:
            usage["prompt_tokens_details"]["cache_write_tokens"] = spent.cache_write
        usage["completion_tokens_details"] = {
            "reasoning_tokens": spent.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    return usage


def _envelope(call: Call, dialect: Dialect, kind: str) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "id": call.identifier("chatcmpl-"),
        "object": kind,
        "created": _CREATED,
        "model": call.model,
    }
    if dialect in ("openai", "grok"):
        envelope["system_fingerprint"] = "fp_fake000000"
    if dialect == "openai":
        envelope["service_tier"] = "default"
    return envelope


def _chunks(
    call: Call,
    dialect: Dialect,
    text: str,
    tool: ToolCall | None,
    usage: dict[str, Any] | None,
) -> list[bytes]:
    asked = object_of(call.body.get("stream_options")).get("include_usage") is True
    envelope = _envelope(call, dialect, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        extra = {"usage": None} if asked and dialect == "openai" else {}
        return envelope | {"choices": [choice]} | extra

    start: dict[str, Any] = {"role": "assistant", "content": None if tool else ""}
    events = [data_event(chunk(start))]
    if tool:
        events += [data_event(chunk({"tool_calls": [part]})) for part in _tool_parts(call, tool)]
    else:
        # Only the text changes: render the frame once, a benchmark streams thousands of these.
        before, after = data_event(chunk({"content": "\0"})).split(b'"\\u0000"')
        events += [before + to_json(piece) + after for piece in call.pieces(text)]
    last = chunk({}, "tool_calls" if tool else "stop")
    if usage and dialect == "mistral":
        last["usage"] = usage
    events.append(data_event(last))
    if usage and asked and dialect != "mistral":
        events.append(data_event(envelope | {"choices": [], "usage": usage}))
    events.append(b"data: [DONE]\n\n")
    return events


def _forced_tool(body: dict[str, Any]) -> ToolCall | None:
    choice = body.get("tool_choice")
    if choice in (None, "auto", "none"):
        return None
    functions = [object_of(tool.get("function")) for tool in objects_of(body.get("tools"))]
    wanted = object_of(object_of(choice).get("function")).get("name")
    for function in functions:
        if "name" in function and wanted in (None, function["name"]):
            return ToolCall(function["name"], sample_of(function.get("parameters")))
    return None


def _tool_call(call: Call, tool: ToolCall) -> dict[str, Any]:
    arguments = to_json(tool.arguments).decode()
    function = {"name": tool.name, "arguments": arguments}
    return {"id": call.identifier("call_"), "type": "function", "function": function}


def _tool_parts(call: Call, tool: ToolCall) -> list[dict[str, Any]]:
    """Return the deltas of a tool call: the name first, then its arguments in two halves."""
    whole = _tool_call(call, tool)
    arguments = whole["function"]["arguments"]
    half = len(arguments) // 2
    head = whole | {"index": 0, "function": {"name": tool.name, "arguments": ""}}
    tail = [arguments[:half], arguments[half:]]
    return [head, *({"index": 0, "function": {"arguments": part}} for part in tail)]


def _extra_forbidden(name: str) -> Answer:
    detail = {
        "type": "extra_forbidden",
        "loc": ["body", name],
        "msg": "Extra inputs are not permitted",
    }
    message = {"detail": [detail]}
    refusal = {"object": "error", "message": message, "type": "invalid_request_error"}
    return json_answer(refusal | {"param": None, "code": None}, 422)


def _vector(text: object, size: int, *, encoded: bool) -> list[float] | str:
    """Return numbers that depend on the text alone, as a list or as base64 of float32."""
    seed = zlib.crc32(str(text).encode())
    numbers = [((seed * (index + 1)) % 2003 - 1001) / 16384 for index in range(size)]
    if not encoded:
        return numbers
    return base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
