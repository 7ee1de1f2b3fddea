import json

from scripts.proof.fuzzing.json_grammar import ENDPOINTS, json_input


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def test_some_are_json_and_some_are_nearly():
    made = [json_input(1, number) for number in range(300)]
    good = sum(is_json(body.data) for body in made)
    assert 60 < good < 290
    assert {(body.provider.name, body.endpoint.name) for body in made} == {
        (provider.name, endpoint.name) for provider, endpoint in ENDPOINTS
    }
    assert json_input(1, 7).data == made[7].data
