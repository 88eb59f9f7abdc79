"""What the steps share: the cluster, its REST services, what was imported, and how to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from api.demo import evidence
from api.demo.calls import Rest
from api.demo.cluster import Up
from api.demo.house import FIRST, SECOND, House
from api.demo.remote import Remote
from api.demo.report import Report, StepFailed
from tasks.record import TaskView
from tasks.state import Status

#: Their AE titles.
AE_TITLES = {FIRST: "ARCHIVE_A", SECOND: "ARCHIVE_B"}
#: Exporter of the sample cluster that copies into a folder.
TO_FOLDER = "ToFolder"

_POLL_S = 0.05


@dataclass(slots=True)
class Stage:
    """One demonstration while it runs."""

    house: House
    up: Up
    remote: Remote
    report: Report
    rest: Rest
    #: Study Instance UIDs of what pydicom brings along.
    studies: list[str] = field(default_factory=list)
    long_study: str = ""
    #: The export tasks of these studies.
    task_ids: list[int] = field(default_factory=list)

    def wait(self, what: str, holds: Callable[[], bool], *, timeout_s: float) -> float:
        """Wait until the condition holds; returns the seconds that it took.

        Raises:
            StepFailed: it did not within the time, or `arcfleet up` has ended.
        """
        began = time.monotonic()
        while not holds():
            self.up.expect_running()
            if time.monotonic() - began > timeout_s:
                raise StepFailed(f"{what}: waited {timeout_s:g} s in vain")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def wait_for(self, task_ids: Sequence[int], wanted: Status, *, timeout_s: float) -> list[TaskView]:
        """Wait until all these tasks have this status, and return them.

        Raises:
            StepFailed: one is done in another way, or it takes too long.
        """

        def are_there() -> bool:
            found = evidence.tasks(task_ids)
            for task in found:
                if task.status.is_done and task.status is not wanted:
                    why = task.error_message or task.outcome_message or "no message"
                    raise StepFailed(f"task {task.id} is {task.status}, expected {wanted}: {why}")
            return all(task.status is wanted for task in found)

        self.wait(f"{_named(task_ids)} to be {wanted}", are_there, timeout_s=timeout_s)
        return evidence.tasks(task_ids)

    @property
    def destination(self) -> str:
        """What caps, holds and circuit breakers know the remote AE by."""
        return f"dicom:{self.remote.peer.ae_title}"

    def export(self, device: str, study_uid: str, exporter: str = TO_FOLDER, *, quietly: bool = False) -> int:
        """Ask a device for the export of a study; returns the id of the task."""
        path = f"POST /aets/{AE_TITLES[device]}/rs/studies/{study_uid}/export/{exporter}"
        answer = self.rest.call(device, path, 202, quietly=quietly)
        return int(answer["taskID"])

    def expect_arrived(self, study_uids: Sequence[str], device: str) -> evidence.Arrived:
        """Verify that every object of the studies lies in the export folder, byte for byte, and nothing else."""
        sent = evidence.objects(study_uids, device)
        found = evidence.arrived(sent, self.house.exports)
        self._expect_all(found, len(sent), "each with the SHA-256 of the index and of the archive's file")
        return found

    def expect_received(self, study_uids: Sequence[str]) -> evidence.Arrived:
        """Verify that every object of the studies lies at the remote AE, its data set byte for byte as it is here."""
        sent = evidence.objects(study_uids, FIRST)
        found = evidence.sent_to_ae(sent, self.remote.folder)
        self._expect_all(found, len(sent), f"at {self.remote.peer}, each data set byte for byte that of the archive")
        return found

    def _expect_all(self, found: evidence.Arrived, number: int, how: str) -> None:
        problems = "; ".join([*found.wrong, *(f"missing {uid}" for uid in found.missing)])
        self.report.holds(
            f"{found.same} of {number} objects arrived ({found.bytes / 1e3:.0f} kB), {how}",
            found.same == number and not problems,
            otherwise=f"{found.same} of {number} objects arrived whole: {problems[:300]}",
        )


def _named(task_ids: Sequence[int]) -> str:
    return f"task {task_ids[0]}" if len(task_ids) == 1 else f"{len(task_ids)} tasks"
