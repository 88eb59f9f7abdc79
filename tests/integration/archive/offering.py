"""Objects as an association offers them, made or taken from pydicom's samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from archive_agreement import SAMPLES, archive_a, write_object
from sqlalchemy import select

from archive import db, errors, model
from archive.receiving.reception import Offered, Reception
from archive.storage import files, header
from archive.storage.choosing import Chooser
from config.device import Device
from tests.lab import part10

#: Bytes of a P-DATA fragment, small, so that headers are cut in the middle.
_FRAGMENT = 700


class Sendable(NamedTuple):
    """What a C-STORE brings."""

    name: str
    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    def offered(self, fragment: int = _FRAGMENT) -> Offered:
        """Offer it, piece by piece."""
        return Offered(self.sop_class_uid, self.sop_uid, self.transfer_syntax_uid, self._chunks(fragment))

    def _chunks(self, size: int) -> Iterator[bytes]:
        for at in range(0, len(self.data_set), size):
            yield self.data_set[at : at + size]


def sendable(path: Path) -> Sendable:
    """Take an object from a file. Raises NotStorable."""
    with path.open("rb") as file:
        found = header.read(file)
    return Sendable(path.name, found.sop_class_uid, found.sop_uid, found.transfer_syntax_uid, part10.data_set(path))


@cache
def samples() -> list[Sendable]:
    """All storable samples of pydicom."""
    found = []
    for path in sorted(SAMPLES.rglob("*")):
        if path.is_file():
            try:
                found.append(sendable(path))
            except errors.NotStorable:
                continue
    return found


def made(folder: Path, study: int = 1, series: int = 1, number: int = 1, **values: object) -> Sendable:
    """Make a small object."""
    uid = f"1.2.{study}.{series}"
    path = folder / f"{study}-{series}-{number}"
    return sendable(write_object(path, f"1.2.{study}", uid, f"{uid}.{number}", **values))


def reception(
    source: str = "MODALITY", *, device: Device | None = None, after_step: files.Step = files.no_step,
    chooser: Chooser | None = None,
) -> Reception:  # fmt: skip
    """Begin to receive for archive-a."""
    receiving = device or archive_a()
    chosen = chooser or Chooser(receiving.name, receiving.file_system_groups["ONLINE_STORAGE"])
    return Reception(receiving, source, chooser=chosen, after_step=after_step)


def stored_data_sets() -> dict[str, list[bytes]]:
    """Return the data sets of the files of each object, by SOP Instance UID."""
    wanted = (
        select(model.Instance.sop_uid, model.FileSystem.path, model.File.path)
        .join(model.File, model.File.instance_id == model.Instance.id)
        .join(model.FileSystem, model.FileSystem.id == model.File.file_system_id)
        .order_by(model.File.id)
    )
    found: dict[str, list[bytes]] = {}
    with db.transaction() as session:
        for sop_uid, root, path in session.execute(wanted):
            found.setdefault(sop_uid, []).append(part10.data_set(Path(root, path)))
    return found
