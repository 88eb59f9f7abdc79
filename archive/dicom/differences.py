"""Pure: how one archive's answer about a study differs from another's, and the data set that says so."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

#: What is asked for and compared if nothing else is said.
USUAL = (
    "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "StudyDescription", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
)  # fmt: skip

_NUMBERS = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
_LONGEST_TIME = 6


def differing(primary: Dataset, secondary: Dataset, keywords: Collection[str]) -> Dataset:
    """Return the secondary's values of those attributes that differ; empty: none does.

    An attribute that one of them does not answer at all cannot be compared.
    """
    found = Dataset()
    for keyword in keywords:
        if keyword in primary and keyword in secondary and _plain(primary[keyword]) != _plain(secondary[keyword]):
            found.add(secondary[keyword])
    return found


def nothing() -> Dataset:
    """Return what an archive has of a study that it does not have."""
    found = Dataset()
    for keyword in _NUMBERS:
        setattr(found, keyword, 0)
    return found


def told(primary: Dataset, other: Dataset, titles: tuple[str, str], at: datetime) -> Dataset:
    """Return the primary's attributes with those of the secondary as their original values.

    Args:
        primary: what the primary answered; not changed.
        other: what differs, or `nothing`.
        titles: AE titles of primary and secondary.
        at: when they were compared.

    Source: PS3.3 C.12.1 (Original Attributes Sequence), DIFF of dcm4chee-arc-light
    """
    item = Dataset()
    item.ModifiedAttributesSequence = Sequence([other])
    item.SourceOfPreviousValues = titles[1]
    item.ModifyingSystem = titles[0]
    item.AttributeModificationDateTime = at.strftime("%Y%m%d%H%M%S.%f%z")
    item.ReasonForTheAttributeModification = "DIFFS"
    ds = Dataset(primary)
    ds.pop("QueryRetrieveLevel", None)
    ds.OriginalAttributesSequence = Sequence([item])
    return ds


def _plain(element: DataElement) -> tuple[str, ...]:
    """Return the values in a form in which what means the same is the same; the order of several does not matter."""
    values = element.value if element.VM > 1 else () if element.is_empty else (element.value,)
    return tuple(sorted(_text(element.VR, str(value)) for value in values))


def _text(vr: str, text: str) -> str:
    text = text.strip(" \0")
    if vr == "PN":
        return "=".join(group.rstrip("^ ") for group in text.split("=")).rstrip("=")
    if vr == "TM":
        time, _, fraction = text.replace(":", "").partition(".")
        return f"{time.ljust(_LONGEST_TIME, '0')}.{fraction.rstrip('0')}"
    if vr == "IS" and text.lstrip("+-").isdigit():
        return str(int(text))
    return text
