"""What arrived at the fake providers, told apart by whose key it came with."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from scripts.fake_provider import FakeProvider, RecordedRequest

_KEY_HEADERS: Final = ("authorization", "x-api-key", "x-goog-api-key")


class Arrivals:
    """Counts the requests of providers; to be asked often, because a provider forgets.

    Args:
        numbered: the provider whose numbers are noted: it has been there all the time.
        others: further ones.
        owners: key → whose it is.

    Attributes:
        counts: whose requests arrived, how often.
        asked: the number that the provider gave a request → whose it was.
        strangers: requests with a key of nobody, or with something of the gateway's own.
    """

    def __init__(
        self, numbered: FakeProvider, others: list[FakeProvider], owners: Mapping[str, str]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.asked: dict[int, str] = {}
        self.strangers: list[str] = []
        self._numbered = numbered
        self._others = others
        self._owners = owners
        self._number = 0

    def take(self) -> None:
        """Take what has arrived since the last time."""
        for request in self._numbered.take_requests():
            self._number += 1
            self.asked[self._number] = self._owner(request)
        for provider in self._others:
            for request in provider.take_requests():
                self._owner(request)

    def _owner(self, request: RecordedRequest) -> str:
        keys = [value for name in _KEY_HEADERS for value in request.values(name)]
        owner = self._owners.get(keys[0].removeprefix("Bearer ")) if len(keys) == 1 else None
        if owner is None or request.leaks:
            self.strangers.append(f"{request.path} with {len(keys)} keys, {request.leaks}")
            return "nobody"
        self.counts[owner] += 1
        return owner
