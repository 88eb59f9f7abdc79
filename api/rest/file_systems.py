"""`/fs`: the file systems of a group, what its rules keep, and scheduling studies for deletion."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import answers, audit
from api.answers import NotFound, Route
from api.rest import documents, parameters, times
from api.rest.kinds.deletion import SHAPE
from api.rest.parameters import Parameter
from api.security import Caller, Operator, Reader
from archive import db, model
from archive.deletion import marking, reports
from archive.deletion.rules import Kept
from config import schema, settings
from config.device import Device, FileSystemGroup
from config.schema import Holds
from tasks import deletions, jobs
from tasks.deletions import Asked, Explained
from tasks.errors import ConflictError, NotFoundError
from tasks.jobs import Job
from tasks.operations import our_device
from tasks.stored import SCHEDULE_DELETIONS

router = APIRouter(tags=["file systems"], route_class=Route)

_STUDY = Parameter("studyUID", "Study Instance UID.")
_WHY = Parameter("why", "Shown to whoever wonders.")


@router.get("/fs/{device}/{group}", operation_id="file_system_group", **documents.of(answer=documents.ANYTHING))
def show(request: Request, _caller: Reader, device: str, group: str) -> Response:
    """Show the file systems of a group as their owner last saw them, its attributes, and the last look at it."""
    given = parameters.read(request, ())
    owner, found = _group(device, group)
    with db.transaction() as session:
        answer = {
            "dicomDeviceName": owner.name,
            "fileSystemGroupID": found.id,
            "attributes": _attributes(found),
            "fileSystems": _file_systems(session, owner, found),
            "scheduleStudiesForDeletion": _last_look(session, owner, found),
        }
    return answers.as_json(answer, warnings=given.warnings)


@router.get(
    "/fs/{device}/{group}/explain",
    operation_id="explain_study_deletion",
    **documents.of(_STUDY, answer=documents.array(documents.ANYTHING)),
)
def explain(request: Request, _caller: Reader, device: str, group: str) -> Response:
    """Say what keeps a study on the file systems of a group."""
    given = parameters.read(request, (_STUDY,))
    found = deletions.explain(*_group(device, group), given.required("studyUID"))
    return answers.as_json([_explained(one) for one in found], warnings=given.warnings)


@router.post(
    "/fs/{device}/{group}/scheduleStudyForDeletion",
    operation_id="schedule_study_for_deletion",
    **documents.of(_STUDY, answer=documents.ANYTHING, status=202),
)
def schedule_study(request: Request, caller: Operator, device: str, group: str) -> Response:
    """Schedule a study for deletion from a group: by name, without its rules of age and copies."""
    given = parameters.read(request, (_STUDY,))
    owner, found = _group(device, group)
    study_uid = given.required("studyUID")
    uri = f"{request.url.path}?{answers.without_token(request)}"
    with audit.recorded(caller, "ScheduleStudyForDeletion", uri) as entry:
        look = deletions.schedule_study(owner, found, study_uid, _asked(caller, uri))
        entry.count, entry.failed = len(look.tasks), look.kept
    told = {
        "studyInstanceUID": study_uid,
        "bytes": look.size_bytes,
        "taskIDs": [str(task.id) for task in look.tasks],
        "scheduledTime": times.written(look.tasks[0].scheduled_time, settings.current().zone()),
        "refused": [{"rule": reason.rule, "text": reason.text} for reason in look.reasons],
    }
    answer = answers.as_json(told, 202, given.warnings)
    base = request.url.path.partition("/fs/")[0]
    answer.headers["Location"] = f"{base}/monitor/{SHAPE.slug}?StudyInstanceUID={quote(study_uid, safe='')}"
    return answer


@router.post(
    "/fs/{device}/{group}/scheduleStudiesForDeletion",
    operation_id="schedule_studies_for_deletion",
    **documents.of(answer=documents.thing({"result": documents.TEXT})),
)
def schedule_studies(request: Request, caller: Operator, device: str, group: str) -> Response:
    """Look now for studies of a group that its rules let go, and schedule them for deletion."""
    given = parameters.read(request, ())
    owner, found = _group(device, group)
    asked = _asked(caller, f"{request.url.path}?{answers.without_token(request)}".removesuffix("?"))
    with audit.recorded(caller, "ScheduleStudiesForDeletion", f"{owner.name}/{found.id}"):
        said = deletions.schedule_studies(owner, found, asked)
    return answers.as_json({"result": said}, warnings=given.warnings)


@router.post("/studies/{study}/protect", operation_id="protect_study", **documents.of(_WHY, status=204))
def protect(request: Request, caller: Operator, study: str) -> Response:
    """Keep a study on every file system, whatever the rules say."""
    given = parameters.read(request, (_WHY,))
    with audit.recorded(caller, "ProtectStudy", study) as entry, db.transaction() as session:
        if not marking.protect(session, study, caller.by.actor, given.one("why")):
            raise NotFoundError(f"No such Study: {study}")
        entry.count = 1
    return answers.empty(given.warnings)


@router.post("/studies/{study}/unprotect", operation_id="unprotect_study", **documents.of(status=204))
def unprotect(request: Request, caller: Operator, study: str) -> Response:
    """Leave a study to the rules again."""
    given = parameters.read(request, ())
    with audit.recorded(caller, "UnprotectStudy", study) as entry, db.transaction() as session:
        if not marking.unprotect(session, study):
            if not marking.is_known(session, study):
                raise NotFoundError(f"No such Study: {study}")
            raise ConflictError(f"Study {study} is not protected")
        entry.count = 1
    return answers.empty(given.warnings)


def _group(device_name: str, group_id: str) -> tuple[Device, FileSystemGroup]:
    device = our_device(device_name)
    group = device.file_system_groups.get(group_id)
    if group is None:
        known = ", ".join(device.file_system_groups) or "none"
        raise NotFound(f"No such FileSystemGroup: {group_id} at Device{{name={device_name}}}, expected one of {known}")
    return device, group


def _asked(caller: Caller, uri: str) -> Asked:
    return Asked(caller.by, caller.name, caller.host, uri)


def _attributes(group: FileSystemGroup) -> dict[str, str]:
    """Return the attributes under their names in the manual, as text that `config set` would take."""
    return {
        row.attribute.removeprefix("arc"): row.codec.write(getattr(group, row.field))
        for row in schema.FILE_SYSTEM_GROUP.attrs[1:]
        if row.holds is Holds.ONE
    }


def _file_systems(session: Session, device: Device, group: FileSystemGroup) -> list[dict[str, Any]]:
    table, ledger, report = model.FileSystem, model.StudyOnFileSystem, model.FileSystemReport
    owned = session.scalars(
        select(table).where(table.owner_device == device.name, table.group_id == group.id).order_by(table.id)
    ).all()
    problems = reports.problems(session, owned)
    is_marked = ledger.marked_at.is_not(None)
    counts = {
        row.file_system_id: row
        for row in session.execute(
            select(
                ledger.file_system_id, func.count().label("studies"),
                func.count().filter(is_marked).label("marked"),
                func.coalesce(func.sum(ledger.mark_bytes).filter(is_marked), 0).label("marked_bytes"),
            )
            .where(ledger.file_system_id.in_([one.id for one in owned]))
            .group_by(ledger.file_system_id)
        )
    }  # fmt: skip
    found = []
    for one in owned:
        seen, counted = session.get(report, one.id), counts.get(one.id)
        found.append(
            {
                "path": one.path,
                "status": one.status.value,
                "availability": one.availability.value,
                "healthy": problems[one.id] is None,
                "problem": problems[one.id],
                "checkedAt": _time(seen.checked_at if seen else None),
                "freeBytes": seen.free_bytes if seen else None,
                "totalBytes": seen.total_bytes if seen else None,
                "sharedWith": list(one.shared_with),
                "studies": counted.studies if counted else 0,
                "markedStudies": counted.marked if counted else 0,
                "markedBytes": int(counted.marked_bytes) if counted else 0,
            }
        )
    return found


def _last_look(session: Session, device: Device, group: FileSystemGroup) -> dict[str, Any] | None:
    row = jobs.last(session, Job(device.name, group.id, SCHEDULE_DELETIONS))
    if row is None:
        return None
    return {
        "nextRunAt": None if row.interval_s == jobs.BY_REQUEST_S else _time(row.next_run_at),
        "startedAt": _time(row.started_at),
        "endedAt": _time(row.ended_at),
        "result": row.result,
    }


def _explained(one: Explained) -> dict[str, Any]:
    facts = one.facts
    return {
        "studyInstanceUID": facts.study_uid,
        "path": facts.path,
        "status": facts.status.value,
        "accessTime": _time(facts.access_time),
        "files": facts.num_files,
        "bytes": facts.size_bytes,
        "triggers": [
            {
                "trigger": trigger.value,
                "deletable": not isinstance(verdict, Kept),
                "reasons": [
                    {"rule": reason.rule, "text": reason.text}
                    for reason in (verdict.reasons if isinstance(verdict, Kept) else ())
                ],
            }
            for trigger, verdict in one.verdicts.items()
        ],
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else times.written(at, settings.current().zone())
