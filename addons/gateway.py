"""The way of a request, top to bottom.

    begin            the head has arrived
    requestheaders   credentials off → CORS → head check → route → token → account → limits
    request          body check → where to, with which headers → a stored answer? → month; then
                     the stored answer is replayed, or the request goes upstream
    wire_headers     the provider key, opened for the one write that needs it
    responseheaders  the provider answers
    responsedata     bytes pass; usage is read along; who asked for it has them stored
    response, error  the row

`addons.relay` calls these in this order. Every step that may admit a request returns None to let
it go on or an `Answer`, or raises `Refused`; anything else that it raises is a defect, which is
logged and answered with 500. Nothing is forwarded unless both steps returned None.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from addons import answers, forwarding, rows
from addons.admission import Admission
from addons.answers import Answer
from addons.body_budget import BodyBudget
from addons.body_checker import BodyChecker
from addons.compressed_guard import CompressedKeyGuard, coding_of
from addons.credentials import choose_mode, label, take_credentials
from addons.exchange import Exchange, Headers, Marks, Mode
from addons.framing import RequestHead
from addons.headers import blotted, check_head, client_headers
from addons.keyring import Keyring
from addons.meter import Meter
from addons.outcome import Outcome, Refused, shutting_down
from addons.probes import Probes, RequestMetrics
from addons.providers.base import RouteTable
from addons.replay_cache import ReplayCache, replay, take_cache_wish
from addons.routing import cross_origin, find_route
from addons.usage_chunk import UsageChunkFilter
from storage.identifiers import uuid7
from storage.response_cache import StoredAnswer
from storage.sealing import MasterKeys
from storage.settings import Settings

logger = logging.getLogger("metrion.gateway")

REQUESTER_MAX_CHARS = 200
FIRST_ERROR_STATUS = 400


class Gateway:
    """What happens to requests.

    Args:
        settings: limits and time-outs.
        routes: the closed table of routes.
        keyring: who is calling.
        admission: limits.
        keys: opens sealed provider keys.
        recorder: writes rows.
        checker: checks bodies.
        cache: answers that are given again.
        probes: answers what a balancer or Prometheus asks.
        metrics: counts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        routes: RouteTable,
        keyring: Keyring,
        admission: Admission,
        keys: MasterKeys,
        recorder: rows.RowWriter,
        checker: BodyChecker,
        cache: ReplayCache,
        probes: Probes,
        metrics: RequestMetrics,
    ) -> None:
        self.header_timeout = settings.timeout_seconds
        self.idle_timeout = settings.timeout_seconds
        self.drain_seconds = settings.drain_seconds
        self.drain_bytes = settings.drain_bytes
        self._bodies = BodyBudget(settings.max_body_bytes)
        self._checker = checker
        self._cache = cache
        self._cors_origins = {origin.encode() for origin in settings.cors_origins}
        self._allow_anonymous = settings.anonymous_pass_through
        self._routes = routes
        self._keyring = keyring
        self._admission = admission
        self._keys = keys
        self._recorder = recorder
        self._probes = probes
        self._metrics = metrics
        self._refusals = rows.RefusalRows(time.monotonic)
        self.is_draining = False  # answers are the last of their connections; then it stops:
        self.is_stopping = False
        # Somebody looks (mitmweb, the console, `-w`): flows are made. Set by the addon.
        self.is_observed = False

    # ---- the request ------------------------------------------------------------------------

    def begin(self, head: RequestHead, client: str) -> Exchange:
        """A new exchange: the head has arrived from `client` (an address)."""
        path, _, query = head.target.decode("latin-1").partition("?")
        exchange = Exchange(
            id=str(uuid7()),
            created_at=datetime.now(UTC),
            method=head.method.decode("latin-1"),
            path=path,
            query=query,
            headers=head.fields,
            client=client,
            http2=head.http2,
            marks=Marks(head=time.monotonic()),
        )
        exchange.provider = self._routes.provider_of(path)
        return exchange

    async def requestheaders(self, exchange: Exchange) -> Answer | None:
        """Decide on the head alone.

        Raises:
            Refused: 400, 401, 403, 404, 405, 413, 429 or 503.
        """
        found = take_credentials(exchange)
        if answer := cross_origin(exchange, self._cors_origins, self._routes):
            return answer
        if answer := await self._probes.answer(exchange):
            return answer
        check_head(exchange)
        find_route(exchange, self._routes, found.places)
        choose_mode(exchange, found, allow_anonymous=self._allow_anonymous)
        await self._identify(exchange)
        await self._admission.admit(exchange)
        exchange.cache = take_cache_wish(exchange)
        self._bodies.check_declared(exchange)
        exchange.marks.admitted = time.monotonic()
        return None

    async def _identify(self, exchange: Exchange) -> None:
        """The account behind the token, and that there is a key to use."""
        if self.is_stopping:
            raise shutting_down()
        token, exchange.token = exchange.token, None
        exchange.requester = _requester(exchange)
        if token is None and exchange.is_anonymous and self._allow_anonymous:
            return
        if token is None or exchange.route is None:
            raise RuntimeError("no token was chosen")
        exchange.caller = await self._keyring.identify(token)
        provider = exchange.route.provider
        if exchange.mode is Mode.STORED and provider.name not in exchange.caller.sealed_keys:
            raise Refused(
                401,
                "provider_key_missing",
                f"No {provider.title} key is stored for this account. Add one on Integrate, or "
                f"with `metrion key set EMAIL {provider.name}`.",
            )

    def body_refusal(self, exchange: Exchange, body_bytes: int) -> Refused | None:
        """Why a body of which so much has come is not read on."""
        return self._bodies.refusal(exchange, body_bytes)

    def body_leaves(self, exchange: Exchange, is_gone: Callable[[], bool]) -> None:
        """The body was written; `is_gone`: the provider's connection holds nothing of it."""
        self._bodies.leaves(exchange, is_gone)

    def body_forgotten(self, exchange: Exchange) -> None:
        """The body is no longer held."""
        self._bodies.forget(exchange)

    async def request(self, exchange: Exchange) -> Answer | None:
        """Check the body and say where the request goes.

        Raises:
            Refused: 400 `invalid_request`.
        """
        exchange.marks.body = time.monotonic()
        route = exchange.route
        if route is None or exchange.marks.admitted is None:
            raise RuntimeError("a request that was not admitted cannot be forwarded")
        digest = b""
        if route.endpoint.method == "GET":
            if exchange.body:
                raise Refused(400, "invalid_request", "A GET request takes no body here.")
        else:
            facts = await self._checker.check(
                exchange.body, route.endpoint, with_digest=exchange.cache is not None
            )
            digest = bytes.fromhex(facts.digest)
            exchange.model = exchange.model or facts.model
            exchange.streamed = facts.streamed
            if facts.usage_wish:
                exchange.body = facts.usage_wish.into(exchange.body)
                exchange.usage_filter = UsageChunkFilter()
        origin = self._routes.origins[route.provider.name]
        forwarding.prepare(exchange, origin)
        stored = await self._cache.find(exchange, digest) if exchange.cache else None
        await self._admission.count_forwarded(exchange)
        if stored is not None:
            return self._replay(exchange, stored)
        exchange.origin = origin
        self._metrics.forwarded()
        return None

    def _replay(self, exchange: Exchange, stored: StoredAnswer) -> Answer:
        """A stored answer instead of the provider's, after its row."""
        if exchange.cache is not None:
            exchange.cache.answer = stored
        answer = replay(exchange, stored)
        exchange.status = answer.status
        exchange.marks.first_byte = time.monotonic()
        self._end(exchange, Outcome.OK)
        return answer

    def wire_headers(self, exchange: Exchange) -> Headers:
        """The header that holds the provider key, opened for this one write."""
        return forwarding.wire_headers(exchange, self._keys)

    # ---- the answer -------------------------------------------------------------------------

    def responseheaders(self, exchange: Exchange, status: int, headers: Headers) -> Headers:
        """The provider's head has come; the headers that the client gets."""
        exchange.status = status
        kept = client_headers(blotted(exchange, headers))  # before names are folded to lower case
        values = dict(kept)
        content_type = values.get(b"content-type", b"").decode("latin-1")
        if exchange.usage_filter:
            if content_type.lower().startswith("text/event-stream"):
                # One chunk less than the provider's: its length would be wrong, if it has any.
                kept = [each for each in kept if each[0] != b"content-length" or each[1] == b"0"]
            else:
                exchange.usage_filter = None
        coding = coding_of(kept) if b"content-encoding" in values else ""
        if exchange.guard and coding:
            exchange.guard = CompressedKeyGuard(exchange.guard, coding)
        if exchange.route:
            exchange.meter = Meter(exchange.route.endpoint.flavour, content_type, coding)
        kept.append((b"x-metrion-request-id", exchange.id.encode()))
        if exchange.cache:
            self._cache.begin(exchange, kept)
            kept.append((b"x-metrion-cache", b"MISS"))
        return kept + answers.cors_headers(exchange)

    def responsedata(self, exchange: Exchange, data: bytes) -> bytes:
        """Bytes of the answer pass by; the bytes that the client gets now.

        Raises:
            Refused: 502, nothing more of it may pass.
        """
        if exchange.marks.first_byte is None:
            exchange.marks.first_byte = time.monotonic()
        # First of all: nothing that looks at the answer shall see a key in it.
        data = exchange.guard.feed(data) if exchange.guard else data
        if exchange.meter:
            exchange.meter.feed(data)
            if exchange.meter.heard_last_word:
                # Its row is on disk before the client reads that the stream is over.
                self._end(exchange, _outcome_of(exchange))
        passed = exchange.usage_filter.feed(data) if exchange.usage_filter else data
        if exchange.cache and exchange.cache.recording:
            exchange.cache.recording.add(passed)
        return passed

    def response(self, exchange: Exchange) -> bytes:
        """The answer is whole: the row, then the bytes that were held back, if any."""
        rest = exchange.guard.finish() if exchange.guard else b""
        if exchange.meter:
            exchange.meter.feed(rest)
        self._end(exchange, _outcome_of(exchange))
        if exchange.usage_filter:
            rest = exchange.usage_filter.feed(rest) + exchange.usage_filter.finish()
        if exchange.cache and exchange.cache.recording:
            exchange.cache.recording.add(rest)
            self._cache.end(exchange)
        return rest

    def error(self, exchange: Exchange, outcome: Outcome) -> None:
        """The exchange ended early: the row."""
        self._cache.drop(exchange)
        self._end(exchange, outcome)

    # ---- own answers ------------------------------------------------------------------------

    def outcome_of(self, exchange: Exchange, step: "asyncio.Task[Answer | None]") -> Answer | None:
        """What a finished step says: None to go on, else the answer. Never raises."""
        try:
            return step.result()
        except Refused as refused:
            return self.refuse(exchange, refused)
        except asyncio.CancelledError:
            return self.refuse(exchange, shutting_down())
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it is
            return self.defect(exchange, error)

    def refuse(self, exchange: Exchange, refused: Refused) -> Answer:
        """The answer to a refusal, after its row."""
        exchange.status = refused.status
        exchange.error = refused.message
        self._cache.drop(exchange)
        self._metrics.refused(refused.code)
        self._end(exchange, refused.outcome)
        return answers.error_answer(exchange, refused)

    def defect(self, exchange: Exchange, error: BaseException) -> Answer:
        """The answer to a defect of Metrion itself, after its row.

        The text of an unknown error may hold anything, so only its type and place are logged. What
        was raised to refuse something is none.
        """
        if isinstance(error, Refused):
            return self.refuse(exchange, error)
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        code = place.tb_frame.f_code if place else None
        where = f"{code.co_qualname}:{place.tb_lineno}" if code and place else "unknown"
        logger.error(
            "Metrion failed on a request: %s in %s",
            type(error).__name__,
            where,
            extra={"request_id": exchange.id},
        )
        message = f"Metrion failed on this request and did not forward it (id {exchange.id})."
        return self.refuse(exchange, Refused(500, "internal_error", message))

    def malformed(self, status: int, message: str) -> Answer:
        """The answer to a head that cannot be read; there is no exchange."""
        now = datetime.now(UTC)
        exchange = Exchange(str(uuid7()), now, "", "", "", [], "", http2=False, marks=Marks(0.0))
        return answers.error_answer(exchange, Refused(status, "invalid_request", message))

    def _end(self, exchange: Exchange, outcome: Outcome) -> None:
        """Count and, if it is somebody's, write the row: once, and only after authentication."""
        route, caller = exchange.route, exchange.caller
        if (
            exchange.recorded
            or route is None
            or (exchange.marks.admitted is None and caller is None)
        ):
            return
        exchange.recorded = True
        exchange.outcome = outcome
        exchange.marks.end = time.monotonic()
        if exchange.meter:
            exchange.meter.finish()
            exchange.error = exchange.error or exchange.meter.error_message
        was_forwarded = exchange.origin is not None
        self._metrics.ended(route.provider.name, outcome, was_forwarded=was_forwarded)
        if caller is not None and self._refusals.may_write(caller.account_id, outcome):
            left_out = self._refusals.take_left_out(caller.account_id)
            row = rows.request_log(exchange, left_out=left_out)
            self._recorder.record(row)
            if was_forwarded:
                self._metrics.timed(route.provider.name, row["latency_ms"], row["overhead_ms"])
            exchange.row = self._recorder.complete(row) if self.is_observed else None


def _requester(exchange: Exchange) -> str | None:
    """`x-metrion-user`: a label of the client's choice, never an identity."""
    value = exchange.header(b"x-metrion-user")
    return label(value.decode("utf-8", "replace"), REQUESTER_MAX_CHARS) if value else None


def _outcome_of(exchange: Exchange) -> Outcome:
    """How an answer that came to its end counts."""
    if exchange.client_gone:
        return Outcome.CLIENT_CLOSED
    failed = exchange.status is None or exchange.status >= FIRST_ERROR_STATUS
    return Outcome.PROVIDER_ERROR if failed else Outcome.OK
