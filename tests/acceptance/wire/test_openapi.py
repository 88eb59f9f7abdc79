"""Requests of every sort that the OpenAPI document allows, and of some that it does not: no 500, and no other lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tasks.state import Status
from tests import factories
from tests.acceptance.wire.client import Archive
from tests.acceptance.wire.test_facts_client import RESOURCES, put

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance,
]  # fmt: skip

#: Of each sort for each service; a larger number was tried by hand.
EXAMPLES = 6


@pytest.fixture
def operations(archive: Archive, server: str, monkeypatch: pytest.MonkeyPatch) -> list[APIOperation]:
    """The services as the document describes them, with something to find for each."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for path in RESOURCES:
        for status in Status:
            put(path, status=status.value, batch_id="b")
    found = [one.ok() for one in _described(server).get_all_operations()]
    assert len(found) > 100
    return found


def _described(server: str) -> schemathesis.schemas.BaseSchema:
    schema = schemathesis.openapi.from_url(f"{server}/dcm4chee-arc/openapi.json")

    @schema.hook
    def map_query(context: object, query: dict[str, object] | None) -> dict[str, object] | None:
        # The feed of events waits for as long as it is told.
        return {name: value for name, value in query.items() if name != "wait"} if query else query

    return schema


@pytest.mark.timeout(1800)
def test_no_answer_contradicts_the_document(operations: list[APIOperation]) -> None:
    found = [text for operation in operations for text in _tried(operation)]

    assert found == []


def _tried(operation: APIOperation) -> Iterator[str]:
    for mode in GenerationMode:
        try:
            with suppress(Unsatisfiable):  # there is nothing that can be wrong about it
                _probe(operation, mode)
        except (Failure, FailureGroup) as failure:
            said = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
            yield f"{operation.label} ({mode}): " + "; ".join(f"{one.title}: {one.message}" for one in said)


def _probe(operation: APIOperation, mode: GenerationMode) -> None:
    strategy = operation.as_strategy(mode)

    @seed(7)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    @given(strategy)
    def probe(case: schemathesis.Case) -> None:
        case.validate_response(case.call(), checks=CHECKS)

    probe()


def test_tasks_that_are_listed_are_as_the_document_says(archive: Archive, operations: list[APIOperation]) -> None:
    listing = {one.label for one in operations if one.label.startswith("GET")}

    for path in RESOURCES:
        assert f"GET /dcm4chee-arc/{path}" in listing
        assert len(json.loads(archive.raw("GET", path).content)) == len(Status)
    assert factories.sql("SELECT count(*) FROM task") == [len(Status) * len(RESOURCES)]
