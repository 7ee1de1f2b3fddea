from pydantic import SecretStr

from scripts.doctor import examination
from scripts.doctor.examination import examine
from scripts.doctor.result import Status
from storage.errors import NotFound


def test_every_check_is_made_once(settings, deployed, administrator):
    checks = [result.check for result in examine(settings)]
    assert list(dict.fromkeys(checks)) == [
        *("settings", "files", "database", "schema", "clock", "rights", "attempts", "sealing"),
        *("columns", "jobs", "logs", "processes", "journal", "mail", "stripe", "valkey", "disk"),
    ]


def test_without_a_database_the_rest_is_looked_at(settings):
    away = settings.model_copy(update={"database_url": SecretStr("postgresql://127.0.0.1:1/x")})
    results = {result.check: result for result in examine(away)}
    assert results["database"].status is Status.FINDING
    assert results["rights"].status is Status.SKIPPED
    assert results["logs"].status is Status.OK


def test_a_check_that_fails_hides_no_other_and_repeats_no_words(settings, findings, monkeypatch):
    def fail(_: object) -> list[object]:
        raise ValueError("SECRET")

    def stop(_: object) -> list[object]:
        raise NotFound("a sentence")

    monkeypatch.setattr(examination, "check_disk", fail)
    monkeypatch.setattr(examination, "check_valkey", stop)
    monkeypatch.setattr(examination, "_about_the_database", lambda *_: [])
    assert [said for said in findings(examine(settings)) if "SECRET" in said] == []
    assert findings(examine(settings))[-2:] == [
        "it could not be looked at: a sentence",
        "it could not be looked at: ValueError",
    ]
