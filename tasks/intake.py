"""What each message of another service asks for is made once, however often it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from archive import db
from archive.accounts import AuditEntry
from tasks import job_messages
from tasks.control import AcceptedMessage
from tasks.errors import InvalidError, TaskError
from tasks.job_messages import Job, Sender
from tasks.store import By


@dataclass(frozen=True, slots=True)
class Message:
    """What was delivered."""

    id: str
    #: Name of the Celery task, `schedule.export`.
    name: str
    #: What it asks a task of, `EXPORT`.
    kind: str
    said: Mapping[str, Any]
    #: Where it came from.
    host: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message."""

    message_id: str
    task_ids: tuple[int, ...]
    #: Why it was refused; None: it was accepted.
    refused: str | None
    at: datetime
    #: It was answered before.
    repeated: bool = False


def check_id(message_id: object) -> str:
    """Return the id of a message if it can be kept.

    Raises:
        InvalidError: it cannot.
    """
    if (
        not isinstance(message_id, str)
        or not 0 < len(message_id) <= job_messages.LONGEST_KEY
        or not message_id.isprintable()
    ):
        raise InvalidError(
            f"message id {ascii(message_id)[:80]}: expected 1 to {job_messages.LONGEST_KEY} printable characters"
        )
    return message_id


def accept(message: Message) -> Answer:
    """Make what a message asks for, or keep why it is refused; one that comes again gets the same answer.

    Raises what `db.OUTAGES` holds while the database is away: then nothing was done, and it must come again.
    """
    try:
        job = job_messages.read(message.kind, message.said)
        return _make(message, job)
    except TaskError as error:
        return refuse(message.id, str(error))


def refuse(message_id: str, why: str) -> Answer:
    """Keep that a message is refused; one that was answered before stays so. Raises as `accept` does."""
    with db.transaction() as session:
        before = _answered(session, message_id)
        return before or _keep(session, AcceptedMessage(message_id=message_id, task_ids=[], refused=_plain(why)))


def answer_to(message_id: str) -> Answer | None:
    """Return what became of a message; None: it did not come, or more than 30 days ago."""
    with db.transaction() as session:
        row = session.get(AcceptedMessage, message_id)
        return None if row is None else _answer(row)


def last_refused(limit: int) -> list[Answer]:
    """Return the messages that were refused last, newest first."""
    refused = select(AcceptedMessage).where(AcceptedMessage.refused.is_not(None))
    with db.transaction() as session:
        return [_answer(row) for row in session.scalars(refused.order_by(AcceptedMessage.at.desc()).limit(limit))]


def _make(message: Message, job: Job) -> Answer:
    uri = f"{message.name} {message.id}"
    with db.transaction() as session:
        before = _answered(session, message.id)
        if before is not None:
            return before
        made = job.make(
            session, Sender(By(f"{job.requester}@{message.host}", f"message {message.id}"), message.host, uri)
        )
        session.add(AuditEntry(user=job.requester, host=message.host, action=job.action, what=uri, count=made.new))
        return _keep(session, AcceptedMessage(message_id=message.id, task_ids=list(made.task_ids)))


def _answered(session: Session, message_id: str) -> Answer | None:
    # Deliveries of one message at the same time wait for each other here.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 3))"), {"key": message_id})
    row = session.get(AcceptedMessage, message_id)
    return None if row is None else replace(_answer(row), repeated=True)


def _keep(session: Session, row: AcceptedMessage) -> Answer:
    session.add(row)
    session.flush()
    return _answer(row)


def _answer(row: AcceptedMessage) -> Answer:
    return Answer(row.message_id, tuple(row.task_ids), row.refused, row.at)


def _plain(why: str) -> str:
    return why.encode("utf-8", "replace").decode().replace("\x00", "?")
