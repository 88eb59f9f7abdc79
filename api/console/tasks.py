"""The page that lists tasks: filters, counts per status, order, pages, and what can be done to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from api.console import choice
from api.console.choice import PAGE_SIZE, Choice, Offer
from api.console.page import Page
from api.rest import filters
from archive import db
from tasks import query as queries
from tasks.query import Page as Part
from tasks.record import TaskView
from tasks.state import Status

#: Numbers of tasks on a page that are offered.
_SIZES = (25, PAGE_SIZE, 100, 200)


@dataclass(frozen=True, slots=True)
class Listed:
    """What the page shows."""

    tasks: list[TaskView]
    counts: dict[Status, int]
    offer: Offer

    def total(self, statuses: tuple[Status, ...]) -> int:
        """Return how many tasks match, of these statuses; none given: of all."""
        return sum(number for status, number in self.counts.items() if not statuses or status in statuses)


class TasksPage(Page):
    """`/archive/tasks`."""

    async def get(self) -> None:
        """List tasks."""
        given = choice.read(self.items(), filters.PAGE)
        chosen, part = choice.of(given), filters.page(given)
        part = Part(part.offset, min(part.limit or PAGE_SIZE, _SIZES[-1]), part.order)
        listed = await self.work.run(partial(_listed, chosen, part))
        self.show(
            "tasks", listed=listed, chosen=chosen, part=part, sizes=_SIZES, total=listed.total(chosen.query.statuses)
        )


def _listed(chosen: Choice, part: Part) -> Listed:
    with db.transaction() as session:
        tasks = list(queries.find(session, chosen.query, part))
        counts = queries.count_by_status(session, chosen.without_status())
    return Listed(tasks, counts, choice.offered())
