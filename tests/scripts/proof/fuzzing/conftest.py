"""Who calls, and a tally to fail."""

from collections.abc import Iterator

import pytest

from scripts.fake_provider import FakeProvider
from scripts.proof.fuzzing.callers import Callers, new_account
from scripts.proof.fuzzing.tally import Tally
from storage.tokens import new_token


@pytest.fixture
def callers() -> Callers:
    """One that may call, one whose month is used up."""
    used_up = new_account()
    return Callers((new_account(),), (used_up.token, new_token()), tuple(used_up.keys.values())[:1])


@pytest.fixture
def tally() -> Tally:
    return Tally("made up", 1, 10)


@pytest.fixture
def provider_of_fuzz() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake
