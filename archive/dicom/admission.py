"""Who may open an association with a device: decided by values only."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from archive.dicom import listening
from archive.dicom.acceptor import Proposal, Rejection
from config.device import Device

# Source: DICOM PS3.8, table 9-21.
CALLING_NOT_RECOGNIZED = Rejection(1, 1, 3)
CALLED_NOT_RECOGNIZED = Rejection(1, 1, 7)
TEMPORARY_CONGESTION = Rejection(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2)

#: The part of a device's associations that one remote address may have, so that it keeps nobody else out.
_PART_OF_ONE_ADDRESS = 0.75


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an association is not taken: for the caller, and in words for the log."""

    rejection: Rejection
    text: str


def refusal(device: Device, connections: Collection[str], proposal: Proposal) -> Refusal | None:
    """Return why a device does not take an association on these connections, None if it does."""
    meant = [ae for ae in listening.acceptors(device, connections) if ae.answers_to(proposal.called)]
    if not meant:
        expected = ", ".join(listening.titles(device, connections)) or "none: no AE takes associations here"
        return Refusal(CALLED_NOT_RECOGNIZED, f"called AE {proposal.called!r}, expected one of {expected}")
    # Whose own title it is goes before whoever else answers to it.
    called = next((ae for ae in meant if ae.title == proposal.called), meant[0])
    accepted = called.accepted_calling_titles
    if accepted and proposal.calling not in accepted:
        text = f"calling AE {proposal.calling!r}, {called.title} accepts only {', '.join(accepted)}"
        return Refusal(CALLING_NOT_RECOGNIZED, text)
    return None


def to_close(addresses: Sequence[str], keep: int) -> list[int]:
    """Return which silent connections to close so that so many are left: each time the oldest of who has most.

    Args:
        addresses: where each connection comes from, the oldest first.
        keep: how many may be left.
    """
    held: dict[str, deque[int]] = {}
    for number, address in enumerate(addresses):
        held.setdefault(address, deque()).append(number)
    # Among equals the one whose oldest is the oldest of all.
    return [
        max(held.values(), key=lambda numbers: (len(numbers), -numbers[0] if numbers else 0)).popleft()
        for _ in range(len(addresses) - keep)
    ]


def most_of_one_address(limit: int) -> int:
    """Return how many of a device's associations one remote address may have."""
    return math.ceil(limit * _PART_OF_ONE_ADDRESS)
