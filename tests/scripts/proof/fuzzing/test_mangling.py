import pytest

from scripts.proof.fuzzing.mangling import cut, mangle, numbered

DATA = b"POST / HTTP/1.1\r\nhost: a\r\n\r\n"


def test_the_same_numbers_make_the_same_input():
    def make(*which):
        return mangle(numbered(*which), DATA)

    assert make(1, "a", 2) == make(1, "a", 2)
    made = {make(1, "a", number) for number in range(200)}
    assert len(made) > 150
    assert make(1, "a", 2) != make(2, "a", 2)
    assert mangle(numbered(1, "empty", 1), b"") is not None


@pytest.mark.parametrize("most", [1, 2, 7])
def test_pieces_are_the_whole(most):
    for number in range(50):
        pieces = cut(numbered(1, "cut", number), DATA, most)
        assert b"".join(pieces) == DATA
        assert 1 <= len(pieces) <= most
        assert all(pieces)
    assert cut(numbered(1, "cut", 1), b"", most) == []
