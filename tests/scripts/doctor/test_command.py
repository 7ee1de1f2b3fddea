"""The command as a shell sees it; what the checks find is tested with them."""

import json
import sys

import pytest

from scripts import cli
from scripts.doctor import command
from scripts.doctor.result import finding, ok, skipped

RESULTS = [ok("disk", "there is room"), skipped("mail", "none"), finding("files", "open", "close")]


@pytest.fixture
def doctor(settings, monkeypatch, capsys):
    monkeypatch.setenv("METRION_DATA_DIR", str(settings.data_dir))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["metrion", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def test_a_finding_is_told_with_what_to_do_and_the_status_is_1(doctor, monkeypatch):
    monkeypatch.setattr(command, "examine", lambda *_: iter(RESULTS))
    assert doctor() == (
        1,
        (
            "ok       disk       there is room\n"
            "-        mail       none\n"
            "FINDING  files      open\n"
            "                    → close\n"
            "1 findings\n"
        ),
    )


def test_nothing_found_is_status_0(doctor, monkeypatch):
    monkeypatch.setattr(command, "examine", lambda *_: iter(RESULTS[:2]))
    assert doctor()[0] == 0
    assert doctor()[1].endswith("nothing found\n")


def test_json_is_a_list_of_results(doctor, monkeypatch):
    monkeypatch.setattr(command, "examine", lambda *_: iter(RESULTS))
    status, said = doctor("--json")
    assert status == 1
    assert json.loads(said)[2] == {
        "check": "files",
        "status": "finding",
        "message": "open",
        "advice": "close",
    }


def test_settings_that_do_not_load_are_a_finding(doctor, monkeypatch):
    monkeypatch.setenv("METRION_RATE", "1")
    status, said = doctor("--json")
    [only] = json.loads(said)
    assert (status, only["check"], only["status"]) == (1, "settings", "finding")
    assert "METRION_RATE" in only["message"]


def test_more_places_to_search_are_passed_on(doctor, monkeypatch, tmp_path):
    asked: list[list[str]] = []
    monkeypatch.setattr(
        command, "examine", lambda _, more: asked.append([str(path) for path in more]) or []
    )
    doctor("--search", "/var/log/a", "--search", "/var/log/b")
    assert asked == [["/var/log/a", "/var/log/b"]]


def test_an_erasure_is_looked_for_instead(doctor, monkeypatch):
    async def check(settings: object, subject: str, more: list[object]) -> list[object]:
        return [ok("erasure", f"nothing is left of {subject}")]

    monkeypatch.setattr(command, "check_erasure", check)
    status, said = doctor("--erased", "ada@example.org")
    assert (status, "nothing is left of ada@example.org" in said) == (0, True)
