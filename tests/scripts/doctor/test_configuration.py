import pytest

from scripts.doctor.configuration import check_settings


def test_the_defaults_are_fine(settings, findings):
    assert findings(check_settings(settings)) == []
    [result] = check_settings(settings)
    assert "eu-west-1" in result.message


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"origins": {"openai": "http://10.0.0.9"}}, "keys for openai go to 10.0.0.9 unencrypted"),
        ({"proxy_url": "http://llm.example.com"}, "clients send their tokens"),
        ({"anonymous_pass_through": True}, "can use it as a relay"),
        ({"origins": {"openai": "http://127.0.0.1:9000"}, "proxy_url": "https://a.example"}, None),
    ],
    ids=["origin", "proxy", "relay", "harmless"],
)
def test_what_works_and_is_not_safe(settings, findings, changes, found):
    said = findings(check_settings(settings.model_copy(update=changes)))
    assert len(said) == bool(found)
    assert not found or found in said[0]


def test_an_env_file_that_others_can_read(settings, findings, tmp_path):
    env = tmp_path / ".env"
    env.write_text("METRION_REGION=eu-west-1\n")
    env.chmod(0o600)
    assert findings(check_settings(settings)) == []
    env.chmod(0o640)
    assert findings(check_settings(settings)) == [
        f"others can read {env}, where passwords and keys may be"
    ]
