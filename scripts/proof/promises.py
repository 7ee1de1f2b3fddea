"""Beside the books: limits, stored answers and mails, and whether they were kept as promised.

As in `scripts.proof.books`, nothing here speaks to anybody.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scripts.proof.books import Findings, Seen, within, without_row

# ---- limits -------------------------------------------------------------------------------------


def compare_allowance(used: Mapping[str, int], counted: Mapping[str, int]) -> Findings:
    """Compare what accounts have used of their month by their rows with what limits go by."""
    found = Findings()
    for person in used.keys() | counted.keys():
        if used.get(person, 0) != counted.get(person, 0):
            found.other.append(
                f"{person} has used {used.get(person, 0)} of the month, "
                f"counted are {counted.get(person, 0)}"
            )
    return found


def over_limit(
    seen: Sequence[Seen],
    limit: int,
    *,
    uncertain: Sequence[tuple[float, float]] = (),
    processes: int = 1,
) -> Findings:
    """Find who was let through more often than the month allows.

    Args:
        seen: requests of accounts with a monthly cap.
        limit: the cap.
        uncertain: when the shared count was away, or whoever counted was new.
        processes: each counts by itself then, so that the cap may be passed as many times.
    """
    found = Findings()
    passed: dict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        if each.is_forwarded:
            passed[each.person].append(each)
    for person, requests in passed.items():
        slack = sum(within(each, uncertain) for each in requests)
        if len(requests) > min(limit + slack, limit * processes):
            found.other.append(f"{person}: {len(requests)} passed, {limit} may, and {slack} more")
    return found


def compare_count(
    seen: Sequence[Seen],
    rows: Sequence[Mapping[str, Any]],
    used: Mapping[str, int],
    counted: Mapping[str, int],
    uncertain: Sequence[tuple[float, float]],
) -> Findings:
    """Compare what accounts have used of their month by their rows with what the proxies counted.

    Counted may be more: requests without a row, because their proxy was killed before, or the disk
    was full. It may be less: requests that passed while the shared count was away. And a count that
    has lost its memory hears of a person when that person's next request passes, if one does.
    """
    found, no_row = Findings(), without_row(seen, rows)
    last = max((end for _, end in uncertain), default=0.0)
    for person, count in counted.items():
        own = [each for each in seen if each.person == person]
        more = no_row[person]
        less = sum(within(each, uncertain) for each in own)
        if uncertain and not any(each.is_forwarded and each.began > last for each in own):
            less = used[person]
        if not used[person] - less <= count <= used[person] + more:
            found.other.append(
                f"{person} has used {used[person]} of the month, the proxies counted {count} "
                f"(at most {more} more and {less} less can be explained)"
            )
    return found


def over_rate(
    seen: Sequence[Seen],
    rate: int,
    window: float,
    *,
    uncertain: Sequence[tuple[float, float]] = (),
    processes: int = 1,
    forgetful: Sequence[float] = (),
) -> Findings:
    """Find who was let through more often than the rate, in any window that can be judged.

    A request passed somewhere between its beginning and its end: only those that did so wholly
    within a window count.

    Args:
        seen: all requests.
        rate: how many may pass in a window.
        window: seconds.
        uncertain: when the shared count was away. In windows that touch such a time, each process
            counts alone.
        processes: so many.
        forgetful: when a process began anew, or its clock leapt: it is one more then.
    """
    found = Findings()
    passed: dict[str, list[Seen]] = defaultdict(list)
    for each in seen:
        if each.is_forwarded and each.ended - each.began < window:
            passed[each.person].append(each)
    for person, requests in passed.items():
        requests.sort(key=lambda each: each.ended)
        for first in range(len(requests) - rate):
            group = requests[first : first + rate + 1]
            begin, end = min(each.began for each in group), group[-1].ended
            if end - begin >= window:
                continue
            most = rate
            if any(begin - window <= b and a <= end for a, b in uncertain):
                alone = sum(begin - window <= at <= begin + window for at in forgetful)
                most = rate * (processes + alone)
            if not _fits(requests, first, most, window):
                found.other.append(f"{person}: more than {most} within {window:.0f} s")
                break
    return found


def _fits(requests: Sequence[Seen], first: int, most: int, window: float) -> bool:
    """Whether of the requests from the first on no more than `most` lie in one window."""
    group = requests[first : first + most + 1]
    return len(group) <= most or group[-1].ended - min(each.began for each in group) >= window


# ---- stored answers -----------------------------------------------------------------------------


def compare_cache(seen: Sequence[Seen], asked: Mapping[int, str]) -> Findings:
    """Look at answers that may have been stored: one text each, and only for one person.

    Args:
        seen: all requests; those with a number are looked at.
        asked: the provider's number of an answer → in whose name it was asked for.
    """
    found = Findings()
    texts: dict[int, bytes] = {}
    for each in seen:
        if each.number is None or not each.whole:
            continue
        owner = asked.get(each.number)
        if owner != each.person:
            found.leaked.append(f"{each.person} got answer {each.number}, which is {owner}'s")
        if texts.setdefault(each.number, each.digest) != each.digest:
            found.wrong.append(f"answer {each.number} was given again with another text")
    return found


# ---- mails --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that the mail server took."""

    id: str
    to: str
    subject: str
    at: float


@dataclass(frozen=True, slots=True)
class MailCounts:
    """What became of mails.

    Attributes:
        decided: mails that were decided on.
        taken: mails that the server took.
        again: of them, those that it took once more, because whoever handed them over, or the
            database, was killed before that was noted: the one case in which this may be.
    """

    decided: int
    taken: int
    again: int


def compare_mails(
    decided: Iterable[str], mails: Sequence[Mail], kills: Sequence[float], lease: float
) -> tuple[MailCounts, Findings]:
    """Compare decisions with mails: each arrives, once.

    Args:
        decided: ids of mails that were decided on.
        mails: those that the server took.
        kills: when the jobs process or the database was killed.
        lease: for how many seconds a mail that was not seen to be taken is left alone.
    """
    found, wanted = Findings(), set(decided)
    taken: dict[str, list[Mail]] = defaultdict(list)
    for mail in mails:
        taken[mail.id].append(mail)
    found.lost += [f"mail {each}" for each in sorted(wanted - taken.keys())]
    found.doubled += [f"mail {each} was never decided on" for each in taken.keys() - wanted]
    again = 0
    for each, copies in taken.items():
        copies.sort(key=lambda mail: mail.at)
        for first, second in pairwise(copies):
            # its end is noted within moments: a kill later than the lease is no excuse
            if any(first.at - 1 <= kill <= first.at + lease for kill in kills):
                again += 1
            else:
                found.doubled.append(f"mail {each}, {second.at - first.at:.1f} s later")
    return MailCounts(len(wanted), len(mails), again), found
