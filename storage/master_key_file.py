"""The master keys as they are kept: one JSON document, in a private file or the operator's.

    {"active": 2, "keys": {"1": "base64 of 32 random bytes", "2": "…"}}

A file is always replaced as a whole, so that who reads it sees the old or the new document.
"""

import base64
import binascii
import contextlib
import fcntl
import json
import secrets
import shlex
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast

from storage import private_files
from storage.errors import AlreadyExists, MasterKeyError

KEY_BYTES: Final = 32
COMMAND_SECONDS: Final = 30.0
_MAX_KEY_ID = 2**32 - 1
# 32 random bytes have about 30 different values; fewer than this is a typed or repeated pattern
_LEAST_DISTINCT_BYTES = 16


@dataclass(frozen=True, slots=True)
class MasterKeyDocument:
    """Keys by their ids, and which of them is active; its repr shows no key.

    Raises:
        MasterKeyError: a key is short or not random, an id out of range, `active` not there.
    """

    active: int
    keys: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.active not in self.keys:
            raise MasterKeyError(f"the active master key {self.active} is not among the keys")
        for key_id, key in self.keys.items():
            _check_key(key_id, key)

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Read a document; no message says what is in it.

        Raises:
            MasterKeyError: it is malformed, or a key in it is no good; names `source`.
        """
        form = f'{source} must be {{"active": 1, "keys": {{"1": "base64 of 32 random bytes"}}}}'
        try:
            document: Any = json.loads(text)
            encoded = cast("dict[str, str]", document["keys"])
            keys = {int(i): base64.b64decode(key, validate=True) for i, key in encoded.items()}
            active = int(document["active"])
        except (ValueError, binascii.Error, KeyError, TypeError, AttributeError):
            raise MasterKeyError(form) from None
        try:
            return cls(active, keys)
        except MasterKeyError as error:
            raise MasterKeyError(f"{source}: {error}") from None

    def to_text(self) -> str:
        """Write it; this text holds the keys."""
        encoded = {str(i): base64.b64encode(key).decode() for i, key in self.keys.items()}
        return json.dumps({"active": self.active, "keys": encoded}) + "\n"


def read(path: Path) -> MasterKeyDocument:
    """Read a file.

    Raises:
        MasterKeyError: it is missing, malformed or weak, or others may read it; says what to do.
    """
    try:
        text = private_files.read(path)
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
    return MasterKeyDocument.parse(text, str(path))


def create(path: Path) -> None:
    """Make a new file (0600) with one new key; on disk when this returns.

    Raises:
        AlreadyExists: the file is there; it is left as it is.
        MasterKeyError: it cannot be written.
    """
    document = MasterKeyDocument(1, {1: secrets.token_bytes(KEY_BYTES)})
    try:
        private_files.create(path, document.to_text())
    except FileExistsError:
        raise AlreadyExists(f"there is a master key already: {path}") from None
    except OSError as error:
        raise _unwritable(path, error) from error


def add_key(path: Path) -> int:
    """Add a new key, active from now on, and return its id; on disk when this returns.

    Only under `locked`: of two that add a key at once, one would lose its key.

    Raises:
        MasterKeyError: the file cannot be read or written; it is unchanged.
    """
    document = read(path)
    new = max(document.keys) + 1
    keys = {**document.keys, new: secrets.token_bytes(KEY_BYTES)}
    _replace(path, MasterKeyDocument(new, keys))
    return new


def drop_inactive_keys(path: Path) -> list[int]:
    """Drop all keys but the active one for good, and return their ids. Only under `locked`.

    Raises:
        MasterKeyError: the file cannot be read or written; it is unchanged.
    """
    document = read(path)
    _replace(
        path, MasterKeyDocument(document.active, {document.active: document.keys[document.active]})
    )
    return sorted(set(document.keys) - {document.active})


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Be the only one who changes a file (of all who ask by this function), by a lock beside it.

    Raises:
        MasterKeyError: somebody else is, or nothing can be written there.
    """
    try:
        lock = path.with_name(f"{path.name}.lock").open("ab")
    except OSError as error:
        raise _unwritable(path, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MasterKeyError(f"another rotation of {path} is under way") from None
        yield


def _replace(path: Path, document: MasterKeyDocument) -> None:
    try:
        private_files.replace(path, document.to_text())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> MasterKeyError:
    return MasterKeyError(f"the master key file {path} cannot be written: {error.strerror}")


def _check_key(key_id: int, key: bytes) -> None:
    if not 1 <= key_id <= _MAX_KEY_ID:
        raise MasterKeyError(f"a master key's id must be between 1 and {_MAX_KEY_ID}")
    if len(key) != KEY_BYTES:
        raise MasterKeyError(f"master key {key_id} has {len(key)} bytes instead of {KEY_BYTES}")
    if len(set(key)) < _LEAST_DISTINCT_BYTES:
        raise MasterKeyError(
            f"master key {key_id} is not random: `openssl rand -base64 32` makes one"
        )


def printed_by(command: str) -> str:
    """What a command prints on standard output: a ring, as in the file.

    It is split like a shell would, and run without one. Nothing it prints is repeated anywhere.

    Raises:
        MasterKeyError: it cannot be run, fails, or takes longer than `COMMAND_SECONDS`.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            shlex.split(command),
            check=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
    except (OSError, ValueError) as error:
        raise MasterKeyError(f"METRION_MASTER_KEYS_COMMAND cannot be run: {error}") from None
    except subprocess.CalledProcessError as error:
        raise MasterKeyError(
            f"METRION_MASTER_KEYS_COMMAND failed with exit code {error.returncode}"
        ) from None
    except subprocess.TimeoutExpired:
        raise MasterKeyError(
            f"METRION_MASTER_KEYS_COMMAND took longer than {COMMAND_SECONDS:g} seconds"
        ) from None
    return done.stdout
