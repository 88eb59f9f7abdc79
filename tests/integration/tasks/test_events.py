"""The events feed against a real database."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from archive import db
from tasks import events, store
from tasks.errors import InvalidError
from tasks.events import Cursor, CursorExpiredError
from tasks.record import NewTask
from tasks.store import By

BY = By("test@localhost")


def _make(number: int) -> list[int]:
    with db.transaction() as session:
        return [
            task.id for task in store.insert_tasks(session, [NewTask("EXPORT", "archive-a", "Export")] * number, BY)
        ]


def _follow(cursor: Cursor | None, limit: int = events.MOST) -> events.Page:
    with db.transaction() as session:
        return events.read(session, cursor, limit)


@pytest.mark.usefixtures("database")
def test_every_transition_is_delivered_once_in_pages() -> None:
    made = [*_make(1), *_make(5), *_make(1)]

    seen, cursor = [], None
    while page := _follow(cursor, limit=2):
        seen += [transition.task_id for transition in page.transitions]
        cursor = page.cursor
        if not page.transitions:
            break

    assert seen == made


@pytest.mark.usefixtures("database")
def test_a_late_commit_is_not_missed() -> None:
    with Session(db.engine()) as late:
        late.begin()
        store.insert_tasks(late, [NewTask("EXPORT", "archive-a", "Export")], BY)
        early = _make(1)

        before = _follow(None)
        late.commit()
        after = _follow(before.cursor)

    delivered = [transition.task_id for transition in before.transitions + after.transitions]
    assert len(delivered) == 2
    assert set(early) < set(delivered)


@pytest.mark.usefixtures("database")
def test_cursor_of_another_life_of_the_database_is_refused() -> None:
    _make(1)
    cursor = _follow(None).cursor
    with db.transaction() as session:
        session.execute(text("UPDATE cluster_identity SET epoch = gen_random_uuid()"))

    with pytest.raises(CursorExpiredError) as error:
        _follow(cursor)

    assert error.value.first.seq == 0


def test_cursor_survives_its_text() -> None:
    cursor = Cursor("e-1", 7, 8, 9)

    assert Cursor.parse(str(cursor)) == cursor


def test_what_is_no_cursor_is_named() -> None:
    with pytest.raises(InvalidError, match="after=nonsense"):
        Cursor.parse("nonsense")
