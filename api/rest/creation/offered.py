"""The kinds of task that requests can make; those that are not installed have no services."""

from __future__ import annotations

from fastapi import APIRouter

from api.rest.creation import diff, export, remote, retrieve, verify
from archive.dicom import studies
from tasks.registry import load_kinds

_ROUTERS = {module.RECIPE.kind: module.router for module in (export, retrieve, diff, verify)}


def routers() -> list[APIRouter]:
    """Return the routes of every kind that there is."""
    remote.use(studies.find)
    known = load_kinds()
    return [made() for kind, made in _ROUTERS.items() if kind in known]
