"""Entries to devices: the sample, what is invalid, what refers to nothing, and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest

from config import changes, checks, dn, entries, ldif_records, schema, source
from config.device import AttributeSet, FileSystem
from config.entries import Finding, Reading, Severity
from config.entry import Entry
from tasks.exporters import registry

DEVICES = "cn=Devices,cn=DICOM Configuration,dc=dcm4che,dc=org"
A = f"dicomDeviceName=archive-a,{DEVICES}"
EXPORT = f"dcmQueueName=Export,{A}"
TO_PACS = f"dcmExporterID=ToPACS,{A}"


def sample() -> list[Entry]:
    return [record.entry for record in ldif_records.parse(source.sample(), "sample").records]


def changed(name: str, **attributes: list[str]) -> list[Entry]:
    found = sample()
    entry = changes.find(found, name)
    edited = entry
    for attribute, values in attributes.items():
        edited = edited.with_values(attribute, values)
    return [edited if one is entry else one for one in found]


def errors(found: list[Entry]) -> list[Finding]:
    return list(checks.errors(checks.check(entries.read(found))))


def test_sample_is_two_archives_and_a_remote_device() -> None:
    reading = entries.read(sample())

    assert [f for f in checks.check(reading) if f.severity is not Severity.WARNING] == []
    cluster = reading.cluster
    assert set(cluster.devices) == {"archive-a", "archive-b", "pacs"}
    assert list(cluster.ours) == ["archive-a", "archive-b"]
    for name, title, port, http in (("archive-a", "ARCHIVE_A", 11112, 8081), ("archive-b", "ARCHIVE_B", 11113, 8082)):
        device = cluster.devices[name]
        ae = device.aes[title]
        (dicom,) = device.installed_connections(ae.connections, "DICOM")
        (app,) = device.web_apps.values()
        (web,) = device.installed_connections(app.connections, "HTTP")
        assert (dicom.hostname, dicom.port, web.hostname, web.port) == ("127.0.0.1", port, "127.0.0.1", http)
        assert (ae.other_titles, app.service_classes, app.path) == (("ARCFLEET",), ("DCM4CHEE_ARC",), "/dcm4chee-arc")
        assert set(device.queues) == {"Export", "Retrieve", "DiffTasks", "StgVerTasks", "DeleteStudy"}
        for queue in device.queues.values():
            assert (queue.max_retries, queue.retry_delay_multiplier) == (10, 200)
            assert (queue.retry_delay, queue.max_retry_delay) == (timedelta(seconds=30), timedelta(minutes=10))
            assert queue.purge_completed_after == timedelta(days=1)
        uris = {exporter.id: exporter.uri for exporter in device.exporters.values()}
        assert uris == {
            "Noop": "noop:",
            "ToFolder": "file:export",
            "ToPACS": "dicom:PACS",
            "Nearline": "fsgroup:NEARLINE_STORAGE",
        }
        assert {exporter.queue for exporter in device.exporters.values()} == {"Export"}
        assert set(device.file_system_groups) == {"ONLINE_STORAGE", "NEARLINE_STORAGE"}
    assert cluster.devices["archive-a"].file_system_groups["ONLINE_STORAGE"].file_systems == (
        FileSystem("storage/archive-a/online", ("archive-b",)),
    )
    pacs = cluster.devices["pacs"]
    assert (pacs.is_archive, pacs.is_ours, pacs.connections["dicom"].port) == (False, False, 11119)


def test_schemes_that_have_no_sender_are_warnings() -> None:
    found = checks.check(entries.read(sample()), schemes={"file", "noop"})

    assert {f.value for f in found} == {"dicom:PACS", "fsgroup:NEARLINE_STORAGE"}
    assert checks.check(entries.read(sample())) == []
    assert set(registry.SENDERS) == checks.EXPORTER_SCHEMES


@pytest.mark.parametrize("part", schema.PARTS, ids=lambda part: part.object_class)
def test_every_row_names_a_field_and_every_field_has_a_row(part: schema.Part) -> None:
    rows = [row.field for row in part.attrs]
    fields = {field.name for field in dataclasses.fields(part.type)}

    children = {str(child.collection) for child in schema.CHILDREN} if part is schema.DEVICE else set()
    flags = set(schema.DEVICE_MARKS.values()) if part is schema.DEVICE else set()
    assert len(rows) == len(set(rows))
    assert set(rows) == fields - children - flags


def test_devices_that_are_written_read_as_the_same() -> None:
    reading = entries.read(sample())
    written = []
    for device in reading.cluster.devices.values():
        names = {name: reading.dns[device.name, "connections", name] for name in device.connections}
        for part in schema.PARTS:
            held = {device.name: device} if part.collection is None else getattr(device, part.collection)
            for key, value in held.items():
                name = reading.dns[device.name, part.collection or "", key]
                written.append(Entry(name, entries.attributes_of(part, value, names)))

    assert entries.read(written) == reading


def test_attribute_sets_of_comparisons_are_read_and_others_of_the_same_name_left_alone() -> None:
    sets = [
        Entry(
            f"dcmAttributeSetType={kind}+dcmAttributeSetID=Names,{A}",
            {"objectClass": ["dcmAttributeSet"], "dcmAttributeSetType": [kind], "dcmAttributeSetID": ["Names"],
             "dcmTag": tags},
        )
        for kind, tags in (("QIDO_RS", ["00080050"]), ("DIFF_RS", ["00100010", "00100020"]))
    ]  # fmt: skip
    reading = entries.read([*sample(), *sets])

    held = reading.cluster.devices["archive-a"].attribute_sets
    assert dict(held) == {"Names": AttributeSet("Names", "DIFF_RS", ("00100010", "00100020"))}
    assert [(one.severity, "QIDO_RS" in one.dn) for one in reading.findings] == [(Severity.INFO, True)]


def test_order_of_entries_does_not_matter() -> None:
    assert entries.read(reversed(sample())).cluster == entries.read(sample()).cluster


def test_letter_case_of_names_does_not_matter() -> None:
    shouted = [
        Entry(entry.dn, {name.upper(): values for name, values in entry.attributes.items()}) for entry in sample()
    ]

    assert entries.read(shouted).cluster == entries.read(sample()).cluster


def test_named_devices_are_ours_without_the_mark() -> None:
    found = changed(A, objectClass=["dicomDevice", "dcmArchiveDevice"], arcTaskLease=[])

    assert "archive-a" not in entries.read(found).cluster.ours
    assert entries.read(found).cluster.devices["archive-a"].is_archive
    assert "archive-a" in entries.read(found, ["archive-a"]).cluster.ours


def test_marked_device_of_another_cluster_is_foreign() -> None:
    found = changed(A, arcClusterName=["north"])

    assert list(entries.read(found).cluster.ours) == ["archive-b"]
    assert list(entries.read(found, cluster_name="north").cluster.ours) == ["archive-a"]
    assert list(entries.read(found, ["archive-b"], "north").cluster.ours) == ["archive-a", "archive-b"]
    assert entries.read(found).cluster.devices["archive-a"].is_archive


def test_unknown_named_device_is_an_error() -> None:
    (finding,) = entries.read(sample(), ["archive-c"]).findings

    assert str(finding).endswith("expected names of devices: archive-a, archive-b, pacs")


def test_invalid_value_is_named_and_its_default_stays() -> None:
    reading = entries.read(changed(EXPORT, dcmRetryDelay=["30s"]))

    (finding,) = reading.findings
    assert (finding.severity, finding.dn, finding.attribute) == (Severity.ERROR, EXPORT, "dcmRetryDelay")
    assert (finding.value, finding.device, finding.refused) == ("30s", "archive-a", True)
    assert "ISO-8601" in finding.message
    queue = reading.cluster.devices["archive-a"].queues["Export"]
    assert (queue.retry_delay, queue.max_retries) == (timedelta(minutes=1), 10)


@pytest.mark.parametrize(
    ("name", "attributes", "collection", "key"),
    [
        (EXPORT, {"dicomInstalled": ["maybe"]}, "queues", "Export"),
        (EXPORT, {"dcmQueueName": ["Import"]}, "queues", "Export"),
        (f"cn=http,{A}", {"dcmProtocol": ["HTPP"]}, "connections", "http"),
        (f"cn=http,{A}", {"dicomHostname": []}, "connections", "http"),
        (TO_PACS, {"dcmURI": ["PACS"]}, "exporters", "ToPACS"),
        (TO_PACS, {"dcmQueueName": []}, "exporters", "ToPACS"),
    ],
)
def test_entry_whose_default_would_mislead_is_refused(
    name: str, attributes: dict[str, list[str]], collection: str, key: str
) -> None:
    reading = entries.read(changed(name, **attributes))

    assert next(f.dn for f in reading.findings if f.refused) == name
    assert key not in getattr(reading.cluster.devices["archive-a"], collection)


def test_two_values_of_a_single_valued_attribute_are_refused() -> None:
    (finding,) = errors(changed(EXPORT, dcmMaxRetries=["1", "2"]))

    assert finding.message == "expected one value"


def test_one_bad_value_of_several_is_dropped() -> None:
    reading = entries.read(changed(EXPORT, dcmSchedule=["hour=25", "hour=18-6"]))

    schedules = reading.cluster.devices["archive-a"].queues["Export"].schedules
    assert [str(schedule) for schedule in schedules] == ["hour=18-6"]
    assert len(reading.findings) == 1


def test_connection_without_a_name_is_named_by_its_address() -> None:
    name = f"dicomHostname=h.example+dicomPort=104,dicomDeviceName=pacs,{DEVICES}"
    found = changed(f"dicomAETitle=PACS,dicomDeviceName=pacs,{DEVICES}", dicomNetworkConnectionReference=[name])
    found.append(
        Entry(name, {"objectClass": ["dicomNetworkConnection"], "dicomHostname": ["h.example"], "dicomPort": ["104"]})
    )

    pacs = entries.read(found).cluster.devices["pacs"]

    assert pacs.aes["PACS"].connections == ("h.example:104",)
    assert pacs.connections["h.example:104"].port == 104


def test_entries_and_attributes_that_are_not_acted_on_are_listed_for_our_devices_only() -> None:
    found = changed(A, dcmStorageID=["fs1"])
    for device in ("archive-a", "pacs"):
        found.append(
            Entry(f"dcmStorageID=fs1,dicomDeviceName={device},{DEVICES}", {"objectClass": ["dcmStorage"]}),
        )

    infos = [f for f in entries.read(found).findings if f.severity is Severity.INFO]

    assert [(f.dn, f.attribute) for f in infos] == [(A, "dcmStorageID"), (f"dcmStorageID=fs1,{A}", None)]
    assert "dcmStorage" in infos[1].message


def without(name: str) -> list[Entry]:
    return [entry for entry in sample() if dn.parse(entry.dn) != dn.parse(name)]


@pytest.mark.parametrize(
    ("found", "name", "message"),
    [
        (
            lambda: changed(f"dicomAETitle=ARCHIVE_A,{A}", dicomNetworkConnectionReference=[f"cn=none,{A}"]),
            f"dicomAETitle=ARCHIVE_A,{A}",
            "expected the DN of a network connection of the same device",
        ),
        (lambda: changed(TO_PACS, dcmQueueName=["Exprot"]), TO_PACS, "expected queue DeleteStudy or DiffTasks"),
        (lambda: changed(TO_PACS, dicomAETitle=["NONE"]), TO_PACS, "expected AE ARCHIVE_A"),
        (lambda: changed(TO_PACS, dcmURI=["dicom:NONE"]), TO_PACS, "expected the AE title of a device"),
        (lambda: changed(TO_PACS, dcmURI=["fsgroup:X"]), TO_PACS, "expected file-system group NEARLINE_STORAGE or"),
        (lambda: without(f"dcmWebAppName=archive-a,{A}"), A, "expected a web application of class DCM4CHEE_ARC"),
        (
            lambda: changed(f"cn=http,{A}", dicomInstalled=["FALSE"]),
            A,
            "expected a web application of class DCM4CHEE_ARC with an installed HTTP connection",
        ),
        (
            lambda: changed(f"cn=dicom,{A}", dicomPort=["11119"]),
            f"cn=dicom,{A}",
            "expected a port of its own on 127.0.0.1, also the one of pacs/dicom",
        ),
        (
            lambda: changed(f"arcFileSystemGroupID=ONLINE_STORAGE,{A}", arcFileSystem=["x|sharedWith=pacs"]),
            f"arcFileSystemGroupID=ONLINE_STORAGE,{A}",
            "sharedWith: expected device archive-a or archive-b",
        ),
        (
            lambda: changed(f"arcFileSystemGroupID=ONLINE_STORAGE,{A}", arcFileSystem=["storage/archive-a/nearline"]),
            f"arcFileSystemGroupID=ONLINE_STORAGE,{A}",
            "expected one owner, it is in archive-a/ONLINE_STORAGE, archive-a/NEARLINE_STORAGE",
        ),
        (
            lambda: changed(
                f"arcFileSystemGroupID=ONLINE_STORAGE,{A}",
                arcDeleteStudyIfNotAccessedFor=["30d"],
                arcDeleteStudyOnlyIfCopyOnFileSystemOfFileSystemGroup=["TAPE"],
            ),
            f"arcFileSystemGroupID=ONLINE_STORAGE,{A}",
            "expected a file-system group that is there",
        ),
    ],
)
def test_wrong_configuration_is_an_error_at_its_entry(
    found: Callable[[], list[Entry]], name: str, message: str
) -> None:
    ours = [finding for finding in errors(found()) if finding.dn == name]

    assert any(message in finding.message for finding in ours)


def test_two_devices_with_one_ae_title_are_an_error() -> None:
    title = Entry(f"dicomAETitle=PACS,{A}", {"objectClass": ["dicomNetworkAE"], "dicomAETitle": ["PACS"]})

    assert [finding.message for finding in errors([*sample(), title])] == [
        "expected an AE title of its own, also the one of pacs",
        "expected an AE title of its own, also the one of archive-a",
    ]


def test_device_name_that_no_queue_can_have_is_an_error() -> None:
    name = f"dicomDeviceName=archive c,{DEVICES}"
    device = Entry(name, {"objectClass": ["dicomDevice", "arcDevice"], "dicomInstalled": ["TRUE"]})

    assert [f.attribute for f in errors([*sample(), device])] == ["dicomDeviceName", None]


def test_second_entry_of_one_name_is_refused() -> None:
    twice = Entry(EXPORT.upper().replace("EXPORT", "Export"), {"objectClass": ["dcmQueue"]})

    (finding,) = entries.read([*sample(), twice]).findings

    assert finding.message == "expected each name once, this one is there twice"


def test_reading_is_equal_for_equal_entries() -> None:
    assert isinstance(entries.read(sample()), Reading)
    assert entries.read(sample()) == entries.read(sample())
