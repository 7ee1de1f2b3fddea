"""The faults that somebody can plant in a database, one by one."""

import pytest

from scripts.doctor import database as doctor_database
from scripts.doctor.database import check_rights, check_server
from scripts.doctor.result import Status
from storage import roles
from storage.database_url import service_url
from storage.diagnostics import open_diagnosis


def test_a_fresh_database_is_fine(settings, diagnosis, person, findings):
    results = [*check_server(settings, diagnosis), *check_rights(settings, diagnosis)]
    assert findings(results) == []
    assert [result.check for result in results if result.status is Status.OK] == [
        *("database", "schema", "clock", "rights"),
        *("attempts" for _ in roles.LOGIN_ROLES),
    ]


def test_an_older_schema(settings, diagnosis, administrator, findings):
    administrator.execute("UPDATE metrion.alembic_version SET version_num = 'r0001'")
    [said] = findings(check_server(settings, diagnosis))
    assert said.startswith("at revision r0001, this Metrion needs r0")


@pytest.mark.parametrize("seconds", [-3.5, 60.0])
def test_a_clock_that_is_wrong(settings, diagnosis, findings, monkeypatch, seconds):
    monkeypatch.setattr(type(diagnosis), "clock_difference", lambda _: seconds)
    assert findings(check_server(settings, diagnosis)) == [
        f"the database's is {seconds:+.1f} s from this machine's"
    ]


def test_a_database_far_away_without_encryption(settings, diagnosis, findings, monkeypatch):
    far = doctor_database.Diagnosis.server.fget(diagnosis)
    far = type(far)(
        far.version, is_encrypted=False, address="8.8.8.8", sees_all=True, is_service=None
    )
    monkeypatch.setattr(type(diagnosis), "server", far)
    assert findings(check_server(settings, diagnosis)) == [
        "the connection to PostgreSQL at 8.8.8.8 is not encrypted"
    ]


PLANTED = {
    "a table without a policy": (
        "DROP POLICY account ON metrion.sessions",
        "has no policy of its account: sessions (metrion_api)",
    ),
    "a table without row-level security": (
        "SET ROLE metrion_owner; CREATE TABLE metrion.notes (account_id uuid); RESET ROLE",
        "not forced under row-level security: notes",
    ),
    "security that does not bind the owner": (
        "ALTER TABLE metrion.tokens NO FORCE ROW LEVEL SECURITY",
        "not forced under row-level security: tokens",
    ),
    "a table that a service owns": (
        "CREATE TABLE public.mine (); ALTER TABLE public.mine OWNER TO metrion_api",
        "a service role owns something: metrion_api owns table mine",
    ),
    "a schema to put things in": (
        "GRANT CREATE ON SCHEMA metrion TO metrion_jobs",
        "can make objects of its own: metrion_jobs in metrion",
    ),
    "sealed keys to read": (
        "GRANT SELECT (sealed) ON metrion.provider_keys TO metrion_api",
        "can read sealed values: provider_keys.sealed (metrion_api)",
    ),
    "a view": (
        "CREATE VIEW metrion.everything AS SELECT * FROM metrion.accounts",
        "past their policies: everything",
    ),
    "a function for everybody": (
        "GRANT EXECUTE ON FUNCTION metrion.list_accounts(integer) TO PUBLIC",
        "called by everybody, or led astray: metrion.list_accounts(integer)",
    ),
    "a policy for all accounts": (
        "CREATE POLICY support ON metrion.provider_keys FOR SELECT TO metrion_api USING (true)",
        "not about its account: provider_keys.support",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault(settings, diagnosis, administrator, findings, monkeypatch, fault):
    statement, words = PLANTED[fault]
    administrator.execute(statement)
    monkeypatch.setattr(
        doctor_database, "tried", lambda *_: (0, [])
    )  # who logs in sees nothing yet
    said = findings(check_rights(settings, diagnosis))
    assert any(words in line for line in said), said


def test_what_is_reached_is_told(settings, diagnosis, findings, monkeypatch):
    reached = [f"metrion_api read a row of table{number}" for number in range(9)]
    monkeypatch.setattr(doctor_database, "tried", lambda *_: (9, reached))
    said = findings(check_rights(settings, diagnosis))
    assert len(said) == len(roles.LOGIN_ROLES)
    assert said[0].startswith("metrion_api read a row of table0; ")


def test_as_a_service_role_it_says_that_it_cannot_look(settings, findings):
    url = service_url(settings, roles.API)
    with open_diagnosis(url) as opened:
        [result] = check_rights(settings, opened)
    assert result.status is Status.SKIPPED
    assert "metrion_api" in result.message


def test_without_its_password_a_role_is_not_tried(settings, diagnosis, findings):
    (settings.data_dir / "roles").unlink()
    results = list(check_rights(settings, diagnosis))
    assert findings(results) == []
    assert sum(result.status is Status.SKIPPED for result in results) == len(roles.LOGIN_ROLES)
