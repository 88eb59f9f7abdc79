"""EXPORT: a study, series or object to the exporter named in the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from archive import db, query
from archive.query import Entity, StoredObject
from archive.storage import reading
from config.device import EXPORT_QUEUE, Device, Exporter
from tasks import placing, targets
from tasks.errors import ConflictError, InvalidError, PermanentError
from tasks.exporters import registry
from tasks.job_messages import EntityJob, Name, Wish, job_of
from tasks.outcome import Outcome
from tasks.record import NewTask, TaskView
from tasks.registry import task_kind
from tasks.state import Status
from tasks.store import Target
from tasks.work import Work


@job_of("EXPORT")
class ExportJob(EntityJob):
    """Export a study, or one series or object of it."""

    action: ClassVar[str] = "ExportTask"

    exporter_id: Name = Field(alias="exporterID", description="Exporter of that device.")

    def wish(self) -> Wish:
        """Return the task, at the device of the AE title that has the exporter and the least waiting.

        Raises:
            NotFoundError: no device of ours has the AE title, the exporter, or the exporter's queue.
        """
        place = placing.place(self.aet, self.exporter_id, self.device)
        return self.at(place, "EXPORT", exporter_id=self.exporter_id)


@task_kind("EXPORT")
class Export:
    """Send a study, series or object to an exporter. Source: EXPORT tasks of dcm4chee-arc-light."""

    name: ClassVar[str] = "EXPORT"
    slug: ClassVar[str] = "export"
    reads_files: ClassVar[bool] = True
    is_housekeeping: ClassVar[bool] = False
    queue: ClassVar[str] = EXPORT_QUEUE

    def validate(self, new: NewTask, device: Device) -> NewTask:
        """Check exporter and queue at the device; queue and destination follow from the exporter.

        Raises:
            InvalidError: the exporter, its queue or its scheme is unknown; the text names it.
        """
        if not new.exporter_id or not new.study_uid:
            raise InvalidError("an EXPORT task needs an ExporterID and a StudyInstanceUID")
        exporter = device.exporter(new.exporter_id)
        if exporter is None:
            raise InvalidError(f"No Exporter configured with ID:{new.exporter_id}")
        if exporter.queue not in device.queues:
            raise InvalidError(f"No Queue configured with name:{exporter.queue}")
        sender = registry.sender_for(exporter, device)
        return replace(
            new,
            queue=exporter.queue,
            local_aet=new.local_aet or exporter.ae_title,
            destination=sender.destination(exporter),
        )

    def target_on(
        self, device: Device, task: Mapping[str, Any], *, exporter_id: str | None, queue: str | None
    ) -> Target:
        """Return the exporter's queue and AE at that device.

        Raises:
            ConflictError: the device lacks exporter, queue or AE, or cannot export there.
        """
        del queue  # of an export it is the exporter's, as the AE is unless another one is asked for
        wanted = exporter_id or task["exporter_id"]
        exporter = device.exporter(wanted)
        if exporter is None:
            raise ConflictError(
                f"Cannot reschedule Export Task{{id={task['id']}}} to Exporter{{id={wanted}}} "
                f"not configured at Device{{name={device.name}}}"
            )
        targets.queue_at(device, exporter.queue, task)
        aet = targets.ae_at(device, task.get("new_local_aet") or exporter.ae_title or task["local_aet"])
        try:
            sender = registry.sender_for(exporter, device)
        except InvalidError as error:
            raise ConflictError(str(error)) from error
        destination = sender.destination(exporter)
        return Target(device.name, exporter.queue, exporter.id, aet, destination, sender.reads_files)

    def process(self, task: TaskView, work: Work) -> Outcome:
        """Send every object of the entity that this round has not confirmed yet.

        Raises:
            PermanentError: the exporter is not at this device any more.
        """
        exporter = _exporter(task, work.device)
        sender = registry.sender_for(exporter, work.device)
        objects = _objects(task, work.device) if sender.reads_files else []
        if sender.reads_files and not objects:
            return Outcome(
                Status.WARNING, f"Could not find {Entity(task.study_uid or '', task.series_uid, task.sop_uid)}"
            )
        if exporter.touches:
            db.insist(lambda session: reading.touch(session, objects))
        return sender.send(exporter, objects, work)


def _exporter(task: TaskView, device: Device) -> Exporter:
    exporter = device.exporter(task.exporter_id or "")
    if exporter is None:
        raise PermanentError(f"No Exporter configured with ID:{task.exporter_id} at device {device.name}")
    return exporter


def _objects(task: TaskView, device: Device) -> list[StoredObject]:
    assert task.study_uid is not None  # noqa: S101 - validate() saw to it
    study_uid = task.study_uid
    return db.insist(
        lambda session: list(
            query.objects_of(session, study_uid, task.series_uid, task.sop_uid, device_name=device.name)
        )
    )
