"""Associations store, tasks are made and copies come while deletions run: nothing stored vanishes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from archive.receiving.reception import Offered, Reception
from archive.storage.choosing import Chooser
from archive.storage.ingest import Ending
from tasks.errors import ConflictError, NotFoundError
from tests import factories
from tests.lab.agreement import after_sweep
from tests.lab.deletable import House

STUDY = "1.2.3"
SC = "1.2.840.10008.5.1.4.1.1.7"
_NUMBER = 60


def offered(sop_uid: str) -> Offered:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SC, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    ds.PatientID, ds.Modality = "P1", "CT"
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return Offered(SC, sop_uid, ExplicitVRLittleEndian, iter([buffer.getvalue()]))


def test_what_associations_store_while_deletions_run_stays(house: House) -> None:
    done = threading.Event()
    stored: list[str] = []

    def store() -> None:
        reception = Reception(house.device, "MODALITY", chooser=Chooser("archive-a", house.group))
        try:
            for number in range(_NUMBER):
                assert reception.store(offered(f"1.9.{number}")).ending is Ending.STORED
                stored.append(f"1.9.{number}")
                if number % 10 == 9:
                    reception.close()
                    reception = Reception(house.device, "MODALITY", chooser=Chooser("archive-a", house.group))
        finally:
            reception.close()
            done.set()

    def until_done(work: Callable[[], object]) -> Callable[[], None]:
        def loop() -> None:
            while not done.is_set():
                with suppress(ConflictError, NotFoundError):
                    work()

        return loop

    def delete() -> None:
        house.copy(STUDY)
        factories.sql("UPDATE series SET state = 'STORED'")
        house.ask(STUDY)
        house.run_all()

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(store), pool.submit(until_done(delete))]
        for one in running:
            one.result(timeout=120)
    delete_once_more(house)

    found = factories.sql("SELECT DISTINCT sop_uid FROM instance AS i JOIN file AS f ON f.instance_id = i.id")
    assert sorted(found) == sorted(stored)
    assert len(stored) == _NUMBER
    assert house.files(STUDY) == []
    assert after_sweep("archive-a") == []
    assert factories.sql("SELECT count(*) > 0 FROM study_deletion") == [True]


def delete_once_more(house: House) -> None:
    """Delete what is left online, so that at least one deletion took place."""
    house.copy(STUDY)
    with suppress(ConflictError, NotFoundError):
        house.ask(STUDY)
    house.run_all()
    house.age(STUDY)
    house.look()
    house.run_all()
