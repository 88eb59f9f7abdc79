"""A process of its own that works on a deletion and dies after a step, by SIGKILL.

Usage: deletion_process.py DATABASE_URL HOME STEP [COUNT]

STEP: a step of `archive.deletion.deleting`; `removed` after so many files left the disk; `marking` when studies are
about to be marked, and their tasks are inserted.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from archive import db
from archive.deletion import deleting, marking
from archive.storage import files
from tests.lab import deletable


def main(url: str, home: str, step: str, count: str = "1") -> None:
    db.use(db.make_engine(url))
    left = int(count)

    def die_after(done: str) -> None:
        nonlocal left
        left -= done == step
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def then_die(name: str, original: Any) -> Any:
        def called(*args: Any, **named: Any) -> Any:
            result = original(*args, **named)
            if not any(".arcfleet-probe" in str(one) for one in args):
                die_after(name)
            return result

        return called

    house = deletable.House(Path(home), deletable.device())
    house.configure()
    deleting.delete_study = partial(deleting.delete_study, after_step=die_after)
    files.remove = then_die("removed", files.remove)
    marking.mark = then_die("marking", marking.mark)
    if step == "marking":
        house.look()
    else:
        house.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
