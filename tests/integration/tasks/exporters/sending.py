"""A stored study, an AE to send it to, and what became of each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from archive import db, model
from archive.dicom.peer import Peer
from archive.receiving.reception import Offered, Reception
from archive.storage import ingest
from archive.storage.choosing import Chooser
from config.device import ApplicationEntity, Device, Exporter, NetworkConnection
from tasks.outcome import Outcome
from tasks.state import Event
from tasks.store import Claimed, Target
from tests import factories, stored_study
from tests.integration.archive.archive_agreement import incoming, write_object
from tests.lab import part10

DESTINATION = "dicom:PACS"
#: How long a peer may be silent here.
SILENCE = timedelta(seconds=1)

TO_PACS = Exporter("ToPacs", DESTINATION, "Export")


@dataclass
class Sending:
    """The study of `stored_study` on archive-a, which exports to the AE PACS."""

    archive: stored_study.Archive

    def send_to(self, peer: Peer, *, silence: timedelta = SILENCE, **exporter: Any) -> None:
        """Let the AE PACS be at this address; further values are those of the exporter."""
        connection = NetworkConnection(
            "dicom", "127.0.0.1", 11112, connect_timeout=silence, aaac_timeout=silence, response_timeout=silence,
            send_timeout=silence, release_timeout=silence,
        )  # fmt: skip
        archive_a = ApplicationEntity("ARCHIVE_A", ("dicom",), other_titles=("ARCFLEET",))
        self.archive.device = replace(
            self.archive.device,
            exporters={**self.archive.device.exporters, TO_PACS.id: replace(TO_PACS, **exporter)},
            aes={"ARCHIVE_A": archive_a},
            connections={"dicom": connection},
        )
        pacs = Device(
            "pacs",
            aes={"PACS": ApplicationEntity("PACS", ("dicom",))},
            connections={"dicom": NetworkConnection("dicom", peer.host, peer.port)},
        )
        factories.use_cluster(self.archive.device, pacs)

    def add(self, path: Path) -> str:
        """Store a further object of the study; returns its SOP Instance UID."""
        offered = incoming(path)
        with db.transaction() as session:
            target = session.query(model.FileSystem).order_by(model.FileSystem.id).first()
            assert target is not None
            session.expunge_all()
        ingest.store(target, [offered])
        return offered.header.sop_uid

    def replace(self, sop_uid: str) -> None:
        """Store another version of an object of the first series in its place, as the policy ALWAYS does."""
        path = write_object(
            self.archive.out.parent / "new" / sop_uid,
            stored_study.STUDY, stored_study.SERIES[0], sop_uid, PatientComments="new",
        )  # fmt: skip
        device = replace(self.archive.device, overwrite_policy="ALWAYS")
        reception = Reception(device, "CT", chooser=Chooser(device.name, device.file_system_groups["ONLINE_STORAGE"]))
        found = incoming(path).header
        chunks = iter([part10.data_set(path)])
        reception.store(Offered(found.sop_class_uid, found.sop_uid, found.transfer_syntax_uid, chunks))
        reception.close()

    def add_many(self, number: int) -> list[str]:
        """Store so many further objects of the study."""
        folder = self.archive.out.parent / "more"
        return [
            self.add(write_object(folder / str(n), stored_study.STUDY, stored_study.SERIES[0], f"1.2.9.{n}"))
            for n in range(10, 10 + number)
        ]

    def attempt(self, claimed: Claimed) -> Outcome | Exception:
        """Run the handler; returns what it returned or raised."""
        return self.archive.attempt(claimed)

    def data_set(self, sop_uid: str) -> bytes:
        """Return the bytes of an object's data set as they lie on our disk, and as they have to be sent."""
        return part10.as_sent(part10.data_set(self.archive.source(sop_uid)))


def start(**values: Any) -> Claimed:
    """Claim a task that sends the study to PACS."""
    return stored_study.start(**{"exporter_id": TO_PACS.id, "destination": DESTINATION, **values})


def next_attempt(before: Claimed, event: Event = Event.RETRY) -> Claimed:
    """End a run and claim the task again, whether its destination is left alone or not."""
    factories.report(before, event)
    if event is not Event.RETRY:
        target = Target("archive-a", "Export", TO_PACS.id, destination=DESTINATION)
        factories.change(Event.RESCHEDULE, before.task.id, target)
    factories.sql("DELETE FROM destination")
    claimed = factories.claim(*factories.reserve())
    assert claimed is not None
    return claimed


def said(claimed: Claimed) -> list[tuple[str, str, int | None, str | None]]:
    """Return object, result, status code and text of each outcome of a run, in order."""
    with db.transaction() as session:
        rows = session.execute(
            factories.text(
                "SELECT sop_uid, result, status_code, text FROM object_outcome WHERE run_id = :run ORDER BY id"
            ),
            {"run": claimed.run_id},
        )
        return [tuple(row) for row in rows]  # type: ignore[misc]


def results(claimed: Claimed) -> dict[str, str]:
    """Return how each object of a run ended."""
    found = said(claimed)
    assert len({sop_uid for sop_uid, *_ in found}) == len(found), "an object has two outcomes"
    return {sop_uid: result for sop_uid, result, *_ in found}


def uids(objects: Sequence[Any]) -> list[str]:
    """Return the SOP Instance UIDs of what a peer received, in order."""
    return [one.sop_uid for one in objects]
