"""Requests that may come twice: the second one gets what the first one made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from tasks.control import IdempotencyKey
from tasks.errors import ConflictError


@dataclass(frozen=True, slots=True)
class Once:
    """A key that a client gave to a request, and what the request says."""

    key: str
    #: Keys of different requesters have nothing to do with each other.
    requester: str
    #: Method and URI.
    request: str


def answered(session: Session, once: Once) -> list[int] | None:
    """Return the tasks that the request made before; None: it is the first one. Locks the key.

    Raises:
        ConflictError: the key was used for another request.
    """
    before = _row(session, once)
    return None if before is None else before.task_ids


def progress(session: Session, once: Once) -> dict[str, Any] | None:
    """Return how far a request for many tasks has come; None: it is the first one. Locks the key; raises as above."""
    before = _row(session, once)
    return None if before is None else before.progress


def note(session: Session, once: Once, how_far: Mapping[str, Any]) -> None:
    """Keep how far a request for many tasks has come, in the transaction that brought it there."""
    row = IdempotencyKey(key=once.key, requester=once.requester, request=once.request, progress=dict(how_far))
    session.merge(row)


def remember(session: Session, once: Once, task_ids: Sequence[int]) -> None:
    """Keep what the request made, in the transaction that made it."""
    session.add(IdempotencyKey(key=once.key, requester=once.requester, request=once.request, task_ids=list(task_ids)))


def _row(session: Session, once: Once) -> IdempotencyKey | None:
    lock = f"{once.requester}/{once.key}"
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 2))"), {"key": lock})
    before = session.get(IdempotencyKey, (once.key, once.requester))
    if before is not None and before.request != once.request:
        raise ConflictError(
            f"Idempotency-Key: {once.key} was used for another request: {before.request}, expected a new key"
        )
    return before
