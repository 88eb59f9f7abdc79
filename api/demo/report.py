"""What the demonstration prints: each step with what was verified in it, and the table at its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from config.errors import ConfigError


class StepFailed(ConfigError):
    """A step did not do what it shows; the text says what was found and what was expected."""


@dataclass(slots=True)
class Step:
    """One step as it went."""

    title: str
    verified: int = 0
    took_s: float = 0.0
    #: One line for the table at the end.
    summary: str = ""
    is_done: bool = False


class Report:
    """Prints while it goes; every check that does not hold ends the step."""

    def __init__(self, console: Console) -> None:
        self.steps: list[Step] = []
        self._console = console

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Print the title, and note how long the step takes and that it came to its end."""
        current = Step(title)
        self.steps.append(current)
        self._console.print(Text(f"\nStep {len(self.steps)}: {title}", style="bold"))
        began = time.monotonic()
        try:
            yield current
            current.is_done = True
        finally:
            current.took_s = time.monotonic() - began

    def say(self, text: str) -> None:
        """Print what is done."""
        self._console.print(Text(f"  {text}"), soft_wrap=True)

    def equal(self, what: str, found: object, expected: object) -> None:
        """Verify a number or a text, and print it.

        Raises:
            StepFailed: it is another one.
        """
        self.holds(f"{what}: {found}", found == expected, otherwise=f"{what}: {found}, expected {expected}")

    def only(self, what: str, found: Iterable[object], expected: object) -> None:
        """Verify that all values are the same as one, and print it.

        Raises:
            StepFailed: there is another one among them.
        """
        values = sorted({str(value) for value in found})
        self.equal(what, ", ".join(values), str(expected))

    def holds(self, what: str, truth: bool, *, otherwise: str = "") -> None:
        """Verify a statement, and print it.

        Raises:
            StepFailed: it is not true.
        """
        if not truth:
            raise StepFailed(otherwise or f"not so: {what}")
        self.steps[-1].verified += 1
        self._console.print(Text("  ok ", style="green").append(what, style="default"), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        table = Table(*columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
        for column in table.columns:
            column.overflow = "fold"
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print()
        self._console.print(table)

    def finish(self) -> None:
        """Print the table of all steps."""
        rows = [
            (str(number), step.title, step.summary, str(step.verified), f"{step.took_s:.1f} s", _word(step))
            for number, step in enumerate(self.steps, start=1)
        ]
        self.table("What was shown", ("", "step", "result", "checks", "took", ""), rows)


def _word(step: Step) -> str:
    return "ok" if step.is_done else "FAILED"
