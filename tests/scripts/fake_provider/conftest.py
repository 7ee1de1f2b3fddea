"""One running fake for each test module, empty at the start of each test."""

from collections.abc import Iterator

import httpx
import pytest

from scripts.fake_provider import FakeProvider

KEY = "sk-real-0123456789"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def provider(running: FakeProvider) -> FakeProvider:
    running.clear()
    return running


@pytest.fixture
def http(running: FakeProvider) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=running.origin, headers=headers, timeout=10) as client:
        yield client
