"""Anthropic's messages, token counting, models and errors."""

from typing import Any

from scripts.fake_provider.answers import Answer, json_answer, named_event, stream_answer, to_json
from scripts.fake_provider.shapes import object_of, objects_of
from scripts.fake_provider.speech import (
    Call,
    ToolCall,
    Usage,
    count_tokens,
    last_text,
    plain_text,
    sample_of,
)

_MODELS = (
    ("claude-opus-4-1-20250805", "Claude Opus 4.1"),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5"),
)
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, message: str, request_id: str | None = None) -> dict[str, Any]:
    """Return an error body in Anthropic's shape."""
    kind = _ERRORS.get(status, "api_error")
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return body | ({"request_id": request_id} if request_id else {})


def messages(call: Call) -> Answer:
    """Answer `POST /v1/messages`."""
    prompt = _prompt(call.body)
    tool = _forced_tool(call.body)
    text = "" if tool else call.speak(last_text(call.body.get("messages")))
    spent = call.usage(prompt, to_json(tool.arguments).decode() if tool else text)
    block = _tool_block(call, tool) if tool else {"type": "text", "text": text}
    message: dict[str, Any] = {
        "model": call.model,
        "id": call.identifier("msg_"),
        "type": "message",
        "role": "assistant",
        "content": [block],
        "stop_reason": "tool_use" if tool else "end_turn",
        "stop_sequence": None,
    }
    if call.streamed:
        return stream_answer(_events(call, message, text, tool, spent))
    return json_answer(message | ({"usage": _usage(spent)} if spent else {}))


def count_message_tokens(call: Call) -> Answer:
    """Answer `POST /v1/messages/count_tokens`."""
    return json_answer({"input_tokens": count_tokens(_prompt(call.body))})


def models(call: Call) -> Answer:
    """Answer `GET /v1/models`."""
    data = [
        {
            "type": "model",
            "id": name,
            "display_name": title,
            "created_at": f"{name[-8:-4]}-{name[-4:-2]}-{name[-2:]}T00:00:00Z",
            "lifecycle": "active",
        }
        for name, title in _MODELS
    ]
    page = {"has_more": False, "first_id": _MODELS[0][0], "last_id": _MODELS[-1][0]}
    return json_answer({"data": data} | page)


def _prompt(body: dict[str, Any]) -> str:
    return plain_text(body.get("system")) + plain_text(body.get("messages"))


def _usage(spent: Usage) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "input_tokens": spent.fresh,
        "cache_creation_input_tokens": spent.cache_write,
        "cache_read_input_tokens": spent.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": spent.cache_write,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": spent.output,
        "service_tier": "standard",
    }
    if spent.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": spent.reasoning}
    return usage


def _forced_tool(body: dict[str, Any]) -> ToolCall | None:
    choice = object_of(body.get("tool_choice"))
    if choice.get("type") not in ("any", "tool"):
        return None
    for tool in objects_of(body.get("tools")):
        if "input_schema" in tool and choice.get("name") in (None, tool["name"]):
            return ToolCall(tool["name"], sample_of(tool["input_schema"]))
    return None


def _tool_block(call: Call, tool: ToolCall) -> dict[str, Any]:
    identifier = call.identifier("toolu_")
    return {"type": "tool_use", "id": identifier, "name": tool.name, "input": tool.arguments}


def _events(
    call: Call,
    message: dict[str, Any],
    text: str,
    tool: ToolCall | None,
    spent: Usage | None,
) -> list[bytes]:
    block = message["content"][0]
    start: dict[str, Any] = message | {"content": [], "stop_reason": None}
    finish: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
    }
    if spent:
        usage = _usage(spent)
        start["usage"] = usage | {"output_tokens": min(1, spent.output)}
        final = {
            key: count for key, count in usage.items() if key.endswith(("_tokens", "_details"))
        }
        finish["usage"] = final
    opened = block | ({"input": {}} if tool else {"text": ""})
    delta: dict[str, Any] = {"type": "content_block_delta", "index": 0}
    events = [
        named_event({"type": "message_start", "message": start}),
        named_event({"type": "content_block_start", "index": 0, "content_block": opened}),
        named_event({"type": "ping"}),
    ]
    if tool:
        arguments = to_json(tool.arguments).decode()
        parts = ("", arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :])
        events += [
            named_event(delta | {"delta": {"type": "input_json_delta", "partial_json": part}})
            for part in parts
        ]
    else:
        # Only the text changes: render the frame once, a benchmark streams thousands of these.
        frame = named_event(delta | {"delta": {"type": "text_delta", "text": "\0"}})
        before, after = frame.split(b'"\\u0000"')
        events += [before + to_json(piece) + after for piece in call.pieces(text)]
    events += [
        named_event({"type": "content_block_stop", "index": 0}),
        named_event(finish),
        named_event({"type": "message_stop"}),
    ]
    return events
