"""What a device is: frozen values, as read from LDAP or LDIF through `config.schema`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

from config.schedule import Schedule
from config.sizes import Minimum

_EMPTY: Mapping[str, str] = MappingProxyType({})

#: Queue of exports that need no configured exporter.
EXPORT_QUEUE = "Export"


@dataclass(frozen=True, slots=True)
class NetworkConnection:
    """A TCP address of a device. Source: dicomNetworkConnection (PS3.15 H.1.1.3), dcmNetworkConnection."""

    name: str
    hostname: str
    port: int | None = None
    protocol: str = "DICOM"
    tls_cipher_suites: tuple[str, ...] = ()
    bind_address: str | None = None
    #: None: as the device.
    installed: bool | None = None
    #: To connect (dcmTCPConnectTimeout).
    connect_timeout: timedelta = timedelta(seconds=5)
    #: For the A-ASSOCIATE-RQ of whoever connected (dcmAARQTimeout).
    aarq_timeout: timedelta = timedelta(seconds=10)
    #: For the answer to our A-ASSOCIATE-RQ (dcmAAACTimeout).
    aaac_timeout: timedelta = timedelta(seconds=10)
    #: For the answer to our A-RELEASE-RQ (dcmARRPTimeout).
    release_timeout: timedelta = timedelta(seconds=5)
    #: For a C-STORE-RSP or C-ECHO-RSP (dcmResponseTimeout).
    response_timeout: timedelta = timedelta(seconds=30)
    #: For the next response to C-MOVE, which some peers send at the end alone (dcmRetrieveTimeout).
    retrieve_timeout: timedelta = timedelta(minutes=10)
    #: For a peer that takes what we send (dcmSendTimeout).
    send_timeout: timedelta = timedelta(seconds=30)
    #: For the next request in an association (dcmIdleTimeout).
    idle_timeout: timedelta = timedelta(seconds=60)
    #: Longest P-DATA-TF that we take, in bytes (dcmReceivePDULength); 0: any.
    receive_pdu_length: int = 131072
    #: Longest P-DATA-TF that we send, in bytes, where the peer takes it (dcmSendPDULength); 0: as the peer says.
    send_pdu_length: int = 131072


@dataclass(frozen=True, slots=True)
class ApplicationEntity:
    """An AE title and where it listens. Source: dicomNetworkAE (PS3.15 H.1.1.4), dcmNetworkAE."""

    title: str
    #: Names of this device's connections.
    connections: tuple[str, ...] = ()
    initiator: bool = True
    acceptor: bool = True
    other_titles: tuple[str, ...] = ()
    #: AE titles that may call it (dcmAcceptedCallingAETitle); none: any.
    accepted_calling_titles: tuple[str, ...] = ()
    description: str | None = None
    installed: bool | None = None
    #: Of RETRIEVE tasks that work as it (dcmRetrieveTaskWarningOnNoMatch, ...OnWarnings); None: as the device.
    warns_on_no_match: bool | None = None
    warns_on_warnings: bool | None = None

    def answers_to(self, title: str) -> bool:
        """Tell whether this AE is meant by `title`; an other title `*` means any (dcmOtherAETitle)."""
        return title == self.title or title in self.other_titles or "*" in self.other_titles


@dataclass(frozen=True, slots=True)
class RetrieveWarnings:
    """What makes the end of a RETRIEVE task a WARNING although the peer calls it a success."""

    #: Nothing was found.
    on_no_match: bool
    #: An object arrived with a warning.
    on_warnings: bool


@dataclass(frozen=True, slots=True)
class WebApplication:
    """A web service of a device. Source: dcmWebApp."""

    name: str
    path: str = "/"
    service_classes: tuple[str, ...] = ()
    #: Names of this device's connections with protocol HTTP.
    connections: tuple[str, ...] = ()
    ae_title: str | None = None
    description: str | None = None
    properties: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    installed: bool | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """How tasks of one sort run on a device. Source: dcmQueue; the arc* ones are ours."""

    name: str
    description: str | None = None
    max_tasks_parallel: int = 1
    max_retries: int = 0
    retry_delay: timedelta = timedelta(minutes=1)
    max_retry_delay: timedelta | None = None
    #: Percent that each further failure multiplies the delay by.
    retry_delay_multiplier: int = 100
    retry_on_warning: bool = False
    purge_completed_after: timedelta | None = None
    purge_failed_after: timedelta | None = None
    purge_warning_after: timedelta | None = None
    purge_canceled_after: timedelta | None = None
    #: Processing windows; none means always, any match suffices.
    schedules: tuple[Schedule, ...] = ()
    installed: bool = True
    #: Watchdog: a run longer than this is stopped and counted as a failure (arcTaskMaxRunTime).
    max_run_time: timedelta | None = None
    #: Watchdog: a run without progress for this long is stopped and counted (arcTaskMaxSilence).
    max_silence: timedelta | None = timedelta(minutes=10)
    #: Lost leases in a row before the task is FAILED (arcTaskMaxLostLeases).
    max_lost_leases: int = 3


@dataclass(frozen=True, slots=True)
class Exporter:
    """A destination of EXPORT tasks. Source: dcmExporter."""

    id: str
    #: `scheme:rest`, for example `dicom:PACS`, `file:/folder`, `fsgroup:NEARLINE_STORAGE`, `noop:`.
    uri: str
    queue: str
    description: str | None = None
    ae_title: str | None = None
    properties: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    schedules: tuple[Schedule, ...] = ()
    #: Status of a run that sent some objects and not others (arcPartialSuccess): FAILED, WARNING or COMPLETED.
    partial_success: str = "FAILED"
    #: Sending a study counts as an access to it (arcTouchesStudies).
    touches: bool = False

    @property
    def scheme(self) -> str:
        """The part of the URI that selects how it is exported, in lower case."""
        return self.uri.partition(":")[0].lower()

    @property
    def target(self) -> str:
        """The part of the URI behind the scheme."""
        return self.uri.partition(":")[2]


@dataclass(frozen=True, slots=True)
class ExportRule:
    """What is exported by itself when objects arrive. Source: dcmExportRule."""

    name: str
    entity: str
    exporter_ids: tuple[str, ...] = ()
    device_name: str | None = None
    delay: timedelta | None = None
    conditions: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    schedules: tuple[Schedule, ...] = ()


@dataclass(frozen=True, slots=True)
class AttributeSet:
    """Attributes that a comparison names by one word (`comparefield`). Source: dcmAttributeSet."""

    id: str
    #: What it is for (dcmAttributeSetType): sets for queries are another thing, and not read.
    type: str
    #: Eight hexadecimal digits each.
    tags: tuple[str, ...] = ()
    installed: bool = True


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A folder that a group starts with. Source: arcFileSystem (ours)."""

    #: As written; a relative one lies in ARCFLEET_HOME (`Settings.folder`).
    path: str
    #: Devices that mount it besides its owner.
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileSystemGroup:
    """A named group of file systems of a device. Source: arcFileSystemGroup (ours); manual of dcm4chee 2."""

    id: str
    file_systems: tuple[FileSystem, ...] = ()
    default_retrieve_ae_title: str = "DCM4CHEE"
    default_availability: str = "ONLINE"
    #: Below this the next file system becomes the current one (arcMinimumFreeDiskSpace); None: no check.
    minimum_free_disk_space: Minimum | None = None
    #: Studies are deleted that nobody used for so long (arcDeleteStudyIfNotAccessedFor); None: never.
    delete_if_not_accessed_for: timedelta | None = None
    #: No study is deleted by itself before (arcDeleteStudyOnlyIfNotAccessedFor).
    delete_only_if_not_accessed_for: timedelta = timedelta(days=1)
    #: Groups, `GROUP` of this device or `DEVICE/GROUP`, that must each hold a good copy of all of a study
    #: (arcDeleteStudyOnlyIfCopyOnFileSystemOfFileSystemGroup); its own name is left out.
    copy_groups: tuple[str, ...] = ("NEARLINE_STORAGE",)
    #: The last good copy of an object may be deleted (arcAllowDeletingLastCopy).
    allow_deleting_last_copy: bool = False
    #: From the mark to the deletion (arcDeletionGraceTime).
    deletion_grace_time: timedelta = timedelta(hours=1)
    #: How often studies are looked for that may be deleted (arcScheduleStudiesForDeletionInterval); None: never.
    schedule_interval: timedelta | None = None
    #: Look for them also when a series was stored (arcScheduleStudiesForDeletionOnSeriesStored).
    schedule_on_series_stored: bool = False
    #: Studies marked in one transaction (arcScheduleStudiesForDeletionBatchSize).
    schedule_batch_size: int = 100
    #: How long after its time a waiting task still keeps its study from deletion (arcPinWaitingTasksFor).
    pin_waiting_for: timedelta = timedelta(days=7)
    #: Other services may ask by a message that a study is deleted (arcAllowDeletionByMessage).
    allow_deletion_by_message: bool = False

    @property
    def delete_only_if_copy_in(self) -> tuple[str, ...]:
        """The groups that must hold a copy: `copy_groups` without this group itself."""
        return tuple(name for name in self.copy_groups if name != self.id)


