"""`python -m scripts.settings_table`: writes the README's table of settings, from `Settings`."""

import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

from storage.settings import ENV_PREFIX, Settings

README: Final = Path(__file__).parent.parent / "README.md"
_BEGIN, _END = "<!-- settings: made by scripts/settings_table.py -->", "<!-- /settings -->"


def settings_table() -> str:
    """Return the table: a row for each field, with its default and its docstring."""
    return "\n".join(["| name | default | meaning |", "|---|---|---|", *_rows()])


def with_table(text: str) -> str:
    """Return the README with the table as it is now.

    Raises:
        ValueError: there is no place for it.
    """
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"the README has no place for the table, between {_BEGIN} and {_END}")
    pattern = re.escape(_BEGIN) + ".*" + re.escape(_END)
    table = f"{_BEGIN}\n{settings_table()}\n{_END}"
    return re.sub(pattern, lambda _: table, text, flags=re.DOTALL)


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        meaning = " ".join((field.description or "").split())
        yield f"| `{ENV_PREFIX}{name.upper()}` | {_plain(field.default)} | {_lower(meaning)} |"


def _plain(default: Any) -> str:
    """Write a default as the environment would have it."""
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ", ".join(cast("tuple[str, ...]", default))
    if isinstance(default, float | Decimal):
        return f"{default:f}".rstrip("0").rstrip(".")
    return str(default)


def _lower(text: str) -> str:
    return text.removesuffix(".").replace("None:", "without it:").replace("|", "\\|")


def main() -> int:
    """Write it. Returns the exit code."""
    README.write_text(with_table(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
