"""Sealing: AES-256-GCM under a master key that is kept outside the database.

A sealed value is `b"M" | version (1 byte) | key id (4) | nonce (12) | ciphertext and tag (16)`. Its
associated data is the header and the `Binding`, each part length-prefixed: a value copied to
another table, column, account or row, or marked with another key id, does not open.

Values are sealed directly under (a subkey of) the master key, without a data key per value: what is
sealed is small, so re-sealing costs no more than re-wrapping a data key would, and an envelope is
34 bytes longer than its content instead of 94. Random 96-bit nonces are good for 2**32 values per
master key (NIST SP 800-38D, 8.3); rotate it before that.

HKDF-SHA256 gives each purpose a key of its own: the digest of a token says nothing about sealing.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage import private_files
from storage.errors import AlreadyExists, MasterKeyError, SealingError
from storage.settings import Settings

KEY_BYTES: Final = 32
_HEADER = struct.Struct(">cBI")
_MAGIC, _VERSION = b"M", 1
_NONCE_BYTES, _TAG_BYTES = 12, 16
_MAX_KEY_ID = 2**32 - 1
# 32 random bytes have about 30 different values; fewer than this is a typed or repeated pattern
_LEAST_DISTINCT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Binding:
    """The one place where a sealed value opens: a column of a row of an account."""

    table: str
    column: str
    account_id: uuid.UUID
    row: str
    """What tells the row from the account's others: the provider's name, the token's id."""

    def associated_data(self, header: bytes) -> bytes:
        """Return header, table, column, account and row, each with its length before it."""
        parts = (
            b"metrion sealed value",
            header,
            self.table.encode(),
            self.column.encode(),
            self.account_id.bytes,
            self.row.encode(),
        )
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)


