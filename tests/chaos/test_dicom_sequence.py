"""Many objects one after the other: in through the service, out through a worker, no response is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive.dicom.peer import Peer
from tasks.state import Status
from tests.lab import agreement, dicom, ldif, peers, stored
from tests.lab.cluster import cluster, free_port
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

HERE = "archive-a"
OBJECTS = 20_000
#: Of the sender, and of the task.
PATIENCE_S = 600.0


def test_no_response_of_twenty_thousand_objects_is_lost_on_their_way_in_and_out(tmp_path: Path) -> None:
    study_uid = dicom.write_study(tmp_path, OBJECTS)
    here, node = Peer("ARCHIVE_A", "127.0.0.1", free_port()), Peer("SINK", "127.0.0.1", free_port())
    changes = [ldif.connection(HERE, dicomPort=str(here.port)), *ldif.remote(node.ae_title, node.port)]
    with (
        cluster(*changes, ldif.exporter("Sink", HERE, uri=f"dicom:{node.ae_title}")) as lab,
        peers.storescp("--ignore", "+xa", port=node.port, ae_title=node.ae_title) as sink,
    ):
        lab.dicom(HERE)
        lab.ready(lab.worker(HERE))

        said = peers.storescu(here, [tmp_path], "+sd", timeout_s=PATIENCE_S)
        (task,) = lab.schedule(device=HERE, exporter="Sink", study_uid=study_uid)
        lab.await_status([task], Status.COMPLETED, timeout_s=PATIENCE_S)

        assert (said.exit_code, said.responses()) == (0, OBJECTS)
        assert len(stored.files()) == stored.received() == OBJECTS
        assert (sink.associations(), sink.requests(), len(lab.runs(task))) == (1, OBJECTS, 1)
        wait_until(stored.is_settled, "the service has ended the association")
        assert agreement.disagreements() == []
