"""Keys of a C-FIND out of the query of a URL, as QIDO-RS writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset

#: Query parameters that are no attributes. Source: QIDO-RS (PS3.18 8.3.4), diff service of dcm4chee-arc-light
OPTIONS = frozenset(
    name.lower()
    for name in (
        "accept", "access_token", "allowDuplicate", "batchID", "comparefield", "dicomDeviceName", "different",
        "ForceQueryByStudyUID", "fuzzymatching", "includefield", "limit", "missing", "offset", "orderby", "priority",
        "queue", "scheduledTime", "SplitStudyDateRange", "taskPriority",
    )
)  # fmt: skip

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
#: What a key of a study is not: a sequence, or bytes.
_NO_KEYS = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"})


class NoKey(ValueError):
    """A name stands for no attribute that can be asked for; the text names it."""


def keyword_of(name: str) -> str:
    """Return the keyword of an attribute that is named by keyword or tag.

    Raises:
        NoKey: there is no such attribute, or it cannot be a key.
    """
    tag = int(name, 16) if _TAG.fullmatch(name) else tag_for_keyword(name)
    keyword = "" if tag is None else keyword_for_tag(tag)
    if tag is None or not keyword or dictionary_VR(tag) in _NO_KEYS:
        raise NoKey(f"{name}: expected the keyword or the tag of an attribute with a plain value")
    return keyword


def of_query(query: str, level: str, wanted: Iterable[str]) -> Dataset:
    """Return the identifier of a query: what is to match, and empty what is only wanted.

    Args:
        query: `PatientID=1&StudyDate=20260101-`; options of the service are passed over.
        level: Query/Retrieve Level.
        wanted: keywords of attributes that shall be answered.

    Raises:
        NoKey: a name stands for no attribute that can be asked for.
    """
    keys = Dataset()
    for keyword in wanted:
        setattr(keys, keyword, None)
    for name, value in parse_qsl(query.lstrip("?"), keep_blank_values=True):
        if name.lower() not in OPTIONS:
            keyword = keyword_of(name)
            # A list of UIDs has commas in a URL and backslashes in an identifier.
            several = keyword.endswith("UID") and "," in value
            setattr(keys, keyword, value.split(",") if several else value)
    keys.QueryRetrieveLevel = level
    return keys
