"""Tables for a person."""

from scripts.benchmarks.report import request_table, row_lines
from scripts.benchmarks.requests import Figures
from scripts.benchmarks.rows import RowFigures


def test_a_table_has_ratios_and_what_is_added():
    figures = {
        "direct": Figures(100, 0, 3000, 0.2, 10),
        "mitmdump": Figures(2000, 0, 300, 3.2, 10),
        "metrion": Figures(800, 60, 900, 1.45, 10),
    }
    lines = request_table("JSON, 1 connection", figures).splitlines()
    assert lines[0].split()[:3] == ["JSON,", "1", "connection"]
    assert lines[1].split() == ["direct", "100", "0.05", "3,000", "0.20"]
    assert lines[3].split() == ["metrion", "800", "0.40", "60", "900", "1.45", "(+1.25)"]


def test_rows_are_told_in_words():
    said = row_lines(RowFigures(100_000, 12.34, 5, 20_000, 40, 44))
    assert "12.3 µs" in said
    assert "100,000 rows that waited: 5.0 s, 20,000 rows/s" in said
