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

import hashlib
import hmac
import logging
import os
import secrets
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, Self, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage import master_key_file
from storage.errors import MasterKeyError, SealingError
from storage.master_key_file import KEY_BYTES, MasterKeyDocument
from storage.settings import Settings

_HEADER = struct.Struct(">cBI")
_LENGTH = struct.Struct(">I")
_MAGIC, _VERSION = b"M", 1
_NONCE_BYTES, _TAG_BYTES = 12, 16
RETRY_SECONDS: Final = 1.0
"""How soon a master key file that could not be read is tried again, if it has not changed."""

_log = logging.getLogger(__name__)


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
        return b"".join([_LENGTH.pack(len(part)) + part for part in parts])

    @property
    def place(self) -> str:
        """Table and column, for messages."""
        return f"{self.table}.{self.column}"


class MasterKeys:
    """The key ring: the active master key seals, all of them open. Its repr shows key ids only.

    A ring that was loaded from a file follows it: each use looks whether the file was replaced (one
    `stat`, about 1 µs), so every process goes over to a new key by itself and at once. A file that
    became unusable changes nothing and is complained about in the log; it is tried again when it
    changes, and every second: what kept it from being read may be over without a trace in it.
    """

    def __init__(self, keys: Mapping[int, bytes], active: int) -> None:
        """Build a ring of `keys` (id → 32 bytes), sealing under `active`.

        Raises:
            MasterKeyError: a key is short or not random, an id out of range, `active` not there.
        """
        self._ring = _Ring(MasterKeyDocument(active, keys))
        self._file: Path | None = None
        self._seen: _FileState | None = None
        self._refused: _Refusal | None = None

    def __repr__(self) -> str:
        return f"MasterKeys(active={self.active}, ids={sorted(self._ring.sealers)})"

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Read the ring from METRION_MASTER_KEYS, else a command, else the master key file.

        Raises:
            MasterKeyError: there is none, it is malformed or weak, others may read the file, or
                the command failed.
        """
        if settings.master_keys is not None:
            text = settings.master_keys.get_secret_value()
            document = MasterKeyDocument.parse(text, "METRION_MASTER_KEYS")
            return cls(document.keys, document.active)
        if settings.master_keys_command is not None:
            text = master_key_file.printed_by(settings.master_keys_command)
            document = MasterKeyDocument.parse(text, "METRION_MASTER_KEYS_COMMAND")
            return cls(document.keys, document.active)
        return cls._follow(settings.master_key_path)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a ring of one new key in a new file (0600) and return it; on disk when this returns.

        Raises:
            AlreadyExists: the file is there; it is left as it is.
            MasterKeyError: the file cannot be written.
        """
        master_key_file.create(path)
        return cls._follow(path)

    @property
    def active(self) -> int:
        """The id of the key that seals."""
        return self._current().active

    @property
    def inactive(self) -> list[int]:
        """The ids of the keys that only open what was sealed before."""
        ring = self._current()
        return sorted(set(ring.sealers) - {ring.active})

    def seal(self, plaintext: bytes, binding: Binding) -> bytes:
        """Return `plaintext` sealed under the active key, so that it opens at `binding` only."""
        ring = self._current()
        header = _HEADER.pack(_MAGIC, _VERSION, ring.active)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealer = ring.sealers[ring.active]
        return header + nonce + sealer.encrypt(nonce, plaintext, binding.associated_data(header))

    def open(self, sealed: bytes, binding: Binding) -> bytes:
        """Return what was sealed at `binding`.

        Raises:
            SealingError: it was changed or belongs elsewhere, or its key is not on the ring.
        """
        if len(sealed) < _HEADER.size + _NONCE_BYTES + _TAG_BYTES:
            raise SealingError(f"the value in {binding.place} is not a sealed value: too short")
        header = sealed[: _HEADER.size]
        magic, version, key_id = cast("tuple[bytes, int, int]", _HEADER.unpack(header))
        if (magic, version) != (_MAGIC, _VERSION):
            raise SealingError(
                f"the value in {binding.place} is not a sealed value of version {_VERSION}"
            )
        sealer = self._current().sealers.get(key_id)
        if sealer is None:
            raise SealingError(
                f"the value in {binding.place} needs master key {key_id}, which is not on the ring"
            )
        body_at = _HEADER.size + _NONCE_BYTES
        nonce, body = sealed[_HEADER.size : body_at], sealed[body_at:]
        try:
            return sealer.decrypt(nonce, body, binding.associated_data(header))
        except InvalidTag:
            raise SealingError(
                f"the value in {binding.place} does not open: it was changed or moved, "
                f"or master key {key_id} is not the one it was sealed under"
            ) from None

    def token_digests(self, token: str) -> list[bytes]:
        """Return the digests (HMAC-SHA256) a token may be stored under, the active key's first."""
        message = token.encode()
        return [hmac.digest(key, message, hashlib.sha256) for key in self._current().digest_keys]

    def digests(self, purpose: str, value: str) -> list[bytes]:
        """Return the digests of a short-lived secret (a code, a session), the active key's first.

        The same value has another digest for another `purpose`, and none is a token's: a token has
        no NUL in it.
        """
        return self.token_digests(f"{purpose}\0{value}")

    @classmethod
    def _follow(cls, path: Path) -> Self:
        seen = _state_of(path)  # looked at first: what is replaced while it is read is read again
        document = master_key_file.read(path)
        keys = cls(document.keys, document.active)
        keys._file, keys._seen = path, seen
        return keys

    def _current(self) -> "_Ring":
        """Return the ring as its file has it now."""
        if self._file is not None and (state := _state_of(self._file)) != self._seen:
            self._read_again(self._file, state)
        return self._ring

    def _read_again(self, path: Path, state: "_FileState | None") -> None:
        before = self._refused
        if before is not None and before.state == state and monotonic() < before.until:
            return
        try:
            self._ring = _Ring(master_key_file.read(path))
        except MasterKeyError as error:
            self._refused = _Refusal(state, str(error), monotonic() + RETRY_SECONDS)
            if before is None or (before.state, before.reason) != (state, str(error)):
                _log.error("going on with the master keys read before: %s", error)
        else:
            self._seen, self._refused = state, None
            _log.info("master keys read again: %r", self)


class _Ring:
    """What is derived from the keys: for each the cipher, and the key of the digests."""

    def __init__(self, document: MasterKeyDocument) -> None:
        keys, self.active = document.keys, document.active
        order = [self.active, *sorted(set(keys) - {self.active})]
        self.sealers = {
            key_id: AESGCM(_subkey(keys[key_id], b"metrion seal v1")) for key_id in order
        }
        self.digest_keys = [_subkey(keys[key_id], b"metrion token digest v1") for key_id in order]


type _FileState = tuple[int, int, int, int]


class _Refusal(NamedTuple):
    """A file that could not be used, and why."""

    state: _FileState | None
    reason: str
    until: float
    """When it is tried again, even if it has not changed."""


def _state_of(path: Path) -> _FileState | None:
    """Return what changes when a file, or who may read it, changes; None: it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat takes twice the time
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def sealed_under(key_id: int) -> bytes:
    """Return how a value sealed under this master key begins."""
    return _HEADER.pack(_MAGIC, _VERSION, key_id)


def _subkey(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)
