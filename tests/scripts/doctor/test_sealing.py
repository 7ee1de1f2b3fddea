from scripts.doctor.result import Status
from scripts.doctor.sealing import check_sealing
from storage import master_key_file, roles
from storage.database_url import service_url
from storage.diagnostics import open_diagnosis


def test_all_sealed_and_open(settings, diagnosis, person, findings):
    secrets: set[bytes] = set()
    results = list(check_sealing(settings, diagnosis, secrets))
    assert findings(results) == []
    assert results[0].message.startswith("2 sealed values, all under key 1, 2 opened")
    assert secrets == {person.token.encode(), person.key.encode()}
    assert person.key not in str(results)


def test_a_key_in_clear(settings, diagnosis, person, administrator, findings):
    administrator.execute("UPDATE metrion.provider_keys SET sealed = %s", [person.key.encode()])
    said = findings(check_sealing(settings, diagnosis, set()))
    assert "1 values of provider_keys.sealed are not sealed" in said
    assert person.key not in str(said)


def test_a_value_of_another_row(settings, diagnosis, person, administrator, findings):
    administrator.execute(
        "UPDATE metrion.provider_keys SET sealed = (SELECT sealed FROM metrion.tokens)"
    )
    assert findings(check_sealing(settings, diagnosis, set())) == [
        "1 values of provider_keys.sealed do not open"
    ]


def test_values_under_an_old_key(settings, diagnosis, person, findings):
    master_key_file.add_key(settings.master_key_path)
    assert findings(check_sealing(settings, diagnosis, set())) == [
        "values are sealed under old master keys: 2 under key 1"
    ]


def test_without_master_keys(settings, diagnosis, person, findings):
    settings.master_key_path.unlink()
    [said] = findings(check_sealing(settings, diagnosis, set()))
    assert said.startswith("there is no master key at ")


def test_as_a_service_role_it_says_that_it_cannot_look(settings):
    with open_diagnosis(service_url(settings, roles.API)) as opened:
        [result] = check_sealing(settings, opened, set())
    assert result.status is Status.SKIPPED
