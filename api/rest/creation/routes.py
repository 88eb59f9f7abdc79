"""The routes by which tasks are made: each kind has those of one entity, of a query, of a CSV, as its recipe says."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import Route
from api.rest import documents, shape
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

_CSV = {
    "required": True,
    "content": {"text/csv": {"schema": documents.TEXT, "example": "1.2.840.1\r\n1.2.840.2\r\n"}},
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
            described = {**many(204, 413, 415), "body": _CSV}
            summary = f"Make a task for each {'series' if 'series' in name else 'study'} of a CSV"
            add(made, f"{verb}_{name}", path + suffix, (service, known), summary, described)


def matching(made: APIRouter, recipe: Recipe, verb: str, suffix: str) -> None:
    """Add the services that make tasks of what a query of the index matches."""
    for name, level, path in MATCHING:
        known = (*services.documented(level), *asking.COMMON, *recipe.parameters)
        summary = f"Make a task for each of the {level} that match"
        add(made, f"{verb}_{name}", path + suffix, (_matching(recipe, level), known), summary, many(413))


def _matching(recipe: Recipe, level: Level) -> Service:
    def service(request: Request, caller: Submitter) -> Response:
        return services.matching_index(recipe, level, request, caller)

    return service


def add(
    made: APIRouter, name: str, path: str, service: tuple[Service, Iterable[Parameter]], summary: str,
    described: Mapping[str, Any], *, method: str = "POST",
) -> None:  # fmt: skip
    """Add one service with its entry in the OpenAPI document: `described` is what `documents.of` takes."""
    handler, known = service
    in_path = [
        {"name": value, "in": "path", "required": True, "description": DESCRIBED[value], "schema": documents.TEXT}
        for value in re.findall(r"\{(\w+)\}", made.prefix + path)
    ]
    extra = (*in_path, asking.KEY, *described.get("extra", ()))
    made.add_api_route(
        path, handler, methods=[method], name=name, operation_id=name, summary=summary,
        **documents.of(*known, **{**described, "extra": extra}),
    )  # fmt: skip


def many(*others: int) -> dict[str, Any]:
    """Return how a service answers that makes many tasks, with these statuses too."""
    said = {
        204: "No line can be used; the Warning says why.",
        413: "More match, or more was sent, than is allowed.",
        415: "It is no CSV in UTF-8.",
        502: "The other archive did not do its part.",
    }
    return {
        "status": 202,
        "answer": documents.MADE,
        "more": {
            200: ("With dryrun: what would be made.", documents.WOULD_BE_MADE),
            **{status: (said[status], None) for status in others},
        },
    }


def task_of(recipe: Recipe) -> documents.Schema:
    """Return the schema of a task of a kind, as services answer with it."""
    return documents.task(shape.of_kind(recipe.kind).properties)
