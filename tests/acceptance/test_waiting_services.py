"""Services that answer at the end of their task, with a server and a worker of their own processes."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tasks.state import Status
from tests.lab.cluster import Lab, cluster, free_port
from tests.lab.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Lab, str]]:
    with cluster() as lab:
        api, url = lab.api("--offset", str(free_port() % 20_000 + 1000))
        worker = lab.worker("archive-a")
        lab.ready(worker)
        wait_until(lambda: api.said("Application startup complete"), "the API is ready", say=api.tail)
        yield lab, url


def post(url: str, path: str, **headers: str) -> httpx.Response:
    return httpx.post(url + path, headers=headers, timeout=120, trust_env=False)


def test_study_is_verified_and_its_numbers_are_the_answer(server: tuple[Lab, str]) -> None:
    lab, url = server
    study_uid = lab.store_study("archive-a", objects=3)

    answer = post(url, f"/aets/ARCHIVE_A/rs/studies/{study_uid}/stgver?storageVerificationPolicy=OBJECT_CHECKSUM")

    said = answer.json()
    assert answer.status_code == 200
    assert (said["completed"], said["failed"]) == (3, 0)
    assert lab.task(int(said["taskID"])).status is Status.COMPLETED


def test_archive_that_is_away_is_bad_gateway(server: tuple[Lab, str]) -> None:
    lab, url = server
    query = "/aets/ARCHIVE_A/dimse/PACS/studies/export/dicom:ARCHIVE_A?PatientID=1"

    answer = post(url, query)

    assert answer.status_code == 502
    assert "PACS at " in answer.json()["errorMessage"]
    assert not lab.count(kinds=("RETRIEVE",))


def test_client_that_does_not_wait_gets_the_task(server: tuple[Lab, str]) -> None:
    lab, url = server

    answer = post(url, "/aets/ARCHIVE_B/rs/studies/1.2.3/stgver", prefer="wait=0")

    assert answer.status_code == 202
    assert lab.task(int(answer.json()["taskID"])).device == "archive-b"


@pytest.mark.parametrize(
    "path", ["dimse/PACS/studies/{study}/export/dicom:ARCHIVE_A", "rs/studies/{study}/export/dicom:PACS"]
)
def test_archive_that_cannot_be_reached_is_bad_gateway_after_one_attempt(server: tuple[Lab, str], path: str) -> None:
    lab, url = server
    study_uid = lab.store_study("archive-a", objects=1)

    answer = post(url, f"/aets/ARCHIVE_A/{path.format(study=study_uid)}")

    said = answer.json()
    assert (answer.status_code, said["completed"], said["failed"]) == (502, 0, 0)
    assert "PACS at " in said["error"]
    task = lab.task(int(said["taskID"]))
    assert (task.status, task.failures) == (Status.FAILED, 1)
