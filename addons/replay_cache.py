"""The opt-in response cache (SPEC section 9): what is asked of it, what is kept, what is replayed.

- A request is known by its fingerprint: account, mode (and, by digest, the caller's own key), and
  all that the provider would get, but for headers that say nothing of what is asked. Where there
  is doubt, two requests are two: a miss costs money, a wrong answer costs trust.
- What is kept is what the client got, piece by piece: after Metrion's own changes to the answer,
  without what belonged to that one exchange (rate limits, the provider's request id, dates).
- Only whole 200 answers are kept, up to `ANSWER_BYTES`: of a stream, its protocol has to have come
  to its end. Whether the client was still there does not matter: it is paid for, and whoever hung
  up is likely to ask again.
- Two identical requests at once both ask. One that waited would be tied to the time-outs, the pace
  and the failure of a stranger; what it costs is one answer too many, never a wrong one. A request
  that comes after the answer to another one was given (in this process) waits until that is stored.
- The cache never fails a request: without its database everything is a miss, which is counted.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable
from typing import Final, Protocol
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter

from addons.answer_recording import Budget, Recording
from addons.answers import Answer, cors_headers
from addons.exchange import AnswerRecording, CacheUse, Exchange, Headers
from addons.outcome import Refused
from storage.errors import DatabaseUnavailable
from storage.response_cache import StoredAnswer

DAY_SECONDS: Final = 24 * 3600
USUAL_SECONDS: Final = 7 * DAY_SECONDS
MOST_SECONDS: Final = 365 * DAY_SECONDS
ANSWER_BYTES: Final = 2 * 1024 * 1024
"""The longest answer that is kept. One that is replayed to a slow client waits in memory, whole."""
RECORDINGS_BYTES: Final = 64 * 1024 * 1024
"""Of all answers that this process is recording or storing; more are passed on and not kept."""
ASK_SECONDS: Final = 1.0
"""How long a request may be held up by the cache."""
STORE_SECONDS: Final = 10.0
AWAY_SECONDS: Final = 2.0
"""How long the database is left alone after it did not answer."""

_OK = 200
_MAX_AGE = re.compile(rb"max-age=([0-9]{1,5000})", re.IGNORECASE)
_MOST_DIGITS = len(str(MOST_SECONDS))
_DESCRIBES_BODY = (b"content-type", b"content-encoding", b"content-language", b"content-length")
# Who asks, in which try, from which page, and who traces it: it reaches the provider and changes
# nothing of what is asked. All other headers count.
_SAYS_NOTHING = frozenset(
    {
        b"b3",
        b"baggage",
        b"date",
        b"dnt",
        b"idempotency-key",
        b"newrelic",
        b"origin",
        b"priority",
        b"referer",
        b"sentry-trace",
        b"traceparent",
        b"tracestate",
        b"uber-trace-id",
        b"user-agent",
        b"x-amzn-trace-id",
        b"x-client-request-id",
        b"x-cloud-trace-context",
        b"x-correlation-id",
        b"x-goog-api-client",
        b"x-request-id",
    }
)
_SAYS_NOTHING_PREFIXES = (b"sec-", b"x-b3-", b"x-datadog-", b"x-stainless-")

_log = logging.getLogger("metrion.cache")


class AnswerStore(Protocol):
    """Where answers are (see `storage.response_cache`)."""

    async def find(self, account_id: UUID, fingerprint: bytes, max_age: int) -> StoredAnswer | None:
        """The account's answer to a request, if it is not older than that many seconds."""
        ...

    async def store(
        self, account_id: UUID, fingerprint: bytes, answer: StoredAnswer, life: int
    ) -> bool:
        """Keep an answer for so many seconds; False: the account is gone."""
        ...


# ---- what is asked ------------------------------------------------------------------------------


