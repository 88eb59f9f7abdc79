"""EXPORT tasks are made at a device of the AE title that has the exporter; queue and destination follow from it.

Source: the export services of dcm4chee-arc-light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from api.rest.creation import routes
from api.rest.creation.recipe import Path, Recipe
from api.rest.parameters import Given
from config.device import Device
from tasks import placing
from tasks.creating import Subject


def _devices(path: Path, given: Given) -> Sequence[Device]:
    return placing.exporting(path["aet"], path["ExporterID"], given.one("dicomDeviceName"))


def _fields(path: Path, given: Given, subject: Subject, device: Device) -> Mapping[str, Any]:
    del given, subject
    exporter_id = path["ExporterID"]
    return {"queue": device.exporters[exporter_id].queue, "local_aet": path["aet"], "exporter_id": exporter_id}


RECIPE = Recipe("EXPORT", "ExportTask", (), _devices, _fields)


def router() -> APIRouter:
    """Return the routes."""
    made = routes.router(RECIPE, "/aets/{aet}/rs")
    suffix = "/export/{ExporterID}"
    routes.uploading(made, RECIPE, "export", suffix)
    routes.matching(made, RECIPE, "export", suffix)
    routes.one(made, RECIPE, "export", suffix)
    return made
