"""What is accepted of what a peer offers."""

from __future__ import annotations

import pytest

from archive.dicom import negotiation, offers
from archive.dicom.negotiation import ProposedContext

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.mark.parametrize(
    ("abstract_syntax", "offered", "result", "accepted"),
    [
        (CT, (EXPLICIT, IMPLICIT), negotiation.ACCEPTANCE, EXPLICIT),
        (CT, ("1.2.840.10008.1.2.4.90", IMPLICIT), negotiation.ACCEPTANCE, "1.2.840.10008.1.2.4.90"),
        (CT, ("1.3.46.670589.33.1.4.1",), negotiation.ACCEPTANCE, "1.3.46.670589.33.1.4.1"),
        (CT, ("", "no uid", IMPLICIT), negotiation.ACCEPTANCE, IMPLICIT),
        (CT, (), negotiation.NO_TRANSFER_SYNTAX, IMPLICIT),
        ("1.2.840.10008.5.1.4.1.1.6", (EXPLICIT,), negotiation.ACCEPTANCE, EXPLICIT),
        (VERIFICATION, (BIG_ENDIAN, EXPLICIT), negotiation.ACCEPTANCE, EXPLICIT),
        (VERIFICATION, (BIG_ENDIAN,), negotiation.NO_TRANSFER_SYNTAX, IMPLICIT),
        ("1.2.840.10008.1.3.10", (EXPLICIT,), negotiation.NO_ABSTRACT_SYNTAX, IMPLICIT),
        ("1.2.840.10008.5.1.4.1.2.2.1", (EXPLICIT,), negotiation.NO_ABSTRACT_SYNTAX, IMPLICIT),
        ("1.3.12.2.1107.5.9.1", (EXPLICIT,), negotiation.NO_ABSTRACT_SYNTAX, IMPLICIT),
    ],
)
def test_storage_is_accepted_as_it_is_first_offered(
    abstract_syntax: str, offered: tuple[str, ...], result: int, accepted: str
) -> None:
    answer = offers.answer(ProposedContext(3, abstract_syntax, offered))

    assert answer == negotiation.AnsweredContext(3, result, accepted)


def test_more_than_the_storage_classes_of_a_hundred_modalities_are_known() -> None:
    assert len(offers.STORAGE_CLASSES) > 170
    assert VERIFICATION not in offers.STORAGE_CLASSES


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"protocol_version": 2}, "permanent, upper layer: protocol version not supported"),
        ({"application_context": "1.2.3"}, "permanent, service user: application context name not supported"),
    ],
)
def test_association_of_another_protocol_is_impossible(changed: dict[str, object], text: str) -> None:
    request = negotiation.Request("CALLED", "CALLING", [], 0, **changed)  # type: ignore[arg-type]

    rejection = offers.impossible(request)

    assert rejection is not None
    assert rejection.text == text
