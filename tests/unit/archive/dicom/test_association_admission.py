"""Who may open an association with a device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archive.dicom import admission
from archive.dicom.acceptor import Proposal
from config.device import ApplicationEntity, Device, NetworkConnection

AE = ApplicationEntity("ARCHIVE_A", ("dicom",), other_titles=("ARCFLEET",))


def device(*aes: ApplicationEntity) -> Device:
    names = ("dicom", "inside")
    connections = {name: NetworkConnection(name, "127.0.0.1", 11112) for name in names}
    return Device("archive-a", connections=connections, aes={ae.title: ae for ae in aes})


def refusal(of: Device, called: str, calling: str = "MODALITY", connection: str = "dicom") -> admission.Refusal | None:
    return admission.refusal(of, [connection], Proposal(calling, called, ("127.0.0.1", 40000), (), "1.2.3", "TEST"))


@pytest.mark.parametrize("called", ["ARCHIVE_A", "ARCFLEET"])
def test_ae_is_called_by_each_of_its_titles(called: str) -> None:
    assert refusal(device(AE), called) is None


@pytest.mark.parametrize("called", ["archive_a", "ARCHIVE_B", ""])
def test_unknown_called_ae_is_refused_for_good_with_the_known_ones(called: str) -> None:
    found = refusal(device(AE), called)

    assert found == admission.Refusal(
        admission.CALLED_NOT_RECOGNIZED, f"called AE {called!r}, expected one of ARCHIVE_A, ARCFLEET"
    )


def test_ae_is_not_there_on_another_connection() -> None:
    found = refusal(device(AE), "ARCHIVE_A", connection="inside")

    assert found is not None
    assert found.text.endswith("expected one of none: no AE takes associations here")


@pytest.mark.parametrize("ae", [replace(AE, acceptor=False), replace(AE, installed=False)])
def test_ae_that_takes_no_associations_is_unknown(ae: ApplicationEntity) -> None:
    assert refusal(device(ae), "ARCHIVE_A") is not None


def test_star_answers_to_any_title() -> None:
    assert refusal(device(replace(AE, other_titles=("*",))), "WHATEVER") is None


def test_only_accepted_callers_are_taken_if_some_are_named() -> None:
    careful = device(replace(AE, accepted_calling_titles=("CT1", "CT2")))

    assert refusal(careful, "ARCHIVE_A", "CT2") is None
    assert refusal(careful, "ARCHIVE_A", "CT3") == admission.Refusal(
        admission.CALLING_NOT_RECOGNIZED, "calling AE 'CT3', ARCHIVE_A accepts only CT1, CT2"
    )


def test_own_title_decides_before_the_star_of_another() -> None:
    any_title = replace(AE, other_titles=("*",), accepted_calling_titles=("NOBODY",))
    own = ApplicationEntity("OWN", ("dicom",))

    assert refusal(device(any_title, own), "OWN") is None


@pytest.mark.parametrize(
    ("addresses", "keep", "closed"),
    [
        ([], 3, []),
        (["a", "b", "a"], 3, []),
        (["b", "a", "a", "a"], 3, [1]),
        (["b", "a", "a", "a", "c"], 2, [1, 2, 0]),
        (["a", "b"], 0, [0, 1]),
        (["b", "a", "b", "a"], 3, [0]),
    ],
)
def test_silent_connections_of_who_has_most_are_closed_first(
    addresses: list[str], keep: int, closed: list[int]
) -> None:
    assert admission.to_close(addresses, keep) == closed


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (4, 3), (100, 75)])
def test_one_address_leaves_a_quarter_to_others(limit: int, most: int) -> None:
    assert admission.most_of_one_address(limit) == most
