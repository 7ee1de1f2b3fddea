"""The seam between a client's connection and who took it in (see `addons.direct.server`)."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from addons.direct.provider import ProviderPool
from addons.policy import Policy

if TYPE_CHECKING:
    from addons.direct.client import ClientConnection


class Door(Protocol):
    """Where clients come in."""

    policy: Policy
    pool: ProviderPool

    def came(self, client: "ClientConnection") -> bool:
        """One more client; False if there are too many."""
        ...

    def left(self, client: "ClientConnection") -> None:
        """A client and its last exchange are gone."""
        ...

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """A client that speaks TLS, with what it has sent."""
        ...
