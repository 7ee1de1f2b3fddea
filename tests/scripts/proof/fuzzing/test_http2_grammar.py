import h2.config
import h2.connection
import h2.events

from scripts.proof.fuzzing.http2_grammar import KINDS, PREFACE, Talk, frame, http2_input
from scripts.proof.fuzzing.mangling import numbered


def test_valid_ones_are_requests(callers):
    talk = Talk(numbered(1, "talk", 1), callers)
    KINDS["valid"](talk)
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    events = server.receive_data(PREFACE + frame(4, 0, 0) + b"".join(talk.frames))
    assert any(isinstance(event, h2.events.RequestReceived) for event in events)
    assert any(isinstance(event, h2.events.StreamEnded) for event in events)


def test_each_kind_comes_and_can_be_made_again(callers):
    made = [http2_input(1, number, callers) for number in range(32)]
    assert {each.kind for each in made} > set(KINDS)
    assert not all(each.comes_to_an_end for each in made)
    again = http2_input(1, 5, callers)
    assert b"".join(again.pieces) == b"".join(made[5].pieces)
