"""The kinds of task that requests can make."""

from __future__ import annotations

from fastapi import APIRouter

from api.rest.creation import diff, export, retrieve, verify


def routers() -> list[APIRouter]:
    """Return the routes of every kind."""
    return [module.router() for module in (export, retrieve, diff, verify)]
