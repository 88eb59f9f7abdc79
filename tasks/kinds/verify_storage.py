"""STGVER: the files of a study, series or object against the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, WithJsonSchema

from archive import db
from archive.query import Entity
from archive.storage import verifying
from archive.storage.verifying import Holding, Policy, Verdict
from config.device import Device
from tasks import placing, targets
from tasks.errors import InvalidError
from tasks.job_messages import EntityJob, Name, Wish, job_of
from tasks.outcome import ObjectResult, Outcome
from tasks.record import NewTask, TaskView
from tasks.registry import task_kind
from tasks.state import Status
from tasks.store import Target
from tasks.work import Work

#: Where verifications go. Source: dcm4chee-arc-light
QUEUE = "StgVerTasks"

#: Files that are judged in one transaction.
_CHUNK = 100


_Way = Annotated[Policy, Field(strict=False), WithJsonSchema({"type": "string", "enum": [*Policy]})]


@job_of("STGVER")
class VerifyJob(EntityJob):
    """Hold the files of a study, or of one series or object of it, against the index."""

    action: ClassVar[str] = "VerifyTask"

    policy: _Way | None = Field(default=None, description="How files are looked at.")
    updates: bool | None = Field(
        default=None, alias="updateLocationStatus", description="Note in the index what was found."
    )
    storage_ids: list[Name] = Field(
        default=[], alias="storageIDs", description="Only files of these file-system groups; absent: of all."
    )

    def wish(self) -> Wish:
        """Return the task, at the device of the AE title that has the queue and the least waiting.

        Raises:
            NotFoundError: no device of ours has the AE title, or the queue.
        """
        said = {
            "policy": self.policy, "updateLocationStatus": self.updates, "storageIDs": sorted(set(self.storage_ids)),
        }  # fmt: skip
        params = {name: value for name, value in said.items() if value not in (None, [])}
        return self.at(placing.place_in(QUEUE, self.aet, self.device), "STGVER", params=params)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What is asked for; the names of a task's parameters are those that the wire's are made from."""

    policy: Policy
    updates: bool
    #: Names of file-system groups; none: all.
    storage_ids: tuple[str, ...]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Read the parameters of a task.

        Raises:
            InvalidError: the policy is not one of ours.
        """
        policy = params.get("policy") or Policy.OBJECT_CHECKSUM
        if policy not in list(Policy):
            raise InvalidError(f"storageVerificationPolicy={policy}: expected one of {', '.join(Policy)}")
        storages = tuple(sorted(str(one) for one in params.get("storageIDs") or ()))
        return cls(Policy(policy), params.get("updateLocationStatus") is True, storages)


@task_kind("STGVER")
class VerifyStorage:
    """Look whether the files are there, have their size, can be read and have their digest.

    Source: STGVER tasks of dcm4chee-arc-light
    """

    name: ClassVar[str] = "STGVER"
    slug: ClassVar[str] = "stgver"
    reads_files: ClassVar[bool] = True
    is_housekeeping: ClassVar[bool] = False
    queue: ClassVar[str] = QUEUE

    def validate(self, new: NewTask, device: Device) -> NewTask:
        """Check queue, local AE and policy.

        Raises:
            InvalidError: one of them is missing or unknown.
        """
        if not new.study_uid:
            raise InvalidError("a STGVER task needs a StudyInstanceUID")
        _Parameters.of(new.params)
        checked = replace(new, queue=new.queue or QUEUE)
        targets.check_new(checked, device)
        return checked

    def target_on(
        self, device: Device, task: Mapping[str, Any], *, exporter_id: str | None, queue: str | None
    ) -> Target:
        """Return the queue and the local AE at that device.

        Raises:
            ConflictError: the device lacks queue or AE.
        """
        targets.no_exporter(task, exporter_id, "verifies files")
        name, titles = targets.queue_at(device, queue or task["queue"], task), targets.titles_at(device, task)
        return Target(device.name, name, local_aet=titles.local, destination_aet=titles.destination, reads_files=True)

    def process(self, task: TaskView, work: Work) -> Outcome:
        """Look at every file within reach; a file that is wrong has an outcome of its own.

        Raises:
            NotMounted: a file system is away, so that nothing can be said of its files.
        """
        parameters = _Parameters.of(task.params)
        entity = Entity(task.study_uid or "", task.series_uid, task.sop_uid)
        found = db.insist(lambda session: verifying.holding(session, entity, work.device.name, parameters.storage_ids))
        tally = _Tally(task, work, parameters, found)
        for start in range(0, len(found.copies), _CHUNK):
            tally.judge([_looked(copy, parameters, work) for copy in found.copies[start : start + _CHUNK]])
        return tally.outcome(entity)


def _looked(copy: verifying.Copy, parameters: _Parameters, work: Work) -> Verdict:
    work.check_stop()
    # The watchdog looks for signs of life; a large study takes long.
    work.progress()
    return verifying.look(copy, parameters.policy, work.check_stop)


class _Tally:
    """What one run has seen."""

    def __init__(self, task: TaskView, work: Work, parameters: _Parameters, found: Holding) -> None:
        self._task = task
        self._work = work
        self._parameters = parameters
        self._found = found
        self._completed = 0
        self._failed = 0
        for sop_uid in found.without_file:
            self._fail(sop_uid, "the index knows no file of it")
        self._tell()

    def judge(self, verdicts: Sequence[Verdict]) -> None:
        """Count files, and write what is wrong with them to the index if that was asked for."""
        parameters, study_uid = self._parameters, self._task.study_uid or ""
        known = db.insist(lambda session: verifying.still_known(session, verdicts))
        if parameters.updates:
            db.insist(lambda session: verifying.note(session, study_uid, known, parameters.policy))
        for verdict in known:
            if verdict.status is None:
                self._completed += 1
            else:
                self._fail(verdict.copy.sop_uid, verdict.text or verdict.status)
        self._tell()

    def outcome(self, entity: Entity) -> Outcome:
        """Return how the run ends: never FAILED for what the files are. Source: STGVER of dcm4chee-arc-light"""
        parameters, away = self._parameters, self._found.out_of_reach
        storages = f"on Storage[{', '.join(parameters.storage_ids)}]" if parameters.storage_ids else ""
        said = f"Commit Storage of {entity} {storages}for {parameters.policy}: - "
        said += f"completed: {self._completed}, failed: {self._failed}"
        if away:
            places = ", ".join(sorted(set(away.values())))
            said += f"; {len(away)} objects out of reach of {self._work.device.name}, on {places}"
        return Outcome(Status.WARNING if self._failed or away else Status.COMPLETED, said)

    def _fail(self, sop_uid: str, text: str) -> None:
        self._failed += 1
        self._work.record(sop_uid, ObjectResult.UNREADABLE, text=text)

    def _tell(self) -> None:
        self._work.progress(completed=self._completed, failed=self._failed)
