"""Gemini's native generateContent family and Google's errors."""

import re
from typing import Any

from scripts.fake_provider.answers import JSON_TYPE, Answer, json_answer, to_json
from scripts.fake_provider.shapes import items_of, object_of, objects_of
from scripts.fake_provider.speech import (
    Call,
    ToolCall,
    Usage,
    count_tokens,
    last_text,
    plain_text,
    sample_of,
)

NATIVE_PATH = re.compile(
    r"/v1(?:beta)?/models/(?P<model>[\w.\-]+):(?P<verb>generateContent|streamGenerateContent"
    r"|countTokens|embedContent|batchEmbedContents)\Z"
)

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_DEFAULT_DIMENSIONS = 3072


def error(status: int, message: str) -> dict[str, Any]:
    """Return an error body in Google's shape."""
    name = _STATUSES.get(status, "UNKNOWN")
    return {"error": {"code": status, "message": message, "status": name}}


def answer(call: Call, model: str, verb: str) -> Answer:
    """Answer one of the native methods (`models/{model}:{verb}`)."""
    match verb:
        case "generateContent":
            return _generate(call, model)
        case "streamGenerateContent":
            return _stream(call, model)
        case "countTokens":
            return _count(call)
        case "embedContent":
            return json_answer({"embedding": _embedding(call.body)})
        case _:
            requests = objects_of(call.body.get("requests"))
            return json_answer({"embeddings": [_embedding(each) for each in requests]})


def models(call: Call) -> Answer:
    """Answer `GET /v1beta/models`."""
    methods = {
        "gemini-2.5-flash": ["generateContent", "countTokens"],
        "gemini-embedding-001": ["embedContent", "countTextTokens"],
    }
    found = [
        {"name": f"models/{name}", "version": "001", "supportedGenerationMethods": supported}
        for name, supported in methods.items()
    ]
    return json_answer({"models": found})


def _generate(call: Call, model: str) -> Answer:
    part, _, spent = _speech(call, model)
    whole = _response(call, model, part, finish="STOP")
    if spent:
        whole["usageMetadata"] = _usage(spent)
    return json_answer(whole)


def _stream(call: Call, model: str) -> Answer:
    part, text, spent = _speech(call, model)
    parts = [{"text": piece} for piece in call.pieces(text)] if "text" in part else [part]
    chunks: list[bytes] = []
    for number, each in enumerate(parts, 1):
        last = number == len(parts)
        chunk = _response(call, model, each, finish="STOP" if last else None)
        if spent:
            chunk["usageMetadata"] = _usage(spent) if last else _usage_so_far(spent)
        chunks.append(to_json(chunk))
    if call.query.get("alt") == "sse":
        events = tuple(b"data: " + chunk + b"\r\n\r\n" for chunk in chunks)
        return Answer(200, b"text/event-stream", b"", events)
    # Without alt=sse Google streams one JSON array, an element at a time.
    array = [(b"[" if n == 0 else b",\r\n") + chunk for n, chunk in enumerate(chunks)]
    return Answer(200, JSON_TYPE, b"", (*array, b"]\r\n"))


def _count(call: Call) -> Answer:
    request = object_of(call.body.get("generateContentRequest")) or call.body
    count = count_tokens(_prompt(request))
    details = [{"modality": "TEXT", "tokenCount": count}]
    return json_answer({"totalTokens": count, "promptTokensDetails": details})


def _embedding(request: dict[str, Any]) -> dict[str, Any]:
    size = int(request.get("outputDimensionality") or _DEFAULT_DIMENSIONS)
    seed = len(plain_text(request.get("content")))
    return {"values": [((seed + index) % 97 - 48) / 1024 for index in range(size)]}


def _prompt(body: dict[str, Any]) -> str:
    return plain_text(body.get("systemInstruction")) + plain_text(body.get("contents"))


def _speech(call: Call, model: str) -> tuple[dict[str, Any], str, Usage | None]:
    tool = _forced_tool(call.body)
    if tool:
        spent = call.usage(_prompt(call.body), to_json(tool.arguments).decode())
        return {"functionCall": {"name": tool.name, "args": tool.arguments}}, "", spent
    text = call.speak(last_text(call.body.get("contents")), call.knobs.model or model)
    return {"text": text}, text, call.usage(_prompt(call.body), text)


def _forced_tool(body: dict[str, Any]) -> ToolCall | None:
    settings = object_of(object_of(body.get("toolConfig")).get("functionCallingConfig"))
    if settings.get("mode") != "ANY":
        return None
    allowed = items_of(settings.get("allowedFunctionNames"))
    for tool in objects_of(body.get("tools")):
        for function in objects_of(tool.get("functionDeclarations")):
            if not allowed or function["name"] in allowed:
                return ToolCall(function["name"], sample_of(_schema(function)))
    return None


def _schema(function: dict[str, Any]) -> object:
    # Google reads both spellings of a name; its own SDK sends the second.
    names = ("parametersJsonSchema", "parameters_json_schema", "parameters")
    return next((function[name] for name in names if name in function), None)


def _response(call: Call, model: str, part: dict[str, Any], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "modelVersion": call.knobs.model or model,
        "responseId": call.identifier("", 22),
    }


def _usage_so_far(spent: Usage) -> dict[str, Any]:
    """Return what every chunk but the last one reports: the prompt, and a first guess."""
    return {
        "promptTokenCount": spent.input,
        "totalTokenCount": spent.input,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": spent.input}],
    }


def _usage(spent: Usage) -> dict[str, Any]:
    usage = _usage_so_far(spent) | {
        "candidatesTokenCount": spent.text,
        "totalTokenCount": spent.input + spent.output,
    }
    if spent.cache_read:
        usage["cachedContentTokenCount"] = spent.cache_read
    if spent.reasoning:
        usage["thoughtsTokenCount"] = spent.reasoning  # beside candidates, not among them
    return usage
