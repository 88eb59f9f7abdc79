"""A process of its own that imports a folder, or stores its files and dies after a step.

Usage: store_process.py DATABASE_URL HOME FOLDER [STEP [COUNT]]
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

from archive_agreement import archive_a, incoming

from archive import db
from archive.storage import importing, ingest
from archive.storage.choosing import Chooser


def main(url: str, home: str, folder: str, step: str = "", count: str = "1") -> None:
    db.use(db.make_engine(url))
    if not step:
        result = importing.import_folder(archive_a(), Path(folder), home=Path(home))
        print(json.dumps({**dataclasses.asdict(result), "studies": sorted(result.studies)}))
        return
    left = int(count)

    def die_after(done: str) -> None:
        nonlocal left
        left -= done == step
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    target = Chooser("archive-a", archive_a().file_system_groups["ONLINE_STORAGE"]).current()
    ingest.store(target, [incoming(p) for p in sorted(Path(folder).iterdir())], after_step=die_after)


if __name__ == "__main__":
    main(*sys.argv[1:])
