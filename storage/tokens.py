"""The Metrion Key, `sk-metrion-` + 32 lower-case hexadecimal characters: its form only.

How it is kept (a keyed digest and a sealed copy, never in clear) is `storage.sealing`'s business.
"""

import re
import secrets

TOKEN_PREFIX = "sk-metrion-"  # noqa: S105 - the public prefix, not a token
TOKEN_PATTERN = re.compile(TOKEN_PREFIX + "[0-9a-f]{32}")
"""Unanchored, so that it also finds a token inside other text (masks, leak searches)."""


def new_token() -> str:
    """Return a fresh token: 128 random bits from the operating system."""
    return TOKEN_PREFIX + secrets.token_hex(16)


def is_token(text: str) -> bool:
    """Say whether `text` has the form of a token; nothing is looked up."""
    return TOKEN_PATTERN.fullmatch(text) is not None


def mask(token: str) -> str:
    """Return what may be shown of a token: its prefix and its last four characters."""
    return f"{TOKEN_PREFIX}…{token[-4:]}" if is_token(token) else "…"