def take_cache_wish(exchange: Exchange) -> CacheUse | None:
    """What the request wants of the cache; None: nothing. Its `Cache-Control` is then Metrion's.

    Raises:
        Refused: 400 for a wish that cannot be understood, or that nobody's account could hold.
    """
    wishes = [value for name, value in exchange.headers if name.lower() == b"x-metrion-cache"]
    if not wishes:
        return None
    if wishes not in ([b"true"], [b"refresh"]):
        message = (
            "`x-metrion-cache` is `true` (use a stored answer, else ask and store) or `refresh` "
            "(ask, then store); leave it out to have nothing stored."
        )
        raise Refused(400, "invalid_request", message)
    if exchange.caller is None:
        message = (
            "A stored answer belongs to an account: add the header `x-metrion-token`, or leave "
            "`x-metrion-cache` out."
        )
        raise Refused(400, "invalid_request", message)
    directives = [value for name, value in exchange.headers if name.lower() == b"cache-control"]
    exchange.headers = [
        header for header in exchange.headers if header[0].lower() != b"cache-control"
    ]
    reads = wishes == [b"true"]
    if not directives:
        return CacheUse(reads=reads, life=USUAL_SECONDS, oldest=MOST_SECONDS)
    seconds = _max_age(directives)
    return CacheUse(reads=reads, life=seconds, oldest=seconds)


def _max_age(directives: list[bytes]) -> int:
    """The N of `Cache-Control: max-age=N`, but at most a year."""
    found = _MAX_AGE.fullmatch(directives[0]) if len(directives) == 1 else None
    if found is None:
        message = (
            "With `x-metrion-cache`, `Cache-Control` is `max-age=N`, in whole seconds (at most "
            f"{MOST_SECONDS}, which is 365 days), and nothing else."
        )
        raise Refused(400, "invalid_request", message)
    digits = found[1].lstrip(b"0") or b"0"
    return MOST_SECONDS if len(digits) > _MOST_DIGITS else min(int(digits), MOST_SECONDS)


def fingerprint(exchange: Exchange, body_digest: bytes) -> bytes:
    """What makes this request the same as another one, as a SHA-256.

    Args:
        exchange: ready to be forwarded, its caller's own key not yet written.
        body_digest: of what its body means (see `addons.canonical_json`).
    """
    caller, route = exchange.caller, exchange.route
    if caller is None or route is None:
        raise RuntimeError("no stored answer without account and route")
    own_key = exchange.own_key.encode() if exchange.own_key else b""
    parts = [
        caller.account_id.bytes,
        exchange.mode.value.encode(),
        hashlib.sha256(own_key).digest() if own_key else b"",
        route.provider.name.encode(),
        route.endpoint.name.encode(),
        exchange.method.encode(),
        exchange.upstream_path.encode(),
        body_digest,
    ]
    for name, value in sorted(exchange.upstream_headers, key=_name):
        if name not in _SAYS_NOTHING and not name.startswith(_SAYS_NOTHING_PREFIXES):
            parts += [name, value]
    return hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()


def _name(header: tuple[bytes, bytes]) -> bytes:
    """To sort by; values of one name stay in their order."""
    return header[0]


# ---- what is kept -------------------------------------------------------------------------------


