"""Keeps mitmweb's and the console's list of flows within bounds: the oldest make room.

mitmproxy keeps every flow until somebody clears the list, bodies included; a session that is left
open for a day would eat the machine. What is still going on, or held by somebody, stays.
"""

# mitmproxy is typed in part: what its hints leave open is unknown to pyright, not to us.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections import OrderedDict

from mitmproxy import http
from mitmproxy.addons.view import View

MAX_FLOWS = 2000
MAX_BYTES = 128 * 1024 * 1024  # of bodies


class BoundedView:
    """The finished flows of a view, oldest first.

    Args:
        max_flows: as many are kept.
        max_bytes: as much of their bodies.
    """

    def __init__(self, max_flows: int = MAX_FLOWS, max_bytes: int = MAX_BYTES) -> None:
        self._max_flows = max_flows
        self._max_bytes = max_bytes
        # Ids, not flows: one that somebody removes from the list is not held by us.
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0

    def add(self, flow: http.HTTPFlow, view: View) -> None:
        """A flow has ended; take out what is too much by now."""
        size = sum(
            len(message.raw_content or b"") for message in (flow.request, flow.response) if message
        )
        self._sizes[flow.id] = size
        self._bytes += size
        for _ in range(len(self._sizes)):
            if len(self._sizes) <= self._max_flows and self._bytes <= self._max_bytes:
                return
            self._drop_oldest(view)

    def _drop_oldest(self, view: View) -> None:
        identifier, size = self._sizes.popitem(last=False)
        oldest = view.get_by_id(identifier)
        if oldest is not None and (oldest.live or oldest.intercepted):
            self._sizes[identifier] = size  # its turn comes again
            return
        self._bytes -= size
        if oldest is not None:
            view.remove([oldest])
