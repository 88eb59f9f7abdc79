"""Caps, holds and breakers of a destination hold for the whole cluster, and hold up no other destination."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks import slots
from tests import factories, race

pytestmark = pytest.mark.usefixtures("cluster")

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def reserved_ids(number: int = 4) -> list[int]:
    return [r.task_id for r in factories.reserve(number=number)]


def destination(name: str, **values: object) -> None:
    columns = ", ".join(["name", *values])
    given = ", ".join([":name", *(f":{key}" for key in values)])
    factories.sql(f"INSERT INTO destination ({columns}) VALUES ({given})", name=name, **values)


@pytest.mark.parametrize(
    ("values", "goes"),
    [
        ({"held_by": "anna"}, False),
        ({"held_by": "anna", "held_until": datetime(2100, 1, 1, tzinfo=UTC)}, False),
        ({"held_by": "anna", "held_until": T0}, True),
        ({"open_until": datetime(2100, 1, 1, tzinfo=UTC)}, False),
        ({"open_until": T0}, True),
        ({"cap": 0}, False),
        ({"cap": 1}, True),
    ],
)
def test_destination_lets_go_what_it_may(values: dict[str, object], goes: bool) -> None:
    [to_pacs] = factories.insert(destination="dicom:PACS")
    [elsewhere] = factories.insert(destination="dicom:OTHER")
    [nowhere] = factories.insert()
    destination("dicom:PACS", **values)

    found = reserved_ids()

    assert (to_pacs.id in found) is goes
    assert {elsewhere.id, nowhere.id} <= set(found)


def test_cap_of_a_destination_counts_its_runs_in_all_queues_of_all_devices() -> None:
    destination("dicom:PACS", cap=3)
    for device, queue in (("archive-a", "Export"), ("archive-a", "Retrieve"), ("archive-b", "Export")):
        factories.insert(2, device=device, queue=queue, destination="dicom:PACS")

    found = [
        len(factories.reserve(device, queue, 4))
        for device, queue in (("archive-a", "Export"), ("archive-a", "Retrieve"), ("archive-b", "Export"))
    ]

    assert found == [2, 1, 0]


def test_cap_of_a_destination_holds_for_two_queues_that_reserve_at_once() -> None:
    destination("dicom:PACS", cap=1)
    factories.insert(destination="dicom:PACS")
    factories.insert(device="archive-b", destination="dicom:PACS")

    first, second = race.overlap(
        lambda session: slots.reserve(session, "archive-a", "Export", 4),
        lambda session: slots.reserve(session, "archive-b", "Export", 4),
    )

    assert (len(first), len(second)) == (1, 0)


@pytest.mark.parametrize("values", [{"cap": 1}, {"held_by": "anna"}, {"cap": 0}])
def test_crowd_for_one_destination_does_not_hold_up_the_others(values: dict[str, object]) -> None:
    destination("dicom:SLOW", **values)
    factories.insert(20, destination="dicom:SLOW", scheduled_time=T0)
    others = [task.id for task in factories.insert(3, destination="dicom:FAST")]

    found = reserved_ids() + reserved_ids()

    assert set(others) <= set(found)
    assert len(found) == (4 if values.get("cap") == 1 else 3)
