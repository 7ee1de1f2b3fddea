import pytest

from scripts.settings_table import README, main, settings_table, with_table
from storage.settings import Settings


def test_the_readmes_table_is_the_settings():
    text = README.read_text()
    assert with_table(text) == text, "run: python -m scripts.settings_table"


def test_every_setting_says_what_it_is():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    table = settings_table()
    for name in Settings.model_fields:
        assert f"| `METRION_{name.upper()}` |" in table
    assert "| `METRION_RATE_PER_MINUTE` | 100 |" in table
    assert "| `METRION_TIMEOUT_SECONDS` | 30 |" in table
    assert "| `METRION_ANONYMOUS_PASS_THROUGH` | false |" in table


def test_it_is_written_where_it_belongs(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text(README.read_text().replace("METRION_RATE_PER_MINUTE` | 100", "old"))
    monkeypatch.setattr("scripts.settings_table.README", path)
    assert main() == 0
    assert path.read_text() == README.read_text()


def test_without_a_place_nothing_is_written():
    with pytest.raises(ValueError, match="no place for the table"):
        with_table("# Another README")
