"""RETRIEVE: a study, series or object from a remote AE to a destination AE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field
from pydicom.dataset import Dataset

from archive.dicom import nodes, queries
from archive.dicom.requestor import Answer
from archive.dicom.status import SUB_OPERATIONS_WITH_FAILURES
from config.device import Device
from tasks import peers, placing, targets
from tasks.errors import InvalidError
from tasks.job_messages import EntityJob, Name, Title, Wish, job_of
from tasks.outcome import Outcome
from tasks.record import NewTask, TaskView
from tasks.registry import task_kind
from tasks.state import Status
from tasks.store import Target
from tasks.work import Work

#: Where a task goes that names no queue. Source: dcm4chee-arc-light
QUEUE = "Retrieve"

#: Of numbers and statuses while the peer has said nothing yet.
_UNKNOWN = -1


@job_of("RETRIEVE")
class RetrieveJob(EntityJob):
    """Let another archive send a study, or one series or object of it."""

    action: ClassVar[str] = "RetrieveTask"

    remote_aet: Title = Field(alias="remoteAET", description="AE title that is asked to send.")
    destination_aet: Title = Field(alias="destinationAET", description="AE title that it is sent to.")
    queue: Name = Field(default=QUEUE, alias="dcmQueueName", description="Queue of the task.")

    def wish(self) -> Wish:
        """Return the task, at the device of the AE title that has the queue and the least waiting.

        Raises:
            NotFoundError: no device of ours has the AE title, or the queue.
        """
        place = placing.place_in(self.queue, self.aet, self.device)
        return self.at(place, "RETRIEVE", remote_aet=self.remote_aet, destination_aet=self.destination_aet)


@task_kind("RETRIEVE")
class Retrieve:
    """Let a remote AE send what it has to a destination (C-MOVE); its counters are the task's progress.

    Source: RETRIEVE tasks of dcm4chee-arc-light, PS3.4 C.4.2
    """

    name: ClassVar[str] = "RETRIEVE"
    slug: ClassVar[str] = "retrieve"
    reads_files: ClassVar[bool] = False
    is_housekeeping: ClassVar[bool] = False
    queue: ClassVar[str] = QUEUE

    def validate(self, new: NewTask, device: Device) -> NewTask:
        """Check queue, local AE and remote AE; the destination is known to the remote AE alone.

        Raises:
            InvalidError: one of them is missing or unknown.
        """
        if not new.study_uid or not new.destination_aet:
            raise InvalidError("a RETRIEVE task needs a StudyInstanceUID and a DestinationAET")
        peers.check(new.remote_aet, "RemoteAET")
        checked = replace(new, queue=new.queue or QUEUE, destination=peers.destination_of(new.remote_aet))
        targets.check_new(checked, device)
        return checked

    def target_on(
        self, device: Device, task: Mapping[str, Any], *, exporter_id: str | None, queue: str | None
    ) -> Target:
        """Return the queue and the AE titles at that device.

        Raises:
            ConflictError: the device lacks queue or AE.
        """
        targets.no_exporter(task, exporter_id, "retrieves")
        name, titles = targets.queue_at(device, queue or task["queue"], task), targets.titles_at(device, task)
        destination = peers.destination_of(task["remote_aet"])
        return Target(
            device.name, name, local_aet=titles.local, destination=destination, destination_aet=titles.destination
        )

    def process(self, task: TaskView, work: Work) -> Outcome:
        """Send one C-MOVE and follow it to its end; sent again, the destination gets what it may have already.

        Raises:
            DestinationError: the remote AE cannot be reached, or the association is lost.
        """
        work.progress(remaining=_UNKNOWN, completed=0, failed=0, warning=0, statusCode=_UNKNOWN)
        work.flush()
        remote, destination = task.remote_aet or "", task.destination_aet or ""
        silence_s = nodes.limits_of(work.device, task.local_aet or "").retrieve_s
        last: Answer | None = None
        with peers.association(work, remote, queries.contexts(queries.MOVE_CLASS)) as association:
            asked = queries.move(association, _keys(task), destination, silence_s, priority=peers.priority_of(task))
            for answer in asked:
                last = answer
                _tell(work, answer)
        assert last is not None  # noqa: S101 - without a response that is not pending an error was raised
        return _outcome(task, last, work.device)


def _keys(task: TaskView) -> Dataset:
    """Return the identifier: level, and the unique keys down to it. Source: PS3.4 C.4.2.1.4, C.6.2.1"""
    keys = Dataset()
    keys.QueryRetrieveLevel = "IMAGE" if task.sop_uid else "SERIES" if task.series_uid else "STUDY"
    keys.StudyInstanceUID = task.study_uid
    if task.series_uid:
        keys.SeriesInstanceUID = task.series_uid
    if task.sop_uid:
        keys.SOPInstanceUID = task.sop_uid
    return keys


def _tell(work: Work, answer: Answer) -> None:
    """Note what the peer says; what it does not say stays as it was, of an end nothing remains."""
    numbers: dict[str, int] = {
        name: number
        for name in ("remaining", "completed", "failed", "warning")
        if (number := getattr(answer.sub_operations, name)) is not None
    }
    if answer.status.is_success:
        numbers["remaining"] = 0
    if not answer.status.is_pending:
        numbers["statusCode"] = answer.status.code
    said = {"errorComment": answer.status.comment} if answer.status.comment else {}
    work.progress(**numbers, **said)


def _outcome(task: TaskView, last: Answer, device: Device) -> Outcome:
    """Return how the task ends.

    Source: RETRIEVE of dcm4chee-arc-light, dcmRetrieveTaskWarningOnNoMatch, dcmRetrieveTaskWarningOnWarnings
    """
    what = f"Export {_entity(task)} from {task.remote_aet} to {task.destination_aet}"
    counted = {name: getattr(last.sub_operations, name) or 0 for name in ("completed", "warning", "failed")}
    numbers = ", ".join(f"{name}:{number}" for name, number in counted.items() if number or name == "completed")
    status = last.status
    if status.is_success:
        return Outcome(_of_success(counted, device, task.local_aet or ""), f"{what} - {numbers}")
    if status.code == SUB_OPERATIONS_WITH_FAILURES and (counted["completed"] or counted["warning"]):
        return Outcome(Status.WARNING, f"{what} - {numbers}")
    because = f", error:{status.comment}" if status.comment else f", {status}"
    return Outcome(Status.FAILED, f"{what} failed - status:{status.code:04X}H{because}; {numbers}")


def _of_success(counted: Mapping[str, int], device: Device, calling: str) -> Status:
    """Return how a task ends whose C-MOVE the peer calls a success."""
    terms = device.retrieve_warnings(calling)
    # What the original looks at for the second one is whether there is no warning.
    is_warned = (terms.on_no_match and not any(counted.values())) or (terms.on_warnings and counted["warning"] > 0)
    return Status.WARNING if is_warned or counted["failed"] else Status.COMPLETED


def _entity(task: TaskView) -> str:
    levels = (("IMAGE", "iuid", task.sop_uid), ("SERIES", "series", task.series_uid), ("STUDY", "suid", task.study_uid))
    return " of ".join(f"{level}[{name}:{uid}]" for level, name, uid in levels if uid)
