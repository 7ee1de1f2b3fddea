"""Who calls in a fuzz run: accounts that may, accounts that may not, and strangers."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from addons.providers import load_providers
from storage.tokens import new_token

PROVIDERS = {provider.name: provider for provider in load_providers()}
OWN_KEY = "sk-OWN-0123456789abcdef0123"


@dataclass(frozen=True)
class Account:
    """An account: its token, and its key for each provider."""

    token: str = field(repr=False)
    keys: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Callers:
    """All that the inputs know of.

    Attributes:
        admitted: may call.
        refused: tokens that may not: their month is used up, they have no keys, were revoked.
        forbidden_keys: keys of accounts that may not call; no provider may ever see one.
    """

    admitted: tuple[Account, ...]
    refused: tuple[str, ...] = field(repr=False)
    forbidden_keys: tuple[str, ...] = field(repr=False, default=())

    @property
    def secrets(self) -> list[bytes]:
        """What no client may ever read in an answer: tokens and stored keys."""
        keys = [key for account in self.admitted for key in account.keys.values()]
        tokens = [account.token for account in self.admitted]
        return [text.encode() for text in (*keys, *tokens, *self.refused, *self.forbidden_keys)]

    def token(self, random: Random) -> bytes:
        """Mostly one that is good."""
        if self.refused and random.random() < 0.15:  # noqa: PLR2004 - a few
            return random.choice(self.refused).encode()
        return random.choice(self.admitted).token.encode()


def new_keys() -> dict[str, str]:
    """A key for each provider, each of its provider's form and unlike all others."""
    forms = {"anthropic": "sk-ant-CANARY", "grok": "xai-CANARY", "gemini": "AIzaCANARY"}
    return {
        name: f"{forms.get(name, 'sk-CANARY')}{secrets.token_hex(16)}{name}" for name in PROVIDERS
    }


def new_account() -> Account:
    """An account that nobody has had."""
    return Account(new_token(), new_keys())
