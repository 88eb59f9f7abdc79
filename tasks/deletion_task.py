"""What a DELETE_STUDY task carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from archive.deletion.rules import Trigger
from tasks.errors import InvalidError
from tasks.marks import KIND

#: dcmQueueName of deletions. Source: queue of dcm4chee 2.
QUEUE = "DeleteStudy"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the task of a deletion carries."""

    file_system_id: int
    #: Path of its root, for whoever looks at the task.
    path: str
    group: str
    trigger: Trigger
    #: Bytes that were there when it was made.
    size_bytes: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Read the parameters of a task.

        Raises:
            InvalidError: they are not those of a deletion.
        """
        match params:
            case {"fileSystemID": int(number), "fileSystem": str(path), "group": str(group), "trigger": str(trigger),
                  "bytes": int(size_bytes)} if trigger in list(Trigger):  # fmt: skip
                return cls(number, path, group, Trigger(trigger), size_bytes)
        raise InvalidError(f"parameters of a {KIND} task: {dict(params)}, expected those of scheduleStudyForDeletion")

    def written(self) -> dict[str, Any]:
        """Return them as a task keeps them."""
        return {
            "fileSystemID": self.file_system_id, "fileSystem": self.path, "group": self.group,
            "trigger": self.trigger.value, "bytes": self.size_bytes,
        }  # fmt: skip
