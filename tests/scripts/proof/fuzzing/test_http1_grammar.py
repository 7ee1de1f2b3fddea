from scripts.fake_provider.wire import RequestReader
from scripts.proof.fuzzing.http1_grammar import KINDS, ROUTES, http1_input, valid_parts
from scripts.proof.fuzzing.mangling import numbered


def test_each_kind_comes_and_can_be_made_again(callers):
    kinds = [http1_input(3, number, callers)[0] for number in range(len(KINDS))]
    assert set(kinds) == set(KINDS)
    assert http1_input(3, 17, callers)[1] == http1_input(3, 17, callers)[1]
    assert http1_input(4, 17, callers)[1] != http1_input(3, 17, callers)[1]


def test_valid_ones_are_valid(callers):
    for number in range(100):
        reader = RequestReader()
        reader.feed(valid_parts(numbered(1, "valid", number), callers).joined())
        assert reader.next_request() is not None
        assert not reader.buffered


def test_every_route_is_asked():
    assert {route.provider.name for route in ROUTES} >= {"openai", "gemini"}
    assert all(b"{" not in route.path for route in ROUTES)
