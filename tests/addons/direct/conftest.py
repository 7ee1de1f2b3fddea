"""These are about sockets of our own: the other way has its tests in tests/addons."""

import pytest


@pytest.fixture
def way() -> str:
    """The way of the proxies of these tests."""
    return "direct"
