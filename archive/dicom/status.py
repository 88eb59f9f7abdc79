"""What a DIMSE response says about its request."""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
UNRECOGNIZED_OPERATION = 0x0211
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
SUB_OPERATIONS_WITH_FAILURES = 0xB000
CANCELED = 0xFE00
PENDING = 0xFF00

#: Source: PS3.7 Annex C, PS3.4 B.2.3 (B000, B006, B007), C.4.2.1.5 (A801)
_NAMES = {
    0x0000: "Success",
    0x0001: "Warning",
    0x0105: "No Such Attribute",
    0x0106: "Invalid Attribute Value",
    0x0107: "Attribute List Error",
    0x0110: "Processing Failure",
    0x0111: "Duplicate SOP Instance",
    0x0112: "No Such SOP Instance",
    0x0115: "Invalid Argument Value",
    0x0116: "Attribute Value Out of Range",
    0x0117: "Invalid SOP Instance",
    0x0118: "No Such SOP Class",
    0x0119: "Class-Instance Conflict",
    0x0120: "Missing Attribute",
    0x0121: "Missing Attribute Value",
    0x0122: "Refused: SOP Class Not Supported",
    0x0124: "Refused: Not Authorized",
    0x0210: "Duplicate Invocation",
    0x0211: "Unrecognized Operation",
    0x0212: "Mistyped Argument",
    0x0213: "Resource Limitation",
    0xA801: "Refused: Move Destination Unknown",
    0xB000: "Warning: Coercion of Data Elements",
    0xB006: "Warning: Elements Discarded",
    0xB007: "Warning: Data Set Does Not Match SOP Class",
    0xFE00: "Canceled",
}

#: What a whole range of codes means, by mask and value. Source: PS3.4 B.2.3, PS3.7 Annex C
_RANGES = (
    (0xFF00, 0xA700, "Refused: Out of Resources"),
    (0xFF00, 0xA900, "Error: Data Set Does Not Match SOP Class"),
    (0xF000, 0xA000, "Failure"),
    (0xF000, 0xB000, "Warning"),
    (0xF000, 0xC000, "Error: Cannot Understand"),
    (0xFF00, 0xFF00, "Pending"),
)

#: Warnings of the general codes. Source: PS3.7 Annex C.4
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a DIMSE response, with what the peer said about it."""

    #: Status (0000,0900), 16 bits.
    code: int
    #: Error Comment (0000,0902), at most 64 characters on the wire.
    comment: str | None = None
    #: Offending Element (0000,0901): tags as numbers, 0x00100010 for Patient's Name.
    offending: tuple[int, ...] = ()

    @property
    def is_success(self) -> bool:
        """Say whether the request was done."""
        return self.code == SUCCESS

    @property
    def is_warning(self) -> bool:
        """Say whether the request was done, with a remark."""
        return self.code & 0xF000 == 0xB000 or self.code in _WARNINGS

    @property
    def is_failure(self) -> bool:
        """Say whether the request was not done; whatever is no success and no warning counts as that."""
        return not self.is_success and not self.is_warning

    @property
    def is_pending(self) -> bool:
        """Say whether further responses follow. Source: PS3.4 C.4.1.1.4, C.4.2.1.5"""
        return self.code & 0xFF00 == PENDING

    @property
    def is_out_of_resources(self) -> bool:
        """Say whether the peer has no place: it will say the same of the next object. Source: PS3.4 B.2.3 A7xx"""
        return self.code & 0xFF00 == OUT_OF_RESOURCES

    @property
    def text(self) -> str:
        """Say it for people: `A700 Refused: Out of Resources (disk full)`."""
        comment = f" ({self.comment})" if self.comment else ""
        return f"{self.code:04X} {self._name}{comment}"

    @property
    def _name(self) -> str:
        if self.code in _NAMES:
            return _NAMES[self.code]
        return next((name for mask, value, name in _RANGES if self.code & mask == value), "Failure")

    def __str__(self) -> str:
        return self.text
