"""DELETE_STUDY: a marked study leaves a file system of its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from archive import configuration, model
from archive.deletion import deleting, rules
from archive.deletion.rules import Terms, Trigger
from config.device import Device
from tasks import deletions, targets
from tasks.deletion_task import QUEUE, Parameters
from tasks.deletions import Asked
from tasks.errors import ConflictError, InvalidError, NotFoundError, ObsoleteError, StoppedError
from tasks.job_messages import Job, Made, Name, Sender, Uid, job_of
from tasks.operations import our_device
from tasks.outcome import Outcome
from tasks.pins import TaskSide
from tasks.record import NewTask, TaskView
from tasks.registry import task_kind
from tasks.run import Run
from tasks.state import Status
from tasks.store import Target
from tasks.work import LOST, Work


@job_of("DELETE_STUDY")
class DeleteStudyJob(Job):
    """Schedule a study for deletion from a file-system group whose `arcAllowDeletionByMessage` is TRUE."""

    action: ClassVar[str] = "ScheduleStudyForDeletion"

    device: Name = Field(alias="dicomDeviceName", description="Device that owns the group.")
    group_id: Name = Field(alias="fileSystemGroupID", description="File-system group that the study shall leave.")
    study_uid: Uid = Field(alias="studyInstanceUID", description="Study that is deleted, unless a rule keeps it.")

    def make(self, session: Session, sender: Sender) -> Made:
        """Mark the study on each file system of the group, with a task for each.

        Raises:
            NotFoundError: the device is not ours, or it has no such group, or nothing of the study is there.
            ConflictError: the group is not open to messages, or rules keep the study; the text has every reason.
        """
        device = our_device(self.device)
        group = device.file_system_groups.get(self.group_id)
        if group is None:
            known = ", ".join(device.file_system_groups) or "none"
            raise NotFoundError(f"Device {device.name}: no group {self.group_id!r}, expected one of {known}")
        if not group.allow_deletion_by_message:
            raise ConflictError(
                f"Group {group.id} of device {device.name}: studies cannot be deleted by a message, "
                "arcAllowDeletionByMessage is FALSE"
            )
        asked = Asked(sender.by, self.requester, sender.host, sender.uri)
        look = deletions.schedule_study(device, group, self.study_uid, asked, within=session)
        return Made(tuple(task.id for task in look.tasks), len(look.tasks))


@task_kind("DELETE_STUDY")
class DeleteStudy:
    """Delete a marked study from one file system, unless a rule keeps it now."""

    name: ClassVar[str] = "DELETE_STUDY"
    slug: ClassVar[str] = "deletion"
    reads_files: ClassVar[bool] = False
    is_housekeeping: ClassVar[bool] = True
    queue: ClassVar[str] = QUEUE

    def validate(self, new: NewTask, device: Device) -> NewTask:
        """Check that the device has the queue; the file system is one of its own, as its marks are.

        Raises:
            InvalidError: the queue is missing, or the parameters are not those of a deletion.
        """
        if QUEUE not in device.queues:
            raise InvalidError(f"No Queue configured with name:{QUEUE} at Device{{name={device.name}}}")
        Parameters.of(new.params)
        return replace(new, queue=QUEUE)

    def target_on(
        self, device: Device, task: Mapping[str, Any], *, exporter_id: str | None, queue: str | None
    ) -> Target:
        """Return the same device: only the owner of a file system unlinks there.

        Raises:
            ConflictError: another device, or an exporter, is asked for.
        """
        del queue  # of a deletion there is one
        what = f"Cannot reschedule Task{{id={task['id']}}}"
        targets.no_exporter(task, exporter_id, "deletes a study")
        if device.name != task["device"]:
            raise ConflictError(
                f"{what} on Device{{name={device.name}}}: it deletes from a file system of {task['device']}, "
                "and only its owner unlinks there"
            )
        if task.get("new_local_aet") is not None:
            raise ConflictError(f"{what} from {task['new_local_aet']}: it deletes a study and speaks to nobody")
        return Target(device.name, targets.queue_at(device, QUEUE, task))

    def process(self, task: TaskView, work: Work) -> Outcome:
        """Ask all rules again, move the files to the unlink list and remove them from the disk.

        Raises:
            ObsoleteError: the study stays: a rule keeps it, or its mark is gone.
            StorageError: some files are still on disk.
        """
        parameters = Parameters.of(task.params)
        order = deleting.Order(
            task_id=task.id,
            made_at=task.created_time,
            study_uid=task.study_uid or "",
            file_system_id=parameters.file_system_id,
            trigger=parameters.trigger,
            who=f"{task.requester_user}@{task.requester_host}" if task.requester_user else f"beat of {task.device}",
        )
        try:
            done = deleting.delete_study(order, work.device.name, _Conditions(work, parameters.trigger))
        except deleting.NotDeleted as kept:
            raise ObsoleteError(str(kept)) from kept
        work.progress(numInstances=done.num_files, completed=done.num_files, bytes=done.size_bytes)
        copies = ", ".join(done.remaining_copies) or "none"
        return Outcome(
            Status.COMPLETED,
            f"Study[uid={task.study_uid}] deleted from {done.path}: {done.num_files} files, {done.size_bytes} bytes; "
            f"copies elsewhere: {copies}",
        )


class _Conditions(TaskSide):
    """A run, as the deletion sees it."""

    def __init__(self, work: Work, trigger: Trigger) -> None:
        self._work = work
        self._trigger = trigger

    def terms(self, file_system: model.FileSystem) -> Terms | None:
        """Return the terms of a file system's group; None: its owner is another device, or has no such group."""
        # As it is now: that of the claim may be an hour old.
        device = configuration.current().devices.get(self._work.device.name)
        if device is None:
            return None
        group = device.file_system_groups.get(file_system.group_id)
        if group is None or file_system.owner_device != device.name:
            return None
        return rules.terms_of(group, device.name, self._trigger)

    def check(self) -> None:
        """Raise if the run shall stop; note that it goes on, for the watchdog."""
        self._work.progress()
        self._work.check_stop()

    def wait(self, seconds: float) -> None:
        """Let that time pass; raise if the run shall stop."""
        self._work.progress()
        self._work.wait(seconds)

    def still_wanted(self, session: Session) -> None:
        """Raise if the run has ended, its lease too, or it was asked to stop.

        Reads only: its row is locked before ledger rows.
        """
        has_lease = and_(Run.ended_at.is_(None), Run.lease_until > func.clock_timestamp())
        row = session.execute(
            select(has_lease.label("has_lease"), Run.stop_reason).where(Run.id == self._work.run_id)
        ).one_or_none()
        if row is None or row.stop_reason is not None or not row.has_lease:
            raise StoppedError(row.stop_reason if row is not None and row.stop_reason else LOST)
