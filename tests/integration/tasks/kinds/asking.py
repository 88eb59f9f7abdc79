"""A device that asks remote AEs, and runs of kinds that do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from archive.dicom.peer import Peer
from archive.errors import ArchiveError
from config.device import ApplicationEntity, Device, NetworkConnection, Queue
from tasks.errors import TaskError
from tasks.outcome import Outcome
from tasks.registry import kind_of
from tasks.store import Claimed
from tasks.work import Work, now_s
from tests import factories
from tests.integration.archive.archive_agreement import write_object

QUEUES = {name: Queue(name) for name in ("Retrieve", "DiffTasks", "StgVerTasks", "Export")}
#: How long a peer may be silent here.
SILENCE = timedelta(seconds=20)


def device(name: str = "archive-a", **values: Any) -> Device:
    """Return a device with the queues of all kinds."""
    connection = NetworkConnection("dicom", "127.0.0.1", 11112, connect_timeout=SILENCE, response_timeout=SILENCE)
    title = name.upper().replace("-", "_")
    ae = ApplicationEntity(title, ("dicom",), other_titles=("ARCFLEET",))
    return factories.device(
        name, **{"queues": QUEUES, "aes": {title: ae}, "connections": {"dicom": connection}, **values}
    )


def remotes(*peers: Peer) -> list[Device]:
    """Return a device for each of these AEs."""
    return [
        Device(
            f"remote-{peer.ae_title.lower()}",
            aes={peer.ae_title: ApplicationEntity(peer.ae_title, ("dicom",))},
            connections={"dicom": NetworkConnection("dicom", peer.host, peer.port)},
        )
        for peer in peers
    ]


def use(*peers: Peer) -> None:
    """Make a cluster of two devices the configuration, with these AEs beside."""
    factories.use_cluster(device(), device("archive-b"), *remotes(*peers))


def attempt(claimed: Claimed, *, here: Device | None = None) -> Outcome | Exception:
    """Run the handler, on archive-a unless told otherwise; returns what it returned or raised."""
    here = here or device()
    work = Work(claimed, here, home=Path(), lease_ends_s=now_s() + 60)
    try:
        return kind_of(claimed.task.kind).process(claimed.task, work)
    except (TaskError, ArchiveError, OSError) as error:
        return error
    finally:
        work.close()


def progress(task_id: int) -> dict[str, Any]:
    """Return the progress of a task."""
    found = factories.view(task_id)
    assert found is not None
    return dict(found.progress)


def files(folder: Path, studies: dict[str, int], **values: Any) -> list[Path]:
    """Write studies of so many objects."""
    common = {"PatientName": "Doe^Jane", "PatientID": "P1", "StudyDate": "20260101", "StudyTime": "1200"}
    return [
        write_object(
            folder / f"{study}.{n}", study, f"{study}.1", f"{study}.1.{n}",
            **{**common, "AccessionNumber": "A1", "StudyID": "1", "SeriesNumber": "1", "InstanceNumber": str(n),
               **values},
        )
        for study, number in studies.items()
        for n in range(1, number + 1)
    ]  # fmt: skip


def new(kind: str, **values: Any) -> dict[str, Any]:
    """Return the values of a new task."""
    queue = {"RETRIEVE": "Retrieve", "DIFF": "DiffTasks", "STGVER": "StgVerTasks"}[kind]
    return {"kind": kind, "queue": queue, "exporter_id": None, "local_aet": "ARCHIVE_A", "study_uid": None, **values}


def shortened(peer: Peer) -> Peer:
    """Return an address where nobody listens."""
    return replace(peer, port=1)
