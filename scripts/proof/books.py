"""The books: what clients have seen, compared with the rows and records of it.

Nothing here speaks to anybody: whoever has run the traffic brings the facts. Of every answer that a
client has read to its end there is one row, and it says what the client can say of it: the outcome,
the tokens, the cost. Some answers have another number of rows, and that is part of the product:

- an answer that was not read to its end has one row at most: whoever was killed before the end of
  an answer had not written its row yet;
- refusals (429, 400, 503 …) have one row at most, because only ten a minute are written;
- who is not known, or asks for a path that does not exist, has none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

OUTCOMES: Final[Mapping[str, str]] = {
    "provider_unreachable": "provider_error",
    "provider_error": "upstream_closed",
    "provider_timeout": "timeout",
}
"""What the row says of Metrion's own answers, by their code; of all others: `refused`."""
WITHOUT_ROW: Final = frozenset({"invalid_token", "unknown_route", "method_not_allowed"})
DEFECT: Final = "internal_error"
_ERROR = 400
_SHOWN = 5


class Tokens(NamedTuple):
    """What an answer used; None is not reported."""

    input: int | None
    output: int | None
    total: int | None
    cache_read: int = 0
    reasoning: int = 0


UNREPORTED: Final = Tokens(None, None, None)
NOTHING: Final = Tokens(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the row of a request has to say if its answer comes as the provider gives it."""

    provider: str
    streamed: bool = False
    tokens: Tokens = UNREPORTED
    cost: Decimal | None = None
    refusal: str | None = None
    """The code by which Metrion refuses it; None: it does not."""
    is_broken: bool = False
    """The provider is told to fail on it: how is seen by the status that comes."""


@dataclass(slots=True)
class Seen:
    """A request, as the client who sent it saw it.

    Attributes:
        person: whose token it had.
        expected: what it should come to.
        began: when it was sent, in seconds of `time.monotonic`.
        ended: when the client had the answer, or gave up.
        id: `x-metrion-request-id`; None: no head was read.
        status: of the answer.
        code: `x-metrion-error`.
        whole: the answer was read to its end.
        cache: `x-metrion-cache`.
        number: the provider's own number of the answer; of answers that may be stored.
        digest: of its body; of answers that may be stored.
    """

    person: str
    mode: str
    expected: Expected
    began: float
    ended: float = 0.0
    id: str | None = None
    status: int | None = None
    code: str | None = None
    whole: bool = False
    cache: str | None = None
    number: int | None = None
    digest: bytes = b""
    hung: bool = False

    @property
    def is_forwarded(self) -> bool:
        """Whether it went to a provider, or was answered for one."""
        return self.status is not None and (self.code is None or self.code in OUTCOMES)


@dataclass(slots=True)
class Findings:
    """What does not agree. All empty: the books are right.

    Attributes:
        lost: answers that were read to their end and have no row.
        doubled: rows that are there more than once, and rows of requests that nobody sent.
        wrong: rows that say something else than the client.
        leaked: what somebody saw of somebody else.
        other: records, counters, mails and the like that disagree.
    """

    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    leaked: list[str] = field(default_factory=list[str])
    other: list[str] = field(default_factory=list[str])

    def add(self, more: "Findings") -> None:
        """Take over what another look has found."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(more, name))

    def __str__(self) -> str:
        """All kinds, with the first few of each."""
        lines: list[str] = []
        for name in self.__slots__:
            found: list[str] = getattr(self, name)
            lines += [f"{name}: {len(found)}", *(f"  {each}" for each in found[:_SHOWN])]
        return "\n".join(lines)

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return any(getattr(self, name) for name in self.__slots__)


def compare_rows(
    seen: Sequence[Seen],
    rows: Sequence[Mapping[str, Any]],
    *,
    dropped: int = 0,
    disk_was_full: Sequence[tuple[float, float]] = (),
) -> Findings:
    """Compare what clients saw with the log.

    Args:
        seen: all requests that were sent.
        rows: all rows, with `person` beside the fields of a log row.
        dropped: rows that the proxies counted as dropped, because the disk was full.
        disk_was_full: when, from and to; only what was answered then may be among the dropped.
    """
    found = Findings()
    counts = Counter(row["id"] for row in rows)
    found.doubled += [f"{id_} has {count} rows" for id_, count in counts.items() if count > 1]
    by_id = {row["id"]: row for row in rows}
    missing: list[Seen] = []
    for each in seen:
        if each.code == DEFECT:
            found.wrong.append(f"{each.id}: answered 500 {DEFECT}")
        if each.hung:
            found.wrong.append(f"a request of {each.person} was never answered")
        if each.whole and each.expected.refusal and each.code is None:
            found.wrong.append(f"{each.id}: {each.status}, not {each.expected.refusal}")
        row = by_id.get(each.id) if each.id else None
        if row is not None:
            found.wrong += [f"{each.id}: {what}" for what in disagreements(each, row)]
        elif must_have_row(each):
            missing.append(each)
    excused = [each for each in missing if within(each, disk_was_full)]
    found.lost += [f"{each.id} ({each.status})" for each in missing if each not in excused]
    found.lost += [f"{each.id} ({each.status}), not dropped" for each in excused[dropped:]]
    found.doubled += _rows_of_nobody(seen, rows)
    return found


def must_have_row(seen: Seen) -> bool:
    """Whether a row of this has to be there."""
    return seen.whole and seen.is_forwarded


def disagreements(seen: Seen, row: Mapping[str, Any]) -> list[str]:
    """What a row says that its client does not."""
    if seen.code in WITHOUT_ROW:
        return [f"there is a row of an answer {seen.code}"]
    said: dict[str, object] = {"person": seen.person, "mode": seen.mode}
    # the label that each of them gives is their own
    said["requester"] = seen.person.partition("@")[0]
    said["provider"] = seen.expected.provider
    if seen.whole:
        said |= {"status": seen.status, "cached": seen.cache == "HIT"}
    if seen.whole and not (seen.expected.is_broken and seen.code is None):
        said["outcome"] = outcome_of(seen)
        tokens, cost = _use_of(seen)
        said |= {
            "input_tokens": tokens.input,
            "output_tokens": tokens.output,
            "total_tokens": tokens.total,
            "cache_read_tokens": tokens.cache_read,
            "reasoning_tokens": tokens.reasoning,
            "cost_usd": cost,
        }
    recorded = dict(row)
    for name in ("cache_read_tokens", "reasoning_tokens"):
        recorded[name] = recorded[name] or 0
    return [
        f"{name} is {recorded[name]!r}, not {value!r}"
        for name, value in said.items()
        if recorded[name] != value
    ]


def outcome_of(seen: Seen) -> str:
    """How the row of an answer that was read to its end has to say that it ended."""
    if seen.code is not None:
        return OUTCOMES.get(seen.code, "refused")
    return "ok" if (seen.status or _ERROR) < _ERROR else "provider_error"


def _use_of(seen: Seen) -> tuple[Tokens, Decimal | None]:
    if seen.cache == "HIT":
        return NOTHING, Decimal(0)
    if seen.code is not None or (seen.status or _ERROR) >= _ERROR:
        return UNREPORTED, None
    return seen.expected.tokens, seen.expected.cost


def within(seen: Seen, windows: Sequence[tuple[float, float]]) -> bool:
    """Whether a request was under way in any of these times."""
    return any(seen.began <= end and seen.ended >= begin for begin, end in windows)


def without_row(seen: Sequence[Seen], rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many requests of each person have none."""
    ids = {row["id"] for row in rows}
    return Counter(each.person for each in seen if each.id not in ids)


def _rows_of_nobody(seen: Sequence[Seen], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows whose id no client has read: there are as many requests without an answer, or more."""
    known = {each.id for each in seen}
    unanswered = Counter(each.person for each in seen if each.id is None)
    strange = Counter(row["person"] for row in rows if row["id"] not in known)
    return [
        f"{person} has {count} rows of {unanswered[person]} requests without an answer"
        for person, count in strange.items()
        if count > unanswered[person]
    ]


# ---- records ------------------------------------------------------------------------------------


def compare_records(
    of_rows: Iterable[Sequence[Any]], recorded: Iterable[Sequence[Any]], what: str
) -> Findings:
    """Compare sums of rows with the records that are kept of them, group by group."""
    left, right = set(map(tuple, of_rows)), set(map(tuple, recorded))
    found = Findings()
    found.other += [f"{what}: rows say {each}" for each in sorted(left - right, key=str)]
    found.other += [f"{what}: records say {each}" for each in sorted(right - left, key=str)]
    return found


def compare_providers(
    seen: Sequence[Seen], arrived: Mapping[str, int], rows: Sequence[Mapping[str, Any]]
) -> tuple[int, Findings]:
    """Compare what providers got in somebody's name with that person's rows.

    A provider never got less. It may have got more: requests without a row, because their proxy was
    killed under them, or the disk was full. Returns how many it got more, too.
    """
    found, killed = Findings(), 0
    unseen = without_row(seen, rows)
    answered = Counter(
        row["person"] for row in rows if row["outcome"] == "ok" and not row["cached"]
    )
    every = Counter(
        row["person"] for row in rows if row["outcome"] != "refused" and not row["cached"]
    )
    for person in arrived.keys() | answered.keys():
        got, least, most = arrived.get(person, 0), answered[person], every[person] + unseen[person]
        if not least <= got <= most:
            found.other.append(f"providers got {got} requests of {person}, not {least} to {most}")
        killed += max(0, got - every[person])
    return killed, found
