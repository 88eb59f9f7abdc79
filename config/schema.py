"""THE table: field of a dataclass | LDAP attribute | how to read and write it. Defaults are the dataclasses'.

A new setting is one row here and one field in `config.device`. Object classes and attributes that begin with
`arc` are ours (`config/ldif/arcfleet.ldif`), all others are those of DICOM PS3.15 and of dcm4che.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from config import device, values
from config.entry import Entry
from config.errors import InvalidValue
from config.values import Codec


class Holds(Enum):
    """How the values of an attribute fill a field."""

    #: At most one value.
    ONE = auto()
    #: Any number of values, as a tuple in the order of the source.
    MANY = auto()
    #: Any number of name=value, as a mapping.
    PROPERTIES = auto()
    #: Any number of DNs of connections of the same device, as a tuple of their names.
    CONNECTIONS = auto()


@dataclass(frozen=True, slots=True)
class Attr:
    """One row: a field, its attribute, its sort of value."""

    field: str
    attribute: str
    codec: Codec[Any]
    holds: Holds = Holds.ONE
    required: bool = False
    #: An invalid value refuses the whole entry, as the default would mean something else; as if required.
    vital: bool = False
    #: The object class that allows the attribute where it is not one that each such entry has.
    object_class: str | None = None

    def parse(self, dn: str, text: str) -> Any:
        """Read one value.

        Raises:
            InvalidValue: the text is not what the attribute holds.
        """
        try:
            return self.codec.parse(text)
        except ValueError as exc:
            raise InvalidValue(dn, self.attribute, text, self.codec.expected) from exc


@dataclass(frozen=True, slots=True)
class Part:
    """One sort of entry: the device itself, or what hangs below it."""

    #: The dataclass that an entry becomes.
    type: type[Any]
    #: The field of Device that holds them by name; None: the device itself.
    collection: str | None
    #: The structural class by which an entry is known, then those that we add when we make one.
    object_classes: tuple[str, ...]
    #: The first row is the naming attribute.
    attrs: tuple[Attr, ...]
    #: Only entries with this value of an attribute are meant; None: all of the class.
    only: tuple[str, str] | None = None

    def is_for(self, entry: Entry) -> bool:
        """Tell whether an entry is of this sort."""
        return entry.has_class(self.object_class) and (self.only is None or self.only[1] in entry.values(self.only[0]))

    @property
    def object_class(self) -> str:
        """The class by which an entry of this sort is known."""
        return self.object_classes[0]

    @property
    def key(self) -> Attr:
        """The row that names the entry below its parent, and the value in its mapping."""
        return self.attrs[0]

    def attr(self, attribute: str) -> Attr | None:
        """Return the row of an attribute, whatever its letter case; None: we do not act on it."""
        return next((row for row in self.attrs if row.attribute.lower() == attribute.lower()), None)

    def default(self, row: Attr) -> Any:
        """Return what the field is when the entry has no such attribute."""
        field = next(field for field in fields(self.type) if field.name == row.field)
        if field.default_factory is not MISSING:
            return field.default_factory()
        return None if field.default is MISSING else field.default


_SECOND = timedelta(seconds=1)
_MANY, _PROPERTIES, _CONNECTIONS = Holds.MANY, Holds.PROPERTIES, Holds.CONNECTIONS
_DESCRIPTION = Attr("description", "dicomDescription", values.TEXT)
_INSTALLED = Attr("installed", "dicomInstalled", values.BOOLEAN, vital=True)
_REFERENCES = Attr("connections", "dicomNetworkConnectionReference", values.TEXT, _CONNECTIONS)
_SCHEDULES = Attr("schedules", "dcmSchedule", values.SCHEDULE, _MANY)


def _warnings_of_retrievals(object_class: str) -> tuple[Attr, ...]:
    return (
        Attr("warns_on_no_match", "dcmRetrieveTaskWarningOnNoMatch", values.BOOLEAN, object_class=object_class),
        Attr("warns_on_warnings", "dcmRetrieveTaskWarningOnWarnings", values.BOOLEAN, object_class=object_class),
    )


def _of_connection(field: str, attribute: str, codec: Codec[Any]) -> Attr:
    return Attr(field, attribute, codec, object_class="dcmNetworkConnection")


CONNECTION = Part(
    device.NetworkConnection,
    "connections",
    ("dicomNetworkConnection", "dcmNetworkConnection"),
    (
        Attr("name", "cn", values.TEXT),
        Attr("hostname", "dicomHostname", values.TEXT, required=True),
        Attr("port", "dicomPort", values.PORT),
        Attr(
            "protocol",
            "dcmProtocol",
            values.choice("DICOM", "HTTP", "HL7", "HL7_MLLP2", "SYSLOG_TLS", "SYSLOG_UDP"),
            vital=True,
            object_class="dcmNetworkConnection",
        ),
        Attr("tls_cipher_suites", "dicomTLSCipherSuite", values.TEXT, _MANY),
        Attr("bind_address", "dcmBindAddress", values.TEXT, object_class="dcmNetworkConnection"),
        _INSTALLED,
        _of_connection("connect_timeout", "dcmTCPConnectTimeout", values.MILLISECONDS),
        _of_connection("aarq_timeout", "dcmAARQTimeout", values.MILLISECONDS),
        _of_connection("aaac_timeout", "dcmAAACTimeout", values.MILLISECONDS),
        _of_connection("release_timeout", "dcmARRPTimeout", values.MILLISECONDS),
        _of_connection("response_timeout", "dcmResponseTimeout", values.MILLISECONDS),
        _of_connection("retrieve_timeout", "dcmRetrieveTimeout", values.MILLISECONDS),
        _of_connection("send_timeout", "dcmSendTimeout", values.MILLISECONDS),
        _of_connection("idle_timeout", "dcmIdleTimeout", values.MILLISECONDS),
        _of_connection("receive_pdu_length", "dcmReceivePDULength", values.PDU_LENGTH),
        _of_connection("send_pdu_length", "dcmSendPDULength", values.PDU_LENGTH),
    ),
)

APPLICATION_ENTITY = Part(
    device.ApplicationEntity,
    "aes",
    ("dicomNetworkAE", "dcmNetworkAE"),
    (
        Attr("title", "dicomAETitle", values.AE_TITLE, required=True),
        _REFERENCES,
        Attr("initiator", "dicomAssociationInitiator", values.BOOLEAN),
        Attr("acceptor", "dicomAssociationAcceptor", values.BOOLEAN),
        Attr("other_titles", "dcmOtherAETitle", values.OTHER_AE_TITLE, _MANY, object_class="dcmNetworkAE"),
        Attr(
            "accepted_calling_titles", "dcmAcceptedCallingAETitle", values.AE_TITLE, _MANY, object_class="dcmNetworkAE"
        ),
        _DESCRIPTION,
        _INSTALLED,
        *_warnings_of_retrievals("dcmArchiveNetworkAE"),
    ),
)

WEB_APPLICATION = Part(
    device.WebApplication,
    "web_apps",
    ("dcmWebApp",),
    (
        Attr("name", "dcmWebAppName", values.TEXT, required=True),
        Attr("path", "dcmWebServicePath", values.WEB_PATH, required=True),
        Attr("service_classes", "dcmWebServiceClass", values.TEXT, _MANY),
        _REFERENCES,
        Attr("ae_title", "dicomAETitle", values.AE_TITLE),
        _DESCRIPTION,
        Attr("properties", "dcmProperty", values.PROPERTY, _PROPERTIES),
        _INSTALLED,
    ),
)

QUEUE = Part(
    device.Queue,
    "queues",
    ("dcmQueue",),
    (
        Attr("name", "dcmQueueName", values.TEXT, required=True),
        _DESCRIPTION,
        Attr("max_tasks_parallel", "dcmMaxTasksParallel", values.integer(1, 10_000)),
        Attr("max_retries", "dcmMaxRetries", values.integer(0)),
        Attr("retry_delay", "dcmRetryDelay", values.DURATION),
        Attr("max_retry_delay", "dcmMaxRetryDelay", values.DURATION),
        Attr("retry_delay_multiplier", "dcmRetryDelayMultiplier", values.integer(1)),
        Attr("retry_on_warning", "dcmRetryOnWarning", values.BOOLEAN),
        Attr("purge_completed_after", "dcmPurgeQueueMessageCompletedDelay", values.DURATION),
        Attr("purge_failed_after", "dcmPurgeQueueMessageFailedDelay", values.DURATION),
        Attr("purge_warning_after", "dcmPurgeQueueMessageWarningDelay", values.DURATION),
        Attr("purge_canceled_after", "dcmPurgeQueueMessageCanceledDelay", values.DURATION),
        _SCHEDULES,
        _INSTALLED,
        Attr("max_run_time", "arcTaskMaxRunTime", values.duration(_SECOND), object_class="arcQueue"),
        Attr("max_silence", "arcTaskMaxSilence", values.duration(_SECOND), object_class="arcQueue"),
        Attr("max_lost_leases", "arcTaskMaxLostLeases", values.integer(1), object_class="arcQueue"),
    ),
)

EXPORTER = Part(
    device.Exporter,
    "exporters",
    ("dcmExporter",),
    (
        Attr("id", "dcmExporterID", values.TEXT, required=True),
        Attr("uri", "dcmURI", values.URI, required=True),
        Attr("queue", "dcmQueueName", values.TEXT, required=True),
        _DESCRIPTION,
        Attr("ae_title", "dicomAETitle", values.AE_TITLE),
        Attr("properties", "dcmProperty", values.PROPERTY, _PROPERTIES),
        _SCHEDULES,
        Attr(
            "partial_success",
            "arcPartialSuccess",
            values.choice("FAILED", "WARNING", "COMPLETED"),
            object_class="arcExporter",
        ),
        Attr("touches", "arcTouchesStudies", values.BOOLEAN, object_class="arcExporter"),
    ),
)

EXPORT_RULE = Part(
    device.ExportRule,
    "export_rules",
    ("dcmExportRule",),
    (
        Attr("name", "cn", values.TEXT, required=True),
        Attr("entity", "dcmEntity", values.choice("Study", "Series", "Instance"), required=True),
        Attr("exporter_ids", "dcmExporterID", values.TEXT, _MANY, required=True),
        Attr("device_name", "dicomDeviceName", values.TEXT),
        Attr("delay", "dcmDuration", values.DURATION),
        Attr("conditions", "dcmProperty", values.PROPERTY, _PROPERTIES),
        _SCHEDULES,
    ),
)

FILE_SYSTEM_GROUP = Part(
    device.FileSystemGroup,
    "file_system_groups",
    ("arcFileSystemGroup",),
    (
        Attr("id", "arcFileSystemGroupID", values.TEXT, required=True),
        Attr("file_systems", "arcFileSystem", values.FILE_SYSTEM, _MANY),
        Attr("default_retrieve_ae_title", "arcDefaultRetrieveAETitle", values.AE_TITLE),
        Attr(
            "default_availability",
            "arcDefaultAvailability",
            values.choice("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"),
        ),
        Attr("minimum_free_disk_space", "arcMinimumFreeDiskSpace", values.MINIMUM_FREE),
        Attr("delete_if_not_accessed_for", "arcDeleteStudyIfNotAccessedFor", values.INTERVAL_OR_NEVER),
        Attr("delete_only_if_not_accessed_for", "arcDeleteStudyOnlyIfNotAccessedFor", values.INTERVAL, vital=True),
        Attr(
            "copy_groups",
            "arcDeleteStudyOnlyIfCopyOnFileSystemOfFileSystemGroup",
            values.GROUPS,
            vital=True,
        ),
        Attr("allow_deleting_last_copy", "arcAllowDeletingLastCopy", values.BOOLEAN, vital=True),
        Attr("deletion_grace_time", "arcDeletionGraceTime", values.INTERVAL, vital=True),
        Attr("schedule_interval", "arcScheduleStudiesForDeletionInterval", values.INTERVAL_OR_NEVER),
        Attr("schedule_on_series_stored", "arcScheduleStudiesForDeletionOnSeriesStored", values.BOOLEAN),
        Attr("schedule_batch_size", "arcScheduleStudiesForDeletionBatchSize", values.integer(1, 10_000)),
        Attr("pin_waiting_for", "arcPinWaitingTasksFor", values.INTERVAL, vital=True),
        Attr("allow_deletion_by_message", "arcAllowDeletionByMessage", values.BOOLEAN),
    ),
)

#: Comparisons alone use them: one for QIDO-RS may have the same ID.
ATTRIBUTE_SET = Part(
    device.AttributeSet,
    "attribute_sets",
    ("dcmAttributeSet",),
    (
        Attr("id", "dcmAttributeSetID", values.TEXT, required=True),
        Attr("type", "dcmAttributeSetType", values.choice("DIFF_RS"), required=True),
        Attr("tags", "dcmTag", values.TAG, _MANY, required=True),
        _INSTALLED,
    ),
    only=("dcmAttributeSetType", "DIFF_RS"),
)

DEVICE = Part(
    device.Device,
    None,
    ("dicomDevice", "dcmDevice"),
    (
        Attr("name", "dicomDeviceName", values.TEXT, required=True),
        _DESCRIPTION,
        Attr("manufacturer", "dicomManufacturer", values.TEXT),
        Attr("model_name", "dicomManufacturerModelName", values.TEXT),
        Attr("software_versions", "dicomSoftwareVersion", values.TEXT, _MANY),
        Attr("station_name", "dicomStationName", values.TEXT),
        Attr("primary_device_types", "dicomPrimaryDeviceType", values.TEXT, _MANY),
        _INSTALLED,
        Attr("time_zone", "dcmTimeZoneOfDevice", values.TIME_ZONE, object_class="dcmDevice"),
        Attr("task_lease", "arcTaskLease", values.duration(_SECOND), object_class="arcDevice"),
        Attr("cluster_name", "arcClusterName", values.TEXT, object_class="arcDevice"),
        Attr("failover_devices", "arcFailoverDevice", values.TEXT, _MANY, object_class="arcDevice"),
        Attr("failover_after", "arcFailoverAfter", values.duration(_SECOND), object_class="arcDevice"),
        Attr(
            "purge_interval",
            "dcmPurgeQueueMessagePollingInterval",
            values.duration(_SECOND),
            object_class="dcmArchiveDevice",
        ),
        Attr("task_fetch_size", "dcmTaskFetchSize", values.integer(1), object_class="dcmArchiveDevice"),
        Attr("query_max_results", "dcmQueryMaxNumberOfResults", values.integer(0), object_class="dcmArchiveDevice"),
        Attr("max_open_associations", "dcmLimitOpenAssociations", values.integer(0), object_class="dcmDevice"),
        Attr(
            "overwrite_policy",
            "dcmOverwritePolicy",
            values.choice("NEVER", "ALWAYS", "SAME_SOURCE", "EVEN_WITH_EQUAL_DIGEST"),
            vital=True,
            object_class="dcmArchiveDevice",
        ),
        *_warnings_of_retrievals("dcmArchiveDevice"),
    ),
)

#: Object class of a device's entry -> the field that says so.
DEVICE_MARKS = {"dcmArchiveDevice": "is_archive", "arcDevice": "is_ours"}

#: What hangs below a device, connections first: others refer to them.
CHILDREN = (
    CONNECTION,
    APPLICATION_ENTITY,
    WEB_APPLICATION,
    QUEUE,
    EXPORTER,
    EXPORT_RULE,
    FILE_SYSTEM_GROUP,
    ATTRIBUTE_SET,
)
PARTS = (DEVICE, *CHILDREN)
