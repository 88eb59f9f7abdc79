"""What became of the objects of one export: recorded, counted, told as progress, summed up at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from archive.errors import SourceError
from archive.query import StoredObject
from archive.storage.copying import SourceGone
from config.device import Exporter
from tasks.errors import PermanentError
from tasks.outcome import ObjectResult, Outcome
from tasks.state import Status
from tasks.work import Work


def status_of(confirmed: int, failed: int, partial_success: str) -> Status:
    """Pure: return how a run ends that came to its last object.

    Args:
        confirmed: objects that are at the destination.
        failed: objects that are not.
        partial_success: how it ends when there are both, the exporter's rule (arcPartialSuccess).
    """
    if not failed:
        return Status.COMPLETED
    return Status(partial_success) if confirmed else Status.FAILED


def confirmed(objects: Iterable[StoredObject], work: Work) -> set[str]:
    """Return the SOP Instance UIDs of what the destination has as it is stored now: it may have been replaced since."""
    digests = work.confirmed()
    return {
        item.sop_uid for item in objects if item.sop_uid in digests and _is_same(digests[item.sop_uid], item.sha256)
    }


def _is_same(sent: str | None, stored: str | None) -> bool:
    """Compare digests; where one is not known, the word of the destination is all there is."""
    return sent is None or stored is None or sent == stored


class Tally:
    """The objects of one run: each ends once, as sent, warned, refused or unreadable, or its turn never comes."""

    def __init__(
        self, exporter: Exporter, objects: Sequence[StoredObject], work: Work, *, done: Collection[str]
    ) -> None:
        """Begin to count.

        Args:
            exporter: where they go.
            objects: all of the entity.
            work: the run.
            done: SOP Instance UIDs of those that need not be sent.
        """
        self._exporter = exporter
        self._work = work
        self._study_uid = objects[0].study_uid
        #: What this run has to send, in order.
        self.missing = [item for item in objects if item.sop_uid not in done]
        self._open = {item.sop_uid: None for item in self.missing}
        self._total = len(objects)
        self._completed = len(objects) - len(self.missing)
        self._warned = self._failed = self._gone = 0
        self._causes: Counter[str] = Counter()
        self._tell()

    @property
    def settled(self) -> int:
        """How many objects of this run have ended one way or the other."""
        return len(self.missing) - len(self._open)

    def is_open(self, item: StoredObject) -> bool:
        """Tell whether an object has not ended yet."""
        return item.sop_uid in self._open

    def sent(self, item: StoredObject, status_code: int | None = None) -> None:
        """Note an object that the destination has confirmed."""
        self._completed += 1
        self._end(item, ObjectResult.SENT, status_code)

    def warned(self, item: StoredObject, text: str, status_code: int) -> None:
        """Note an object that the destination has taken with a remark."""
        self._warned += 1
        self._end(item, ObjectResult.WARNING, status_code, text)

    def refused(self, item: StoredObject, text: str, status_code: int | None = None) -> None:
        """Note an object that the destination did not take."""
        self._fail(item, ObjectResult.REFUSED, text, status_code)

    def unreadable(self, item: StoredObject, error: SourceError) -> None:
        """Note an object that we cannot read."""
        self._gone += isinstance(error, SourceGone)
        self._fail(item, ObjectResult.UNREADABLE, str(error))

    def close(self) -> None:
        """Note that the turn of all others never came."""
        self._work.not_reached(self._open)
        self._open = {}

    def text(self) -> str:
        """Return one line for the operator. Source: outcome messages of EXPORT tasks of dcm4chee-arc-light."""
        left = self._total - self._completed - self._warned - self._failed
        numbers = {"warning": self._warned, "failed": self._failed, "remaining": left}
        more = "".join(f", {name}:{number}" for name, number in numbers.items() if number)
        return f"Export Study[uid={self._study_uid}] to {self._exporter.uri} - completed:{self._completed}{more}"

    def outcome(self) -> Outcome:
        """Return how the run ends that came to its last object.

        Raises:
            PermanentError: what failed are files that are gone; all that is left was sent.
        """
        status = status_of(self._completed + self._warned, self._failed, self._exporter.partial_success)
        if status is Status.FAILED and self._gone == self._failed:
            raise PermanentError(f"{self.text()}: the files of {self._gone} objects are gone")
        return Outcome(status, f"{self.text()}{self._because()}")

    def _because(self) -> str:
        if not self._causes:
            return ""
        [(cause, number), *others] = self._causes.most_common()
        more = f" and {len(others)} other reasons" if others else ""
        return f": {cause}{f' ({number} objects)' if number > 1 else ''}{more}"

    def _fail(self, item: StoredObject, result: ObjectResult, text: str, status_code: int | None = None) -> None:
        self._failed += 1
        self._causes[text] += 1
        self._end(item, result, status_code, text)

    def _end(self, item: StoredObject, result: ObjectResult, status_code: int | None, text: str | None = None) -> None:
        del self._open[item.sop_uid]
        self._work.record(item.sop_uid, result, status_code, text, sha256=item.sha256)
        self._tell()

    def _tell(self) -> None:
        warned = {"warning": self._warned} if self._warned else {}
        self._work.progress(
            numInstances=self._total, completed=self._completed, failed=self._failed,
            remaining=self._total - self._completed - self._warned - self._failed, **warned,
        )  # fmt: skip
