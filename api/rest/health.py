"""`/health/live` and `/health/ready`: without a token, so that a supervisor needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fastapi import APIRouter, Request, Response
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from api import answers
from api.gate import Probe
from api.rest import documents
from archive import db, schema
from archive.errors import ArchiveError
from config import settings
from config.errors import ConfigError
from workers import node
from workers.app import app as celery_app
from workers.broker import Broker, BrokerError
from workers.queues import INTAKE

router = APIRouter(prefix="/health", tags=["health"])


_UP = {"type": "string", "enum": ["UP", "DOWN"]}
_LIVE = documents.thing({"status": _UP})
_READY = documents.thing(dict.fromkeys(("database", "broker", "intake"), documents.TEXT) | {"status": _UP})


class SchemaMismatch(ArchiveError):
    """The schema of the database is not the one that this version needs."""


class NobodyServes(ArchiveError):
    """A channel that no worker consumes."""


def database_probe() -> Probe:
    """Return what asks whether the database answers and has our schema."""
    needed = schema.head_revision()

    def ask() -> None:
        with db.engine().connect() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found != needed:
            raise SchemaMismatch(f"the database is at revision {found}, expected {needed}: see `arcfleet db check`")

    return Probe("probe of the database", ask, (SQLAlchemyError, ConfigError, ArchiveError))


def broker_probe() -> Probe:
    """Return what asks whether the broker answers."""
    broker = Broker(celery_app)

    def ask() -> None:
        settings.current().broker()  # says what is missing, where Celery would end the process
        broker.depth(INTAKE)

    return Probe("probe of the broker", ask, (BrokerError, ConfigError))


def intake_probe() -> Probe:
    """Return what asks whether somebody takes the messages of other services."""

    def ask() -> None:
        with db.transaction() as session:
            if not session.scalar(select(node.alive(INTAKE).exists())):
                raise NobodyServes("no `arcfleet intake` was seen: messages of other services wait")

    return Probe("probe of intake", ask, (SQLAlchemyError, ConfigError, ArchiveError))


@router.get("/live", operation_id="live", **documents.of(answer=_LIVE))
async def live() -> Response:
    """Say that this process answers."""
    return answers.as_json({"status": "UP"})


@router.get("/ready", operation_id="ready", **documents.of(answer=_READY, more={503: ("It is not ready.", _READY)}))
def ready(request: Request) -> Response:
    """Answer 200 if the database answers and its schema fits, else 503; broker and intake are told, but may be away."""
    broker = cast("Callable[[], Probe]", request.app.state.broker_probe)()
    status, told = readiness(cast("Probe", request.app.state.database_probe), broker)
    intake = told["database"]
    if intake == "UP":
        intake = cast("Probe", request.app.state.intake_probe).wrong(patience_s=0.3) or "UP"
    return answers.as_json(told | {"intake": intake}, status)


def readiness(database_probe: Probe, broker_probe: Probe) -> tuple[int, dict[str, str]]:
    """Ask both servers; return the status of the answer and what is told."""
    database, broker = database_probe.wrong(), broker_probe.wrong(patience_s=0.3)
    told = {"status": "DOWN" if database else "UP", "database": database or "UP", "broker": broker or "UP"}
    return 503 if database else 200, told
