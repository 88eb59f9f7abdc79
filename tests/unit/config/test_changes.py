"""A change of one attribute: what is written for it, and when it may not stand."""

from __future__ import annotations

import pytest

from config import changes, ldif_records, source
from config.entry import Entry
from config.errors import ConfigError, EntryNotFound, InvalidValue

A = "dicomDeviceName=archive-a,cn=Devices,cn=DICOM Configuration,dc=dcm4che,dc=org"
EXPORT = f"dcmQueueName=Export,{A}"
TO_PACS = f"dcmExporterID=ToPACS,{A}"


def sample() -> list[Entry]:
    return [record.entry for record in ldif_records.parse(source.sample(), "sample").records]


def changed(name: str, attribute: str, value: str) -> list[Entry]:
    found = sample()
    entry = changes.find(found, name)
    return [one.with_values(attribute, [value]) if one is entry else one for one in found]


def planned(name: str, attribute: str, *values: str) -> dict[str, list[str]]:
    return changes.plan(changes.find(sample(), name), attribute, values)


def test_plan_adds_the_object_class_that_an_attribute_needs() -> None:
    assert planned(EXPORT, "arctaskmaxsilence", "PT5M") == {
        "arcTaskMaxSilence": ["PT5M"],
        "objectClass": ["dcmQueue", "arcQueue"],
    }
    assert planned(A, "arcTaskLease", "PT3S") == {"arcTaskLease": ["PT3S"]}


def test_plan_writes_letter_case_that_directories_want() -> None:
    assert planned(EXPORT, "dicomInstalled", " false ") == {"dicomInstalled": ["FALSE"]}


def test_plan_takes_a_connection_by_name() -> None:
    name = f"dicomAETitle=ARCHIVE_A,{A}"

    assert planned(name, "dicomNetworkConnectionReference", "dicom") == {
        "dicomNetworkConnectionReference": [f"cn=dicom,{A}"]
    }


def test_plan_refuses_invalid_values_and_unknown_names() -> None:
    with pytest.raises(InvalidValue, match=r"dcmRetryDelay='30': expected an ISO-8601"):
        planned(EXPORT, "dcmRetryDelay", "30")
    with pytest.raises(ConfigError, match=r"dcmMaxRetrys: expected .* nearest is dcmMaxRetries"):
        planned(EXPORT, "dcmMaxRetrys", "3")
    with pytest.raises(EntryNotFound, match="expected the DN of an entry"):
        planned(f"cn=none,{A}", "cn", "x")


def test_change_may_not_make_it_worse_but_may_leave_what_is_wrong_elsewhere() -> None:
    before = changed(TO_PACS, "dcmQueueName", "None")
    accept = changes.no_worse(before, ())

    accept(before)
    accept(sample())
    with pytest.raises(ConfigError, match="expected a port of its own"):
        accept(changed(f"cn=dicom,{A}", "dicomPort", "11113"))
