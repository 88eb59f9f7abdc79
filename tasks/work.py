"""What a handler may use while it runs: its device, stop requests, progress, and what became of each object."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from archive import db
from config.device import Device
from tasks import slots, store
from tasks.errors import StoppedError
from tasks.outcome import CONFIRMED, ObjectOutcome, ObjectResult
from tasks.run import ObjectOutcomeRow
from tasks.store import Claimed

#: Seconds between two looks at the run row.
LOOK_EVERY_S = 0.5

#: Outcomes are written when so many wait, or the oldest waits for LOOK_EVERY_S.
_FLUSH_AT = 100

#: Why a run stops whose lease is over: not somebody's wish.
LOST = "lost"

_log = structlog.get_logger()


def now_s() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, so that no lease outlives it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Work:
    """One run, seen by its handler.

    The fence: past the end of its lease a run begins nothing until it knows that the lease was renewed.
    """

    def __init__(
        self, claimed: Claimed, device: Device, *, home: Path, lease_ends_s: float, trace: Path | None = None
    ) -> None:
        self.task = claimed.task
        self.run_id = claimed.run_id
        self.device = device
        self.home = home
        self._lease_ends_s = lease_ends_s
        self._looked_s = now_s()
        self._flushed_s = now_s()
        self._outcomes: list[ObjectOutcome] = []
        self._progress: dict[str, Any] = {}
        self._progress_changed = False
        self._began: dict[str, datetime] = {}
        self._trace = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if trace else None

    def check_stop(self) -> None:
        """Go on, or raise; to be called between sub-operations. Looks at the database every 0.5 s at most.

        Raises:
            StoppedError: the run was asked to stop, or its lease is over for good.
        """
        if now_s() - self._flushed_s >= LOOK_EVERY_S:
            self.flush()
        # Last: to write may take longer than the lease lasts.
        now = now_s()
        if now - self._looked_s >= LOOK_EVERY_S or now >= self._lease_ends_s:
            self._look()

    def begin(self, sop_uid: str) -> None:
        """Begin a sub-operation: check for a stop, note the time, and leave a trace where one is asked for."""
        self.check_stop()
        self._began[sop_uid] = datetime.now(UTC)
        self.trace("begin", sop_uid)

    def wait(self, seconds: float) -> None:
        """Sleep that long, but stop when asked."""
        until = now_s() + seconds
        while (left := until - now_s()) > 0:
            self.check_stop()
            time.sleep(min(left, LOOK_EVERY_S))

    def record(
        self,
        sop_uid: str,
        result: ObjectResult,
        status_code: int | None = None,
        text: str | None = None,
        *,
        sha256: str | None = None,
    ) -> None:
        """Note how one object ended; written to the database soon, and for certain when the run ends.

        Args:
            sop_uid: of the object.
            result: how it ended.
            status_code: DIMSE or HTTP status.
            text: what an operator shall read.
            sha256: of the file that was sent, 64 hexadecimal digits.
        """
        self.trace("end", sop_uid)
        began = self._began.pop(sop_uid, None)
        self._outcomes.append(ObjectOutcome(sop_uid, result, status_code, text, began, sha256))
        if len(self._outcomes) >= _FLUSH_AT:
            self.flush()

    def not_reached(self, sop_uids: Iterable[str]) -> None:
        """Note objects whose turn never came in this run."""
        self._outcomes += [ObjectOutcome(sop_uid, ObjectResult.NOT_REACHED) for sop_uid in sop_uids]

    def progress(self, **numbers: Any) -> None:
        """Note the progress of the run; written with the outcomes."""
        self._progress |= numbers
        self._progress_changed = True

    def confirmed(self) -> dict[str, str | None]:
        """Return what the destination has confirmed in this round of the task.

        Returns:
            for each SOP Instance UID the SHA-256 of the file that was confirmed last, None where it is not known.
        """
        return self._ended_before(CONFIRMED)

    def refused(self) -> set[str]:
        """Return the SOP Instance UIDs whose sending failed before, in this round of the task."""
        return set(self._ended_before({ObjectResult.REFUSED}))

    def not_ended(self, run_ids: Collection[int]) -> set[int]:
        """Return those of these runs, of any task, that have not ended."""
        found = db.insist(lambda session: slots.leases(session, run_ids))
        return {lease.run_id for lease in found if not lease.has_ended}

    def flush(self) -> None:
        """Write outcomes and progress that wait."""
        self._flushed_s = now_s()
        if self._outcomes or self._progress_changed:
            waiting, self._outcomes, self._progress_changed = self._outcomes, [], False
            db.insist(lambda session: self._write(session, waiting))

    def trace(self, what: str, sop_uid: str = "") -> None:
        """Append one line to the trace file, in one write: what, clock, task, run, object."""
        if self._trace is not None:
            line = f"{what} {time.monotonic_ns()} {self.task.id} {self.run_id} {os.getpid()} {sop_uid}\n"
            os.write(self._trace, line.encode())

    def close(self) -> None:
        """Write what waits and let go of the trace file."""
        try:
            self.flush()
        finally:
            if self._trace is not None:
                os.close(self._trace)
                self._trace = None

    def _ended_before(self, results: Collection[ObjectResult]) -> dict[str, str | None]:
        query = (
            select(ObjectOutcomeRow.sop_uid, ObjectOutcomeRow.sha256)
            .where(
                ObjectOutcomeRow.task_id == self.task.id,
                ObjectOutcomeRow.round == self.task.round,
                ObjectOutcomeRow.result.in_([result.value for result in results]),
            )
            .order_by(ObjectOutcomeRow.id)
        )
        return db.insist(lambda session: {row.sop_uid: row.sha256 for row in session.execute(query)})

    def _write(self, session: Session, outcomes: Sequence[ObjectOutcome]) -> None:
        if outcomes:
            session.execute(
                insert(ObjectOutcomeRow),
                [
                    {
                        "run_id": self.run_id, "task_id": self.task.id, "round": self.task.round,
                        "sop_uid": outcome.sop_uid, "result": outcome.result.value,
                        "status_code": outcome.status_code, "text": outcome.text, "began_at": outcome.began_at,
                        "sha256": outcome.sha256,
                    }
                    for outcome in outcomes
                ],
            )  # fmt: skip
        store.note_progress(session, self.task.id, self.run_id, self._progress)

    def _look(self) -> None:
        while True:
            asked_s = now_s()
            try:
                with db.transaction() as session:
                    found = slots.leases(session, [self.run_id])
            except db.OUTAGES as outage:
                if now_s() < self._lease_ends_s:
                    _log.warning("database away, the run goes on within its lease", error=db.first_line(outage))
                    self._looked_s = now_s()
                    return
            else:
                if self._judge(found[0] if found else None, asked_s):
                    return
            time.sleep(LOOK_EVERY_S / 2)

    def _judge(self, lease: slots.Lease | None, asked_s: float) -> bool:
        if lease is None or lease.has_ended:
            raise StoppedError(lease.stop_reason if lease and lease.stop_reason else LOST)
        if lease.stop_reason is not None:
            raise StoppedError(lease.stop_reason)
        self._looked_s = asked_s
        self._lease_ends_s = asked_s + lease.remaining_s
        # By our clock, not by what the database said: the process may have been frozen since it asked.
        return now_s() < self._lease_ends_s
