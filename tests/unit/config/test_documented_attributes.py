"""The tables of docs/configuration.md and docs/operating.md say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import schema, settings
from config.schema import Attr, Holds, Part

DOCS = Path(__file__).resolve().parents[3] / "docs"


def cells(part: Part, row: Attr) -> str:
    """Return the cells of an attribute that follow from the code; what it means follows in the page."""
    expected = "the DN of a connection of the same device" if row.holds is Holds.CONNECTIONS else row.codec.expected
    several = "" if row.holds is Holds.ONE else "any number of: "
    return f"| `{row.attribute}` | {several}{expected.replace('|', chr(92) + '|')} | {default(part, row)} |"


def default(part: Part, row: Attr) -> str:
    if row is part.key:
        return "names the entry"
    if row.required:
        return "required"
    value = part.default(row)
    if row.holds is not Holds.ONE or value is None:
        return "none"
    return f"`{row.codec.write(value)}`"


def section(part: Part) -> list[str]:
    """Return the lines of the table of a sort of entry."""
    text = (DOCS / "configuration.md").read_text("utf-8")
    _, found, rest = text.partition(f"\n### `{part.object_class}`")
    assert found, f"docs/configuration.md has no section ### `{part.object_class}`"
    return [line for line in rest.partition("\n##")[0].splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("part", schema.PARTS, ids=lambda part: part.object_class)
def test_page_lists_each_attribute_with_its_values_and_default(part: Part) -> None:
    wanted = [cells(part, row) for row in part.attrs]

    found = [" |".join(line.replace("\\|", "\0").split(" |")[:3]).replace("\0", "\\|") + " |" for line in section(part)]

    assert found == wanted


def test_page_lists_each_environment_variable() -> None:
    text = (DOCS / "operating.md").read_text("utf-8")

    missing = [
        f"| `{name}` | {said} |" for name, said in settings.known().items() if f"| `{name}` | {said} |" not in text
    ]

    assert missing == []
