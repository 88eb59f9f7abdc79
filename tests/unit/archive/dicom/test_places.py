"""The table of who is connected, shared by the processes of a DICOM service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from archive.dicom.places import MOST_ASSOCIATIONS, MOST_SILENT, Places

#: Takes associations until there is no place, and ends without giving them back.
_TAKER = """
import sys
from archive.dicom.places import Places
places = Places(int(sys.argv[1]))
places.join()
taken = 0
while (number := places.enter("127.0.0.1")) is not None:
    if places.associate(number, limit=int(sys.argv[2]), per_address=1000) is not None:
        break
    taken += 1
print(taken)
"""


@pytest.fixture
def places() -> Iterator[Places]:
    made = Places.make(2)
    yield made
    os.close(made.descriptor)


def associated(places: Places, address: str = "127.0.0.1", *, limit: int = 3, per_address: int = 3) -> str | None:
    number = places.enter(address)
    assert number is not None
    return places.associate(number, limit=limit, per_address=per_address)


def test_limit_of_associations_is_named_when_it_is_reached(places: Places) -> None:
    answers = [associated(places) for _ in range(4)]

    assert answers == [None, None, None, "3 associations are open, at most 3 may be"]


@pytest.mark.parametrize("limit", [0, MOST_ASSOCIATIONS + 1])
def test_without_a_limit_there_are_as_many_as_there_can_be(places: Places, limit: int) -> None:
    assert associated(places, limit=limit) is None
    assert places.most(limit) == MOST_ASSOCIATIONS


def test_connections_without_an_association_do_not_count(places: Places) -> None:
    for _ in range(20):
        places.enter("127.0.0.1")

    assert associated(places, limit=1) is None


def test_limit_of_an_address_leaves_places_to_others(places: Places) -> None:
    answers = [associated(places, per_address=1, limit=10) for _ in range(2)]

    assert answers == [None, "1 associations of its address are open, at most 1 may be"]
    assert associated(places, "::1", per_address=1, limit=10) is None
    assert associated(places, "fe80::1%eth0", per_address=1, limit=10) is None


def test_an_address_is_the_same_as_ipv4_and_mapped_into_ipv6(places: Places) -> None:
    associated(places, "192.0.2.1", per_address=1)

    assert associated(places, "::ffff:192.0.2.1", per_address=1) is not None


def test_place_that_is_given_back_is_free(places: Places) -> None:
    number = places.enter("127.0.0.1")
    assert number is not None
    places.associate(number, limit=1, per_address=1)

    places.leave(number)

    assert associated(places, limit=1) is None


def test_table_ends_somewhere_and_has_room_for_silent_ones_beside_all_associations(places: Places) -> None:
    associated_ones = silent = 0
    while (number := places.enter("127.0.0.1")) is not None:
        if places.associate(number, limit=100_000, per_address=100_000) is None:
            associated_ones += 1
        else:
            silent += 1

    assert associated_ones == MOST_ASSOCIATIONS
    assert silent >= 2 * MOST_SILENT


def test_processes_count_together_and_one_that_died_gives_back(places: Places) -> None:
    associated(places, limit=5)

    assert taken_by_another(places, limit=5) == 4
    assert associated(places, limit=5) is not None

    places.sweep({os.getpid()})

    assert associated(places, limit=5) is None
    assert places.processes() == set()


def test_fuller_is_who_has_more_connections_than_another(places: Places) -> None:
    places.join()
    assert not places.is_fuller()
    taken_by_another(places, limit=1)
    places.enter("127.0.0.1")
    assert not places.is_fuller()

    for _ in range(3):
        places.enter("127.0.0.1")

    assert places.is_fuller()


def taken_by_another(places: Places, *, limit: int) -> int:
    command = [sys.executable, "-c", _TAKER, str(places.descriptor), str(limit)]
    done = subprocess.run(command, pass_fds=[places.descriptor], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_who_stored_nothing_for_the_longest_time_leaves_when_there_is_no_place(places: Places) -> None:
    numbers = [places.enter("127.0.0.1") for _ in range(3)]
    for number in numbers:
        assert number is not None
        places.associate(number, limit=3, per_address=3)
    first, second, _ = numbers
    assert first is not None
    places.stored(first)

    assert places.make_room(limit=3, after_s=0)

    assert places.told_to_leave() == [second]


def test_nobody_leaves_while_there_are_places_or_all_have_stored_lately(places: Places) -> None:
    for _ in range(3):
        associated(places)

    assert not places.make_room(limit=4, after_s=0)
    assert not places.make_room(limit=3, after_s=60)
    assert places.told_to_leave() == []


def test_one_leaves_at_a_time(places: Places) -> None:
    for _ in range(3):
        associated(places)

    assert [places.make_room(limit=3, after_s=0) for _ in range(3)] == [True] * 3

    [leaving] = places.told_to_leave()
    places.leave(leaving)
    assert places.told_to_leave() == []
    assert not places.make_room(limit=3, after_s=0)
