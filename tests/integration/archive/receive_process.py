"""A process of its own that receives the files of a folder, or dies after a step.

Usage: receive_process.py DATABASE_URL FOLDER [STEP [COUNT [POLICY]]]

Prints the SOP Instance UID of each object once the archive has said that it is stored.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from archive_agreement import archive_a
from offering import reception, sendable

from archive import db


def main(url: str, folder: str, step: str = "", count: str = "1", policy: str = "NEVER") -> None:
    db.use(db.make_engine(url))
    left = int(count)

    def die_after(done: str) -> None:
        nonlocal left
        left -= done == step
        if done == step and not left:
            os._exit(9)

    now = reception(device=replace(archive_a(), overwrite_policy=policy), after_step=die_after)
    for path in sorted(Path(folder).iterdir()):
        sent = sendable(path)
        now.store(sent.offered())
        print(sent.sop_uid, flush=True)
    now.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
