"""EXPORT tasks are made at a device of the AE title that has the exporter; queue and destination follow from it.

Source: the export services of dcm4chee-arc-light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from api.rest.creation import remote, routes, waiting
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Path, Recipe
from api.rest.parameters import Given
from config.device import Device
from tasks import placing
from tasks.creating import Subject


def _devices(path: Path, given: Given) -> Sequence[Device]:
    if path["ExporterID"].startswith("dicom:"):
        remote.check_title(path["ExporterID"].removeprefix("dicom:"))
    return placing.exporting(path["aet"], path["ExporterID"], given.one("dicomDeviceName"))


def _fields(path: Path, given: Given, subject: Subject, device: Device) -> Mapping[str, Any]:
    del given, subject
    exporter_id = path["ExporterID"]
    return {"queue": placing.queue_of(device, exporter_id), "local_aet": path["aet"], "exporter_id": exporter_id}


RECIPE = Recipe("EXPORT", "ExportTask", (), _devices, _fields)


def router() -> APIRouter:
    """Return the routes."""
    made = routes.router(RECIPE, "/aets/{aet}/rs")
    suffix = "/export/{ExporterID}"
    routes.uploading(made, RECIPE, "export", suffix)
    routes.matching(made, RECIPE, "export", suffix)
    waiting.one(made, RECIPE, "export", suffix, waiting.transfer(_is_queued))
    return made


def _is_queued(asked: Asked) -> bool:
    """Tell whether the exporter is a configured one: who names an AE instead waits for the end."""
    return not asked.path["ExporterID"].startswith("dicom:")
