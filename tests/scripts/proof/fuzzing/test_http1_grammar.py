from scripts.proof.fuzzing.http1_grammar import KINDS, http1_input


def test_each_kind_comes_and_can_be_made_again(callers):
    kinds = [http1_input(3, number, callers)[0] for number in range(len(KINDS))]
    assert set(kinds) == set(KINDS)
    assert http1_input(3, 17, callers)[1] == http1_input(3, 17, callers)[1]
    assert http1_input(4, 17, callers)[1] != http1_input(3, 17, callers)[1]
