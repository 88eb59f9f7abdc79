"""Query parameters: known, forgiven, ignored with a warning, refused with the nearest known name."""

from __future__ import annotations

from datetime import UTC

import pytest
from fastapi import Request

from api.answers import BadRequest, NotFound
from api.rest import filters, parameters, scope
from api.rest.export import SHAPE
from api.rest.kinds import retrieve
from api.rest.parameters import Given, Parameter, flag
from tasks.query import TaskQuery

KNOWN = (Parameter("ExporterID", "", repeatable=True), Parameter("batchID", ""), flag("dryrun", ""))


def read(query: str, method: str = "GET", prefer: str = "") -> Given:
    scope = {
        "type": "http", "method": method, "path": "/", "query_string": query.encode(),
        "headers": [(b"prefer", prefer.encode())],
    }  # fmt: skip
    return parameters.read(Request(scope), KNOWN)


def test_letter_case_is_forgiven() -> None:
    assert read("EXPORTERID=a&exporterid=b,c").all("ExporterID", commas=True) == ("a", "b", "c")


@pytest.mark.parametrize(("sent", "meant"), [("exporter", "ExporterID"), ("batch", "batchID"), ("dry-run", "dryrun")])
def test_unknown_name_is_refused_with_the_nearest(sent: str, meant: str) -> None:
    with pytest.raises(BadRequest, match=f"{sent}, the nearest known one is {meant}"):
        read(f"{sent}=1")


def test_empty_value_is_ignored_by_a_look_and_refused_by_a_change() -> None:
    assert read("batchID=").warnings == ["query parameter batchID is ignored: it has no value"]
    with pytest.raises(BadRequest, match="batchID has no value"):
        read("batchID=", method="POST")


def test_lenient_reading_is_for_looks_only() -> None:
    assert read("foo=1", prefer="handling=lenient").warnings == ["query parameter foo is ignored"]
    with pytest.raises(BadRequest, match="foo"):
        read("foo=1", method="DELETE", prefer="handling=lenient")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("TRUE", True), ("false", False)])
def test_flag(text: str, value: bool) -> None:
    assert read(f"dryrun={text}").is_true("dryrun") is value


@pytest.mark.parametrize("text", ["-1", "10", "٣", "1e3", "99999999999999999999999"])
def test_number_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="from 0 to 9"):
        Given({"n": [text]}).number("n", 0, 9)


def test_what_is_tolerated_is_no_filter() -> None:
    given = Given({"status": ["*"], "dicomDeviceName": ["*"], "newDeviceName": ["archive-b"]})

    base = TaskQuery(kinds=("EXPORT",))

    wanted = filters.task_query(given, base, SHAPE.filters, UTC)

    assert wanted == base
    with pytest.raises(BadRequest, match="all=true"):
        filters.refuse_all(wanted, given, filters.of_scope(scope.of_kind(SHAPE)), base)


def test_queue_is_a_filter_where_it_is_not_the_path() -> None:
    given = Given({"dcmQueueName": ["Retrieve"]})
    base = TaskQuery(kinds=("RETRIEVE",))

    wanted = filters.task_query(given, base, retrieve.SHAPE.filters, UTC)

    assert wanted.queues == ("Retrieve",)
    filters.refuse_all(wanted, given, filters.of_scope(scope.of_kind(retrieve.SHAPE)), base)


@pytest.mark.parametrize(
    ("after", "order"),
    [("x", None), ("updatedTime.1.2", None), ("-updatedTime.1.2", "createdTime"), ("-updatedTime.1", None),
     ("-updatedTime.-1.2", None), ("-updatedTime.1.2.3", None), ("-updatedTime.٣.2", None)],
)  # fmt: skip
def test_place_that_no_answer_named_is_refused(after: str, order: str | None) -> None:
    given = Given({"after": [after], **({"orderby": [order]} if order else {})})

    with pytest.raises(BadRequest, match=f"after={after}"):
        filters.page(given)


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "x", str(2**63), "٣"])
def test_what_is_no_task_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match=f"No such Task : {text}"):
        filters.task_id(text)
