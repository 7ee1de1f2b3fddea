import json

from scripts.proof.fuzzing.answer_grammar import BODIES, EVENTS, answer_input, said_input, valid
from scripts.proof.fuzzing.mangling import numbered


def test_valid_ones_are_valid():
    random = numbered(1, "valid", 1)
    for flavour in BODIES:
        assert json.loads(valid(random, flavour, streamed=False)) == BODIES[flavour]
    for flavour in EVENTS:
        assert valid(random, flavour, streamed=True).count(b"data: ") == len(EVENTS[flavour])


def test_they_can_be_made_again():
    made = [answer_input(1, number, "openai.chat", streamed=True)[0] for number in range(60)]
    assert len(set(made)) > 50
    assert answer_input(1, 9, "openai.chat", streamed=True)[0] == made[9]
    assert said_input(1, 9)[0] == said_input(1, 9)[0]
    assert {said_input(1, number)[0].content_encoding for number in range(400)} > {"", "gzip"}
