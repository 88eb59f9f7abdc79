"""The REST application: all routes below `/dcm4chee-arc`, health at the root too."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from api import answers, metrics, running
from api.answers import Route
from api.gate import Gate
from api.rest import (
    cluster,
    destinations,
    device_pauses,
    devices,
    directory,
    events,
    export,
    file_systems,
    health,
    intake,
    operations,
    results,
    scope,
    shape,
)
from api.rest.creation import offered
from api.rest.kinds import deletion, diff, listed, retrieve, stgver
from api.rest.monitor import Monitor
from api.security import Caller, Reader
from workers import dispatch
from workers.app import app as celery_app
from workers.version import VERSION

BASE = "/dcm4chee-arc"

#: They register the services of their kinds.
KINDS = (export, retrieve, diff, stgver, deletion, listed)

#: Requests that are worked on at once; the pool of database connections has room for them.
THREADS = 16

_ERRORS = {
    "400": "A parameter is unknown or cannot be used; nothing was changed.",
    "401": "A token is needed.",
    "403": "The role of the token does not allow it.",
    "404": "What is named does not exist.",
    "409": "Its state does not allow it.",
    "500": "Unexpected; the text names the id under which it was logged.",
    "503": "The database does not answer.",
}


def create_app(*, beyond_loopback: bool = False, account: Caller | None = None, dispatching: bool = False) -> FastAPI:
    """Return the application.

    Args:
        beyond_loopback: it can be reached from elsewhere, so that each request needs a token.
        account: who makes all requests, when it is used within a process of the machine itself.
        dispatching: send what requests schedule from this process, while its lifespan lasts.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        running.operations.start()
        if dispatching:
            dispatch.start(celery_app)
        yield
        await anyio.to_thread.run_sync(running.operations.stop)
        if dispatching:
            await anyio.to_thread.run_sync(dispatch.stop)

    made = FastAPI(
        title="arcfleet", version=VERSION, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    made.state.account = account
    made.state.beyond_loopback = beyond_loopback
    made.state.database_probe = health.database_probe()
    made.state.broker_probe = functools.cache(health.broker_probe)
    made.state.intake_probe = health.intake_probe()
    made.state.gate = Gate(made.state.database_probe)
    made.add_exception_handler(HTTPException, _answered)
    made.add_exception_handler(RequestValidationError, _answered)
    _include(made)
    return made


def _include(made: FastAPI) -> None:
    of_cluster = (
        cluster.router,
        directory.router,
        destinations.router,
        devices.router,
        device_pauses.router,
        file_systems.router,
        intake.router,
    )
    of_tasks = (operations.router, events.router, results.router, *offered.routers(), *_monitors())
    for router in (*of_cluster, *of_tasks, health.router, metrics.router):
        made.include_router(router, prefix=BASE)
    made.include_router(health.router, include_in_schema=False)
    made.include_router(metrics.router, include_in_schema=False)
    made.include_router(_documents(made), prefix=BASE)


def _monitors() -> list[APIRouter]:
    scopes = [*(scope.of_kind(one) for one in shape.shapes().values()), scope.QUEUE]
    return [Monitor(one).router() for one in scopes]


def _documents(made: FastAPI) -> APIRouter:
    router = APIRouter(route_class=Route)

    @router.get("/openapi.json", include_in_schema=False)
    def document(_caller: Reader) -> Response:
        return answers.as_json(openapi(made))

    return router


def openapi(made: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: errors as they are, none of them 422."""
    found = get_openapi(title=made.title, version=made.version, routes=made.routes)
    text = {"schema": {"type": "string", "description": 'JSON: {"errorMessage": "..."}'}}
    problem = {"schema": {"type": "object", "required": ["errorMessage", "detail", "status", "title", "type"]}}
    failure = {"text/plain": text, answers.PROBLEM: problem}
    for path, services in found["paths"].items():
        for operation in services.values():
            operation["responses"].pop("422", None)
            if "/health/" not in path:
                _with_errors(operation["responses"], failure)
    found.get("components", {}).get("schemas", {}).clear()
    found.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}, {}]
    return found


def _with_errors(responses: dict[str, Any], failure: dict[str, Any]) -> None:
    for status, description in _ERRORS.items():
        responses.setdefault(status, {"description": description})
    for status, response in responses.items():
        if int(status) >= HTTPStatus.BAD_REQUEST:
            response["content"] = {**response.get("content", {}), **failure}


async def _answered(request: Request, error: Exception) -> Response:
    return answers.of_error(request, error)
