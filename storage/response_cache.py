"""Answers of providers, kept to be given again: sealed, by account, for a time.

The database holds neither what was asked nor what was answered: a request is known by a keyed
digest of its fingerprint, an answer is sealed together with that fingerprint, so that a rotation of
the master key can make the digest anew. Reading and writing go through one function of the database
each, for the account that is named (`metrion_proxy` has no right on the table).
"""

import json
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

from storage.identifiers import uuid7
from storage.sealing import Binding, MasterKeys
from storage.single_statements import SingleStatements

ACCOUNT_BYTES: Final = 256 * 1024 * 1024
"""How much an account may keep, sealed; its oldest answers make room for new ones."""
FINGERPRINT_BYTES: Final = 32

_PURPOSE = "response cache"
_FIND = "SELECT id, sealed, age FROM metrion.cached_answer(%s::uuid, %s::bytea[], %s::integer)"
_STORE = """
    SELECT metrion.store_answer(
        %s::uuid, %s::uuid, %s::bytea[], %s::bytea, %s::integer, %s::bigint)
"""
_HEAD_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A whole answer, as its client got it.

    Attributes:
        headers: those that describe the body.
        sizes: of the pieces in which the body came.
        model: as the provider returned it.
        usage: what it used (`TokenUsage.to_json`); None: the provider did not say.
        age: seconds since it was stored.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    sizes: tuple[int, ...]
    model: str | None
    usage: Mapping[str, Any] | None
    age: int = field(default=0, compare=False)

    def pack(self, fingerprint: bytes) -> bytes:
        """Return what is sealed: the request's fingerprint, the length of a head, head, body."""
        head = json.dumps([self.headers, self.sizes, self.model, self.usage]).encode()
        return b"".join((fingerprint, _HEAD_LENGTH.pack(len(head)), head, self.body))

    @classmethod
    def unpack(cls, packed: bytes, age: int) -> Self:
        """Return what `pack` made."""
        begin = FINGERPRINT_BYTES + _HEAD_LENGTH.size
        (length,) = cast("tuple[int]", _HEAD_LENGTH.unpack_from(packed, FINGERPRINT_BYTES))
        headers, sizes, model, usage = json.loads(packed[begin : begin + length])
        named = tuple((name, value) for name, value in headers)
        return cls(named, packed[begin + length :], tuple(sizes), model, usage, age)


class ResponseCache:
    """The answers of all accounts, for a process that acts as `metrion_proxy`."""

    def __init__(
        self, statements: SingleStatements, keys: MasterKeys, *, account_bytes: int = ACCOUNT_BYTES
    ) -> None:
        self._statements = statements
        self._keys = keys
        self._account_bytes = account_bytes

    async def find(
        self, account_id: uuid.UUID, fingerprint: bytes, max_age: int
    ) -> StoredAnswer | None:
        """Return the account's answer to a request, unless it is older than `max_age` seconds.

        Raises:
            DatabaseUnavailable: the next try may work.
            SealingError: what is stored was changed or moved, or its key is gone.
        """
        digests = _digests(self._keys, fingerprint)
        row = await self._statements.fetch(_FIND, [account_id, digests, max_age])
        if row is None:
            return None
        answer_id, sealed, age = row
        packed = self._keys.open(sealed, answer_binding(account_id, answer_id))
        return StoredAnswer.unpack(packed, age)

    async def store(
        self, account_id: uuid.UUID, fingerprint: bytes, answer: StoredAnswer, life: int
    ) -> bool:
        """Keep an answer for `life` seconds, in place of an earlier one to the same request.

        Returns whether it is kept: not if the account is gone.

        Raises:
            DatabaseUnavailable: nothing was stored, or it is not known.
        """
        answer_id = uuid7()
        sealed = self._keys.seal(answer.pack(fingerprint), answer_binding(account_id, answer_id))
        digests = _digests(self._keys, fingerprint)
        row = await self._statements.fetch(
            _STORE, [account_id, answer_id, digests, sealed, life, self._account_bytes]
        )
        return row is not None and bool(row[0])


def answer_binding(account_id: uuid.UUID, answer_id: uuid.UUID) -> Binding:
    """Return the one place where a sealed answer opens."""
    return Binding("response_cache", "sealed", account_id, str(answer_id))


def digest_of(keys: MasterKeys, packed: bytes) -> bytes:
    """Return the digest under the active key, from what was sealed; for rotation."""
    return _digests(keys, packed[:FINGERPRINT_BYTES])[0]


def _digests(keys: MasterKeys, fingerprint: bytes) -> list[bytes]:
    return keys.digests(_PURPOSE, fingerprint.hex())
