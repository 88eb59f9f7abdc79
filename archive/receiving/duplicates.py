"""What to do with an object that is in the archive already: the same again, kept out, or in place of the first."""

from __future__ import annotations

from pathlib import Path

from archive import errors
from archive.dicom import part10
from archive.storage import rows
from archive.storage.indexing import Copies, Copy
from archive.storage.ingest import Ending

_CHUNK = 1 << 20

#: Policies under which other bytes take the place of the first, whoever sent them. The same bytes never do:
#: they would only be written a second time.
_REPLACING = frozenset({"ALWAYS", "EVEN_WITH_EQUAL_DIGEST"})


def judge(path: Path, pending: rows.Pending, before: Copies, policy: str) -> Ending | None:
    """Return DUPLICATE or DIFFERS for an object that has good copies; None: it takes the place of these.

    Args:
        path: of its file.
        pending: what would be indexed.
        before: what the index has of its SOP Instance UID.
        policy: NEVER, ALWAYS, EVEN_WITH_EQUAL_DIGEST (as ALWAYS) or SAME_SOURCE; the same bytes are a duplicate under
            each.

    Source: dcmOverwritePolicy of dcm4chee.
    """
    if any(_is_same(path, pending, copy) for copy in before.good):
        return Ending.DUPLICATE
    same_place = (before.study_uid, before.series_uid) == (pending.header.study_uid, pending.header.series_uid)
    may_replace = policy in _REPLACING or (
        policy == "SAME_SOURCE" and any(copy.source == pending.source for copy in before.good)
    )
    return None if same_place and may_replace else Ending.DIFFERS


def _is_same(path: Path, pending: rows.Pending, copy: Copy) -> bool:
    """Tell whether a copy has the same data set; the File Meta Information may differ, it names who sent it."""
    if copy.sha256 == pending.written.sha256:
        return True
    if copy.transfer_syntax_uid != pending.header.transfer_syntax_uid:
        return False
    try:
        with path.open("rb") as ours, Path(copy.path).open("rb") as theirs:
            rest = path.stat().st_size - part10.data_set_offset(ours)
            if rest != copy.size_bytes - part10.data_set_offset(theirs):
                return False
            while chunk := ours.read(_CHUNK):
                if chunk != theirs.read(len(chunk)):
                    return False
            return True
    except (OSError, errors.SourceError):
        # Not within reach, or damaged: nobody can say that it is the same.
        return False
