import pytest

from scripts.demo_data import main, models


def test_models_are_as_many_as_wanted_and_have_long_names():
    assert len(set(models(40))) == 40
    assert models(2) == models(40)[:2]
    assert max(len(name) for _, name in models(12)) > 70


def test_without_an_account_it_says_so(database, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRION_DATABASE_URL", database.administrator_url.get_secret_value())
        data_dir = str(database.settings.data_dir)
        assert main(["nobody@example.com", "--data-dir", data_dir, "--days", "1"]) == 1
    assert "nobody@example.com" in capsys.readouterr().err