class MasterKeys:
    """The key ring: the active master key seals, all of them open. Its repr shows key ids only."""

    def __init__(self, keys: Mapping[int, bytes], active: int) -> None:
        """Build a ring of `keys` (id → 32 bytes), sealing under `active`.

        Raises:
            MasterKeyError: a key is short or not random, an id out of range, `active` not there.
        """
        if active not in keys:
            raise MasterKeyError(f"the active master key {active} is not among the keys")
        for key_id, key in keys.items():
            _check_key(key_id, key)
        self.active: Final = active
        order = [active, *sorted(set(keys) - {active}, reverse=True)]
        self._sealers = {
            key_id: AESGCM(_subkey(keys[key_id], b"metrion seal v1")) for key_id in order
        }
        self._digest_keys = [_subkey(keys[key_id], b"metrion token digest v1") for key_id in order]

    def __repr__(self) -> str:
        return f"MasterKeys(active={self.active}, ids={sorted(self._sealers)})"

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Read the ring from METRION_MASTER_KEYS, else from the master key file.

        Raises:
            MasterKeyError: there is none, it is malformed or weak, or others may read the file.
        """
        if settings.master_keys is not None:
            return cls._parse(settings.master_keys.get_secret_value(), "METRION_MASTER_KEYS")
        path = settings.master_key_path
        return cls._parse(_read(path), str(path))

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a ring of one new key in a new file (0600) and return it; on disk when this returns.

        Raises:
            AlreadyExists: the file is there; it is left as it is.
            MasterKeyError: the file cannot be written.
        """
        key = secrets.token_bytes(KEY_BYTES)
        document = {"active": 1, "keys": {"1": base64.b64encode(key).decode()}}
        try:
            private_files.create(path, json.dumps(document) + "\n")
        except FileExistsError:
            raise AlreadyExists(f"there is a master key already: {path}") from None
        except OSError as error:
            raise MasterKeyError(
                f"the master key file {path} cannot be written: {error.strerror}"
            ) from error
        return cls({1: key}, active=1)

    def seal(self, plaintext: bytes, binding: Binding) -> bytes:
        """Return `plaintext` sealed under the active key, so that it opens at `binding` only."""
        header = _HEADER.pack(_MAGIC, _VERSION, self.active)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealer = self._sealers[self.active]
        return header + nonce + sealer.encrypt(nonce, plaintext, binding.associated_data(header))

    def open(self, sealed: bytes, binding: Binding) -> bytes:
        """Return what was sealed at `binding`.

        Raises:
            SealingError: it was changed or belongs elsewhere, or its key is not on the ring.
        """
        where = f"{binding.table}.{binding.column}"
        if len(sealed) < _HEADER.size + _NONCE_BYTES + _TAG_BYTES:
            raise SealingError(f"the value in {where} is not a sealed value: too short")
        header = sealed[: _HEADER.size]
        magic, version, key_id = cast("tuple[bytes, int, int]", _HEADER.unpack(header))
        if (magic, version) != (_MAGIC, _VERSION):
            raise SealingError(f"the value in {where} is not a sealed value of version {_VERSION}")
        sealer = self._sealers.get(key_id)
        if sealer is None:
            raise SealingError(
                f"the value in {where} needs master key {key_id}, which is not on the ring"
            )
        body_at = _HEADER.size + _NONCE_BYTES
        nonce, body = sealed[_HEADER.size : body_at], sealed[body_at:]
        try:
            return sealer.decrypt(nonce, body, binding.associated_data(header))
        except InvalidTag:
            raise SealingError(
                f"the value in {where} does not open: it was changed or moved, "
                f"or master key {key_id} is not the one it was sealed under"
            ) from None

    def token_digests(self, token: str) -> list[bytes]:
        """Return the digests (HMAC-SHA256) a token may be stored under, the active key's first."""
        message = token.encode()
        return [hmac.digest(key, message, hashlib.sha256) for key in self._digest_keys]

    def digests(self, purpose: str, value: str) -> list[bytes]:
        """Return the digests of a short-lived secret (a code, a session), the active key's first.

        The same value has another digest for another `purpose`, and none is a token's: a token has
        no NUL in it.
        """
        return self.token_digests(f"{purpose}\0{value}")

    @classmethod
    def _parse(cls, text: str, source: str) -> Self:
        """Build the ring from its JSON; no message says what is in it."""
        form = f'{source} must be {{"active": 1, "keys": {{"1": "base64 of 32 random bytes"}}}}'
        try:
            document: Any = json.loads(text)
            encoded = cast("dict[str, str]", document["keys"])
            keys = {int(i): base64.b64decode(key, validate=True) for i, key in encoded.items()}
            active = int(document["active"])
        except (ValueError, binascii.Error, KeyError, TypeError, AttributeError):
            raise MasterKeyError(form) from None
        try:
            return cls(keys, active)
        except MasterKeyError as error:
            raise MasterKeyError(f"{source}: {error}") from None


def _check_key(key_id: int, key: bytes) -> None:
    if not 1 <= key_id <= _MAX_KEY_ID:
        raise MasterKeyError(f"a master key's id must be between 1 and {_MAX_KEY_ID}")
    if len(key) != KEY_BYTES:
        raise MasterKeyError(f"master key {key_id} has {len(key)} bytes instead of {KEY_BYTES}")
    if len(set(key)) < _LEAST_DISTINCT_BYTES:
        raise MasterKeyError(
            f"master key {key_id} is not random: `openssl rand -base64 32` makes one"
        )


def _subkey(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def _read(path: Path) -> str:
    try:
        return private_files.read(path)
    except FileNotFoundError:
        raise MasterKeyError(
            f"there is no master key at {path}: scripts/run makes one in a new data directory; "
            "for a database that has one, put its file back or set METRION_MASTER_KEY_FILE"
        ) from None
    except UnicodeDecodeError:
        raise MasterKeyError(f"the master key file {path} is not text") from None
    except OSError as error:
        reason = error.strerror or error
        raise MasterKeyError(f"the master key file {path} cannot be used: {reason}") from None
