import re

from scripts.proof.fuzzing.callers import PROVIDERS, new_account
from scripts.proof.fuzzing.mangling import numbered


def test_keys_have_their_providers_form_and_are_all_different():
    one, other = new_account(), new_account()
    for name, provider in PROVIDERS.items():
        assert re.fullmatch(provider.key_pattern, one.keys[name]), name
    assert len({*one.keys.values(), *other.keys.values()}) == 2 * len(PROVIDERS)


def test_most_tokens_are_good_and_all_are_secret(callers):
    random = numbered(1, "tokens", 1)
    tokens = [callers.token(random).decode() for _ in range(300)]
    good = callers.admitted[0].token
    assert 200 < tokens.count(good) < 300
    assert set(tokens) == {good, *callers.refused}
    assert {token.encode() for token in tokens} < set(callers.secrets)
    assert good not in repr(callers)
