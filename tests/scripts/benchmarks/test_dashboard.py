from scripts.benchmarks.dashboard import PageFigures, measure_dashboard, page_table


def test_every_page_is_measured_in_a_database_of_its_own(tmp_path):
    figures = measure_dashboard(tmp_path, rows=300, model_count=2, rounds=1)
    names = [each.name for each in figures]
    assert {"overview, 90d", "costs, 24h, a provider", "logs, page 1,000"} <= set(names)
    assert len(names) == len(set(names)) == 6 * 4 * 5 + 1
    assert all(0 < each.p50_ms <= each.p95_ms for each in figures)


def test_a_line_for_each():
    table = page_table([PageFigures("overview, 90d", 12.34, 56.78)])
    assert table.splitlines()[1].split() == ["overview,", "90d", "12.3", "56.8"]