@dataclass(frozen=True, slots=True)
class Device:
    """One device of the directory.

    Source: dicomDevice (PS3.15 H.1.1.2), dcmDevice, dcmArchiveDevice, arcDevice.
    """

    name: str
    description: str | None = None
    manufacturer: str | None = None
    model_name: str | None = None
    software_versions: tuple[str, ...] = ()
    station_name: str | None = None
    primary_device_types: tuple[str, ...] = ()
    installed: bool = True
    #: Its entry has the object class dcmArchiveDevice: an archive, of ours or of another product.
    is_archive: bool = False
    #: Its entry has our object class arcDevice, or ARCFLEET_DEVICES names it: arcfleet runs it.
    is_ours: bool = False
    #: IANA name (dcmTimeZoneOfDevice); None: ARCFLEET_TIMEZONE.
    time_zone: str | None = None
    #: How long a run may stay without a heartbeat of its worker (arcTaskLease).
    task_lease: timedelta = timedelta(seconds=60)
    #: Name of the cluster of ours that runs it, where a directory has several (arcClusterName).
    cluster_name: str | None = None
    #: Devices that get its waiting tasks when it is away (arcFailoverDevice).
    failover_devices: tuple[str, ...] = ()
    #: After how long without a live worker they get them (arcFailoverAfter); None: never.
    failover_after: timedelta | None = None
    #: How often finished tasks are purged (dcmPurgeQueueMessagePollingInterval); None: never.
    purge_interval: timedelta | None = None
    #: Kept for the original (dcmTaskFetchSize); the size of a bulk step follows from its speed here.
    task_fetch_size: int = 100
    #: Tasks that one query may make at most (dcmQueryMaxNumberOfResults); 0: any number.
    query_max_results: int = 0
    #: Associations that may be open at once (dcmLimitOpenAssociations); 0: as many as we can have.
    max_open_associations: int = 100
    #: What happens to an object that is there already (dcmOverwritePolicy): NEVER keeps the first one.
    overwrite_policy: str = "NEVER"
    #: A RETRIEVE task that finds nothing ends as WARNING (dcmRetrieveTaskWarningOnNoMatch).
    warns_on_no_match: bool = False
    #: A RETRIEVE task with a warning of an object ends as WARNING (dcmRetrieveTaskWarningOnWarnings).
    warns_on_warnings: bool = False
    connections: Mapping[str, NetworkConnection] = field(default_factory=lambda: MappingProxyType({}))
    aes: Mapping[str, ApplicationEntity] = field(default_factory=lambda: MappingProxyType({}))
    web_apps: Mapping[str, WebApplication] = field(default_factory=lambda: MappingProxyType({}))
    queues: Mapping[str, Queue] = field(default_factory=lambda: MappingProxyType({}))
    exporters: Mapping[str, Exporter] = field(default_factory=lambda: MappingProxyType({}))
    export_rules: Mapping[str, ExportRule] = field(default_factory=lambda: MappingProxyType({}))
    file_system_groups: Mapping[str, FileSystemGroup] = field(default_factory=lambda: MappingProxyType({}))
    attribute_sets: Mapping[str, AttributeSet] = field(default_factory=lambda: MappingProxyType({}))

    def exporter(self, exporter_id: str) -> Exporter | None:
        """Return an exporter; `dicom:AET` stands for itself, without a configured one, in the queue Export.

        Source: the export services of dcm4chee-arc-light.
        """
        named = self.exporters.get(exporter_id)
        if named is None and exporter_id.startswith("dicom:") and EXPORT_QUEUE in self.queues:
            return Exporter(exporter_id, exporter_id, EXPORT_QUEUE)
        return named

    def ae_for(self, title: str) -> ApplicationEntity | None:
        """Return the installed AE of this device that answers to `title`, or None."""
        named = self.aes.get(title)
        candidates = [named] if named else [ae for ae in self.aes.values() if ae.answers_to(title)]
        return next((ae for ae in candidates if ae.installed is not False), None)

    def retrieve_warnings(self, title: str) -> RetrieveWarnings:
        """Return what holds for RETRIEVE tasks that work as this AE: what it says itself, else the device."""
        ae = self.ae_for(title) or ApplicationEntity(title)
        return RetrieveWarnings(
            self.warns_on_no_match if ae.warns_on_no_match is None else ae.warns_on_no_match,
            self.warns_on_warnings if ae.warns_on_warnings is None else ae.warns_on_warnings,
        )

    def installed_connections(self, names: tuple[str, ...], protocol: str) -> list[NetworkConnection]:
        """Return the named connections of that protocol which are installed, in the order of `names`."""
        found = [self.connections[name] for name in names if name in self.connections]
        return [c for c in found if c.protocol == protocol and c.installed is not False and self.installed]


@dataclass(frozen=True, slots=True)
class Cluster:
    """All devices of the directory, by name."""

    devices: Mapping[str, Device]

    @property
    def ours(self) -> dict[str, Device]:
        """The devices that arcfleet runs, by name, sorted."""
        return {name: self.devices[name] for name in sorted(self.devices) if self.devices[name].is_ours}

    def device_of_ae(self, title: str) -> list[Device]:
        """Return our installed devices whose own AE title is `title`, else those that answer to it."""
        ours = [d for d in self.ours.values() if d.installed]
        exact = [d for d in ours if (ae := d.aes.get(title)) is not None and ae.installed is not False]
        return exact or [d for d in ours if d.ae_for(title) is not None]
