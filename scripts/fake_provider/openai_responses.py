"""OpenAI's `POST /v1/responses`: one response object, or its life as named events."""

from typing import Any

from scripts.fake_provider.answers import Answer, json_answer, named_event, stream_answer, to_json
from scripts.fake_provider.openai_chat import dialect_of
from scripts.fake_provider.shapes import object_of, objects_of
from scripts.fake_provider.speech import Call, ToolCall, Usage, last_text, plain_text, sample_of

_CREATED = 1_760_000_000


def responses(call: Call) -> Answer:
    """Answer a request to create a response."""
    given = call.body.get("input")
    prompt = plain_text(call.body.get("instructions")) + plain_text(given)
    tool = _forced_tool(call.body)
    text = "" if tool else call.speak(last_text(given))
    spent = call.usage(prompt, to_json(tool.arguments).decode() if tool else text)
    item = _function_call(call, tool) if tool else _message(call, text)
    done = _response(call, "completed", [item]) | {"usage": spent and _usage(spent)}
    if not call.streamed:
        return json_answer(done)
    return stream_answer(_events(call, item, text, done))


def _usage(spent: Usage) -> dict[str, Any]:
    return {
        "input_tokens": spent.input,
        "input_tokens_details": {
            "cached_tokens": spent.cache_read,
            "cache_write_tokens": spent.cache_write,
        },
        "output_tokens": spent.output,
        "output_tokens_details": {"reasoning_tokens": spent.reasoning},
        "total_tokens": spent.input + spent.output,
    }


def _response(call: Call, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    body = call.body
    response: dict[str, Any] = {
        "id": call.identifier("resp_", 48),
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": call.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }
    if dialect_of(call.model) == "openai":
        response["service_tier"] = "default"
    return response


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _message(call: Call, text: str) -> dict[str, Any]:
    return {
        "id": call.identifier("msg_", 48),
        "type": "message",
        "status": "completed",
        "content": [_text_part(text)],
        "role": "assistant",
    }


def _function_call(call: Call, tool: ToolCall) -> dict[str, Any]:
    return {
        "id": call.identifier("fc_", 48),
        "type": "function_call",
        "status": "completed",
        "arguments": to_json(tool.arguments).decode(),
        "call_id": call.identifier("call_"),
        "name": tool.name,
    }


def _forced_tool(body: dict[str, Any]) -> ToolCall | None:
    choice = body.get("tool_choice")
    if choice in (None, "auto", "none"):
        return None
    wanted = object_of(choice).get("name")
    for tool in objects_of(body.get("tools")):
        if tool.get("type") == "function" and wanted in (None, tool["name"]):
            return ToolCall(tool["name"], sample_of(tool.get("parameters")))
    return None


def _events(call: Call, item: dict[str, Any], text: str, done: dict[str, Any]) -> list[bytes]:
    started = _response(call, "in_progress", [])
    at = {"output_index": 0, "item_id": item["id"]}
    content = at | {"content_index": 0}
    empty: dict[str, Any] = {"content": []} if item["type"] == "message" else {"arguments": ""}
    opened = item | empty | {"status": "in_progress"}
    steps: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
    ]
    if item["type"] == "message":
        delta: dict[str, Any] = {"type": "response.output_text.delta", "logprobs": []}
        steps.append({"type": "response.content_part.added", "part": _text_part("")} | content)
        steps += [delta | content | {"delta": piece} for piece in call.pieces(text)]
        steps += [
            {"type": "response.output_text.done", "text": text, "logprobs": []} | content,
            {"type": "response.content_part.done", "part": _text_part(text)} | content,
        ]
    else:
        name, arguments = "response.function_call_arguments", item["arguments"]
        steps += [
            {"type": f"{name}.delta", "delta": arguments} | at,
            {"type": f"{name}.done", "arguments": arguments, "name": item["name"]} | at,
        ]
    steps += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return [named_event(step | {"sequence_number": n}) for n, step in enumerate(steps)]
