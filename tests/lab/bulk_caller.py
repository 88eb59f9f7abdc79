"""A process that moves all exports to archive-b in one operation: `python -m tests.lab.bulk_caller OPERATION`."""

from __future__ import annotations

import sys

from tasks import operations
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.store import By

ACTOR = "caller@lab"


def main() -> None:
    """Do it, or go on with it, and print how many tasks it moved."""
    by = By(ACTOR, operation_id=sys.argv[1])
    # No filter by status: only the operation keeps a task from being moved twice.
    result = operations.reschedule(TaskQuery(kinds=("EXPORT",)), Change(devices=("archive-b",)), by)
    print(f"moved {result.count}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
