import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from storage.identifiers import uuid7


def test_is_a_version_7_identifier_of_this_moment():
    before = time.time_ns() // 1_000_000
    identifier = uuid7()
    after = time.time_ns() // 1_000_000
    assert (identifier.version, identifier.variant) == (7, uuid.RFC_4122)
    assert before <= identifier.int >> 80 <= after


@given(st.floats(min_value=0, max_value=2**47 / 1000))
def test_holds_any_time(now: float):
    identifier = uuid7(now)
    assert (identifier.version, identifier.variant) == (7, uuid.RFC_4122)
    assert identifier.int >> 80 == round(now * 1_000_000_000) // 1_000_000


def test_sorts_within_a_millisecond():
    moments = [1_700_000_000 + step * 1e-6 for step in range(1000)]
    identifiers = [uuid7(moment) for moment in moments]
    assert identifiers == sorted(identifiers)


def test_two_of_the_same_moment_differ():
    assert len({uuid7(1.0) for _ in range(1000)}) == 1000
