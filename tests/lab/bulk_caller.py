"""A process that changes all exports in one operation: `python -m tests.lab.bulk_caller OPERATION [EVENT]`.

The event is that of the history: reschedule (to archive-b, also if none is said), cancel or delete.
"""

from __future__ import annotations

import sys

from tasks import operations
from tasks.moving import Change
from tasks.query import TaskQuery
from tasks.state import Event
from tasks.store import By

ACTOR = "caller@lab"


def main() -> None:
    """Do it, or go on with it, and print how many tasks it changed."""
    by = By(ACTOR, operation_id=sys.argv[1])
    # No filter by status: only the operation keeps a task from being changed twice.
    exports = TaskQuery(kinds=("EXPORT",))
    match Event(sys.argv[2] if len(sys.argv) > 2 else "reschedule"):
        case Event.RESCHEDULE:
            done, result = "moved", operations.reschedule(exports, Change(devices=("archive-b",)), by)
        case Event.CANCEL:
            done, result = "canceled", operations.cancel(exports, by)
        case Event.DELETE:
            done, result = "deleted", operations.delete(exports, by)
        case other:
            raise SystemExit(f"{other}: expected reschedule, cancel or delete")
    print(f"{done} {result.count}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
