"""Judges what reached a provider: nothing may arrive that was not admitted as it arrived.

A request that arrives has one key, that of an account that may call or the caller's own, in the
place of its route; nothing of Metrion's; a path of the route table; and a row that accounts for it.
What arrived is known from the fake provider, whose reader of HTTP refuses all that is ambiguous:
it shares no code with the gateway.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from addons.providers.base import KeyPlace
from scripts.fake_provider.records import RecordedRequest
from scripts.proof.fuzzing.callers import PROVIDERS, Callers

OWN = "own key"
_CREDENTIAL_FIELDS = frozenset(
    {
        *("authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"),
        *("proxy-authorization", "x-metrion-token"),
    }
)
_ONE_HOP = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("http2-settings", "expect", "forwarded", "via", "x-forwarded-for"),
    }
)


class Whose(NamedTuple):
    """What a request and its row have in common: whose key, for which provider's endpoint.

    `provider` is empty where the key is the caller's own: it says nothing of who is meant.
    """

    who: str
    provider: str
    endpoint: str


class _Entry(NamedTuple):
    method: str
    path: re.Pattern[str]
    provider: str
    endpoint: str
    place: KeyPlace


_TABLE = tuple(
    _Entry(
        endpoint.method,
        re.compile(re.escape(endpoint.path).replace(r"\{model\}", "[A-Za-z0-9][A-Za-z0-9._-]*")),
        provider.name,
        endpoint.name,
        endpoint.key_place or provider.key_place,
    )
    for provider in PROVIDERS.values()
    for endpoint in provider.endpoints
)


class Arrivals:
    """Judges requests one by one, and in the end all of them against the rows.

    Args:
        callers: who may call.
        host: the provider's, as the only `host` header.

    Attributes:
        seen: how many arrived, by what their rows must say.
    """

    def __init__(self, callers: Callers, host: str) -> None:
        self.seen: Counter[Whose] = Counter()
        self._forbidden = callers.forbidden_keys
        self._host = host
        self._owner = {
            key: (account.token, provider)
            for account in callers.admitted
            for provider, key in account.keys.items()
        }

    def judge(self, request: RecordedRequest) -> list[str]:
        """Count one request. Returns why it should not have arrived: mostly nothing."""
        wrong = list(self._faults_of_head(request))
        whose = self._whose(request)
        if whose is None:
            wrong.append("no route has this path with this key in this place")
        else:
            self.seen[whose] += 1
        return [f"{fault}: {request.head[:600]!r}" for fault in wrong]

    def _faults_of_head(self, request: RecordedRequest) -> Iterable[str]:
        names = [name.lower() for name, _ in request.headers]
        if request.leaks:
            yield f"it has {request.leaks} in it"
        if request.pipelined:
            yield "it came before the answer to the one before"
        if request.values("host") != [self._host]:
            yield f"its host is {request.values('host')}"
        if one_hop := _ONE_HOP.intersection(names):
            yield f"it has {sorted(one_hop)}"
        if len(found := [name for name in names if name in _CREDENTIAL_FIELDS]) != 1:
            yield f"its credentials are {found}"
        asked = [unquote_plus(part.partition("=")[0]) for part in request.query.split("&")]
        if any(name.strip().lower() == "key" for name in asked):
            yield "it has a key in its query"
        if any(key.encode() in request.head for key in self._forbidden):
            yield "it has the key of an account that may not call"

    def _whose(self, request: RecordedRequest) -> Whose | None:
        for entry in _TABLE:
            if entry.method != request.method or not entry.path.fullmatch(request.path):
                continue
            values = request.values(entry.place.header)
            key = values[0].removeprefix(entry.place.prefix) if values else ""
            token, provider = self._owner.get(key, ("", ""))
            if token and provider == entry.provider:
                return Whose(token, entry.provider, entry.endpoint)
            if key and not token:
                return Whose(OWN, "", entry.endpoint)
        return None

    def without_row(
        self, rows: Iterable[Mapping[str, Any]], tokens: Mapping[str, str]
    ) -> Counter[Whose]:
        """What arrived that no row accounts for.

        Args:
            rows: all that were written; those of requests that went nowhere do not count.
            tokens: account id → the account's token.
        """
        recorded = Counter(
            Whose(tokens[str(row["account_id"])], row["provider"], row["endpoint"])
            if row["mode"] == "stored"
            else Whose(OWN, "", row["endpoint"])
            for row in rows
            if row["overhead_ms"] is not None and str(row["account_id"]) in tokens
        )
        return self.seen - recorded
