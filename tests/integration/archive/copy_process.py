"""A process of its own that copies a study into NEARLINE_STORAGE and dies after a step.

Usage: copy_process.py DATABASE_URL STUDY STEP
"""

from __future__ import annotations

import os
import sys

from archive_agreement import archive_a

from archive import db, query
from archive.storage.choosing import Chooser
from archive.storage.copies import Copier


def main(url: str, study: str, step: str) -> None:
    db.use(db.make_engine(url))
    chooser = Chooser("archive-a", archive_a().file_system_groups["NEARLINE_STORAGE"])
    with db.transaction() as session:
        items = query.objects_of(session, study, device_name="archive-a")
    with Copier(chooser, after_step=lambda done: os._exit(9) if done == step else None) as copier:
        for item in items:
            copier.copy(item)


if __name__ == "__main__":
    main(*sys.argv[1:])
