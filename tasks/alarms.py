"""What operators must know once: raised into a table, told in the log, counted by `/metrics`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from sqlalchemy import BigInteger, CursorResult, Text, delete, func, select, text
from sqlalchemy import cast as cast_in_sql
from sqlalchemy.orm import Mapped, Session, mapped_column

from archive import db
from archive.db import Base
from config.device import Device
from tasks.record import Instant, Task
from tasks.registry import reading_kinds
from tasks.state import DONE, Status

_log = structlog.get_logger()

#: A waiting task does not keep its study any more.
PIN_EXPIRED = "pin expired"

#: Alarms that are raised at once; the rest comes with the next turn.
_MOST = 1000


class Alarm(Base):
    """Something that an operator was told about once."""

    __tablename__ = "alarm"

    name: Mapped[str] = mapped_column(Text, primary_key=True, comment="what it is about, for example pin expired")
    subject: Mapped[str] = mapped_column(Text, primary_key=True, comment="whom it is about, for example task 42")
    device: Mapped[str] = mapped_column(Text, comment="the device that raised it")
    text: Mapped[str] = mapped_column(Text, comment="in words")
    raised_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())


_EXPIRED = text(
    """
    INSERT INTO alarm (name, subject, device, text)
    SELECT :name, 'task ' || id, :device,
           'Task ' || id || ' (' || kind || ' on ' || task.device || ', queue ' || queue || ') waits since '
           || to_char(scheduled_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') || ', longer than '
           || CAST(:waits AS text) || ': it does not keep study ' || study_uid || ' in group ' || CAST(:group AS text)
           || ' of device ' || CAST(:device AS text) || ' from deletion any more'
    FROM task
    WHERE kind = ANY(:kinds) AND status = :scheduled AND scheduled_time < clock_timestamp() - CAST(:waits AS interval)
      AND NOT EXISTS (SELECT FROM alarm WHERE name = :name AND subject = 'task ' || task.id)
      AND EXISTS (
        SELECT FROM study JOIN study_on_file_system AS ledger ON ledger.study_id = study.id
        JOIN file_system AS at ON at.id = ledger.file_system_id
        WHERE study.study_uid = task.study_uid AND at.owner_device = :device AND at.group_id = :group)
    ORDER BY id LIMIT :most
    ON CONFLICT DO NOTHING
    RETURNING subject, text
    """
)


def tell_expired_pins(device: Device) -> str:
    """Raise an alarm for each waiting task that keeps its study on this device no more; once for each task.

    A task that never ran keeps what it reads for a limited time from its scheduled time on
    (arcPinWaitingTasksFor of the group).
    """
    raised = 0
    for group in device.file_system_groups.values():
        with db.transaction() as session:
            raised += _raise(session, device.name, group.id, group.pin_waiting_for)
    with db.transaction() as session:
        cleared = _clear(session)
    return f"{raised} alarms raised, {cleared} cleared"


def _raise(session: Session, device: str, group: str, waits: timedelta) -> int:
    values = {
        "name": PIN_EXPIRED, "device": device, "group": group, "kinds": reading_kinds(), "waits": waits,
        "scheduled": Status.SCHEDULED.value, "most": _MOST,
    }  # fmt: skip
    rows = session.execute(_EXPIRED, values).all()
    for subject, said in rows:
        _log.warning("alarm", name=PIN_EXPIRED, device=device, subject=subject, text=said)
    return len(rows)


def _clear(session: Session) -> int:
    """Remove the alarms of tasks that are done, or gone."""
    task_id = cast_in_sql(func.substr(Alarm.subject, len("task ") + 1), BigInteger)
    is_open = select(Task.id).where(Task.id == task_id, Task.status.not_in([status.value for status in DONE]))
    done = session.execute(delete(Alarm).where(Alarm.name == PIN_EXPIRED, ~is_open.exists()))
    return cast("CursorResult[Any]", done).rowcount
