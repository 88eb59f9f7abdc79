"""Paths that stand on the unlink list before a file is written under them, so that a crash leaves no stray file."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Text, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from archive import db, errors, model, overlapping
from archive.storage import answers, files, health, unlinking

#: No file is begun this long after its path was listed, long before a sweep would clear it.
LATEST_BEGIN_S = unlinking.STORING_GRACE.total_seconds() / 4

#: How many names are reserved for a series at once, and then, and from then on.
_BATCHES = (8, 128)
#: Series for which names are held in reserve; those of the one that was not used for the longest time go first.
_MOST_SERIES = 16

#: As PostgreSQL reads it.
_STORING_GRACE = f"{unlinking.STORING_GRACE.total_seconds()} seconds"

_EXCHANGE = overlapping.Statement(
    "exchange_names",
    """
    WITH withdrawn AS (
        DELETE FROM unlink WHERE id = ANY($1::bigint[]) AND reason = 'storing'
    ), listed AS (
        INSERT INTO unlink (file_system_id, path, reason, next_attempt_at)
        SELECT $2::bigint, path, 'storing', now() + $4::interval
        FROM jsonb_array_elements_text($3::jsonb) AS path
        RETURNING path, id
    )
    SELECT json_object_agg(path, id) FROM listed
""",
)

#: File system, study UID, series UID.
_Key = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class Name:
    """A path that may be written to."""

    file_system_id: int
    #: Absolute path of the root of the file system.
    root: str
    path: str
    #: Its entry of reason `storing`.
    unlink_id: int


@dataclass(slots=True)
class _Reserve:
    names: list[Name] = field(default_factory=list)
    #: By the monotonic clock, in seconds.
    listed_at: float = 0.0
    batches: int = 0


def announce(session: Session, file_system_id: int, paths: Collection[str]) -> dict[str, int]:
    """Put paths on the unlink list; return the numbers of their entries."""
    listed = func.unnest(literal(list(paths), ARRAY(Text))).table_valued("path", name="listed").render_derived()
    stale_at = func.now() + unlinking.STORING_GRACE
    values = select(literal(file_system_id), listed.c.path, literal(model.UnlinkReason.STORING.value), stale_at)
    statement = insert(model.Unlink).from_select(["file_system_id", "path", "reason", "next_attempt_at"], values)
    return dict(session.execute(statement.returning(model.Unlink.path, model.Unlink.id)).all())


def withdraw(session: Session, unlink_ids: Collection[int]) -> None:
    """Take paths off the list under which nothing is on disk, also after a power cut; not those a sweep has taken."""
    listed = model.Unlink.id.in_(list(unlink_ids))
    session.execute(delete(model.Unlink).where(listed, model.Unlink.reason == model.UnlinkReason.STORING))


class Names:
    """Names in reserve for what one association stores; not to be shared by threads."""

    def __init__(self) -> None:
        self._reserves: OrderedDict[_Key, _Reserve] = OrderedDict()
        #: Entries of names that can be withdrawn.
        self._unused: list[int] = []
        #: Names of files that were taken off the disk.
        self._abandoned: list[Name] = []

    def take(self, file_system: model.FileSystem, study_uid: str, series_uid: str) -> Name:
        """Return a name for an object; lists more of them when there is none."""
        key = (file_system.id, study_uid, series_uid)
        reserve = self._reserves.setdefault(key, _Reserve())
        self._reserves.move_to_end(key)
        if reserve.names and time.monotonic() - reserve.listed_at > LATEST_BEGIN_S:
            self._put_aside(reserve)
        if not reserve.names:
            self._fill(file_system, key, reserve)
        return reserve.names.pop()

    def give_back(self, name: Name) -> None:
        """Note that nothing is on disk under a name any more, nor will be."""
        self._abandoned.append(name)

    def close(self) -> None:
        """Take all names that were not used off the list."""
        self._unused = self.left()
        if self._unused:
            with db.transaction() as session:
                withdraw(session, self._unused)
            self._unused.clear()

    def left(self) -> list[int]:
        """Forget all names; return the entries of those under which nothing is on disk, for `withdraw`."""
        for reserve in self._reserves.values():
            self._put_aside(reserve)
        self._reserves.clear()
        self._sync_abandoned()
        unused, self._unused = self._unused, []
        return unused

    def _fill(self, file_system: model.FileSystem, key: _Key, reserve: _Reserve) -> None:
        while len(self._reserves) > _MOST_SERIES:
            self._put_aside(self._reserves.popitem(last=False)[1])
        number = _BATCHES[min(reserve.batches, len(_BATCHES) - 1)]
        now = datetime.now(UTC)
        paths = [files.path_for(key[1], key[2], None, now) for _ in range(number)]
        self._sync_abandoned()
        entries = _exchanged(self._unused, file_system.id, paths)
        self._unused.clear()
        reserve.names = [Name(file_system.id, file_system.path, path, unlink_id) for path, unlink_id in entries.items()]
        reserve.listed_at = time.monotonic()
        reserve.batches += 1

    def _put_aside(self, reserve: _Reserve) -> None:
        self._unused += [name.unlink_id for name in reserve.names]
        reserve.names = []

    def _sync_abandoned(self) -> None:
        """Make it good that files are gone; where the disk refuses, or is away, a sweep sees to their names."""
        folders: dict[tuple[Path, Path], list[int]] = {}
        for name in self._abandoned:
            root = Path(name.root)
            folders.setdefault((root, (root / name.path).parent), []).append(name.unlink_id)
        self._abandoned.clear()
        for (root, folder), unlink_ids in folders.items():
            with suppress(errors.StorageError):
                if answers.ask(root, partial(_is_sure, root, folder), answers.Sort.WRITE):
                    self._unused += unlink_ids


def _exchanged(unlink_ids: Collection[int], file_system_id: int, paths: Collection[str]) -> dict[str, int]:
    """Do what `withdraw` and `announce` do, in one exchange with the database."""
    ids = ",".join(map(str, unlink_ids))
    values = [f"{{{ids}}}", str(file_system_id), json.dumps(list(paths)), _STORING_GRACE]
    entries: dict[str, int] = json.loads(overlapping.run(_EXCHANGE, values))
    return entries


def _is_sure(root: Path, folder: Path) -> bool:
    files.sync_remaining(root, [folder])
    return (root / health.MARKER).exists()
