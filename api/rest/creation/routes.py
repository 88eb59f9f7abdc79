"""The routes by which tasks are made: each kind has those of one entity, of a query, of a CSV, as its recipe says."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import Route
from api.rest.creation import asking, services
from api.rest.creation.recipe import DESCRIBED, Recipe
from api.rest.creation.upload import Spooled
from api.rest.parameters import Parameter
from api.security import Submitter
from archive.matching import Level

#: Paths of one study, series or object.
SINGLE = (
    ("study", "/studies/{study}"),
    ("series", "/studies/{study}/series/{series}"),
    ("instance", "/studies/{study}/series/{series}/instances/{sop}"),
)
#: Paths of queries of the index.
MATCHING = (
    ("studies", Level.STUDY, "/studies"),
    ("all_series", Level.SERIES, "/series"),
    ("series_of_study", Level.SERIES, "/studies/{study}/series"),
    ("all_instances", Level.INSTANCE, "/instances"),
    ("instances_of_study", Level.INSTANCE, "/studies/{study}/instances"),
    ("instances_of_series", Level.INSTANCE, "/studies/{study}/series/{series}/instances"),
)
#: Paths of CSV.
UPLOADING = (
    ("studies_of_csv", "/studies/csv:{studyField}"),
    ("series_of_csv", "/studies/csv:{studyField}/series/csv:{seriesField}"),
)

COUNT = {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer"}}}
TASK = {"type": "object", "required": ["taskID", "type", "status"]}
_CSV = {
    "required": True,
    "content": {"text/csv": {"schema": {"type": "string"}, "example": "1.2.840.1\r\n1.2.840.2\r\n"}},
}

Service = Callable[..., Response] | Callable[..., Coroutine[Any, Any, Response]]


def router(recipe: Recipe, prefix: str) -> APIRouter:
    """Return an empty router of a kind; `uploading`, `matching` and `waiting.one` add to it, in this order."""
    return APIRouter(prefix=prefix, tags=[recipe.kind], route_class=Route)


def uploading(made: APIRouter, recipe: Recipe, verb: str, suffix: str, only: Sequence[str] = ()) -> None:
    """Add the services that make tasks of the lines of a CSV."""

    def service(request: Request, caller: Submitter, body: Spooled) -> Response:
        return services.lines_of_csv(recipe, request, caller, body)

    for name, path in UPLOADING:
        if not only or name in only:
            known = (asking.DRY_RUN, *asking.COMMON, *recipe.parameters)
            extra = {"requestBody": _CSV, "responses": many("204", "415")}
            summary = f"Make a task for each {'series' if 'series' in name else 'study'} of a CSV"
            add(made, f"{verb}_{name}", path + suffix, (service, known), summary, extra)


def matching(made: APIRouter, recipe: Recipe, verb: str, suffix: str) -> None:
    """Add the services that make tasks of what a query of the index matches."""
    for name, level, path in MATCHING:
        known = (*services.documented(level), *asking.COMMON, *recipe.parameters)
        summary = f"Make a task for each of the {level} that match"
        add(made, f"{verb}_{name}", path + suffix, (_matching(recipe, level), known), summary,
            {"responses": many("413")})  # fmt: skip


def _matching(recipe: Recipe, level: Level) -> Service:
    def service(request: Request, caller: Submitter) -> Response:
        return services.matching_index(recipe, level, request, caller)

    return service


def add(
    made: APIRouter, name: str, path: str, service: tuple[Service, Iterable[Parameter]], summary: str,
    extra: dict[str, Any], *, method: str = "POST",
) -> None:  # fmt: skip
    """Add one service with its entry in the OpenAPI document."""
    handler, known = service
    in_path = [
        {"name": value, "in": "path", "required": True, "description": DESCRIBED[value], "schema": {"type": "string"}}
        for value in re.findall(r"\{(\w+)\}", made.prefix + path)
    ]
    documented = {"parameters": [*in_path, *(parameter.documented() for parameter in known), asking.KEY], **extra}
    made.add_api_route(
        path, handler, methods=[method], name=name, operation_id=name, summary=summary, status_code=202,
        response_class=Response, openapi_extra=documented,
    )  # fmt: skip


def answered(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of an answer in the OpenAPI document."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def many(*others: str) -> dict[str, Any]:
    """Return the answers of a service that makes many tasks, these others among them."""
    said = {
        "204": "No line names a study; the Warning says so.",
        "413": "More match, or more was sent, than is allowed.",
        "415": "It is no CSV in UTF-8.",
        "501": "This process cannot query others.",
        "502": "The other archive did not do its part.",
    }
    return {
        "200": answered("With dryrun: what would be made.", COUNT),
        "202": answered("How many tasks were made.", COUNT),
        **{status: {"description": said[status]} for status in others},
    }