def replay(exchange: Exchange, stored: StoredAnswer) -> Answer:
    """A stored answer as the answer to this request."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers]
    headers += [
        (b"age", b"%d" % stored.age),  # RFC 9111 section 5.1
        (b"x-metrion-cache", b"HIT"),
        (b"x-metrion-request-id", exchange.id.encode()),
    ]
    return Answer(_OK, headers + cors_headers(exchange), stored.body, stored.sizes)


# ---- where it is --------------------------------------------------------------------------------


class ReplayCache:
    """Looks answers up and has them stored, in bounded time and memory; never raises.

    Args:
        store: where they are.
        registry: of metrics.
        clock: seconds, monotonic.
        answer_bytes: the longest answer that is kept.
    """

    def __init__(
        self,
        store: AnswerStore,
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.monotonic,
        answer_bytes: int = ANSWER_BYTES,
        recordings_bytes: int = RECORDINGS_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._answer_bytes = answer_bytes
        self.budget = Budget(recordings_bytes)
        self._away_until = 0.0
        # Owned: each ends by itself within STORE_SECONDS, and `close` waits for them.
        self._storing: dict[tuple[UUID, bytes], asyncio.Task[None]] = {}
        self._left: set[asyncio.Task[StoredAnswer | None]] = set()
        self._lookups = Counter(
            "metrion_cache_lookups",
            "Requests that asked for the response cache, by what became of it",
            ["result"],
            registry=registry,
        )
        self._answers = Counter(
            "metrion_cache_answers",
            "Answers to such requests, by whether they were stored",
            ["result"],
            registry=registry,
        )

    async def find(self, exchange: Exchange, body_digest: bytes) -> StoredAnswer | None:
        """A stored answer to this request, if it wants one and there is one."""
        use, caller = exchange.cache, exchange.caller
        if use is None or caller is None:
            return None
        use.fingerprint = fingerprint(exchange, body_digest)
        stored = None
        if not use.reads:
            result = "refresh"
        elif self._clock() < self._away_until:
            result = "failed"
        else:
            try:
                stored = await self._find(caller.account_id, use)
                result = "hit" if stored else "miss"
            except Exception as error:  # noqa: BLE001 - the request goes before the cache
                self._failed("looked up", error)
                result = "failed"
        self._lookups.labels(result).inc()
        return stored

    async def _find(self, account_id: UUID, use: CacheUse) -> StoredAnswer | None:
        """Ask, for a time. Ending a question to a database that hangs takes longer: it is left."""
        # Owned: awaited here, or left with a request to end, and known to `close`.
        task = asyncio.get_running_loop().create_task(self._ask(account_id, use))
        try:
            await asyncio.wait([task], timeout=ASK_SECONDS)
        finally:
            if not task.done():
                task.cancel()
                self._left.add(task)
                task.add_done_callback(self._forget_left)
        if not task.done():
            raise TimeoutError
        return task.result()

    async def _ask(self, account_id: UUID, use: CacheUse) -> StoredAnswer | None:
        if storing := self._storing.get((account_id, use.fingerprint)):
            await asyncio.wait([storing])
        return await self._store.find(account_id, use.fingerprint, use.oldest)

    def _forget_left(self, task: asyncio.Task[StoredAnswer | None]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody waits for it

    def begin(self, exchange: Exchange, headers: Headers) -> None:
        """The provider's answer begins: record it, if it is one to keep.

        Args:
            exchange: with the answer's status.
            headers: those that the client gets.
        """
        use = exchange.cache
        if use is not None and exchange.status == _OK and use.life > 0:
            kept = [header for header in headers if header[0] in _DESCRIBES_BODY]
            use.recording = Recording(kept, self.budget, self._answer_bytes)

    def end(self, exchange: Exchange) -> None:
        """The answer has ended, and its row is written: store it, if it is whole."""
        use, caller = exchange.cache, exchange.caller
        if use is None or caller is None or use.recording is None:
            return
        recording, use.recording = use.recording, None
        answer = None if recording.is_given_up else recording.answer(exchange)
        if answer is None:
            self._answers.labels("too_long" if recording.is_given_up else "not_whole").inc()
            recording.release()
            return
        key = (caller.account_id, use.fingerprint)
        task = asyncio.get_running_loop().create_task(
            self._keep(key, answer, use.life, recording, self._storing.get(key))
        )
        self._storing[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))

    def drop(self, exchange: Exchange) -> None:
        """The answer ended early: none of it is kept."""
        if exchange.cache is not None and exchange.cache.recording is not None:
            exchange.cache.recording.release()
            exchange.cache.recording = None

    async def _keep(
        self,
        key: tuple[UUID, bytes],
        answer: StoredAnswer,
        life: int,
        recording: AnswerRecording,
        earlier: asyncio.Task[None] | None,
    ) -> None:
        """Store an answer; `recording` holds its memory's place until then."""
        result = "failed"
        try:
            async with asyncio.timeout(STORE_SECONDS):
                if earlier is not None:
                    await asyncio.wait([earlier])
                if self._clock() >= self._away_until:
                    is_kept = await self._store.store(*key, answer, life)
                    result = "stored" if is_kept else "account_gone"
        except Exception as error:  # noqa: BLE001 - an answer that is not kept is only a miss
            self._failed("stored", error)
        finally:
            recording.release()
        self._answers.labels(result).inc()

    def _forget(self, key: tuple[UUID, bytes], task: asyncio.Task[None]) -> None:
        if self._storing.get(key) is task:
            del self._storing[key]

    def _failed(self, what: str, error: Exception) -> None:
        """Note a failure. Of an error that nobody foresaw only the kind is logged."""
        if isinstance(error, DatabaseUnavailable | TimeoutError):
            self._away_until = self._clock() + AWAY_SECONDS
        _log.warning("an answer could not be %s: %s", what, type(error).__name__)

    async def close(self) -> None:
        """Wait until what is being stored is stored."""
        if tasks := [*self._storing.values(), *self._left]:
            await asyncio.wait(tasks, timeout=STORE_SECONDS)
