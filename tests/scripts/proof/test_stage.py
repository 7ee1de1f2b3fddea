"""Who takes part."""

from dataclasses import dataclass

from scripts.fake_provider import FakeProvider
from scripts.proof import stage
from storage.journal import Journal, look_at

NAMES = ["openai", "anthropic", "gemini", "mistral", "grok"]


@dataclass
class Account:
    email: str
    token: str
    keys: dict[str, str]


def test_everybody_has_keys_of_their_own():
    plans: list[str] = []

    def create(plan: str) -> Account:
        plans.append(plan)
        number = len(plans)
        keys = {name: f"sk-{number}-{name}" for name in NAMES}
        return Account(f"{number}@example.com", f"token {number}", keys)

    cast = stage.gather(create, NAMES)
    assert plans.count("free") == len(cast.capped)
    assert {person.mode for person in cast.people} == {"stored", "pass-through"}
    assert len(cast.owners) == len(cast.people) * len(NAMES)
    assert set(cast.owners.values()) == {person.email for person in cast.people}
    assert cast.changing.mode == "stored"


def test_origins_by_name_and_by_number():
    with FakeProvider() as steady, FakeProvider() as fragile:
        found = stage.origins(steady, fragile, NAMES)
    ports = {name: origin.rpartition(":")[2] for name, origin in found.items()}
    assert ports["openai"] == ports["gemini"] != ports["mistral"] == ports["grok"]
    assert {name for name, origin in found.items() if "localhost" in origin} == set(stage.BY_NAME)


def test_a_journal_with_rows_in_it_is_not_done(tmp_path):
    assert stage.journal_is_done(tmp_path, look_at)
    journal = Journal(tmp_path / "journal")
    journal.append(b"row")
    assert not stage.journal_is_done(tmp_path, look_at)
    batch = journal.read(10)
    assert batch is not None
    journal.acknowledge(batch)
    assert stage.journal_is_done(tmp_path, look_at)
    journal.close()
