"""Kinds of the original that never run here: queues list such rows, with the fields that the original gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.rest import shape
from api.rest.shape import Fields
from tasks.record import TaskView

_LOCAL = {"LocalAET": "local_aet"}
_PEERS = {**_LOCAL, "RemoteAET": "remote_aet"}
_STUDY = {"StudyInstanceUID": "study_uid"}
_ENTITY = {**_STUDY, "SeriesInstanceUID": "series_uid", "SOPInstanceUID": "sop_uid"}

#: By kind: name on the wire -> column of the task; "": the parameter of the task with that name.
_KINDS: Mapping[str, Mapping[str, str]] = {
    "STGCMT_SCP": _PEERS,
    "STGCMT_SCU": {**_PEERS, **_ENTITY, "ExporterID": "exporter_id"},
    "REJECT": {**_LOCAL, **_ENTITY, "Code": ""},
    "HL7": dict.fromkeys(
        ("SendingApplication", "SendingFacility", "ReceivingApplication", "ReceivingFacility", "MessageType",
         "MessageControlID"), "",
    ),
    "REST": dict.fromkeys(
        ("RSOperation", "WebApplicationName", "RequestQueryString", "PatientID", "TLSAllowAnyHostname",
         "TLSDisableTrustManager"), "",
    ),
    "IAN": {**_PEERS, **_ENTITY},
    "MPPS": {
        **_PEERS, "DIMSE": "", "SOPInstanceUID": "sop_uid", "AccessionNumber": "", **_STUDY, "PatientID": "",
        "PatientName": "",
    },
}  # fmt: skip


def _fields_of(names: Mapping[str, str]) -> Fields:
    def fields(task: TaskView) -> Mapping[str, Any]:
        return {
            name: getattr(task, column) if column else task.params.get(name) for name, column in names.items()
        }  # fmt: skip

    return fields


for _kind, _names in _KINDS.items():
    shape.register_listed(_kind, _fields_of(_names))
