"""Who takes part in a proof: accounts of all kinds on a running deployment, and their traffic."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from scripts.fake_provider import FakeProvider
from scripts.proof.traffic import Person

FRAGILE: Final = ("mistral", "grok")
"""Providers who are gone now and then; the others are there all the time."""
BY_NAME: Final = ("gemini", "mistral")
"""Providers who are found by a name, so that it may take long to find them."""


class Account(Protocol):
    """An account as tests make them."""

    email: str
    token: str
    keys: dict[str, str]


@dataclass(frozen=True)
class Cast:
    """Everybody.

    Attributes:
        people: who calls.
        owners: provider key → whose it is.
        capped: those whose month has an end.
        changing: the one who gets a new token now and then.
    """

    people: Sequence[Person]
    owners: Mapping[str, str]
    capped: Sequence[Person]
    changing: Person


def origins(steady: FakeProvider, fragile: FakeProvider, names: Sequence[str]) -> dict[str, str]:
    """Where each provider is."""
    found = {name: (fragile if name in FRAGILE else steady).origin for name in names}
    return {
        name: origin.replace("127.0.0.1", "localhost") if name in BY_NAME else origin
        for name, origin in found.items()
    }


def gather(create_account: Callable[[str], Account], names: Sequence[str]) -> Cast:
    """Make accounts: in both modes, on both plans, one who asks too often.

    Args:
        create_account: makes one on a plan, with a key for each provider.
        names: of all providers.
    """
    people: list[Person] = []
    owners: dict[str, str] = {}

    def add(plan: str, weight: float, *, own: bool = False) -> Person:
        account = create_account(plan)
        number = len(people)
        own_keys = {name: f"sk-OWN-{number:04d}-{name}-{'y' * 20}" for name in names}
        person = Person(account.email, account.token, own_keys if own else None, weight)
        owners.update(dict.fromkeys((own_keys if own else account.keys).values(), account.email))
        people.append(person)
        return person

    for own in (False, False, False, True, True):
        add("pro", 1.0, own=own)
    changing = add("pro", 0.7)
    add("pro", 4.0)  # too often, if there is a rate
    capped = [add("free", 0.5), add("free", 0.1, own=True)]
    return Cast(people, owners, capped, changing)


def journal_is_done(data_dir: Path, waiting: Callable[[Path], tuple[bool, int]]) -> bool:
    """Whether no segment of a deployment's journal has rows in it.

    Args:
        data_dir: the deployment's.
        waiting: `storage.journal.look_at`.
    """
    try:
        return all(waiting(path)[1] == 0 for path in (data_dir / "journal").glob("*.journal"))
    except FileNotFoundError:
        return False  # one was removed just now: look again
