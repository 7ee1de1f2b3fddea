"""Credentials of a request: found, taken off, and kept out of what comes back.

The five places that SDKs use, whichever version sends which (SPEC section 3). What is found leaves
the exchange's headers and query at once, so that nothing that looks at them later sees it.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from addons.exchange import Exchange, Mode
from addons.outcome import Refused
from storage.tokens import TOKEN_PREFIX, is_token

TOKEN_HEADER = b"x-metrion-token"
_KEY_HEADERS = frozenset({b"x-api-key", b"x-goog-api-key", b"api-key"})
_TAKEN_OFF = _KEY_HEADERS | {TOKEN_HEADER, b"authorization", b"proxy-authorization", b"cookie"}
_QUERY_NAME = "key"
QUERY_PLACE = "?key="
_TOKEN_PREFIX = TOKEN_PREFIX.encode()
_BEARER = re.compile(rb"bearer(?: +|\Z)", re.IGNORECASE)
# What may stand in a header without changing its meaning (RFC 9110 section 5.6.2, plus base64's).
_OWN_KEY = re.compile(r"[!-~]{1,1024}\Z")
# The shortest key that can be stored (`storage.keys`). A shorter one of the caller's own could be
# a word of an ordinary answer.
_GUARDED_MIN_BYTES = 8
ERROR_MAX_CHARS = 500
# Forms of the providers' keys and of our tokens, wherever they stand in a text; in an error message
# also what may be the beginning of one, or one with asterisks in it.
_SECRET_FORM = re.compile(
    r"sk-metrion-[0-9a-f]{4,}|(?<![A-Za-z0-9])(?:sk|xai|gsk|pk|rk)[-_][A-Za-z0-9_*.-]{6,}"
    r"|AIza[A-Za-z0-9_*-]{10,}|(?<![A-Za-z0-9])AQ\.[A-Za-z0-9_*-]{10,}"
    r"|(?<=bearer )[!-~]{16,}|(?<=[?&]key=)[^&\s]+",
    re.IGNORECASE,
)
# The same in bytes of lower case, each form with a beginning that is quick to search for: a
# lookbehind comes after it, and no flag.
_SECRET_BYTES = tuple(
    re.compile(form)
    for form in (
        rb"sk-metrion-[0-9a-f]{4,}",
        *(
            name + rb"(?<![a-z0-9]" + name + rb")[-_][a-z0-9_*.-]{6,}"
            for name in (b"sk", b"xai", b"gsk", b"pk", b"rk")
        ),
        rb"aiza[a-z0-9_*-]{10,}",
        rb"aq\.(?<![a-z0-9]aq\.)[a-z0-9_*-]{10,}",
        rb"bearer ([!-~]{16,})",
        rb"key=(?<=[?&]key=)([^&\s]+)",
    )
)
# In a label only what cannot be anything else: `sk-berlin-team` may be one.
_WHOLE_SECRET = re.compile(
    r"sk-metrion-[0-9a-f]{4,}|(?<![A-Za-z0-9])(?:sk|xai)-[A-Za-z0-9_-]{20,}"
    r"|AIza[A-Za-z0-9_-]{20,}",
    re.IGNORECASE,
)
# What a row, a terminal or PostgreSQL cannot take: controls, and halves of characters.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(slots=True, repr=False)
class Found:
    """What was found: distinct credentials, where they stood, and the token named beside them.

    Attributes:
        places: names of headers, and `?key=`.
    """

    credentials: list[str]
    tokens: list[str]
    is_other_scheme: bool = False
    places: list[str] = field(default_factory=list[str])


def take_credentials(exchange: Exchange) -> Found:
    """Take every credential and cookie off the exchange's headers and query."""
    found = Found([], [])
    kept: list[tuple[bytes, bytes]] = []
    for name, value in exchange.headers:
        lower = name.lower()
        if lower not in _TAKEN_OFF:
            kept.append((name, value))
        elif lower == TOKEN_HEADER:
            _add(found.tokens, value)
        elif lower in _KEY_HEADERS:
            _add_credential(found, value, lower.decode())
        elif lower == b"authorization":
            if scheme := _BEARER.match(value):
                _add_credential(found, value[scheme.end() :], "authorization")
            else:
                found.is_other_scheme = found.is_other_scheme or bool(value.strip())
    if _TOKEN_PREFIX in b"\n".join([part for header in kept for part in header]).lower():
        # A token leaves Metrion in no header, whatever its name, nor as a name or in capitals.
        kept = [header for header in kept if _TOKEN_PREFIX not in b"\n".join(header).lower()]
    exchange.headers = kept
    _take_from_query(exchange, found)
    return found


def _add_credential(found: Found, value: bytes, place: str) -> None:
    if value.strip():
        found.places.append(place)
    _add(found.credentials, value)


def _add(values: list[str], value: bytes) -> None:
    text = value.strip().decode("latin-1")
    if text and text not in values:
        values.append(text)


def _take_from_query(exchange: Exchange, found: Found) -> None:
    if not exchange.query:
        return
    kept: list[str] = []
    for part in exchange.query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name).strip().lower() == _QUERY_NAME:
            _add_credential(found, unquote_plus(value).encode(), QUERY_PLACE)
        elif TOKEN_PREFIX not in unquote_plus(part).lower():
            kept.append(part)
    exchange.query = "&".join(kept)


