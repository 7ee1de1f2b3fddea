import pytest
from mitmproxy import contentviews, http
from mitmproxy.test import tflow

from addons.content_view import MetrionContentview

STREAM = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\ndata: {"choices": [{"delta": {"content": "lo"}}]}\n\n'
FACTS = {"metrion": "x", "metrion.account_id": "01a2", "metrion.cost_usd": "0.1", "other": "no"}


@pytest.fixture
def registry():
    made = contentviews.ContentviewRegistry()
    for view in (contentviews.raw, contentviews.json_view, MetrionContentview):
        made.register(view)
    return made


def flow_with(content: bytes, content_type: str, facts=FACTS) -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.response.headers["content-type"] = content_type
    flow.response.raw_content = content
    flow.metadata.update(facts)
    return flow


def pretty(registry, flow, message=None, name="auto"):
    metadata = contentviews.Metadata(flow=flow)
    metadata.http_message = message or flow.response
    metadata.content_type = metadata.http_message.headers.get("content-type", "").split(";")[0]
    view = registry.get_view(metadata.http_message.content, metadata, name)
    return view.name, view.prettify(metadata.http_message.content, metadata)


def test_streams_are_shown_by_it_unasked(registry):
    flow = flow_with(STREAM, "text/event-stream; charset=utf-8")
    name, text = pretty(registry, flow)
    assert name == "Metrion"
    assert text.startswith(
        "account id           01a2\ncost usd             0.1\n\n--- answer 0\nHello"
    )
    assert "other" not in text


def test_json_is_left_to_its_own_view_and_shown_when_asked(registry):
    flow = flow_with(b'{"a": 1}', "application/json")
    assert pretty(registry, flow)[0] == "JSON"
    name, text = pretty(registry, flow, name="metrion")
    assert name == "Metrion"
    assert text.endswith('\n\n{\n    "a": 1\n}')


def test_what_is_no_json_is_shown_as_text(registry):
    flow = flow_with(b'{"a": \xff', "application/json")
    assert pretty(registry, flow, name="metrion")[1].endswith('{"a": \N{REPLACEMENT CHARACTER}')


def test_a_request_is_shown_without_what_came_of_it(registry):
    flow = flow_with(b"", "")
    flow.request.raw_content = b"{}"
    assert pretty(registry, flow, flow.request, "metrion")[1] == "{}"


def test_other_flows_are_not_its_business(registry):
    assert pretty(registry, flow_with(STREAM, "text/event-stream", {}))[0] == "Raw"
