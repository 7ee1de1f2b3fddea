"""The view "Metrion" of a message, in mitmweb, the console and mitmdump.

What is known of the flow, then the message: a stream put together again, JSON indented. Chosen by
itself for streams, which are unreadable without it, and by hand for all else.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import json
from typing import override

from mitmproxy import contentviews, http

from addons.inspection import MARK, facts_in
from addons.transcript import transcript

_STREAM = "text/event-stream"
# JSON's own view has 1, the one for anything unknown 0.
_FOR_STREAMS = 2.0
_FOR_OTHERS = 0.05


class MetrionContentview(contentviews.Contentview):
    """Readable for people; it changes nothing and needs no knowledge of the format."""

    @override
    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        """A message of a flow as text."""
        said = transcript(data) if metadata.content_type == _STREAM else _indented(data)
        flow = metadata.flow
        if not isinstance(flow, http.HTTPFlow) or metadata.http_message is flow.request:
            return said
        facts = [f"{name.replace('_', ' '):<20} {value}" for name, value in facts_in(flow).items()]
        return "\n".join([*facts, "", said]) if facts else said

    @override
    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        """How well this view fits."""
        flow = metadata.flow
        if flow is None or MARK not in flow.metadata:
            return -1
        return _FOR_STREAMS if metadata.content_type == _STREAM else _FOR_OTHERS


def _indented(data: bytes) -> str:
    try:
        return json.dumps(json.loads(data), indent=4, ensure_ascii=False)
    except (ValueError, RecursionError):  # also what is no UTF-8
        return data.decode(errors="replace")