def choose_mode(exchange: Exchange, found: Found, *, allow_anonymous: bool) -> None:
    """Decide the mode from the credential alone; set `mode`, `token`, `own_key`.

    Args:
        exchange: its credentials have been taken off.
        found: what was taken off.
        allow_anonymous: an own key without a token is forwarded, for no account.

    Raises:
        Refused: 400 for a conflict, 401 where something is missing or malformed.
    """
    if len(found.credentials) > 1 or len(found.tokens) > 1:
        raise Refused(
            400,
            "invalid_request",
            "The request carries several credentials that differ. Send exactly one.",
        )
    if not found.credentials:
        raise _unauthorized(_advice(found))
    credential = found.credentials[0]
    token = found.tokens[0] if found.tokens else None
    if credential.startswith(TOKEN_PREFIX):
        if token is not None and token != credential:
            raise Refused(
                400, "invalid_request", "The request carries two Metrion tokens that differ."
            )
        exchange.mode, exchange.token = Mode.STORED, _well_formed(credential)
        return
    if TOKEN_PREFIX in credential.lower():
        raise _malformed()  # in quotes, in capitals: no provider's key, and none may get it as one
    if token is None and not allow_anonymous:
        raise _unauthorized(
            "This is not a Metrion token. Use your Metrion token as the API key, or, to send your "
            "own provider key, add the header `x-metrion-token: sk-metrion-…`."
        )
    if not _OWN_KEY.match(credential):
        raise Refused(400, "invalid_request", "The provider key has characters no key has.")
    exchange.mode, exchange.token, exchange.own_key = (
        Mode.PASS_THROUGH,
        _well_formed(token) if token else None,
        credential,
    )
    # also what is refused has a row, with labels that may have the key in them
    exchange.guard = KeyGuard(credential.encode())


def _advice(found: Found) -> str:
    """Say what to do about a request without a credential."""
    if found.is_other_scheme:
        return "Only `Authorization: Bearer` is supported."
    if found.tokens:
        return (
            "No credential was sent: `x-metrion-token` only names the account of a request with "
            "your own provider key. Without one, use your Metrion token as the SDK's API key."
        )
    return "No credential was sent. Use your Metrion token as the SDK's API key."


def _well_formed(token: str) -> str:
    if not is_token(token):
        raise _malformed()
    return token


def _malformed() -> Refused:
    return _unauthorized(
        "This Metrion token is malformed: it is `sk-metrion-` and 32 hexadecimal characters."
    )


def _unauthorized(message: str) -> Refused:
    return Refused(401, "invalid_token", message)


class KeyGuard:
    """Blots a key out of bytes that come back, in case a provider echoes what it got.

    Lengths stay the same, so framing does. Bytes are held back only while they are the beginning
    of the key, which ordinary answers practically never end with.

    Attributes:
        has_blotted: the key was in the body that was fed.
    """

    __slots__ = ("_held", "_key", "has_blotted")

    def __init__(self, key: bytes) -> None:
        self._key = key if len(key) >= _GUARDED_MIN_BYTES else b""
        self._held: bytes = b""
        self.has_blotted = False

    def __repr__(self) -> str:
        return "KeyGuard(…)"

    @property
    def is_holding(self) -> bool:
        """Bytes are held back that may be the key's beginning."""
        return bool(self._held)

    def blot(self, data: bytes) -> bytes:
        """A whole value without the key in it."""
        if self._key and data.find(self._key) >= 0:
            return data.replace(self._key, b"*" * len(self._key))
        return data

    def feed(self, data: bytes) -> bytes:
        """The next bytes of a body; what may be the key's beginning is held back."""
        if not self._key:
            return data
        data = self._held + data if self._held else data
        if data.find(self._key) >= 0:  # `in` takes several times as long (CPython 3.13)
            self.has_blotted = True
            data = self.blot(data)
        begin = self._suspicious_tail(data)
        self._held = data[begin:]
        return data[:begin] if self._held else data

    def finish(self) -> bytes:
        """What was held back at the end of a body."""
        held, self._held = self._held, b""
        return held

    def _suspicious_tail(self, data: bytes) -> int:
        if data[-1:] not in self._key:  # a line feed, of nearly every event of a stream
            return len(data)
        first = self._key[:1]
        at = data.find(first, max(0, len(data) - len(self._key) + 1))
        while at >= 0:
            if self._key.startswith(data[at:]):
                return at
            at = data.find(first, at + 1)
        return len(data)


def scrub(text: str) -> str:
    """An error message that is safe to keep: nothing key-like, one line, bounded."""
    return _SECRET_FORM.sub("[redacted]", plain(text))[:ERROR_MAX_CHARS]


def redact(text: str) -> str:
    """A log line of somebody else's with nothing key-like in it."""
    return _SECRET_FORM.sub("[redacted]", text)


def mask(data: bytes) -> bytes:
    """A body or header for somebody to look at, with asterisks for all that is key-like.

    Lengths stay. As thorough as `redact`, and ten times as fast: 5 to 50 ms for a MiB.
    """
    folded = data.lower()
    masked: bytearray | None = None
    for form in _SECRET_BYTES:
        for found in form.finditer(folded):
            begin, end = found.span(found.lastindex or 0)
            masked = masked or bytearray(data)
            masked[begin:end] = b"*" * (end - begin)
    return bytes(masked) if masked else data


def label(text: str | None, max_chars: int) -> str | None:
    """A name that somebody else chose, safe to keep; None if nothing is left of it.

    Args:
        text: a requester or a model.
        max_chars: longer ones are cut.
    """
    return (_WHOLE_SECRET.sub("[redacted]", plain(text))[:max_chars] or None) if text else None


def plain(text: str) -> str:
    """One line of valid Unicode without control characters."""
    line = " ".join(text.split())
    return line if line.isprintable() else _UNSPEAKABLE.sub("\ufffd", line)
