"""A change of many tasks as it was understood, and the same in the words of another node.

The original ignores what it does not know, a misspelt filter as well as a dry run: so nothing of the text of a request
goes there, only names and values that it knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from fastapi import Request

from api.rest import changes, filters
from api.rest.parameters import Given
from api.rest.scope import Scope
from api.security import Caller
from tasks.wish import Wish

Parameters = list[tuple[str, str]]

DRY_RUN = "dryrun"

_COMMON = frozenset({"dicomDeviceName", "status", "batchID", "createdTime", "updatedTime"})
_RESCHEDULE = frozenset({"newDeviceName", "scheduledTime"})
_STUDY = "StudyInstanceUID"

#: What the original knows, by the name of the scope; a scope that is not here it does not have.
#: Source: filters and parameters of dcm4chee's monitor and queue services.
_ORIGINAL: Mapping[str, frozenset[str]] = {
    "queue": _COMMON | _RESCHEDULE | {"localAET", "remoteAET", _STUDY},
    "export": _COMMON | _RESCHEDULE | {"ExporterID", _STUDY},
    "retrieve": _COMMON
    | _RESCHEDULE
    | {"LocalAET", "RemoteAET", "DestinationAET", _STUDY, "dcmQueueName", "newQueueName"},
    "diff": _COMMON
    | _RESCHEDULE
    | {"LocalAET", "PrimaryAET", "SecondaryAET", "comparefield", "checkMissing", "checkDifferent"},
    "stgver": _COMMON | _RESCHEDULE | {"LocalAET", _STUDY},
}

#: The original counts milliseconds, and rounds.
_MICROSECONDS = re.compile(r"\.\d{4}")


@dataclass(frozen=True, slots=True)
class Call:
    """A change of many tasks, and the request that asks for it."""

    request: Request
    caller: Caller
    scope: Scope
    given: Given
    wished: Wish

    @property
    def is_dry_run(self) -> bool:
        """Nothing shall be changed. Raises BadRequest: it is neither true nor false."""
        return self.given.is_true(DRY_RUN)

    def parameters(self, zone: tzinfo) -> Parameters:
        """Return the call as query parameters.

        Args:
            zone: on whose clock a scheduled time is written.
        """
        return [
            *filters.parameters_of(self.wished.wanted, self.scope.filters),
            *changes.parameters_of(self.wished.change, zone),
            *([(DRY_RUN, "true")] if self.is_dry_run else []),
        ]

    def beyond_the_original(self, parameters: Parameters) -> list[str]:
        """Return what the original would ignore or take in another way, as `name=value`; the dry run comes last."""
        known = _ORIGINAL.get(self.scope.name)
        if known is None:
            return [f"the services {self.scope.prefix}"]
        several = sum(name == "status" for name, _ in parameters) > 1
        return [
            f"{name}={value}"
            for name, value in parameters
            if name not in known
            or (name == "status" and several)
            or (name in filters.RANGES and _MICROSECONDS.search(value))
        ]
