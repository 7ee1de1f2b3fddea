"""What was measured, for a person."""

from collections.abc import Iterator, Mapping, Sequence

from scripts.benchmarks.requests import Figures
from scripts.benchmarks.rows import RowFigures

_HEADINGS = ("", "CPU µs/request", "of mitmdump", "PostgreSQL µs", "requests/s", "first byte ms")


def request_table(scenario: str, contestants: Mapping[str, Figures]) -> str:
    """One scenario, one line per contestant."""
    return "\n".join(_lines(scenario, contestants))


def _lines(scenario: str, contestants: Mapping[str, Figures]) -> Iterator[str]:
    yield _columns((scenario, *_HEADINGS[1:]))
    bare = contestants.get("mitmdump")
    direct = contestants.get("direct")
    for name, each in contestants.items():
        added = f" ({each.first_byte_ms - direct.first_byte_ms:+.2f})" if direct else ""
        yield _columns(
            (
                f"  {name}",
                f"{each.cpu_us:,.0f}",
                f"{each.cpu_us / bare.cpu_us:.2f}" if bare else "",
                f"{each.postgres_us:,.0f}" if each.postgres_us else "",
                f"{each.requests_per_second:,.0f}",
                f"{each.first_byte_ms:.2f}{'' if name == 'direct' else added}",
            )
        )


def _columns(cells: Sequence[str]) -> str:
    first, *others = cells
    return (f"{first:30}" + "".join(f" {cell:>18}" for cell in others)).rstrip()


def row_lines(figures: RowFigures) -> str:
    """How rows fared."""
    return (
        f"a row on the request's way: {figures.record_us:.1f} µs\n"
        f"{figures.rows:,} rows that waited: {figures.catch_up_seconds:.1f} s, "
        f"{figures.rows_per_second:,.0f} rows/s; CPU per row: recorder "
        f"{figures.recorder_us:.0f} µs, PostgreSQL {figures.postgres_us:.0f} µs"
    )
