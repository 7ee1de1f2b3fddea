import pytest
from mitmproxy.addons.view import View
from mitmproxy.test import taddons, tflow

from addons.bounded_view import BoundedView


@pytest.fixture
def view():
    made = View()
    with taddons.context(made):
        yield made


@pytest.fixture
def ended(view):
    """Add a flow as mitmproxy does, then say that it has ended."""

    def ended(bounded: BoundedView, *, size: int = 1000, live: bool = False):
        flow = tflow.tflow(resp=True)
        flow.live = live
        flow.request.raw_content, flow.response.raw_content = b"", bytes(size)
        view.requestheaders(flow)
        bounded.add(flow, view)
        return flow

    return ended


def test_the_oldest_make_room(view, ended):
    bounded = BoundedView(max_flows=3)
    flows = [ended(bounded) for _ in range(5)]
    assert list(view) == flows[2:]


def test_bodies_are_counted(view, ended):
    bounded = BoundedView(max_bytes=2500)
    flows = [ended(bounded) for _ in range(4)]
    assert list(view) == flows[2:]
    huge = ended(bounded, size=2400)
    assert list(view) == [huge]


def test_what_goes_on_or_is_held_stays(view, ended):
    bounded = BoundedView(max_flows=2)
    going_on = ended(bounded, live=True)
    held = ended(bounded)
    held.intercepted = True
    last = [ended(bounded) for _ in range(3)][-1]
    assert going_on in view
    assert held in view
    going_on.live = held.intercepted = False
    new = [ended(bounded), ended(bounded)]
    assert list(view) == new
    assert last not in view


def test_somebody_else_may_clear_the_list(view, ended):
    bounded = BoundedView(max_flows=2)
    for _ in range(2):
        ended(bounded)
    view.clear()
    flows = [ended(bounded) for _ in range(3)]
    assert list(view) == flows[1:]


def test_a_long_session_stays_within_its_bounds(view, ended):
    bounded = BoundedView(max_flows=50)
    for _ in range(500):
        ended(bounded)
    assert len(view) == len(bounded._sizes) == 50
    assert bounded._bytes == 50 * 1000
    assert len(view.settings) <= 50
