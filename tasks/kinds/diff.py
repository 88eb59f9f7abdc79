"""DIFF: what two AEs answer about the same studies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from pydantic import Field
from pydicom.dataset import Dataset

from archive import db
from archive.dicom import differences, keys, nodes, queries
from archive.dicom.requestor import Requestor
from config.device import Device
from tasks import diffs, peers, placing, targets
from tasks.diffs import Found, What
from tasks.errors import InvalidError
from tasks.job_messages import Name, TaskJob, Title, Wish, job_of
from tasks.outcome import Outcome
from tasks.record import NewTask, TaskView
from tasks.registry import task_kind
from tasks.state import Status
from tasks.store import Target
from tasks.work import Work

#: Where comparisons go. Source: dcm4chee-arc-light
QUEUE = "DiffTasks"

#: Parameter with the tags of the set that `comparefield` names: what is compared stays, wherever the task is moved.
_ATTRIBUTES = "compareAttributes"

#: So many findings are written at once.
_CHUNK = 100

#: Characters of a query. Source: dcm4chee-arc-light, whose table keeps no longer one; its clients show no more
_LONGEST_QUERY = 255


def query_string(asked: Mapping[str, str]) -> str:
    """Return the keys of a C-FIND as a task keeps them.

    Raises:
        InvalidError: they are too long.
    """
    text = urlencode(asked)
    if len(text) > _LONGEST_QUERY:
        raise InvalidError(f"the query has {len(text)} characters: expected at most {_LONGEST_QUERY}")
    return text


@job_of("DIFF")
class DiffJob(TaskJob):
    """Compare what two archives answer to one query for studies."""

    action: ClassVar[str] = "DiffTask"

    primary: Title = Field(alias="primaryAET", description="AE title whose studies are compared.")
    secondary: Title = Field(alias="secondaryAET", description="AE title that they are compared with.")
    query: dict[str, str] = Field(
        default={}, description="Which studies: keywords or tags of DICOM, each with the value to match; absent: all."
    )
    fields: list[Name] = Field(
        default=[], alias="comparefield", description="Keywords or tags of what is compared; absent: the usual ones."
    )
    check_different: bool = Field(default=True, alias="different", description="Count studies that differ.")
    check_missing: bool = Field(default=False, alias="missing", description="Count studies that the secondary lacks.")

    def wish(self) -> Wish:
        """Return the task, at the device of the AE title that has the queue and the least waiting.

        Raises:
            NotFoundError: no device of ours has the AE title, or the queue.
            InvalidError: a key of the query is no attribute.
        """
        try:
            asked = {keys.keyword_of(name): value for name, value in self.query.items()}
        except keys.NoKey as error:
            raise InvalidError(f"query: {error}") from error
        said = {
            "queryString": query_string(asked), "checkMissing": self.check_missing,
            "checkDifferent": self.check_different,
        }  # fmt: skip
        place = placing.place_in(QUEUE, self.aet, self.device)
        params = {**said, "comparefield": ",".join(self.fields)} if self.fields else said
        return self.at(place, "DIFF", remote_aet=self.primary, destination_aet=self.secondary, params=params)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What is compared; the names of a task's parameters are those of the wire."""

    keys: Dataset
    #: Keywords.
    fields: tuple[str, ...]
    check_missing: bool
    check_different: bool

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Read the parameters of a task.

        Raises:
            InvalidError: a name in the query, or a field to compare, is no attribute.
        """
        given = params.get(_ATTRIBUTES) or params.get("comparefield") or ()
        names = given.split(",") if isinstance(given, str) else given
        try:
            fields = tuple(keys.keyword_of(str(name)) for name in names) or differences.USUAL
            wanted = dict.fromkeys(("StudyInstanceUID", *fields, *differences.USUAL))
            asked = keys.of_query(str(params.get("queryString") or ""), "STUDY", wanted)
        except keys.NoKey as error:
            raise InvalidError(str(error)) from error
        return cls(asked, fields, params.get("checkMissing") is True, params.get("checkDifferent", True) is True)


def _of_set(compared: object, device: Device) -> dict[str, Any]:
    """Return the attributes of the set of this name as a parameter. Source: dcmAttributeSet of type DIFF_RS"""
    named = device.attribute_sets.get(compared) if isinstance(compared, str) else None
    return {_ATTRIBUTES: list(named.tags)} if named is not None and named.installed else {}


@task_kind("DIFF")
class Diff:
    """Ask a primary and a secondary AE for the same studies; keep those that are missing or different.

    Source: DIFF tasks of dcm4chee-arc-light, PS3.4 C.4.1
    """

    name: ClassVar[str] = "DIFF"
    slug: ClassVar[str] = "diff"
    reads_files: ClassVar[bool] = False
    is_housekeeping: ClassVar[bool] = False
    queue: ClassVar[str] = QUEUE

    def validate(self, new: NewTask, device: Device) -> NewTask:
        """Check queue, the three AEs, and the query.

        Raises:
            InvalidError: one of them is missing or unknown.
        """
        peers.check(new.remote_aet, "PrimaryAET")
        peers.check(new.destination_aet, "SecondaryAET")
        new = replace(new, params={**new.params, **_of_set(new.params.get("comparefield"), device)})
        _Parameters.of(new.params)
        checked = replace(new, queue=new.queue or QUEUE, destination=peers.destination_of(new.remote_aet))
        targets.check_new(checked, device)
        return checked

    def target_on(
        self, device: Device, task: Mapping[str, Any], *, exporter_id: str | None, queue: str | None
    ) -> Target:
        """Return the queue and the local AE at that device; who is compared stays.

        Raises:
            ConflictError: the device lacks queue or AE.
        """
        targets.no_exporter(task, exporter_id, "compares")
        name, titles = targets.queue_at(device, queue or task["queue"], task), targets.titles_at(device, task)
        destination = peers.destination_of(task["remote_aet"])
        return Target(
            device.name, name, local_aet=titles.local, destination=destination, destination_aet=task["destination_aet"]
        )

    def process(self, task: TaskView, work: Work) -> Outcome:
        """Compare each study that the primary has; what an earlier run found is forgotten.

        Raises:
            DestinationError: one of the two cannot be reached or asked.
        """
        comparison = _Comparison(task, work)
        db.insist(lambda session: diffs.forget(session, task.id, work.run_id))
        studies = comparison.studies_of_primary()
        comparison.compare(studies)
        return comparison.outcome()


@dataclass(slots=True)
class _Comparison:
    """One run."""

    task: TaskView
    work: Work
    compared: int = 0
    counts: dict[What, int] = field(default_factory=lambda: dict.fromkeys(What, 0))
    _found: list[Found] = field(default_factory=list)

    def studies_of_primary(self) -> list[str]:
        """Return what the primary has, each study once, as DICOM JSON: a data set takes ten times the memory."""
        parameters = _Parameters.of(self.task.params)
        self._tell()
        found: dict[str, str] = {}
        with peers.association(self.work, self._primary, queries.contexts(queries.FIND_CLASS)) as association:
            for ds in self._find(association, parameters.keys):
                # The watchdog looks for signs of life; a large archive answers for a long time.
                self._tell()
                study_uid = str(ds.get("StudyInstanceUID", ""))
                if study_uid and study_uid not in found:
                    found[study_uid] = json.dumps(_as_json(ds))
        return list(found.values())

    def compare(self, studies: Sequence[str]) -> None:
        """Ask the secondary for each of these studies, on one association."""
        if not studies:
            return
        parameters = _Parameters.of(self.task.params)
        with peers.association(self.work, self._secondary, queries.contexts(queries.FIND_CLASS)) as association:
            for study in studies:
                self.work.check_stop()
                ds = Dataset.from_json(study)
                asked = keys.of_query("", "STUDY", dict.fromkeys((*parameters.fields, *differences.USUAL)))
                asked.StudyInstanceUID = ds.StudyInstanceUID
                there = [
                    one for one in self._find(association, asked) if one.get("StudyInstanceUID") == ds.StudyInstanceUID
                ]
                self._judge(ds, there[0] if there else None, parameters)
        self._write()

    def outcome(self) -> Outcome:
        """Return how the run ends. Source: DIFF of dcm4chee-arc-light"""
        differ = ", ".join(f"{what}: {number}" for what, number in self.counts.items() if number)
        text = f"{self.compared} studies compared" + (f", {differ}" if differ else "")
        return Outcome(Status.WARNING if differ else Status.COMPLETED, text)

    @property
    def _primary(self) -> str:
        return self.task.remote_aet or ""

    @property
    def _secondary(self) -> str:
        return self.task.destination_aet or ""

    def _find(self, association: Requestor, asked: Dataset) -> Iterator[Dataset]:
        silence_s = nodes.limits_of(self.work.device, self.task.local_aet or "").response_s
        return queries.find(association, asked, silence_s, priority=peers.priority_of(self.task))

    def _judge(self, ds: Dataset, there: Dataset | None, parameters: _Parameters) -> None:
        self.compared += 1
        if there is None and parameters.check_missing:
            self._note(ds, What.MISSING, differences.nothing())
        elif there is not None and parameters.check_different:
            other = differences.differing(ds, there, parameters.fields)
            if other:
                self._note(ds, What.DIFFERENT, other)
        self._tell()

    def _note(self, ds: Dataset, what: What, other: Dataset) -> None:
        self.counts[what] += 1
        told = differences.told(ds, other, (self._primary, self._secondary), datetime.now(UTC))
        self._found.append(Found(str(ds.StudyInstanceUID), what, _as_json(told)))
        if len(self._found) >= _CHUNK:
            self._write()

    def _write(self) -> None:
        found, self._found = self._found, []
        db.insist(lambda session: diffs.keep(session, self.task.id, self.work.run_id, found))

    def _tell(self) -> None:
        self.work.progress(matches=self.compared, **{what.value: number for what, number in self.counts.items()})


def _as_json(ds: Dataset) -> dict[str, Any]:
    """Return a data set in the DICOM JSON model; what a peer sent that is no value of its sort is left out."""
    found: dict[str, Any] = ds.to_json_dict(suppress_invalid_tags=True)
    return found
